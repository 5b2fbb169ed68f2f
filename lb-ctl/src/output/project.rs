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
}

#[derive(Debug, Serialize)]
struct Named {
    id: u64,
    name: String,
}

impl From<&v1::Project> for Project {
    fn from(project: &v1::Project) -> Self {
        let balancers = project.balancers.iter().map(|one| Named {
            id: one.id,
            name: one.name.clone(),
        });
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
            balancers: balancers.collect(),
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
        const COLUMNS: [Column; 5] = [
            ("PROJECT", false),
            ("ID", true),
            ("BALANCERS", true),
            ("NODES AT MOST", true),
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
        let names = self.balancers.iter().map(|one| one.name.as_str());
        let names = names.collect::<Vec<_>>().join(", ");
        let text = if names.is_empty() {
            "no load balancers".to_owned()
        } else {
            format!("load balancers {names}")
        };
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

#[derive(Debug, Serialize)]
struct Condition {
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
}

impl From<&v1::Balancer> for Balancer {
    fn from(balancer: &v1::Balancer) -> Self {
        let conditions = balancer.conditions.iter().map(|one| Condition {
            kind: one.kind.clone(),
            value: one.value,
            why: one.why.clone(),
        });
        let nodes = balancer.nodes.iter().map(|one| Node {
            name: one.name.clone(),
            address: one.address.clone(),
            serving: one.serving,
            state: one.state.clone(),
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
            conditions: conditions.collect(),
            nodes: nodes.collect(),
            url: balancer.url.clone(),
            addresses: balancer.addresses.clone(),
        }
    }
}

impl Balancer {
    fn is(&self, kind: &str) -> bool {
        let condition = self.conditions.iter().find(|one| one.kind == kind);
        condition.is_some_and(|condition| condition.value)
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
        const NODES: [Column; 3] = [("NODE", false), ("ADDRESS", false), ("STATE", false)];
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
            let mark = if condition.value { ' ' } else { '!' };
            let _ = writeln!(text, "  {mark} {}: {}", condition.kind, condition.why);
        }
        if !self.nodes.is_empty() {
            let rows = self.nodes.iter();
            let rows =
                rows.map(|node| vec![node.name.clone(), node.address.clone(), node.state.clone()]);
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
