//! Errors of drivers on their way: a status with [`DriverFailure`] as details.

use std::time::Duration;

use bytes::Bytes;
use lb_drivers::{DRIVERS, DriverError};
use lb_model::pool::InstanceName;
use lb_proto::host::v1::DriverFailure;
use prost::Message as _;
use tonic::{Code, Status};

/// The calls of drivers.
const CALLS: &[&str] = &[
    "list",
    "create",
    "start",
    "stop",
    "remove",
    "pause",
    "resume",
    "exec",
    "logs",
    "pause instances",
    "run programs in instances",
    "keep output",
];
/// What can have the name of an instance.
const THINGS: &[&str] = &[
    "a container",
    "a process",
    "a control group",
    "a virtual machine",
    "an instance",
];

/// The code of an error in words.
fn parts(error: &DriverError) -> (&'static str, Code, String, String) {
    match error {
        DriverError::NotFound(name) => {
            ("not_found", Code::NotFound, name.to_string(), String::new())
        }
        DriverError::Foreign { name, what } => (
            "foreign",
            Code::AlreadyExists,
            name.to_string(),
            (*what).to_owned(),
        ),
        DriverError::NoRoom { name, why } => (
            "no_room",
            Code::ResourceExhausted,
            name.to_string(),
            why.clone(),
        ),
        DriverError::Invalid { name, why } => (
            "invalid",
            Code::InvalidArgument,
            name.to_string(),
            why.clone(),
        ),
        DriverError::Unsupported { driver, call } => (
            "unsupported",
            Code::Unimplemented,
            (*driver).to_owned(),
            (*call).to_owned(),
        ),
        DriverError::Unreachable { engine, why } => (
            "unreachable",
            Code::FailedPrecondition,
            engine.clone(),
            why.clone(),
        ),
        DriverError::TimedOut { call, after } => (
            "timed_out",
            Code::DeadlineExceeded,
            (*call).to_owned(),
            after.as_millis().to_string(),
        ),
        DriverError::Failed { doing, why } => {
            ("failed", Code::Internal, doing.clone(), why.clone())
        }
    }
}

/// The status that carries an error.
pub fn status(error: &DriverError) -> Status {
    let (code, status, of, why) = parts(error);
    let details = DriverFailure {
        code: code.to_owned(),
        of,
        why,
    };
    Status::with_details(
        status,
        error.to_string(),
        Bytes::from(details.encode_to_vec()),
    )
}

fn known(of: &[&'static str], text: &str) -> Option<&'static str> {
    of.iter().find(|known| **known == text).copied()
}

/// The error that a status carries; `host` is where it came from, and `doing` what was being done.
pub fn error(host: &str, doing: &'static str, status: &Status) -> DriverError {
    let failure = DriverFailure::decode(status.details()).unwrap_or_default();
    let name = || failure.of.parse::<InstanceName>().ok();
    let why = failure.why.clone();
    let made = match failure.code.as_str() {
        "not_found" => name().map(DriverError::NotFound),
        "foreign" => name()
            .zip(known(THINGS, &why))
            .map(|(name, what)| DriverError::Foreign { name, what }),
        "no_room" => name().map(|name| DriverError::NoRoom { name, why }),
        "invalid" => name().map(|name| DriverError::Invalid { name, why }),
        "unsupported" => {
            let mut kinds = DRIVERS.kinds.iter().map(|kind| kind.name);
            kinds
                .find(|kind| *kind == failure.of)
                .zip(known(CALLS, &why))
                .map(|(driver, call)| DriverError::Unsupported { driver, call })
        }
        "unreachable" => Some(DriverError::Unreachable {
            engine: format!("{} of host {host}", failure.of),
            why,
        }),
        "timed_out" => known(CALLS, &failure.of)
            .zip(why.parse().ok())
            .map(|(call, after)| {
                let after = Duration::from_millis(after);
                DriverError::TimedOut { call, after }
            }),
        "failed" => Some(DriverError::Failed {
            doing: format!("host {host}: {}", failure.of),
            why,
        }),
        _ => None,
    };
    made.unwrap_or_else(|| match status.code() {
        // Those that the transport makes itself.
        Code::Unavailable | Code::Cancelled | Code::Unknown if failure.code.is_empty() => {
            DriverError::Unreachable {
                engine: format!("host {host}"),
                why: status.message().to_owned(),
            }
        }
        _ => DriverError::Failed {
            doing: format!("host {host}: {doing}"),
            why: status.message().to_owned(),
        },
    })
}

#[cfg(test)]
mod tests {
    use lb_drivers::ErrorCode;

    use super::*;

    #[test]
    fn errors_keep_their_kind() {
        let name: InstanceName = "web-1-2".parse().unwrap();
        let after = Duration::from_secs(3);
        let why = || "it is so".to_owned();
        for sent in [
            DriverError::NotFound(name.clone()),
            DriverError::Foreign {
                name: name.clone(),
                what: "a container",
            },
            DriverError::NoRoom {
                name: name.clone(),
                why: why(),
            },
            DriverError::Invalid {
                name: name.clone(),
                why: why(),
            },
            DriverError::Unsupported {
                driver: "exec",
                call: "pause",
            },
            DriverError::TimedOut {
                call: "stop",
                after,
            },
        ] {
            assert_eq!(error("h1", "stopping", &status(&sent)), sent);
        }
        let sent = DriverError::Unreachable {
            engine: "Docker".to_owned(),
            why: why(),
        };
        let came = error("h1", "stopping", &status(&sent));
        assert_eq!(
            came.to_string(),
            "Docker of host h1 cannot be reached: it is so"
        );
        let sent = DriverError::Failed {
            doing: "stopping web-1-2".to_owned(),
            why: why(),
        };
        let came = error("h1", "stopping", &status(&sent));
        assert_eq!(came.to_string(), "host h1: stopping web-1-2: it is so");
        // What is not known here is not lost.
        let sent = DriverError::Foreign {
            name,
            what: "a thing",
        };
        let came = error("h1", "creating", &status(&sent));
        assert_eq!(came.code(), ErrorCode::Failed);
        assert!(
            came.to_string().contains("a thing is named web-1-2"),
            "{came}"
        );
        let came = error("h1", "creating", &Status::unavailable("broken pipe"));
        assert_eq!(came.code(), ErrorCode::Unreachable);
    }
}
