//! SIGHUP, for programs that end in order when it comes: by default it ends a process at once, which would leave behind
//! what the process has set up.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGHUP, unless it is ignored, as below `nohup`.
#[derive(Debug)]
pub struct Hangup(Option<Signal>);

impl Hangup {
    /// Waits for the signal from now on.
    ///
    /// # Errors
    /// If no handler can be installed.
    pub fn new() -> io::Result<Self> {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
        if is_ignored(&status) {
            return Ok(Hangup(None));
        }
        signal(SignalKind::hangup()).map(|signal| Hangup(Some(signal)))
    }

    /// Returns when the signal has come.
    pub async fn recv(&mut self) {
        match &mut self.0 {
            Some(signal) => {
                signal.recv().await;
            }
            None => std::future::pending().await,
        }
    }
}

/// Whether a process with this `/proc/PID/status` ignores SIGHUP: signal 1, the lowest bit of the mask.
fn is_ignored(status: &str) -> bool {
    status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ignored_signal_stays_ignored() {
        assert!(is_ignored("Name:\tx\nSigIgn:\t0000000000001001\n"));
        assert!(!is_ignored("Name:\tx\nSigIgn:\t0000000000001000\n"));
        assert!(!is_ignored(""));
    }
}
