//! Orders about hosts.

use std::time::Duration;

use lb_model::{host::HostName, settings::FieldError};
use lb_proto::controller::v1;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::convert;
use crate::hosts::{Duty, HostRefusal, Hosts};

/// Type of a host in `google.rpc.ResourceInfo`.
const HOST: &str = "lb.controller.v1.Host";
/// How long a token lasts unless it is told otherwise, and at most.
const LIFETIME: Duration = Duration::from_secs(3_600);
const LONGEST: Duration = Duration::from_secs(30 * 86_400);

/// A refusal with its details.
fn refused(refusal: &HostRefusal) -> Status {
    let text = refusal.to_string();
    match refusal {
        HostRefusal::Unknown(name) => {
            let details =
                ErrorDetails::with_resource_info(HOST, name.to_string(), "", text.clone());
            Status::with_error_details(Code::NotFound, text, details)
        }
        HostRefusal::NoHosts | HostRefusal::Busy { .. } | HostRefusal::Connected(_) => {
            Status::failed_precondition(text)
        }
        HostRefusal::Store(_) | HostRefusal::Token(_) => Status::unavailable(text),
    }
}

fn invalid(error: &FieldError) -> Status {
    let advice = format!("{}: {}", error.value, error.advice);
    let details = ErrorDetails::with_bad_request_violation(error.field.clone(), advice);
    Status::with_error_details(Code::InvalidArgument, error.to_string(), details)
}

fn host_name(text: &str) -> Result<HostName, Status> {
    text.parse()
        .map_err(|error: lb_model::host::HostNameError| {
            invalid(&FieldError::new(
                "name",
                format!("{text:?}"),
                error.to_string(),
            ))
        })
}

/// Reads what a host is to do.
///
/// # Errors
/// It is nothing that a host can be told.
pub fn duty(text: &str) -> Result<Duty, FieldError> {
    match text {
        "up" => Ok(Duty::Open),
        "cordoned" => Ok(Duty::Cordoned),
        "draining" => Ok(Duty::Draining),
        _ => Err(FieldError::new(
            "duty",
            format!("{text:?}"),
            "give up, cordoned or draining",
        )),
    }
}

pub fn list(
    hosts: &Hosts,
    request: &v1::ListHostsRequest,
) -> Result<v1::ListHostsResponse, Status> {
    let views = if request.name.is_empty() {
        hosts.views()
    } else {
        let name = host_name(&request.name)?;
        vec![hosts.show(&name).map_err(|refusal| refused(&refusal))?]
    };
    Ok(v1::ListHostsResponse {
        hosts: views.iter().map(convert::host).collect(),
    })
}

pub async fn token(
    hosts: &Hosts,
    request: v1::CreateHostTokenRequest,
) -> Result<v1::HostToken, Status> {
    let name = match request.name.as_str() {
        "" => None,
        text => Some(host_name(text)?),
    };
    let lifetime = match request.lifetime {
        None => LIFETIME,
        Some(lifetime) => Duration::try_from(lifetime).unwrap_or_default(),
    };
    if !(Duration::from_secs(1)..=LONGEST).contains(&lifetime) {
        let value = lb_model::duration::format(lifetime);
        return Err(invalid(&FieldError::new(
            "lifetime",
            value,
            "give 1s to 30d",
        )));
    }
    let made = hosts.token(name, lifetime).await;
    let (token, listen) = made.map_err(|refusal| refused(&refusal))?;
    Ok(v1::HostToken {
        token,
        listen: listen.to_string(),
    })
}

pub async fn update(hosts: &Hosts, request: v1::UpdateHostRequest) -> Result<v1::Host, Status> {
    let name = host_name(&request.name)?;
    let duty = duty(&request.duty).map_err(|error| invalid(&error))?;
    let view = hosts.set_duty(&name, duty).await;
    view.map(|view| convert::host(&view))
        .map_err(|refusal| refused(&refusal))
}

pub async fn remove(
    hosts: &Hosts,
    request: v1::RemoveHostRequest,
) -> Result<v1::RemoveHostResponse, Status> {
    let name = host_name(&request.name)?;
    let removed = hosts.remove(&name, request.force).await;
    removed.map_err(|refusal| refused(&refusal))?;
    Ok(v1::RemoveHostResponse {})
}
