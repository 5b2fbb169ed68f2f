//! Saved states that machines start from: a machine boots once, waits for what it is to run, and is saved. Each instance with
//! the same virtual machine goes on from there, which takes a tenth of the time of a boot.
//!
//! A state belongs to the files and settings that made it, and to this QEMU: its folder is named by a hash of them. It is
//! made beside the first instance, which boots as if there were none.

use std::{
    collections::HashSet,
    fs, io,
    net::SocketAddr,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant, SystemTime},
};

use lb_model::{
    pool::{Launch, Vm},
    settings::Settings as _,
};
use serde_json::json;

use super::{
    Inner, ignore_missing,
    life::Starting,
    machine::{AGENT, Begin},
    moving,
    qmp::Agent,
};
use crate::{group::Tree, network::fnv};

/// How long a machine may take to boot until its agent answers.
const BOOT: Duration = Duration::from_secs(120);
/// A machine that has just booted still has things to do, which each copy of it would do again.
const SETTLE: Duration = Duration::from_millis(500);
/// States that no machine was started from for so long are removed.
const OLD: Duration = Duration::from_secs(7 * 24 * 3_600);
/// The name of a state in its folder, and of the groups of machines that are to be saved.
const STATE: &str = "state";
const GROUP: &str = "state.";
/// Begins the name of the folder of one that is being made.
const NEW: &str = "new-";
/// How long QEMU may take to end, and a pause between two looks.
const QUIT: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(10);

/// A state, as far as it is.
pub(super) enum State {
    /// In this file.
    Ready(PathBuf),
    /// It is being made, or cannot be made.
    Making,
}

/// The states of a driver.
#[derive(Debug)]
pub(super) struct States {
    folder: PathBuf,
    version: String,
    /// Those that are being made, or could not be used.
    busy: Mutex<HashSet<String>>,
}

impl States {
    /// Opens the folder of the states, and ends what a killed process was making.
    pub fn open(folder: PathBuf, groups: &Tree, version: String) -> io::Result<Self> {
        for name in groups.names()? {
            if name.starts_with(GROUP) {
                let group = groups.group(&name);
                group.kill()?;
                group.remove()?;
            }
        }
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries.collect::<io::Result<Vec<_>>>()?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let used = fs::metadata(entry.path().join(STATE)).and_then(|state| state.accessed());
            let is_old = |at: SystemTime| at.elapsed().is_ok_and(|age| age > OLD);
            let is_new = entry.file_name().to_string_lossy().starts_with(NEW);
            if is_new || used.map_or(true, is_old) {
                fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(States {
            folder,
            version,
            busy: Mutex::default(),
        })
    }

    fn busy(&self) -> MutexGuard<'_, HashSet<String>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state for a machine; one that is not there is made from now on, by a thread of its own.
    pub fn of(&self, inner: &Arc<Inner>, launch: &Launch, vm: &Vm) -> State {
        let Ok(key) = self.key(launch, vm, inner) else {
            // A file is gone: whoever starts the machine will say so.
            return State::Making;
        };
        let path = self.folder.join(&key).join(STATE);
        let mut busy = self.busy();
        if busy.contains(&key) {
            return State::Making;
        }
        if path.exists() {
            return State::Ready(path);
        }
        busy.insert(key.clone());
        drop(busy);
        let (inner, launch, vm) = (Arc::downgrade(inner), launch.clone(), vm.clone());
        std::thread::spawn(move || keep(&inner, &key, &launch, &vm));
        State::Making
    }

    /// Removes a state that cannot be used. It is not made again by this run of the controller.
    pub fn forget(&self, path: &Path) {
        let Some(folder) = path.parent() else {
            return;
        };
        let name = folder.file_name().unwrap_or_default();
        self.busy().insert(name.to_string_lossy().into_owned());
        if let Err(error) = fs::remove_dir_all(folder) {
            tracing::warn!("removing the saved state {}: {error}", folder.display());
        }
    }

    /// What a state belongs to, as a hash.
    fn key(&self, launch: &Launch, vm: &Vm, inner: &Inner) -> io::Result<String> {
        let mut text = format!(
            "{} {:?} {:?} {:?}",
            self.version,
            inner.accelerator,
            vm.to_map(),
            launch.attachment().map(|attachment| attachment.legs.len())
        );
        for path in [&vm.kernel, &vm.initrd].into_iter().flatten() {
            let file = fs::metadata(path)?;
            text.push_str(&format!(
                " {} {} {} {}",
                file.ino(),
                file.len(),
                file.mtime(),
                file.mtime_nsec()
            ));
        }
        Ok(format!("{:016x}", fnv(&text)))
    }
}

/// Makes a state, and says what became of it.
fn keep(inner: &Weak<Inner>, key: &str, launch: &Launch, vm: &Vm) {
    let Some(inner) = inner.upgrade() else {
        return;
    };
    let begin = Instant::now();
    match make(&inner, key, launch, vm) {
        Ok(()) => {
            tracing::info!(
                "machines like {} start from a saved state from now on; it was made in {:.1} s",
                launch.name,
                begin.elapsed().as_secs_f64()
            );
            inner.states.busy().remove(key);
        }
        // It stays busy: the next run of the controller tries again.
        Err(error) => tracing::warn!(
            "machines like {} have no saved state to start from, so their kernels boot: {error}",
            launch.name
        ),
    }
}

fn make(inner: &Inner, key: &str, launch: &Launch, vm: &Vm) -> io::Result<()> {
    // The port is the instance's.
    let launch = &Launch {
        endpoint: SocketAddr::new(launch.endpoint.ip(), 0),
        ..launch.clone()
    };
    let states = &inner.states;
    let name = format!("{GROUP}{key}");
    let group = inner.instances.groups.group(&name);
    let folder = states.folder.join(format!("{NEW}{key}"));
    ignore_missing(fs::remove_dir_all(&folder))?;
    fs::create_dir_all(&folder)?;
    group.kill()?;
    group.create()?;
    // QEMU takes a state only with interfaces of the same kind. These are on no bridge.
    let cards = launch
        .attachment()
        .map_or(0, |attachment| 1 + attachment.legs.len());
    let short = &key[..key.len().min(12)];
    let taps: Vec<String> = (0..cards).map(|at| format!("l{at}{short}")).collect();
    let made = || -> io::Result<()> {
        let mut up = Starting {
            program: &inner.settings.program,
            accelerator: inner.accelerator,
            launch,
            vm,
            taps: &taps,
            folder: &folder,
            group: &group,
        }
        .start(Begin::Idle, None)?;
        let saved = Agent::connect(&folder, AGENT, BOOT)
            .map_err(|error| {
                io::Error::other(format!("its guest's agent does not answer: {error}"))
            })
            .and_then(|agent| {
                drop(agent);
                std::thread::sleep(SETTLE);
                moving::save(&mut up.monitor, &folder.join(STATE))?;
                up.monitor.ask("quit", &json!({})).map(drop)
            });
        let end = Instant::now() + QUIT;
        while saved.is_ok() && Instant::now() < end && up.child.try_wait()?.is_none() {
            std::thread::sleep(LOOK);
        }
        group.kill()?;
        // It has ended, or was killed.
        let _ = up.child.wait();
        saved
    };
    let made = made();
    let cleared = group.kill().and_then(|()| group.remove());
    if made.is_err() {
        let _ = fs::remove_dir_all(&folder);
    }
    made.and(cleared)?;
    fs::rename(&folder, states.folder.join(key))
}
