//! `lb-agent real`, which makes a host a real.

use std::time::Duration;

use anyhow::Context as _;
use tempfile::TempDir;

use crate::{Namespace, Process, binary};

/// How long `lb-agent real` may take until it is ready.
const START: Duration = Duration::from_secs(30);

/// A running `lb-agent real`. It undoes its settings when it ends.
#[derive(Debug)]
pub struct Real {
    // Dropped before its folder.
    process: Process,
    _state: TempDir,
}

impl Real {
    /// Starts `lb-agent real` for `vips` on `interface` of a namespace and waits until it is ready.
    ///
    /// # Errors
    /// Fails if it cannot be built or started, or is not ready in time; the error has its output.
    pub fn start(namespace: &Namespace, interface: &str, vips: &[&str]) -> anyhow::Result<Self> {
        let state =
            TempDir::with_prefix("lb-real-").context("making a folder for a real's state")?;
        let folder = state.path().to_string_lossy().into_owned();
        let mut arguments = vec!["real", "--iface", interface, "--state", &folder];
        for vip in vips {
            arguments.extend(["--vip", vip]);
        }
        let mut process = namespace.start("lb-agent real", binary("lb-agent")?, arguments)?;
        process.wait_line("lb-agent", "ready", START)?;
        Ok(Self {
            process,
            _state: state,
        })
    }

    /// Ends the process as an operator does.
    ///
    /// # Errors
    /// Fails if the process does not end, or ends with a failure.
    pub fn stop(mut self) -> anyhow::Result<()> {
        self.process.stop()
    }

    /// Sends the process a signal and waits until it has ended; returns its exit status and its output.
    ///
    /// # Errors
    /// Fails if the process does not end within a minute.
    pub fn end_by(
        mut self,
        signal: nix::sys::signal::Signal,
    ) -> anyhow::Result<(std::process::ExitStatus, String)> {
        self.process.signal(signal)?;
        self.process.wait_end(Duration::from_secs(60))
    }

    /// Asks the process to end, without waiting; see [`Process::ask_to_end`](crate::Process::ask_to_end).
    pub fn ask_to_end(&mut self) {
        self.process.ask_to_end();
    }

    /// Fails if the process has ended.
    ///
    /// # Errors
    /// Returns the output of a process that has ended.
    pub fn check(&mut self) -> anyhow::Result<()> {
        self.process.check()
    }
}
