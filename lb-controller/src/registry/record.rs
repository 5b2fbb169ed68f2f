//! What is stored of projects and load balancers.

use std::time::Duration;

use lb_model::{pool::AddressRange, project::ObjectName};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::records::Record;

/// A project. Key: its id.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProjectRecord {
    /// Its id: no two objects of a controller ever have the same.
    pub id: u64,
    /// Its name.
    pub name: ObjectName,
    /// Counts changes of its settings.
    pub generation: u64,
    /// When it was created, since 1970.
    pub created: Duration,
    /// The settings.
    pub spec: Map<String, Value>,
    /// Whether it is being deleted: it is gone when its load balancers are.
    #[serde(default)]
    pub is_deleted: bool,
}

impl Record for ProjectRecord {
    const TABLE: &'static str = "projects";
    const WHAT: &'static str = "project";
}

/// A load balancer. Key: its id.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BalancerRecord {
    /// Its id.
    pub id: u64,
    /// Id of its project.
    pub project: u64,
    /// Its name, unique in the project.
    pub name: ObjectName,
    /// Counts changes of its settings.
    pub generation: u64,
    /// When it was created, since 1970.
    pub created: Duration,
    /// The settings.
    pub spec: Map<String, Value>,
    /// The addresses that its nodes may have.
    #[serde(with = "range")]
    pub addresses: AddressRange,
    /// Whether it is being deleted: it is gone when its nodes are.
    #[serde(default)]
    pub is_deleted: bool,
}

impl Record for BalancerRecord {
    const TABLE: &'static str = "balancers";
    const WHAT: &'static str = "load balancer";
}

/// A range as text.
mod range {
    use lb_model::pool::AddressRange;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub fn serialize<S: Serializer>(range: &AddressRange, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(range)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<AddressRange, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}
