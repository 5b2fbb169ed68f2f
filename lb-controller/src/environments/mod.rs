//! Environments: orders about them, and what is seen of them.
//!
//! What follows from an order is decided purely, in `lb-commands`; the queue stores it and has it run ([`crate::queue`]).
//!
//! - `execute.rs`: commands about pools and load balancers, done with what is there.
//! - `handlers.rs`: the operator's own handlers: programs and web hooks.
//! - `follow.rs`: the task that gives load balancers the addresses of their members, and notices who is down.

mod execute;
mod follow;
mod handlers;
mod view;

use std::time::Duration;

use lb_commands::{
    command::{Command, CommandId, NewCommand},
    environment::{
        Environment, OwnHandler,
        record::{MAX_MEMBERS, Rules, default_priority},
        verbs::{self, NewMember},
    },
};
use lb_model::{
    environment::{EnvironmentSpec, EventKind, MemberSpec, pool_of_member},
    pool::PoolName,
    project::ObjectName,
    settings::{FieldError, Map, Settings as _, Value, merged},
};
use lb_serve::vital::Registrar;

pub use self::{
    execute::Executor,
    follow::FOLLOWER,
    view::{EnvironmentView, MemberView},
};
use crate::{
    KINDS,
    access::{Caller, Role},
    controller::Controller,
    projects::Projects,
    queue::{CommandError, Commands, State},
    registry::Key,
};

/// Why an order about an environment was refused. Nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is about a project that is not there, or does not take it.
    #[error(transparent)]
    Project(#[from] crate::registry::Refusal),
    /// There is no such environment.
    #[error("there is no environment {0} in project {1}; `lbctl env list {1}` shows them")]
    NoEnvironment(Key, ObjectName),
    /// There is no such member.
    #[error("there is no member {0} in environment {1}; `lbctl env show` lists them")]
    NoMember(String, String),
    /// There is an environment of this name.
    #[error("there is an environment {0} in this project already; give another name")]
    Exists(String),
    /// There is a member of this name.
    #[error(
        "there is a member {0} in environment {1} already; give another name, or remove that one"
    )]
    MemberExists(String, String),
    /// It is being destroyed.
    #[error("the environment {0} is being destroyed")]
    Deleting(String),
    /// A setting cannot have its value.
    #[error("{0}")]
    Invalid(FieldError),
    /// Programs may not be handlers.
    #[error(
        "the handler {0} is a program, which runs as the controller's user: its operator has to allow that (--exec-drivers), or give a \
         web hook instead"
    )]
    Exec(String),
    /// Its pools run programs on the controller's hosts.
    #[error(
        "the member {0} is a pool, which runs programs and images on the controller's hosts: this needs the role operate for the whole \
         controller"
    )]
    Pool(String),
    /// Handlers order members of any kind.
    #[error(
        "handlers call from the controller's host and may add pools, which run programs on it: to set them takes the role operate for the \
         whole controller"
    )]
    Handlers,
}

impl From<Refusal> for FieldError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Invalid(error) => error,
            other => FieldError::new("environment", "", other.to_string()),
        }
    }
}

/// An order about an environment as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whole {
    /// To start its members.
    Start,
    /// To stop them.
    Stop,
    /// To suspend them.
    Suspend,
    /// To have them go on.
    Resume,
    /// To go, with them.
    Destroy,
}

impl Whole {
    /// The verb.
    #[must_use]
    pub const fn verb(self) -> &'static str {
        match self {
            Whole::Start => verbs::START,
            Whole::Stop => verbs::STOP,
            Whole::Suspend => verbs::SUSPEND,
            Whole::Resume => verbs::RESUME,
            Whole::Destroy => verbs::DESTROY,
        }
    }
}

impl std::str::FromStr for Whole {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [
            Whole::Start,
            Whole::Stop,
            Whole::Suspend,
            Whole::Resume,
            Whole::Destroy,
        ];
        let found = all.into_iter().find(|one| one.verb() == text);
        found.ok_or_else(|| "give start, stop, suspend, resume or destroy".to_owned())
    }
}

