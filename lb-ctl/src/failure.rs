//! Why a verb failed, with advice for the operator.

use std::io;

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// Why a verb failed.
#[derive(Debug)]
pub enum Failure {
    /// The command line or a script is wrong.
    Usage(String),
    /// There is no agent or controller, or no way to it.
    Unreachable {
        /// Which program was to be reached.
        server: &'static str,
        /// The endpoint.
        endpoint: String,
        /// The error of the system.
        reason: String,
        /// Advice for the operator.
        advice: String,
    },
    /// The agent rejected the request, or failed.
    Refused {
        /// What failed: the words after "cannot".
        attempt: String,
        /// The answer of the agent.
        status: Box<Status>,
    },
    /// The agent rejected some lines of a script, which have been reported.
    Lines {
        /// The number of rejected lines.
        refused: usize,
        /// The number of all lines.
        commands: usize,
    },
    /// So many problems were found, which have been reported.
    Problems(usize),
    /// The verb waited, and the condition was not met in time.
    NotYet(String),
    /// A file could not be read or written.
    File {
        /// What failed: the words after "cannot".
        attempt: String,
        /// The error.
        error: io::Error,
    },
    /// The reader of the output has closed the pipe.
    ClosedPipe,
}

impl Failure {
    /// Returns a function for `map_err` after a call of the API.
    pub fn refused(attempt: impl Into<String>) -> impl FnOnce(Status) -> Failure {
        let attempt = attempt.into();
        move |status| Failure::Refused {
            attempt,
            status: Box::new(status),
        }
    }

    /// Returns the exit status. A closed pipe is not a failure: the reader has seen what it wanted.
    #[must_use]
    pub const fn status(&self) -> u8 {
        match self {
            Failure::ClosedPipe => 0,
            Failure::Usage(_) => 2,
            Failure::Unreachable { .. }
            | Failure::Refused { .. }
            | Failure::Lines { .. }
            | Failure::NotYet(_)
            | Failure::Problems(_)
            | Failure::File { .. } => 1,
        }
    }

    /// Returns the message for the operator, if there is one.
    #[must_use]
    pub fn report(&self) -> Option<String> {
        Some(match self {
            Failure::ClosedPipe => return None,
            Failure::Usage(text) | Failure::NotYet(text) => text.clone(),
            Failure::Unreachable {
                server,
                endpoint,
                reason,
                advice,
            } => {
                format!("cannot reach the {server} at {endpoint}: {reason}\n  {advice}")
            }
            Failure::Refused { attempt, status } => refusal(attempt, status),
            Failure::Lines { refused, commands } => {
                let others = if refused < commands {
                    "; the others are done"
                } else {
                    ""
                };
                format!("the agent refused {refused} of {commands} commands{others}")
            }
            Failure::Problems(1) => "1 problem was found".to_owned(),
            Failure::Problems(problems) => format!("{problems} problems were found"),
            Failure::File { attempt, error } => format!("cannot {attempt}: {error}"),
        })
    }
}

/// Returns the agent's message, a line for each detail that the message does not contain, and advice if the message
/// has none.
fn refusal(attempt: &str, status: &Status) -> String {
    let message = match status.message() {
        "" => status.code().description(),
        message => message,
    };
    let mut text = format!("cannot {attempt}: {message}");
    let details = status.get_error_details();
    let mut line = |line: String| {
        text.push_str("\n  ");
        text.push_str(&line);
    };
    let said =
        |name: &str, description: &str| message.contains(name) && message.contains(description);
    for violation in details
        .bad_request()
        .iter()
        .flat_map(|bad| &bad.field_violations)
    {
        // A message about a field begins with the name of the field.
        let named = message
            .strip_prefix(&violation.field)
            .is_some_and(|rest| rest.starts_with(':'));
        if !named || !message.contains(&violation.description) {
            line(described(
                &format!("field {}", violation.field),
                &violation.description,
            ));
        }
    }
    // The name of a real consists of its VIP's name and its address. A message may contain them at any place.
    if let Some(resource) = details.resource_info()
        && !resource
            .resource_name
            .split(' ')
            .all(|part| said(part, &resource.description))
    {
        let name = format!("{} {}", resource.resource_type, resource.resource_name);
        line(described(name.trim(), &resource.description));
    }
    for violation in details
        .quota_failure()
        .iter()
        .flat_map(|quota| &quota.violations)
    {
        if !said(&violation.subject, &violation.description) {
            line(described(&violation.subject, &violation.description));
        }
    }
    if let Some(advice) = advice(status.code())
        && !message.contains("lbctl ")
    {
        line(advice.to_owned());
    }
    text
}

