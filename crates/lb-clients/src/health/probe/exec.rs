//! A program on the balancer. Its exit status is the verdict, the first line of its errors the reason.
//!
//! It runs in a process group of its own, which is killed at the time-out or when the probe is dropped. Its
//! environment holds `PATH` and the `LB_` variables only, because the agent's may hold secrets.

use std::{
    os::unix::process::ExitStatusExt as _,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use lb_model::{check::Via, settings::FieldError};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{
    io::AsyncReadExt as _,
    process::{Child, ChildStderr, Command},
};

use super::{Attempt, Finding, Probe, ProbeKind};
use crate::health::{Verdict, outcome::line};
use crate::peer::{PeerError, descriptors};

/// Bytes of a program's errors that a reason repeats.
const MAX_QUOTED: usize = 200;
const RUNNING: &str = "running the program";
/// How long the rest of the errors is waited for after the program's end: a child may keep the pipe open.
const REST_TIMEOUT: Duration = Duration::from_millis(50);
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub(super) static KIND: ProbeKind = ProbeKind::of::<ExecProbe>(
    "exec",
    "Runs a program on the balancer as the agent's user; exit status 0 is healthy. The program finds the VIP, the \
     real's address and the port in `LB_VIP`, `LB_REAL` and `LB_PORT`.",
)
.running_a_program()
.completed_by(|check| match check.get("via") {
    Some(via) if via == Via::Tunnel.name() => Err(FieldError::new(
        "via",
        Via::Tunnel,
        "the packets of a program take their own way, give direct",
    )),
    _ => Ok(()),
});

lb_model::settings! {
    /// A program on the balancer.
    #[derive(Eq)]
    pub struct Exec {
        /// Absolute path of the program, and its arguments. No shell reads them.
        command: Vec<String>;
    }
    validate(exec) {
        let program = exec.command.first().map_or("", String::as_str);
        if !program.starts_with('/') {
            return Err(FieldError::new(
                "command",
                program,
                "give the absolute path of a program and its arguments",
            ));
        }
        match exec.command.iter().find(|word| word.contains('\0')) {
            Some(word) => Err(FieldError::new("command", word.escape_debug(), "holds a NUL")),
            None => Ok(()),
        }
    }
}

/// Runs the program.
#[derive(Debug)]
struct ExecProbe(Exec);

impl Probe for ExecProbe {
    type Settings = Exec;

    fn new(settings: Exec) -> Self {
        ExecProbe(settings)
    }

    async fn run(&mut self, attempt: &Attempt<'_>) -> Finding {
        let (program, arguments) = self
            .0
            .command
            .split_first()
            .ok_or_else(|| PeerError::Request("there is no program to run".to_owned()))?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .env("PATH", PATH)
            .env("LB_VIP", attempt.vip.to_string())
            .env("LB_REAL", attempt.real.to_string())
            .env("LB_PORT", attempt.target.address.port().to_string())
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0);
        let child = descriptors::open(|| command.spawn()).map_err(|error| PeerError::File {
            path: program.into(),
            reason: format!("cannot be run: {error}"),
        })?;
        let mut group = Group(child);
        let (status, errors) = attempt
            .deadline
            .bound(RUNNING, async {
                group
                    .finish()
                    .await
                    .map_err(|error| PeerError::io(RUNNING, &error))
            })
            .await?;
        Ok(judge(status, &errors))
    }
}

fn judge(status: ExitStatus, errors: &[u8]) -> (Verdict, String) {
    let errors = line(&String::from_utf8_lossy(errors), MAX_QUOTED);
    let quoted = if errors.is_empty() {
        String::new()
    } else {
        format!(": {errors}")
    };
    match (status.code(), status.signal()) {
        (Some(0), _) => (Verdict::Healthy, "exit status 0".to_owned()),
        (Some(code), _) => (Verdict::Unhealthy, format!("exit status {code}{quoted}")),
        (None, signal) => (
            Verdict::Unhealthy,
            format!("ended by signal {}{quoted}", signal.unwrap_or_default()),
        ),
    }
}

/// A program with all processes that it starts.
struct Group(Child);

