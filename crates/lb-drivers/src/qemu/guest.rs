//! What is asked of the agent in a guest.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use lb_model::pool::InstanceName;
use serde_json::{Value, json};

use super::{
    Inner,
    machine::{AGENT, START},
    qmp::Agent,
};
use crate::{Command, DriverError, MAX_OUTPUT, Output, spawn::INSTANCE};

/// How long an agent may take to answer. One that does not run never does.
const ANSWER: Duration = Duration::from_secs(10);
/// The longest that a program in a guest may run; calls have a shorter limit.
const PROGRAM: Duration = Duration::from_secs(3_600);
/// Pause between two looks whether a program has ended.
const LOOK: Duration = Duration::from_millis(20);
/// The program in a guest that reads what it is told: who it is now, and what it runs.
const WAKE: &str = "/lb/wake";
/// What programs find in `PATH`.
const PATH: &str = "PATH=/programs:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs a program in the guest to its end.
fn run(
    agent: &mut Agent,
    words: &[String],
    environment: &[String],
    input: &[u8],
    patience: Duration,
) -> io::Result<Output> {
    let (program, arguments) = words
        .split_first()
        .ok_or_else(|| io::Error::other("there is no program"))?;
    let started = agent.ask(
        "guest-exec",
        &json!({
            "path": program,
            "arg": arguments,
            "env": environment,
            "input-data": STANDARD.encode(input),
            "capture-output": true,
        }),
    )?;
    let end = Instant::now() + patience;
    loop {
        let state = agent.ask("guest-exec-status", &json!({ "pid": started["pid"] }))?;
        if state["exited"] == true {
            return Ok(Output {
                status: state["exitcode"]
                    .as_i64()
                    .or_else(|| state["signal"].as_i64().map(|signal| -signal))
                    .unwrap_or(-1),
                stdout: decoded(&state["out-data"])?,
                stderr: decoded(&state["err-data"])?,
            });
        }
        if Instant::now() > end {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("{program}: not within {patience:?}"),
            ));
        }
        std::thread::sleep(LOOK);
    }
}

/// The beginning of an output.
fn decoded(data: &Value) -> io::Result<Vec<u8>> {
    let Some(text) = data.as_str() else {
        return Ok(Vec::new());
    };
    let mut bytes = STANDARD.decode(text).map_err(io::Error::other)?;
    bytes.truncate(MAX_OUTPUT);
    Ok(bytes)
}

/// Tells a guest that goes on from a saved state who it is now, and what it runs; it does nothing that it has done already.
pub(super) fn wake(folder: &Path, patience: Duration) -> io::Result<()> {
    let told = fs::read_to_string(folder.join(START))?;
    // All machines of a state would draw the same random numbers, and have its time.
    let mut seed = [0; 64];
    io::Read::read_exact(&mut fs::File::open("/dev/urandom")?, &mut seed)?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.unwrap_or_default().as_secs();
    let input = format!("lb_now={now}\nlb_seed={}\n{told}", STANDARD.encode(seed));
    let words = [WAKE.to_owned()];
    let mut agent = Agent::connect(folder, AGENT, patience)
        .map_err(|error| io::Error::other(format!("its guest does not answer: {error}")))?;
    let output = run(
        &mut agent,
        &words,
        &[PATH.to_owned()],
        input.as_bytes(),
        patience,
    )?;
    if output.status == 0 {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!(
        "its guest did not go on: {}",
        why.trim()
    )))
}

/// Sets the clock of a guest that did not run for a while, if it has an agent. Nobody waits for it.
pub(super) fn set_clock(folder: PathBuf) {
    std::thread::spawn(move || {
        let Ok(mut agent) = Agent::connect(&folder, AGENT, ANSWER) else {
            return;
        };
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = u64::try_from(now.unwrap_or_default().as_nanos()).unwrap_or_default();
        // Without a hardware clock it complains, after it has set its own.
        let _ = agent.ask("guest-set-time", &json!({ "time": now }));
    });
}

impl Inner {
    /// Runs a program in a guest.
    pub(super) fn exec(
        &self,
        name: &InstanceName,
        command: &Command,
    ) -> Result<Output, DriverError> {
        let running = |error: io::Error| {
            DriverError::failed(format!("running {:?} in {name}", command.words), error)
        };
        let launch = self.instances.launch(name)?;
        if self
            .instances
            .first_process(name)
            .map_err(running)?
            .is_none()
        {
            return Err(running(io::Error::other("it does not run")));
        }
        let folder = self.instances.folders.of(name);
        let mut agent = Agent::connect(folder.path(), AGENT, ANSWER).map_err(|error| {
            let why = "its guest does not answer; it needs the QEMU guest agent";
            running(io::Error::other(format!("{why}: {error}")))
        })?;
        agent.extend(PROGRAM);
        let environment: Vec<String> = [PATH.to_owned(), format!("{INSTANCE}={name}")]
            .into_iter()
            .chain(
                launch
                    .environment
                    .iter()
                    .map(|(name, value)| format!("{name}={value}")),
            )
            .collect();
        run(
            &mut agent,
            &command.words,
            &environment,
            &command.input,
            PROGRAM,
        )
        .map_err(running)
    }
}
