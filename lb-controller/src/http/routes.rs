//! The paths, and what they answer.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode,
    header::{ALLOW, ETAG, IF_MATCH},
};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use lb_model::{
    pool::{InstanceName, PoolName},
    settings::{Map, Settings as _, Value},
};
use lb_proto::controller::v1;
use lb_serve::metrics::{Format, render};
use serde_json::json;

use super::{
    BODY, Body, MAX_BODY, Site, access, environments, history, hosts, json::to_json, openapi,
    projects, respond, stream, subnets,
};
use crate::{
    api::convert,
    controller::{Operation, Refused},
    metrics::Metrics,
    worker::{PoolView, Report},
};

pub(super) const JSON: &str = "application/json";
/// RFC 9457.
const PROBLEM: &str = "application/problem+json";
/// The most bytes of what an instance has printed.
const LOGS: usize = 64 << 10;
/// Events of an answer at most.
const EVENTS: usize = 200;

/// An answer that says what is wrong.
pub fn problem(status: StatusCode, detail: &str) -> Response<Body> {
    refusal(status, detail, None)
}

fn refused(refusal: &Refused) -> Response<Body> {
    let status = match refusal {
        Refused::NoPool(_) | Refused::NoInstance(_) => StatusCode::NOT_FOUND,
        Refused::Exists(_)
        | Refused::Deleting(_)
        | Refused::OfFile(_)
        | Refused::OfBalancer(_)
        | Refused::OfEnvironment(_) => StatusCode::CONFLICT,
        Refused::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
        Refused::Driver(_) | Refused::CannotPause(..) => StatusCode::CONFLICT,
        Refused::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        Refused::Ended(_) => StatusCode::INTERNAL_SERVER_ERROR,
        Refused::Instance(error) => match error.code() {
            lb_drivers::ErrorCode::NotFound => StatusCode::NOT_FOUND,
            _ => StatusCode::BAD_GATEWAY,
        },
    };
    let field = match refusal {
        Refused::Invalid(error) => Some(&error.field),
        _ => None,
    };
    self::refusal(status, &refusal.to_string(), field)
}

/// An answer that says what is wrong, and in which field.
pub fn refusal(status: StatusCode, detail: &str, field: Option<&String>) -> Response<Body> {
    let mut text = json!({
        "title": status.canonical_reason(),
        "status": status.as_u16(),
        "detail": detail,
    });
    if let Some(field) = field {
        text["field"] = field.as_str().into();
    }
    respond(status, PROBLEM, text.to_string())
}

pub(super) fn ok(value: &Value) -> Response<Body> {
    respond(StatusCode::OK, JSON, value.to_string())
}

/// Names the settings of a pool: FNV-1a of their text.
fn etag(view: &PoolView) -> String {
    let text = Value::Object(view.spec.to_map()).to_string();
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("\"{hash:016x}\"")
}

fn tagged(view: &PoolView, status: StatusCode, value: &Value) -> Response<Body> {
    let mut response = respond(status, JSON, value.to_string());
    // Hexadecimal digits in quotation marks.
    if let Ok(tag) = HeaderValue::from_str(&etag(view)) {
        response.headers_mut().insert(ETAG, tag);
    }
    response
}

fn pool(view: &PoolView, status: StatusCode) -> Response<Body> {
    tagged(view, status, &to_json(&convert::pool(view)))
}

/// Reads a body.
pub(super) async fn bytes(body: Incoming) -> Result<Bytes, Response<Body>> {
    let body = tokio::time::timeout(BODY, Limited::new(body, MAX_BODY).collect())
        .await
        .map_err(|_| problem(StatusCode::REQUEST_TIMEOUT, "the body did not come in time"))?
        .map_err(|error| problem(StatusCode::PAYLOAD_TOO_LARGE, &error.to_string()))?;
    Ok(body.to_bytes())
}

/// Reads a JSON object.
pub(super) async fn object(body: Incoming) -> Result<Map<String, Value>, Response<Body>> {
    let bytes = bytes(body).await?;
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(problem(StatusCode::BAD_REQUEST, "give a JSON object")),
        Err(error) => Err(problem(
            StatusCode::BAD_REQUEST,
            &format!("no JSON: {error}"),
        )),
    }
}

/// Refuses a body with other fields than those that were taken from it.
pub(super) fn nothing_left(map: &Map<String, Value>, names: &str) -> Result<(), Response<Body>> {
    match map.keys().next() {
        None => Ok(()),
        Some(field) => Err(refusal(
            StatusCode::UNPROCESSABLE_ENTITY,
            &format!("{field}: there is no such field; there are {names}"),
            Some(field),
        )),
    }
}

