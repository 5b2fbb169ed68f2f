//! Making, starting, stopping and removing virtual machines.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Write as _},
    path::Path,
    process::{Child, Command as Program, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use lb_model::pool::{Boot, InstanceName, Launch, Network, Vm};
use rustix::process::{Pid, setpriority_process};
use serde_json::json;

use super::{
    Inner, guest,
    machine::{self, Accelerator, Begin, CONTROL, DISK, SEED, START},
    moving::{self, Saved},
    qmp::Monitor,
    states::State,
    with_status,
};
use crate::{
    DriverError,
    folder::{Ending, Folder},
    group::Group,
    instances::no_room,
    spawn::{self, NetworkOf, Place},
};

/// How long QEMU may take until it answers, which on a busy machine is a second or two, and to read a saved state.
const READY: Duration = Duration::from_secs(30);
/// How long a guest that was restored may take until its agent answers.
const WAKE: Duration = Duration::from_secs(20);
/// How long QEMU may take to end when it is told to, for what is to be written.
const QUIT: Duration = Duration::from_secs(5);
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(10);
/// A guest that boots does not hear the power button yet: it is pressed again.
const PRESS: Duration = Duration::from_secs(3);
/// Bytes of files that a guest gets a copy of at most.
const MOST_FILES: u64 = 1 << 20;
/// The priority of machines that are made to be saved.
const LOWEST: i32 = 19;
/// What QEMU needs beside the guest's memory, at least.
const OVERHEAD: u64 = 160 << 20;
/// Where QEMU's own words are, in the instance's folder.
pub(super) const WORDS: &str = "qemu.log";

/// A machine whose QEMU answers.
pub(super) struct Up {
    pub monitor: Monitor,
    pub child: Child,
}

/// What a machine is started with.
pub(super) struct Starting<'a> {
    pub program: &'a Path,
    pub accelerator: Accelerator,
    pub launch: &'a Launch,
    pub vm: &'a Vm,
    pub taps: &'a [String],
    /// The folder in which it works.
    pub folder: &'a Path,
    pub group: &'a Group,
}

impl Starting<'_> {
    /// Starts QEMU, and waits until it answers. `state` is what it reads on its standard input.
    pub fn start(&self, begin: Begin<'_>, state: Option<File>) -> io::Result<Up> {
        let words = File::create(self.folder.join(WORDS))?;
        let mut command = Program::new(self.program);
        command
            .args(machine::arguments(
                self.launch,
                self.vm,
                self.taps,
                self.accelerator,
                begin,
            ))
            .env_clear()
            .env("PATH", spawn::PATH)
            .current_dir(self.folder)
            .stdin(state.map_or_else(Stdio::null, Stdio::from))
            .stdout(words.try_clone()?)
            .stderr(words);
        let place = Place {
            members: self.group.members()?,
            network: NetworkOf::Own,
            user: None,
        };
        spawn::place(&mut command, place);
        let mut child = command.spawn()?;
        if begin == Begin::Idle {
            // Nobody waits for it. It is asked for before QEMU makes its threads, which inherit it.
            let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
            let _ = setpriority_process(pid, LOWEST);
        }
        let end = Instant::now() + READY;
        loop {
            if let Some(status) = child.try_wait()? {
                let why = last_words(self.folder);
                return Err(io::Error::other(format!(
                    "QEMU has ended with {status}: {why}"
                )));
            }
            match Monitor::connect(self.folder, CONTROL) {
                Ok(monitor) => return Ok(Up { monitor, child }),
                Err(error) if Instant::now() > end => {
                    let _ = self.group.kill();
                    // It was killed, so it ends.
                    let _ = child.wait();
                    return Err(error);
                }
                Err(_) => std::thread::sleep(LOOK),
            }
        }
    }
}

/// What QEMU itself has said last.
fn last_words(folder: &Path) -> String {
    let words = fs::read_to_string(folder.join(WORDS)).unwrap_or_default();
    words.trim().lines().last().unwrap_or_default().to_owned()
}

/// Waits until a machine has read its state. Its QEMU ends if it cannot.
pub(super) fn wait_restored(up: &mut Up, folder: &Path) -> io::Result<()> {
    let end = Instant::now() + READY;
    loop {
        match up.monitor.status() {
            Ok(word) if word != "inmigrate" => return Ok(()),
            Ok(_) if Instant::now() < end => {}
            Ok(_) => {
                return Err(io::Error::new(
                    ErrorKind::TimedOut,
                    format!("not within {READY:?}"),
                ));
            }
            Err(error) => {
                let why = last_words(folder);
                return Err(io::Error::other(format!("{error}: {why}")));
            }
        }
        std::thread::sleep(LOOK);
    }
}

