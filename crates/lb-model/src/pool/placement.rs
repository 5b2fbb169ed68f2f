//! Where the instances of a pool run.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    host::HostName,
    settings::{FieldError, NOT_SET},
};

crate::settings! {
    /// Which hosts run the instances of a pool. Without it, the controller's own does.
    #[derive(Eq)]
    pub struct Placement {
        /// Hosts that may run instances; `local` is the controller's own. Default: each host that has joined.
        hosts: Vec<HostName> = Vec::new();
        /// Labels that a host must have, with their values.
        labels: BTreeMap<String, String> = BTreeMap::new();
        /// Label of hosts over whose values instances are spread before they are spread over hosts, such as `rack`.
        spread: Option<String> = None;
        /// Whether no host may run two instances of the pool.
        anti_affinity: bool = false;
        /// Hosts that run instances only if no other one has room.
        avoid: Vec<HostName> = Vec::new();
        /// How long an instance whose host is away may come back. Meanwhile another one stands in for it, on another host and at
        /// another address: as soon as the instance fails its check, whether its host is proved to be lost or not. If it comes
        /// back the other one goes, otherwise it goes itself. 0s: no other one stands in, and the instance is replaced at its
        /// address when its host is lost. Default: 0s; 1min for nodes of load balancers.
        stand_in: Option<Duration> = None, Duration::ZERO..=Duration::from_secs(7 * 86_400);
    }
    validate(placement) {
        let placement: &Placement = placement;
        for (position, host) in placement.hosts.iter().enumerate() {
            if placement.hosts[..position].contains(host) {
                return Err(FieldError::new(format!("hosts[{position}]"), host, "it is given twice; name each once"));
            }
        }
        if let Some(position) = placement.avoid.iter().enumerate().position(|(at, host)| placement.avoid[..at].contains(host)) {
            let host = &placement.avoid[position];
            return Err(FieldError::new(format!("avoid[{position}]"), host, "it is given twice; name each once"));
        }
        if placement.spread.as_ref().is_some_and(String::is_empty) {
            return Err(FieldError::new("spread", NOT_SET, "give the name of a label, or leave it out"));
        }
        if placement.labels.keys().any(String::is_empty) {
            return Err(FieldError::new("labels", NOT_SET, "give each label a name"));
        }
        Ok(())
    }
}

impl Placement {
    /// Whether instances may run on another host than the controller's own.
    #[must_use]
    pub fn is_elsewhere(&self) -> bool {
        self.hosts.is_empty() || !self.hosts.iter().all(HostName::is_local)
    }
}
