//! Moving machines: to a file and back, to a copy of their own, and to another host while they run.

use std::{
    fs, io,
    net::SocketAddr,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use lb_model::pool::{InstanceName, Launch, Vm};
use serde_json::{Value, json};

use super::{
    Inner, ignore_missing, life,
    machine::{Accelerator, Begin, DISK},
    qmp::{Migrated, Monitor, is_refusal},
};
use crate::{
    DriverError, Phase,
    folder::{Ending, Folder},
    instances::no_room,
};

/// The state of a machine that is suspended, and while it is being written.
const STATE: &str = "state";
const NEW_STATE: &str = "state.new";
/// Says that the machine goes on in another's state, and has not been told who it is.
const ORIGIN: &str = "origin";
/// Says that the machine stands still only because it moves.
const MOVES: &str = "moves";
/// How long a state may take to be written, or to be sent.
const PATIENCE: Duration = Duration::from_secs(600);
/// How long a machine that was sent may take until it goes on, and how long QEMU may take to give up sending one.
const ARRIVAL: Duration = Duration::from_secs(60);
/// Bytes in a second: QEMU's own limit is for networks that others use, too.
const FASTEST: u64 = 10 << 30;
/// How long a machine that moves may stand still, in milliseconds.
const DOWNTIME: u64 = 100;
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(10);

/// A state that a machine can go on from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Saved<'a> {
    /// Its own, or that of the one that it was cloned from, in its folder.
    Suspended,
    /// That of a machine that has booted and waits, in this file.
    Booted(&'a Path),
}

impl Saved<'_> {
    pub fn path(&self, folder: &Folder) -> PathBuf {
        match self {
            Saved::Suspended => folder.path().join(STATE),
            Saved::Booted(path) => (*path).to_owned(),
        }
    }

    /// Notes that the machine will have to be told who it is.
    pub fn prepare(&self, folder: &Folder) -> io::Result<()> {
        match self {
            Saved::Suspended => Ok(()),
            Saved::Booted(_) => fs::write(folder.path().join(ORIGIN), ""),
        }
    }

    /// Forgets the state, which the machine has read and is about to leave.
    pub fn take(&self, folder: &Folder) -> io::Result<()> {
        match self {
            Saved::Suspended => discard(folder),
            Saved::Booted(_) => Ok(()),
        }
    }
}

/// Whether the folder has the state of a machine.
pub(super) fn is_suspended(folder: &Folder) -> bool {
    folder.path().join(STATE).exists()
}

/// Whether the machine stands still because it moves.
pub(super) fn moves(folder: &Folder) -> bool {
    folder.path().join(MOVES).exists()
}

/// A machine does what it was told to do, whatever it did when it was to move.
pub(super) fn forget_move(folder: &Folder) -> io::Result<()> {
    ignore_missing(fs::remove_file(folder.path().join(MOVES)))
}

/// Whether the machine has to be told who it is.
pub(super) fn is_anothers(folder: &Folder) -> bool {
    folder.path().join(ORIGIN).exists()
}

/// It was told.
pub(super) fn forget_origin(folder: &Folder) -> io::Result<()> {
    ignore_missing(fs::remove_file(folder.path().join(ORIGIN)))
}

/// Forgets the state of a machine.
pub(super) fn discard(folder: &Folder) -> io::Result<()> {
    ignore_missing(fs::remove_file(folder.path().join(STATE)))
}

/// Writes the state of a machine to a file. It stands still afterwards.
pub(super) fn save(monitor: &mut Monitor, path: &Path) -> io::Result<()> {
    monitor.patience = PATIENCE;
    if monitor.status()? == "postmigrate" {
        // It was saved before, and only one that has gone on since can be again.
        monitor.ask("cont", &json!({}))?;
    }
    monitor.ask("stop", &json!({}))?;
    let file = life::create_private(path)?;
    monitor.ask(
        "migrate-set-parameters",
        &json!({ "max-bandwidth": FASTEST }),
    )?;
    monitor.ask_with("getfd", &json!({ "fdname": "state" }), file.as_fd())?;
    match migrate(monitor, "fd:state") {
        Migrated::Yes => file.sync_all(),
        Migrated::No(error) | Migrated::Unknown(error) => Err(error),
    }
}

/// Migrates a machine to this address, and waits for it.
fn migrate(monitor: &mut Monitor, to: &str) -> Migrated {
    match monitor.ask("migrate", &json!({ "uri": to })) {
        Ok(_) => monitor.wait_migrated(PATIENCE, ARRIVAL),
        Err(error) if is_refusal(&error) => Migrated::No(error),
        Err(error) => Migrated::Unknown(error),
    }
}

