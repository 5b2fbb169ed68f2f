//! Signals that ask the demonstration to end.

use std::{
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use nix::sys::signal::{SigSet, Signal};

/// Ctrl-C and requests to terminate. Once this exists they no longer kill the process, so that the testbed is removed
/// in order.
pub struct Interrupt(Receiver<Signal>);

impl Interrupt {
    /// Blocks the signals. Call this before any thread is started: threads inherit the mask.
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

    /// Fails if a signal has arrived; to be called between the steps of setting up.
    pub fn check(&self) -> anyhow::Result<()> {
        match self.0.try_recv() {
            Ok(signal) => bail!("ended by {signal}"),
            Err(_) => Ok(()),
        }
    }

    /// Waits until this moment and returns whether a signal arrived before it.
    pub fn wait_until(&self, moment: Instant) -> bool {
        match self
            .0
            .recv_timeout(moment.saturating_duration_since(Instant::now()))
        {
            Ok(_) => true,
            Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => {
                // The thread that waits for signals is gone: wait for the time alone.
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
