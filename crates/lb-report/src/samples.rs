//! A thread that takes a sample once an interval.

use std::{
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::{Sample, Sampler};

/// The shortest interval between two samples.
pub const MIN_INTERVAL: Duration = Duration::from_millis(100);
/// The longest interval between two samples.
pub const MAX_INTERVAL: Duration = Duration::from_secs(60);

/// Receives the newest sample; `None` before the first one.
pub type Newest = watch::Receiver<Option<Arc<Sample>>>;

/// Takes samples until it is dropped.
#[derive(Debug)]
pub struct Samples {
    newest: Newest,
    /// Dropping the sender ends the thread.
    _alive: mpsc::Sender<()>,
}

impl Samples {
    /// Starts a thread that takes a sample each `interval`; the first follows as soon as the CPU use is known. The
    /// files are read on a thread of their own, so that a read that hangs delays no client.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(mut sampler: Sampler, interval: Duration) -> std::io::Result<Self> {
        let (sender, newest) = watch::channel(None);
        let (alive, end) = mpsc::channel();
        thread::Builder::new()
            .name("sampler".to_owned())
            .spawn(move || {
                let mut notes = Vec::new();
                let mut next = Instant::now() + sysinfo::MINIMUM_CPU_UPDATE_INTERVAL;
                loop {
                    let wait = next.saturating_duration_since(Instant::now());
                    if end.recv_timeout(wait) != Err(mpsc::RecvTimeoutError::Timeout) {
                        return;
                    }
                    // Missed samples are not made up for.
                    next = Instant::now() + interval;
                    let sample = sampler.take();
                    if sample.notes != notes {
                        notes.clone_from(&sample.notes);
                        log_notes(&notes);
                    }
                    sender.send_replace(Some(Arc::new(sample)));
                }
            })?;
        Ok(Self {
            newest,
            _alive: alive,
        })
    }

    /// Returns a receiver of the newest sample, which is notified of each new one.
    #[must_use]
    pub fn newest(&self) -> Newest {
        self.newest.clone()
    }
}

fn log_notes(notes: &[String]) {
    if notes.is_empty() {
        tracing::info!("every value can be read again");
    }
    for note in notes {
        tracing::warn!("not reported: {note}");
    }
}
