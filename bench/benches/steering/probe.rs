//! Probes over a lossy network: how often a healthy server is taken for dead. The agent's own code turns outcomes
//! into a state, with its defaults except for the timeout.
//!
//! A TCP probe fails if it has no connection in time. The client retransmits a lost SYN after 1, 3 and 7 s (RFC
//! 6298: 1 s, then doubled), and so does the server its SYN-ACK; a retransmitted SYN is answered by a SYN-ACK of its
//! own. Packets are lost independently.

use std::time::{Duration, Instant};

use lb_clients::health::{
    Outcome, Verdict,
    probe::tcp::Tcp,
    state::{Health, State},
};

use lb_model::{check::Check, component::Component};

use lb_bench::random::Random;

/// Fraction of the packets that are lost.
pub const LOSS: f64 = 0.01;
/// Initial retransmission timeout, seconds (RFC 6298 section 2.1).
const RETRANSMIT_AFTER: f64 = 1.0;
/// Round trip, seconds.
const ROUND_TRIP: f64 = 0.002;

/// Returns the default TCP check with this timeout, seconds.
pub fn check(timeout: f64) -> Check {
    let mut check = Check::new(Component::new("tcp", &Tcp {}));
    check.timeout = Some(Duration::from_secs_f64(timeout));
    check
}

/// Result of probing.
pub struct Ejections {
    /// Fraction of the probes that failed.
    pub failed: f64,
    /// How often a server was taken for dead.
    pub ejected: u64,
}

/// Plays a probe. Returns whether it has a connection in time.
fn connects(timeout: f64, random: &mut Random) -> bool {
    let (mut sent, mut wait) = (0.0, RETRANSMIT_AFTER);
    while sent + ROUND_TRIP <= timeout {
        if random.unit() > LOSS {
            // The SYN has arrived: the server's answer and its retransmissions.
            let (mut answered, mut pause) = (sent + ROUND_TRIP, RETRANSMIT_AFTER);
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

/// Probes healthy servers for some hours.
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
                (Verdict::Unhealthy, check.timeout())
            };
            probes += 1;
            failed += u64::from(!connected);
            let outcome = Outcome::new(verdict, "", took);
            let change = health.observe(&check, outcome, start + time);
            ejected += u64::from(change.is_some_and(|change| change.to == State::Down));
            let interval = if health.in_doubt() {
                check.fast_interval()
            } else {
                check.interval
            };
            // A probe that takes longer delays the next one.
            time += interval.max(took);
        }
    }
    Ejections {
        failed: failed as f64 / probes as f64,
        ejected,
    }
}
