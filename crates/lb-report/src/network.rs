//! What the interfaces of a network namespace carry, and its connections.

use std::{collections::BTreeMap, time::Duration};

/// Bytes since an interface came up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// In.
    pub received: u64,
    /// Out.
    pub sent: u64,
}

/// Bytes per second of all interfaces, and how busy the busiest is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// In.
    pub received: f64,
    /// Out.
    pub sent: f64,
    /// Of an interface's rate, 0 to 1; `None` when none's is known.
    pub fraction: Option<f64>,
}

/// The counters in `/proc/net/dev` (proc_pid_net(5)), without loopback.
#[must_use]
pub fn counters(dev: &str) -> BTreeMap<String, Traffic> {
    // Columns after the name: eight for what came in, beginning with bytes, then eight for what went out.
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

/// What was carried from `before` to `now`, `wall` later. Interfaces that came or whose counters went back
/// are left out; `rate` gives an interface's bytes per second in one direction, where it is known.
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

/// Bytes per second that `/sys/class/net/INTERFACE/speed` (Mbit/s) tells; `None` for -1, which a virtual
/// interface says.
#[must_use]
pub fn link_rate(speed: &str) -> Option<f64> {
    const BYTES_PER_MEGABIT: f64 = 1e6 / 8.0;
    let megabits: u32 = speed.trim().parse().ok()?;
    // Some drivers write the unsigned form of -1.
    (megabits > 0 && megabits < u32::MAX).then(|| f64::from(megabits) * BYTES_PER_MEGABIT)
}

/// Established TCP connections, from `/proc/net/snmp` (`CurrEstab` of RFC 4022, both IP versions).
#[must_use]
pub fn connections(snmp: &str) -> Option<u64> {
    // A line of names, then one of values.
    let mut lines = snmp.lines().filter_map(|line| line.strip_prefix("Tcp:"));
    let (names, values) = (lines.next()?, lines.next()?);
    let place = names
        .split_whitespace()
        .position(|name| name == "CurrEstab")?;
    values.split_whitespace().nth(place)?.parse().ok()
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
    fn rates_are_of_what_stayed() {
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
        let carried = |rate: &dyn Fn(&str) -> Option<f64>| {
            rates(&before, &now, two, rate).expect("time passed")
        };
        let unknown = carried(&|_| None);
        assert_eq!((unknown.received, unknown.sent), (1000.0, 500.0));
        assert_eq!(unknown.fraction, None);
        assert_eq!(carried(&|_| Some(4000.0)).fraction, Some(0.25));
        assert_eq!(carried(&|_| Some(10.0)).fraction, Some(1.0));
        assert_eq!(carried(&|_| Some(0.0)).fraction, None);
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
