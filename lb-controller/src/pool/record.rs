//! What is stored of pools and instances.

use std::{fmt, time::Duration};

use lb_commands::environment::Power;
use lb_model::{
    host::HostName,
    pool::{InstanceName, PoolName, PoolSpec},
};
use lb_steering::scaling::ScalingState;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{KINDS, hosts::placement::Claim, records::Record};

/// What an instance is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// To serve.
    Serving,
    /// To be warm.
    Spare,
    /// To end its work: no new flows. It can be taken back.
    Draining,
    /// To end its work, and to be launched again at its place by the present settings.
    Replacing,
    /// To be stopped and removed.
    Removing,
    /// To be paused until an operator lets it go on.
    Held,
    /// To be on disk until an operator lets it go on.
    Suspended,
    /// To be stopped and started, and to serve again.
    Rebooting,
    /// To move to the host in `next` while it runs, and to serve on.
    Moving,
}

impl Role {
    /// Whether an operator has taken it out of rotation: it keeps its place, and is not replaced.
    #[must_use]
    pub const fn is_held(self) -> bool {
        matches!(self, Role::Held | Role::Suspended | Role::Rebooting)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Role::Serving => "serving",
            Role::Spare => "spare",
            Role::Draining => "draining",
            Role::Replacing => "replacing",
            Role::Removing => "removing",
            Role::Held => "held",
            Role::Suspended => "suspended",
            Role::Rebooting => "rebooting",
            Role::Moving => "moving",
        })
    }
}

/// An instance that there is to be. Key: `POOL-NUMBER`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InstanceRecord {
    /// Its name.
    pub name: InstanceName,
    /// What it is for.
    pub role: Role,
    /// When it got this role, since 1970.
    pub since: Duration,
    /// When it got this epoch, since 1970.
    pub launched: Duration,
    /// The generation of the pool's settings that it was made by.
    pub generation: u64,
    /// Why it has this role.
    #[serde(default)]
    pub reason: String,
    /// Whether it replaces one that was well, and which is stopped and not just removed.
    #[serde(default)]
    pub is_update: bool,
    /// Whether its check has passed once: a controller that starts has it serve on until its check fails.
    #[serde(default)]
    pub was_healthy: bool,
    /// The host that has it; `None` while none has room. It is a reservation of `claim` there, and ends with the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostName>,
    /// The host that its successor gets, or that it moves to, with a reservation there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<HostName>,
    /// The number of the instance that it stands in for, because the host of that one is away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stands_for: Option<u32>,
    /// The instance that it is a copy of, until it has another epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloned_from: Option<InstanceName>,
    /// What it may take.
    #[serde(default)]
    pub claim: Claim,
}

impl InstanceRecord {
    /// The key of the instance of a pool at a place.
    #[must_use]
    pub fn key(pool: &PoolName, number: u32) -> String {
        format!("{pool}-{number}")
    }
}

impl Record for InstanceRecord {
    const TABLE: &'static str = "instances";
    const WHAT: &'static str = "instance";
}

/// Who says what a pool is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PoolOwner {
    /// Callers of the API.
    #[default]
    Api,
    /// The configuration file.
    File,
    /// A load balancer of a project, whose nodes it has.
    Balancer,
    /// An environment, whose member it is.
    Environment,
}

impl PoolOwner {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            PoolOwner::Api => "api",
            PoolOwner::File => "file",
            PoolOwner::Balancer => "balancer",
            PoolOwner::Environment => "environment",
        }
    }
}

/// The settings of a pool. Key: its name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PoolRecord {
    /// The settings.
    pub spec: Map<String, Value>,
    /// Counts changes of what instances are made from.
    pub generation: u64,
    /// The last epoch that was given out to an instance.
    #[serde(default)]
    pub last_epoch: u64,
    /// Whether it is being deleted.
    #[serde(default)]
    pub is_deleted: bool,
    /// Who says what it is.
    #[serde(default)]
    pub owner: PoolOwner,
    /// Whether its instances are to run.
    #[serde(default)]
    pub power: Power,
}

impl Record for PoolRecord {
    const TABLE: &'static str = "pools";
    const WHAT: &'static str = "pool";

    fn check(&self) -> Result<(), String> {
        let spec = PoolSpec::read(&self.spec, &KINDS);
        spec.map(drop).map_err(|error| error.to_string())
    }
}

/// What a controller has learned of a pool and can lose. Key: its name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Learned {
    /// What the scaling law remembers.
    pub scaling: ScalingState,
}

impl Record for Learned {
    const TABLE: &'static str = "learned";
    const WHAT: &'static str = "pool";
    const CAN_BE_LOST: bool = true;
}
