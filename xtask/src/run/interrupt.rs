//! The wish to end.

use std::{
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use nix::sys::signal::{SigSet, Signal};

/// Ctrl-C, and a request to terminate. From its making on, they end nothing by themselves, so that
/// whatever was set up is removed in order.
pub struct Interrupt(Receiver<Signal>);

impl Interrupt {
    /// Call it before any other thread is started: threads inherit what is blocked.
    pub fn new() -> anyhow::Result<Self> {
        let mut signals = SigSet::empty();
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            signals.add(signal);
        }
        signals.thread_block().context("blocking signals")?;
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            while let Ok(signal) = signals.wait() {
                if sender.send(signal).is_err() {
                    return;
                }
            }
        });
        Ok(Self(receiver))
    }

    /// Fails if the wish has come: for the steps of setting up.
    pub fn check(&self) -> anyhow::Result<()> {
        match self.0.try_recv() {
            Ok(signal) => bail!("ended by {signal}"),
            Err(_) => Ok(()),
        }
    }

    /// Waits until then; true if the wish has come before.
    pub fn wait_until(&self, moment: Instant) -> bool {
        match self
            .0
            .recv_timeout(moment.saturating_duration_since(Instant::now()))
        {
            Ok(_) => true,
            Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => {
                // Without the thread that waits for signals there is no wish; the time still counts.
                thread::sleep(
                    moment
                        .saturating_duration_since(Instant::now())
                        .min(Duration::from_secs(1)),
                );
                false
            }
        }
    }
}
