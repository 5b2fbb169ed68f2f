//! Hosts.

use std::{collections::BTreeMap, fmt::Write as _};

use lb_proto::controller::v1;
use serde::Serialize;

use super::{
    Human,
    table::{Column, bytes, layout},
};
use crate::values::duration;

/// A host.
#[derive(Debug, Serialize)]
pub struct Host {
    name: String,
    state: String,
    duty: String,
    why: String,
    cpu: f64,
    cpu_reserved: f64,
    memory: u64,
    memory_reserved: u64,
    instances: u32,
    labels: BTreeMap<String, String>,
    /// Seconds; not there while it is not connected.
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate_left: Option<u64>,
    from: String,
    version: String,
}

impl From<&v1::Host> for Host {
    fn from(host: &v1::Host) -> Self {
        let left = host.certificate_left.map(duration::from_proto);
        Host {
            name: host.name.clone(),
            state: host.state.clone(),
            duty: host.duty.clone(),
            why: host.why.clone(),
            cpu: host.cpu,
            cpu_reserved: host.cpu_reserved,
            memory: host.memory,
            memory_reserved: host.memory_reserved,
            instances: host.instances,
            labels: host.labels.clone().into_iter().collect(),
            certificate_left: left.map(|left| left.as_secs()),
            from: host.from.clone(),
            version: host.version.clone(),
        }
    }
}

impl Host {
    fn row(&self) -> Vec<String> {
        let labels = self
            .labels
            .iter()
            .map(|(name, value)| format!("{name}={value}"));
        let memory = |size| bytes(size).trim().to_owned();
        vec![
            self.name.clone(),
            self.state.clone(),
            self.instances.to_string(),
            format!("{} of {}", self.cpu_reserved, self.cpu),
            format!(
                "{} of {}",
                memory(self.memory_reserved),
                memory(self.memory)
            ),
            labels.collect::<Vec<_>>().join(" "),
            self.why.clone(),
        ]
    }
}

const COLUMNS: [Column; 7] = [
    ("HOST", false),
    ("STATE", false),
    ("INSTANCES", true),
    ("CORES", true),
    ("MEMORY", true),
    ("LABELS", false),
    ("REASON", false),
];

impl Human for Host {
    fn human(&self) -> String {
        let mut text = layout(&COLUMNS, [self.row()]);
        if let Some(left) = self.certificate_left {
            let left = lb_model::duration::format(std::time::Duration::from_secs(left));
            let _ = writeln!(
                text,
                "connected from {}; its certificate lasts {left}",
                self.from
            );
        }
        text
    }
}

/// Hosts.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct Hosts(pub Vec<Host>);

impl Human for Hosts {
    fn human(&self) -> String {
        layout(&COLUMNS, self.0.iter().map(Host::row))
    }
}

/// A token, and where the host connects.
#[derive(Debug, Serialize)]
pub struct Token {
    /// The token.
    pub token: String,
    /// Where the controller listens.
    pub listen: String,
}

impl Human for Token {
    fn human(&self) -> String {
        format!("{}\n", self.token)
    }
}
