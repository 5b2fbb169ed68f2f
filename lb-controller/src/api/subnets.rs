//! Orders about subnets.

use lb_proto::{controller::v1, settings::struct_to_map};
use tonic::Status;

use super::{
    convert,
    projects::{failed, optional, read, refused},
};
use crate::{access::Caller, projects::Projects, registry::Update};

pub async fn create(
    projects: &Projects,
    request: v1::CreateSubnetRequest,
) -> Result<v1::Subnet, Status> {
    let project = read("project", &request.project)?;
    let name = read("name", &request.name)?;
    let settings = request.settings.map(struct_to_map).unwrap_or_default();
    let created = projects.create_subnet(&project, name, &settings).await;
    created
        .map(|view| convert::subnet(&view))
        .map_err(|error| failed(&error))
}

pub async fn update(
    projects: &Projects,
    request: v1::UpdateSubnetRequest,
) -> Result<v1::Subnet, Status> {
    let project = read("project", &request.project)?;
    let key = read("subnet", &request.subnet)?;
    let patch = request.patch.map(struct_to_map).unwrap_or_default();
    let updated = projects
        .update_subnet(&project, &key, &patch, Update::Patch)
        .await;
    updated
        .map(|view| convert::subnet(&view))
        .map_err(|error| failed(&error))
}

pub async fn delete(
    projects: &Projects,
    request: v1::DeleteSubnetRequest,
) -> Result<v1::Subnet, Status> {
    let project = read("project", &request.project)?;
    let key = read("subnet", &request.subnet)?;
    let deleted = projects
        .delete_subnet(&project, &key, request.everything)
        .await;
    deleted
        .map(|view| convert::subnet(&view))
        .map_err(|error| failed(&error))
}

pub fn list(
    projects: &Projects,
    caller: &Caller,
    request: &v1::ListSubnetsRequest,
) -> Result<v1::ListSubnetsResponse, Status> {
    let project = optional("project", &request.project)?;
    let views = match (&project, optional("subnet", &request.subnet)?) {
        (Some(project), Some(key)) => projects.subnet(project, &key).map(|view| vec![view]),
        (None, Some(_)) => return Err(Status::invalid_argument("subnet: give its project, too")),
        (project, None) => projects.subnets(project.as_ref()),
    };
    let views = views.map_err(|refusal| refused(&refusal))?;
    Ok(v1::ListSubnetsResponse {
        subnets: views
            .iter()
            .filter(|view| caller.sees(view.record.project))
            .map(convert::subnet)
            .collect(),
    })
}
