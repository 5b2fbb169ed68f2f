//! Orders as one JSON envelope: `{"action": …, "type": …, "info": {…}}`, answered by the same with a `status`.
//!
//! It has words of its own for what is in [`BalancerSpec`]; this file translates, and decides nothing.

mod subnet;

use http::StatusCode;
use lb_model::{
    component::Component,
    project::{Backend, BalancerSpec, HostName, ObjectName},
    settings::{FieldError, Map, Value, nothing_left},
};
use serde_json::json;

use super::guard::Gate;
use crate::{
    KINDS,
    access::{Names, verbs},
    projects::{BalancerView, OrderError, ProjectView, SERVING},
    registry::{Key, Refusal, Update},
};

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Create,
    Info,
    Update,
    Delete,
}

impl Action {
    const fn name(self) -> &'static str {
        match self {
            Action::Create => "create",
            Action::Info => "info",
            Action::Update => "update",
            Action::Delete => "delete",
        }
    }
}

/// What it is done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A project.
    Project,
    /// A subnet.
    Subnet,
    /// A load balancer.
    Instance,
}

impl Kind {
    /// Its name in orders.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Project => "project",
            Kind::Subnet => "subnet",
            Kind::Instance => "instance",
        }
    }
}

/// The names of the envelope for settings of a load balancer, and what is before them in errors.
const WORDS: [(&str, &str); 13] = [
    ("protocol", "type"),
    ("pool", "backend.pool"),
    ("backends", "backend.entitys"),
    ("check.kind", "backend.health-check.protocol"),
    ("check.port", "backend.health-check.port"),
    ("check.path", "backend.health-check.request-path"),
    ("check.interval", "backend.health-check.criteria.interval"),
    ("check.timeout", "backend.health-check.criteria.timeout"),
    (
        "check.healthy_threshold",
        "backend.health-check.criteria.health-threshold",
    ),
    (
        "check.unhealthy_threshold",
        "backend.health-check.criteria.unhealth-threshold",
    ),
    ("check", "backend.health-check"),
    ("auto_scaling", "backend.auto-scaling"),
    ("backend_port", "backend.port"),
];

/// Why an order was not followed.
#[derive(Debug)]
struct Failure {
    status: StatusCode,
    /// The field of `info` that is wrong; empty if none is.
    field: String,
    text: String,
}

impl Failure {
    fn denied((status, text): (StatusCode, String)) -> Self {
        Failure {
            status,
            field: String::new(),
            text,
        }
    }

    fn of(error: &FieldError) -> Self {
        Failure {
            status: StatusCode::UNPROCESSABLE_ENTITY,
            field: error.field.clone(),
            text: error.to_string(),
        }
    }

    fn wrong(field: &str, value: &Value, advice: impl Into<String>) -> Self {
        Self::of(&FieldError::new(field, value, advice))
    }

    fn missing(field: &str, advice: &str) -> Self {
        Self::of(&FieldError::missing(field, advice))
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        match &refusal {
            // In the words of the envelope.
            Refusal::Invalid(error) => Failure::of(&translated(error)),
            _ => Failure {
                status: status(&refusal),
                field: String::new(),
                text: refusal.to_string(),
            },
        }
    }
}

impl From<OrderError> for Failure {
    fn from(error: OrderError) -> Self {
        match error {
            OrderError::Refused(refusal) => refusal.into(),
            OrderError::Store(_) => Failure {
                status: StatusCode::SERVICE_UNAVAILABLE,
                field: String::new(),
                text: error.to_string(),
            },
        }
    }
}

