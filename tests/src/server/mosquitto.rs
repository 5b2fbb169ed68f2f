//! Mosquitto.

use std::fs;

use anyhow::Context as _;
use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::wait_listening;
use crate::{Namespace, Process};

/// A running Mosquitto without persistence.
#[derive(Debug)]
pub struct Mosquitto {
    // Dropped before its folder.
    process: Process,
    _folder: TempDir,
}

impl Mosquitto {
    /// Starts Mosquitto in `namespace` on `port` of every address. It accepts anonymous clients.
    ///
    /// # Errors
    /// Fails if Mosquitto is missing or does not accept connections in time.
    pub fn start(namespace: &Namespace, port: u16) -> anyhow::Result<Self> {
        Self::start_with(namespace, port, "allow_anonymous true\n")
    }

    /// Starts Mosquitto like [`start`](Self::start), under a name that MQTT 5 clients can learn: the identifier that it
    /// assigns to clients without one begins with `name` and a full stop. It publishes its statistics every second or
    /// two.
    ///
    /// # Errors
    /// See [`start`](Self::start).
    pub fn start_named(namespace: &Namespace, port: u16, name: &str) -> anyhow::Result<Self> {
        let settings = format!("allow_anonymous true\nauto_id_prefix {name}.\nsys_interval 1\n");
        Self::start_with(namespace, port, &settings)
    }

    /// Starts Mosquitto like [`start`](Self::start), but it rejects every client.
    ///
    /// # Errors
    /// See [`start`](Self::start).
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

    /// Asks Mosquitto to end, without waiting; see [`Process::ask_to_end`](crate::Process::ask_to_end).
    pub fn ask_to_end(&mut self) {
        self.process.ask_to_end();
    }

    /// Fails if Mosquitto has ended.
    ///
    /// # Errors
    /// Returns the output of a process that has ended.
    pub fn check(&mut self) -> anyhow::Result<()> {
        self.process.check()
    }

    /// Sends SIGKILL: the kernel closes the clients' connections.
    ///
    /// # Errors
    /// Fails if Mosquitto has ended.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.process.kill()
    }

    /// Sends SIGSTOP: the kernel still accepts connections, but nothing answers on them.
    ///
    /// # Errors
    /// Fails if Mosquitto has ended.
    pub fn freeze(&self) -> anyhow::Result<()> {
        self.process.signal(Signal::SIGSTOP)
    }

    /// Sends SIGCONT.
    ///
    /// # Errors
    /// Fails if Mosquitto has ended.
    pub fn thaw(&self) -> anyhow::Result<()> {
        self.process.signal(Signal::SIGCONT)
    }
}