impl Inner {
    /// The machine of a launch, and whether it can be made.
    pub(super) fn checked(&self, launch: &Launch) -> Result<Vm, DriverError> {
        let invalid = |why: String| DriverError::Invalid {
            name: launch.name.clone(),
            why,
        };
        let vm = launch.vm.clone().ok_or_else(|| {
            invalid("it has no virtual machine; give template.vm, with a kernel or a disk".into())
        })?;
        let files = [&vm.kernel, &vm.initrd, &vm.disk, &vm.user_data];
        for path in files.into_iter().flatten() {
            match fs::metadata(path) {
                Ok(metadata) if metadata.is_file() => {}
                Ok(_) => return Err(invalid(format!("{} is no file", path.display()))),
                Err(error) => return Err(invalid(format!("{}: {error}", path.display()))),
            }
        }
        if let Some(most) = launch.memory
            && most < vm.ram.0 + OVERHEAD
        {
            return Err(invalid(format!(
                "template.memory is what QEMU may take with the guest's memory: give {} MiB or more, or leave it out",
                (vm.ram.0 + OVERHEAD) >> 20
            )));
        }
        if launch.user.is_some() {
            return Err(invalid(
                "template.user is of no use to a virtual machine, whose guest has users of its own; leave it out".into(),
            ));
        }
        if let Network::Host { .. } = launch.network
            && !launch.endpoint.is_ipv4()
        {
            return Err(invalid(
                "a port of the host is forwarded to a virtual machine by IPv4 only; give network.bridge".into(),
            ));
        }
        Ok(vm)
    }

    pub(super) fn create(&self, launch: &Launch) -> Result<(), DriverError> {
        let name = &launch.name;
        if self.instances.folders.of(name).exists() {
            return Ok(());
        }
        let vm = self.checked(launch)?;
        self.instances
            .folders
            .create_with(launch, |folder| self.fill(launch, &vm, folder))
            .map_err(|error| no_room(name, "making", error))
    }

    /// Puts what a machine needs into its folder.
    pub(super) fn fill(&self, launch: &Launch, vm: &Vm, folder: &Path) -> io::Result<()> {
        if vm.has_seed() {
            let seed = folder.join(SEED);
            fs::create_dir(&seed)?;
            for (file, text) in machine::seed(launch) {
                fs::write(seed.join(file), text)?;
            }
            match &vm.user_data {
                Some(path) => fs::copy(path, seed.join("user-data")).map(drop)?,
                None => fs::write(seed.join("user-data"), "#cloud-config\n{}\n")?,
            }
        }
        let Some(disk) = &vm.disk else {
            return Ok(());
        };
        let mut command = Program::new(&self.settings.image_program);
        command
            .args([
                "create",
                "-q",
                "-f",
                "qcow2",
                "-F",
                vm.disk_format.name(),
                "-b",
            ])
            .arg(disk)
            .arg(DISK)
            .current_dir(folder);
        let output = command.output().map_err(|error| {
            let program = self.settings.image_program.display();
            let advice = "install qemu-utils, or set driver.image_program";
            io::Error::new(error.kind(), format!("{program}: {error}; {advice}"))
        })?;
        if output.status.success() {
            return Ok(());
        }
        let why = String::from_utf8_lossy(&output.stderr);
        Err(io::Error::other(format!(
            "making a layer above {}: {}",
            disk.display(),
            why.trim()
        )))
    }

    /// Writes down what the guest is told when it starts: with it, it gets a copy of the files in its volume.
    fn tell(&self, launch: &Launch, folder: &Path) -> io::Result<()> {
        let mut files = Vec::new();
        if let Some((source, target)) = &launch.volume {
            fs::create_dir_all(source)?;
            let mut room = MOST_FILES;
            for entry in fs::read_dir(source)? {
                let entry = entry?;
                let length = entry.metadata()?.len();
                if !entry.file_type()?.is_file() {
                    continue;
                }
                room = room.checked_sub(length).ok_or_else(|| {
                    io::Error::other(format!(
                        "{} has more than {} KiB of files, which is what a virtual machine gets a copy of",
                        source.display(),
                        MOST_FILES >> 10
                    ))
                })?;
                let path = target.join(entry.file_name());
                files.push((path.to_string_lossy().into_owned(), fs::read(entry.path())?));
            }
        }
        let mut file = create_private(&folder.join(START))?;
        file.write_all(machine::start_script(launch, &files).as_bytes())
    }

    /// The interfaces by which a machine is connected; none if a port of the host is forwarded to it.
    fn taps(&self, launch: &Launch) -> Vec<String> {
        let Some(attachment) = launch.attachment() else {
            return Vec::new();
        };
        let address = launch.endpoint.ip();
        self.instances
            .connector
            .taps(&launch.name, address, attachment)
    }

