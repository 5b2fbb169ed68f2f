//! Traffic of the interfaces of a network namespace, and its TCP connections.

use std::{collections::BTreeMap, time::Duration};

/// Bytes since an interface was created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// Received bytes.
    pub received: u64,
    /// Sent bytes.
    pub sent: u64,
}

/// Bytes per second of all interfaces, and the utilisation of the busiest one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// Received bytes.
    pub received: f64,
    /// Sent bytes.
    pub sent: f64,
    /// Utilisation of the busiest interface, 0 to 1; `None` if no interface's rate is known.
    pub fraction: Option<f64>,
}

/// Parses the counters of `/proc/net/dev` (proc_pid_net(5)), without loopback.
#[must_use]
pub fn counters(dev: &str) -> BTreeMap<String, Traffic> {
    // Columns after the name: eight of received traffic, the first of which is bytes, then eight of sent traffic.
    const RECEIVED: usize = 0;
    const SENT: usize = 8;
    dev.lines()
        .filter_map(|line| {
            let (name, columns) = line.split_once(':')?;
            let columns: Vec<&str> = columns.split_whitespace().collect();
            let traffic = Traffic {
                received: columns.get(RECEIVED)?.parse().ok()?,
                sent: columns.get(SENT)?.parse().ok()?,
            };
            let name = name.trim();
            (name != "lo").then(|| (name.to_owned(), traffic))
        })
        .collect()
}

/// Computes the traffic from `before` to `now`, `wall` later. Interfaces that are new or whose counters decreased
/// are left out. `rate` returns the bytes per second that an interface carries in one direction, if known.
#[must_use]
pub fn rates(
    before: &BTreeMap<String, Traffic>,
    now: &BTreeMap<String, Traffic>,
    wall: Duration,
    rate: impl Fn(&str) -> Option<f64>,
) -> Option<Rates> {
    if wall.is_zero() {
        return None;
    }
    let mut rates = Rates {
        received: 0.0,
        sent: 0.0,
        fraction: None,
    };
    let per_second = |bytes: u64| bytes as f64 / wall.as_secs_f64();
    for (name, now) in now {
        let Some(before) = before.get(name) else {
            continue;
        };
        let (Some(received), Some(sent)) = (
            now.received.checked_sub(before.received),
            now.sent.checked_sub(before.sent),
        ) else {
            continue;
        };
        rates.received += per_second(received);
        rates.sent += per_second(sent);
        if let Some(rate) = rate(name).filter(|rate| *rate > 0.0) {
            let busy = (per_second(received.max(sent)) / rate).min(1.0);
            rates.fraction = Some(rates.fraction.map_or(busy, |busiest| busiest.max(busy)));
        }
    }
    Some(rates)
}

/// Converts `/sys/class/net/INTERFACE/speed` (Mbit/s) to bytes per second. Returns `None` for -1, the speed of
/// virtual interfaces.
#[must_use]
pub fn link_rate(speed: &str) -> Option<f64> {
    const BYTES_PER_MEGABIT: f64 = 1e6 / 8.0;
    let megabits: u32 = speed.trim().parse().ok()?;
    // Some drivers write -1 as an unsigned number.
    (megabits > 0 && megabits < u32::MAX).then(|| f64::from(megabits) * BYTES_PER_MEGABIT)
}

/// Parses the number of established TCP connections from `/proc/net/snmp` (`CurrEstab` of RFC 4022, both IP
/// versions).
#[must_use]
pub fn connections(snmp: &str) -> Option<u64> {
    // The first line has the names, the second the values.
    let mut lines = snmp.lines().filter_map(|line| line.strip_prefix("Tcp:"));
    let (names, values) = (lines.next()?, lines.next()?);
    let column = names
        .split_whitespace()
        .position(|name| name == "CurrEstab")?;
    values.split_whitespace().nth(column)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEV: &str = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: 5000      10    0    0    0     0          0         0     5000      10    0    0    0     0       0          0
  eth0:1000      10    0    0    0     0          0         0     2000      20    0    0    0     0       0          0
eth1.7: 7 1 0 0 0 0 0 0 8 1 0 0 0 0 0 0
 short: 7 1
";

    fn traffic(received: u64, sent: u64) -> Traffic {
        Traffic { received, sent }
    }

    fn table(rows: &[(&str, Traffic)]) -> BTreeMap<String, Traffic> {
        rows.iter()
            .map(|(name, traffic)| ((*name).to_owned(), *traffic))
            .collect()
    }

    #[test]
    fn counters_are_read() {
        let expected = table(&[("eth0", traffic(1000, 2000)), ("eth1.7", traffic(7, 8))]);
        assert_eq!(counters(DEV), expected);
        assert!(counters("").is_empty());
    }

    #[test]
    fn rates_count_only_interfaces_that_stayed() {
        let before = table(&[
            ("stays", traffic(1000, 1000)),
            ("back", traffic(1000, 1000)),
            ("gone", traffic(1000, 1000)),
        ]);
        let now = table(&[
            ("stays", traffic(3000, 2000)),
            ("back", traffic(10, 2000)),
            ("new", traffic(9999, 9999)),
        ]);
        let two = Duration::from_secs(2);
        let traffic_with = |rate: &dyn Fn(&str) -> Option<f64>| {
            rates(&before, &now, two, rate).expect("time passed")
        };
        let unknown = traffic_with(&|_| None);
        assert_eq!((unknown.received, unknown.sent), (1000.0, 500.0));
        assert_eq!(unknown.fraction, None);
        assert_eq!(traffic_with(&|_| Some(4000.0)).fraction, Some(0.25));
        assert_eq!(traffic_with(&|_| Some(10.0)).fraction, Some(1.0));
        assert_eq!(traffic_with(&|_| Some(0.0)).fraction, None);
        assert_eq!(rates(&before, &now, Duration::ZERO, |_| None), None);
    }

    #[test]
    fn speeds() {
        assert_eq!(link_rate("1000\n"), Some(125e6));
        for unknown in ["-1\n", "0\n", "4294967295\n", ""] {
            assert_eq!(link_rate(unknown), None, "{unknown:?}");
        }
    }

    #[test]
    fn connections_are_found_by_name() {
        let snmp = "Ip: Forwarding DefaultTTL\nIp: 1 64\n\
            Tcp: RtoAlgorithm RtoMin RtoMax MaxConn ActiveOpens PassiveOpens AttemptFails EstabResets CurrEstab\n\
            Tcp: 1 200 120000 -1 60 40 3 2 17\nUdp: InDatagrams\nUdp: 5\n";
        assert_eq!(connections(snmp), Some(17));
        assert_eq!(connections("Tcp: A B\nTcp: 1 2\n"), None);
        assert_eq!(connections("Tcp: CurrEstab\n"), None);
    }
}
