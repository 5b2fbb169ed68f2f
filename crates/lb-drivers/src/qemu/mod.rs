//! The driver `qemu`: virtual machines, each a QEMU of its own in a control group of its own.
//!
//! An instance is a folder (what it is made from, its layer of a disk, its saved state, what its console printed) and a
//! control group, as one of the driver `process` is. QEMU outlives the controller; the next run finds it by the group, its
//! number and its start, and speaks to it by the sockets in the folder.
//!
//! - [`qmp`]: the protocols of QEMU and of its guest agent;
//! - [`machine`]: QEMU's command line and what a guest is told, purely;
//! - `life.rs`: making, starting, stopping; `moving.rs`: to disk, to a copy, to another host;
//! - `states.rs`: the saved states that machines start from;
//! - `guest.rs`: what is asked of the agent in a guest.

mod guest;
mod life;
mod machine;
mod moving;
mod qmp;
mod states;

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    io::{self, ErrorKind},
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use lb_model::{
    component::Kind,
    pool::{InstanceName, Launch},
};
use tokio::sync::{Mutex as AsyncMutex, broadcast};

use self::{
    machine::{Accelerator, ENDED},
    qmp::Monitor,
    states::States,
};
use crate::{
    Capabilities, Command, Driver, DriverError, Hint, Listed, Output, Owned, Phase, first,
    folder::{Ending, Folder, Folders, Run},
    group::{Group, Tree},
    network::Connector,
};

/// The name of the kind.
pub const NAME: &str = "qemu";
/// The kind.
pub static KIND: Kind = Kind::of::<Settings>(
    NAME,
    "Runs virtual machines on the controller's machine, by QEMU.",
)
.without_port();

/// Hints that a slow reader may be behind.
const HINTS: usize = 1_024;
/// See [`Driver::list_age`]. A guest that ends itself is known at once; one that QEMU stops, with the next list.
const LIST_AGE: Duration = Duration::from_secs(5);
/// Machines that are looked at together: one whose QEMU hangs holds up no other.
const TOGETHER: usize = 16;
/// What emulates a processor where the machine's own can run guests.
const KVM: &str = "/dev/kvm";

lb_model::choice! {
    /// What runs the guests' code.
    pub enum Acceleration = Auto {
        /// The processor where it says that it can (`vmx` or `svm`) and `/dev/kvm` is there, otherwise QEMU.
        Auto = "auto",
        /// The processor.
        Kvm = "kvm",
        /// QEMU, by emulation: ten times as slow, and everywhere.
        Emulation = "emulation",
    }
}

lb_model::settings! {
    /// Settings of the driver `qemu`.
    #[derive(Eq)]
    pub struct Settings {
        /// QEMU's program.
        program: PathBuf = "/usr/bin/qemu-system-x86_64".into();
        /// QEMU's program for disk images.
        image_program: PathBuf = "/usr/bin/qemu-img".into();
        /// What runs the guests' code. A device `/dev/kvm` alone is no proof that guests run: some machines have one that
        /// starts them and never gets anywhere.
        acceleration: Acceleration = Acceleration::Auto;
        /// Address of this host at which it receives machines that move here while they run. Their memory is sent
        /// unencrypted: give one of a network that only hosts are on. Without it none can.
        receive_at: Option<IpAddr> = None;
    }
}

/// The driver `qemu`.
#[derive(Debug)]
pub struct QemuDriver(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: Settings,
    accelerator: Accelerator,
    folders: Folders,
    groups: Tree,
    connector: Connector,
    hints: broadcast::Sender<Hint>,
    /// One call at a time for each instance.
    turns: Mutex<HashMap<InstanceName, Arc<AsyncMutex<()>>>>,
    states: States,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Without instances nothing of ours is left on the machine.
        self.groups.remove_if_empty();
    }
}

