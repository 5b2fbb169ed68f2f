//! What silence means on a host that refuses ("port unreachable") less often than it is asked.
//!
//! Linux sends a peer one port-unreachable a second after a burst of six, whichever ports it is about
//! (`net.ipv4.icmp_ratelimit`, `net.ipv6.icmp.ratelimit`), and other systems have limits, too. Where several closed ports
//! are probed, most probes of each meet silence. So a refusal holds until silence says something again. It does if the
//! host refused nothing for longer than its limit, on any port, when the probe was sent. While the host is at its limit,
//! silence says little: as much as the chance that this probe and no other was refused. Enough of it says that the port
//! is open, though its neighbours are not.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// A host that has not refused for this long before a probe would have refused the probe: the limit of Linux is 1 s, and
/// the refusal was sent before it arrived.
const LIMIT: Duration = Duration::from_millis(1_500);
/// Probes in a row that meet silence which says something, after a refusal, before the port counts as open. The limits of
/// routers on the way are not known, so one is not enough.
const ENOUGH: f64 = 2.0;
/// Sum of chances after which silence counts once, at a host that is at its limit. A closed port meets so much silence
/// with a probability of exp(-15), 1 in 3 million. With n closed ports it takes 15 n seconds twice.
const CHANCES: f64 = 15.0;
/// Half of what was counted of a host is forgotten after this time.
const HALF_LIFE: Duration = Duration::from_secs(30);
/// Hosts that are remembered; beyond that those are forgotten whose last refusal says nothing any more.
const MAX_HOSTS: usize = 1_024;

/// The hosts that have refused a probe of this process.
static HOSTS: Mutex<Option<Hosts>> = Mutex::new(None);

/// Notes that a host has refused a probe.
pub(super) fn refused(host: IpAddr, now: Instant) {
    let mut hosts = HOSTS.lock().unwrap_or_else(PoisonError::into_inner);
    hosts.get_or_insert_default().refused(host, now);
}

/// What it means that a probe of a port that was refused before met silence. It was sent at `sent`.
pub(super) fn silence(host: IpAddr, sent: Instant, now: Instant) -> Silence {
    let mut hosts = HOSTS.lock().unwrap_or_else(PoisonError::into_inner);
    hosts.get_or_insert_default().silence(host, sent, now)
}

/// What silence means.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Silence {
    /// The host would have refused.
    Open,
    /// The host is at its limit; it would have refused with this chance.
    Limited(f64),
}

#[derive(Debug, Default)]
struct Hosts(HashMap<IpAddr, Host>);

/// Probes of closed ports of one host, on any port.
#[derive(Clone, Copy, Debug)]
struct Host {
    /// When it last refused.
    last: Instant,
    /// Probes, of which older ones count less.
    asked: f64,
    /// Those of them that were refused.
    refused: f64,
    counted: Instant,
}

impl Hosts {
    fn refused(&mut self, address: IpAddr, now: Instant) {
        let Hosts(hosts) = self;
        if hosts.len() >= MAX_HOSTS {
            hosts.retain(|_, host| now.saturating_duration_since(host.last) < LIMIT * 10);
        }
        let host = hosts.entry(address).or_insert(Host {
            last: now,
            asked: 0.0,
            refused: 0.0,
            counted: now,
        });
        host.count(now);
        host.refused += 1.0;
        host.last = now;
    }

    fn silence(&mut self, address: IpAddr, sent: Instant, now: Instant) -> Silence {
        match self.0.get_mut(&address) {
            Some(host) if host.last + LIMIT > sent => {
                host.count(now);
                Silence::Limited(host.refused / host.asked)
            }
            _ => Silence::Open,
        }
    }
}

impl Host {
    fn count(&mut self, now: Instant) {
        let since = now.saturating_duration_since(self.counted).as_secs_f64();
        let left = 0.5_f64.powf(since / HALF_LIFE.as_secs_f64());
        self.asked = self.asked * left + 1.0;
        self.refused *= left;
        self.counted = now;
    }
}

/// What is known of one port.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Port {
    /// When it was last refused, unless it counts as open again.
    refused: Option<Instant>,
    /// How much the silence since then says; [`ENOUGH`] is enough.
    silence: f64,
}

impl Port {
    /// The port is closed.
    pub(super) fn refused(&mut self, now: Instant) {
        *self = Port {
            refused: Some(now),
            silence: 0.0,
        };
    }

    /// The port is open.
    pub(super) fn answered(&mut self) {
        *self = Port::default();
    }

    /// Whether it was refused, and does not count as open again.
    pub(super) fn is_refused(&self) -> bool {
        self.refused.is_some()
    }

