//! `lb-controller`.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::{Namespace, Process, binary, wait_for};

/// How long the controller may take until it is ready.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running controller. Dropping it ends it and the processes that it operates.
#[derive(Debug)]
pub struct Controller {
    // Dropped before its folder.
    process: Option<Process>,
    folder: tempfile::TempDir,
    /// Its name.
    pub name: String,
    options: Vec<String>,
    namespace: Option<Namespace>,
}

impl Controller {
    /// Starts a controller with these further options, in a network namespace if one is given. It takes instances and reals
    /// of this name for its own, and whoever can connect may do everything.
    ///
    /// # Errors
    /// Fails if the program cannot be started, or is not ready in time.
    pub fn start(
        namespace: Option<&Namespace>,
        name: &str,
        options: &[&str],
    ) -> anyhow::Result<Self> {
        let open = ["--anonymous", "admin", "--anonymous-remote", "admin"];
        Self::start_closed(namespace, name, &[options, &open].concat())
    }

    /// Starts a controller that asks callers who they are, as its settings say.
    ///
    /// # Errors
    /// As [`Controller::start`].
    pub fn start_closed(
        namespace: Option<&Namespace>,
        name: &str,
        options: &[&str],
    ) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("lb-pools-").tempdir()?;
        let mut controller = Controller {
            process: None,
            folder,
            name: name.to_owned(),
            options: options.iter().map(|text| (*text).to_owned()).collect(),
            namespace: namespace.cloned(),
        };
        controller.run()?;
        Ok(controller)
    }

    /// Further runs take over what an empty store knows nothing of.
    pub fn take_over(&mut self) {
        self.options.push("--take-over".to_owned());
    }

    /// Starts the program, again.
    ///
    /// # Errors
    /// Fails if it cannot be started, or is not ready in time.
    pub fn run(&mut self) -> anyhow::Result<()> {
        let mut process = self.spawn()?;
        process.wait_line("lb-controller: ready", "", PATIENCE)?;
        self.process = Some(process);
        Ok(())
    }

    /// Starts the program without waiting until it is ready.
    ///
    /// # Errors
    /// Fails if it cannot be started.
    pub fn spawn(&self) -> anyhow::Result<Process> {
        let program = binary("lb-controller")?;
        let mut command = match &self.namespace {
            Some(namespace) => namespace.command(program),
            None => std::process::Command::new(program),
        };
        command
            .args(["run", "--name", &self.name, "--state"])
            .arg(self.state())
            .args(["--listen", &self.endpoint()])
            .args(&self.options);
        Process::start("lb-controller", command)
    }

    /// Tells it to read its configuration file again.
    ///
    /// # Errors
    /// Fails if it does not run.
    pub fn reload(&self) -> anyhow::Result<()> {
        let process = self
            .process
            .as_ref()
            .context("the controller does not run")?;
        process.signal(nix::sys::signal::Signal::SIGHUP)
    }

    /// Kills it.
    ///
    /// # Errors
    /// Fails if it cannot be waited for.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        match self.process.take() {
            Some(mut process) => process.kill(),
            None => Ok(()),
        }
    }

    /// Asks it to end if it runs, without waiting; see [`Process::ask_to_end`].
    pub fn ask_to_end(&mut self) {
        if let Some(process) = &mut self.process {
            process.ask_to_end();
        }
    }

    /// Its process.
    ///
    /// # Errors
    /// Fails if it does not run.
    pub fn process_mut(&mut self) -> anyhow::Result<&mut Process> {
        self.process.as_mut().context("the controller does not run")
    }

    /// Fails if it has ended.
    ///
    /// # Errors
    /// Returns the output of a controller that has ended.
    pub fn check(&mut self) -> anyhow::Result<()> {
        match &mut self.process {
            Some(process) => process.check(),
            None => bail!("the controller does not run"),
        }
    }

    /// Returns its output since the last start.
    pub fn output(&self) -> String {
        self.process
            .as_ref()
            .map(Process::output)
            .unwrap_or_default()
    }

    /// Returns the folder of its database and of its drivers.
    pub fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// Returns a folder that is removed with it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the endpoint of its API.
    pub fn endpoint(&self) -> String {
        format!("unix:{}", self.folder.path().join("api.sock").display())
    }

    /// Runs `lbctl pool` with these words.
    ///
    /// # Errors
    /// Fails if `lbctl` does; the error is what it wrote to standard error.
    pub fn pool(&self, words: &[&str]) -> anyhow::Result<String> {
        self.lbctl("pool", words)
    }

    /// Runs a verb of `lbctl` that asks the controller.
    ///
    /// # Errors
    /// Fails with what `lbctl` prints if it fails.
    pub fn lbctl(&self, verb: &str, words: &[&str]) -> anyhow::Result<String> {
        let output = std::process::Command::new(binary("lbctl")?)
            .args([verb, "--controller", &self.endpoint()])
            .args(words)
            .output()?;
        if !output.status.success() {
            bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Runs `lbctl` with the words of one line, of which the first is the verb.
    ///
    /// # Errors
    /// As [`lbctl`](Self::lbctl).
    pub fn ctl(&self, line: &str) -> anyhow::Result<String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (verb, words) = words.split_first().context("no verb")?;
        self.lbctl(verb, words)
    }

    /// Runs `lbctl pool` and reads the JSON that it prints.
    ///
    /// # Errors
    /// Fails if `lbctl` does, or prints something else.
    pub fn json(&self, words: &[&str]) -> anyhow::Result<Value> {
        Ok(serde_json::from_str(
            &self.pool(&[&["-o", "json"], words].concat())?,
        )?)
    }

    /// The instances of a pool.
    ///
    /// # Errors
    /// Fails if there is no such pool.
    pub fn instances(&self, pool: &str) -> anyhow::Result<Vec<Value>> {
        let list = self.json(&["list", pool])?;
        let instances = list[0]["instances"].as_array();
        instances.cloned().context("no instances")
    }

    /// The instances that really run: what the control groups of this controller hold.
    pub fn running(&self) -> Vec<String> {
        running_of(&self.name)
    }

    /// The processes of an instance.
    pub fn processes(&self, name: &str) -> Vec<i32> {
        processes_of(&self.name, name)
    }
}