impl Group {
    async fn finish(&mut self) -> std::io::Result<(ExitStatus, Vec<u8>)> {
        let mut stderr = self.0.stderr.take();
        let mut errors = Vec::new();
        let status = loop {
            tokio::select! {
                biased;
                more = read_some(&mut stderr, &mut errors) => if !more? {
                    stderr = None;
                },
                status = self.0.wait() => break status?,
            }
        };
        if stderr.is_some() {
            let rest = async { while let Ok(true) = read_some(&mut stderr, &mut errors).await {} };
            let _ = tokio::time::timeout(REST_TIMEOUT, rest).await;
        }
        Ok((status, errors))
    }
}

/// Reads more and keeps the first bytes. Returns whether there may be more; never returns if the pipe is gone.
async fn read_some(
    stderr: &mut Option<ChildStderr>,
    errors: &mut Vec<u8>,
) -> std::io::Result<bool> {
    let Some(stderr) = stderr else {
        return std::future::pending().await;
    };
    let mut chunk = [0; 512];
    let length = stderr.read(&mut chunk).await?;
    let room = MAX_QUOTED.saturating_sub(errors.len());
    errors.extend_from_slice(&chunk[..length.min(room)]);
    Ok(length > 0)
}

impl Drop for Group {
    fn drop(&mut self) {
        // A program that ended has no id any more: its number may belong to another process.
        if let Some(id) = self.0.id().and_then(|id| i32::try_from(id).ok()) {
            let _ = killpg(Pid::from_raw(id), Signal::SIGKILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::{Deadline, Target};

    async fn run(script: &str, timeout: Duration) -> Finding {
        run_command(&["/bin/sh", "-c", script], timeout).await
    }

    async fn run_command(command: &[&str], timeout: Duration) -> Finding {
        let settings = Exec {
            command: command.iter().map(|&word| word.to_owned()).collect(),
        };
        let target = Target {
            address: "10.1.0.2:80".parse().unwrap(),
            mark: None,
        };
        let attempt = Attempt {
            vip: &"10.0.0.1:80/tcp".parse().unwrap(),
            real: target.address.ip().into(),
            target: &target,
            deadline: &Deadline::after(timeout),
            answered: &std::sync::OnceLock::new(),
        };
        ExecProbe::new(settings).run(&attempt).await
    }

    const LONG: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn the_exit_status_decides() {
        for (script, verdict, reason) in [
            ("exit 0", Verdict::Healthy, "exit status 0"),
            (
                "echo broken >&2; exit 3",
                Verdict::Unhealthy,
                "exit status 3: broken",
            ),
            ("kill -9 $$", Verdict::Unhealthy, "ended by signal 9"),
            (
                r#"echo "$LB_VIP $LB_REAL $LB_PORT $HOME" >&2; exit 1"#,
                Verdict::Unhealthy,
                "exit status 1: 10.0.0.1:80/tcp 10.1.0.2 80",
            ),
        ] {
            let found = run(script, LONG).await.unwrap();
            assert_eq!(found, (verdict, reason.to_owned()), "{script}");
        }
    }

    #[tokio::test]
    async fn much_output_is_cut() {
        let (_, reason) = run(
            "yes | head -c 1000000 >&2; yes | head -c 1000000; exit 1",
            LONG,
        )
        .await
        .unwrap();
        assert!(
            reason.len() <= MAX_QUOTED + "exit status 1: ".len(),
            "{reason}"
        );
    }

    #[tokio::test]
    async fn at_the_time_out_everything_it_started_ends() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("child");
        let script = format!("sleep 1000 & echo $! > {}; wait", file.display());
        let error = run(&script, Duration::from_secs(2)).await.unwrap_err();
        assert!(matches!(error, PeerError::TimedOut { .. }), "{error}");
        let child: i32 = std::fs::read_to_string(&file)
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        // The orphan is a zombie until its new parent waits for it.
        let gone = || {
            std::fs::read_to_string(format!("/proc/{child}/stat"))
                .map_or(true, |stat| stat.contains(") Z "))
        };
        for _ in 0..1_000 {
            if gone() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("process {child} still runs");
    }

    #[tokio::test]
    async fn what_is_no_program_is_named() {
        let error = run_command(&["/no/such/program"], LONG).await.unwrap_err();
        assert!(
            error
                .to_string()
                .contains("/no/such/program: cannot be run"),
            "{error}"
        );
    }
}