fn name(text: &str) -> Result<PoolName, Response<Body>> {
    text.parse().map_err(|error: lb_model::pool::NameError| {
        problem(StatusCode::NOT_FOUND, &error.to_string())
    })
}

/// A number of the query.
pub fn query(uri: &http::Uri, key: &str) -> Option<u64> {
    uri.query()?.split('&').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        (name == key).then(|| value.parse().ok())?
    })
}

/// A text of the query.
pub fn query_text(uri: &http::Uri, key: &str) -> Option<String> {
    uri.query()?.split('&').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        let text = percent_encoding::percent_decode_str(value).decode_utf8();
        (name == key).then(|| text.ok().map(Into::into))?
    })
}

/// Answers a request.
pub async fn route(site: &Site, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    let answered = match segments[..] {
        ["v1", "pools"] => pools(site, request).await,
        ["v1", "pools", pool] => one(site, pool, request).await,
        ["v1", "pools", pool, "settings"] => settings(site, pool, request).await,
        ["v1", "pools", pool, "instances"] => part(site, pool, &request, |view| {
            to_json(&convert::pool(view))["instances"].clone()
        }),
        ["v1", "pools", pool, "why"] => why(site, pool, &request),
        ["v1", "pools", pool, "events"] => events(site, pool, &request),
        ["v1", "pools", pool, "demand"] => demand(site, pool, request).await,
        ["v1", "pools", pool, "stream"] => match name(pool) {
            Ok(name) => stream::upgrade(site, name, request),
            Err(response) => Err(response),
        },
        ["v1", "instances", instance, "logs"] => logs(site, instance, &request).await,
        ["v1", "instances", instance, "operate"] => operate(site, instance, request).await,
        ["v1", "requests"] => projects::envelope(site, request).await,
        ["v1", "hosts"] => hosts::all(site, request).await,
        ["v1", "orphans"] => hosts::orphans(site, &request),
        ["v1", "hosts", host] => hosts::one(site, host, request).await,
        ["v1", "host-tokens"] => hosts::tokens(site, request).await,
        ["v1", "projects"] => projects::all(site, request).await,
        ["v1", "projects", project] => projects::one(site, project, request).await,
        ["v1", "users"] => access::users(site, request).await,
        ["v1", "users", user] => access::user(site, user, &request).await,
        ["v1", "users", user, "password"] => access::password(site, user, request).await,
        ["v1", "tokens"] => access::tokens(site, request).await,
        ["v1", "tokens", token] => access::token(site, token, &request).await,
        ["v1", "audit"] => access::audit(site, &request).await,
        ["v1", "history", name] => history::of_name(site, name, &request).await,
        ["v1", "projects", project, "balancers", balancer, "history"] => {
            history::of_balancer(site, project, balancer, &request).await
        }
        ["v1", "balancers"] => projects::balancers(site, None, request).await,
        ["v1", "projects", project, "balancers"] => {
            projects::balancers(site, Some(project), request).await
        }
        ["v1", "projects", project, "balancers", balancer] => {
            projects::balancer(site, project, balancer, request).await
        }
        ["v1", "environments"] => environments::all(site, None, request).await,
        ["v1", "projects", project, "environments"] => {
            environments::all(site, Some(project), request).await
        }
        ["v1", "projects", project, "environments", environment] => {
            environments::one(site, project, environment, request).await
        }
        [
            "v1",
            "projects",
            project,
            "environments",
            environment,
            "members",
        ] => environments::members(site, project, environment, request).await,
        [
            "v1",
            "projects",
            project,
            "environments",
            environment,
            "members",
            member,
        ] => environments::member(site, project, environment, member, request).await,
        ["v1", "projects", project, "environments", environment, verb] => {
            environments::order(site, project, environment, verb, request).await
        }
        ["v1", "commands"] => environments::commands(site, &request),
        ["v1", "commands", command] => environments::command(site, command, &request),
        ["v1", "commands", command, verb] => {
            environments::order_command(site, command, verb, request).await
        }
        ["v1", "subnets"] => subnets::all(site, None, request).await,
        ["v1", "projects", project, "subnets"] => subnets::all(site, Some(project), request).await,
        ["v1", "projects", project, "subnets", subnet] => {
            subnets::one(site, project, subnet, request).await
        }
        ["metrics"] => metrics(site, &request),
        ["healthz"] => only_get(&request)
            .map(|()| respond(StatusCode::OK, "text/plain; charset=utf-8", "ok\n")),
        ["v1", "openapi.json"] => only_get(&request).map(|()| ok(&openapi::document())),
        _ => Err(problem(
            StatusCode::NOT_FOUND,
            "there is nothing here; /v1/openapi.json describes the API",
        )),
    };
    answered.unwrap_or_else(|response| response)
}