impl QemuDriver {
    /// Opens the driver. It must be called in a tokio runtime.
    ///
    /// # Errors
    /// There is no QEMU, no KVM although it is asked for, or there are no control groups.
    pub fn open(settings: &Settings, owned: &Owned) -> Result<Self, DriverError> {
        let opening = |error: io::Error| DriverError::failed("opening the driver qemu", error);
        let version = version(&settings.program).map_err(opening)?;
        let accelerator = accelerator(settings.acceleration, &version).map_err(opening)?;
        let folders = Folders::open(owned.state.join(NAME)).map_err(opening)?;
        let groups = Tree::open(NAME, &owned.owner).map_err(opening)?;
        let hints = broadcast::Sender::new(HINTS);
        let connector = Connector::new(owned, groups.clone(), hints.clone());
        let states = States::open(owned.state.join("qemu-states"), &groups, version);
        let inner = Arc::new(Inner {
            settings: settings.clone(),
            accelerator,
            folders,
            groups,
            connector,
            hints,
            turns: Mutex::default(),
            states: states.map_err(opening)?,
        });
        // The machines of an earlier run are watched as if this one had started them.
        for name in inner.folders.names().map_err(opening)? {
            if let Ok(Some(run)) = inner.process(&name) {
                inner.watch_end(&name, run.pid);
            }
        }
        Ok(QemuDriver(inner))
    }

    /// Does blocking work on an instance when no other call works on it. If the caller goes away the work goes on, and the
    /// next call waits for it.
    async fn work<T: Send + 'static>(
        &self,
        name: &InstanceName,
        doing: &'static str,
        work: impl FnOnce(&Arc<Inner>) -> Result<T, DriverError> + Send + 'static,
    ) -> Result<T, DriverError> {
        let turn = self.0.turn(name).lock_owned().await;
        let inner = Arc::clone(&self.0);
        let done = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work(&inner)
        });
        done.await
            .unwrap_or_else(|error| Err(DriverError::failed(doing, error)))
    }
}

/// What QEMU says of itself.
fn version(program: &Path) -> io::Result<String> {
    let output = std::process::Command::new(program)
        .arg("--version")
        .output()
        .map_err(|error| {
            let advice = "install QEMU (Debian: qemu-system-x86), or set driver.program";
            io::Error::new(
                error.kind(),
                format!("{}: {error}; {advice}", program.display()),
            )
        })?;
    Ok(String::from_utf8_lossy(&output.stdout)
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned())
}

/// What runs the guests' code on this machine.
fn accelerator(wanted: Acceleration, version: &str) -> io::Result<Accelerator> {
    let flags = fs::read_to_string("/proc/cpuinfo")?;
    let opens = || {
        fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(KVM)
            .is_ok()
    };
    match wanted {
        Acceleration::Auto if runs_guests(&flags) && opens() => Ok(Accelerator::Kvm),
        Acceleration::Auto | Acceleration::Emulation => Ok(emulator(version)),
        Acceleration::Kvm if !runs_guests(&flags) => Err(io::Error::other(
            "this machine's processor cannot run guests (it has neither vmx nor svm); set driver.acceleration = emulation",
        )),
        Acceleration::Kvm if !opens() => Err(io::Error::other(format!(
            "{KVM} cannot be opened; load the kernel's module kvm, or set driver.acceleration = emulation"
        ))),
        Acceleration::Kvm => Ok(Accelerator::Kvm),
    }
}

/// Whether the processor with this `/proc/cpuinfo` can run guests.
fn runs_guests(cpuinfo: &str) -> bool {
    let mut flags = cpuinfo.lines().filter(|line| line.starts_with("flags"));
    flags.next().is_some_and(|line| {
        line.split_whitespace()
            .any(|flag| matches!(flag, "vmx" | "svm"))
    })
}

/// How the QEMU with this version emulates.
fn emulator(version: &str) -> Accelerator {
    let major = version
        .split_whitespace()
        .find_map(|word| word.split_once('.')?.0.parse::<u32>().ok());
    match major {
        Some(8..) => Accelerator::Threads,
        _ => Accelerator::OneThread,
    }
}

