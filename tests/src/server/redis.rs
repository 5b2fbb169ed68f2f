//! Redis.

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;
use tempfile::TempDir;

use crate::{Process, wait_for};

/// How long it may take to start.
const START: Duration = Duration::from_secs(60);

/// A running Redis on a Unix socket, which keeps nothing when it ends unless told to.
#[derive(Debug)]
pub struct Redis {
    // Dropped before its folder.
    process: Option<Process>,
    folder: TempDir,
    /// Arguments besides those of every start.
    arguments: Vec<String>,
}

impl Redis {
    /// Starts Redis with these arguments besides.
    ///
    /// # Errors
    /// Fails if it is missing, or does not answer in time.
    pub fn start(arguments: &[&str]) -> anyhow::Result<Self> {
        let mut redis = Redis {
            process: None,
            folder: TempDir::with_prefix("lb-redis-").context("making a folder for Redis")?,
            arguments: arguments.iter().map(|text| (*text).to_owned()).collect(),
        };
        redis.run()?;
        Ok(redis)
    }

    /// Starts it again, with what it has on disk.
    ///
    /// # Errors
    /// See [`Redis::start`].
    pub fn run(&mut self) -> anyhow::Result<()> {
        let mut command = std::process::Command::new("redis-server");
        command
            .args(["--port", "0", "--unixsocket"])
            .arg(self.socket())
            .arg("--dir")
            .arg(self.folder.path())
            .args(["--save", ""])
            .args(&self.arguments);
        let mut process = Process::start("redis-server", command)?;
        wait_for("Redis", START, || {
            process.check()?;
            std::os::unix::net::UnixStream::connect(self.socket())?;
            Ok(Some(()))
        })?;
        self.process = Some(process);
        Ok(())
    }

    /// Ends it at once.
    ///
    /// # Errors
    /// Fails if it cannot be waited for.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill()?;
        }
        // A socket that is left would look like a server that does not answer.
        let _ = std::fs::remove_file(self.socket());
        Ok(())
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// Fails if it does not run.
    pub fn signal(&self, signal: nix::sys::signal::Signal) -> anyhow::Result<()> {
        let process = self.process.as_ref().context("Redis does not run")?;
        process.signal(signal)
    }

    /// Runs a command and returns the answer as `redis-cli` prints it.
    ///
    /// # Errors
    /// Fails if `redis-cli` does.
    pub fn command(&self, words: &[&str]) -> anyhow::Result<String> {
        let output = std::process::Command::new("redis-cli")
            .arg("-s")
            .arg(self.socket())
            .args(words)
            .output()
            .context("starting redis-cli")?;
        anyhow::ensure!(output.status.success(), "redis-cli {words:?}: {output:?}");
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Its files.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("redis.sock")
    }

    /// Where clients find it.
    pub fn url(&self) -> String {
        format!("redis+unix://{}", self.socket().display())
    }
}