    /// Connects a machine that runs, if it is not.
    pub(super) fn connect(&self, launch: &Launch) -> Result<(), DriverError> {
        match launch.attachment() {
            Some(attachment) => {
                let address = launch.endpoint.ip();
                self.instances
                    .connector
                    .connect_taps(&launch.name, address, attachment)
            }
            None => Ok(()),
        }
    }

    pub(super) fn start(self: &Arc<Self>, name: &InstanceName) -> Result<(), DriverError> {
        let launch = self.instances.launch(name)?;
        let starting = |error: io::Error| no_room(name, "starting", error);
        let folder = self.instances.folders.of(name);
        if self
            .instances
            .first_process(name)
            .map_err(starting)?
            .is_some()
        {
            let mut monitor = Monitor::connect(folder.path(), CONTROL).map_err(starting)?;
            let status = monitor.status().map_err(starting)?;
            let is_half = moving::is_suspended(&folder) || moving::is_anothers(&folder);
            match status.as_str() {
                // Whoever was restoring or suspending it was killed meanwhile.
                "inmigrate" | "postmigrate" if is_half => {}
                _ => {
                    self.wake(&folder, &mut monitor).map_err(starting)?;
                    return self.connect(&launch);
                }
            }
        }
        if moving::is_suspended(&folder) {
            return self.restore(&launch, Saved::Suspended);
        }
        let vm = self.checked(&launch)?;
        if vm.boot == Boot::Saved {
            match self.states.of(self, &launch, &vm) {
                State::Ready(path) => match self.restore(&launch, Saved::Booted(&path)) {
                    Ok(()) => return Ok(()),
                    Err(error) => {
                        tracing::warn!(
                            "{error}; its kernel boots instead, and the state is made again"
                        );
                        self.states.forget(&path);
                    }
                },
                State::Making => {}
            }
        }
        moving::forget_origin(&folder).map_err(starting)?;
        self.spawn(&launch, &vm, Begin::Boot, None).map(drop)
    }

    /// Tells a machine that goes on in another's state, and was not told yet, who it is.
    fn wake(&self, folder: &Folder, monitor: &mut Monitor) -> io::Result<()> {
        if !moving::is_anothers(folder) {
            return Ok(());
        }
        monitor.ask("cont", &json!({}))?;
        guest::wake(folder.path(), WAKE)?;
        moving::forget_origin(folder)
    }

    /// Starts an instance's QEMU anew, and connects it, unless it goes on as somebody else: then it is told who it is first.
    pub(super) fn spawn(
        &self,
        launch: &Launch,
        vm: &Vm,
        begin: Begin<'_>,
        state: Option<File>,
    ) -> Result<Up, DriverError> {
        let name = &launch.name;
        let starting = |error: io::Error| no_room(name, "starting", error);
        let (folder, group) = (self.instances.folders.of(name), self.instances.group(name));
        self.instances.prepare(launch).map_err(starting)?;
        self.tell(launch, folder.path()).map_err(starting)?;
        // The console goes on; QEMU makes the file only if it is not there.
        folder.open_log().map_err(starting)?;
        let taps = self.taps(launch);
        let up = Starting {
            program: &self.settings.program,
            accelerator: self.accelerator,
            launch,
            vm,
            taps: &taps,
            folder: folder.path(),
            group: &group,
        }
        .start(begin, state)
        .map_err(starting)?;
        let begun = self.instances.begun(name, up.child.id(), with_status);
        begun.map_err(starting)?;
        if !moving::is_anothers(&folder) {
            self.connect(launch)?;
        }
        self.instances.hint(name);
        Ok(up)
    }

    /// Starts a machine from a state, and tells its guest what has changed since.
    pub(super) fn restore(&self, launch: &Launch, saved: Saved<'_>) -> Result<(), DriverError> {
        let name = &launch.name;
        let vm = self.checked(launch)?;
        let folder = self.instances.folders.of(name);
        let restoring = |error: io::Error| no_room(name, "restoring", error);
        let state = File::open(saved.path(&folder)).map_err(restoring)?;
        saved.prepare(&folder).map_err(restoring)?;
        let mut up = self.spawn(launch, &vm, Begin::File(0), Some(state))?;
        let go_on = |up: &mut Up| -> io::Result<()> {
            wait_restored(up, folder.path())?;
            // From here on it is no longer what it was when it was saved.
            saved.take(&folder)?;
            up.monitor.ask("cont", &json!({}))?;
            self.wake(&folder, &mut up.monitor)
        };
        go_on(&mut up).map_err(|error| {
            // Half awake it would have another's address.
            let _ = self.instances.group(name).kill();
            restoring(error)
        })?;
        self.connect(launch)?;
        guest::set_clock(folder.path().to_owned());
        self.instances.hint(name);
        Ok(())
    }

