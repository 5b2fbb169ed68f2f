//! Probes over a lossy network: how often a healthy server is taken for dead. What makes outcomes a state is the
//! agent's own code, with its defaults but for the timeout.
//!
//! A TCP probe fails if its connection is not there in time. The client repeats a lost SYN after 1, 3, 7 s
//! (RFC 6298: 1 s, then doubled), and so does the server its SYN-ACK; a repeated SYN is answered by a SYN-ACK
//! of its own. Each packet is lost by itself.

use std::time::{Duration, Instant};

use lb_agent::health::{
    Outcome, Verdict,
    spec::{Check, Probe},
    state::{Health, State},
};

use crate::random::Random;

/// Part of the packets that are lost.
pub const LOSS: f64 = 0.01;
/// The first wait before a packet is repeated, seconds (RFC 6298 section 2.1).
const REPEATED: f64 = 1.0;
/// Round trip, seconds.
const ROUND_TRIP: f64 = 0.002;

/// How a server is probed: by default, with this timeout, seconds.
pub fn check(timeout: f64) -> Check {
    let mut check = Check::new(Probe::Tcp {});
    check.timeout = Duration::from_secs_f64(timeout);
    check
}

/// What came of it.
pub struct Ejections {
    /// Probes that failed, as a part.
    pub failed: f64,
    /// Times that a server was taken for dead.
    pub ejected: u64,
}

/// Whether a connection is there in time.
fn connects(timeout: f64, random: &mut Random) -> bool {
    let (mut sent, mut wait) = (0.0, REPEATED);
    while sent + ROUND_TRIP <= timeout {
        if random.unit() > LOSS {
            // The SYN arrived: the server's answer, and its repetitions.
            let (mut answered, mut pause) = (sent + ROUND_TRIP, REPEATED);
            while answered <= timeout {
                if random.unit() > LOSS {
                    return true;
                }
                answered += pause;
                pause *= 2.0;
            }
        }
        sent += wait;
        wait *= 2.0;
    }
    false
}

/// Probes so many servers for so many hours.
pub fn play(servers: usize, hours: f64, timeout: f64, seed: u64) -> Ejections {
    let mut random = Random::new(seed);
    let check = check(timeout);
    let (mut probes, mut failed, mut ejected) = (0u64, 0u64, 0);
    let start = Instant::now();
    for _ in 0..servers {
        let mut health = Health::new(start);
        let mut time = Duration::ZERO;
        while time.as_secs_f64() < hours * 3_600.0 {
            let connected = connects(timeout, &mut random);
            let (verdict, took) = if connected {
                (Verdict::Healthy, Duration::from_secs_f64(ROUND_TRIP))
            } else {
                (Verdict::Unhealthy, check.timeout)
            };
            probes += 1;
            failed += u64::from(!connected);
            let outcome = Outcome::new(verdict, "", took);
            let change = health.observe(&check, outcome, start + time);
            ejected += u64::from(change.is_some_and(|change| change.to == State::Down));
            let interval = if health.in_doubt() {
                check.fast_interval
            } else {
                check.interval
            };
            // One that takes longer holds up the next.
            time += interval.max(took);
        }
    }
    Ejections {
        failed: failed as f64 / probes as f64,
        ejected,
    }
}
