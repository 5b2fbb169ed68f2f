//! A thread that sends until it is told to stop, and counts.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
};

use anyhow::anyhow;

use crate::Namespace;

/// A thread in a namespace that sends packets. Dropping it stops it.
#[derive(Debug)]
pub(super) struct Sender {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Sender {
    /// Starts the thread. `send` gets what tells it to stop, and where it counts.
    pub(super) fn start(
        namespace: &Namespace,
        send: impl FnOnce(&AtomicBool, &AtomicU64) -> anyhow::Result<()> + Send + 'static,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let sent = Arc::new(AtomicU64::new(0));
        let (stopped, counter) = (Arc::clone(&stop), Arc::clone(&sent));
        let thread = namespace.thread(move || send(&stopped, &counter));
        Self {
            stop,
            sent,
            thread: Some(thread),
        }
    }

    /// Returns how many packets were sent.
    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Returns whether the thread has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Stops the thread and returns how many packets were sent.
    ///
    /// # Errors
    /// Fails with what `send` failed with, or if it panicked.
    pub(super) fn stop(mut self) -> anyhow::Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread
                .join()
                .map_err(|_| anyhow!("the sender panicked"))??;
        }
        Ok(self.sent())
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // `stop` was not called, so nobody asks what it failed with.
            let _ = thread.join();
        }
    }
}
