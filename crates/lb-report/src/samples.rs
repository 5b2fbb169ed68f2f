//! A thread that takes samples, one after another.

use std::{
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::{Sample, Sampler};

/// Shortest time between two samples.
pub const MIN_INTERVAL: Duration = Duration::from_millis(100);
/// Longest time between two samples.
pub const MAX_INTERVAL: Duration = Duration::from_secs(60);

/// The newest sample, whoever wants it; `None` before the first.
pub type Newest = watch::Receiver<Option<Arc<Sample>>>;

/// Takes samples as long as it lives.
#[derive(Debug)]
pub struct Samples {
    newest: Newest,
    /// Its end ends the thread.
    _alive: mpsc::Sender<()>,
}

impl Samples {
    /// Takes a sample each `interval`; the first comes as soon as the CPU is known. Files are read on a
    /// thread of its own: one that hangs delays nobody who is served.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(mut sampler: Sampler, interval: Duration) -> std::io::Result<Self> {
        let (newest, receiver) = watch::channel(None);
        let (alive, ends) = mpsc::channel();
        thread::Builder::new()
            .name("sampler".to_owned())
            .spawn(move || {
                let mut notes = Vec::new();
                let mut next = Instant::now() + sysinfo::MINIMUM_CPU_UPDATE_INTERVAL;
                loop {
                    let wait = next.saturating_duration_since(Instant::now());
                    if ends.recv_timeout(wait) != Err(mpsc::RecvTimeoutError::Timeout) {
                        return;
                    }
                    // What was missed is not made up for.
                    next = Instant::now() + interval;
                    let sample = sampler.take();
                    if sample.notes != notes {
                        notes.clone_from(&sample.notes);
                        say(&notes);
                    }
                    newest.send_replace(Some(Arc::new(sample)));
                }
            })?;
        Ok(Self {
            newest: receiver,
            _alive: alive,
        })
    }

    /// The newest sample, now and as new ones come.
    #[must_use]
    pub fn newest(&self) -> Newest {
        self.newest.clone()
    }
}

fn say(notes: &[String]) {
    if notes.is_empty() {
        tracing::info!("everything can be read again");
    }
    for note in notes {
        tracing::warn!("not reported: {note}");
    }
}
