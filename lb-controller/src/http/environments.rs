//! Environments and commands over HTTP.

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use lb_commands::{
    command::{Command, CommandId},
    queue::QueueError,
};
use lb_model::{project::ObjectName, settings::Value};
use lb_proto::controller::v1;

use super::{
    Body, Site, guard,
    json::to_json,
    projects::{self, key, new_object, respond_json},
    routes::{Answer, not_allowed, object, ok, only_get, problem, query, refusal},
};
use crate::{
    api::{convert, environments::command as shown},
    environments::{Refusal, Whole, sees},
    queue::{CommandError, State},
    registry::Key,
};

/// Commands of an answer unless it is told otherwise, and at most.
const MOST: u64 = 100;
const AT_MOST: u64 = 5_000;

fn refused(error: &Refusal) -> Response<Body> {
    let text = error.to_string();
    match error {
        Refusal::Project(error) => projects::refused(error),
        Refusal::NoEnvironment(..) | Refusal::NoMember(..) => problem(StatusCode::NOT_FOUND, &text),
        Refusal::Exists(_) | Refusal::MemberExists(..) | Refusal::Deleting(_) => {
            problem(StatusCode::CONFLICT, &text)
        }
        Refusal::Exec(_) | Refusal::Pool(_) | Refusal::Handlers => {
            problem(StatusCode::FORBIDDEN, &text)
        }
        Refusal::Invalid(error) => {
            refusal(StatusCode::UNPROCESSABLE_ENTITY, &text, Some(&error.field))
        }
    }
}

fn failed(error: &CommandError) -> Response<Body> {
    let status = match error {
        CommandError::Refused(error) => return refused(error),
        CommandError::Queue(QueueError::NoCommand(_)) => StatusCode::NOT_FOUND,
        CommandError::Queue(QueueError::Full(_)) | CommandError::Store(_) => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        CommandError::Queue(_) => StatusCode::CONFLICT,
        CommandError::Ended => StatusCode::INTERNAL_SERVER_ERROR,
    };
    problem(status, &error.to_string())
}

/// An order was taken: its command, and the environment as it is now.
fn accepted(site: &Site, command: CommandId, project: &Key, environment: &Key) -> Response<Body> {
    let view = site.environments.environment(project, environment).ok();
    let ordered = v1::Ordered {
        command,
        environment: view.as_ref().map(convert::environment),
    };
    respond_json(StatusCode::ACCEPTED, &to_json(&ordered))
}

/// `/v1/environments`, and `/v1/projects/PROJECT/environments`
pub async fn all(site: &Site, project: Option<&str>, request: Request<Incoming>) -> Answer {
    let project = project.map(key).transpose()?;
    match (request.method(), project) {
        (&Method::GET, project) => {
            let caller = guard::caller(&request);
            let views = site.environments.environments(project.as_ref());
            let views = views.map_err(|error| refused(&error))?;
            Ok(ok(&to_json(&v1::ListEnvironmentsResponse {
                environments: views
                    .iter()
                    .filter(|view| caller.sees(view.environment.project))
                    .map(convert::environment)
                    .collect(),
            })))
        }
        (&Method::POST, Some(project)) => {
            let caller = guard::caller(&request);
            let mut map = object(request.into_body()).await?;
            let named = request_name(&mut map)?;
            let (name, settings): (ObjectName, _) = new_object(map)?;
            let created =
                site.environments
                    .create(&caller, &project, name.clone(), &settings, named);
            let (command, _) = created.await.map_err(|error| failed(&error))?;
            let mut response = accepted(site, command, &project, &Key::Name(name));
            *response.status_mut() = StatusCode::CREATED;
            Ok(response)
        }
        (_, Some(_)) => Err(not_allowed("GET, POST")),
        (_, None) => Err(not_allowed("GET")),
    }
}

/// The name of a request, under which it can be repeated.
fn request_name(
    map: &mut lb_model::settings::Map<String, Value>,
) -> Result<Option<String>, Response<Body>> {
    match map.remove("request") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if !text.is_empty() && text.len() <= 128 => Ok(Some(text)),
        Some(_) => Err(problem(
            StatusCode::UNPROCESSABLE_ENTITY,
            "request: give a text of 1 to 128 bytes, or leave it out",
        )),
    }
}

/// `/v1/projects/PROJECT/environments/ENVIRONMENT`
pub async fn one(site: &Site, project: &str, text: &str, request: Request<Incoming>) -> Answer {
    let (project, key) = (key(project)?, key(text)?);
    let view = site.environments.environment(&project, &key);
    let view = view.map_err(|error| refused(&error))?;
    let ordered = match *request.method() {
        Method::GET => return Ok(ok(&to_json(&convert::environment(&view)))),
        Method::PATCH => {
            let caller = guard::caller(&request);
            let patch = object(request.into_body()).await?;
            site.environments
                .update(&caller, &project, &key, &patch)
                .await
        }
        Method::DELETE => {
            site.environments
                .whole(&project, &key, Whole::Destroy)
                .await
        }
        _ => return Err(not_allowed("GET, PATCH, DELETE")),
    };
    let command = ordered.map_err(|error| failed(&error))?;
    Ok(accepted(site, command, &project, &key))
}

