//! The networks of projects.

use std::fmt::Write as _;

use lb_model::settings::{Map, Value};
use lb_proto::{controller::v1, settings::struct_to_map};
use serde::Serialize;

use super::{
    Human,
    project::Condition,
    table::{Column, layout},
};

/// A subnet.
#[derive(Debug, Serialize)]
pub struct Subnet {
    id: u64,
    name: String,
    project: String,
    settings: Map<String, Value>,
    generation: u64,
    observed_generation: u64,
    deleting: bool,
    conditions: Vec<Condition>,
    bridge: String,
    range: String,
    leases: Vec<Lease>,
    ports: Vec<String>,
}

/// Addresses that a load balancer has.
#[derive(Debug, Serialize)]
struct Lease {
    balancer: String,
    id: u64,
    addresses: String,
    former: bool,
}

impl From<&v1::Subnet> for Subnet {
    fn from(subnet: &v1::Subnet) -> Self {
        let leases = subnet.leases.iter().map(|lease| Lease {
            balancer: lease.balancer.clone(),
            id: lease.id,
            addresses: lease.addresses.clone(),
            former: lease.former,
        });
        Subnet {
            id: subnet.id,
            name: subnet.name.clone(),
            project: subnet.project.clone(),
            settings: subnet
                .settings
                .clone()
                .map(struct_to_map)
                .unwrap_or_default(),
            generation: subnet.generation,
            observed_generation: subnet.observed_generation,
            deleting: subnet.deleting,
            conditions: subnet.conditions.iter().map(Condition::from).collect(),
            bridge: subnet.bridge.clone(),
            range: subnet.range.clone(),
            leases: leases.collect(),
            ports: subnet.ports.clone(),
        }
    }
}

impl Subnet {
    fn state(&self) -> &'static str {
        let is_ready = self.conditions.iter().any(|one| one.is("ready"));
        match (self.deleting, is_ready) {
            (true, _) => "deleting",
            (_, true) => "ready",
            _ => "pending",
        }
    }

    fn setting(&self, name: &str) -> String {
        let value = self.settings.get(name);
        value.map(lb_model::settings::plain).unwrap_or_default()
    }

    fn vxlan(&self) -> String {
        let id = self.settings.get("vxlan").and_then(|vxlan| vxlan.get("id"));
        id.map(lb_model::settings::plain).unwrap_or_default()
    }
}

impl Human for Subnet {
    fn human(&self) -> String {
        const LEASES: [Column; 3] = [("BALANCER", false), ("ID", true), ("ADDRESSES", false)];
        let mut text = format!(
            "{}/{} ({}): {}, {} on bridge {}\n",
            self.project,
            self.name,
            self.id,
            self.state(),
            self.setting("cidr"),
            self.bridge
        );
        for condition in &self.conditions {
            text += &condition.line();
        }
        let _ = writeln!(text, "    load balancers are given {}", self.range);
        if !self.leases.is_empty() {
            let rows = self.leases.iter().map(|lease| {
                let former = if lease.former { " (leaving)" } else { "" };
                vec![
                    lease.balancer.clone(),
                    lease.id.to_string(),
                    format!("{}{former}", lease.addresses),
                ]
            });
            text += &layout(&LEASES, rows);
        }
        text
    }
}

/// Subnets.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct Subnets(pub Vec<Subnet>);

impl Human for Subnets {
    fn human(&self) -> String {
        const COLUMNS: [Column; 8] = [
            ("PROJECT", false),
            ("SUBNET", false),
            ("ID", true),
            ("STATE", false),
            ("CIDR", false),
            ("VXLAN", true),
            ("BALANCERS", true),
            ("BRIDGE", false),
        ];
        match &self.0[..] {
            [] => "there are no subnets; `lbctl subnet add` adds one\n".to_owned(),
            subnets => layout(
                &COLUMNS,
                subnets.iter().map(|one| {
                    let within = one.leases.iter().filter(|lease| !lease.former).count();
                    vec![
                        one.project.clone(),
                        one.name.clone(),
                        one.id.to_string(),
                        one.state().to_owned(),
                        one.setting("cidr"),
                        one.vxlan(),
                        within.to_string(),
                        one.bridge.clone(),
                    ]
                }),
            ),
        }
    }
}
