//! Orders about subnets. Their settings have the same names in the envelope.

use http::StatusCode;
use lb_model::settings::{Map, Value, nothing_left};
use serde_json::json;

use super::{Action, Failure, NAME, take_everything, take_key, take_name, take_object};
use crate::{
    projects::{Projects, SubnetView},
    registry::{Key, Update},
};

pub async fn follow(
    projects: &Projects,
    action: Action,
    mut info: Map<String, Value>,
) -> Result<(StatusCode, Value), Failure> {
    let project = take_key(&mut info, "project")?;
    if action == Action::Create {
        let project = project
            .ok_or_else(|| Failure::missing("project", "give the id or the name of a project"))?;
        let name = take_name(&mut info)?;
        let view = projects.create_subnet(&project, name, &info).await?;
        return Ok((StatusCode::CREATED, subnet_info(&view)));
    }
    let key = take_object(&mut info)?;
    let nothing_else =
        |info: &Map<String, Value>| nothing_left(info, &[]).map_err(|error| Failure::of(&error));
    let found = match (&project, &key) {
        (project, None) if action == Action::Info => {
            nothing_else(&info)?;
            let views = projects.subnets(project.as_ref())?;
            let list: Vec<Value> = views.iter().map(subnet_info).collect();
            return Ok((StatusCode::OK, json!({ "subnets": list })));
        }
        (_, None) => return Err(Failure::missing("id", NAME)),
        (None, Some(Key::Name(_))) => {
            return Err(Failure::missing(
                "project",
                "give the project in which the name is, or an id",
            ));
        }
        (None, Some(Key::Id(id))) => projects.subnet_by_id(*id).ok_or_else(|| Failure {
            status: StatusCode::NOT_FOUND,
            field: "id".to_owned(),
            text: format!("there is no subnet {id}"),
        })?,
        (Some(project), Some(key)) => projects.subnet(project, key)?,
    };
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
