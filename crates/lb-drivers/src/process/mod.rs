//! The driver `process`: programs of this machine, each in a session and a control group of its own.
//!
//! An instance is a folder (what it is made from, its first process, its output) and a control group. It outlives the
//! controller; the next one finds it by its group, and its first process by number and start time. The kernel's groups tell
//! what runs: a process is put into its group before its program begins, and a group is killed at once.

mod stat;

use std::{
    collections::{BTreeSet, HashMap},
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind},
    os::unix::{fs::PermissionsExt as _, process::ExitStatusExt as _},
    path::Path,
    process::{Child, Command as Program, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use lb_model::{
    component::Kind,
    pool::{InstanceName, Launch},
};
use nix::{
    fcntl::{Flock, FlockArg},
    sys::signal::{self, Signal},
    unistd::{Gid, Pid, Uid, chown},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    sync::broadcast,
};

pub(crate) use self::stat::{boot_id, stat};
use crate::{
    Capabilities, Command, Driver, DriverError, Hint, Listed, MAX_OUTPUT, Output, Owned, Phase,
    folder::{Ending, Folder, Folders},
    group::Group,
    instances::{Instances, no_room},
    spawn::{self, NetworkOf, Place},
};

/// The name of the kind.
pub const NAME: &str = "process";
/// The kind.
pub static KIND: Kind = Kind::of::<Settings>(
    NAME,
    "Runs programs of the controller's machine, each in a session and a control group of its own.",
)
.without_port();

/// See [`Driver::list_age`].
const LIST_AGE: Duration = Duration::from_secs(5);
/// Pause between two looks at an instance that is to end.
const LOOK: Duration = Duration::from_millis(10);
/// How long a lock that another process has is waited for.
const LOCK: Duration = Duration::from_secs(3);
/// Tells a process where its data is.
const VOLUME: &str = "LB_VOLUME";

lb_model::settings! {
    /// Settings of the driver `process`.
    #[derive(Eq, Default)]
    pub struct Settings {}
}

/// The driver `process`.
#[derive(Debug)]
pub struct ProcessDriver(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    instances: Arc<Instances>,
    /// What instances were made from, which does not change while they exist.
    launches: Mutex<HashMap<InstanceName, Arc<Launch>>>,
    /// Instances that run and of which nobody knows what they were made from.
    unknown: Mutex<BTreeSet<InstanceName>>,
    /// No other controller of this owner works on this machine. `None` if the lock is gone with the driver's folder.
    lock: Mutex<Option<Flock<File>>>,
}

impl ProcessDriver {
    /// Opens the driver. It must be called in a tokio runtime.
    ///
    /// # Errors
    /// Another process has it open, or there are no control groups.
    pub fn open(_: &Settings, owned: &Owned) -> Result<Self, DriverError> {
        let opening = |error: io::Error| DriverError::failed("opening the driver process", error);
        let folders = Folders::open(owned.state.join(NAME)).map_err(opening)?;
        let lock = lock(&folders).map_err(opening)?;
        let instances = Arc::new(Instances::open(NAME, folders, owned).map_err(opening)?);
        instances.watch_all(as_seen).map_err(opening)?;
        let inner = Arc::new(Inner {
            instances,
            launches: Mutex::default(),
            unknown: Mutex::default(),
            lock: Mutex::new(Some(lock)),
        });
        Ok(ProcessDriver(inner))
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

/// Nothing is known of how a process ended but what was seen.
fn as_seen(_: &Folder, ending: Ending) -> Ending {
    ending
}

impl Inner {
    fn phase(&self, name: &InstanceName) -> io::Result<Phase> {
        if self.instances.first_process(name)?.is_some() {
            return Ok(if self.instances.group(name).is_frozen()? {
                Phase::Paused
            } else {
                Phase::Running
            });
        }
        let folder = self.instances.folders.of(name);
        let ending = match (folder.ending()?, folder.run()?) {
            (Some(ending), _) => ending,
            // Nobody saw how it ended.
            (None, Some(_)) => Ending::default(),
            (None, None)
                if folder.exists()
                    && !folder.was_started()
                    && !self.instances.group(name).is_populated()? =>
            {
                return Ok(Phase::Created);
            }
            (None, None) => Ending::default(),
        };
        let left = self.instances.group(name).is_populated()?;
        let reason = match (ending.reason.as_str(), left) {
            ("", true) => "processes that it started are left".to_owned(),
            (reason, _) => reason.to_owned(),
        };
        Ok(Phase::Ended {
            status: ending.status,
            reason,
        })
    }

    fn list(&self) -> Result<Vec<Listed>, DriverError> {
        let listing = |error: io::Error| DriverError::failed("listing processes", error);
        self.keep_folder().map_err(listing)?;
        let names = self.instances.names().map_err(listing)?;
        let mut launches = std::mem::take(&mut *self.launches());
        launches.retain(|name, _| names.contains(name));
        let mut listed = Vec::with_capacity(names.len());
        for name in names {
            let mut phase = self.phase(&name).map_err(listing)?;
            let folder = self.instances.folders.of(&name);
            let known = launches.get(&name).cloned();
            let launch = self.made_from(&name, known, phase.is_up());
            if let Some(launch) = &launch {
                launches.insert(name.clone(), Arc::clone(launch));
            }
            if let Err(error) = folder.shorten_log() {
                tracing::warn!("shortening the output of {name}: {error}");
            }
            let attached = launch
                .as_ref()
                .and_then(|launch| Some((launch.endpoint.ip(), launch.attachment()?)));
            let mut fault = attached
                .filter(|_| phase.is_up())
                .and_then(|(address, attachment)| {
                    self.instances
                        .connector
                        .fault(&name, address, attachment, folder.path())
                });
            if fault.is_some() {
                // What has ended meanwhile has no network, which is no fault of what runs: it would be started again.
                phase = self.phase(&name).map_err(listing)?;
                fault = fault.filter(|_| phase.is_up());
            }
            listed.push(Listed {
                fault,
                cgroup: if phase.is_up() {
                    self.instances.group(&name).path().to_owned()
                } else {
                    String::new()
                },
                labels: launch
                    .map(|launch| launch.labels.clone())
                    .unwrap_or_default(),
                name,
                phase,
            });
        }
        // Instances may have been made meanwhile.
        self.launches().extend(launches);
        Ok(listed)
    }

    /// Makes the driver's folder and its lock again if somebody removed them. The folders of the instances that run follow.
    fn keep_folder(&self) -> io::Result<()> {
        let mut held = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.instances.folders.lock_path();
        if held.is_some() && path.exists() {
            return Ok(());
        }
        if self.instances.folders.make_again()? {
            tracing::error!(
                "the folder of {} was removed; it is made again",
                path.display()
            );
        }
        *held = None;
        *held = Some(lock(&self.instances.folders)?);
        Ok(())
    }

    /// What an instance was made from, if it is known. A note that somebody removed or damaged is written again while the
    /// instance runs.
    fn made_from(
        &self,
        name: &InstanceName,
        known: Option<Arc<Launch>>,
        is_up: bool,
    ) -> Option<Arc<Launch>> {
        let folder = self.instances.folders.of(name);
        let found = match known {
            Some(launch) if is_up && !folder.is_of(&launch) => {
                self.note_again(name, &launch);
                Ok(Some(launch))
            }
            Some(launch) if folder.exists() => Ok(Some(launch)),
            _ => folder.launch().map(|launch| launch.map(Arc::new)),
        };
        let is_unknown = is_up && !matches!(found, Ok(Some(_)));
        let mut unknown = self.unknown.lock().unwrap_or_else(PoisonError::into_inner);
        if is_unknown && unknown.insert(name.clone()) {
            let why = match &found {
                Err(error) => error.to_string(),
                Ok(_) => format!("{} has no note of it", folder.path().display()),
            };
            tracing::error!(
                "{name} runs on, and nobody knows what it was made from, so its network is not looked after \
                 until it is replaced: {why}"
            );
        }
        if !is_unknown {
            unknown.remove(name);
        }
        found.unwrap_or_default()
    }

    /// Notes again what a running instance was made from, and its first process, unless somebody works on it.
    fn note_again(&self, name: &InstanceName, launch: &Launch) {
        let Ok(_turn) = self.instances.turn(name).try_lock_owned() else {
            return;
        };
        let again = || -> io::Result<bool> {
            // It may have been removed since it was listed.
            if !self.instances.group(name).is_populated()? {
                return Ok(false);
            }
            self.instances.folders.create(launch)?;
            self.instances.folders.of(name).set_launch(launch)?;
            self.instances.first_process(name)?;
            Ok(true)
        };
        match again() {
            Ok(true) => tracing::error!(
                "what {name} was made from was removed or damaged in {}; it is written again",
                self.instances.folders.of(name).path().display()
            ),
            Ok(false) => {}
            Err(error) => tracing::error!("writing again what {name} was made from: {error}"),
        }
    }

    fn launches(&self) -> MutexGuard<'_, HashMap<InstanceName, Arc<Launch>>> {
        self.launches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn create(&self, launch: &Launch) -> Result<(), DriverError> {
        let name = &launch.name;
        let invalid = |why: String| DriverError::Invalid {
            name: name.clone(),
            why,
        };
        let program = launch
            .program
            .as_ref()
            .ok_or_else(|| invalid("there is no program".to_owned()))?;
        match fs::metadata(program) {
            Ok(metadata) if metadata.is_file() && metadata.permissions().mode() & 0o111 != 0 => {}
            Ok(_) => {
                return Err(invalid(format!(
                    "{} is no program; make it an executable file",
                    program.display()
                )));
            }
            Err(error) => return Err(invalid(format!("{}: {error}", program.display()))),
        }
        let creating = |error: io::Error| no_room(name, "making", error);
        if let Some((source, _)) = &launch.volume {
            make_volume(source, launch.user).map_err(creating)?;
        }
        self.instances.folders.create(launch).map_err(creating)?;
        // One that exists may have been made from something else.
        if let Ok(Some(launch)) = self.instances.folders.of(name).launch() {
            self.launches().insert(name.clone(), Arc::new(launch));
        }
        Ok(())
    }

    fn start(&self, name: &InstanceName) -> Result<(), DriverError> {
        let launch = self.instances.launch(name)?;
        let starting = |error: io::Error| no_room(name, "starting", error);
        let folder = self.instances.folders.of(name);
        if let Some(run) = self.instances.first_process(name).map_err(starting)? {
            let address = launch.endpoint.ip();
            if let Some(attachment) = launch.attachment()
                && self
                    .instances
                    .connector
                    .fault(name, address, attachment, folder.path())
                    .is_some()
            {
                self.instances.connector.connect(
                    name,
                    run.pid,
                    address,
                    attachment,
                    folder.path(),
                )?;
            }
            return Ok(());
        }
        self.instances.prepare(&launch).map_err(starting)?;
        let child = self.spawn(&launch, &folder, &self.instances.group(name))?;
        let begun = self.instances.begun(name, child.id(), as_seen);
        begun.map_err(starting)?;
        self.instances.hint(name);
        Ok(())
    }

    fn spawn(&self, launch: &Launch, folder: &Folder, group: &Group) -> Result<Child, DriverError> {
        let name = &launch.name;
        let starting = |error: io::Error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::PermissionDenied => DriverError::Invalid {
                name: name.clone(),
                why: format!(
                    "starting {}: {error}",
                    launch.program.as_deref().unwrap_or(Path::new("")).display()
                ),
            },
            _ => no_room(name, "starting", error),
        };
        let log = folder.open_log().map_err(starting)?;
        let words = launch.program.iter().map(|path| path.as_os_str());
        let mut command = program(launch, folder, words);
        command
            .args(&launch.arguments)
            .stdin(Stdio::null())
            .stderr(log.try_clone().map_err(starting)?)
            .stdout(log);
        let place = Place {
            members: group.members().map_err(starting)?,
            network: NetworkOf::Own,
            user: launch.user,
        };
        let Some(attachment) = launch.attachment() else {
            spawn::place(&mut command, place);
            return command.spawn().map_err(starting);
        };
        let connected = spawn::spawn_connected(command, place, |pid| {
            let address = launch.endpoint.ip();
            self.instances
                .connector
                .connect(name, pid, address, attachment, folder.path())
                .map_err(SpawnError::Driver)
        });
        connected.map_err(|error| match error {
            SpawnError::Driver(error) => error,
            SpawnError::System(error) => starting(error),
        })
    }

    fn stop(&self, name: &InstanceName, grace: Duration) -> Result<(), DriverError> {
        let group = self.instances.group(name);
        let stopping = |error: io::Error| DriverError::failed(format!("stopping {name}"), error);
        if !self.instances.folders.of(name).exists() && !group.is_populated().map_err(stopping)? {
            return Err(DriverError::NotFound(name.clone()));
        }
        if let Some(run) = self.instances.first_process(name).map_err(stopping)?
            && !grace.is_zero()
        {
            send(run.pid, Signal::SIGTERM);
            if group.is_frozen().map_err(stopping)? {
                group.freeze(false).map_err(stopping)?;
            }
            let end = Instant::now() + grace;
            while Instant::now() < end && group.is_populated().map_err(stopping)? {
                std::thread::sleep(LOOK);
            }
        }
        group.kill().map_err(stopping)?;
        self.instances.connector.disconnect(name)?;
        self.instances.hint(name);
        Ok(())
    }

    fn remove(&self, name: &InstanceName) -> Result<(), DriverError> {
        let removing = |error: io::Error| DriverError::failed(format!("removing {name}"), error);
        let group = self.instances.group(name);
        group.kill().map_err(removing)?;
        self.instances.connector.disconnect(name)?;
        group.remove().map_err(removing)?;
        self.instances.folders.remove(name).map_err(removing)?;
        self.instances.hint(name);
        Ok(())
    }

    fn freeze(&self, name: &InstanceName, frozen: bool) -> Result<(), DriverError> {
        let doing = if frozen { "pausing" } else { "resuming" };
        let failed = |error: io::Error| DriverError::failed(format!("{doing} {name}"), error);
        self.instances.check_runs(name, doing)?;
        self.instances.group(name).freeze(frozen).map_err(failed)?;
        self.instances.hint(name);
        Ok(())
    }
}

/// Why an instance with a network of its own could not be started.
enum SpawnError {
    Driver(DriverError),
    System(io::Error),
}

impl From<io::Error> for SpawnError {
    fn from(error: io::Error) -> Self {
        SpawnError::System(error)
    }
}

/// Locks the driver's folder.
fn lock(folders: &Folders) -> io::Result<Flock<File>> {
    let path = folders.lock_path();
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)?;
    lock_file(file)
        .ok_or_else(|| io::Error::other(format!("another controller uses {}", path.display())))
}

/// Locks a file. A controller that was killed while it started an instance leaves a child that has the lock, too, until its
/// program begins: so it is tried for a while.
fn lock_file(mut file: File) -> Option<Flock<File>> {
    let end = Instant::now() + LOCK;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Some(lock),
            Err(_) if Instant::now() > end => return None,
            Err((unlocked, _)) => file = unlocked,
        }
        std::thread::sleep(LOOK);
    }
}

