//! Orders about environments, and commands.

use std::{collections::BTreeSet, pin::Pin};

use futures::Stream;
use lb_commands::command::{Command, CommandId};
use lb_model::{project::ObjectName, settings::FieldError};
use lb_proto::{controller::v1, settings::struct_to_map};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::{convert, projects};
use crate::{
    access::Caller,
    environments::{Environments, Refusal, Whole, sees},
    queue::{CommandError, Commands, State},
    registry::Key,
};

/// The type of an environment in `google.rpc.ResourceInfo`.
const ENVIRONMENT: &str = "lb.controller.v1.Environment";
/// Commands of an answer unless it is told otherwise, and at most.
const MOST: usize = 100;
const AT_MOST: usize = 5_000;
/// Changes that a watcher may be behind.
const BEHIND: usize = 64;

/// A refusal with its details.
fn refused(refusal: &Refusal) -> Status {
    let text = refusal.to_string();
    let about = |code, name: String| {
        let details = ErrorDetails::with_resource_info(ENVIRONMENT, name, "", text.clone());
        Status::with_error_details(code, text.clone(), details)
    };
    match refusal {
        Refusal::Project(refusal) => projects::refused(refusal),
        Refusal::NoEnvironment(key, _) => about(Code::NotFound, key.to_string()),
        Refusal::NoMember(name, _) => about(Code::NotFound, name.clone()),
        Refusal::Exists(name) | Refusal::MemberExists(name, _) => {
            about(Code::AlreadyExists, name.clone())
        }
        Refusal::Invalid(error) => {
            let advice = format!("{}: {}", error.value, error.advice);
            let details = ErrorDetails::with_bad_request_violation(error.field.clone(), advice);
            Status::with_error_details(Code::InvalidArgument, text.clone(), details)
        }
        Refusal::Deleting(_) | Refusal::Exec(_) => Status::failed_precondition(text),
        Refusal::Pool(_) | Refusal::Handlers => Status::permission_denied(text),
    }
}

/// Why an order about a command was not taken.
pub fn failed(error: &CommandError) -> Status {
    use lb_commands::queue::QueueError;
    let text = error.to_string();
    match error {
        CommandError::Queue(QueueError::NoCommand(_)) => Status::not_found(text),
        CommandError::Queue(QueueError::Full(_)) => Status::resource_exhausted(text),
        CommandError::Queue(_) => Status::failed_precondition(text),
        CommandError::Refused(refusal) => refused(refusal),
        CommandError::Store(_) => Status::unavailable(text),
        CommandError::Ended => Status::internal(text),
    }
}

fn key(field: &str, text: &str) -> Result<Key, Status> {
    projects::read(field, text)
}

