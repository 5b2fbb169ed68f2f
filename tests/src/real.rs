//! What makes a host a real: `lb-agent real`.

use std::time::Duration;

use anyhow::Context as _;
use tempfile::TempDir;

use crate::{Namespace, Process, binary};

/// How long it may take until it is ready.
const START: Duration = Duration::from_secs(30);

/// A running `lb-agent real`; what it has set up goes when it ends.
#[derive(Debug)]
pub struct Real {
    // Before the folder: the process ends first.
    process: Process,
    _state: TempDir,
}

impl Real {
    /// Starts it for `vips` on `interface` of a namespace and waits until it is ready.
    ///
    /// # Errors
    /// When it cannot be built or started, or is not ready in time; with what it said.
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

    /// Ends it as an operator would.
    ///
    /// # Errors
    /// When it does not end, or ends with a failure.
    pub fn stop(mut self) -> anyhow::Result<()> {
        self.process.stop()
    }

    /// Asks it to end and does not wait; see [`Process::ask_to_end`](crate::Process::ask_to_end).
    pub fn ask_to_end(&mut self) {
        self.process.ask_to_end();
    }

    /// Whether it is still running.
    ///
    /// # Errors
    /// When it has ended, with its output.
    pub fn check(&mut self) -> anyhow::Result<()> {
        self.process.check()
    }
}
