//! Orders about subnets. Their settings have the same names in the envelope.

use http::StatusCode;
use lb_model::settings::{Map, Value, nothing_left};
use serde_json::json;

use super::{
    super::guard::Gate, About, Action, Failure, about, take_everything, take_key, take_name,
    there_is_no,
};
use crate::{
    projects::SubnetView,
    registry::{Key, Update},
};

pub async fn follow(
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
        let view = projects.create_subnet(&project, name, &info).await?;
        return Ok((StatusCode::CREATED, subnet_info(&view)));
    }
    let nothing_else =
        |info: &Map<String, Value>| nothing_left(info, &[]).map_err(|error| Failure::of(&error));
    let found = about(
        action,
        "subnet",
        project.as_ref(),
        &mut info,
        |project| projects.subnets(project),
        |project, key| projects.subnet(project, key),
        |id| projects.subnet_by_id(id),
    )?;
    let found = match found {
        About::All(views) => {
            let seen = views
                .iter()
                .filter(|view| gate.caller().sees(view.record.project));
            let list: Vec<Value> = seen.map(subnet_info).collect();
            return Ok((StatusCode::OK, json!({ "subnets": list })));
        }
        About::One(found) => found,
    };
    if !gate.caller().sees(found.record.project) {
        return Err(Failure::denied((
            StatusCode::NOT_FOUND,
            there_is_no("subnet", found.record.id),
        )));
    }
    let (project, key) = (Key::Id(found.record.project), Key::Id(found.record.id));
    let view = match action {
        Action::Update => {
            projects
                .update_subnet(&project, &key, &info, Update::Patch)
                .await?
        }
        Action::Delete => {
            let everything = take_everything(&mut info)?;
            nothing_else(&info)?;
            projects.delete_subnet(&project, &key, everything).await?
        }
        _ => {
            nothing_else(&info)?;
            found
        }
    };
    Ok((StatusCode::OK, subnet_info(&view)))
}

fn subnet_info(view: &SubnetView) -> Value {
    let leases = view.leases.iter();
    let instances: Vec<Value> = leases
        .filter(|lease| !lease.is_former)
        .map(|lease| {
            json!({
                "id": lease.balancer,
                "name": lease.name,
                "addresses": lease.addresses.to_string(),
            })
        })
        .collect();
    let mut info = Value::Object(view.record.spec.clone());
    info["id"] = view.record.id.into();
    info["name"] = view.record.name.as_str().into();
    info["project"] = view.project.as_str().into();
    info["state"] = view.state().into();
    info["bridge"] = view.bridge.as_str().into();
    info["instances"] = instances.into();
    info
}
