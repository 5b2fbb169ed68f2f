//! The driver `qemu`: virtual machines, each a QEMU of its own in a control group of its own.
//!
//! An instance is a folder (what it is made from, its layer of a disk, its saved state, what its console printed) and a
//! control group, as one of the driver `process` is. QEMU outlives the controller; the next run finds it by the group, its
//! number and its start, and speaks to it by the sockets in the folder.
//!
//! - `qmp.rs`: the protocols of QEMU and of its guest agent;
//! - `machine.rs`: QEMU's command line and what a guest is told, purely;
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
    fs,
    io::{self, ErrorKind},
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use lb_model::{
    component::Kind,
    pool::{InstanceName, Launch},
};
use tokio::sync::broadcast;

use self::{
    machine::{Accelerator, ENDED},
    qmp::Monitor,
    states::States,
};
use crate::{
    Capabilities, Command, Driver, DriverError, Hint, Listed, Output, Owned, Phase,
    folder::{Ending, Folder, Folders},
    instances::Instances,
};

/// The name of the kind.
pub const NAME: &str = "qemu";
/// The kind.
pub static KIND: Kind = Kind::of::<Settings>(
    NAME,
    "Runs virtual machines on the controller's machine, by QEMU.",
)
.without_port();

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
    instances: Arc<Instances>,
    states: States,
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
        let instances = Arc::new(Instances::open(NAME, folders, owned).map_err(opening)?);
        let states = States::open(owned.state.join("qemu-states"), &instances.groups, version);
        let states = states.map_err(opening)?;
        instances.watch_all(with_status).map_err(opening)?;
        let inner = Arc::new(Inner {
            settings: Settings {
                receive_at: owned.receive_at.or(settings.receive_at),
                ..settings.clone()
            },
            accelerator,
            instances,
            states,
        });
        Ok(QemuDriver(inner))
    }

    async fn work<T: Send + 'static>(
        &self,
        name: &InstanceName,
        doing: &'static str,
        work: impl FnOnce(&Arc<Inner>, &InstanceName) -> Result<T, DriverError> + Send + 'static,
    ) -> Result<T, DriverError> {
        self.0.instances.work(&self.0, name, doing, work).await
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
    /// All instances.
    fn list(&self) -> Result<Vec<Listed>, DriverError> {
        let listing = |error: io::Error| DriverError::failed("listing virtual machines", error);
        if self.instances.folders.make_again().map_err(listing)? {
            tracing::error!("the folder of the virtual machines was removed; it is made again");
        }
        let names: Vec<InstanceName> = self
            .instances
            .names()
            .map_err(listing)?
            .into_iter()
            .collect();
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
        let folder = self.instances.folders.of(name);
        // What nobody can read costs nothing else, and the instance can be removed.
        let launch = folder.launch().unwrap_or_default();
        if let Err(error) = folder.shorten_log() {
            tracing::warn!("shortening the console of {name}: {error}");
        }
        let mut is_alive = self.instances.first_process(name)?.is_some();
        let (mut phase, mut fault) = if is_alive {
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
            fault = self
                .instances
                .connector
                .tap_fault(name, address, attachment);
        }
        if fault.is_some() && self.instances.first_process(name)?.is_none() {
            // What has ended meanwhile has no network, which is no fault of what runs: it would be started again.
            is_alive = false;
            (phase, fault) = (self.ended(name, &folder)?, None);
        }
        // Whoever works on it is about to mend it.
        if fault.is_some() && self.instances.turn(name).try_lock().is_err() {
            fault = None;
        }
        Ok(Listed {
            name: name.clone(),
            phase,
            cgroup: if is_alive {
                self.instances.group(name).path().to_owned()
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
        let is_left = self.instances.group(name).is_populated()?;
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

/// The end of a program in a guest is what the guest says of it.
fn with_status(folder: &Folder, ending: Ending) -> Ending {
    Ending {
        status: program_status(folder).or(ending.status),
        ..ending
    }
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
            limits: self.0.instances.groups.has_limits(),
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
        let own = launch.clone();
        self.work(&launch.name, "making a virtual machine", move |inner, _| {
            inner.create(&own)
        })
        .await
    }

    async fn start(&self, name: &InstanceName) -> Result<(), DriverError> {
        self.work(name, "starting a virtual machine", move |inner, name| {
            inner.start(name)
        })
        .await
    }

    async fn stop(&self, name: &InstanceName, grace: Duration) -> Result<(), DriverError> {
        self.work(name, "stopping a virtual machine", move |inner, name| {
            inner.stop(name, grace)
        })
        .await
    }

    async fn remove(&self, name: &InstanceName) -> Result<(), DriverError> {
        self.work(name, "removing a virtual machine", move |inner, name| {
            inner.remove(name)
        })
        .await
    }

    async fn pause(&self, name: &InstanceName) -> Result<(), DriverError> {
        self.work(name, "pausing a virtual machine", move |inner, name| {
            inner.pause(name)
        })
        .await
    }

    async fn resume(&self, name: &InstanceName) -> Result<(), DriverError> {
        self.work(name, "resuming a virtual machine", move |inner, name| {
            inner.resume(name)
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
        let what = format!("the console of {name}");
        self.0.instances.logs(name, &what, most)
    }

    fn watch(&self) -> broadcast::Receiver<Hint> {
        self.0.instances.watch()
    }

    fn list_age(&self) -> Duration {
        LIST_AGE
    }

    async fn suspend(&self, name: &InstanceName) -> Result<(), DriverError> {
        self.work(name, "suspending a virtual machine", move |inner, name| {
            inner.suspend(name)
        })
        .await
    }

    async fn clone_to(&self, from: &InstanceName, launch: &Launch) -> Result<(), DriverError> {
        let launch = launch.clone();
        // Who waits for the copy has its turn first, as whoever makes instances does.
        let turn = self.0.instances.turn(&launch.name).lock_owned().await;
        self.work(from, "cloning a virtual machine", move |inner, from| {
            let _turn = turn;
            inner.clone_to(from, &launch)
        })
        .await
    }

    async fn receive(&self, launch: &Launch) -> Result<String, DriverError> {
        let own = launch.clone();
        self.work(
            &launch.name,
            "receiving a virtual machine",
            move |inner, _| inner.receive(&own),
        )
        .await
    }

    async fn send(&self, name: &InstanceName, to: &str) -> Result<Phase, DriverError> {
        let to = to.to_owned();
        self.work(name, "sending a virtual machine", move |inner, name| {
            inner.send(name, &to)
        })
        .await
    }

    async fn received(&self, name: &InstanceName, phase: Phase) -> Result<(), DriverError> {
        self.work(name, "receiving a virtual machine", move |inner, name| {
            inner.received(name, phase)
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
