//! Subnets over HTTP.

use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use lb_proto::controller::v1;

use super::{
    Site, guard,
    json::to_json,
    projects::{failed, key, new_object, refused, respond_json, update},
    routes::{Answer, not_allowed, object, ok, query},
};
use crate::api::convert;

/// `/v1/subnets`, and `/v1/projects/PROJECT/subnets`
pub async fn all(site: &Site, project: Option<&str>, request: Request<Incoming>) -> Answer {
    let project = project.map(key).transpose()?;
    match (request.method(), project) {
        (&Method::GET, project) => {
            let caller = guard::caller(&request);
            let views = site.projects.subnets(project.as_ref());
            let views = views.map_err(|error| refused(&error))?;
            Ok(ok(&to_json(&v1::ListSubnetsResponse {
                subnets: views
                    .iter()
                    .filter(|view| caller.sees(view.record.project))
                    .map(convert::subnet)
                    .collect(),
            })))
        }
        (&Method::POST, Some(project)) => {
            let (name, settings) = new_object(object(request.into_body()).await?)?;
            let created = site.projects.create_subnet(&project, name, &settings).await;
            let view = created.map_err(|error| failed(&error))?;
            Ok(respond_json(
                StatusCode::CREATED,
                &to_json(&convert::subnet(&view)),
            ))
        }
        (_, Some(_)) => Err(not_allowed("GET, POST")),
        (_, None) => Err(not_allowed("GET")),
    }
}

/// `/v1/projects/PROJECT/subnets/SUBNET`
pub async fn one(site: &Site, project: &str, text: &str, request: Request<Incoming>) -> Answer {
    let (project, key) = (key(project)?, key(text)?);
    let view = site
        .projects
        .subnet(&project, &key)
        .map_err(|error| refused(&error))?;
    let updated = match *request.method() {
        Method::GET => return Ok(ok(&to_json(&convert::subnet(&view)))),
        Method::PATCH | Method::PUT => {
            let update = update(request.method());
            let settings = object(request.into_body()).await?;
            site.projects
                .update_subnet(&project, &key, &settings, update)
                .await
        }
        Method::DELETE => {
            let everything = query(request.uri(), "everything") == Some(1);
            let deleted = site
                .projects
                .delete_subnet(&project, &key, everything)
                .await;
            deleted.map_err(|error| failed(&error))?;
            return Ok(super::empty(StatusCode::ACCEPTED));
        }
        _ => return Err(not_allowed("GET, PATCH, PUT, DELETE")),
    };
    let view = updated.map_err(|error| failed(&error))?;
    Ok(ok(&to_json(&convert::subnet(&view))))
}
