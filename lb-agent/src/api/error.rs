//! Refusals as `google.rpc.Status` with details.

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::control::ReadError;
use lb_dataplane::DataplaneError;
use lb_model::intent::Refusal;

/// Type of a VIP in `google.rpc.ResourceInfo`.
pub const VIP_TYPE: &str = "lb.v1.Vip";
/// Type of a real in `google.rpc.ResourceInfo`.
pub const REAL_TYPE: &str = "lb.v1.Real";

/// What a request calls the VIP that it is about.
const VIP_ITSELF: &str = "id";
/// What a request about a real calls its VIP.
const VIP_OF_REAL: &str = "vip";
/// What a request about a real calls it.
const REAL: &str = "address";

/// The refusal of a request about a VIP, with its details: the field, and the resource or the table.
pub fn refused(refusal: Refusal) -> Status {
    status(refusal, VIP_ITSELF)
}

/// As [`refused`], of a request about a real.
pub fn refused_real(refusal: Refusal) -> Status {
    status(refusal, VIP_OF_REAL)
}

fn status(refusal: Refusal, vip_field: &str) -> Status {
    let text = refusal.to_string();
    // The message begins with the field, as that of an invalid value does: a client that prints only the
    // message tells the field, too.
    let object = |code, field: &str, kind: &str, name: String| {
        let mut details = ErrorDetails::with_bad_request_violation(field, text.clone());
        details.set_resource_info(kind, name, "", text.clone());
        Status::with_error_details(code, format!("{field}: {text}"), details)
    };
    match refusal {
        Refusal::Invalid(error) => {
            let details = ErrorDetails::with_bad_request_violation(
                error.field,
                format!("{}: {}", error.value, error.advice),
            );
            Status::with_error_details(Code::InvalidArgument, text, details)
        }
        Refusal::VipExists(vip) => {
            object(Code::AlreadyExists, vip_field, VIP_TYPE, vip.to_string())
        }
        Refusal::VipUnknown(vip) => object(Code::NotFound, vip_field, VIP_TYPE, vip.to_string()),
        Refusal::StandsIn { vip, .. } => object(
            Code::FailedPrecondition,
            vip_field,
            VIP_TYPE,
            vip.to_string(),
        ),
        Refusal::OtherRevision { vip, .. } => object(
            Code::Aborted,
            "writer.expected_revision",
            VIP_TYPE,
            vip.to_string(),
        ),
        Refusal::OtherOwner { object, owner } => {
            let mut details = ErrorDetails::new();
            let kind = if object.starts_with("VIP") {
                VIP_TYPE
            } else {
                REAL_TYPE
            };
            details.set_resource_info(kind, object, owner.to_string(), text.clone());
            Status::with_error_details(Code::FailedPrecondition, text, details)
        }
        Refusal::RealExists { vip, real } => object(
            Code::AlreadyExists,
            REAL,
            REAL_TYPE,
            format!("{vip} {real}"),
        ),
        Refusal::RealUnknown { vip, real } => {
            object(Code::NotFound, REAL, REAL_TYPE, format!("{vip} {real}"))
        }
        Refusal::NoSuchReal(real) => object(Code::NotFound, REAL, REAL_TYPE, real.to_string()),
        Refusal::Full { table, .. } => {
            let field = asks_for_room(table, vip_field);
            let mut details = ErrorDetails::with_bad_request_violation(field, text.clone());
            details.add_quota_failure_violation(format!("table {table}"), text.clone());
            Status::with_error_details(Code::ResourceExhausted, format!("{field}: {text}"), details)
        }
        Refusal::Store(_) | Refusal::Dataplane(_) => Status::internal(text),
        Refusal::Stopping => Status::unavailable(text),
    }
}

/// The field whose value needs an entry of this table.
fn asks_for_room<'a>(table: &str, vip_field: &'a str) -> &'a str {
    match table.to_ascii_lowercase().as_str() {
        "reals" | "next_hops" => REAL,
        "rings" if vip_field == VIP_ITSELF => "spec.slots",
        _ => vip_field,
    }
}

/// The most bytes of a message: it travels in a header, whose size clients limit.
const MAX_MESSAGE: usize = 2_048;

/// A message that a client takes. The kernel's verifier explains itself on many pages.
fn shortened(text: &str) -> String {
    if text.len() <= MAX_MESSAGE {
        return text.to_owned();
    }
    let end = (0..=MAX_MESSAGE)
        .rev()
        .find(|at| text.is_char_boundary(*at));
    let start = &text[..end.unwrap_or_default()];
    format!("{start} ... (the agent's log has all of it)")
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
        ReadError::Dataplane(DataplaneError::NotAttached { .. } | DataplaneError::CaptureRuns) => {
            Status::failed_precondition(text)
        }
        ReadError::Dataplane(DataplaneError::FrameLength { .. }) => field("packet"),
        ReadError::Dataplane(_) => {
            tracing::error!("{text}");
            Status::internal(shortened(&text))
        }
        ReadError::Stopping => Status::unavailable(text),
    }
}