    /// A probe met silence. Returns how long ago the port was refused if that outweighs the silence.
    pub(super) fn silent(&mut self, silence: Silence, now: Instant) -> Option<Duration> {
        let refused = self.refused?;
        self.silence += match silence {
            Silence::Open => 1.0,
            Silence::Limited(chance) => chance / CHANCES,
        };
        if self.silence >= ENOUGH {
            *self = Port::default();
            return None;
        }
        Some(now.saturating_duration_since(refused))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn host(last: u8) -> IpAddr {
        IpAddr::from([198, 18, 0, last])
    }

    /// A host with the limit of Linux, and ports that are probed one after the other.
    struct Limited {
        hosts: Hosts,
        ports: Vec<(Port, bool)>,
        tokens: f64,
        now: Instant,
        random: fastrand::Rng,
    }

    impl Limited {
        fn new(closed: usize) -> Self {
            Limited {
                hosts: Hosts::default(),
                ports: vec![(Port::default(), true); closed],
                tokens: 6.0,
                now: Instant::now(),
                random: fastrand::Rng::with_seed(7),
            }
        }

        /// Probes a port, and returns whether it counts as open.
        fn probe(&mut self, index: usize, timeout: Duration) -> bool {
            let sent = self.now;
            let (port, closed) = &mut self.ports[index];
            if *closed && self.tokens >= 1.0 {
                self.tokens -= 1.0;
                port.refused(sent);
                self.hosts.refused(host(1), sent);
                return false;
            }
            if !port.is_refused() {
                return true;
            }
            let now = sent + timeout;
            let silence = self.hosts.silence(host(1), sent, now);
            port.silent(silence, now).is_none()
        }

        /// Probes all ports once an interval, in a random order.
        fn round(&mut self, interval: Duration) -> Vec<bool> {
            let count = self.ports.len();
            let mut order: Vec<usize> = (0..count).collect();
            self.random.shuffle(&mut order);
            let step = interval / u32::try_from(count).unwrap();
            let mut open = vec![false; count];
            for index in order {
                open[index] = self.probe(index, step / 2);
                self.now += step;
                self.tokens = (self.tokens + step.as_secs_f64()).min(6.0);
            }
            open
        }
    }

    #[test]
    fn closed_ports_do_not_flap_at_any_rate() {
        for (ports, interval) in [
            (6, SECOND / 10),
            (6, SECOND),
            (6, SECOND * 5),
            (2, SECOND / 4),
            (40, SECOND * 2),
        ] {
            let mut host = Limited::new(ports);
            let mut refused = vec![false; ports];
            for round in 0..3_000 {
                for (index, open) in host.round(interval).into_iter().enumerate() {
                    // Before its first refusal nothing is known of a port.
                    assert!(!(open && refused[index]), "{ports} ports, round {round}");
                    refused[index] |= !open;
                }
            }
            assert!(refused.iter().all(|refused| *refused), "{ports} ports");
        }
    }

    #[test]
    fn a_port_that_opens_is_found_though_its_neighbours_stay_closed() {
        let mut host = Limited::new(6);
        for _ in 0..200 {
            host.round(SECOND / 5);
        }
        assert!(host.ports[0].0.is_refused());
        host.ports[0].1 = false;
        let rounds = (0..2_000)
            .find(|_| host.round(SECOND / 5)[0])
            .expect("it counts as open");
        // About 150 s.
        assert!((300..1_500).contains(&rounds), "{rounds}");
    }

    #[test]
    fn a_port_alone_is_open_after_two_silent_probes() {
        let start = Instant::now();
        let mut hosts = Hosts::default();
        let mut port = Port::default();
        assert!(!port.is_refused());
        port.refused(start);
        hosts.refused(host(1), start);
        let mut probe = |after: Duration| {
            let sent = start + after;
            let silence = hosts.silence(host(1), sent, sent);
            port.silent(silence, sent)
        };
        // The limit may not be over yet.
        assert_eq!(probe(SECOND), Some(SECOND));
        assert_eq!(probe(SECOND * 2), Some(SECOND * 2));
        assert_eq!(probe(SECOND * 3), None);
        assert_eq!(probe(SECOND * 3), None);
    }

    #[test]
    fn an_answer_ends_the_doubt() {
        let now = Instant::now();
        let mut port = Port::default();
        port.refused(now);
        port.answered();
        assert_eq!(port.silent(Silence::Limited(0.1), now), None);
    }

    #[test]
    fn hosts_are_remembered_within_a_bound() {
        let mut hosts = Hosts::default();
        let mut now = Instant::now();
        for number in 0..10_000_u32 {
            now += SECOND;
            hosts.refused(IpAddr::from((0xc612_0000 + number).to_be_bytes()), now);
        }
        assert!(hosts.0.len() <= MAX_HOSTS, "{}", hosts.0.len());
    }
}
