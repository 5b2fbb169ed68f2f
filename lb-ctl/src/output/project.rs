//! Projects, and the load balancers in them.

use std::fmt::Write as _;

use lb_model::settings::{Map, Value};
use lb_proto::{controller::v1, settings::struct_to_map};
use serde::Serialize;

use super::{
    Human,
    table::{Column, layout},
};

/// A project.
#[derive(Debug, Serialize)]
pub struct Project {
    id: u64,
    name: String,
    settings: Map<String, Value>,
    generation: u64,
    deleting: bool,
    balancers: Vec<Named>,
    subnets: Vec<Named>,
}

#[derive(Debug, Serialize)]
struct Named {
    id: u64,
    name: String,
}

impl From<&v1::Project> for Project {
    fn from(project: &v1::Project) -> Self {
        let named = |list: &[v1::ObjectId]| {
            let named = list.iter().map(|one| Named {
                id: one.id,
                name: one.name.clone(),
            });
            named.collect()
        };
        Project {
            id: project.id,
            name: project.name.clone(),
            settings: project
                .settings
                .clone()
                .map(struct_to_map)
                .unwrap_or_default(),
            generation: project.generation,
            deleting: project.deleting,
            balancers: named(&project.balancers),
            subnets: named(&project.subnets),
        }
    }
}

impl Project {
    fn row(&self) -> Vec<String> {
        let quota = |name: &str| {
            let value = self.settings.get("quota").and_then(|quota| quota.get(name));
            value.map(lb_model::settings::plain).unwrap_or_default()
        };
        let description = self.settings.get("description").and_then(Value::as_str);
        let deleting = if self.deleting {
            "(being deleted) "
        } else {
            ""
        };
        vec![
            self.name.clone(),
            self.id.to_string(),
            format!("{} of {}", self.balancers.len(), quota("balancers")),
            quota("nodes"),
            format!("{} of {}", self.subnets.len(), quota("subnets")),
            format!("{deleting}{}", description.unwrap_or_default()),
        ]
    }
}

/// Projects.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct Projects(pub Vec<Project>);

impl Human for Projects {
    fn human(&self) -> String {
        const COLUMNS: [Column; 6] = [
            ("PROJECT", false),
            ("ID", true),
            ("BALANCERS", true),
            ("NODES AT MOST", true),
            ("SUBNETS", true),
            ("DESCRIPTION", false),
        ];
        if self.0.is_empty() {
            return "there are no projects; `lbctl project add` adds one\n".to_owned();
        }
        layout(&COLUMNS, self.0.iter().map(Project::row))
    }
}

impl Human for Project {
    fn human(&self) -> String {
        let listed = |list: &[Named], what: &str| {
            let names: Vec<&str> = list.iter().map(|one| one.name.as_str()).collect();
            if names.is_empty() {
                format!("no {what}")
            } else {
                format!("{what} {}", names.join(", "))
            }
        };
        let text = format!(
            "{}, {}",
            listed(&self.balancers, "load balancers"),
            listed(&self.subnets, "subnets")
        );
        let deleting = if self.deleting { ", being deleted" } else { "" };
        format!("{} ({}): {text}{deleting}\n", self.name, self.id)
    }
}

/// A load balancer.
#[derive(Debug, Serialize)]
pub struct Balancer {
    id: u64,
    name: String,
    project: String,
    settings: Map<String, Value>,
    generation: u64,
    observed_generation: u64,
    deleting: bool,
    conditions: Vec<Condition>,
    nodes: Vec<Node>,
    url: String,
    addresses: Vec<String>,
}

/// A statement about an object.
#[derive(Debug, Serialize)]
pub struct Condition {
    kind: String,
    value: bool,
    why: String,
}

#[derive(Debug, Serialize)]
struct Node {
    name: String,
    address: String,
    serving: bool,
    state: String,
    host: String,
}

impl From<&v1::Condition> for Condition {
    fn from(condition: &v1::Condition) -> Self {
        Condition {
            kind: condition.kind.clone(),
            value: condition.value,
            why: condition.why.clone(),
        }
    }
}

impl Condition {
    /// Whether it says that this is so.
    pub fn is(&self, kind: &str) -> bool {
        self.kind == kind && self.value
    }

    /// A line with what it says.
    pub fn line(&self) -> String {
        let mark = if self.value { ' ' } else { '!' };
        format!("  {mark} {}: {}\n", self.kind, self.why)
    }
}

impl From<&v1::Balancer> for Balancer {
    fn from(balancer: &v1::Balancer) -> Self {
        let nodes = balancer.nodes.iter().map(|one| Node {
            name: one.name.clone(),
            address: one.address.clone(),
            serving: one.serving,
            state: one.state.clone(),
            host: one.host.clone(),
        });
        Balancer {
            id: balancer.id,
            name: balancer.name.clone(),
            project: balancer.project.clone(),
            settings: balancer
                .settings
                .clone()
                .map(struct_to_map)
                .unwrap_or_default(),
            generation: balancer.generation,
            observed_generation: balancer.observed_generation,
            deleting: balancer.deleting,
            conditions: balancer.conditions.iter().map(Condition::from).collect(),
            nodes: nodes.collect(),
            url: balancer.url.clone(),
            addresses: balancer.addresses.clone(),
        }
    }
}

impl Balancer {
    fn is(&self, kind: &str) -> bool {
        self.conditions.iter().any(|one| one.is(kind))
    }

    fn state(&self) -> &'static str {
        match (self.deleting, self.is("serving"), self.is("complete")) {
            (true, ..) => "deleting",
            (_, true, true) => "serving",
            (_, true, false) => "changing",
            _ => "pending",
        }
    }
}

impl Human for Balancer {
    fn human(&self) -> String {
        const NODES: [Column; 4] = [
            ("NODE", false),
            ("ADDRESS", false),
            ("HOST", false),
            ("STATE", false),
        ];
        let mut text = format!(
            "{}/{} ({}): {}",
            self.project,
            self.name,
            self.id,
            self.state()
        );
        if !self.url.is_empty() {
            let _ = write!(text, " at {}", self.url);
        }
        text.push('\n');
        for condition in &self.conditions {
            text += &condition.line();
        }
        if !self.nodes.is_empty() {
            let rows = self.nodes.iter();
            let rows = rows.map(|node| {
                let texts = [&node.name, &node.address, &node.host, &node.state];
                texts.map(String::clone).to_vec()
            });
            text += &layout(&NODES, rows);
        }
        text
    }
}

/// Load balancers.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct Balancers(pub Vec<Balancer>);

impl Human for Balancers {
    fn human(&self) -> String {
        const COLUMNS: [Column; 6] = [
            ("PROJECT", false),
            ("BALANCER", false),
            ("ID", true),
            ("STATE", false),
            ("NODES", true),
            ("URL", false),
        ];
        match &self.0[..] {
            [] => "there are no load balancers; `lbctl lb add` adds one\n".to_owned(),
            balancers => layout(
                &COLUMNS,
                balancers.iter().map(|one| {
                    let serving = one.nodes.iter().filter(|node| node.serving).count();
                    vec![
                        one.project.clone(),
                        one.name.clone(),
                        one.id.to_string(),
                        one.state().to_owned(),
                        format!("{serving} of {}", one.nodes.len()),
                        one.url.clone(),
                    ]
                }),
            ),
        }
    }
}
