//! The driver `docker`: containers of a Docker engine, or of Podman's service, which speaks the same API.
//!
//! A container's labels hold all there is to know of it, so the engine's list is enough to go on after a crash. A container
//! with a network of its own is made without one (`none`) and connected from outside each time it starts, because it gets
//! another network namespace then.

mod clone;

use std::{
    collections::HashMap,
    fmt::Write as _,
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bollard::{
    API_DEFAULT_VERSION, Docker,
    container::LogOutput,
    errors::Error,
    exec::StartExecResults,
    models::{
        ContainerCreateBody, ContainerState, ContainerSummary, ContainerSummaryStateEnum,
        ExecConfig, HostConfig, HostConfigLogConfig, PortBinding, RestartPolicy,
        RestartPolicyNameEnum,
    },
    query_parameters::{
        CreateContainerOptionsBuilder, CreateImageOptionsBuilder, EventsOptionsBuilder,
        InspectContainerOptions, ListContainersOptionsBuilder, LogsOptionsBuilder,
        RemoveContainerOptionsBuilder, StopContainerOptionsBuilder,
    },
};
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use lb_model::{
    component::Kind,
    pool::{FILES, InstanceName, Launch, Network},
};
use tokio::{io::AsyncWriteExt as _, sync::broadcast};

use crate::{
    Capabilities, Command, Driver, DriverError, Hint, Listed, MAX_OUTPUT, Output, Owned, Phase,
    group::Tree, network::Connector,
};

/// The name of the kind.
pub const NAME: &str = "docker";
/// The kind.
pub static KIND: Kind = Kind::of::<Settings>(
    NAME,
    "Runs containers of a Docker engine, or of Podman's service, on the controller's machine.",
)
.without_port();

/// The label that says to which controller a container belongs.
pub const OWNER: &str = "lb.owner";
/// The label with the instance's name.
pub const INSTANCE: &str = "lb.instance";
/// The label with the pool's name, for operators.
pub const POOL: &str = "lb.pool";
/// The label with all that the instance was made from.
const LAUNCH: &str = "lb.launch";

/// The folder of a container's own files, in the driver's folder of it.
const FILES_FOLDER: &str = "files";
/// The client's own limit for a request, in seconds; calls have a shorter one, or a longer grace period.
const REQUEST: u64 = 7_200;
/// Pauses between two attempts to follow the engine's events.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Pause before the engine is asked again about something that it is doing.
const AGAIN: Duration = Duration::from_millis(50);
/// Looks after which a container without our labels is somebody else's.
const FOREIGN_LOOKS: u32 = 40;
/// Control groups that are remembered at most.
const CGROUPS: usize = 10_000;
/// Lines that are read of a container's output at most.
const LOG_LINES: &str = "100000";

lb_model::choice! {
    /// When an image is fetched.
    pub enum Pull = Missing {
        /// If the engine does not have it.
        Missing = "missing",
        /// Never: a missing image is an error.
        Never = "never",
    }
}

lb_model::settings! {
    /// Settings of the driver `docker`.
    #[derive(Eq)]
    pub struct Settings {
        /// The engine's socket. Podman's is `/run/podman/podman.sock`.
        socket: PathBuf = "/var/run/docker.sock".into();
        /// When an image is fetched.
        pull: Pull = Pull::Missing;
    }
}

/// The driver `docker`.
#[derive(Debug)]
pub struct DockerDriver {
    inner: Arc<Inner>,
    watching: tokio::task::JoinHandle<()>,
}

impl Drop for DockerDriver {
    fn drop(&mut self) {
        self.watching.abort();
        // Without companions nothing of ours is left on the machine.
        self.inner.groups.remove_if_empty();
    }
}

#[derive(Debug)]
struct Inner {
    settings: Settings,
    owner: String,
    state: PathBuf,
    groups: Tree,
    connector: Connector,
    hints: broadcast::Sender<Hint>,
    /// The connection, once the engine's version is known.
    engine: Mutex<Option<Docker>>,
    /// The control groups of containers that were seen up, by id.
    cgroups: Mutex<HashMap<String, String>>,
}

/// What a container's labels say.
struct Found {
    id: String,
    launch: Launch,
    state: ContainerSummaryStateEnum,
}

impl DockerDriver {
    /// Opens the driver; the engine need not run yet. It must be called in a tokio runtime.
    ///
    /// # Errors
    /// There are no control groups, which the companions of instances need.
    pub fn open(settings: &Settings, owned: &Owned) -> Result<Self, DriverError> {
        let groups = Tree::open(NAME, &owned.owner)
            .map_err(|error| DriverError::failed("opening the driver docker", error))?;
        let hints = broadcast::Sender::new(crate::instances::HINTS);
        let connector = Connector::new(owned, groups.clone(), hints.clone());
        let inner = Arc::new(Inner {
            settings: settings.clone(),
            owner: owned.owner.clone(),
            state: owned.state.join(NAME),
            connector,
            groups,
            hints,
            engine: Mutex::default(),
            cgroups: Mutex::default(),
        });
        let of = Arc::clone(&inner);
        let watching = tokio::spawn(async move {
            // Without it changes are seen with the next list, half a minute later at most.
            loop {
                let watching = AssertUnwindSafe(watch_events(Arc::clone(&of)));
                let _ = watching.catch_unwind().await;
                tracing::error!(
                    "following the engine's events has failed, which is a fault of this program; it begins anew"
                );
                tokio::time::sleep(LONGEST_PAUSE).await;
            }
        });
        Ok(DockerDriver { inner, watching })
    }
}

/// Follows the engine's events. When the stream ends, or begins, anything may have changed.
async fn watch_events(inner: Arc<Inner>) {
    let mut pause = FIRST_PAUSE;
    loop {
        if let Ok(engine) = inner.engine().await {
            // Nobody may listen.
            let _ = inner.hints.send(Hint::Relist);
            let filters = HashMap::from([
                ("type", vec!["container".to_owned()]),
                ("label", vec![inner.owner_filter()]),
            ]);
            let options = EventsOptionsBuilder::new().filters(&filters).build();
            let mut events = engine.events(Some(options));
            while let Some(Ok(event)) = events.next().await {
                pause = FIRST_PAUSE;
                let labels = event.actor.and_then(|actor| actor.attributes);
                let name =
                    labels.and_then(|labels| labels.get(INSTANCE)?.parse::<InstanceName>().ok());
                if let Some(name) = name {
                    let _ = inner.hints.send(Hint::Changed(name));
                }
            }
            inner.forget();
            let _ = inner.hints.send(Hint::Relist);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// The status that the engine answered with.
const fn status(error: &Error) -> Option<u16> {
    match error {
        Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// What the engine said, without the library's words around it.
fn words(error: &Error) -> String {
    match error {
        Error::DockerResponseServerError { message, .. } => message.trim().to_owned(),
        other => {
            let mut text = other.to_string();
            let mut source = std::error::Error::source(other);
            while let Some(cause) = source {
                let _ = write!(text, ": {cause}");
                source = cause.source();
            }
            text
        }
    }
}

impl Inner {
    fn owner_filter(&self) -> String {
        format!("{OWNER}={}", self.owner)
    }

    fn name_of_engine(&self) -> String {
        format!("the engine at {}", self.settings.socket.display())
    }

    fn forget(&self) {
        *self.engine.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The connection, with the newest version of the API that both sides know.
    async fn engine(&self) -> Result<Docker, DriverError> {
        let known = self
            .engine
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some(engine) = known {
            return Ok(engine);
        }
        let socket = self.settings.socket.to_string_lossy();
        let connected = match Docker::connect_with_unix(&socket, REQUEST, API_DEFAULT_VERSION) {
            Ok(engine) => engine.negotiate_version().await,
            Err(error) => Err(error),
        };
        let engine = connected.map_err(|error| self.error("connecting", &error))?;
        *self.engine.lock().unwrap_or_else(PoisonError::into_inner) = Some(engine.clone());
        Ok(engine)
    }

    fn error(&self, doing: impl Into<String>, error: &Error) -> DriverError {
        match error {
            Error::DockerResponseServerError { .. } => DriverError::failed(
                format!("{}: {}", self.name_of_engine(), doing.into()),
                words(error),
            ),
            _ => {
                // It may be another version when it is there again.
                self.forget();
                DriverError::Unreachable {
                    engine: self.name_of_engine(),
                    why: words(error),
                }
            }
        }
    }

    /// The error of a call about one instance.
    fn error_of(&self, name: &InstanceName, doing: &str, error: &Error) -> DriverError {
        let why = words(error);
        match status(error) {
            Some(404) if why.contains("No such container") || why.contains("no such container") => {
                DriverError::NotFound(name.clone())
            }
            Some(400) => DriverError::Invalid {
                name: name.clone(),
                why,
            },
            Some(_) if why.contains("no space left") || why.contains("cannot allocate memory") => {
                DriverError::NoRoom {
                    name: name.clone(),
                    why,
                }
            }
            _ => self.error(format!("{doing} {name}"), error),
        }
    }

    /// The container of an instance.
    async fn find(&self, engine: &Docker, name: &InstanceName) -> Result<Found, DriverError> {
        let options = InspectContainerOptions::default();
        let container = engine
            .inspect_container(&name.to_string(), Some(options))
            .await
            .map_err(|error| match status(&error) {
                Some(404) => DriverError::NotFound(name.clone()),
                _ => self.error_of(name, "looking for", &error),
            })?;
        let labels = container.config.and_then(|config| config.labels);
        let labels = labels.unwrap_or_default();
        let foreign = || DriverError::Foreign {
            name: name.clone(),
            what: "a container",
        };
        if labels.get(OWNER) != Some(&self.owner) {
            return Err(foreign());
        }
        let launch = labels
            .get(LAUNCH)
            .and_then(|text| serde_json::from_str::<Launch>(text).ok())
            .ok_or_else(foreign)?;
        let state = container.state.unwrap_or_default();
        let state = match (state.running, state.paused) {
            (_, Some(true)) => ContainerSummaryStateEnum::PAUSED,
            (Some(true), _) => ContainerSummaryStateEnum::RUNNING,
            _ => ContainerSummaryStateEnum::EXITED,
        };
        Ok(Found {
            id: container.id.unwrap_or_default(),
            launch,
            state,
        })
    }

    async fn create(&self, launch: &Launch) -> Result<(), DriverError> {
        let name = &launch.name;
        let engine = self.engine().await?;
        let folder = self.state.join(name.to_string()).join(FILES_FOLDER);
        let body = body(launch, &self.owner, &folder);
        let options = || {
            CreateContainerOptionsBuilder::new()
                .name(&name.to_string())
                .build()
        };
        let mut has_pulled = false;
        let mut looks = 0;
        loop {
            match self.find(&engine, name).await {
                Ok(_) => return Ok(()),
                Err(DriverError::NotFound(_)) => {}
                // A container that is just being made, by a call that was dropped, has no labels yet.
                Err(DriverError::Foreign { .. }) if looks < FOREIGN_LOOKS => {
                    looks += 1;
                    tokio::time::sleep(AGAIN).await;
                    continue;
                }
                Err(error) => return Err(error),
            }
            crate::folder::write_files(&folder, launch).map_err(|error| {
                DriverError::failed(format!("writing the files of {name}"), error)
            })?;
            let made = engine.create_container(Some(options()), body.clone()).await;
            let error = match made {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            match status(&error) {
                Some(404) if !has_pulled => {
                    let image = launch.image.as_deref().unwrap_or_default();
                    if self.settings.pull == Pull::Never {
                        return Err(DriverError::Invalid {
                            name: name.clone(),
                            why: format!("{}; load it, or set pull = missing", words(&error)),
                        });
                    }
                    self.pull(&engine, name, image).await?;
                    has_pulled = true;
                }
                // The name is taken. A container that is just being made or removed, by a call that was dropped, cannot be
                // looked at; that ends by itself.
                Some(409) => tokio::time::sleep(AGAIN).await,
                _ => return Err(self.error_of(name, "making", &error)),
            }
        }
    }

    async fn pull(
        &self,
        engine: &Docker,
        name: &InstanceName,
        image: &str,
    ) -> Result<(), DriverError> {
        let options = CreateImageOptionsBuilder::new().from_image(image);
        // Without a tag the engine would fetch all of them.
        let has_tag = image.contains('@')
            || image
                .rsplit('/')
                .next()
                .is_some_and(|last| last.contains(':'));
        let options = if has_tag {
            options
        } else {
            options.tag("latest")
        };
        let mut progress = engine.create_image(Some(options.build()), None, None);
        loop {
            match progress.try_next().await {
                Ok(Some(_)) => {}
                Ok(None) => return Ok(()),
                Err(error) => {
                    return Err(match status(&error) {
                        Some(404) => DriverError::Invalid {
                            name: name.clone(),
                            why: words(&error),
                        },
                        _ => DriverError::failed(
                            format!("fetching the image {image} for {name}"),
                            words(&error),
                        ),
                    });
                }
            }
        }
    }

    async fn start(&self, name: &InstanceName) -> Result<(), DriverError> {
        let engine = self.engine().await?;
        let found = self.find(&engine, name).await?;
        if found.state != ContainerSummaryStateEnum::RUNNING
            && found.state != ContainerSummaryStateEnum::PAUSED
        {
            engine
                .start_container(&found.id, None)
                .await
                .map_err(|error| match status(&error) {
                    // What the container's own program lacks will not come by itself.
                    Some(400) => DriverError::Invalid {
                        name: name.clone(),
                        why: words(&error),
                    },
                    _ => self.error_of(name, "starting", &error),
                })?;
        }
        let Some(attachment) = found.launch.attachment().cloned() else {
            return Ok(());
        };
        let state = self.state_of(&engine, &found.id).await?;
        let pid = state.pid.and_then(|pid| u32::try_from(pid).ok());
        let Some(pid) = pid.filter(|pid| *pid > 0) else {
            return Err(DriverError::failed(
                format!("connecting {name}"),
                format!("it has ended already; {}", ended(&state)),
            ));
        };
        let folder = self.state.join(name.to_string());
        let (connector, name) = (self.connector.clone(), name.clone());
        let address = found.launch.endpoint.ip();
        blocking(move || {
            std::fs::create_dir_all(&folder).map_err(|error| {
                DriverError::failed(format!("making {}", folder.display()), error)
            })?;
            connector.connect(&name, pid, address, &attachment, &folder)
        })
        .await
    }

    async fn state_of(&self, engine: &Docker, id: &str) -> Result<ContainerState, DriverError> {
        let options = InspectContainerOptions::default();
        let container = engine.inspect_container(id, Some(options)).await;
        let container =
            container.map_err(|error| self.error(format!("looking at {id}"), &error))?;
        Ok(container.state.unwrap_or_default())
    }

    async fn list(&self) -> Result<Vec<Listed>, DriverError> {
        let engine = self.engine().await?;
        let filters = HashMap::from([("label", vec![self.owner_filter()])]);
        let options = ListContainersOptionsBuilder::new()
            .all(true)
            .filters(&filters)
            .build();
        let containers = engine
            .list_containers(Some(options))
            .await
            .map_err(|error| self.error("listing containers", &error))?;
        let mut listed = Vec::with_capacity(containers.len());
        for container in containers {
            if let Some(one) = self.listed(&engine, container).await? {
                listed.push(one);
            }
        }
        listed.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(listed)
    }

    async fn listed(
        &self,
        engine: &Docker,
        container: ContainerSummary,
    ) -> Result<Option<Listed>, DriverError> {
        let labels = container.labels.unwrap_or_default();
        let Some(name) = labels
            .get(INSTANCE)
            .and_then(|name| name.parse::<InstanceName>().ok())
        else {
            return Ok(None);
        };
        let launch = labels
            .get(LAUNCH)
            .and_then(|text| serde_json::from_str::<Launch>(text).ok());
        let id = container.id.unwrap_or_default();
        let mut phase = match container.state {
            Some(ContainerSummaryStateEnum::CREATED) => Phase::Created,
            Some(
                ContainerSummaryStateEnum::RUNNING
                | ContainerSummaryStateEnum::RESTARTING
                | ContainerSummaryStateEnum::STOPPING,
            ) => Phase::Running,
            Some(ContainerSummaryStateEnum::PAUSED) => Phase::Paused,
            _ => {
                match self.state_of(engine, &id).await {
                    Ok(state) => ended(&state),
                    Err(error @ DriverError::Unreachable { .. }) => return Err(error),
                    // It was removed meanwhile.
                    Err(_) => return Ok(None),
                }
            }
        };
        let attached = launch
            .as_ref()
            .and_then(|launch| Some((launch.endpoint.ip(), launch.attachment()?)));
        let mut fault = match attached {
            Some((address, attachment)) if phase.is_up() => {
                let (connector, name) = (self.connector.clone(), name.clone());
                let attachment = attachment.clone();
                let folder = self.state.join(name.to_string());
                blocking(move || Ok(connector.fault(&name, address, &attachment, &folder))).await?
            }
            _ => None,
        };
        if fault.is_some() {
            // What has ended meanwhile has no network, which is no fault of what runs: it would be started again.
            let state = self.state_of(engine, &id).await?;
            if state.running == Some(false) {
                phase = ended(&state);
            }
            let is_there = |pid: i64| Path::new(&format!("/proc/{pid}/ns/net")).exists();
            // The engine may not know yet that it has ended; its event comes.
            fault = fault.filter(|_| phase.is_up() && state.pid.is_some_and(is_there));
        }
        let cgroup = if phase.is_up() {
            self.cgroup_of(engine, &id).await
        } else {
            String::new()
        };
        Ok(Some(Listed {
            name,
            phase,
            cgroup,
            fault,
            labels: launch.map(|launch| launch.labels).unwrap_or_default(),
        }))
    }

    /// The control group of a container that is up, as its first process says; empty if that cannot be told. It does not
    /// change while the container exists.
    async fn cgroup_of(&self, engine: &Docker, id: &str) -> String {
        let known = || self.cgroups.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cgroup) = known().get(id) {
            return cgroup.clone();
        }
        let state = self.state_of(engine, id).await.unwrap_or_default();
        let cgroup = state
            .pid
            .filter(|pid| *pid > 0)
            .and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok())
            .and_then(|text| memory_group(&text).map(str::to_owned))
            .unwrap_or_default();
        if !cgroup.is_empty() {
            let mut cgroups = known();
            if cgroups.len() >= CGROUPS {
                cgroups.clear();
            }
            cgroups.insert(id.to_owned(), cgroup.clone());
        }
        cgroup
    }

    async fn stop(&self, name: &InstanceName, grace: Duration) -> Result<(), DriverError> {
        let engine = self.engine().await?;
        let found = self.find(&engine, name).await?;
        if found.state == ContainerSummaryStateEnum::PAUSED {
            self.unpause(&engine, name).await?;
        }
        // The engine counts in seconds.
        let seconds = grace.as_millis().div_ceil(1_000);
        let options = StopContainerOptionsBuilder::new()
            .t(i32::try_from(seconds).unwrap_or(i32::MAX))
            .build();
        match engine.stop_container(&found.id, Some(options)).await {
            Ok(()) => {}
            // It does not run.
            Err(error) if status(&error) == Some(304) => {}
            Err(error) => return Err(self.error_of(name, "stopping", &error)),
        }
        self.disconnect(name).await
    }

    async fn disconnect(&self, name: &InstanceName) -> Result<(), DriverError> {
        let (connector, name) = (self.connector.clone(), name.clone());
        blocking(move || connector.disconnect(&name)).await
    }

    async fn remove(&self, name: &InstanceName) -> Result<(), DriverError> {
        let engine = self.engine().await?;
        let found = match self.find(&engine, name).await {
            Ok(found) => Some(found),
            Err(DriverError::NotFound(_)) => None,
            Err(error) => return Err(error),
        };
        if let Some(found) = found {
            loop {
                let options = RemoveContainerOptionsBuilder::new()
                    .force(true)
                    .v(true)
                    .build();
                match engine.remove_container(&found.id, Some(options)).await {
                    Ok(()) => break,
                    Err(error) if status(&error) == Some(404) => break,
                    // It is being removed, by a call that was dropped; that ends by itself.
                    Err(error) if status(&error) == Some(409) => tokio::time::sleep(AGAIN).await,
                    Err(error) => return Err(self.error_of(name, "removing", &error)),
                }
            }
            self.remove_image(&found.launch).await?;
        }
        self.disconnect(name).await?;
        let folder = self.state.join(name.to_string());
        match std::fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(DriverError::failed(
                format!("removing {}", folder.display()),
                error,
            )),
            _ => Ok(()),
        }
    }

    async fn pause(&self, name: &InstanceName) -> Result<(), DriverError> {
        let engine = self.engine().await?;
        let found = self.find(&engine, name).await?;
        match engine.pause_container(&found.id).await {
            Ok(()) => Ok(()),
            Err(error) if words(&error).contains("already paused") => Ok(()),
            Err(error) => Err(self.error_of(name, "pausing", &error)),
        }
    }

    async fn resume(&self, name: &InstanceName) -> Result<(), DriverError> {
        let engine = self.engine().await?;
        let found = self.find(&engine, name).await?;
        match found.state {
            ContainerSummaryStateEnum::RUNNING => Ok(()),
            _ => self.unpause(&engine, name).await,
        }
    }

    async fn unpause(&self, engine: &Docker, name: &InstanceName) -> Result<(), DriverError> {
        match engine.unpause_container(&name.to_string()).await {
            Ok(()) => Ok(()),
            Err(error) if words(&error).contains("not paused") => Ok(()),
            Err(error) => Err(self.error_of(name, "resuming", &error)),
        }
    }

    async fn exec(&self, name: &InstanceName, command: &Command) -> Result<Output, DriverError> {
        let engine = self.engine().await?;
        let found = self.find(&engine, name).await?;
        let doing = "running a program in";
        let config = ExecConfig {
            attach_stdin: Some(!command.input.is_empty()),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(command.words.clone()),
            ..ExecConfig::default()
        };
        let made = engine
            .create_exec(&found.id, config)
            .await
            .map_err(|error| self.error_of(name, doing, &error))?;
        let started = engine
            .start_exec(&made.id, None)
            .await
            .map_err(|error| self.error_of(name, doing, &error))?;
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        if let StartExecResults::Attached {
            mut output,
            mut input,
        } = started
        {
            let write = async {
                // A program need not read its input.
                let _ = input.write_all(&command.input).await;
                let _ = input.shutdown().await;
            };
            let read = async {
                while let Some(part) = output.try_next().await? {
                    let kept = match part {
                        LogOutput::StdErr { .. } => &mut stderr,
                        _ => &mut stdout,
                    };
                    let part = part.into_bytes();
                    let room = MAX_OUTPUT - kept.len();
                    kept.extend_from_slice(&part[..part.len().min(room)]);
                }
                Ok(())
            };
            let ((), read) = tokio::join!(write, read);
            read.map_err(|error: Error| self.error_of(name, doing, &error))?;
        }
        let ended = engine
            .inspect_exec(&made.id)
            .await
            .map_err(|error| self.error_of(name, doing, &error))?;
        Ok(Output {
            status: ended.exit_code.unwrap_or(-1),
            stdout,
            stderr,
        })
    }

    async fn logs(&self, name: &InstanceName, most: usize) -> Result<Vec<u8>, DriverError> {
        let engine = self.engine().await?;
        let found = self.find(&engine, name).await?;
        let options = LogsOptionsBuilder::new()
            .stdout(true)
            .stderr(true)
            .tail(LOG_LINES)
            .build();
        let mut parts = engine.logs(&found.id, Some(options));
        let mut kept = Vec::new();
        while let Some(part) = parts
            .try_next()
            .await
            .map_err(|error| self.error_of(name, "reading what was printed by", &error))?
        {
            kept.extend_from_slice(&part.into_bytes());
            if kept.len() > most * 2 {
                kept.drain(..kept.len() - most);
            }
        }
        kept.drain(..kept.len().saturating_sub(most));
        Ok(kept)
    }
}

/// The group that counts the memory of a process with this `/proc/PID/cgroup`: that of version 1's controller, or else of
/// version 2. A process that has ended is in the topmost group, which is the machine's.
fn memory_group(text: &str) -> Option<&str> {
    let group = |is_it: fn(&str) -> bool| {
        text.lines().find_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            is_it(controllers).then_some(path)
        })
    };
    group(|controllers| controllers.split(',').any(|name| name == "memory"))
        .or_else(|| group(str::is_empty))
        .filter(|path| *path != "/")
}

/// How a container ended. The engine adds 128 to the number of a signal.
fn ended(state: &ContainerState) -> Phase {
    let status = state.exit_code.map(|code| match code {
        129..=192 => 128 - code,
        code => code,
    });
    let reason = match (state.oom_killed, state.error.as_deref()) {
        (Some(true), _) => "out of memory",
        (_, Some(error)) => error,
        _ => "",
    };
    Phase::Ended {
        status,
        reason: reason.to_owned(),
    }
}

/// The container of an instance.
fn body(launch: &Launch, owner: &str, files: &Path) -> ContainerCreateBody {
    let mut labels: HashMap<String, String> = launch.labels.clone().into_iter().collect();
    // A launch is plain data.
    let text = serde_json::to_string(launch).unwrap_or_default();
    labels.extend([
        (OWNER.to_owned(), owner.to_owned()),
        (INSTANCE.to_owned(), launch.name.to_string()),
        (POOL.to_owned(), launch.name.pool.to_string()),
        (LAUNCH.to_owned(), text),
    ]);
    let mut host = HostConfig {
        memory: launch.memory.and_then(|bytes| i64::try_from(bytes).ok()),
        // No swap beside it.
        memory_swap: launch.memory.and_then(|bytes| i64::try_from(bytes).ok()),
        // Limits are at most 1024 cores.
        nano_cpus: launch.cpu.map(|cores| (cores * 1e9) as i64),
        pids_limit: launch.processes.and_then(|most| i64::try_from(most).ok()),
        binds: {
            let volume = launch.volume.as_ref();
            let volume = volume.map(|(source, target)| (source.as_path(), target.as_path()));
            let files = (!launch.files.is_empty()).then(|| (files, Path::new(FILES)));
            let binds = volume.into_iter().chain(files);
            let binds = binds.map(|(from, to)| format!("{}:{}", from.display(), to.display()));
            Some(binds.collect()).filter(|binds: &Vec<String>| !binds.is_empty())
        },
        // The controller relaunches.
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        log_config: Some(HostConfigLogConfig {
            typ: Some("json-file".to_owned()),
            config: Some(HashMap::from([
                ("max-size".to_owned(), "8m".to_owned()),
                ("max-file".to_owned(), "2".to_owned()),
            ])),
        }),
        ..HostConfig::default()
    };
    let mut exposed = None;
    match &launch.network {
        Network::Bridge(_) => host.network_mode = Some("none".to_owned()),
        Network::Host { inner_port: None } => host.network_mode = Some("host".to_owned()),
        Network::Host {
            inner_port: Some(port),
        } => {
            let inner = format!("{port}/tcp");
            host.port_bindings = Some(HashMap::from([(
                inner.clone(),
                Some(vec![PortBinding {
                    host_ip: Some(launch.endpoint.ip().to_string()),
                    host_port: Some(launch.endpoint.port().to_string()),
                }]),
            )]));
            exposed = Some(vec![inner]);
        }
    }
    let environment = launch
        .environment
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .chain([format!("{}={}", crate::spawn::INSTANCE, launch.name)])
        .collect();
    let arguments = Some(launch.arguments.clone()).filter(|arguments| !arguments.is_empty());
    ContainerCreateBody {
        image: launch.image.clone(),
        // The engine's word for a program.
        entrypoint: launch
            .program
            .as_ref()
            .map(|program| vec![program.display().to_string()]),
        cmd: arguments,
        working_dir: (!launch.files.is_empty()).then(|| FILES.to_owned()),
        env: Some(environment),
        user: launch.user.map(|(user, group)| match group {
            Some(group) => format!("{user}:{group}"),
            None => user.to_string(),
        }),
        hostname: Some(launch.name.to_string())
            .filter(|_| host.network_mode.as_deref() != Some("host")),
        labels: Some(labels),
        exposed_ports: exposed,
        host_config: Some(host),
        ..ContainerCreateBody::default()
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, DriverError> + Send + 'static,
) -> Result<T, DriverError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(DriverError::failed("connecting a container", error)))
}

#[async_trait]
impl Driver for DockerDriver {
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
            limits: true,
            clone: true,
            ..Capabilities::default()
        }
    }

    async fn list(&self) -> Result<Vec<Listed>, DriverError> {
        self.inner.list().await
    }

    async fn create(&self, launch: &Launch) -> Result<(), DriverError> {
        self.inner.create(launch).await
    }

    async fn start(&self, name: &InstanceName) -> Result<(), DriverError> {
        self.inner.start(name).await
    }

    async fn stop(&self, name: &InstanceName, grace: Duration) -> Result<(), DriverError> {
        self.inner.stop(name, grace).await
    }

    async fn remove(&self, name: &InstanceName) -> Result<(), DriverError> {
        self.inner.remove(name).await
    }

    async fn pause(&self, name: &InstanceName) -> Result<(), DriverError> {
        self.inner.pause(name).await
    }

    async fn resume(&self, name: &InstanceName) -> Result<(), DriverError> {
        self.inner.resume(name).await
    }

    async fn exec(&self, name: &InstanceName, command: &Command) -> Result<Output, DriverError> {
        self.inner.exec(name, command).await
    }

    async fn logs(&self, name: &InstanceName, most: usize) -> Result<Vec<u8>, DriverError> {
        self.inner.logs(name, most).await
    }

    async fn clone_to(&self, from: &InstanceName, launch: &Launch) -> Result<(), DriverError> {
        self.inner.clone_to(from, launch).await
    }

    fn watch(&self) -> broadcast::Receiver<Hint> {
        self.inner.hints.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_of_a_container_is_found() {
        let first = "12:pids:/docker/a\n8:cpu,cpuacct:/docker/a\n4:memory:/docker/a\n0::/\n";
        assert_eq!(memory_group(first), Some("/docker/a"));
        let second = "0::/system.slice/docker-a.scope\n";
        assert_eq!(memory_group(second), Some("/system.slice/docker-a.scope"));
        assert_eq!(memory_group("0::/\n"), None);
    }
}
