//! Failures of a socket: which pass, and which mean that it is broken.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use nix::errno::Errno;

use super::ServeError;

/// Failures one after the other until a socket counts as broken.
const MAX_FAILURES: u32 = 50;
/// How long a socket that has failed is left alone.
const PAUSE: Duration = Duration::from_millis(100);
/// How often a shortage that lasts is told.
const TELL: Duration = Duration::from_secs(60);
/// What passes when others give something back: files and memory.
const SHORTAGES: [Errno; 4] = [Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM];

/// The failures of a socket.
#[derive(Debug)]
pub(super) struct Failures {
    address: SocketAddr,
    transport: &'static str,
    /// Since it last worked.
    count: u32,
    told: Option<Instant>,
}

impl Failures {
    pub(super) fn new(address: SocketAddr, transport: &'static str) -> Self {
        Failures {
            address,
            transport,
            count: 0,
            told: None,
        }
    }

    /// The socket has worked.
    pub(super) fn end(&mut self) {
        self.count = 0;
    }

    /// Waits after a failure.
    ///
    /// # Errors
    /// Returns that the socket is broken.
    pub(super) async fn wait(&mut self, error: io::Error) -> Result<(), ServeError> {
        let is_shortage = SHORTAGES
            .iter()
            .any(|code| error.raw_os_error() == Some(*code as i32));
        if !is_shortage {
            self.count += 1;
            if self.count >= MAX_FAILURES {
                return Err(ServeError::Socket {
                    address: self.address,
                    transport: self.transport,
                    source: error,
                });
            }
        }
        if self.told.is_none_or(|told| told.elapsed() >= TELL) {
            self.told = Some(Instant::now());
            tracing::warn!(
                "the DNS server's {} socket on {} fails ({error}); it is tried again",
                self.transport,
                self.address
            );
        }
        tokio::time::sleep(PAUSE).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failures() -> Failures {
        Failures::new("127.0.0.1:53".parse().unwrap(), "TCP")
    }

    #[tokio::test(start_paused = true)]
    async fn a_shortage_is_waited_for_and_a_broken_socket_is_not() {
        let mut short = failures();
        for _ in 0..10 * MAX_FAILURES {
            short.wait(Errno::EMFILE.into()).await.unwrap();
        }
        let mut broken = failures();
        for _ in 1..MAX_FAILURES {
            broken.wait(Errno::EINVAL.into()).await.unwrap();
        }
        broken.end();
        for _ in 1..MAX_FAILURES {
            broken.wait(Errno::EINVAL.into()).await.unwrap();
        }
        broken.wait(Errno::EINVAL.into()).await.unwrap_err();
    }
}