impl Inner {
    fn group(&self, name: &InstanceName) -> Group {
        self.groups.group(&name.to_string())
    }

    /// What whoever works on an instance holds.
    fn turn(&self, name: &InstanceName) -> Arc<AsyncMutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that nobody waits for are forgotten.
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(turns.entry(name.clone()).or_default())
    }

    fn hint(&self, name: &InstanceName) {
        // Nobody may listen.
        let _ = self.hints.send(Hint::Changed(name.clone()));
    }

    /// The instance's QEMU, if it lives.
    fn process(&self, name: &InstanceName) -> io::Result<Option<Run>> {
        first::find(&self.folders.of(name), &self.group(name))
    }

    fn launch(&self, name: &InstanceName) -> Result<Launch, DriverError> {
        let launch = self.folders.of(name).launch();
        launch
            .map_err(|error| DriverError::failed(format!("reading {name}"), error))?
            .ok_or_else(|| DriverError::NotFound(name.clone()))
    }

    /// Notes how an instance ends, as soon as it does, and tells watchers.
    fn watch_end(self: &Arc<Self>, name: &InstanceName, pid: u32) {
        let inner = Arc::downgrade(self);
        let name = name.clone();
        let folder = self.folders.of(&name);
        first::watch_end(self.group(&name), pid, move |ending| {
            let ending = Ending {
                status: program_status(&folder).or(ending.status),
                ..ending
            };
            if let Err(error) = folder.set_ending(&ending) {
                tracing::warn!("noting how {name} ended: {error}");
            }
            if let Some(inner) = inner.upgrade() {
                inner.hint(&name);
            }
        });
    }

    /// All instances.
    fn list(self: &Arc<Self>) -> Result<Vec<Listed>, DriverError> {
        let listing = |error: io::Error| DriverError::failed("listing virtual machines", error);
        if self.folders.make_again().map_err(listing)? {
            tracing::error!("the folder of the virtual machines was removed; it is made again");
        }
        // Groups first: an instance that is made meanwhile has its folder before its group.
        let mut names = BTreeSet::new();
        for group in self.groups.names().map_err(listing)? {
            names.extend(group.parse::<InstanceName>());
        }
        names.extend(self.folders.names().map_err(listing)?);
        let names: Vec<InstanceName> = names.into_iter().collect();
        let mut all = Vec::with_capacity(names.len());
        for some in names.chunks(TOGETHER) {
            let listed: Vec<io::Result<Listed>> = std::thread::scope(|scope| {
                let looks: Vec<_> = some
                    .iter()
                    .map(|name| scope.spawn(|| self.look(name)))
                    .collect();
                let panicked = || Err(io::Error::other("the thread that looks at it panicked"));
                looks
                    .into_iter()
                    .map(|look| look.join().unwrap_or_else(|_| panicked()))
                    .collect()
            });
            for listed in listed {
                all.push(listed.map_err(listing)?);
            }
        }
        Ok(all)
    }

    /// What an instance is doing.
    fn look(&self, name: &InstanceName) -> io::Result<Listed> {
        let folder = self.folders.of(name);
        // What nobody can read costs nothing else, and the instance can be removed.
        let launch = folder.launch().unwrap_or_default();
        if let Err(error) = folder.shorten_log() {
            tracing::warn!("shortening the console of {name}: {error}");
        }
        let is_alive = self.process(name)?.is_some();
        let (phase, mut fault) = if is_alive {
            self.running(name, &folder)
        } else {
            (self.ended(name, &folder)?, None)
        };
        if fault.is_none()
            && phase == Phase::Running
            && let Some(launch) = &launch
            && let Some(attachment) = launch.attachment()
        {
            let address = launch.endpoint.ip();
            fault = self.connector.tap_fault(name, address, attachment);
        }
        // Whoever works on it is about to mend it.
        if fault.is_some() && self.turn(name).try_lock().is_err() {
            fault = None;
        }
        Ok(Listed {
            name: name.clone(),
            phase,
            cgroup: if is_alive {
                self.group(name).path().to_owned()
            } else {
                String::new()
            },
            fault,
            labels: launch.map(|launch| launch.labels).unwrap_or_default(),
        })
    }

    /// The phase of a machine whose QEMU lives, and what is wrong with it.
    fn running(&self, name: &InstanceName, folder: &Folder) -> (Phase, Option<String>) {
        let status =
            Monitor::connect(folder.path(), machine::LOOK).and_then(|mut monitor| monitor.status());
        match status.as_deref() {
            Ok("running") => (Phase::Running, None),
            Ok(
                "paused" | "prelaunch" | "inmigrate" | "finish-migrate" | "postmigrate" | "save-vm"
                | "restore-vm" | "suspended",
            ) => (Phase::Paused, None),
            Ok(word) => {
                let fault = format!("QEMU has stopped it ({word}); reboot it");
                (Phase::Running, Some(fault))
            }
            Err(error) => {
                let fault = format!("the QEMU of {name} does not answer: {error}");
                (Phase::Running, Some(fault))
            }
        }
    }

    /// The phase of an instance without a process.
    fn ended(&self, name: &InstanceName, folder: &Folder) -> io::Result<Phase> {
        if moving::is_suspended(folder) {
            return Ok(Phase::Paused);
        }
        let is_left = self.group(name).is_populated()?;
        let ending = match folder.ending()? {
            Some(ending) => ending,
            None if folder.exists() && !folder.was_started() && !is_left => {
                return Ok(Phase::Created);
            }
            // Nobody saw how it ended, but the guest may have said it.
            None => Ending {
                status: program_status(folder),
                reason: String::new(),
            },
        };
        Ok(Phase::Ended {
            status: ending.status,
            reason: ending.reason,
        })
    }

    /// An error of the system, which may be that it has no room.
    fn no_room(&self, name: &InstanceName, doing: &str, error: io::Error) -> DriverError {
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
}

