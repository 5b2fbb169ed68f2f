//! Mosquitto as a real.

use std::fs;

use anyhow::Context as _;
use tempfile::TempDir;

use super::wait_listening;
use crate::{Namespace, Process};

/// A running Mosquitto that accepts anonymous clients and stores nothing.
#[derive(Debug)]
pub struct Mosquitto {
    // Before the folder: the process ends first.
    process: Process,
    _folder: TempDir,
}

impl Mosquitto {
    /// Starts Mosquitto in `namespace` on `port` of every address.
    ///
    /// # Errors
    /// When it is missing or does not come up.
    pub fn start(namespace: &Namespace, port: u16) -> anyhow::Result<Self> {
        let folder =
            TempDir::with_prefix("lb-mosquitto-").context("making a folder for mosquitto")?;
        let configuration = folder.path().join("mosquitto.conf");
        fs::write(
            &configuration,
            format!(
                "user root\nlistener {port}\nallow_anonymous true\npersistence false\nlog_dest stderr\n\
                 log_type error\nlog_type warning\nset_tcp_nodelay true\n"
            ),
        )?;
        let mut process = namespace.start(
            "mosquitto",
            "mosquitto",
            ["-c", &configuration.to_string_lossy()],
        )?;
        wait_listening(namespace, port, &mut process)?;
        Ok(Self {
            process,
            _folder: folder,
        })
    }

    /// Asks it to end and does not wait; see [`Process::ask_to_end`](crate::Process::ask_to_end).
    pub fn ask_to_end(&mut self) {
        self.process.ask_to_end();
    }

    /// Whether it is still running.
    ///
    /// # Errors
    /// When it has ended.
    pub fn check(&mut self) -> anyhow::Result<()> {
        self.process.check()
    }
}