/// A command with the environment of an instance.
fn program<S: AsRef<std::ffi::OsStr>>(
    launch: &Launch,
    folder: &Folder,
    words: impl IntoIterator<Item = S>,
) -> Program {
    let mut words = words.into_iter();
    let mut command = match words.next() {
        Some(first) => Program::new(first),
        None => Program::new(""),
    };
    command
        .args(words)
        .env_clear()
        .env("PATH", spawn::PATH)
        .env(spawn::INSTANCE, launch.name.to_string());
    if let Some((source, _)) = &launch.volume {
        command.env(VOLUME, source);
    }
    command.envs(&launch.environment);
    if launch.files.is_empty() {
        command.current_dir("/");
    } else {
        command.current_dir(folder.files());
    }
    command
}

fn make_volume(path: &Path, user: Option<(u32, Option<u32>)>) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(path)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    if let Some((user, group)) = user {
        let group = group.unwrap_or(user);
        chown(path, Some(Uid::from_raw(user)), Some(Gid::from_raw(group)))?;
    }
    Ok(())
}

fn send(pid: u32, signal: Signal) {
    if let Ok(pid) = i32::try_from(pid) {
        // Fails for a process that has ended meanwhile.
        let _ = signal::kill(Pid::from_raw(pid), signal);
    }
}

