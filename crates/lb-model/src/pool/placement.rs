//! Where the instances of a pool run.

use std::collections::BTreeMap;

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
    }
    validate(placement) {
        let placement: &Placement = placement;
        for (position, host) in placement.hosts.iter().enumerate() {
            if placement.hosts[..position].contains(host) {
                return Err(FieldError::new(format!("hosts[{position}]"), host, "it is given twice; name each once"));
            }
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
