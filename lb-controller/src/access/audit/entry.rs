//! A line of the audit log.

use serde::{Deserialize, Serialize};

/// An order that changed something, or was to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When, as in RFC 3339, in UTC.
    #[serde(with = "as_text")]
    pub time: jiff::Timestamp,
    /// Who: `user:NAME`, `certificate:NAME`, `token:ID`, `local:UID` or `anonymous`.
    pub who: String,
    /// From where: an address and port, or user and process at a Unix socket.
    pub from: String,
    /// `grpc` or `http`.
    pub via: String,
    /// What was to be done, such as `balancer.update`.
    pub verb: String,
    /// Id of the project, if it was about one that exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<u64>,
    /// What was named: `project=shop balancer=web`.
    pub object: String,
    /// What became of it.
    pub outcome: Outcome,
    /// The status of HTTP or gRPC.
    pub status: String,
    /// Generation of the object before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    /// Generation of the object after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// Id of the request, of HTTP only.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub request: String,
}

/// A time as text.
mod as_text {
    use jiff::Timestamp;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub fn serialize<S: Serializer>(time: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(time)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(D::Error::custom)
    }
}

/// What became of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It was done.
    Done,
    /// It cannot be done, or failed.
    Refused,
    /// The caller may not.
    Denied,
}

impl Outcome {
    /// The name in the log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Outcome::Done => "done",
            Outcome::Refused => "refused",
            Outcome::Denied => "denied",
        }
    }
}

/// Which entries are wanted.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Only since then.
    pub since: Option<jiff::Timestamp>,
    /// Only of these projects; `None` is everything.
    pub projects: Option<Vec<u64>>,
    /// So many at most, the newest.
    pub most: usize,
}

impl Wanted {
    /// Whether an entry is.
    #[must_use]
    pub fn has(&self, entry: &Entry) -> bool {
        self.since.is_none_or(|since| entry.time >= since)
            && self.projects.as_ref().is_none_or(|projects| {
                entry
                    .project
                    .is_some_and(|project| projects.contains(&project))
            })
    }
}
