//! `lb-agent real` beside an instance: it gives the instance's network namespace the VIPs and a decapsulator, from outside,
//! for as long as the instance runs.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use lb_model::pool::{Attachment, InstanceName};

use super::{Connector, link::INNER};
use crate::{
    DriverError, Hint,
    group::Group,
    process::reap,
    spawn::{self, NetworkOf, Place},
};

/// Ends the name of its control group.
pub const SUFFIX: &str = ".real";
/// How long it may take to be ready.
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(5);
/// It writes its status every few seconds; one that is silent for longer hangs.
const SILENCE: Duration = Duration::from_secs(30);
/// What it prints when the namespace is a real.
const READY: &str = "lb-agent: real ready";

fn group(connector: &Connector, name: &InstanceName) -> Group {
    connector.groups.group(&format!("{name}{SUFFIX}"))
}

/// Starts it for a process's network namespace, and waits until it is ready. One that runs is left alone; without VIPs there
/// is none.
pub fn start(
    connector: &Connector,
    name: &InstanceName,
    pid: u32,
    attachment: &Attachment,
    folder: &Path,
) -> Result<(), DriverError> {
    if attachment.vips.is_empty() {
        return Ok(());
    }
    let failed =
        |why: String| DriverError::failed(format!("making {name} a real of its VIPs"), why);
    let group = group(connector, name);
    let path = folder.join("real.log");
    if group
        .is_populated()
        .map_err(|error| failed(error.to_string()))?
        && is_of(&group, pid)
        && is_ready(&path)
        && complaint(&status(folder)).is_none()
    {
        return Ok(());
    }
    group.kill().map_err(|error| failed(error.to_string()))?;
    group.create().map_err(|error| failed(error.to_string()))?;
    // That of its predecessor.
    let _ = fs::remove_file(status(folder));
    let log = File::create(&path).map_err(|error| failed(error.to_string()))?;
    let errors = log.try_clone().map_err(|error| failed(error.to_string()))?;
    let mut command = Command::new(&connector.agent);
    command
        .arg("real")
        .args(["--netns", &format!("/proc/{pid}/ns/net")])
        .args(["--iface", INNER])
        .args([
            "--mode",
            if attachment.encapsulated {
                "ipip"
            } else {
                "l2"
            },
        ])
        .args(
            attachment
                .vips
                .iter()
                .flat_map(|vip| ["--vip".to_owned(), vip.to_string()]),
        )
        .arg("--state")
        .arg(folder.join("real"))
        .arg("--status")
        .arg(status(folder))
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .current_dir("/");
    let members = group.members().map_err(|error| failed(error.to_string()))?;
    spawn::place(
        &mut command,
        Place {
            members,
            network: NetworkOf::Own,
            user: None,
        },
    );
    let mut child = command
        .spawn()
        .map_err(|error| failed(format!("starting {}: {error}", connector.agent.display())))?;
    let end = Instant::now() + PATIENCE;
    loop {
        if is_ready(&path) {
            let (hints, name) = (connector.hints.clone(), name.clone());
            reap(child, move || {
                // Nobody may listen.
                let _ = hints.send(Hint::Changed(name));
            });
            return Ok(());
        }
        let ended = child
            .try_wait()
            .map_err(|error| failed(error.to_string()))?;
        if ended.is_some() || Instant::now() > end {
            let _ = group.kill();
            reap(child, || {});
            let why = fs::read_to_string(&path).unwrap_or_default();
            let why = why.trim().lines().last().unwrap_or_default();
            return Err(failed(format!("`lb-agent real` is not ready: {why}")));
        }
        std::thread::sleep(LOOK);
    }
}

/// The file with its status.
fn status(folder: &Path) -> PathBuf {
    folder.join("real.status")
}

/// What it says that is wrong: the first line is the time by the monotonic clock, the others are what is wrong, or `ready`. `None`
/// if nothing is, or if it has said nothing, as that of an earlier version does.
fn complaint(status: &Path) -> Option<String> {
    let text = fs::read_to_string(status).ok()?;
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    read_status(&text, u64::try_from(now.tv_sec).unwrap_or_default())
}

fn read_status(text: &str, now: u64) -> Option<String> {
    let (at, words) = text.split_once('\n')?;
    let silent = now.saturating_sub(at.parse().ok()?);
    if silent > SILENCE.as_secs() {
        return Some(format!(
            "its `lb-agent real` hangs: it has said nothing for {silent} s"
        ));
    }
    match words.trim_end() {
        // It is being written.
        "" | "ready" => None,
        words => Some(format!(
            "its `lb-agent real`: {}",
            words.replace('\n', "; ")
        )),
    }
}

/// What is wrong with it; `None` if it runs and says so, or is not needed.
pub fn fault(
    connector: &Connector,
    name: &InstanceName,
    attachment: &Attachment,
    folder: &Path,
) -> Option<String> {
    if attachment.vips.is_empty() {
        return None;
    }
    match group(connector, name).is_populated() {
        Ok(true) => complaint(&status(folder)),
        Ok(false) => Some("it is no real of its VIPs: its `lb-agent real` has ended".to_owned()),
        Err(error) => Some(error.to_string()),
    }
}

/// Ends it. What it changed goes with the network namespace.
pub fn stop(connector: &Connector, name: &InstanceName) -> Result<(), DriverError> {
    let group = group(connector, name);
    let ended = group.kill().and_then(|()| group.remove());
    ended.map_err(|error| {
        DriverError::failed(format!("ending the `lb-agent real` of {name}"), error)
    })
}

/// Whether it serves the network namespace of this process.
fn is_of(group: &Group, pid: u32) -> bool {
    let namespace = |pid: u32| fs::read_link(PathBuf::from(format!("/proc/{pid}/ns/net"))).ok();
    let own = namespace(pid);
    own.is_some()
        && group
            .processes()
            .unwrap_or_default()
            .into_iter()
            .any(|member| namespace(member) == own)
}

fn is_ready(log: &Path) -> bool {
    fs::read_to_string(log).is_ok_and(|text| text.lines().any(|line| line.starts_with(READY)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_what_is_wrong_or_silence() {
        let read = |text: &str| read_status(text, 1_000);
        assert_eq!(read("995\nready\n"), None);
        assert_eq!(read("990\n"), None);
        assert_eq!(read(""), None);
        assert_eq!(
            read("999\neth0 is gone\nlo is down\n").as_deref(),
            Some("its `lb-agent real`: eth0 is gone; lo is down")
        );
        assert_eq!(
            read("960\nready\n").as_deref(),
            Some("its `lb-agent real` hangs: it has said nothing for 40 s")
        );
    }
}