/// The status of HTTP that a refusal has.
#[must_use]
pub fn status(refusal: &Refusal) -> StatusCode {
    match refusal {
        Refusal::NoProject(_) | Refusal::NoBalancer(..) | Refusal::NoSubnet(..) => {
            StatusCode::NOT_FOUND
        }
        Refusal::ProjectExists(_)
        | Refusal::BalancerExists(..)
        | Refusal::SubnetExists(..)
        | Refusal::Deleting(_)
        | Refusal::SubnetInUse { .. }
        | Refusal::NotEmpty { .. } => StatusCode::CONFLICT,
        Refusal::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
        Refusal::Quota { .. } => StatusCode::FORBIDDEN,
        Refusal::NoAddresses(_)
        | Refusal::NoSubnetAddresses { .. }
        | Refusal::NoNodes
        | Refusal::NoShared => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// An error in the words of the envelope.
fn translated(error: &FieldError) -> FieldError {
    let fits = |(own, _): &&(&str, &str)| {
        error
            .field
            .strip_prefix(own)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    let Some((own, theirs)) = WORDS.iter().find(fits) else {
        return error.clone();
    };
    let rest = &error.field[own.len()..];
    // Entities have no parts.
    let rest = rest.strip_suffix(".address").unwrap_or(rest);
    FieldError {
        field: format!("{theirs}{rest}"),
        ..error.clone()
    }
}

/// Follows an order, and answers.
pub async fn answer(gate: &Gate<'_>, body: &[u8]) -> (StatusCode, Value) {
    let order: Value = match serde_json::from_slice(body) {
        Ok(order) => order,
        Err(error) => {
            let advice = r#"send {"action": …, "type": …, "info": {…}}"#;
            let text = format!("the body is no JSON: {error}; {advice}");
            return (
                StatusCode::BAD_REQUEST,
                json!({ "status": "fail", "info": { "error": text } }),
            );
        }
    };
    let (status, name, info) = match follow(gate, &order).await {
        Ok((status, info)) => (status, "successful", info),
        Err(failure) => {
            let mut info = json!({ "error": failure.text });
            if !failure.field.is_empty() {
                info["field"] = failure.field.into();
            }
            (failure.status, "fail", info)
        }
    };
    // What was asked comes back, so that answers can be told apart.
    let given = |field: &str| order.get(field).filter(|value| value.is_string()).cloned();
    let answer = json!({
        "status": name,
        "action": given("action"),
        "type": given("type"),
        "info": info,
    });
    (status, answer)
}

async fn follow(gate: &Gate<'_>, order: &Value) -> Result<(StatusCode, Value), Failure> {
    let (action, kind, info) = read(order)?;
    let Some(verb) = verbs::of_envelope(action.name(), kind.name()) else {
        return Err(Failure::denied((
            StatusCode::FORBIDDEN,
            "no role allows this order: this program has no rule for it".to_owned(),
        )));
    };
    let attempt = gate
        .enter(verb, names(action, kind, &info), foreign_id(kind, &info))
        .map_err(Failure::denied)?;
    let followed = match kind {
        Kind::Project => project(gate, action, info).await,
        Kind::Subnet => subnet::follow(gate, action, info).await,
        Kind::Instance => instance(gate, action, info).await,
    };
    let status = match &followed {
        Ok((status, _)) => *status,
        Err(failure) => failure.status,
    };
    gate.leave(&attempt, status);
    followed
}

/// What an order names its object by.
fn object_of(info: &Map<String, Value>) -> String {
    text_of(info.get("id").or_else(|| info.get("name")))
}

/// A text or a number, by which something is named.
fn text_of(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => String::new(),
    }
}

/// What an order names.
fn names(action: Action, kind: Kind, info: &Map<String, Value>) -> Names {
    let object = object_of(info);
    let name = |field| Names::of([(field, object.clone())]);
    match (kind, action) {
        (Kind::Project, Action::Create) => name("name"),
        (Kind::Project, _) => name("project"),
        (Kind::Instance, _) => Names::of([
            ("project", text_of(info.get("project"))),
            ("balancer", object),
        ]),
        (Kind::Subnet, _) => Names::of([
            ("project", text_of(info.get("project"))),
            ("subnet", object),
        ]),
    }
}

/// The id of an object that is in some project, if an order names one.
fn foreign_id(kind: Kind, info: &Map<String, Value>) -> Option<(Kind, u64)> {
    // As `take_key` reads it, from whatever field.
    match object_of(info).parse() {
        Ok(Key::Id(id)) if kind != Kind::Project => Some((kind, id)),
        _ => None,
    }
}

/// What is said of an object that does not exist.
pub fn there_is_no(kind: &str, id: u64) -> String {
    format!("there is no {kind} {id}")
}

/// Reads what an order is.
fn read(order: &Value) -> Result<(Action, Kind, Map<String, Value>), Failure> {
    let Value::Object(map) = order else {
        return Err(Failure::wrong(
            "",
            order,
            "give an object with action, type and info",
        ));
    };
    let mut map = map.clone();
    let action = match map.remove("action").as_ref().and_then(Value::as_str) {
        Some("create") => Action::Create,
        Some("info") => Action::Info,
        Some("update") => Action::Update,
        Some("delete") => Action::Delete,
        _ => return Err(one_of(order, "action", "create, info, update or delete")),
    };
    let kind = match map.remove("type").as_ref().and_then(Value::as_str) {
        Some("project") => Kind::Project,
        Some("subnet") => Kind::Subnet,
        Some("instance" | "load-balancer") => Kind::Instance,
        _ => return Err(one_of(order, "type", "project, subnet or instance")),
    };
    let info = match map.remove("info") {
        Some(Value::Object(info)) => info,
        None if action == Action::Info => Map::new(),
        None => return Err(Failure::missing("info", "give an object")),
        Some(other) => return Err(Failure::wrong("info", &other, "give an object")),
    };
    if let Some((field, value)) = map.iter().next() {
        return Err(Failure::wrong(
            field,
            value,
            "there is no such field; there are action, type and info",
        ));
    }
    Ok((action, kind, info))
}

fn one_of(order: &Value, field: &str, names: &str) -> Failure {
    let advice = format!("give {names}");
    match order.get(field) {
        Some(value) => Failure::wrong(field, value, advice),
        None => Failure::missing(field, &advice),
    }
}

/// Takes the key of an object out of a map: an id, or a name.
fn take_key(map: &mut Map<String, Value>, field: &str) -> Result<Option<Key>, Failure> {
    let Some(value) = map.remove(field) else {
        return Ok(None);
    };
    let key = match &value {
        Value::Number(number) => number.as_u64().map(Key::Id),
        Value::String(text) => match text.parse() {
            Ok(key) => Some(key),
            Err(advice) => return Err(Failure::wrong(field, &value, advice)),
        },
        _ => None,
    };
    let advice = "give an id, which is a whole number, or a name";
    key.map(Some)
        .ok_or_else(|| Failure::wrong(field, &value, advice))
}

/// Takes what names the object: its `id`, or its `name`.
fn take_object(map: &mut Map<String, Value>) -> Result<Option<Key>, Failure> {
    let id = take_key(map, "id")?;
    if matches!(id, Some(Key::Name(_))) {
        return Err(Failure::missing(
            "id",
            "give a whole number, or a name as `name`",
        ));
    }
    match id {
        // With an id a name would be another one.
        Some(_) => match map.remove("name") {
            None => Ok(id),
            Some(name) => Err(Failure::wrong("name", &name, "names stay; give id or name")),
        },
        None => take_key(map, "name"),
    }
}

fn take_name(map: &mut Map<String, Value>) -> Result<ObjectName, Failure> {
    match map.remove("name") {
        Some(Value::String(text)) => text
            .parse()
            .map_err(|advice: String| Failure::wrong("name", &text.into(), advice)),
        Some(value) => Err(Failure::wrong("name", &value, "give a text")),
        None => Err(Failure::missing("name", "give a name")),
    }
}

/// Takes whether what is in an object is to be deleted, too.
fn take_everything(map: &mut Map<String, Value>) -> Result<bool, Failure> {
    match map.remove("everything") {
        None => Ok(false),
        Some(Value::Bool(everything)) => Ok(everything),
        Some(value) => Err(Failure::wrong("everything", &value, "give true or false")),
    }
}

const NAME: &str = "give id or name";

async fn project(
    gate: &Gate<'_>,
    action: Action,
    mut info: Map<String, Value>,
) -> Result<(StatusCode, Value), Failure> {
    let projects = gate.projects();
    if action == Action::Create {
        let name = take_name(&mut info)?;
        info.remove("instances");
        info.remove("subnets");
        let view = projects.create_project(name, &info).await?;
        return Ok((StatusCode::CREATED, project_info(&view)));
    }
    let key = take_object(&mut info)?;
    match action {
        Action::Info => {
            nothing_left(&info, &[]).map_err(|error| Failure::of(&error))?;
            let Some(key) = key else {
                let views = projects.projects();
                let seen = views
                    .iter()
                    .filter(|view| gate.caller().sees(view.record.id));
                let list: Vec<Value> = seen.map(project_info).collect();
                return Ok((StatusCode::OK, json!({ "projects": list })));
            };
            Ok((StatusCode::OK, project_info(&projects.project(&key)?)))
        }
        Action::Update => {
            let key = key.ok_or_else(|| Failure::missing("id", NAME))?;
            let view = projects.update_project(&key, &info, Update::Patch).await?;
            Ok((StatusCode::OK, project_info(&view)))
        }
        _ => {
            let key = key.ok_or_else(|| Failure::missing("id", NAME))?;
            let everything = take_everything(&mut info)?;
            nothing_left(&info, &[]).map_err(|error| Failure::of(&error))?;
            let view = projects.delete_project(&key, everything).await?;
            Ok((StatusCode::OK, project_info(&view)))
        }
    }
}

fn project_info(view: &ProjectView) -> Value {
    let ids = |list: &[(u64, ObjectName)]| -> Vec<Value> {
        let ids = list.iter();
        ids.map(|(id, name)| json!({ "id": id, "name": name }))
            .collect()
    };
    let mut info = Value::Object(view.record.spec.clone());
    info["id"] = view.record.id.into();
    info["name"] = view.record.name.as_str().into();
    info["instances"] = ids(&view.balancers).into();
    info["subnets"] = ids(&view.subnets).into();
    info
}

/// What an order about objects of projects is about that creates none.
enum About<V> {
    /// All of them, of which it wants to hear.
    All(Vec<V>),
    One(V),
}

/// Takes what names the object out of an `info`: a name is one in its project, an id needs none.
fn about<V>(
    action: Action,
    kind: &str,
    project: Option<&Key>,
    info: &mut Map<String, Value>,
    all: impl FnOnce(Option<&Key>) -> Result<Vec<V>, Refusal>,
    one: impl FnOnce(&Key, &Key) -> Result<V, Refusal>,
    by_id: impl FnOnce(u64) -> Option<V>,
) -> Result<About<V>, Failure> {
    match (project, take_object(info)?) {
        (project, None) if action == Action::Info => {
            nothing_left(info, &[]).map_err(|error| Failure::of(&error))?;
            Ok(About::All(all(project)?))
        }
        (_, None) => Err(Failure::missing("id", NAME)),
        (None, Some(Key::Name(_))) => Err(Failure::missing(
            "project",
            "give the project in which the name is, or an id",
        )),
        (None, Some(Key::Id(id))) => by_id(id).map(About::One).ok_or_else(|| Failure {
            status: StatusCode::NOT_FOUND,
            field: "id".to_owned(),
            text: there_is_no(kind, id),
        }),
        (Some(project), Some(key)) => Ok(About::One(one(project, &key)?)),
    }
}

async fn instance(
    gate: &Gate<'_>,
    action: Action,
    mut info: Map<String, Value>,
) -> Result<(StatusCode, Value), Failure> {
    let projects = gate.projects();
    let project = take_key(&mut info, "project")?;
    if action == Action::Create {
        let project = project
            .ok_or_else(|| Failure::missing("project", "give the id or the name of a project"))?;
        let name = take_name(&mut info)?;
        let settings = settings(info)?;
        let view = projects.create_balancer(&project, name, &settings).await?;
        return Ok((StatusCode::CREATED, instance_info(&view)));
    }
    let found = about(
        action,
        "instance",
        project.as_ref(),
        &mut info,
        |project| projects.balancers(project),
        |project, key| projects.balancer(project, key),
        |id| projects.balancer_by_id(id),
    )?;
    let found = match found {
        About::All(views) => {
            let seen = views
                .iter()
                .filter(|view| gate.caller().sees(view.record.project));
            let list: Vec<Value> = seen.map(instance_info).collect();
            return Ok((StatusCode::OK, json!({ "instances": list })));
        }
        About::One(found) => found,
    };
    if !gate.caller().sees(found.record.project) {
        return Err(Failure::denied((
            StatusCode::NOT_FOUND,
            there_is_no("instance", found.record.id),
        )));
    }
    let (project, key) = (Key::Id(found.record.project), Key::Id(found.record.id));
    match action {
        Action::Update => {
            let settings = settings(info)?;
            let view = projects
                .update_balancer(&project, &key, &settings, Update::Patch)
                .await?;
            Ok((StatusCode::OK, instance_info(&view)))
        }
        Action::Delete => {
            nothing_left(&info, &[]).map_err(|error| Failure::of(&error))?;
            let view = projects.delete_balancer(&project, &key).await?;
            Ok((StatusCode::OK, instance_info(&view)))
        }
        _ => {
            nothing_left(&info, &[]).map_err(|error| Failure::of(&error))?;
            Ok((StatusCode::OK, instance_info(&found)))
        }
    }
}

/// The settings of a load balancer that an `info` has. Those that have the same name in both are taken as they are.
fn settings(mut info: Map<String, Value>) -> Result<Map<String, Value>, Failure> {
    let mut settings = Map::new();
    match info.remove("type") {
        None => {}
        Some(Value::Array(list)) if list.len() == 1 => {
            settings.extend(
                list.into_iter()
                    .map(|value| ("protocol".to_owned(), lower(value))),
            );
        }
        Some(value) => {
            settings.insert("protocol".to_owned(), lower(value));
        }
    }
    let backend = match (info.remove("backend"), info.remove("backends")) {
        (Some(_), Some(value)) => {
            return Err(Failure::wrong(
                "backends",
                &value,
                "it is the same as backend; give one of them",
            ));
        }
        (one, other) => one.or(other),
    };
    match backend {
        None => {}
        Some(Value::Object(backend)) => read_backend(backend, &mut settings)?,
        Some(value) => {
            let advice = "give an object with entitys or pool, health-check and auto-scaling";
            return Err(Failure::wrong("backend", &value, advice));
        }
    }
    // Whatever is left is called as it is in the settings, or is refused there.
    for name in [
        "kind",
        "port",
        "subnet",
        "nodes",
        "max_nodes",
        "labels",
        "description",
    ] {
        settings.extend(info.remove(name).map(|value| (name.to_owned(), value)));
    }
    if let Some((field, value)) = info.iter().next() {
        let advice = "there is no such field; there are id, name, project, type, kind, port, backend, subnet, nodes, max_nodes, labels and description";
        return Err(Failure::wrong(field, value, advice));
    }
    Ok(settings)
}

fn lower(value: Value) -> Value {
    match value {
        Value::String(text) => text.to_ascii_lowercase().into(),
        other => other,
    }
}

/// Takes a field that has several spellings.
fn take_any(map: &mut Map<String, Value>, names: &[&str]) -> Option<Value> {
    names.iter().find_map(|name| map.remove(*name))
}

fn read_backend(
    mut backend: Map<String, Value>,
    settings: &mut Map<String, Value>,
) -> Result<(), Failure> {
    if let Some(value) = take_any(&mut backend, &["entitys", "entities"]) {
        let mut backends = Vec::new();
        read_entities(&value, "backend.entitys", &mut backends)?;
        settings.insert("backends".to_owned(), backends.into());
    }
    if let Some(value) = backend.remove("pool") {
        settings.insert("pool".to_owned(), value);
    }
    if let Some(value) = backend.remove("port") {
        settings.insert("backend_port".to_owned(), value);
    }
    if let Some(value) = take_any(&mut backend, &["auto-scaling", "auto_scaling"]) {
        settings.insert("auto_scaling".to_owned(), value);
    }
    match take_any(&mut backend, &["health-check", "health_check"]) {
        None => {}
        Some(Value::Null) => {
            settings.insert("check".to_owned(), Value::Null);
        }
        Some(Value::Object(check)) if check.is_empty() => {
            settings.insert("check".to_owned(), Value::Null);
        }
        Some(Value::Object(check)) => {
            settings.insert("check".to_owned(), read_check(check)?);
        }
        Some(value) => {
            return Err(Failure::wrong(
                "backend.health-check",
                &value,
                "give an object",
            ));
        }
    }
    left(
        &backend,
        "backend",
        "entitys, pool, port, health-check and auto-scaling",
    )
}

fn left(map: &Map<String, Value>, at: &str, names: &str) -> Result<(), Failure> {
    match map.iter().next() {
        None => Ok(()),
        Some((field, value)) => {
            let advice = format!("there is no such field; there are {names}");
            Err(Failure::wrong(&format!("{at}.{field}"), value, advice))
        }
    }
}

/// Reads entities: texts such as `10.0.0.1`, `web.example` or `10.0.0.1:8080`, also in lists, where a number after one is its port.
fn read_entities(value: &Value, at: &str, backends: &mut Vec<Value>) -> Result<(), Failure> {
    let Value::Array(items) = value else {
        return Err(Failure::wrong(
            at,
            value,
            "give a list of addresses or names",
        ));
    };
    for (position, item) in items.iter().enumerate() {
        let at = format!("{at}[{position}]");
        match item {
            Value::String(text) => backends.push(read_entity(text)),
            Value::Array(_) => read_entities(item, &at, backends)?,
            Value::Object(_) => backends.push(item.clone()),
            Value::Number(_) if position > 0 && items[position - 1].is_string() => {
                if let Some(last) = backends.last_mut() {
                    last["port"] = item.clone();
                }
            }
            _ => return Err(Failure::wrong(&at, item, "give an address or a name")),
        }
    }
    Ok(())
}

/// An entity; what it is not is refused with the settings.
fn read_entity(text: &str) -> Value {
    let (host, port) = HostName::split_port(text);
    match port {
        Some(port) => json!({ "address": host, "port": port }),
        None => json!({ "address": host }),
    }
}

fn read_check(mut check: Map<String, Value>) -> Result<Value, Failure> {
    const AT: &str = "backend.health-check";
    let mut read = Map::new();
    let protocol = check.remove("protocol").unwrap_or_else(|| "http".into());
    read.insert("kind".to_owned(), lower(protocol));
    if let Some(value) = check.remove("port") {
        read.insert("port".to_owned(), value);
    }
    if let Some(value) = take_any(&mut check, &["request-path", "request_path"])
        && read["kind"] != "tcp"
    {
        read.insert("path".to_owned(), value);
    }
    match check.remove("criteria") {
        None => {}
        Some(Value::Object(mut criteria)) => {
            for (name, spellings) in [
                ("interval", &["interval"][..]),
                ("timeout", &["timeout"]),
                (
                    "healthy_threshold",
                    &["health-threshold", "healthy-threshold"],
                ),
                (
                    "unhealthy_threshold",
                    &["unhealth-threshold", "unhealthy-threshold"],
                ),
            ] {
                let Some(value) = take_any(&mut criteria, spellings) else {
                    continue;
                };
                let is_time = matches!(name, "interval" | "timeout");
                let value = match value {
                    // Plain numbers are seconds.
                    Value::Number(number) if is_time => format!("{number}s").into(),
                    other => other,
                };
                read.insert(name.to_owned(), value);
            }
            let names = "interval, timeout, health-threshold and unhealth-threshold";
            left(&criteria, &format!("{AT}.criteria"), names)?;
        }
        Some(value) => {
            return Err(Failure::wrong(
                &format!("{AT}.criteria"),
                &value,
                "give an object",
            ));
        }
    }
    left(&check, AT, "protocol, port, request-path and criteria")?;
    Ok(Value::Object(read))
}

fn instance_info(view: &BalancerView) -> Value {
    let record = &view.record;
    let conditions = view.seen.conditions.iter();
    let why = conditions
        .clone()
        .find(|one| one.kind == SERVING)
        .map(|one| one.why.clone());
    let mut info = json!({
        "id": record.id,
        "name": record.name,
        "project": view.project,
        "state": view.state(),
        "why": why,
        "url": view.url,
        "addresses": view.addresses(),
    });
    // What is stored was checked.
    if let Ok(spec) = BalancerSpec::read(&record.spec, KINDS.probes) {
        info["type"] = spec.protocol.name().into();
        info["port"] = spec.listen_port().into();
        info["backend"] = backend_info(&spec);
        info["nodes"] = spec.nodes.into();
        if let Some(subnet) = &spec.subnet {
            info["subnet"] = subnet.as_str().into();
        }
        info["kind"] = spec.kind.name().into();
    }
    info
}

fn backend_info(spec: &BalancerSpec) -> Value {
    let entity = |backend: &Backend| match backend.port {
        Some(port) => backend.address.with_port(port),
        None => backend.address.to_string(),
    };
    let entities: Vec<String> = spec.backends.iter().map(entity).collect();
    let check = spec.check.as_ref().map_or_else(
        || json!({}),
        |check| {
            let Component { kind, settings } = &check.probe;
            let mut info = json!({
                "protocol": kind.to_ascii_uppercase(),
                "port": check.port,
                "criteria": {
                    "interval": check.interval.as_secs_f64(),
                    "timeout": check.timeout().as_secs_f64(),
                    "health-threshold": check.healthy_threshold,
                    "unhealth-threshold": check.unhealthy_threshold,
                },
            });
            if let Some(path) = settings.get("path") {
                info["request-path"] = path.clone();
            }
            info
        },
    );
    let mut info = json!({
        "entitys": entities,
        "health-check": check,
        "auto-scaling": spec.auto_scaling,
    });
    if let Some(pool) = &spec.pool {
        info["pool"] = pool.as_str().into();
    }
    info
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(info: Value) -> Result<BalancerSpec, String> {
        let settings = settings(info.as_object().unwrap().clone());
        let settings = settings.map_err(|failure| failure.text)?;
        BalancerSpec::read(&settings, KINDS.probes).map_err(|error| translated(&error).to_string())
    }

    #[test]
    fn an_instance_is_read_in_either_form_and_answered_in_the_first() {
        let check = json!({
            "protocol": "HTTP",
            "port": 80,
            "request-path": "/",
            "criteria": { "interval": 5, "timeout": 5, "health-threshold": 2, "unhealth-threshold": 2 },
        });
        let first = json!({
            "type": ["http"],
            "backend": { "entitys": [["10.0.0.1", "web.example:81"]], "health-check": check, "auto-scaling": true },
        });
        let second = json!({
            "type": "HTTP",
            "backends": { "entities": ["10.0.0.1", ["web.example", 81]], "health_check": check, "auto_scaling": true },
        });
        let spec = read(first).unwrap();
        assert_eq!(spec, read(second).unwrap());
        assert_eq!(spec.backends.len(), 2);
        let info = backend_info(&spec);
        assert_eq!(info["entitys"], json!(["10.0.0.1", "web.example:81"]));
        assert_eq!(info["auto-scaling"], true);
        for (name, value) in check.as_object().unwrap() {
            if name == "criteria" {
                for (name, value) in value.as_object().unwrap() {
                    let read = &info["health-check"]["criteria"][name];
                    assert_eq!(read.as_f64(), value.as_f64(), "{name}");
                }
            } else {
                assert_eq!(info["health-check"][name], *value, "{name}");
            }
        }
        let empty = read(json!({ "backend": { "entitys": [], "health-check": {} } })).unwrap();
        assert!(empty.check.is_none() && empty.backends.is_empty());
        let six =
            read(json!({ "backend": { "entitys": ["[2001:db8::1]:81", "2001:db8::2"] } })).unwrap();
        assert_eq!(
            backend_info(&six)["entitys"],
            json!(["[2001:db8::1]:81", "2001:db8::2"])
        );
    }

    #[test]
    fn errors_name_fields_of_the_envelope() {
        for (info, field) in [
            (json!({ "type": "smtp" }), "type: "),
            (json!({ "type": ["tcp", "http"] }), "type: "),
            (json!({ "backend": [] }), "backend: "),
            (json!({ "backend": {}, "backends": {} }), "backends: "),
            (
                json!({ "backend": { "entitys": "10.0.0.1" } }),
                "backend.entitys: ",
            ),
            (
                json!({ "backend": { "entitys": [true] } }),
                "backend.entitys[0]: ",
            ),
            (
                json!({ "backend": { "entitys": ["10.0.0.1", "10.0.0.256"] } }),
                "backend.entitys[1]: ",
            ),
            (
                json!({ "backend": { "entitys": [{ "colour": 1 }] } }),
                "backend.entitys[0]",
            ),
            (
                json!({ "backend": { "auto-scaling": "maybe" } }),
                "backend.auto-scaling: ",
            ),
            (
                json!({ "backend": { "health-check": 7 } }),
                "backend.health-check: ",
            ),
            (
                json!({ "backend": { "health-check": { "protocol": "ICMP" } } }),
                "backend.health-check.protocol: ",
            ),
            (
                json!({ "backend": { "health-check": { "port": 0 } } }),
                "backend.health-check.port: ",
            ),
            (
                json!({ "backend": { "health-check": { "request-path": "x y" } } }),
                "backend.health-check.request-path: ",
            ),
            (
                json!({ "backend": { "health-check": { "criteria": { "interval": 5, "timeout": 6 } } } }),
                "backend.health-check.criteria.timeout: ",
            ),
            (
                json!({ "backend": { "health-check": { "criteria": { "health-threshold": 0 } } } }),
                "backend.health-check.criteria.health-threshold: ",
            ),
            (
                json!({ "backend": { "health-check": { "criteria": { "colour": 0 } } } }),
                "backend.health-check.criteria.colour: ",
            ),
            (json!({ "backend": { "colour": 1 } }), "backend.colour: "),
            (json!({ "colour": 1 }), "colour: "),
            (json!({ "port": 70_000 }), "port: "),
        ] {
            let error = read(info.clone()).unwrap_err();
            assert!(error.starts_with(field), "{info}: {error}");
        }
    }
}
