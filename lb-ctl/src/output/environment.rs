//! Environments.

use std::fmt::Write as _;

use lb_model::settings::{Map, Value};
use lb_proto::{controller::v1, settings::struct_to_map};
use serde::Serialize;

use super::{
    Human,
    table::{Column, layout},
};

/// An environment.
#[derive(Debug, Serialize)]
pub struct Environment {
    id: u64,
    name: String,
    project: String,
    settings: Map<String, Value>,
    generation: u64,
    state: String,
    power: String,
    members: Vec<Member>,
    commands: Vec<u64>,
    conditions: Vec<Condition>,
    url: String,
}

#[derive(Debug, Serialize)]
struct Member {
    id: u32,
    name: String,
    role: String,
    priority: u32,
    kind: String,
    standing: String,
    why: String,
    object: String,
    serving: u32,
    instances: u32,
    state: String,
    url: String,
    bound: Vec<String>,
    settings: Map<String, Value>,
}

#[derive(Debug, Serialize)]
struct Condition {
    kind: String,
    value: bool,
    why: String,
}

impl From<&v1::Environment> for Environment {
    fn from(environment: &v1::Environment) -> Self {
        let map = |settings: &Option<_>| settings.clone().map(struct_to_map).unwrap_or_default();
        let members = environment.members.iter().map(|one| Member {
            id: one.id,
            name: one.name.clone(),
            role: one.role.clone(),
            priority: one.priority,
            kind: one.kind.clone(),
            standing: one.standing.clone(),
            why: one.why.clone(),
            object: one.object.clone(),
            serving: one.serving,
            instances: one.instances,
            state: one.state.clone(),
            url: one.url.clone(),
            bound: one.bound.clone(),
            settings: map(&one.settings),
        });
        let conditions = environment.conditions.iter().map(|one| Condition {
            kind: one.kind.clone(),
            value: one.value,
            why: one.why.clone(),
        });
        Environment {
            id: environment.id,
            name: environment.name.clone(),
            project: environment.project.clone(),
            settings: map(&environment.settings),
            generation: environment.generation,
            state: environment.state.clone(),
            power: environment.power.clone(),
            members: members.collect(),
            commands: environment.commands.clone(),
            conditions: conditions.collect(),
            url: environment.url.clone(),
        }
    }
}

impl Human for Environment {
    fn human(&self) -> String {
        const MEMBERS: [Column; 6] = [
            ("MEMBER", false),
            ("ROLE", false),
            ("PRIORITY", true),
            ("OBJECT", false),
            ("STATE", false),
            ("BOUND", false),
        ];
        let mut text = format!(
            "{}/{} ({}): {}",
            self.project, self.name, self.id, self.state
        );
        if !self.url.is_empty() {
            let _ = write!(text, " at {}", self.url);
        }
        text.push('\n');
        for condition in &self.conditions {
            let mark = if condition.value { ' ' } else { '!' };
            let _ = writeln!(text, "  {mark} {}: {}", condition.kind, condition.why);
        }
        if !self.members.is_empty() {
            let rows = self.members.iter().map(|one| {
                vec![
                    one.name.clone(),
                    one.role.clone(),
                    one.priority.to_string(),
                    format!("{} {}", one.kind, one.object),
                    one.state.clone(),
                    one.bound.join(", "),
                ]
            });
            text += &layout(&MEMBERS, rows);
        }
        text
    }
}

/// Environments.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct Environments(pub Vec<Environment>);

impl Human for Environments {
    fn human(&self) -> String {
        const COLUMNS: [Column; 6] = [
            ("PROJECT", false),
            ("ENVIRONMENT", false),
            ("ID", true),
            ("STATE", false),
            ("MEMBERS", true),
            ("URL", false),
        ];
        if self.0.is_empty() {
            return "there are no environments; `lbctl env create` creates one\n".to_owned();
        }
        let rows = self.0.iter().map(|one| {
            vec![
                one.project.clone(),
                one.name.clone(),
                one.id.to_string(),
                one.state.clone(),
                one.members.len().to_string(),
                one.url.clone(),
            ]
        });
        layout(&COLUMNS, rows)
    }
}

/// An order that was taken.
#[derive(Debug, Serialize)]
pub struct Ordered {
    command: u64,
    environment: Option<Environment>,
}

impl From<&v1::Ordered> for Ordered {
    fn from(ordered: &v1::Ordered) -> Self {
        Ordered {
            command: ordered.command,
            environment: ordered.environment.as_ref().map(Environment::from),
        }
    }
}

impl Human for Ordered {
    fn human(&self) -> String {
        format!(
            "command {0}; `lbctl command watch {0}` follows it\n",
            self.command
        )
    }
}
