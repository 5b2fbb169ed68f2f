//! A time limit for a whole exchange.

use std::{
    future::Future,
    pin::pin,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::{Instant, timeout_at};

use super::PeerError;

/// An exchange looks this often, in its whole time, whether this process is awake. A process that is always late hears a
/// peer that answers at the next look, and TLS with a request takes five answers.
const LOOKS: u32 = 8;
/// The longest time between two looks.
const LONGEST_LOOK: Duration = Duration::from_secs(1);
/// A wake-up that is later than this is not the peer's time. The timer has a resolution of 1 ms.
const NOTICEABLE: Duration = Duration::from_millis(5);
/// The part of the whole time by which the last wake-up may be late: beyond it, that nothing came says nothing.
const TOLERATED: u32 = 4;
/// Bounds of the tolerated lateness: even a busy machine is punctual to within the first, and the second is long for any
/// exchange.
const LEAST_TOLERATED: Duration = Duration::from_millis(10);
const MOST_TOLERATED: Duration = Duration::from_millis(500);

/// The moment by which an exchange ends, whatever the peer does.
///
/// What this process slept through is not counted: a process that is stopped, or gets no CPU, wakes up late, and the
/// peer's answer may have waited for it all the time. So lateness is measured at each wake-up and added to the time limit.
/// If even the last wake-up was late, the exchange ends in [`PeerError::Late`], which says nothing about the peer.
#[derive(Debug)]
pub struct Deadline {
    started: Instant,
    whole: Duration,
    /// How late this process woke up so far, in nanoseconds.
    late: AtomicU64,
}

impl Deadline {
    /// A deadline this long from now.
    #[must_use]
    pub fn after(whole: Duration) -> Self {
        Deadline {
            started: Instant::now(),
            whole,
            late: AtomicU64::new(0),
        }
    }

    /// How late this process woke up so far, in total.
    #[must_use]
    pub fn lateness(&self) -> Duration {
        Duration::from_nanos(self.late.load(Ordering::Relaxed))
    }

    /// When the exchange ends, unless this process wakes up late once more.
    #[must_use]
    pub fn end(&self) -> Instant {
        self.started + self.whole + self.lateness()
    }

    fn note(&self, late: Duration) {
        if late > NOTICEABLE {
            let nanoseconds = u64::try_from(late.as_nanos()).unwrap_or(u64::MAX);
            self.late.fetch_add(nanoseconds, Ordering::Relaxed);
        }
    }

    /// Waits for `work`, but not past the deadline. `doing` names the work in an error (`connecting`).
    ///
    /// # Errors
    /// [`PeerError::TimedOut`] with the length of the whole exchange, [`PeerError::Late`] if that is this process's own
    /// fault, or the error of `work`.
    pub async fn bound<T>(
        &self,
        doing: &'static str,
        work: impl Future<Output = Result<T, PeerError>>,
    ) -> Result<T, PeerError> {
        let mut work = pin!(work);
        let look = (self.whole / LOOKS).min(LONGEST_LOOK);
        loop {
            let end = self.end();
            let planned = end.min(Instant::now() + look);
            let result = timeout_at(planned, work.as_mut()).await;
            let late = Instant::now().saturating_duration_since(planned);
            self.note(late);
            match result {
                Ok(result) => return result,
                Err(_) if planned < end => {}
                Err(_) if late > self.tolerated() => return Err(PeerError::Late { doing, late }),
                Err(_) => {
                    return Err(PeerError::TimedOut {
                        doing,
                        after: self.whole,
                    });
                }
            }
        }
    }

    fn tolerated(&self) -> Duration {
        (self.whole / TOLERATED).clamp(LEAST_TOLERATED, MOST_TOLERATED)
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread};

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    const WHOLE: Duration = Duration::from_millis(200);

    /// A peer in a thread of its own that answers each byte with one.
    fn answering() -> std::net::SocketAddr {
        let (sender, address) = mpsc::channel();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                sender.send(listener.local_addr().unwrap()).unwrap();
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut byte = [0];
                while stream.read_exact(&mut byte).await.is_ok() {
                    stream.write_all(&byte).await.unwrap();
                }
            });
        });
        address.recv().unwrap()
    }

    /// Takes the CPU from this runtime, which has one thread.
    fn stall(time: Duration) {
        thread::sleep(time);
    }

    #[tokio::test]
    async fn a_peer_that_answers_is_heard_however_late_this_process_wakes() {
        let address = answering();
        let deadline = Deadline::after(WHOLE);
        let stalls = tokio::spawn(async {
            for _ in 0..4 {
                stall(WHOLE * 2);
                tokio::task::yield_now().await;
            }
        });
        let answered = deadline
            .bound("talking", async {
                let failed = |error| PeerError::io("talking", &error);
                let mut stream = TcpStream::connect(address).await.map_err(failed)?;
                for _ in 0..3 {
                    stream.write_all(b"x").await.map_err(failed)?;
                    stream.read_exact(&mut [0]).await.map_err(failed)?;
                }
                Ok(())
            })
            .await;
        assert_eq!(answered, Ok(()));
        stalls.await.unwrap();
    }

    #[tokio::test]
    async fn silence_is_the_peers_fault_only_if_this_process_was_awake() {
        let silent = || std::future::pending::<Result<(), PeerError>>();
        let deadline = Deadline::after(WHOLE);
        let error = deadline.bound("waiting", silent()).await.unwrap_err();
        assert!(matches!(error, PeerError::TimedOut { after, .. } if after == WHOLE));

        // Asleep at the end, and only there.
        let deadline = Deadline::after(WHOLE);
        let last = deadline.end() - WHOLE / 40;
        let wait = async {
            tokio::time::sleep_until(last).await;
            stall(WHOLE * 2);
            silent().await
        };
        let error = deadline.bound("waiting", wait).await.unwrap_err();
        assert!(
            matches!(error, PeerError::Late { late, .. } if late > WHOLE),
            "{error:?}"
        );
        assert!(error.is_local());
        assert!(deadline.lateness() > WHOLE);
    }

    #[tokio::test]
    async fn what_was_slept_through_is_not_counted() {
        let deadline = Deadline::after(WHOLE);
        let started = Instant::now();
        tokio::spawn(async { stall(WHOLE * 2) });
        let error = deadline
            .bound("waiting", std::future::pending::<Result<(), _>>())
            .await
            .unwrap_err();
        // The peer had its whole time while this process was awake.
        assert!(matches!(error, PeerError::TimedOut { .. }), "{error:?}");
        assert!(started.elapsed() > WHOLE * 5 / 2, "{:?}", started.elapsed());
    }
}