impl Inner {
    pub(super) fn suspend(&self, name: &InstanceName) -> Result<(), DriverError> {
        self.instances.launch(name)?;
        let folder = self.instances.folders.of(name);
        let failed = |error: io::Error| DriverError::failed(format!("suspending {name}"), error);
        let is_up = self
            .instances
            .first_process(name)
            .map_err(failed)?
            .is_some();
        if !(is_up || is_suspended(&folder)) {
            return Err(failed(io::Error::other("it does not run")));
        }
        if !is_suspended(&folder) {
            let mut monitor = self.monitor(name, "suspending")?;
            let was_running = monitor.status().map_err(failed)? == "running";
            let new = folder.path().join(NEW_STATE);
            let saved =
                save(&mut monitor, &new).and_then(|()| fs::rename(&new, folder.path().join(STATE)));
            if let Err(error) = saved {
                let _ = fs::remove_file(&new);
                if was_running {
                    // It runs on as if nothing had been asked for.
                    let _ = monitor.ask("cont", &json!({}));
                }
                return Err(failed(error));
            }
        }
        let group = self.instances.group(name);
        life::quit(&folder, &group);
        group.kill().map_err(failed)?;
        self.instances.hint(name);
        Ok(())
    }

    pub(super) fn clone_to(&self, from: &InstanceName, launch: &Launch) -> Result<(), DriverError> {
        let name = &launch.name;
        if self.instances.folders.of(name).exists() {
            return Ok(());
        }
        let source = self.instances.launch(from)?;
        let failed = |error: io::Error| no_room(name, &format!("cloning {from} as"), error);
        let invalid = |why: &str| DriverError::Invalid {
            name: name.clone(),
            why: why.to_owned(),
        };
        let vm = self.checked(launch)?;
        let is_same = source.vm.as_ref() == Some(&vm)
            && source.attachment().is_some() == launch.attachment().is_some();
        if !is_same {
            return Err(invalid(
                "a clone has the same virtual machine as what it is cloned from; change it afterwards",
            ));
        }
        let is_up = self
            .instances
            .first_process(from)
            .map_err(failed)?
            .is_some();
        let folder = self.instances.folders.of(from);
        let mut monitor = if is_up {
            Some(self.monitor(from, "cloning")?)
        } else {
            None
        };
        let was_running = match &mut monitor {
            Some(monitor) => monitor.status().map_err(failed)? == "running",
            None => false,
        };
        let made = self.instances.folders.create_with(launch, |copy| {
            self.copy(&folder, launch, &vm, copy, monitor.as_mut())
        });
        if let Some(monitor) = &mut monitor
            && was_running
        {
            monitor.ask("cont", &json!({})).map_err(|error| {
                DriverError::failed(format!("letting {from} go on, which was cloned"), error)
            })?;
        }
        made.map_err(failed)
    }

    /// Puts the copy of a machine into a new folder, with its state if it runs or is suspended.
    fn copy(
        &self,
        from: &Folder,
        launch: &Launch,
        vm: &Vm,
        copy: &Path,
        monitor: Option<&mut Monitor>,
    ) -> io::Result<()> {
        // A disk of its own is replaced below.
        let without_disk = Vm {
            disk: None,
            ..vm.clone()
        };
        self.fill(
            launch,
            if vm.kernel.is_some() {
                &without_disk
            } else {
                vm
            },
            copy,
        )?;
        let has_state = match monitor {
            // Its memory, and what it has written of its disk, are of the same moment: it stands still.
            Some(monitor) if vm.kernel.is_some() => {
                save(monitor, &copy.join(STATE))?;
                true
            }
            // A guest that is not told of its new name would go on with the old address.
            Some(monitor) => {
                monitor.ask("stop", &json!({}))?;
                false
            }
            None if is_suspended(from) && vm.kernel.is_some() => {
                fs::copy(from.path().join(STATE), copy.join(STATE))?;
                true
            }
            None => false,
        };
        if vm.disk.is_some() {
            fs::copy(from.path().join(DISK), copy.join(DISK))?;
        }
        if has_state {
            fs::write(copy.join(ORIGIN), "")?;
        }
        Ok(())
    }

    pub(super) fn receive(&self, launch: &Launch) -> Result<String, DriverError> {
        let name = &launch.name;
        let failed = |error: io::Error| no_room(name, "receiving", error);
        let Some(address) = self.settings.receive_at else {
            return Err(failed(io::Error::other(
                "this host does not receive machines; set driver.receive_at to its address in the network of the hosts",
            )));
        };
        let vm = self.checked(launch)?;
        if vm.disk.is_some() {
            return Err(DriverError::Invalid {
                name: name.clone(),
                why: "its disk is on its host, so it cannot move while it runs; stop it, copy its disk, and start it here"
                    .to_owned(),
            });
        }
        let folder = self.instances.folders.of(name);
        if self
            .instances
            .first_process(name)
            .map_err(failed)?
            .is_some()
        {
            let mut monitor = self.monitor(name, "receiving")?;
            if monitor.status().map_err(failed)? != "inmigrate" {
                return Err(failed(io::Error::other("it runs here already")));
            }
            return listens_at(&mut monitor).map_err(failed);
        }
        if folder.exists() {
            // What is left of an attempt that was interrupted.
            discard(&folder).map_err(failed)?;
        }
        self.create(launch)?;
        let peer = format!("tcp:{}", SocketAddr::new(address, 0));
        let mut up = self.spawn(launch, &vm, Begin::Peer(&peer), None)?;
        listens_at(&mut up.monitor).map_err(failed)
    }