fn described(name: &str, description: &str) -> String {
    if description.is_empty() {
        name.to_owned()
    } else {
        format!("{name}: {description}")
    }
}

const fn advice(code: Code) -> Option<&'static str> {
    Some(match code {
        Code::NotFound => "`lbctl list` shows what there is",
        Code::AlreadyExists => "`lbctl set-vip` and `lbctl set-real` change what there is",
        Code::ResourceExhausted => "`lbctl status` shows how full the tables are",
        Code::Unimplemented => {
            "the agent is older than this lbctl; compare `lbctl --version` and `lbctl status`"
        }
        Code::Unavailable | Code::Unknown => "the agent may have ended; see its log, and try again",
        Code::Internal | Code::DataLoss => "this is a fault of the agent; see its log",
        _ => return None,
    })
}

/// Returns the name of a code as in the documentation of gRPC.
#[must_use]
pub fn code_name(code: i32) -> &'static str {
    match Code::from_i32(code) {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    fn text(status: Status) -> String {
        Failure::refused("add VIP 10.0.0.1:80/tcp")(status)
            .report()
            .unwrap()
    }

    #[test]
    fn details_are_told() {
        assert_eq!(
            text(Status::with_error_details(
                Code::InvalidArgument,
                "not a unicast address",
                ErrorDetails::with_bad_request_violation("id.address", "not a unicast address"),
            )),
            "cannot add VIP 10.0.0.1:80/tcp: not a unicast address\n  field id.address: not a unicast address"
        );
        assert_eq!(
            text(Status::with_error_details(
                Code::AlreadyExists,
                "there is one",
                ErrorDetails::with_resource_info("lb.v1.Vip", "10.0.0.1:80/tcp", "", ""),
            )),
            "cannot add VIP 10.0.0.1:80/tcp: there is one\n  lb.v1.Vip 10.0.0.1:80/tcp\n  \
             `lbctl set-vip` and `lbctl set-real` change what there is"
        );
        assert_eq!(
            text(Status::with_error_details(
                Code::ResourceExhausted,
                "full",
                ErrorDetails::with_quota_failure_violation("services", "holds 4096"),
            )),
            "cannot add VIP 10.0.0.1:80/tcp: full\n  services: holds 4096\n  \
             `lbctl status` shows how full the tables are"
        );
    }

    #[test]
    fn nothing_is_told_twice() {
        for (code, message, details) in [
            (
                Code::InvalidArgument,
                "id.address: 224.0.0.1: not a unicast address",
                ErrorDetails::with_bad_request_violation(
                    "id.address",
                    "224.0.0.1: not a unicast address",
                ),
            ),
            (
                Code::NotFound,
                "VIP 10.0.0.1:80/tcp has no real 10.1.0.2; see lbctl list",
                ErrorDetails::with_resource_info(
                    "lb.v1.Real",
                    "10.0.0.1:80/tcp 10.1.0.2",
                    "",
                    "VIP 10.0.0.1:80/tcp has no real 10.1.0.2; see lbctl list",
                ),
            ),
        ] {
            assert_eq!(
                text(Status::with_error_details(code, message, details)),
                format!("cannot add VIP 10.0.0.1:80/tcp: {message}")
            );
        }
    }

    #[test]
    fn an_empty_message_is_replaced() {
        assert!(text(Status::new(Code::Unavailable, "")).contains("currently unavailable"));
    }
}
