//! Mosquitto as a real.

use std::fs;

use anyhow::Context as _;
use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::wait_listening;
use crate::{Namespace, Process};

/// A running Mosquitto that stores nothing.
#[derive(Debug)]
pub struct Mosquitto {
    // Before the folder: the process ends first.
    process: Process,
    _folder: TempDir,
}

impl Mosquitto {
    /// Starts Mosquitto in `namespace` on `port` of every address; it accepts anonymous clients.
    ///
    /// # Errors
    /// When it is missing or does not come up.
    pub fn start(namespace: &Namespace, port: u16) -> anyhow::Result<Self> {
        Self::start_with(namespace, port, "allow_anonymous true\n")
    }

    /// As [`start`](Self::start), and it tells MQTT 5 clients that have no name of their own which broker it
    /// is: the name it gives them begins with `name` and a full stop. It publishes its own figures every second
    /// or two.
    ///
    /// # Errors
    /// When it is missing or does not come up.
    pub fn start_named(namespace: &Namespace, port: u16, name: &str) -> anyhow::Result<Self> {
        let settings = format!("allow_anonymous true\nauto_id_prefix {name}.\nsys_interval 1\n");
        Self::start_with(namespace, port, &settings)
    }

    /// As [`start`](Self::start), but it wants a login that nobody has.
    ///
    /// # Errors
    /// When it is missing or does not come up.
    pub fn start_closed(namespace: &Namespace, port: u16) -> anyhow::Result<Self> {
        Self::start_with(namespace, port, "allow_anonymous false\n")
    }

    fn start_with(namespace: &Namespace, port: u16, settings: &str) -> anyhow::Result<Self> {
        let folder =
            TempDir::with_prefix("lb-mosquitto-").context("making a folder for mosquitto")?;
        let configuration = folder.path().join("mosquitto.conf");
        fs::write(
            &configuration,
            format!(
                "user root\nlistener {port}\n{settings}persistence false\nlog_dest stderr\n\
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

    /// Kills it as a crash would: its kernel ends its clients' connections.
    ///
    /// # Errors
    /// When it has ended.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.process.kill()
    }

    /// Stops it where it is, as SIGSTOP does: the kernel accepts connections for it, and nobody answers.
    ///
    /// # Errors
    /// When it has ended.
    pub fn freeze(&self) -> anyhow::Result<()> {
        self.process.signal(Signal::SIGSTOP)
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// When it has ended.
    pub fn thaw(&self) -> anyhow::Result<()> {
        self.process.signal(Signal::SIGCONT)
    }
}