/// All environments.
#[derive(Clone, Debug)]
pub struct Environments {
    commands: Commands,
    controller: Controller,
    projects: Projects,
    allow_exec: bool,
}

impl Environments {
    /// Starts the task that follows them.
    #[must_use]
    pub fn start(
        commands: Commands,
        controller: Controller,
        projects: Projects,
        allow_exec: bool,
        parts: &Registrar,
    ) -> Self {
        let environments = Environments {
            commands,
            controller,
            projects,
            allow_exec,
        };
        environments.restore_guests();
        let following = follow::run(environments.clone());
        parts.spawn(FOLLOWER, "environments".to_owned(), following);
        environments
    }

    /// The queue.
    #[must_use]
    pub const fn commands(&self) -> &Commands {
        &self.commands
    }

    /// Has the pools of members that are there count in the quotas of their projects.
    fn restore_guests(&self) {
        let guests: Vec<(u64, PoolName)> = self.commands.read(|state| {
            let all = state.environments();
            let pools = all.flat_map(|one| {
                let members = one.members.iter();
                members.map(|member| (one.project, pool_of_member(one.id, member.id)))
            });
            pools.collect()
        });
        for (project, pool) in guests {
            // A load balancer has no such pool, and one that is being made is admitted by its command.
            for view in self.controller.views(Some(&pool)).unwrap_or_default() {
                self.projects.restore_guest(project, view.name, &view.spec);
            }
        }
    }

    fn project(&self, key: &Key) -> Result<(u64, ObjectName), Refusal> {
        let view = self.projects.project(key)?;
        Ok((view.record.id, view.record.name))
    }

    /// The environment that is meant.
    fn find(&self, project: &Key, key: &Key) -> Result<Environment, Refusal> {
        let (id, name) = self.project(project)?;
        self.commands.read(|state| {
            let found = found(state, id, key);
            found
                .cloned()
                .ok_or_else(|| Refusal::NoEnvironment(key.clone(), name))
        })
    }

    fn rules(&self, settings: &Map<String, Value>) -> Result<Rules, Refusal> {
        let spec = EnvironmentSpec::read(settings, KINDS.probes).map_err(Refusal::Invalid)?;
        let program = spec.handlers.iter().find(|one| !one.command.is_empty());
        if let Some(program) = program.filter(|_| !self.allow_exec) {
            return Err(Refusal::Exec(program.name.to_string()));
        }
        Ok(rules(&spec))
    }

