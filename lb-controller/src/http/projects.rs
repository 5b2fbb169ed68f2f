//! Projects and load balancers over HTTP.

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use lb_model::settings::{FieldError, Map, Value};
use lb_proto::controller::v1;

use super::{
    Body, Site, envelope,
    guard::{self, Gate, Origin},
    json::to_json,
    respond,
    routes::{Answer, JSON, bytes, not_allowed, nothing_left, object, ok, problem, query, refusal},
};
use crate::{
    api::convert,
    projects::OrderError,
    registry::{Key, Refusal, Update},
};

pub(super) fn refused(error: &Refusal) -> Response<Body> {
    let field = match error {
        Refusal::Invalid(error) => Some(&error.field),
        _ => None,
    };
    refusal(envelope::status(error), &error.to_string(), field)
}

pub(super) fn failed(error: &OrderError) -> Response<Body> {
    match error {
        OrderError::Refused(error) => refused(error),
        OrderError::Store(_) => problem(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
    }
}

pub(super) fn key(text: &str) -> Result<Key, Response<Body>> {
    text.parse()
        .map_err(|advice: String| problem(StatusCode::NOT_FOUND, &advice))
}

/// Takes the name and the settings of a new object.
pub(super) fn new_object<N: std::str::FromStr<Err = String>>(
    mut map: Map<String, Value>,
) -> Result<(N, Map<String, Value>), Response<Body>> {
    let text = map.remove("name").unwrap_or_default();
    let name = text
        .as_str()
        .unwrap_or_default()
        .parse()
        .map_err(|advice: String| {
            refused(&Refusal::Invalid(FieldError::new("name", &text, advice)))
        })?;
    let settings = match map.remove("settings") {
        None => Map::new(),
        Some(Value::Object(settings)) => settings,
        Some(_) => {
            return Err(problem(
                StatusCode::UNPROCESSABLE_ENTITY,
                "settings: give an object",
            ));
        }
    };
    nothing_left(&map, "name and settings")?;
    Ok((name, settings))
}

pub(super) fn respond_json(status: StatusCode, value: &Value) -> Response<Body> {
    respond(status, JSON, value.to_string())
}

/// Orders in the envelope, whatever the method: `GET` with a body, or `POST`.
pub async fn envelope(site: &Site, request: Request<Incoming>) -> Answer {
    if !matches!(*request.method(), Method::GET | Method::POST) {
        return Err(not_allowed("GET, POST"));
    }
    let Some(origin) = request.extensions().get::<Origin>().cloned() else {
        return Err(problem(StatusCode::FORBIDDEN, "nobody sends this order"));
    };
    let body = bytes(request.into_body()).await?;
    if body.is_empty()
        && let Some(asked) = guard::ask_for_order(site, &origin)
    {
        return Err(asked);
    }
    let (status, answer) = envelope::answer(&Gate::new(site, &origin), &body).await;
    Ok(guard::with_challenges(site, respond_json(status, &answer)))
}

/// `/v1/projects`
pub async fn all(site: &Site, request: Request<Incoming>) -> Answer {
    match *request.method() {
        Method::GET => {
            let views = site.projects.projects();
            let caller = guard::caller(&request);
            let seen = views.iter().filter(|view| caller.sees(view.record.id));
            Ok(ok(&to_json(&v1::ListProjectsResponse {
                projects: seen.map(convert::project).collect(),
            })))
        }
        Method::POST => {
            let (name, settings) = new_object(object(request.into_body()).await?)?;
            let created = site.projects.create_project(name, &settings).await;
            let view = created.map_err(|error| failed(&error))?;
            Ok(respond_json(
                StatusCode::CREATED,
                &to_json(&convert::project(&view)),
            ))
        }
        _ => Err(not_allowed("GET, POST")),
    }
}

/// `/v1/projects/PROJECT`
pub async fn one(site: &Site, project: &str, request: Request<Incoming>) -> Answer {
    let key = key(project)?;
    let view = site
        .projects
        .project(&key)
        .map_err(|error| refused(&error))?;
    let updated = match *request.method() {
        Method::GET => return Ok(ok(&to_json(&convert::project(&view)))),
        Method::PATCH | Method::PUT => {
            let update = update(request.method());
            let settings = object(request.into_body()).await?;
            site.projects.update_project(&key, &settings, update).await
        }
        Method::DELETE => {
            let everything = query(request.uri(), "everything") == Some(1);
            let deleted = site.projects.delete_project(&key, everything).await;
            deleted.map_err(|error| failed(&error))?;
            return Ok(super::empty(StatusCode::ACCEPTED));
        }
        _ => return Err(not_allowed("GET, PATCH, PUT, DELETE")),
    };
    let view = updated.map_err(|error| failed(&error))?;
    Ok(ok(&to_json(&convert::project(&view))))
}

pub(super) fn update(method: &Method) -> Update {
    if *method == Method::PUT {
        Update::Replace
    } else {
        Update::Patch
    }
}

/// `/v1/balancers`, and `/v1/projects/PROJECT/balancers`
pub async fn balancers(site: &Site, project: Option<&str>, request: Request<Incoming>) -> Answer {
    let project = project.map(key).transpose()?;
    match (request.method(), project) {
        (&Method::GET, project) => {
            let views = site.projects.balancers(project.as_ref());
            let views = views.map_err(|error| refused(&error))?;
            let caller = guard::caller(&request);
            let seen = views.iter().filter(|view| caller.sees(view.record.project));
            Ok(ok(&to_json(&v1::ListBalancersResponse {
                balancers: seen.map(convert::balancer).collect(),
            })))
        }
        (&Method::POST, Some(project)) => {
            let (name, settings) = new_object(object(request.into_body()).await?)?;
            let created = site
                .projects
                .create_balancer(&project, name, &settings)
                .await;
            let view = created.map_err(|error| failed(&error))?;
            Ok(respond_json(
                StatusCode::CREATED,
                &to_json(&convert::balancer(&view)),
            ))
        }
        (_, Some(_)) => Err(not_allowed("GET, POST")),
        (_, None) => Err(not_allowed("GET")),
    }
}

/// `/v1/projects/PROJECT/balancers/BALANCER`
pub async fn balancer(
    site: &Site,
    project: &str,
    text: &str,
    request: Request<Incoming>,
) -> Answer {
    let (project, key) = (key(project)?, key(text)?);
    let view = site
        .projects
        .balancer(&project, &key)
        .map_err(|error| refused(&error))?;
    let updated = match *request.method() {
        Method::GET => return Ok(ok(&to_json(&convert::balancer(&view)))),
        Method::PATCH | Method::PUT => {
            let update = update(request.method());
            let settings = object(request.into_body()).await?;
            site.projects
                .update_balancer(&project, &key, &settings, update)
                .await
        }
        Method::DELETE => {
            let deleted = site.projects.delete_balancer(&project, &key).await;
            deleted.map_err(|error| failed(&error))?;
            return Ok(super::empty(StatusCode::ACCEPTED));
        }
        _ => return Err(not_allowed("GET, PATCH, PUT, DELETE")),
    };
    let view = updated.map_err(|error| failed(&error))?;
    Ok(ok(&to_json(&convert::balancer(&view))))
}