fn request(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn ordered(
    environments: &Environments,
    command: CommandId,
    project: &Key,
    environment: &Key,
) -> v1::Ordered {
    let view = environments.environment(project, environment).ok();
    v1::Ordered {
        command,
        environment: view.as_ref().map(convert::environment),
    }
}

pub async fn create(
    environments: &Environments,
    caller: &Caller,
    order: v1::CreateEnvironmentRequest,
) -> Result<v1::Ordered, Status> {
    let project = key("project", &order.project)?;
    let name: ObjectName = projects::read("name", &order.name)?;
    let settings = order.settings.map(struct_to_map).unwrap_or_default();
    let created = environments.create(caller, &project, name, &settings, request(order.request));
    let (command, view) = created.await.map_err(|error| failed(&error))?;
    Ok(v1::Ordered {
        command,
        environment: Some(convert::environment(&view)),
    })
}

pub async fn update(
    environments: &Environments,
    caller: &Caller,
    order: v1::UpdateEnvironmentRequest,
) -> Result<v1::Ordered, Status> {
    let project = key("project", &order.project)?;
    let environment = key("environment", &order.environment)?;
    let patch = order.patch.map(struct_to_map).unwrap_or_default();
    let updated = environments
        .update(caller, &project, &environment, &patch)
        .await;
    let command = updated.map_err(|error| failed(&error))?;
    Ok(ordered(environments, command, &project, &environment))
}

pub fn list(
    environments: &Environments,
    caller: &Caller,
    request: &v1::ListEnvironmentsRequest,
) -> Result<v1::ListEnvironmentsResponse, Status> {
    let project = projects::optional("project", &request.project)?;
    let environment = projects::optional("environment", &request.environment)?;
    let views = match (&project, environment) {
        (Some(project), Some(environment)) => environments
            .environment(project, &environment)
            .map(|view| vec![view]),
        (None, Some(_)) => {
            let advice = "give its project, too";
            return Err(refused(&Refusal::Invalid(FieldError::new(
                "environment",
                &request.environment,
                advice,
            ))));
        }
        (project, None) => environments.environments(project.as_ref()),
    };
    let views = views.map_err(|refusal| refused(&refusal))?;
    Ok(v1::ListEnvironmentsResponse {
        environments: views
            .iter()
            .filter(|view| caller.sees(view.environment.project))
            .map(convert::environment)
            .collect(),
    })
}

pub async fn add_member(
    environments: &Environments,
    caller: &Caller,
    order: v1::AddMemberRequest,
) -> Result<v1::Ordered, Status> {
    let project = key("project", &order.project)?;
    let environment = key("environment", &order.environment)?;
    let name: ObjectName = projects::read("name", &order.name)?;
    let settings = order.settings.map(struct_to_map).unwrap_or_default();
    let added = environments.add(
        caller,
        &project,
        &environment,
        name,
        &settings,
        request(order.request),
    );
    let command = added.await.map_err(|error| failed(&error))?;
    Ok(ordered(environments, command, &project, &environment))
}

pub async fn remove_member(
    environments: &Environments,
    order: v1::RemoveMemberRequest,
) -> Result<v1::Ordered, Status> {
    let project = key("project", &order.project)?;
    let environment = key("environment", &order.environment)?;
    let removed = environments
        .remove(&project, &environment, &order.member)
        .await;
    let command = removed.map_err(|error| failed(&error))?;
    Ok(ordered(environments, command, &project, &environment))
}

pub async fn whole(
    environments: &Environments,
    order: v1::OrderEnvironmentRequest,
) -> Result<v1::Ordered, Status> {
    let project = key("project", &order.project)?;
    let environment = key("environment", &order.environment)?;
    let verb: Whole = projects::read("verb", &order.verb)?;
    let done = environments.whole(&project, &environment, verb).await;
    let command = done.map_err(|error| failed(&error))?;
    Ok(ordered(environments, command, &project, &environment))
}

pub async fn clone(
    environments: &Environments,
    caller: &Caller,
    order: v1::CloneEnvironmentRequest,
) -> Result<v1::Ordered, Status> {
    let project = key("project", &order.project)?;
    let environment = key("environment", &order.environment)?;
    let name: ObjectName = projects::read("name", &order.name)?;
    let settings = order.settings.map(struct_to_map).unwrap_or_default();
    let cloned = environments.clone_to(caller, &project, &environment, name.clone(), &settings);
    let command = cloned.await.map_err(|error| failed(&error))?;
    Ok(ordered(environments, command, &project, &Key::Name(name)))
}

/// A command with what it waits for.
pub fn command(commands: &Commands, command: &Command) -> v1::Command {
    let waits = commands.read(|state| state.queue.waits_for(command));
    convert::command(command, waits)
}

pub fn list_commands(
    environments: &Environments,
    caller: &Caller,
    request: &v1::ListCommandsRequest,
) -> Result<v1::ListCommandsResponse, Status> {
    let commands = environments.commands();
    let list = if request.command > 0 {
        let tree = commands.tree(request.command);
        tree.map_err(|error| failed(&error.into()))?
    } else {
        let most = match request.most {
            0 => MOST,
            most => AT_MOST.min(most as usize),
        };
        let wanted = |state: &State, one: &Command| {
            one.parent.is_none()
                && !(request.open && one.state.has_ended())
                && (request.object.is_empty() || request.object == one.object)
                && sees(state, caller, one)
        };
        commands.list(wanted, most)
    };
    Ok(v1::ListCommandsResponse {
        commands: list.iter().map(|one| command(commands, one)).collect(),
    })
}

fn get(commands: &Commands, id: CommandId) -> Result<v1::Command, Status> {
    let found = commands.get(id).map_err(|error| failed(&error.into()))?;
    Ok(command(commands, &found))
}

pub async fn cancel(
    commands: &Commands,
    request: v1::CancelCommandRequest,
) -> Result<v1::Command, Status> {
    let why = if request.why.is_empty() {
        "it was cancelled by an operator".to_owned()
    } else {
        format!("it was cancelled by an operator: {}", request.why)
    };
    let cancelled = commands.cancel(request.command, why).await;
    get(commands, cancelled.map_err(|error| failed(&error))?)
}

pub async fn retry(
    commands: &Commands,
    request: v1::RetryCommandRequest,
) -> Result<v1::Command, Status> {
    let again = commands.retry(request.command).await;
    get(commands, again.map_err(|error| failed(&error))?)
}

/// What a watcher is sent.
type Changes = mpsc::Sender<Result<v1::WatchCommandsResponse, Status>>;
/// A stream of it.
pub type Watch = Pin<Box<dyn Stream<Item = Result<v1::WatchCommandsResponse, Status>> + Send>>;

/// Follows commands until the reader has gone, or the controller ends.
pub fn watch(
    environments: &Environments,
    caller: Caller,
    request: &v1::WatchCommandsRequest,
    mut stopping: watch::Receiver<bool>,
) -> Result<Watch, Status> {
    let commands = environments.commands();
    if request.command > 0 {
        get(commands, request.command)?;
    }
    let (changes, receiver) = mpsc::channel(BEHIND);
    let follower = Follower {
        caller,
        commands: commands.clone(),
        only: (request.command > 0).then_some(request.command),
        changes: changes.clone(),
    };
    let since = request.since_revision;
    tokio::spawn(async move {
        tokio::select! {
            _ = follower.run(since) => {}
            () = lb_serve::stopped(&mut stopping) => {
                let status = Status::unavailable("the controller is stopping; call again when it runs");
                // The reader may have gone.
                let _ = changes.send(Err(status)).await;
            }
        }
    });
    Ok(Box::pin(ReceiverStream::new(receiver)))
}

struct Follower {
    caller: Caller,
    commands: Commands,
    only: Option<CommandId>,
    changes: Changes,
}

impl Follower {
    async fn send(&self, revision: u64, command: Option<&Command>) -> Option<()> {
        let message = v1::WatchCommandsResponse {
            revision,
            snapshot_end: command.is_none(),
            command: command.map(|one| self::command(&self.commands, one)),
        };
        self.changes.send(Ok(message)).await.ok()
    }

    /// Whether it is the command that is followed, or one that it waits for, and the caller may know of it.
    fn is_for(&self, command: &Command) -> bool {
        let is_seen = |state: &State| sees(state, &self.caller, command);
        if !self.commands.read(is_seen) {
            return false;
        }
        let Some(only) = self.only else {
            return true;
        };
        let mut seen = BTreeSet::new();
        let mut at = Some(command.id);
        while let Some(id) = at {
            if id == only {
                return true;
            }
            if !seen.insert(id) {
                return false;
            }
            at = self.commands.get(id).ok().and_then(|one| one.parent);
        }
        false
    }

    async fn snapshot(&self, revision: u64) -> Option<()> {
        let open = self.commands.list(
            |_, one| !one.state.has_ended() || Some(one.id) == self.only,
            AT_MOST,
        );
        for command in open.iter().filter(|one| self.is_for(one)) {
            self.send(revision, Some(command)).await?;
        }
        self.send(revision, None).await
    }

    async fn run(self, since: u64) -> Option<()> {
        let mut revisions = self.commands.changed();
        let mut revision = *revisions.borrow_and_update();
        if since > 0 && self.commands.since(since).is_some() {
            revision = since;
        } else {
            self.snapshot(revision).await?;
        }
        loop {
            match self.commands.since(revision) {
                Some(changes) => {
                    for change in changes {
                        revision = change.revision;
                        if self.is_for(&change.command) {
                            self.send(revision, Some(&change.command)).await?;
                        }
                    }
                }
                // It is too far behind: it gets what there is now.
                None => {
                    revision = *revisions.borrow_and_update();
                    self.snapshot(revision).await?;
                }
            }
            tokio::select! {
                () = self.changes.closed() => return None,
                changed = revisions.changed() => changed.ok()?,
            }
        }
    }
}
