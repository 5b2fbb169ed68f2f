//! The reader `docker` with an engine that the test starts: it has private folders and a private socket, and creates
//! neither a bridge nor firewall rules. Its only image is empty; containers mount the machine's programs.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, bail};
use lb_clients::load::{
    reader::{Poll as _, docker::Docker},
    reading::Quantity,
};
use lb_clients::peer::Deadline;
use lb_tests::{Process, wait_for};

const START: Duration = Duration::from_secs(120);
const PATIENCE: Duration = Duration::from_secs(60);
/// How long one request may take on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A Docker engine. Dropping it removes its containers first.
struct Engine {
    folder: tempfile::TempDir,
    process: Option<Process>,
}

impl Engine {
    fn start() -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("lb-docker-").tempdir()?;
        let mut engine = Self {
            folder,
            process: None,
        };
        let path = |name: &str| engine.folder.path().join(name).display().to_string();
        let mut command = Command::new("dockerd");
        command
            .args(["--iptables=false", "--ip6tables=false", "--bridge=none"])
            .args([
                "--ip-forward=false",
                "--ip-masq=false",
                "--storage-driver=vfs",
            ])
            .args(["--data-root", &path("data"), "--exec-root", &path("exec")])
            .args(["--pidfile", &path("pid"), "--host", &engine.url()])
            // A control group of its own, which is removed with the engine.
            .args(["--cgroup-parent", &engine.group()]);
        let process = Process::start("dockerd", command)
            .context("`cargo xtask setup` installs what this test needs")?;
        engine.process = Some(process);
        wait_for("dockerd", START, || {
            if let Some(process) = &mut engine.process {
                process.check()?;
            }
            Ok(engine.docker(&["version"]).ok())
        })?;
        engine.import()?;
        Ok(engine)
    }

    fn socket(&self) -> PathBuf {
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
        let archive = self.folder.path().join("image.tar").display().to_string();
        let made = Command::new("tar")
            .args(["-C", &root.display().to_string(), "-cf", &archive, "."])
            .status()?;
        if !made.success() {
            bail!("tar ended with {made}");
        }
        self.docker(&["import", &archive, "lb"]).map(drop)
    }

    fn docker(&self, arguments: &[&str]) -> anyhow::Result<String> {
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

    fn run(&self, name: &str, script: &str) -> anyhow::Result<()> {
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

impl Drop for Engine {
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

/// Polls until an answer is as expected.
async fn wait_answer(
    reader: &mut Docker,
    what: &str,
    is_expected: impl Fn(&Result<lb_clients::load::reading::Answer, String>) -> bool,
) -> anyhow::Result<()> {
    let begin = tokio::time::Instant::now();
    loop {
        let answer = reader.poll(&Deadline::after(TIMEOUT)).await;
        if is_expected(&answer) {
            return Ok(());
        }
        if begin.elapsed() > PATIENCE {
            bail!("{what}: not within {PATIENCE:?}; the last answer is {answer:?}");
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

pub fn containers_are_measured_by_their_own_limits() -> anyhow::Result<()> {
    let engine = Engine::start()?;
    engine.run("busy", "while :; do :; done")?;
    engine.run("idle", "sleep 100000")?;
    let reader = |name: &str| Docker::new(engine.socket(), name.to_owned());
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(async {
            let mut busy = reader("busy");
            wait_answer(&mut busy, "a busy container at its limit", |answer| {
                let cpu = answer
                    .as_ref()
                    .ok()
                    .and_then(|answer| answer.get(Quantity::Utilisation));
                cpu.is_some_and(|cpu| cpu >= 0.9)
            })
            .await?;
            wait_answer(&mut reader("idle"), "an idle container", |answer| {
                let Ok(answer) = answer else { return false };
                answer
                    .get(Quantity::Utilisation)
                    .is_some_and(|cpu| cpu < 0.1)
                    && answer
                        .get(Quantity::Memory)
                        .is_some_and(|part| part > 0.0 && part < 0.5)
            })
            .await?;

            // A restart resets the counters.
            engine.docker(&["restart", "--time", "0", "busy"])?;
            let first = busy.poll(&Deadline::after(TIMEOUT)).await;
            let cpu = first
                .as_ref()
                .ok()
                .and_then(|answer| answer.get(Quantity::Utilisation));
            assert_eq!(cpu, None, "{first:?}");

            engine.docker(&["pause", "idle"])?;
            wait_answer(&mut reader("idle"), "a paused container", |answer| {
                answer
                    .as_ref()
                    .is_err_and(|reason| reason.contains("it is paused"))
            })
            .await?;
            wait_answer(&mut reader("other"), "no container", |answer| {
                answer
                    .as_ref()
                    .is_err_and(|reason| reason.contains("no such container"))
            })
            .await?;
            wait_answer(&mut reader("../info"), "no name", |answer| {
                answer
                    .as_ref()
                    .is_err_and(|reason| reason.contains("not a name or id"))
            })
            .await
        })
}