    pub(super) fn stop(&self, name: &InstanceName, grace: Duration) -> Result<(), DriverError> {
        let (folder, group) = (self.instances.folders.of(name), self.instances.group(name));
        let stopping = |error: io::Error| DriverError::failed(format!("stopping {name}"), error);
        if !folder.exists() && !group.is_populated().map_err(stopping)? {
            return Err(DriverError::NotFound(name.clone()));
        }
        if self
            .instances
            .first_process(name)
            .map_err(stopping)?
            .is_some()
        {
            if !grace.is_zero()
                && let Err(error) = press_power(&folder, &group, grace)
            {
                tracing::warn!("{name} is ended by force: {error}");
            }
            quit(&folder, &group);
        }
        group.kill().map_err(stopping)?;
        if moving::is_suspended(&folder) {
            moving::discard(&folder).map_err(stopping)?;
            let ending = Ending {
                status: None,
                reason: "stopped while it was suspended".to_owned(),
            };
            folder.set_ending(&ending).map_err(stopping)?;
        }
        self.instances.hint(name);
        Ok(())
    }

    pub(super) fn remove(&self, name: &InstanceName) -> Result<(), DriverError> {
        let removing = |error: io::Error| DriverError::failed(format!("removing {name}"), error);
        let group = self.instances.group(name);
        group.kill().map_err(removing)?;
        group.remove().map_err(removing)?;
        self.instances.folders.remove(name).map_err(removing)?;
        self.instances.hint(name);
        Ok(())
    }

    /// The monitor of a machine that runs.
    pub(super) fn monitor(&self, name: &InstanceName, doing: &str) -> Result<Monitor, DriverError> {
        self.instances.check_runs(name, doing)?;
        Monitor::connect(self.instances.folders.of(name).path(), CONTROL)
            .map_err(|error| DriverError::failed(format!("{doing} {name}"), error))
    }

    pub(super) fn pause(&self, name: &InstanceName) -> Result<(), DriverError> {
        self.instances.launch(name)?;
        let folder = self.instances.folders.of(name);
        let failed = |error: io::Error| DriverError::failed(format!("pausing {name}"), error);
        if self
            .instances
            .first_process(name)
            .map_err(failed)?
            .is_none()
            && moving::is_suspended(&folder)
        {
            return Ok(());
        }
        let mut monitor = self.monitor(name, "pausing")?;
        monitor.ask("stop", &json!({})).map_err(failed)?;
        moving::forget_move(&folder).map_err(failed)?;
        self.instances.hint(name);
        Ok(())
    }

    pub(super) fn resume(&self, name: &InstanceName) -> Result<(), DriverError> {
        let launch = self.instances.launch(name)?;
        let failed = |error: io::Error| DriverError::failed(format!("resuming {name}"), error);
        let folder = self.instances.folders.of(name);
        if moving::is_suspended(&folder) {
            // A QEMU that lives was saving it, or reading it, when the controller was killed.
            return self.restore(&launch, Saved::Suspended);
        }
        let mut monitor = self.monitor(name, "resuming")?;
        if moving::moves(&folder) && monitor.status().map_err(failed)? == "postmigrate" {
            return Err(failed(io::Error::other(
                "it has moved to another host, where it may run; send it again, or remove it here",
            )));
        }
        self.wake(&folder, &mut monitor).map_err(failed)?;
        self.connect(&launch)?;
        monitor.ask("cont", &json!({})).map_err(failed)?;
        moving::forget_move(&folder).map_err(failed)?;
        self.instances.hint(name);
        Ok(())
    }
}

/// Presses the power button until the machine has ended, or the grace period has.
fn press_power(folder: &Folder, group: &Group, grace: Duration) -> io::Result<()> {
    let end = Instant::now() + grace;
    let mut monitor = Monitor::connect(folder.path(), CONTROL)?;
    if monitor.status()? != "running" {
        monitor.ask("cont", &json!({}))?;
    }
    while Instant::now() < end {
        // One that has ended meanwhile does not answer.
        let pressed = monitor.ask("system_powerdown", &json!({}));
        if pressed.is_err() && !group.is_populated()? {
            return Ok(());
        }
        pressed?;
        let again = (Instant::now() + PRESS).min(end);
        while Instant::now() < again {
            if !group.is_populated()? {
                return Ok(());
            }
            std::thread::sleep(LOOK);
        }
    }
    Ok(())
}

/// Ends a QEMU that lives in its own way, so that what it has of a disk is written; whoever calls this kills what is left.
pub(super) fn quit(folder: &Folder, group: &Group) {
    let asked = Monitor::connect(folder.path(), CONTROL)
        .and_then(|mut monitor| monitor.ask("quit", &json!({})));
    if asked.is_err() {
        return;
    }
    let end = Instant::now() + QUIT;
    while Instant::now() < end && group.is_populated().unwrap_or_default() {
        std::thread::sleep(LOOK);
    }
}

/// Opens a file that only its owner may read, as one with a guest's memory is to be.
pub(super) fn create_private(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;

    OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(path)
}
