//! What the drivers `process` and `qemu` share: instances that have a folder (what they are made from, how they ended, what they
//! printed) and a control group each.

use std::{
    collections::{BTreeSet, HashMap},
    io,
    sync::{Arc, Mutex, PoisonError},
};

use lb_model::pool::{InstanceName, Launch};
use tokio::sync::{Mutex as AsyncMutex, broadcast};

use crate::{
    DriverError, Hint, Owned, first,
    folder::{Ending, Folder, Folders, Run},
    group::{Group, Limits, Tree},
    network::{COMPANION_SUFFIX, Connector},
    process::{boot_id, stat},
};

/// Hints that a slow reader may be behind.
pub(crate) const HINTS: usize = 1_024;

/// The instances of a driver.
#[derive(Debug)]
pub(crate) struct Instances {
    pub folders: Folders,
    pub groups: Tree,
    pub connector: Connector,
    hints: broadcast::Sender<Hint>,
    /// One call at a time for each instance.
    turns: Mutex<HashMap<InstanceName, Arc<AsyncMutex<()>>>>,
}

impl Drop for Instances {
    fn drop(&mut self) {
        // Without instances nothing of ours is left on the machine.
        self.groups.remove_if_empty();
    }
}

impl Instances {
    /// Those in these folders, of the driver of this name. It must be called in a tokio runtime.
    ///
    /// # Errors
    /// There are no control groups.
    pub fn open(driver: &str, folders: Folders, owned: &Owned) -> io::Result<Self> {
        let groups = Tree::open(driver, &owned.owner)?;
        let hints = broadcast::Sender::new(HINTS);
        Ok(Instances {
            connector: Connector::new(owned, groups.clone(), hints.clone()),
            folders,
            groups,
            hints,
            turns: Mutex::default(),
        })
    }

    /// Does blocking work on an instance, with what the driver has, when no other call works on it. If the caller goes away the
    /// work goes on, and the next call waits for it.
    pub async fn work<D: Send + Sync + 'static, T: Send + 'static>(
        &self,
        driver: &Arc<D>,
        name: &InstanceName,
        doing: &'static str,
        work: impl FnOnce(&Arc<D>, &InstanceName) -> Result<T, DriverError> + Send + 'static,
    ) -> Result<T, DriverError> {
        let turn = self.turn(name).lock_owned().await;
        let (driver, name) = (Arc::clone(driver), name.clone());
        let done = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work(&driver, &name)
        });
        done.await
            .unwrap_or_else(|error| Err(DriverError::failed(doing, error)))
    }

    /// What whoever works on an instance holds.
    pub fn turn(&self, name: &InstanceName) -> Arc<AsyncMutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that nobody waits for are forgotten.
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(turns.entry(name.clone()).or_default())
    }

    /// Hears of changes.
    pub fn watch(&self) -> broadcast::Receiver<Hint> {
        self.hints.subscribe()
    }

    /// Tells watchers that something has changed.
    pub fn hint(&self, name: &InstanceName) {
        // Nobody may listen.
        let _ = self.hints.send(Hint::Changed(name.clone()));
    }

    pub fn group(&self, name: &InstanceName) -> Group {
        self.groups.group(&name.to_string())
    }

    /// The names of all, in order.
    pub fn names(&self) -> io::Result<BTreeSet<InstanceName>> {
        // Groups first: an instance that is made meanwhile has its folder before its group.
        let mut names = BTreeSet::new();
        for group in self.groups.names()? {
            let name = group.strip_suffix(COMPANION_SUFFIX).unwrap_or(&group);
            names.extend(name.parse::<InstanceName>());
        }
        names.extend(self.folders.names()?);
        Ok(names)
    }

    /// The first process of an instance, if it lives.
    pub fn first_process(&self, name: &InstanceName) -> io::Result<Option<Run>> {
        first::find(&self.folders.of(name), &self.group(name))
    }

    /// Refuses to go on with what is `doing` if an instance does not exist, or its first process does not live.
    pub fn check_runs(&self, name: &InstanceName, doing: &str) -> Result<(), DriverError> {
        let failed = |error: io::Error| DriverError::failed(format!("{doing} {name}"), error);
        self.launch(name)?;
        match self.first_process(name).map_err(failed)? {
            Some(_) => Ok(()),
            None => Err(failed(io::Error::other("it does not run"))),
        }
    }

    /// What an instance was made from.
    pub fn launch(&self, name: &InstanceName) -> Result<Launch, DriverError> {
        let launch = self.folders.of(name).launch();
        launch
            .map_err(|error| DriverError::failed(format!("reading {name}"), error))?
            .ok_or_else(|| DriverError::NotFound(name.clone()))
    }

    /// The end of what an instance has printed, which is called `what`.
    pub fn logs(
        &self,
        name: &InstanceName,
        what: &str,
        most: usize,
    ) -> Result<Vec<u8>, DriverError> {
        let folder = self.folders.of(name);
        if !folder.exists() {
            return Err(DriverError::NotFound(name.clone()));
        }
        folder
            .log(most)
            .map_err(|error| DriverError::failed(format!("reading {what}"), error))
    }

    /// Clears away what is left of an earlier run, and makes the group of the next.
    pub fn prepare(&self, launch: &Launch) -> io::Result<()> {
        let group = self.group(&launch.name);
        group.kill()?;
        self.folders.of(&launch.name).clear_ending()?;
        group.create()?;
        group.limit(&Limits {
            cpu: launch.cpu,
            memory: launch.memory,
            processes: launch.processes,
        })
    }

    /// Notes the first process of an instance, and watches it. `complete` adds what the driver knows of how it ended.
    pub fn begun(
        self: &Arc<Self>,
        name: &InstanceName,
        pid: u32,
        complete: fn(&Folder, Ending) -> Ending,
    ) -> io::Result<()> {
        if let Some(stat) = stat(pid) {
            let run = Run {
                pid,
                started: stat.started,
                boot: boot_id(),
            };
            self.folders.of(name).set_run(&run)?;
        }
        self.watch_end(name, pid, complete);
        Ok(())
    }

    /// Watches the processes of an earlier run of the controller as if this one had started them.
    pub fn watch_all(self: &Arc<Self>, complete: fn(&Folder, Ending) -> Ending) -> io::Result<()> {
        for name in self.folders.names()? {
            if let Ok(Some(run)) = self.first_process(&name) {
                self.watch_end(&name, run.pid, complete);
            }
        }
        Ok(())
    }

    /// Notes how an instance ends, as soon as it does, and tells watchers.
    fn watch_end(
        self: &Arc<Self>,
        name: &InstanceName,
        pid: u32,
        complete: fn(&Folder, Ending) -> Ending,
    ) {
        let instances = Arc::downgrade(self);
        let name = name.clone();
        let folder = self.folders.of(&name);
        first::watch_end(self.group(&name), pid, move |ending| {
            if let Err(error) = folder.set_ending(&complete(&folder, ending)) {
                tracing::warn!("noting how {name} ended: {error}");
            }
            if let Some(instances) = instances.upgrade() {
                instances.hint(&name);
            }
        });
    }
}

/// An error of the system, which may be that it has no room.
pub(crate) fn no_room(name: &InstanceName, doing: &str, error: io::Error) -> DriverError {
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::ENOMEM | libc::ENOSPC | libc::ENFILE | libc::EMFILE) => {
            DriverError::NoRoom {
                name: name.clone(),
                why: error.to_string(),
            }
        }
        _ => DriverError::failed(format!("{doing} {name}"), error),
    }
}