/// `…/ENVIRONMENT/members`
pub async fn members(site: &Site, project: &str, text: &str, request: Request<Incoming>) -> Answer {
    let (project, key) = (key(project)?, key(text)?);
    let view = site.environments.environment(&project, &key);
    let view = view.map_err(|error| refused(&error))?;
    match *request.method() {
        Method::GET => Ok(ok(&to_json(&convert::environment(&view))["members"])),
        Method::POST => {
            let caller = guard::caller(&request);
            let mut map = object(request.into_body()).await?;
            let named = request_name(&mut map)?;
            let (name, settings): (ObjectName, _) = new_object(map)?;
            let added = site
                .environments
                .add(&caller, &project, &key, name, &settings, named);
            let command = added.await.map_err(|error| failed(&error))?;
            Ok(accepted(site, command, &project, &key))
        }
        _ => Err(not_allowed("GET, POST")),
    }
}

/// `…/ENVIRONMENT/members/MEMBER`
pub async fn member(
    site: &Site,
    project: &str,
    text: &str,
    name: &str,
    request: Request<Incoming>,
) -> Answer {
    let (project, key) = (key(project)?, key(text)?);
    let view = site.environments.environment(&project, &key);
    let view = view.map_err(|error| refused(&error))?;
    let missing = || {
        refused(&Refusal::NoMember(
            name.to_owned(),
            view.environment.name.clone(),
        ))
    };
    match *request.method() {
        Method::GET => {
            let members = &to_json(&convert::environment(&view))["members"];
            let members = members.as_array().into_iter().flatten();
            let found = members.into_iter().find(|one| one["name"] == name);
            found.map(ok).ok_or_else(missing)
        }
        Method::DELETE => {
            let removed = site.environments.remove(&project, &key, name).await;
            let command = removed.map_err(|error| failed(&error))?;
            Ok(accepted(site, command, &project, &key))
        }
        _ => Err(not_allowed("GET, DELETE")),
    }
}

/// `…/ENVIRONMENT/VERB`: start, stop, suspend, resume, destroy, or clone with a name and settings.
pub async fn order(
    site: &Site,
    project: &str,
    text: &str,
    verb: &str,
    request: Request<Incoming>,
) -> Answer {
    let (project, key) = (key(project)?, key(text)?);
    if request.method() != Method::POST {
        return Err(not_allowed("POST"));
    }
    if verb == "clone" {
        let caller = guard::caller(&request);
        let (name, settings): (ObjectName, _) = new_object(object(request.into_body()).await?)?;
        let cloned = site
            .environments
            .clone_to(&caller, &project, &key, name.clone(), &settings);
        let command = cloned.await.map_err(|error| failed(&error))?;
        return Ok(accepted(site, command, &project, &Key::Name(name)));
    }
    let verb: Whole = verb
        .parse()
        .map_err(|advice: String| problem(StatusCode::NOT_FOUND, &format!("{advice}, or clone")))?;
    let ordered = site.environments.whole(&project, &key, verb).await;
    let command = ordered.map_err(|error| failed(&error))?;
    Ok(accepted(site, command, &project, &key))
}

/// `/v1/commands`: the newest; `open=1` has those that have not ended.
pub fn commands<B>(site: &Site, request: &Request<B>) -> Answer {
    only_get(request)?;
    let uri = request.uri();
    let is_open = query(uri, "open") == Some(1);
    let most = query(uri, "most").unwrap_or(MOST).min(AT_MOST);
    let (caller, commands) = (guard::caller(request), site.environments.commands());
    let wanted = |state: &State, one: &Command| {
        one.parent.is_none() && !(is_open && one.state.has_ended()) && sees(state, &caller, one)
    };
    let list = commands.list(wanted, usize::try_from(most).unwrap_or_default());
    Ok(ok(&to_json(&v1::ListCommandsResponse {
        commands: list.iter().map(|one| shown(commands, one)).collect(),
    })))
}

fn number(text: &str) -> Result<CommandId, Response<Body>> {
    text.parse()
        .map_err(|_| problem(StatusCode::NOT_FOUND, "a command has a number"))
}

/// `/v1/commands/ID`: the command with all that it has waited for.
pub fn command<B>(site: &Site, text: &str, request: &Request<B>) -> Answer {
    only_get(request)?;
    let commands = site.environments.commands();
    let tree = commands.tree(number(text)?);
    let tree = tree.map_err(|error| failed(&error.into()))?;
    Ok(ok(&to_json(&v1::ListCommandsResponse {
        commands: tree.iter().map(|one| shown(commands, one)).collect(),
    })))
}

/// `/v1/commands/ID/cancel` and `/v1/commands/ID/retry`
pub async fn order_command(
    site: &Site,
    text: &str,
    verb: &str,
    request: Request<Incoming>,
) -> Answer {
    if request.method() != Method::POST {
        return Err(not_allowed("POST"));
    }
    let id = number(text)?;
    let commands = site.environments.commands();
    let ordered = match verb {
        "cancel" => {
            let why = "it was cancelled by an operator".to_owned();
            commands.cancel(id, why).await
        }
        "retry" => commands.retry(id).await,
        _ => return Err(problem(StatusCode::NOT_FOUND, "give cancel or retry")),
    };
    let id = ordered.map_err(|error| failed(&error))?;
    let found = commands.get(id).map_err(|error| failed(&error.into()))?;
    Ok(respond_json(
        StatusCode::ACCEPTED,
        &to_json(&shown(commands, &found)),
    ))
}
