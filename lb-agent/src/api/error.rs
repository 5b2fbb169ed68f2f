//! Refusals as `google.rpc.Status` with details.

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::{control::ReadError, dataplane::DataplaneError, intent::Refusal};

/// Type of a VIP in `google.rpc.ResourceInfo`.
pub const VIP_TYPE: &str = "lb.v1.Vip";
/// Type of a real in `google.rpc.ResourceInfo`.
pub const REAL_TYPE: &str = "lb.v1.Real";

/// A refusal with its details: the field, the resource or the table.
pub fn refused(refusal: Refusal) -> Status {
    let text = refusal.to_string();
    let resource = |code, kind: &str, name: String| {
        Status::with_error_details(
            code,
            text.clone(),
            ErrorDetails::with_resource_info(kind, name, "", text.clone()),
        )
    };
    match refusal {
        Refusal::Invalid {
            field,
            value,
            advice,
        } => {
            let details =
                ErrorDetails::with_bad_request_violation(field, format!("{value}: {advice}"));
            Status::with_error_details(Code::InvalidArgument, text, details)
        }
        Refusal::VipExists(vip) => resource(Code::AlreadyExists, VIP_TYPE, vip.to_string()),
        Refusal::VipUnknown(vip) => resource(Code::NotFound, VIP_TYPE, vip.to_string()),
        Refusal::RealExists { vip, real } => {
            resource(Code::AlreadyExists, REAL_TYPE, format!("{vip} {real}"))
        }
        Refusal::RealUnknown { vip, real } => {
            resource(Code::NotFound, REAL_TYPE, format!("{vip} {real}"))
        }
        Refusal::Full { table, .. } => {
            let details =
                ErrorDetails::with_quota_failure_violation(format!("table {table}"), text.clone());
            Status::with_error_details(Code::ResourceExhausted, text, details)
        }
        Refusal::Store(_) | Refusal::Dataplane(_) => Status::internal(text),
        Refusal::Stopping => Status::unavailable(text),
    }
}

/// Why something could not be read.
pub fn unread(error: ReadError) -> Status {
    let text = error.to_string();
    let field = |name: &str| {
        let details = ErrorDetails::with_bad_request_violation(name, text.clone());
        Status::with_error_details(Code::InvalidArgument, text.clone(), details)
    };
    match error {
        ReadError::Vip(refusal) => refused(refusal),
        ReadError::Dataplane(DataplaneError::NoInterface { .. }) => field("interface"),
        ReadError::Dataplane(DataplaneError::FrameLength { .. }) => field("packet"),
        ReadError::Dataplane(_) => Status::internal(text),
        ReadError::Stopping => Status::unavailable(text),
    }
}