/// Waits for the end of a child, without keeping the caller, and then does this.
pub(crate) fn reap(mut child: Child, then: impl FnOnce() + Send + 'static) {
    let waiting = std::thread::Builder::new()
        .name("reaper".to_owned())
        .stack_size(64 << 10)
        .spawn(move || {
            // It is waited for once, so this cannot fail.
            let _ = child.wait();
            then();
        });
    if let Err(error) = waiting {
        tracing::warn!("a child process will stay a zombie: {error}");
    }
}

/// Reads to the end and keeps the beginning, `most` bytes.
async fn beginning(mut reader: impl AsyncRead + Unpin, most: usize) -> io::Result<Vec<u8>> {
    let mut kept = Vec::new();
    let mut buffer = vec![0; 16 << 10];
    loop {
        let read = reader.read(&mut buffer).await?;
        if read == 0 {
            return Ok(kept);
        }
        let room = most - kept.len();
        kept.extend_from_slice(&buffer[..read.min(room)]);
    }
}

/// Runs a command to its end with this input, and keeps the beginning of what it prints, `most` bytes of each output. If the
/// caller goes away it is killed.
pub(crate) async fn run(command: Program, input: &[u8], most: usize) -> io::Result<Output> {
    let mut command = tokio::process::Command::from(command);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let write = async {
        if let Some(mut stdin) = stdin {
            // A program need not read its input.
            let _ = stdin.write_all(input).await;
        }
    };
    let read = async |pipe: Option<_>| match pipe {
        Some(pipe) => beginning(pipe, most).await,
        None => Ok(Vec::new()),
    };
    let read_errors = async |pipe: Option<_>| match pipe {
        Some(pipe) => beginning(pipe, most).await,
        None => Ok(Vec::new()),
    };
    let ((), stdout, stderr, status) =
        tokio::join!(write, read(stdout), read_errors(stderr), child.wait());
    let status = status?;
    Ok(Output {
        status: status
            .code()
            .map(i64::from)
            .or_else(|| status.signal().map(|signal| -i64::from(signal)))
            .unwrap_or(-1),
        stdout: stdout?,
        stderr: stderr?,
    })
}

