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
    sync::{Mutex as AsyncMutex, broadcast},
};

pub(crate) use self::stat::{boot_id, stat};
use crate::{
    Capabilities, Command, Driver, DriverError, Hint, Listed, MAX_OUTPUT, Output, Owned, Phase,
    first,
    folder::{Ending, Folder, Folders, Run},
    group::{Group, Limits, Tree},
    network::{COMPANION_SUFFIX, Connector},
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

/// Hints that a slow reader may be behind.
const HINTS: usize = 1_024;
/// See [`Driver::list_age`].
const LIST_AGE: Duration = Duration::from_secs(5);
/// Pause between two looks at an instance that is to end.
const LOOK: Duration = Duration::from_millis(10);
/// How long a lock that another process has is waited for.
const LOCK: Duration = Duration::from_secs(3);
/// What programs find in `PATH` unless the template says otherwise.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Tells a process where its data is.
const VOLUME: &str = "LB_VOLUME";
/// Tells a process its name.
const INSTANCE: &str = "LB_INSTANCE";

lb_model::settings! {
    /// Settings of the driver `process`.
    #[derive(Eq, Default)]
    pub struct Settings {}
}

/// The driver `process`.
#[derive(Debug)]
pub struct ProcessDriver(Arc<Inner>);

impl Drop for Inner {
    fn drop(&mut self) {
        // Without instances nothing of ours is left on the machine.
        self.groups.remove_if_empty();
    }
}

#[derive(Debug)]
struct Inner {
    folders: Folders,
    groups: Tree,
    connector: Connector,
    hints: broadcast::Sender<Hint>,
    /// What instances were made from, which does not change while they exist.
    launches: Mutex<HashMap<InstanceName, Arc<Launch>>>,
    /// One call at a time for each instance.
    turns: Mutex<HashMap<InstanceName, Arc<AsyncMutex<()>>>>,
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
        let groups = Tree::open(NAME, &owned.owner).map_err(opening)?;
        let hints = broadcast::Sender::new(HINTS);
        let connector = Connector::new(owned, groups.clone(), hints.clone());
        let inner = Arc::new(Inner {
            connector,
            folders,
            groups,
            hints,
            launches: Mutex::default(),
            turns: Mutex::default(),
            unknown: Mutex::default(),
            lock: Mutex::new(Some(lock)),
        });
        // The processes of an earlier run are watched as if this one had started them.
        for name in inner.folders.names().map_err(opening)? {
            if let Ok(Some(run)) = inner.first_process(&name) {
                inner.watch_end(&name, run.pid);
            }
        }
        Ok(ProcessDriver(inner))
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

    /// The first process of an instance, if it lives.
    fn first_process(&self, name: &InstanceName) -> io::Result<Option<Run>> {
        first::find(&self.folders.of(name), &self.group(name))
    }

    fn phase(&self, name: &InstanceName) -> io::Result<Phase> {
        if self.first_process(name)?.is_some() {
            return Ok(if self.group(name).is_frozen()? {
                Phase::Paused
            } else {
                Phase::Running
            });
        }
        let folder = self.folders.of(name);
        let ending = match (folder.ending()?, folder.run()?) {
            (Some(ending), _) => ending,
            // Nobody saw how it ended.
            (None, Some(_)) => Ending::default(),
            (None, None)
                if folder.exists()
                    && !folder.was_started()
                    && !self.group(name).is_populated()? =>
            {
                return Ok(Phase::Created);
            }
            (None, None) => Ending::default(),
        };
        let left = self.group(name).is_populated()?;
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
        // Groups first: an instance that is made meanwhile has its folder before its group.
        let mut names = BTreeSet::new();
        for group in self.groups.names().map_err(listing)? {
            let name = group.strip_suffix(COMPANION_SUFFIX).unwrap_or(&group);
            names.extend(name.parse::<InstanceName>());
        }
        names.extend(self.folders.names().map_err(listing)?);
        let mut launches = std::mem::take(&mut *self.launches());
        launches.retain(|name, _| names.contains(name));
        let mut listed = Vec::with_capacity(names.len());
        for name in names {
            let phase = self.phase(&name).map_err(listing)?;
            let folder = self.folders.of(&name);
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
            listed.push(Listed {
                fault: attached
                    .filter(|_| phase.is_up())
                    .and_then(|(address, attachment)| {
                        self.connector
                            .fault(&name, address, attachment, folder.path())
                    }),
                cgroup: if phase.is_up() {
                    self.group(&name).path().to_owned()
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
        let path = self.folders.lock_path();
        if held.is_some() && path.exists() {
            return Ok(());
        }
        if self.folders.make_again()? {
            tracing::error!(
                "the folder of {} was removed; it is made again",
                path.display()
            );
        }
        *held = None;
        *held = Some(lock(&self.folders)?);
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
        let folder = self.folders.of(name);
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
        let Ok(_turn) = self.turn(name).try_lock_owned() else {
            return;
        };
        let again = || -> io::Result<bool> {
            // It may have been removed since it was listed.
            if !self.group(name).is_populated()? {
                return Ok(false);
            }
            self.folders.create(launch)?;
            self.folders.of(name).set_launch(launch)?;
            self.first_process(name)?;
            Ok(true)
        };
        match again() {
            Ok(true) => tracing::error!(
                "what {name} was made from was removed or damaged in {}; it is written again",
                self.folders.of(name).path().display()
            ),
            Ok(false) => {}
            Err(error) => tracing::error!("writing again what {name} was made from: {error}"),
        }
    }

    fn launches(&self) -> MutexGuard<'_, HashMap<InstanceName, Arc<Launch>>> {
        self.launches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn launch(&self, name: &InstanceName) -> Result<Launch, DriverError> {
        let launch = self.folders.of(name).launch();
        launch
            .map_err(|error| DriverError::failed(format!("reading {name}"), error))?
            .ok_or_else(|| DriverError::NotFound(name.clone()))
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
        let creating = |error: io::Error| self.no_room(name, "making", error);
        if let Some((source, _)) = &launch.volume {
            make_volume(source, launch.user).map_err(creating)?;
        }
        self.folders.create(launch).map_err(creating)?;
        // One that exists may have been made from something else.
        if let Ok(Some(launch)) = self.folders.of(name).launch() {
            self.launches().insert(name.clone(), Arc::new(launch));
        }
        Ok(())
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

    fn start(self: &Arc<Self>, name: &InstanceName) -> Result<(), DriverError> {
        let launch = self.launch(name)?;
        let starting = |error: io::Error| self.no_room(name, "starting", error);
        let folder = self.folders.of(name);
        if let Some(run) = self.first_process(name).map_err(starting)? {
            let address = launch.endpoint.ip();
            if let Some(attachment) = launch.attachment()
                && self
                    .connector
                    .fault(name, address, attachment, folder.path())
                    .is_some()
            {
                self.connector
                    .connect(name, run.pid, address, attachment, folder.path())?;
            }
            return Ok(());
        }
        let group = self.group(name);
        // What is left of an earlier run.
        group.kill().map_err(starting)?;
        folder.clear_ending().map_err(starting)?;
        group.create().map_err(starting)?;
        group
            .limit(&Limits {
                cpu: launch.cpu,
                memory: launch.memory,
                processes: launch.processes,
            })
            .map_err(starting)?;
        let child = self.spawn(&launch, &folder, &group)?;
        let pid = child.id();
        if let Some(stat) = stat(pid) {
            let run = Run {
                pid,
                started: stat.started,
                boot: boot_id(),
            };
            folder.set_run(&run).map_err(starting)?;
        }
        self.watch_end(name, pid);
        self.hint(name);
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
            _ => self.no_room(name, "starting", error),
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
            self.connector
                .connect(name, pid, address, attachment, folder.path())
                .map_err(SpawnError::Driver)
        });
        connected.map_err(|error| match error {
            SpawnError::Driver(error) => error,
            SpawnError::System(error) => starting(error),
        })
    }

    /// Notes how an instance ends, as soon as it does, and tells watchers.
    fn watch_end(self: &Arc<Self>, name: &InstanceName, pid: u32) {
        let inner = Arc::downgrade(self);
        let name = name.clone();
        let folder = self.folders.of(&name);
        first::watch_end(self.group(&name), pid, move |ending| {
            if let Err(error) = folder.set_ending(&ending) {
                tracing::warn!("noting how {name} ended: {error}");
            }
            if let Some(inner) = inner.upgrade() {
                inner.hint(&name);
            }
        });
    }

    fn stop(&self, name: &InstanceName, grace: Duration) -> Result<(), DriverError> {
        let group = self.group(name);
        let stopping = |error: io::Error| DriverError::failed(format!("stopping {name}"), error);
        if !self.folders.of(name).exists() && !group.is_populated().map_err(stopping)? {
            return Err(DriverError::NotFound(name.clone()));
        }
        if let Some(run) = self.first_process(name).map_err(stopping)?
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
        self.connector.disconnect(name)?;
        self.hint(name);
        Ok(())
    }

    fn remove(&self, name: &InstanceName) -> Result<(), DriverError> {
        let removing = |error: io::Error| DriverError::failed(format!("removing {name}"), error);
        let group = self.group(name);
        group.kill().map_err(removing)?;
        self.connector.disconnect(name)?;
        group.remove().map_err(removing)?;
        self.folders.remove(name).map_err(removing)?;
        self.hint(name);
        Ok(())
    }

    fn freeze(&self, name: &InstanceName, frozen: bool) -> Result<(), DriverError> {
        let doing = if frozen { "pausing" } else { "resuming" };
        let failed = |error: io::Error| DriverError::failed(format!("{doing} {name}"), error);
        self.launch(name)?;
        if self.first_process(name).map_err(failed)?.is_none() {
            return Err(failed(io::Error::other("it does not run")));
        }
        self.group(name).freeze(frozen).map_err(failed)?;
        self.hint(name);
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
        .env("PATH", PATH)
        .env(INSTANCE, launch.name.to_string());
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
            pause: self.0.groups.can_freeze(),
            exec: true,
            logs: true,
            watch: true,
            bridge: true,
            limits: self.0.groups.has_limits(),
            ..Capabilities::default()
        }
    }

    async fn list(&self) -> Result<Vec<Listed>, DriverError> {
        let inner = Arc::clone(&self.0);
        let listed = tokio::task::spawn_blocking(move || inner.list()).await;
        listed.unwrap_or_else(|error| Err(DriverError::failed("listing processes", error)))
    }

    async fn create(&self, launch: &Launch) -> Result<(), DriverError> {
        let launch = launch.clone();
        let name = launch.name.clone();
        self.work(&name, "making an instance", move |inner| {
            inner.create(&launch)
        })
        .await
    }

    async fn start(&self, name: &InstanceName) -> Result<(), DriverError> {
        let own = name.clone();
        self.work(name, "starting an instance", move |inner| inner.start(&own))
            .await
    }

    async fn stop(&self, name: &InstanceName, grace: Duration) -> Result<(), DriverError> {
        let own = name.clone();
        self.work(name, "stopping an instance", move |inner| {
            inner.stop(&own, grace)
        })
        .await
    }

    async fn remove(&self, name: &InstanceName) -> Result<(), DriverError> {
        let own = name.clone();
        self.work(name, "removing an instance", move |inner| {
            inner.remove(&own)
        })
        .await
    }

    async fn pause(&self, name: &InstanceName) -> Result<(), DriverError> {
        let own = name.clone();
        self.work(name, "pausing an instance", move |inner| {
            inner.freeze(&own, true)
        })
        .await
    }

    async fn resume(&self, name: &InstanceName) -> Result<(), DriverError> {
        let own = name.clone();
        self.work(name, "resuming an instance", move |inner| {
            inner.freeze(&own, false)
        })
        .await
    }

    async fn exec(&self, name: &InstanceName, command: &Command) -> Result<Output, DriverError> {
        let running = |error: io::Error| {
            DriverError::failed(format!("running {:?} in {name}", command.words), error)
        };
        let launch = self.0.launch(name)?;
        let run_of = self.0.first_process(name).map_err(running)?;
        let Some(run_of) = run_of else {
            return Err(running(io::Error::other("it does not run")));
        };
        let folder = self.0.folders.of(name);
        let mut process = program(&launch, &folder, &command.words);
        let network = match launch.attachment() {
            Some(_) => {
                let path = format!("/proc/{}/ns/net", run_of.pid);
                NetworkOf::File(File::open(path).map_err(running)?)
            }
            None => NetworkOf::Own,
        };
        let place = Place {
            members: self.0.group(name).members().map_err(running)?,
            network,
            user: launch.user,
        };
        spawn::place(&mut process, place);
        run(process, &command.input, MAX_OUTPUT)
            .await
            .map_err(running)
    }

    async fn logs(&self, name: &InstanceName, most: usize) -> Result<Vec<u8>, DriverError> {
        let folder = self.0.folders.of(name);
        if !folder.exists() {
            return Err(DriverError::NotFound(name.clone()));
        }
        folder
            .log(most)
            .map_err(|error| DriverError::failed(format!("reading what {name} printed"), error))
    }

    fn watch(&self) -> broadcast::Receiver<Hint> {
        self.0.hints.subscribe()
    }

    /// A list is a few small files of each instance.
    fn list_age(&self) -> Duration {
        LIST_AGE
    }
}