    /// Creates an empty environment in a project. Returns it, with the number of the command.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn create(
        &self,
        caller: &Caller,
        project: &Key,
        name: ObjectName,
        settings: &Map<String, Value>,
        request: Option<String>,
    ) -> Result<(CommandId, EnvironmentView), CommandError> {
        let project_id = self.open_project(project)?;
        check_handlers(caller, settings)?;
        let rules = self.rules(settings)?;
        let key = Key::Name(name.clone());
        let order = move |state: &mut State, now: Duration| {
            if let Some(known) = request
                .as_deref()
                .and_then(|one| state.queue.requested(one))
            {
                return Ok(known);
            }
            check_name(state, project_id, &name)?;
            let id = state.next_environment();
            let command = NewCommand {
                request,
                ..verbs::about_all(id, name.as_str(), verbs::CREATE)
            };
            let command = state.queue.submit(command, now)?;
            let mut environment = Environment::new(id, project_id, name.as_str(), now);
            environment.follow(rules);
            environment.generation = 1;
            state.put(environment);
            Ok(command)
        };
        let command = self.commands.order(order).await?;
        Ok((command, self.environment(project, &key)?))
    }

    fn open_project(&self, project: &Key) -> Result<u64, Refusal> {
        let view = self.projects.project(project)?;
        if view.record.is_deleted {
            return Err(crate::registry::Refusal::Deleting(view.record.name).into());
        }
        Ok(view.record.id)
    }

    /// Changes settings of an environment.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn update(
        &self,
        caller: &Caller,
        project: &Key,
        key: &Key,
        patch: &Map<String, Value>,
    ) -> Result<CommandId, CommandError> {
        let environment = self.find(project, key)?;
        check_handlers(caller, patch)?;
        let rules = self.rules(&merged(&environment.spec, patch))?;
        let settings = serde_json::to_value(&rules).unwrap_or_default();
        let command = verbs::about_all(environment.id, &environment.name, verbs::UPDATE);
        self.submit(&environment, command.with("settings", settings), None)
            .await
    }

    /// The project of a command, by the environment that it is about: `None` if there is no such command, `Some(None)` if it is of
    /// no project that is known.
    #[must_use]
    pub fn project_of_command(&self, id: CommandId) -> Option<Option<u64>> {
        self.commands
            .read(|state| Some(project_of(state, state.queue.get(id)?)))
    }

    /// Adds a member. A pool runs what its settings say as the controller's user, so it takes who may do that.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn add(
        &self,
        caller: &Caller,
        project: &Key,
        key: &Key,
        name: ObjectName,
        settings: &Map<String, Value>,
        request: Option<String>,
    ) -> Result<CommandId, CommandError> {
        let environment = self.find(project, key)?;
        let spec = MemberSpec::read(settings, &KINDS).map_err(Refusal::Invalid)?;
        if spec.pool.is_some() && !may_run(caller) {
            return Err(Refusal::Pool(name.to_string()).into());
        }
        let is_known = request.as_deref().is_some_and(|one| {
            self.commands
                .read(|state| state.queue.requested(one).is_some())
        });
        if environment.named(name.as_str()).is_some() && !is_known {
            return Err(Refusal::MemberExists(name.to_string(), environment.name).into());
        }
        if environment.members.len() >= MAX_MEMBERS {
            let advice = format!("an environment has {MAX_MEMBERS} members at most");
            return Err(Refusal::Invalid(FieldError::new("name", name, advice)).into());
        }
        let (kind, settings) = match (&spec.pool, &spec.balancer) {
            (Some(pool), _) => (lb_commands::environment::MemberKind::Pool, pool.to_map()),
            (None, balancer) => (
                lb_commands::environment::MemberKind::Balancer,
                balancer
                    .as_ref()
                    .map(|one| one.to_map())
                    .unwrap_or_default(),
            ),
        };
        let new = NewMember {
            name: name.to_string(),
            priority: spec
                .priority
                .unwrap_or_else(|| default_priority(&spec.role)),
            role: spec.role,
            kind,
            settings,
            brought_by: None,
            replaces: None,
        };
        let command = verbs::add(environment.id, &new);
        self.submit(&environment, command, request).await
    }

    /// Removes a member, with what it is.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn remove(
        &self,
        project: &Key,
        key: &Key,
        member: &str,
    ) -> Result<CommandId, CommandError> {
        let environment = self.find(project, key)?;
        let found = environment.named(member);
        let found =
            found.ok_or_else(|| Refusal::NoMember(member.to_owned(), environment.name.clone()))?;
        let command = verbs::about_member(&environment, found, verbs::REMOVE);
        self.submit(&environment, command, None).await
    }

    /// Does something with an environment as a whole.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn whole(
        &self,
        project: &Key,
        key: &Key,
        order: Whole,
    ) -> Result<CommandId, CommandError> {
        let environment = self.find(project, key)?;
        if environment.is_deleted && order != Whole::Destroy {
            return Err(Refusal::Deleting(environment.name).into());
        }
        let command = verbs::about_all(environment.id, &environment.name, order.verb());
        self.submit(&environment, command, None).await
    }

    /// Creates another environment with the same members. `settings` has other settings of members' pools and load balancers, by
    /// the members' names. Pools take who may add them.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn clone_to(
        &self,
        caller: &Caller,
        project: &Key,
        key: &Key,
        name: ObjectName,
        settings: &Map<String, Value>,
    ) -> Result<CommandId, CommandError> {
        let environment = self.find(project, key)?;
        let pool = environment
            .members
            .iter()
            .find(|one| one.kind == lb_commands::environment::MemberKind::Pool);
        if let Some(pool) = pool.filter(|_| !may_run(caller)) {
            return Err(Refusal::Pool(pool.name.clone()).into());
        }
        let overrides = self.settings_of_clone(&environment, settings)?;
        let patience = patience(&environment);
        let order = move |state: &mut State, now: Duration| {
            check_name(state, environment.project, &name)?;
            let id = state.next_environment();
            let command = verbs::about_all(environment.id, &environment.name, verbs::CLONE);
            let command = command
                .with("target", id)
                .with("settings", overrides)
                .about(format!("clone {} to {name}", environment.name));
            let command = NewCommand {
                patience,
                ..command
            };
            let command = state.queue.submit(command, now)?;
            let mut clone = Environment::new(id, environment.project, name.as_str(), now);
            clone.follow(Rules {
                spec: environment.spec.clone(),
                handlers: environment.handlers.clone(),
                balancer: environment.balancer.clone(),
                brings_balancer: environment.brings_balancer,
            });
            clone.generation = 1;
            state.put(clone);
            Ok(command)
        };
        self.commands.order(order).await
    }

    /// The settings of the members of a clone that cannot be those of the original: two pools do not have the same ports.
    fn settings_of_clone(
        &self,
        environment: &Environment,
        given: &Map<String, Value>,
    ) -> Result<Map<String, Value>, Refusal> {
        let is_member = |name: &String| environment.named(name).is_some();
        if let Some(odd) = given.keys().find(|name| !is_member(name)) {
            return Err(Refusal::NoMember(odd.clone(), environment.name.clone()));
        }
        let mut settings = Map::new();
        let mut taken = self.controller.ports();
        for member in &environment.members {
            let patch = given.get(&member.name).and_then(Value::as_object);
            let mut own = match patch {
                Some(patch) => merged(&member.settings, patch),
                None => member.settings.clone(),
            };
            if member.kind == lb_commands::environment::MemberKind::Pool {
                let at = |error: FieldError| Refusal::Invalid(error.within(member.name.clone()));
                let mut spec = lb_model::pool::PoolSpec::read(&own, &KINDS).map_err(at)?;
                let before =
                    lb_model::pool::PoolSpec::read(&member.settings, &KINDS).map_err(at)?;
                if spec.network.range.is_some() && spec.network.range == before.network.range {
                    let advice = "the original has these addresses; give others for the clone";
                    let error = FieldError::new("network.range", "the same", advice);
                    return Err(at(error));
                }
                if spec.network.range.is_none() && spec.network.port == before.network.port {
                    let count = (spec.scaling.max + spec.scaling.spare).max(1);
                    spec.network.port = free_ports(&mut taken, spec.network.port, count)
                        .ok_or_else(|| {
                            at(FieldError::new(
                                "network.port",
                                spec.network.port,
                                "there are no free ports after it; give another one",
                            ))
                        })?;
                    own = spec.to_map();
                }
            }
            if own != member.settings {
                settings.insert(member.name.clone(), own.into());
            }
        }
        Ok(settings)
    }

    async fn submit(
        &self,
        environment: &Environment,
        command: NewCommand,
        request: Option<String>,
    ) -> Result<CommandId, CommandError> {
        let command = NewCommand {
            patience: patience(environment),
            request,
            ..command
        };
        self.commands.submit(command).await
    }

    /// An environment of a project.
    ///
    /// # Errors
    /// There is none.
    pub fn environment(&self, project: &Key, key: &Key) -> Result<EnvironmentView, Refusal> {
        let (_, name) = self.project(project)?;
        Ok(self.view(self.find(project, key)?, name.as_str()))
    }

    /// The environments of a project, or all, by number.
    ///
    /// # Errors
    /// There is no such project.
    pub fn environments(&self, project: Option<&Key>) -> Result<Vec<EnvironmentView>, Refusal> {
        let id = project.map(|key| self.project(key)).transpose()?;
        let all: Vec<Environment> = self.commands.read(|state| {
            let wanted = |one: &&Environment| id.as_ref().is_none_or(|(id, _)| *id == one.project);
            state.environments().filter(wanted).cloned().collect()
        });
        let views = all.into_iter().map(|environment| {
            let project = self.projects.project(&Key::Id(environment.project));
            let name = project.map(|view| view.record.name.to_string());
            self.view(environment, name.as_deref().unwrap_or_default())
        });
        Ok(views.collect())
    }
}