/// With which status the program in a guest has ended, as the guest has said on its second serial line.
fn program_status(folder: &Folder) -> Option<i64> {
    let text = fs::read_to_string(folder.path().join(ENDED)).ok()?;
    let status: i64 = text.trim().parse().ok()?;
    // A shell adds 128 to the number of a signal.
    Some(match status {
        129..=192 => 128 - status,
        status => status,
    })
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[async_trait]
impl Driver for QemuDriver {
    fn kind(&self) -> &'static str {
        NAME
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            pause: true,
            exec: true,
            logs: true,
            watch: true,
            bridge: true,
            limits: self.0.groups.has_limits(),
            suspend: true,
            clone: true,
            migrate: self.0.settings.receive_at.is_some(),
        }
    }

    async fn list(&self) -> Result<Vec<Listed>, DriverError> {
        let inner = Arc::clone(&self.0);
        let listed = tokio::task::spawn_blocking(move || inner.list()).await;
        listed.unwrap_or_else(|error| Err(DriverError::failed("listing virtual machines", error)))
    }

    async fn create(&self, launch: &Launch) -> Result<(), DriverError> {
        let launch = launch.clone();
        let name = launch.name.clone();
        self.work(&name, "making a virtual machine", move |inner| {
            inner.create(&launch)
        })
        .await
    }

    async fn start(&self, name: &InstanceName) -> Result<(), DriverError> {
        let own = name.clone();
        self.work(name, "starting a virtual machine", move |inner| {
            inner.start(&own)
        })
        .await
    }

    async fn stop(&self, name: &InstanceName, grace: Duration) -> Result<(), DriverError> {
        let own = name.clone();
        self.work(name, "stopping a virtual machine", move |inner| {
            inner.stop(&own, grace)
        })
        .await
    }

    async fn remove(&self, name: &InstanceName) -> Result<(), DriverError> {
        let own = name.clone();
        self.work(name, "removing a virtual machine", move |inner| {
            inner.remove(&own)
        })
        .await
    }

    async fn pause(&self, name: &InstanceName) -> Result<(), DriverError> {
        let own = name.clone();
        self.work(name, "pausing a virtual machine", move |inner| {
            inner.pause(&own)
        })
        .await
    }

    async fn resume(&self, name: &InstanceName) -> Result<(), DriverError> {
        let own = name.clone();
        self.work(name, "resuming a virtual machine", move |inner| {
            inner.resume(&own)
        })
        .await
    }

    async fn exec(&self, name: &InstanceName, command: &Command) -> Result<Output, DriverError> {
        let (inner, name, command) = (Arc::clone(&self.0), name.clone(), command.clone());
        // It may take long, and does not change the machine: nobody has to wait for it.
        let done = tokio::task::spawn_blocking(move || inner.exec(&name, &command)).await;
        done.unwrap_or_else(|error| Err(DriverError::failed("running a program in a guest", error)))
    }

    async fn logs(&self, name: &InstanceName, most: usize) -> Result<Vec<u8>, DriverError> {
        let folder = self.0.folders.of(name);
        if !folder.exists() {
            return Err(DriverError::NotFound(name.clone()));
        }
        folder
            .log(most)
            .map_err(|error| DriverError::failed(format!("reading the console of {name}"), error))
    }

    fn watch(&self) -> broadcast::Receiver<Hint> {
        self.0.hints.subscribe()
    }

    fn list_age(&self) -> Duration {
        LIST_AGE
    }

    async fn suspend(&self, name: &InstanceName) -> Result<(), DriverError> {
        let own = name.clone();
        self.work(name, "suspending a virtual machine", move |inner| {
            inner.suspend(&own)
        })
        .await
    }

    async fn clone_to(&self, from: &InstanceName, launch: &Launch) -> Result<(), DriverError> {
        let (from, launch) = (from.clone(), launch.clone());
        // Who waits for the copy has its turn first, as whoever makes instances does.
        let turn = self.0.turn(&launch.name).lock_owned().await;
        self.work(&from.clone(), "cloning a virtual machine", move |inner| {
            let _turn = turn;
            inner.clone_to(&from, &launch)
        })
        .await
    }

    async fn receive(&self, launch: &Launch) -> Result<String, DriverError> {
        let launch = launch.clone();
        let name = launch.name.clone();
        self.work(&name, "receiving a virtual machine", move |inner| {
            inner.receive(&launch)
        })
        .await
    }

    async fn send(&self, name: &InstanceName, to: &str) -> Result<(), DriverError> {
        let (own, to) = (name.clone(), to.to_owned());
        self.work(name, "sending a virtual machine", move |inner| {
            inner.send(&own, &to)
        })
        .await
    }

    async fn received(&self, name: &InstanceName) -> Result<(), DriverError> {
        let own = name.clone();
        self.work(name, "receiving a virtual machine", move |inner| {
            inner.received(&own)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_no_proof_that_guests_run() {
        let with = |flags: &str| format!("processor\t: 0\nflags\t\t: fpu {flags} sse2\n");
        assert!(runs_guests(&with("vmx")) && runs_guests(&with("svm")));
        assert!(!runs_guests(&with("vmxx hypervisor")));
        assert!(!runs_guests("processor\t: 0\nvmx flags\t: invvpid\n"));
    }

    #[test]
    fn an_old_qemu_emulates_in_one_thread() {
        let debian = "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)";
        assert_eq!(emulator(debian), Accelerator::OneThread);
        assert_eq!(
            emulator("QEMU emulator version 10.0.2 (Debian)"),
            Accelerator::Threads
        );
        assert_eq!(emulator(""), Accelerator::OneThread);
    }
}