#[async_trait]
impl Driver for ProcessDriver {
    fn kind(&self) -> &'static str {
        NAME
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            pause: self.0.instances.groups.can_freeze(),
            exec: true,
            logs: true,
            watch: true,
            bridge: true,
            limits: self.0.instances.groups.has_limits(),
            ..Capabilities::default()
        }
    }

    async fn list(&self) -> Result<Vec<Listed>, DriverError> {
        let inner = Arc::clone(&self.0);
        let listed = tokio::task::spawn_blocking(move || inner.list()).await;
        listed.unwrap_or_else(|error| Err(DriverError::failed("listing processes", error)))
    }

    async fn create(&self, launch: &Launch) -> Result<(), DriverError> {
        let own = launch.clone();
        self.work(&launch.name, "making an instance", move |inner, _| {
            inner.create(&own)
        })
        .await
    }

    async fn start(&self, name: &InstanceName) -> Result<(), DriverError> {
        self.work(name, "starting an instance", move |inner, name| {
            inner.start(name)
        })
        .await
    }

    async fn stop(&self, name: &InstanceName, grace: Duration) -> Result<(), DriverError> {
        self.work(name, "stopping an instance", move |inner, name| {
            inner.stop(name, grace)
        })
        .await
    }

    async fn remove(&self, name: &InstanceName) -> Result<(), DriverError> {
        self.work(name, "removing an instance", move |inner, name| {
            inner.remove(name)
        })
        .await
    }

    async fn pause(&self, name: &InstanceName) -> Result<(), DriverError> {
        self.work(name, "pausing an instance", move |inner, name| {
            inner.freeze(name, true)
        })
        .await
    }

    async fn resume(&self, name: &InstanceName) -> Result<(), DriverError> {
        self.work(name, "resuming an instance", move |inner, name| {
            inner.freeze(name, false)
        })
        .await
    }

    async fn exec(&self, name: &InstanceName, command: &Command) -> Result<Output, DriverError> {
        let running = |error: io::Error| {
            DriverError::failed(format!("running {:?} in {name}", command.words), error)
        };
        let launch = self.0.instances.launch(name)?;
        let run_of = self.0.instances.first_process(name).map_err(running)?;
        let Some(run_of) = run_of else {
            return Err(running(io::Error::other("it does not run")));
        };
        let folder = self.0.instances.folders.of(name);
        let mut process = program(&launch, &folder, &command.words);
        let network = match launch.attachment() {
            Some(_) => {
                let path = format!("/proc/{}/ns/net", run_of.pid);
                NetworkOf::File(File::open(path).map_err(running)?)
            }
            None => NetworkOf::Own,
        };
        let place = Place {
            members: self.0.instances.group(name).members().map_err(running)?,
            network,
            user: launch.user,
        };
        spawn::place(&mut process, place);
        run(process, &command.input, MAX_OUTPUT)
            .await
            .map_err(running)
    }

    async fn logs(&self, name: &InstanceName, most: usize) -> Result<Vec<u8>, DriverError> {
        let what = format!("what {name} printed");
        self.0.instances.logs(name, &what, most)
    }

    fn watch(&self) -> broadcast::Receiver<Hint> {
        self.0.instances.watch()
    }

    /// A list is a few small files of each instance.
    fn list_age(&self) -> Duration {
        LIST_AGE
    }
}
