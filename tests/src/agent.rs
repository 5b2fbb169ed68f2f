//! The agent under test, with its own state, pins and endpoint.

use std::{
    ffi::OsStr,
    fmt, fs,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use tempfile::TempDir;

use crate::{
    Namespace, Process, SmallDisk, binary,
    process::{COMMAND, output_within},
};

/// The BPF file system.
const BPFFS: &str = "/sys/fs/bpf";

/// Prefix of the pin folders of testbeds; the number after it is the process that has created them.
const PINS_PREFIX: &str = "lb-testbed-";

/// How long the agent may take until it is ready.
const START: Duration = Duration::from_secs(30);

/// The XDP mode in which the balancer is attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum XdpMode {
    /// Native if the driver supports it, otherwise generic with a warning.
    Auto,
    /// Native; the agent fails if the driver does not support it.
    #[default]
    Native,
    /// Generic.
    Generic,
}

impl fmt::Display for XdpMode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Auto => "auto",
            Self::Native => "native",
            Self::Generic => "generic",
        })
    }
}

/// How an agent is started.
#[derive(Clone, Debug)]
pub struct AgentOptions {
    /// The interfaces to attach to.
    pub interfaces: Vec<String>,
    /// The XDP mode.
    pub mode: XdpMode,
    /// Further words for the command line.
    pub arguments: Vec<String>,
    /// Variables of its environment.
    pub environment: Vec<(String, String)>,
    /// The disk of its state directory; without it that of the machine.
    pub disk: Option<SmallDisk>,
}

impl Default for AgentOptions {
    fn default() -> Self {
        Self {
            interfaces: vec!["eth0".to_owned()],
            mode: XdpMode::default(),
            arguments: Vec::new(),
            environment: Vec::new(),
            disk: None,
        }
    }
}

/// An agent in a namespace. Dropping it detaches its programs and removes its state and pins.
#[derive(Debug)]
pub struct Agent {
    namespace: Namespace,
    options: AgentOptions,
    process: Option<Process>,
    folder: TempDir,
    pins: PathBuf,
}

