//! Limits the queries that networks of clients send by UDP.

use std::{
    hash::{BuildHasher as _, RandomState},
    net::IpAddr,
    time::{Duration, Instant},
};

/// Entries of the table; half a megabyte for each socket.
const ENTRIES: usize = 1 << 16;
/// How many seconds' worth of queries may come at once.
const BURST: Duration = Duration::from_secs(1);

/// What becomes of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is answered.
    Answer,
    /// It gets an answer without records that tells the client to ask by TCP, which shows that its address is its own.
    Truncate,
    /// It gets no answer.
    Ignore,
}

/// The rates of networks: /24 in IPv4 and /56 in IPv6, which is about one site.
///
/// The table has one entry for many networks, chosen by a keyed hash: one that sends too much takes from the few that share
/// its entry, and made-up source addresses spread over the table, where each entry has the full rate.
#[derive(Debug)]
pub(crate) struct Limiter {
    /// The time of one query; zero without a limit.
    interval: Duration,
    begin: Instant,
    keys: RandomState,
    /// When the queries so far would have come at the permitted rate, in microseconds since `begin` (a leaky bucket, as
    /// "theoretical arrival time" of the generic cell rate algorithm).
    due: Vec<u64>,
    over: u64,
}

impl Limiter {
    /// Permits so many queries a second and network; 0 is without a limit.
    pub(crate) fn new(per_second: u32, now: Instant) -> Self {
        let limited = per_second > 0;
        Limiter {
            interval: if limited {
                Duration::from_secs(1) / per_second
            } else {
                Duration::ZERO
            },
            begin: now,
            keys: RandomState::new(),
            due: vec![0; if limited { ENTRIES } else { 0 }],
            over: 0,
        }
    }

    /// Counts a query.
    pub(crate) fn query(&mut self, client: IpAddr, now: Instant) -> Verdict {
        if self.due.is_empty() {
            return Verdict::Answer;
        }
        let entry = (self.keys.hash_one(network(client)) as usize) % ENTRIES;
        let now = micros(now.saturating_duration_since(self.begin));
        let due = self.due[entry].max(now);
        if due - now < micros(BURST) {
            self.due[entry] = due + micros(self.interval);
            return Verdict::Answer;
        }
        self.over += 1;
        if self.over.is_multiple_of(2) {
            Verdict::Truncate
        } else {
            Verdict::Ignore
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Returns the network of a client as bits.
fn network(client: IpAddr) -> u64 {
    match client.to_canonical() {
        IpAddr::V4(address) => u64::from(address.to_bits() >> 8),
        // No IPv4 network has the highest bit.
        IpAddr::V6(address) => (address.to_bits() >> 72) as u64 | 1 << 63,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_has_its_rate_and_no_more() {
        let begin = Instant::now();
        let mut limiter = Limiter::new(100, begin);
        let mut verdicts = |client: &str, count: u32, at: Duration| {
            let all: Vec<_> = (0..count)
                .map(|_| limiter.query(ip(client), begin + at))
                .collect();
            let of = |verdict| all.iter().filter(|one| **one == verdict).count();
            (
                of(Verdict::Answer),
                of(Verdict::Truncate),
                of(Verdict::Ignore),
            )
        };
        // A second's worth may come at once.
        assert_eq!(verdicts("192.0.2.1", 300, Duration::ZERO), (100, 100, 100));
        assert_eq!(
            verdicts("192.0.2.200", 1, Duration::ZERO).0,
            0,
            "the same network"
        );
        assert_eq!(verdicts("198.51.100.1", 50, Duration::ZERO).0, 50);
        assert_eq!(verdicts("2001:db8::1", 200, Duration::ZERO).0, 100);
        assert_eq!(
            verdicts("2001:db8:0:ff::1", 1, Duration::ZERO).0,
            0,
            "the same network"
        );
        assert_eq!(verdicts("192.0.2.1", 100, Duration::from_millis(500)).0, 50);
        assert_eq!(verdicts("192.0.2.1", 300, Duration::from_secs(60)).0, 100);
    }

    #[test]
    fn without_a_limit_all_are_answered() {
        let begin = Instant::now();
        let mut limiter = Limiter::new(0, begin);
        for _ in 0..10_000 {
            assert_eq!(limiter.query(ip("192.0.2.1"), begin), Verdict::Answer);
        }
    }

    #[test]
    fn the_highest_rate_is_not_rounded_to_nothing() {
        let begin = Instant::now();
        let mut limiter = Limiter::new(1_000_000, begin);
        assert_eq!(micros(limiter.interval), 1);
        assert_eq!(limiter.query(ip("192.0.2.1"), begin), Verdict::Answer);
    }
}