fn metrics<B>(site: &Site, request: &Request<B>) -> Answer {
    only_get(request)?;
    let format = Format::negotiate(request.headers());
    let metrics = Metrics::take(
        &site.controller,
        &site.projects,
        site.environments.commands(),
        site.directory.access(),
    );
    let text = render(metrics, format);
    let text =
        text.map_err(|error| problem(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()))?;
    Ok(respond(StatusCode::OK, format.media_type(), text))
}

pub(super) type Answer = Result<Response<Body>, Response<Body>>;

pub(super) fn not_allowed(allow: &'static str) -> Response<Body> {
    let mut response = problem(
        StatusCode::METHOD_NOT_ALLOWED,
        &format!("this path takes {allow}"),
    );
    response
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static(allow));
    response
}

pub(super) fn only_get<B>(request: &Request<B>) -> Result<(), Response<Body>> {
    if request.method() == Method::GET {
        Ok(())
    } else {
        Err(not_allowed("GET"))
    }
}

fn view(site: &Site, name: &PoolName) -> Result<PoolView, Response<Body>> {
    let views = site.controller.views(Some(name));
    let mut views = views.map_err(|refusal| refused(&refusal))?;
    views
        .pop()
        .ok_or_else(|| refused(&Refused::NoPool(name.clone())))
}

/// Whether the settings are those that the caller has seen.
fn check_match(headers: &HeaderMap, view: &PoolView) -> Result<(), Response<Body>> {
    match headers.get(IF_MATCH).map(HeaderValue::as_bytes) {
        None | Some(b"*") => Ok(()),
        Some(tag) if tag == etag(view).as_bytes() => Ok(()),
        Some(_) => Err(problem(
            StatusCode::PRECONDITION_FAILED,
            "the settings have changed since you read them; read them again",
        )),
    }
}

async fn pools(site: &Site, request: Request<Incoming>) -> Answer {
    match *request.method() {
        Method::GET => {
            let revision = *site.controller.events().revision().borrow();
            let views = site.controller.views(None);
            let views = views.map_err(|refusal| refused(&refusal))?;
            let message = v1::ListPoolsResponse {
                pools: views.iter().map(convert::pool).collect(),
                revision,
                warnings: site.controller.warnings(),
            };
            Ok(ok(&to_json(&message)))
        }
        Method::POST => {
            let mut map = object(request.into_body()).await?;
            let text = map.remove("name").unwrap_or_default();
            let name: PoolName = text.as_str().unwrap_or_default().parse().map_err(
                |error: lb_model::pool::NameError| {
                    problem(StatusCode::UNPROCESSABLE_ENTITY, &format!("name: {error}"))
                },
            )?;
            let Some(Value::Object(settings)) = map.remove("settings") else {
                return Err(problem(
                    StatusCode::UNPROCESSABLE_ENTITY,
                    "settings: give an object with the settings of the pool",
                ));
            };
            nothing_left(&map, "name and settings")?;
            let added = site.controller.add(name, &settings).await;
            let view = added.map_err(|refusal| refused(&refusal))?;
            Ok(pool(&view, StatusCode::CREATED))
        }
        _ => Err(not_allowed("GET, POST")),
    }
}

async fn one(site: &Site, text: &str, request: Request<Incoming>) -> Answer {
    let name = name(text)?;
    let before = view(site, &name)?;
    match *request.method() {
        Method::GET => Ok(pool(&before, StatusCode::OK)),
        Method::PATCH => {
            check_match(request.headers(), &before)?;
            let patch = object(request.into_body()).await?;
            let updated = site.controller.update(&name, &patch).await;
            let view = updated.map_err(|refusal| refused(&refusal))?;
            Ok(pool(&view, StatusCode::OK))
        }
        Method::DELETE => {
            check_match(request.headers(), &before)?;
            let deleted = site.controller.delete(&name).await;
            deleted.map_err(|refusal| refused(&refusal))?;
            // It is gone when its instances are.
            Ok(super::empty(StatusCode::ACCEPTED))
        }
        _ => Err(not_allowed("GET, PATCH, DELETE")),
    }
}

/// The settings of a pool, as a whole.
async fn settings(site: &Site, text: &str, request: Request<Incoming>) -> Answer {
    let name = name(text)?;
    let before = view(site, &name)?;
    let value = |view: &PoolView| Value::Object(view.spec.to_map());
    match *request.method() {
        Method::GET => Ok(tagged(&before, StatusCode::OK, &value(&before))),
        Method::PUT => {
            check_match(request.headers(), &before)?;
            let mut new = object(request.into_body()).await?;
            // A setting that is not given has its default.
            for (name, _) in before.spec.to_map() {
                new.entry(name).or_insert(Value::Null);
            }
            let replaced = site.controller.replace(&name, &new).await;
            let view = replaced.map_err(|refusal| refused(&refusal))?;
            Ok(tagged(&view, StatusCode::OK, &value(&view)))
        }
        _ => Err(not_allowed("GET, PUT")),
    }
}