impl Agent {
    /// Starts an agent and waits until it is ready.
    ///
    /// # Errors
    /// Fails if it cannot be built or started, or is not ready in time; the error has its output.
    pub fn start(namespace: &Namespace, options: AgentOptions) -> anyhow::Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        sweep_pins();
        let folder = TempDir::with_prefix("lb-agent-").context("making a folder for the agent")?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let pins = Path::new(BPFFS).join(format!("{PINS_PREFIX}{}-{number}", std::process::id()));
        let mut agent = Self {
            namespace: namespace.clone(),
            options,
            process: None,
            folder,
            pins,
        };
        agent.run()?;
        Ok(agent)
    }

    /// Starts the agent again after [`Agent::kill`] or [`Agent::stop`], with the same state and pins.
    ///
    /// # Errors
    /// See [`Agent::start`].
    pub fn run(&mut self) -> anyhow::Result<()> {
        let mut arguments: Vec<String> = vec!["run".to_owned()];
        for interface in &self.options.interfaces {
            arguments.extend(["--iface".to_owned(), interface.clone()]);
        }
        arguments.extend(["--state".to_owned(), self.state().display().to_string()]);
        arguments.extend(["--pins".to_owned(), self.pins.display().to_string()]);
        arguments.extend(["--listen".to_owned(), self.endpoint()]);
        arguments.extend(["--xdp-mode".to_owned(), self.options.mode.to_string()]);
        arguments.extend(self.options.arguments.iter().cloned());
        let mut command = self.namespace.command(binary("lb-agent")?);
        command
            .args(arguments)
            .envs(self.options.environment.iter().cloned());
        if let Some(disk) = &self.options.disk {
            disk.show(&mut command);
        }
        let mut process = self.namespace.start_command("lb-agent", command)?;
        process.wait_line("lb-agent:", "ready", START)?;
        self.process = Some(process);
        Ok(())
    }

    /// Kills the agent (SIGKILL).
    ///
    /// # Errors
    /// Fails if the agent does not run.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.process
            .take()
            .context("the agent does not run")?
            .kill()
    }

    /// Ends the agent (SIGTERM); forwarding continues.
    ///
    /// # Errors
    /// Fails if the agent does not run, does not end, or ends with a failure.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.process
            .take()
            .context("the agent does not run")?
            .stop()
    }

    /// Asks the agent to end if it runs, without waiting; see [`Process::ask_to_end`].
    pub fn ask_to_end(&mut self) {
        if let Some(process) = &mut self.process {
            process.ask_to_end();
        }
    }

    /// Sends the agent a signal.
    ///
    /// # Errors
    /// Fails if the agent does not run.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        self.process
            .as_ref()
            .context("the agent does not run")?
            .signal(signal)
    }

    /// Waits until the agent has ended by itself, and returns its exit status and its output.
    ///
    /// # Errors
    /// Fails if the agent does not run, or does not end within `patience`.
    pub fn wait_end(&mut self, patience: Duration) -> anyhow::Result<(ExitStatus, String)> {
        let mut process = self.process.take().context("the agent does not run")?;
        process.wait_end(patience)
    }

    /// Changes how the agent is started from the next [`Agent::run`] on.
    pub fn options_mut(&mut self) -> &mut AgentOptions {
        &mut self.options
    }

    /// Returns the folder of its database.
    pub fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// Returns its process id.
    ///
    /// # Errors
    /// Fails if the agent does not run.
    pub fn id(&self) -> anyhow::Result<u32> {
        let process = self.process.as_ref().context("the agent does not run")?;
        Ok(process.id())
    }

    /// Fails if the agent has ended.
    ///
    /// # Errors
    /// Returns the output of an agent that has ended.
    pub fn check(&mut self) -> anyhow::Result<()> {
        self.process
            .as_mut()
            .context("the agent does not run")?
            .check()
    }

    /// Returns its output since the last start.
    pub fn output(&self) -> String {
        self.process
            .as_ref()
            .map(Process::output)
            .unwrap_or_default()
    }

    /// Returns the endpoint of its API.
    pub fn endpoint(&self) -> String {
        format!("unix:{}", self.folder.path().join("api.sock").display())
    }

    /// Returns its pin folder.
    pub fn pins(&self) -> &Path {
        &self.pins
    }

    /// Returns the namespace that it runs in.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Returns an `lbctl` command for its endpoint.
    ///
    /// # Errors
    /// Fails if `lbctl` cannot be built.
    pub fn lbctl_command<S: AsRef<OsStr>>(
        &self,
        words: impl IntoIterator<Item = S>,
    ) -> anyhow::Result<Command> {
        let mut command = Command::new(binary("lbctl")?);
        command.arg("--endpoint").arg(self.endpoint()).args(words);
        Ok(command)
    }

    /// Runs `lbctl` with these words and returns what it prints.
    ///
    /// # Errors
    /// Fails if `lbctl` does; the error has what it wrote to standard error.
    pub fn lbctl<S: AsRef<OsStr>>(
        &self,
        words: impl IntoIterator<Item = S>,
    ) -> anyhow::Result<String> {
        let command = self.lbctl_command(words)?;
        let shown = format!("{command:?}");
        let output = output_within(COMMAND, command)
            .with_context(|| format!("output of lb-agent:\n{}", self.output()))?;
        if !output.status.success() {
            bail!(
                "{shown} ended with {}: {}",
                output.status,
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs `lbctl` with the words of one line.
    ///
    /// # Errors
    /// See [`Agent::lbctl`].
    pub fn ctl(&self, line: &str) -> anyhow::Result<String> {
        self.lbctl(line.split_whitespace())
    }

    /// Runs `lbctl -o json` with the words of one line and returns what it prints.
    ///
    /// # Errors
    /// Fails if `lbctl` does, or if its output is not JSON.
    pub fn ctl_json(&self, line: &str) -> anyhow::Result<serde_json::Value> {
        let text = self.lbctl(["-o", "json"].into_iter().chain(line.split_whitespace()))?;
        serde_json::from_str(&text)
            .with_context(|| format!("`lbctl -o json {line}` printed:\n{text}"))
    }

    /// Adds a VIP and its reals, each with a weight; `options` are further words of `add-vip`.
    ///
    /// # Errors
    /// See [`Agent::lbctl`].
    pub fn add_service(
        &self,
        vip: &str,
        options: &str,
        reals: &[(String, u16)],
    ) -> anyhow::Result<()> {
        self.ctl(&format!("add-vip {vip} {options}"))?;
        for (address, weight) in reals {
            self.ctl(&format!("add-real {vip} {address} --weight {weight}"))?;
        }
        Ok(())
    }

    /// Detaches its programs; the agent must not run.
    ///
    /// # Errors
    /// Fails if `lb-agent detach` does.
    pub fn detach(&self) -> anyhow::Result<()> {
        let pins = self.pins.display().to_string();
        self.namespace.run([
            binary("lb-agent")?.as_os_str(),
            "detach".as_ref(),
            "--pins".as_ref(),
            pins.as_ref(),
        ])?;
        Ok(())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        drop(self.process.take());
        if self.pins.exists() {
            // If `detach` fails because of a bug under test, removing the pins detaches the programs.
            let _ = self.detach();
            let _ = fs::remove_dir_all(&self.pins);
        }
    }
}

/// Removes the pins of testbeds whose process was killed: folders named after a process that is gone.
fn sweep_pins() {
    let Ok(entries) = fs::read_dir(BPFFS) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let maker = name.to_str().and_then(|name| {
            name.strip_prefix(PINS_PREFIX)?
                .split('-')
                .next()?
                .parse::<i32>()
                .ok()
        });
        if maker.is_some_and(|pid| kill(nix::unistd::Pid::from_raw(pid), None::<Signal>).is_err()) {
            // Another testbed may be removing it at the same time.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
