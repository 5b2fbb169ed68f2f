//! What is stored of hosts and tokens.

use std::{collections::BTreeMap, fmt, time::Duration};

use lb_model::host::HostName;
use serde::{Deserialize, Serialize};

use super::placement::Claim;
use crate::records::Record;

/// What an operator wants of a host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Duty {
    /// It takes instances.
    #[default]
    Open,
    /// It keeps those that it has, and takes no others.
    Cordoned,
    /// Those that it has are replaced elsewhere, within the budgets of their pools.
    Draining,
}

impl fmt::Display for Duty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Duty::Open => "up",
            Duty::Cordoned => "cordoned",
            Duty::Draining => "draining",
        })
    }
}

/// A host that has joined. Key: its name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HostRecord {
    /// Its name.
    pub name: HostName,
    /// The digest of its key, in hexadecimal digits: whoever shows a certificate for another one is somebody else.
    pub key: String,
    /// What an operator wants of it.
    #[serde(default)]
    pub duty: Duty,
    /// When it joined, since 1970.
    pub joined: Duration,
    /// When it was connected last, since 1970; as of the last change of its connection.
    #[serde(default)]
    pub last_seen: Duration,
    /// Whether it was proved to be lost.
    #[serde(default)]
    pub is_lost: bool,
    /// What it has for instances, as it said last.
    #[serde(default)]
    pub capacity: Claim,
    /// Its labels, as it said last.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// When its newest certificate ends, since 1970.
    #[serde(default)]
    pub certificate_ends: Duration,
    /// Drivers that it was used with, as it said last.
    #[serde(default)]
    pub drivers: Vec<String>,
}

/// A token that was given out. Key: the digest of its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// The host that it is for, if it is for one.
    #[serde(default)]
    pub name: Option<HostName>,
    /// When it ends, since 1970.
    pub ends: Duration,
    /// Who has used it: the host, and the digest of its key.
    #[serde(default)]
    pub used_by: Option<(HostName, String)>,
}

impl Record for HostRecord {
    const TABLE: &'static str = "hosts";
    const WHAT: &'static str = "host";
}

impl Record for TokenRecord {
    const TABLE: &'static str = "host_tokens";
    const WHAT: &'static str = "token of a host";
}