    pub(super) fn send(&self, name: &InstanceName, to: &str) -> Result<Phase, DriverError> {
        let failed =
            |error: io::Error| DriverError::failed(format!("sending {name} to {to}"), error);
        let folder = self.instances.folders.of(name);
        let mut monitor = self.monitor(name, "sending")?;
        let is_address = to
            .strip_prefix("tcp:")
            .is_some_and(|address| address.parse::<SocketAddr>().is_ok());
        if !is_address {
            return Err(failed(io::Error::other(
                "not where a host receives machines; give tcp:ADDRESS:PORT",
            )));
        }
        // Its answers may be late, and one that is not heard would leave open what became of it.
        monitor.patience = PATIENCE;
        let status = monitor.status().map_err(failed)?;
        let was_running = status == "running" || moves(&folder);
        if status != "postmigrate" {
            if was_running && self.accelerator != Accelerator::Kvm {
                // QEMU misses what an emulated processor writes while it looks for what was written: the guest would go on
                // with an old page here and there.
                fs::write(folder.path().join(MOVES), "").map_err(failed)?;
                monitor.ask("stop", &json!({})).map_err(failed)?;
            }
            let parameters = json!({ "max-bandwidth": FASTEST, "downtime-limit": DOWNTIME });
            let moved = match monitor.ask("migrate-set-parameters", &parameters) {
                Ok(_) => migrate(&mut monitor, to),
                Err(error) => Migrated::No(error),
            };
            match moved {
                Migrated::Yes => {}
                Migrated::No(error) => {
                    if was_running {
                        // It runs on here: the other one has never run.
                        let _ = monitor.ask("cont", &json!({}));
                        let _ = forget_move(&folder);
                    }
                    return Err(failed(error));
                }
                Migrated::Unknown(error) => {
                    let why = format!(
                        "{error}; whether it has moved is not known, so it stands still here: send it again"
                    );
                    return Err(failed(io::Error::new(error.kind(), why)));
                }
            }
        }
        drop(monitor);
        let group = self.instances.group(name);
        life::quit(&folder, &group);
        group.kill().map_err(failed)?;
        let ending = Ending {
            status: None,
            reason: "moved to another host".to_owned(),
        };
        folder.set_ending(&ending).map_err(failed)?;
        self.instances.hint(name);
        Ok(Phase::of_up(was_running))
    }

    pub(super) fn received(&self, name: &InstanceName, phase: Phase) -> Result<(), DriverError> {
        let failed = |error: io::Error| DriverError::failed(format!("receiving {name}"), error);
        let mut monitor = self.monitor(name, "receiving")?;
        let end = Instant::now() + ARRIVAL;
        loop {
            match monitor.status().map_err(failed)?.as_str() {
                "paused" if phase == Phase::Running => {
                    // It stood still while it moved.
                    monitor.ask("cont", &json!({})).map_err(failed)?;
                    break;
                }
                "running" | "paused" => break,
                word if Instant::now() > end => {
                    let why = format!("not within {ARRIVAL:?}: its QEMU says {word}");
                    return Err(failed(io::Error::new(io::ErrorKind::TimedOut, why)));
                }
                _ => std::thread::sleep(LOOK),
            }
        }
        drop(monitor);
        let launch = self.instances.launch(name)?;
        self.connect(&launch)?;
        self.instances.hint(name);
        Ok(())
    }
}

/// Where a machine waits for another's state.
fn listens_at(monitor: &mut Monitor) -> io::Result<String> {
    let migration = monitor.ask("query-migrate", &json!({}))?;
    address(&migration)
        .ok_or_else(|| io::Error::other(format!("QEMU does not say where it listens: {migration}")))
}

fn address(migration: &Value) -> Option<String> {
    let first = migration["socket-address"].get(0)?;
    let host = first["host"].as_str()?.parse().ok()?;
    let port = first["port"].as_str()?.parse().ok()?;
    Some(format!("tcp:{}", SocketAddr::new(host, port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_machine_listens_is_read() {
        let answer = json!({
            "socket-address": [{ "port": "41235", "host": "10.0.0.1", "type": "inet" }],
            "status": "setup",
        });
        assert_eq!(address(&answer).as_deref(), Some("tcp:10.0.0.1:41235"));
        assert_eq!(address(&json!({ "status": "setup" })), None);
    }
}
