//! Users, tokens and the audit log over HTTP.

use std::time::Duration;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use lb_model::settings::{FieldError, Map, Value};
use lb_proto::controller::v1;

use super::{
    Body, Site, guard,
    json::to_json,
    respond,
    routes::{
        Answer, JSON, not_allowed, nothing_left, object, ok, problem, query, query_text, refusal,
    },
};
use crate::{
    access::{Access, AccessError, AccountError, Grant, accounts::read_grant},
    api::convert,
};

fn refused(error: &AccountError) -> Response<Body> {
    let text = error.to_string();
    match error {
        AccountError::NoUser(_) | AccountError::NoToken(_) => problem(StatusCode::NOT_FOUND, &text),
        AccountError::Exists(_) | AccountError::TooMany(_) => problem(StatusCode::CONFLICT, &text),
        AccountError::Invalid(error) => {
            refusal(StatusCode::UNPROCESSABLE_ENTITY, &text, Some(&error.field))
        }
    }
}

fn failed(error: &AccessError) -> Response<Body> {
    match error {
        AccessError::Refused(error) => refused(error),
        AccessError::Store(_) => problem(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
    }
}

fn created(value: &Value) -> Response<Body> {
    respond(StatusCode::CREATED, JSON, value.to_string())
}

/// Takes a text out of a map.
fn take_text(map: &mut Map<String, Value>, field: &str) -> Result<Option<String>, Response<Body>> {
    match map.remove(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        // It may be a password.
        Some(_) => Err(refused(&AccountError::Invalid(FieldError::new(
            field,
            "what is given",
            "give a text",
        )))),
    }
}

fn access(site: &Site) -> &Access {
    site.directory.access()
}

/// `/v1/users`
pub async fn users(site: &Site, request: Request<Incoming>) -> Answer {
    match request.method().as_str() {
        "GET" => {
            let users = access(site).users();
            let users = users.iter().map(|one| convert::user(one, &site.projects));
            Ok(ok(&to_json(&v1::ListUsersResponse {
                users: users.collect(),
            })))
        }
        "POST" => {
            let mut map = object(request.into_body()).await?;
            let name = take_text(&mut map, "name")?.unwrap_or_default();
            let password = take_text(&mut map, "password")?;
            let roles = map.remove("roles").unwrap_or_default();
            nothing_left(&map, "name, password and roles")?;
            let grants = grants(site, &roles).map_err(|error| refused(&error))?;
            let added = access(site)
                .add_user(&name, password.as_deref(), grants)
                .await;
            let record = added.map_err(|error| failed(&error))?;
            Ok(created(&to_json(&convert::user(&record, &site.projects))))
        }
        _ => Err(not_allowed("GET, POST")),
    }
}

fn grants(site: &Site, roles: &Value) -> Result<Vec<Grant>, AccountError> {
    let list = match roles {
        Value::Array(list) => list.clone(),
        Value::Null => Vec::new(),
        one => vec![one.clone()],
    };
    let read = |role: &Value| {
        let text = role.as_str().unwrap_or_default();
        read_grant(text, |project| site.directory.project(project))
    };
    list.iter().map(read).collect()
}

/// `/v1/users/USER`
pub async fn user<B>(site: &Site, user: &str, request: &Request<B>) -> Answer {
    if request.method() != "DELETE" {
        return Err(not_allowed("DELETE"));
    }
    let removed = access(site).remove_user(user).await;
    removed.map_err(|error| failed(&error))?;
    Ok(super::empty(StatusCode::NO_CONTENT))
}

/// `/v1/users/USER/password`
pub async fn password(site: &Site, user: &str, request: Request<Incoming>) -> Answer {
    if request.method() != "PUT" {
        return Err(not_allowed("PUT"));
    }
    let mut map = object(request.into_body()).await?;
    let password = take_text(&mut map, "password")?.unwrap_or_default();
    nothing_left(&map, "password")?;
    let changed = access(site).set_password(user, &password).await;
    let record = changed.map_err(|error| failed(&error))?;
    Ok(ok(&to_json(&convert::user(&record, &site.projects))))
}

/// The project that the query names: it exists, since the request was let in, or whoever asks may know that it does not.
fn project<B>(site: &Site, request: &Request<B>) -> Result<Option<u64>, Response<Body>> {
    let Some(text) = query_text(request.uri(), "project").filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let names = crate::access::Names::of([("project", text.clone())]);
    match site.directory.project(&text) {
        Some(id) => Ok(Some(id)),
        None => Err(problem(StatusCode::NOT_FOUND, &guard::hidden(&names))),
    }
}

/// `/v1/tokens`
pub async fn tokens(site: &Site, request: Request<Incoming>) -> Answer {
    let project = project(site, &request)?;
    match request.method().as_str() {
        "GET" => {
            let tokens = access(site).tokens(&guard::caller(&request), project);
            let tokens = tokens.iter().map(|one| convert::token(one, &site.projects));
            Ok(ok(&to_json(&v1::ListTokensResponse {
                tokens: tokens.collect(),
            })))
        }
        "POST" => {
            let mut map = object(request.into_body()).await?;
            let role = take_text(&mut map, "role")?.unwrap_or_default();
            let description = take_text(&mut map, "description")?.unwrap_or_default();
            let life = match map.remove("life") {
                None | Some(Value::Null) => None,
                Some(value) => {
                    let seconds = value.as_u64().filter(|seconds| *seconds > 0);
                    Some(Duration::from_secs(seconds.ok_or_else(|| {
                        let advice = "give seconds, a whole number above 0";
                        refused(&AccountError::Invalid(FieldError::new(
                            "life", &value, advice,
                        )))
                    })?))
                }
            };
            nothing_left(
                &map,
                "role, description and life; a project is named in the query",
            )?;
            let role = read_grant(&role, |_| None).map_err(|error| refused(&error))?;
            let grant = Grant { project, ..role };
            let exists = |id: u64| site.directory.project(&id.to_string()).is_some();
            let added = access(site)
                .add_token(grant, &description, life, exists)
                .await;
            let (token, record) = added.map_err(|error| failed(&error))?;
            Ok(created(&to_json(&v1::AddTokenResponse {
                token: Some(convert::token(&record, &site.projects)),
                text: token.expose(),
            })))
        }
        _ => Err(not_allowed("GET, POST")),
    }
}

/// `/v1/tokens/TOKEN`
pub async fn token<B>(site: &Site, token: &str, request: &Request<B>) -> Answer {
    if request.method() != "DELETE" {
        return Err(not_allowed("DELETE"));
    }
    let removed = access(site).remove_token(token).await;
    removed.map_err(|error| failed(&error))?;
    Ok(super::empty(StatusCode::NO_CONTENT))
}

/// `/v1/audit`
pub async fn audit<B>(site: &Site, request: &Request<B>) -> Answer {
    let caller = guard::caller(request);
    let project = project(site, request)?;
    let since = query(request.uri(), "since").and_then(|seconds| {
        let seconds = i64::try_from(seconds).ok()?;
        jiff::Timestamp::from_second(seconds).ok()
    });
    let wanted = Access::wanted(&caller, project, since, query(request.uri(), "most"));
    let entries = access(site).audit().read(wanted).await;
    let entries =
        entries.map_err(|error| problem(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()))?;
    Ok(ok(&to_json(&v1::ListAuditResponse {
        entries: entries.into_iter().map(convert::audit_entry).collect(),
    })))
}