fn project_of(state: &State, command: &Command) -> Option<u64> {
    state.project_of(command.number(verbs::ENVIRONMENT))
}

/// Whether a caller may know of a command.
#[must_use]
pub fn sees(state: &State, caller: &Caller, command: &Command) -> bool {
    match project_of(state, command) {
        Some(project) => caller.sees(project),
        None => caller.role(None).is_some(),
    }
}

/// Whether a caller may have the controller run programs, or call somebody.
fn may_run(caller: &Caller) -> bool {
    caller.role(None) >= Some(Role::Operate)
}

fn check_handlers(caller: &Caller, settings: &Map<String, Value>) -> Result<(), Refusal> {
    if settings.contains_key("handlers") && !may_run(caller) {
        return Err(Refusal::Handlers);
    }
    Ok(())
}

/// How long an order about an environment may take.
fn patience(environment: &Environment) -> Option<Duration> {
    let spec = EnvironmentSpec::read(&environment.spec, KINDS.probes);
    Some(spec.ok()?.patience)
}

fn found<'a>(state: &'a State, project: u64, key: &Key) -> Option<&'a Environment> {
    let mut all = state.environments().filter(|one| one.project == project);
    all.find(|one| match key {
        Key::Id(id) => one.id == *id,
        Key::Name(name) => one.name == name.as_str(),
    })
}

