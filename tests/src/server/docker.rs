//! A Docker engine: it has private folders and a private socket, and creates neither a bridge nor firewall rules. Its only
//! image, `lb`, is empty; containers mount the machine's programs at `/usr`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, bail};
use nix::sys::signal::Signal;

use crate::{Namespace, Process, wait_for};

const START: Duration = Duration::from_secs(120);

/// A Docker engine. Dropping it removes its containers first.
#[derive(Debug)]
pub struct DockerEngine {
    folder: tempfile::TempDir,
    process: Option<Process>,
    namespace: Option<Namespace>,
}

impl DockerEngine {
    /// Starts an engine and imports its image.
    ///
    /// # Errors
    /// Fails if Docker is missing, or the engine is not ready in time.
    pub fn start() -> anyhow::Result<Self> {
        Self::start_on(None)
    }

    /// Starts an engine in a network namespace, which its containers share that ask for the network of their host.
    ///
    /// # Errors
    /// See [`DockerEngine::start`].
    pub fn start_in(namespace: &Namespace) -> anyhow::Result<Self> {
        Self::start_on(Some(namespace))
    }

    fn start_on(namespace: Option<&Namespace>) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("lb-docker-").tempdir()?;
        let mut engine = Self {
            folder,
            process: None,
            namespace: namespace.cloned(),
        };
        engine.run_engine()?;
        engine.import()?;
        Ok(engine)
    }

    /// Starts the engine's program and waits until it answers.
    ///
    /// # Errors
    /// See [`DockerEngine::start`].
    pub fn run_engine(&mut self) -> anyhow::Result<()> {
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        let mut command = match &self.namespace {
            Some(namespace) => namespace.command("dockerd"),
            None => Command::new("dockerd"),
        };
        command
            .args(["--iptables=false", "--ip6tables=false", "--bridge=none"])
            .args([
                "--ip-forward=false",
                "--ip-masq=false",
                "--storage-driver=vfs",
                "--live-restore",
            ])
            .args(["--data-root", &path("data"), "--exec-root", &path("exec")])
            .args(["--pidfile", &path("pid"), "--host", &self.url()])
            // A control group of its own, which is removed with the engine.
            .args(["--cgroup-parent", &self.group()]);
        let process = Process::start("dockerd", command)
            .context("`cargo xtask setup` installs what this test needs")?;
        self.process = Some(process);
        wait_for("dockerd", START, || {
            // There is no use in waiting for one that has ended.
            if let Some(Err(ended)) = self.process.as_mut().map(Process::check) {
                return Ok(Some(Err(ended)));
            }
            Ok(self.docker(&["version"]).ok().map(|_| Ok(())))
        })?
    }

    /// Kills the engine's program; the containers run on.
    ///
    /// # Errors
    /// Fails if it does not run.
    pub fn kill_engine(&mut self) -> anyhow::Result<()> {
        if let Some(process) = self.process.take() {
            process.signal(Signal::SIGKILL)?;
        }
        // The next engine takes what has this number for the containerd of this one, even a zombie.
        let noted = self.folder.path().join("exec/containerd/containerd.pid");
        if let Ok(pid) = fs::read_to_string(&noted) {
            let status = format!("/proc/{}/status", pid.trim());
            wait_for("the end of containerd", START, || {
                let status = fs::read_to_string(&status).unwrap_or_default();
                let lives = status
                    .lines()
                    .any(|line| line.starts_with("State:") && !line.contains('Z'));
                Ok((!lives).then_some(()))
            })?;
            fs::remove_file(&noted)?;
        }
        // One that is left keeps the next engine from starting.
        let _ = fs::remove_file(self.folder.path().join("pid"));
        Ok(())
    }

    /// Returns the path of the engine's socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("docker.sock")
    }

    fn url(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    fn group(&self) -> String {
        format!("/lb-testbed-{}-docker", std::process::id())
    }

    /// Imports the image `lb`, which has only the symbolic links to the folders with the machine's programs.
    fn import(&self) -> anyhow::Result<()> {
        let root = self.folder.path().join("image");
        fs::create_dir(&root)?;
        for name in ["bin", "lib", "lib64"] {
            std::os::unix::fs::symlink(format!("usr/{name}"), root.join(name))?;
        }
        self.import_folder(&root, "lb")
    }

    /// Imports what is in a folder as an image of this name.
    ///
    /// # Errors
    /// Fails if `tar` or the engine does.
    pub fn import_folder(&self, root: &Path, name: &str) -> anyhow::Result<()> {
        self.import_folder_with(root, name, &[])
    }

    /// Imports what is in a folder as an image of this name, with these instructions of a Dockerfile.
    ///
    /// # Errors
    /// See [`DockerEngine::import_folder`].
    pub fn import_folder_with(
        &self,
        root: &Path,
        name: &str,
        instructions: &[&str],
    ) -> anyhow::Result<()> {
        let archive = self.folder.path().join("image.tar").display().to_string();
        let made = Command::new("tar")
            .args(["-C", &root.display().to_string(), "-cf", &archive, "."])
            .status()
            .context("starting tar")?;
        if !made.success() {
            bail!("tar ended with {made}");
        }
        let changes = instructions.iter().flat_map(|text| ["--change", *text]);
        let words: Vec<&str> = std::iter::once("import")
            .chain(changes)
            .chain([archive.as_str(), name])
            .collect();
        self.docker(&words)?;
        fs::remove_file(&archive).with_context(|| format!("removing {archive}"))
    }

    /// Runs `docker` with these words and returns what it prints.
    ///
    /// # Errors
    /// Fails if it does.
    pub fn docker(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = Command::new("docker")
            .args(["--host", &self.url()])
            .args(arguments)
            .output()
            .context("starting docker")?;
        if !output.status.success() {
            bail!(
                "docker {}: {}",
                arguments.join(" "),
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Starts a container that runs a script of the shell.
    ///
    /// # Errors
    /// Fails if the engine does not start it.
    pub fn run(&self, name: &str, script: &str) -> anyhow::Result<()> {
        self.docker(&[
            "run",
            "--detach",
            "--name",
            name,
            "--network",
            "none",
            "--cpus",
            "0.2",
            "--memory",
            "64m",
            "--volume",
            "/usr:/usr:ro",
            "lb",
            "/bin/sh",
            "-c",
            script,
        ])
        .map(drop)
    }
}

impl Drop for DockerEngine {
    fn drop(&mut self) {
        // Containers that cannot be removed here end with the engine's process group.
        if let Ok(names) = self.docker(&["ps", "--all", "--quiet"]) {
            for name in names.lines() {
                let _ = self.docker(&["rm", "--force", name]);
            }
        }
        self.process = None;
        for mount in fs::read_dir("/sys/fs/cgroup")
            .into_iter()
            .flatten()
            .flatten()
        {
            let _ = fs::remove_dir(mount.path().join(self.group().trim_start_matches('/')));
        }
        let _ =
            fs::remove_dir(Path::new("/sys/fs/cgroup").join(self.group().trim_start_matches('/')));
    }
}
