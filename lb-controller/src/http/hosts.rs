//! Hosts over HTTP.

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use lb_model::{
    duration,
    host::HostName,
    settings::{Map, Value, plain},
};
use lb_proto::controller::v1;

use super::{
    Body, Site,
    json::to_json,
    respond,
    routes::{Answer, JSON, not_allowed, nothing_left, object, ok, problem, query, refusal},
};
use crate::{
    api::{convert, hosts::duty},
    hosts::HostRefusal,
};

fn refused(error: &HostRefusal) -> Response<Body> {
    let status = match error {
        HostRefusal::Unknown(_) => StatusCode::NOT_FOUND,
        HostRefusal::NoHosts | HostRefusal::Busy { .. } | HostRefusal::Connected(_) => {
            StatusCode::CONFLICT
        }
        HostRefusal::Store(_) | HostRefusal::Token(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    problem(status, &error.to_string())
}

fn wrong(field: &str, text: &str) -> Response<Body> {
    refusal(
        StatusCode::UNPROCESSABLE_ENTITY,
        text,
        Some(&field.to_owned()),
    )
}

fn host_name(text: &str) -> Result<HostName, Response<Body>> {
    text.parse()
        .map_err(|error: lb_model::host::HostNameError| {
            problem(StatusCode::NOT_FOUND, &error.to_string())
        })
}

fn take(map: &mut Map<String, Value>, name: &str) -> Option<String> {
    map.remove(name)
        .filter(|value| !value.is_null())
        .map(|value| plain(&value))
}

/// `/v1/hosts`
pub async fn all(site: &Site, request: Request<Incoming>) -> Answer {
    match *request.method() {
        Method::GET => {
            let views = site.controller.hosts().views();
            Ok(ok(&to_json(&v1::ListHostsResponse {
                hosts: views.iter().map(convert::host).collect(),
            })))
        }
        _ => Err(not_allowed("GET")),
    }
}

/// `/v1/orphans`
pub fn orphans(site: &Site, request: &Request<Incoming>) -> Answer {
    match *request.method() {
        Method::GET => Ok(ok(&to_json(&convert::orphans(site.controller.orphans())))),
        _ => Err(not_allowed("GET")),
    }
}

/// `/v1/host-tokens`
pub async fn tokens(site: &Site, request: Request<Incoming>) -> Answer {
    if *request.method() != Method::POST {
        return Err(not_allowed("POST"));
    }
    let mut map = object(request.into_body()).await?;
    let name = take(&mut map, "name");
    let name = name
        .map(|text| {
            text.parse()
                .map_err(|error: lb_model::host::HostNameError| {
                    wrong("name", &format!("name: {error}"))
                })
        })
        .transpose()?;
    let lifetime = match take(&mut map, "lifetime") {
        None => std::time::Duration::from_secs(3_600),
        Some(text) => duration::parse(&text)
            .map_err(|error| wrong("lifetime", &format!("lifetime: {error}")))?,
    };
    nothing_left(&map, "name and lifetime")?;
    if !(1..=30 * 86_400).contains(&lifetime.as_secs()) {
        return Err(wrong("lifetime", "lifetime: give 1s to 30d"));
    }
    let made = site.controller.hosts().token(name, lifetime).await;
    let (token, listen) = made.map_err(|error| refused(&error))?;
    let token = to_json(&v1::HostToken {
        token,
        listen: listen.to_string(),
    });
    Ok(respond(StatusCode::CREATED, JSON, token.to_string()))
}

/// `/v1/hosts/HOST`
pub async fn one(site: &Site, host: &str, request: Request<Incoming>) -> Answer {
    let name = host_name(host)?;
    let hosts = site.controller.hosts();
    let view = hosts.show(&name).map_err(|error| refused(&error))?;
    match *request.method() {
        Method::GET => Ok(ok(&to_json(&convert::host(&view)))),
        Method::PATCH => {
            let mut map = object(request.into_body()).await?;
            let text = take(&mut map, "duty").unwrap_or_default();
            nothing_left(&map, "duty")?;
            let duty = duty(&text).map_err(|error| wrong("duty", &error.to_string()))?;
            let view = hosts.set_duty(&name, duty).await;
            let view = view.map_err(|error| refused(&error))?;
            Ok(ok(&to_json(&convert::host(&view))))
        }
        Method::DELETE => {
            let force = query(request.uri(), "force") == Some(1);
            let removed = hosts.remove(&name, force).await;
            removed.map_err(|error| refused(&error))?;
            Ok(super::empty(StatusCode::NO_CONTENT))
        }
        _ => Err(not_allowed("GET, PATCH, DELETE")),
    }
}