fn check_name(state: &State, project: u64, name: &ObjectName) -> Result<(), Refusal> {
    match found(state, project, &Key::Name(name.clone())) {
        Some(other) if other.is_deleted => Err(Refusal::Deleting(name.to_string())),
        Some(_) => Err(Refusal::Exists(name.to_string())),
        None => Ok(()),
    }
}

/// What of the settings counts when commands are decided.
fn rules(spec: &EnvironmentSpec) -> Rules {
    let handlers = spec.handlers.iter().map(|one| OwnHandler {
        name: one.name.to_string(),
        event: event(one.event),
        role: one.role.clone().unwrap_or_default(),
        priority: one.priority,
    });
    Rules {
        handlers: handlers.collect(),
        balancer: spec
            .balancer
            .as_ref()
            .map(|one| one.to_map())
            .unwrap_or_default(),
        brings_balancer: spec.brings_balancer,
        spec: spec.to_map(),
    }
}

const fn event(kind: EventKind) -> lb_commands::environment::Event {
    use lb_commands::environment::Event;
    match kind {
        EventKind::BeforeItIsAdded => Event::BeforeItIsAdded,
        EventKind::AfterItIsAdded => Event::AfterItIsAdded,
        EventKind::BeforeOtherIsAdded => Event::BeforeOtherIsAdded,
        EventKind::AfterOtherIsAdded => Event::AfterOtherIsAdded,
        EventKind::IsDown => Event::IsDown,
        EventKind::IsUp => Event::IsUp,
        EventKind::AfterStart => Event::AfterStart,
        EventKind::BeforeStop => Event::BeforeStop,
    }
}

/// The first ports after these that no pool has, which are taken then.
fn free_ports(taken: &mut Vec<(u32, u32)>, after: u16, count: u32) -> Option<u16> {
    let mut first = u32::from(after);
    taken.sort_unstable();
    for (from, to) in taken.iter() {
        if *from < first + count && first <= *to {
            first = to + 1;
        }
    }
    if first + count > u32::from(u16::MAX) {
        return None;
    }
    taken.push((first, first + count - 1));
    u16::try_from(first).ok()
}