/// The processes of an instance of an owner.
pub fn processes_of(owner: &str, name: &str) -> Vec<i32> {
    let group = format!("lb-process-{owner}/{name}/cgroup.procs");
    ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"]
        .iter()
        .filter_map(|root| fs::read_to_string(Path::new(root).join(&group)).ok())
        .flat_map(|text| {
            text.lines()
                .filter_map(|line| line.parse().ok())
                .collect::<Vec<_>>()
        })
        .collect()
}

impl Drop for Controller {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("--- output of lb-controller\n{}", self.output());
        }
        self.process = None;
        // What it operated runs on without it.
        remove_groups(&self.name);
    }
}

/// The instances of an owner that really run: what its control groups hold.
pub fn running_of(owner: &str) -> Vec<String> {
    let group = format!("lb-process-{owner}");
    let mut roots = vec![PathBuf::from("/sys/fs/cgroup/unified")];
    roots.push("/sys/fs/cgroup".into());
    let mut names = Vec::new();
    for entry in roots.iter().flat_map(|root| {
        fs::read_dir(root.join(&group))
            .into_iter()
            .flatten()
            .flatten()
    }) {
        let procs = fs::read_to_string(entry.path().join("cgroup.procs")).unwrap_or_default();
        if !procs.trim().is_empty() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    names
}

/// Kills the instances of an owner, which may be a host of a controller (`NAME@HOST`), and removes their groups.
pub fn remove_groups(owner: &str) {
    for driver in ["process", "docker", "qemu"] {
        let group = format!("lb-{driver}-{owner}");
        for entry in fs::read_dir("/sys/fs/cgroup")
            .into_iter()
            .flatten()
            .flatten()
        {
            remove_group(&entry.path().join(&group));
        }
        remove_group(&Path::new("/sys/fs/cgroup").join(&group));
    }
}

/// Kills what is in a tree of groups, and removes it.
fn remove_group(group: &Path) {
    if !group.join("cgroup.procs").is_file() {
        return;
    }
    for child in fs::read_dir(group).into_iter().flatten().flatten() {
        if child.path().is_dir() {
            remove_group(&child.path());
        }
    }
    let _ = wait_for("the end of a group", Duration::from_secs(10), || {
        for pid in fs::read_to_string(group.join("cgroup.procs"))?.lines() {
            if let Ok(pid) = pid.parse() {
                // Fails for a process that has ended meanwhile.
                let _ = nix::sys::signal::kill(
                    nix::unistd::Pid::from_raw(pid),
                    nix::sys::signal::Signal::SIGKILL,
                );
            }
        }
        // The group may be gone in this hierarchy.
        fs::remove_dir(group)?;
        Ok(Some(()))
    });
}
