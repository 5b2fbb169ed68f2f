//! Probes over a lossy network: how often a healthy server is taken for dead.
//!
//! A TCP probe fails if its connection is not there in time. The client repeats a lost SYN after 1, 3, 7 s
//! (RFC 6298: 1 s, then doubled), and so does the server its SYN-ACK; a repeated SYN is answered by a SYN-ACK
//! of its own. Each packet is lost by itself.

use crate::random::Random;

/// Part of the packets that are lost.
pub const LOSS: f64 = 0.01;
/// Time between two probes, seconds.
const INTERVAL: f64 = 2.0;
/// Failures in a row that make a server dead.
const FAILURES: u32 = 3;
/// The first wait before a packet is repeated, seconds (RFC 6298 section 2.1).
const REPEATED: f64 = 1.0;
/// Round trip, seconds.
const ROUND_TRIP: f64 = 0.002;

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
    let probes = (hours * 3_600.0 / INTERVAL) as u64;
    let (mut failed, mut ejected) = (0u64, 0);
    for _ in 0..servers {
        let mut row = 0;
        for _ in 0..probes {
            if connects(timeout, &mut random) {
                row = 0;
            } else {
                failed += 1;
                row += 1;
                if row == FAILURES {
                    ejected += 1;
                }
            }
        }
    }
    Ejections {
        failed: failed as f64 / (probes * servers as u64) as f64,
        ejected,
    }
}