fn part<B>(
    site: &Site,
    text: &str,
    request: &Request<B>,
    part: impl FnOnce(&PoolView) -> Value,
) -> Answer {
    only_get(request)?;
    let view = view(site, &name(text)?)?;
    Ok(ok(&part(&view)))
}

fn why<B>(site: &Site, text: &str, request: &Request<B>) -> Answer {
    part(site, text, request, |view| {
        let decision = view.decision.as_ref().map(convert::decision);
        decision.map_or(Value::Null, |decision| to_json(&decision))
    })
}

fn events<B>(site: &Site, text: &str, request: &Request<B>) -> Answer {
    let name = name(text)?;
    let since = query(request.uri(), "since");
    part(site, text, request, |_| {
        let events = site.controller.events();
        let (events, complete) = match since.map(|since| events.since(since)) {
            Some(Ok(events)) => (events, true),
            Some(Err(_)) => (events.newest(&name, EVENTS), false),
            None => (events.newest(&name, EVENTS), true),
        };
        let of_pool = events
            .iter()
            .filter(|event| event.pool.as_ref() == Some(&name));
        let list: Vec<Value> = of_pool
            .map(|event| to_json(&convert::event(event)))
            .collect();
        json!({ "events": list, "complete": complete })
    })
}

async fn logs<B>(site: &Site, text: &str, request: &Request<B>) -> Answer {
    only_get(request)?;
    let instance: InstanceName = text.parse().map_err(|error: lb_model::pool::NameError| {
        problem(StatusCode::NOT_FOUND, &error.to_string())
    })?;
    let logs = site.controller.logs(&instance, LOGS).await;
    let logs = logs.map_err(|refusal| refused(&refusal))?;
    Ok(respond(StatusCode::OK, "text/plain; charset=utf-8", logs))
}

/// Does with an instance what the body says.
async fn operate(site: &Site, text: &str, request: Request<Incoming>) -> Answer {
    if request.method() != Method::POST {
        return Err(not_allowed("POST"));
    }
    let instance: InstanceName = text.parse().map_err(|error: lb_model::pool::NameError| {
        problem(StatusCode::NOT_FOUND, &error.to_string())
    })?;
    let mut map = object(request.into_body()).await?;
    let (word, host) = (map.remove("operation"), map.remove("host"));
    nothing_left(&map, "operation and host")?;
    let word = word.as_ref().and_then(Value::as_str).unwrap_or_default();
    let operation = Operation::parse(word, host.as_ref().and_then(Value::as_str));
    let operation = operation.map_err(|why| {
        let field = why.split(':').next().map(str::to_owned);
        refusal(StatusCode::UNPROCESSABLE_ENTITY, &why, field.as_ref())
    })?;
    let done = site.controller.operate(&instance, operation).await;
    let made = done.map_err(|refusal| refused(&refusal))?;
    let name = made.map(|name| name.to_string()).unwrap_or_default();
    Ok(ok(&to_json(&v1::OperateInstanceResponse { name })))
}

async fn demand(site: &Site, text: &str, request: Request<Incoming>) -> Answer {
    if request.method() != Method::POST {
        return Err(not_allowed("POST"));
    }
    let name = name(text)?;
    let map = object(request.into_body()).await?;
    let report = report(&map).ok_or_else(|| {
        problem(
            StatusCode::UNPROCESSABLE_ENTITY,
            "give requests, and pending by instance; counts are 0 or more",
        )
    })?;
    let reported = site.controller.report(&name, report).await;
    reported.map_err(|refusal| refused(&refusal))?;
    Ok(super::empty(StatusCode::NO_CONTENT))
}

/// What a proxy has counted.
pub fn report(map: &Map<String, Value>) -> Option<Report> {
    let count = |value: &Value| {
        value
            .as_f64()
            .filter(|count| count.is_finite() && *count >= 0.0)
    };
    let mut report = Report {
        requests: match map.get("requests") {
            Some(value) => count(value)?,
            None => 0.0,
        },
        latency: map.get("latency").and_then(count),
        ..Report::default()
    };
    if let Some(Value::Object(pending)) = map.get("pending") {
        for (name, value) in pending {
            report.pending.insert(name.parse().ok()?, count(value)?);
        }
    }
    Some(report)
}
