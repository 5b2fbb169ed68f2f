//! Orders about projects and load balancers.

use lb_model::settings::FieldError;
use lb_proto::{controller::v1, settings::struct_to_map};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::convert;
use crate::{
    access::{Caller, Names},
    projects::{OrderError, Projects},
    registry::{Key, Refusal, Update},
};

/// Types of objects in `google.rpc.ResourceInfo`.
const PROJECT: &str = "lb.controller.v1.Project";
const BALANCER: &str = "lb.controller.v1.Balancer";
const SUBNET: &str = "lb.controller.v1.Subnet";

/// What must not be known is answered as what does not exist.
pub fn no_such(names: &Names, text: String) -> Status {
    match names.get("project") {
        Some(project) => {
            let details = ErrorDetails::with_resource_info(PROJECT, project, "", text.clone());
            Status::with_error_details(Code::NotFound, text, details)
        }
        None => Status::not_found(text),
    }
}

/// A refusal with its details.
pub(super) fn refused(refusal: &Refusal) -> Status {
    let text = refusal.to_string();
    let about = |code, kind: &str, name: String| {
        let details = ErrorDetails::with_resource_info(kind, name, "", text.clone());
        Status::with_error_details(code, text.clone(), details)
    };
    match refusal {
        Refusal::NoProject(key) => about(Code::NotFound, PROJECT, key.to_string()),
        Refusal::NoBalancer(key, _) => about(Code::NotFound, BALANCER, key.to_string()),
        Refusal::NoSubnet(key, _) => about(Code::NotFound, SUBNET, key.to_string()),
        Refusal::SubnetExists(name, _) => about(Code::AlreadyExists, SUBNET, name.to_string()),
        Refusal::ProjectExists(name) => about(Code::AlreadyExists, PROJECT, name.to_string()),
        Refusal::BalancerExists(name, _) => about(Code::AlreadyExists, BALANCER, name.to_string()),
        Refusal::Invalid(error) => {
            let advice = format!("{}: {}", error.value, error.advice);
            let details = ErrorDetails::with_bad_request_violation(error.field.clone(), advice);
            Status::with_error_details(Code::InvalidArgument, text.clone(), details)
        }
        Refusal::Quota { .. } | Refusal::NoAddresses(_) | Refusal::NoSubnetAddresses { .. } => {
            Status::resource_exhausted(text)
        }
        Refusal::Deleting(_)
        | Refusal::NotEmpty { .. }
        | Refusal::SubnetInUse { .. }
        | Refusal::NoNodes
        | Refusal::NoShared => Status::failed_precondition(text),
    }
}

pub(super) fn failed(error: &OrderError) -> Status {
    match error {
        OrderError::Refused(refusal) => refused(refusal),
        OrderError::Store(_) => Status::unavailable(error.to_string()),
    }
}

/// Reads a name, an id, or whatever has a text; `field` is where it stands.
pub(super) fn read<T: std::str::FromStr<Err = String>>(
    field: &str,
    text: &str,
) -> Result<T, Status> {
    text.parse().map_err(|advice: String| {
        refused(&Refusal::Invalid(FieldError::new(
            field,
            format!("{text:?}"),
            advice,
        )))
    })
}

pub(super) fn optional(field: &str, text: &str) -> Result<Option<Key>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    read(field, text).map(Some)
}

pub async fn create_project(
    projects: &Projects,
    request: v1::CreateProjectRequest,
) -> Result<v1::Project, Status> {
    let settings = request.settings.map(struct_to_map).unwrap_or_default();
    let created = projects
        .create_project(read("name", &request.name)?, &settings)
        .await;
    created
        .map(|view| convert::project(&view))
        .map_err(|error| failed(&error))
}

pub async fn update_project(
    projects: &Projects,
    request: v1::UpdateProjectRequest,
) -> Result<v1::Project, Status> {
    let key = read("project", &request.project)?;
    let patch = request.patch.map(struct_to_map).unwrap_or_default();
    let updated = projects.update_project(&key, &patch, Update::Patch).await;
    updated
        .map(|view| convert::project(&view))
        .map_err(|error| failed(&error))
}

pub async fn delete_project(
    projects: &Projects,
    request: v1::DeleteProjectRequest,
) -> Result<v1::Project, Status> {
    let key = read("project", &request.project)?;
    let deleted = projects.delete_project(&key, request.everything).await;
    deleted
        .map(|view| convert::project(&view))
        .map_err(|error| failed(&error))
}

pub fn list_projects(
    projects: &Projects,
    caller: &Caller,
    request: &v1::ListProjectsRequest,
) -> Result<v1::ListProjectsResponse, Status> {
    let views = match optional("project", &request.project)? {
        Some(key) => vec![
            projects
                .project(&key)
                .map_err(|refusal| refused(&refusal))?,
        ],
        None => projects.projects(),
    };
    let seen = views.iter().filter(|view| caller.sees(view.record.id));
    Ok(v1::ListProjectsResponse {
        projects: seen.map(convert::project).collect(),
    })
}

pub async fn create_balancer(
    projects: &Projects,
    request: v1::CreateBalancerRequest,
) -> Result<v1::Balancer, Status> {
    let project = read("project", &request.project)?;
    let name = read("name", &request.name)?;
    let settings = request.settings.map(struct_to_map).unwrap_or_default();
    let created = projects.create_balancer(&project, name, &settings).await;
    created
        .map(|view| convert::balancer(&view))
        .map_err(|error| failed(&error))
}

pub async fn update_balancer(
    projects: &Projects,
    request: v1::UpdateBalancerRequest,
) -> Result<v1::Balancer, Status> {
    let project = read("project", &request.project)?;
    let key = read("balancer", &request.balancer)?;
    let patch = request.patch.map(struct_to_map).unwrap_or_default();
    let updated = projects
        .update_balancer(&project, &key, &patch, Update::Patch)
        .await;
    updated
        .map(|view| convert::balancer(&view))
        .map_err(|error| failed(&error))
}

pub async fn delete_balancer(
    projects: &Projects,
    request: v1::DeleteBalancerRequest,
) -> Result<v1::Balancer, Status> {
    let project = read("project", &request.project)?;
    let key = read("balancer", &request.balancer)?;
    let deleted = projects.delete_balancer(&project, &key).await;
    deleted
        .map(|view| convert::balancer(&view))
        .map_err(|error| failed(&error))
}

pub fn list_balancers(
    projects: &Projects,
    caller: &Caller,
    request: &v1::ListBalancersRequest,
) -> Result<v1::ListBalancersResponse, Status> {
    let project = optional("project", &request.project)?;
    let views = match (&project, optional("balancer", &request.balancer)?) {
        (Some(project), Some(key)) => projects.balancer(project, &key).map(|view| vec![view]),
        (None, Some(_)) => return Err(Status::invalid_argument("balancer: give its project, too")),
        (project, None) => projects.balancers(project.as_ref()),
    };
    let views = views.map_err(|refusal| refused(&refusal))?;
    let seen = views.iter().filter(|view| caller.sees(view.record.project));
    Ok(v1::ListBalancersResponse {
        balancers: seen.map(convert::balancer).collect(),
    })
}
