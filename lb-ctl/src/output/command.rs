//! Commands of the controller's queue.

use std::fmt::Write as _;

use lb_proto::controller::v1;
use serde::Serialize;

use super::{
    Human,
    table::{Column, layout},
};

/// A command.
#[derive(Debug, Serialize)]
pub struct Command {
    id: u64,
    parent: u64,
    children: Vec<u64>,
    object: String,
    verb: String,
    about: String,
    state: String,
    depth: u32,
    step: u32,
    attempts: u64,
    failures: u32,
    undo: bool,
    why: String,
    waits_for: Vec<u64>,
    log: Vec<String>,
}

impl From<&v1::Command> for Command {
    fn from(command: &v1::Command) -> Self {
        Command {
            id: command.id,
            parent: command.parent,
            children: command.children.clone(),
            object: command.object.clone(),
            verb: command.verb.clone(),
            about: command.about.clone(),
            state: command.state.clone(),
            depth: command.depth,
            step: command.step,
            attempts: command.attempts,
            failures: command.failures,
            undo: command.undo,
            why: command.why.clone(),
            waits_for: command.waits_for.clone(),
            log: command.log.iter().map(|line| line.text.clone()).collect(),
        }
    }
}

impl Command {
    fn words(&self) -> &str {
        if self.about.is_empty() {
            &self.verb
        } else {
            &self.about
        }
    }

    fn state(&self) -> String {
        let state = self.state.replace('_', " ");
        match (self.why.as_str(), &self.waits_for[..]) {
            ("", []) => state,
            ("", _) if self.state == "waits_for_children" => state,
            ("", [first, ..]) => format!("{state} for command {first}"),
            (why, _) => format!("{state}: {why}"),
        }
    }
}

/// Commands that nobody waits for.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct Commands(pub Vec<Command>);

impl Human for Commands {
    fn human(&self) -> String {
        const COLUMNS: [Column; 4] = [
            ("COMMAND", true),
            ("OBJECT", false),
            ("ORDER", false),
            ("STATE", false),
        ];
        if self.0.is_empty() {
            return "there are no such commands\n".to_owned();
        }
        layout(
            &COLUMNS,
            self.0.iter().map(|one| {
                vec![
                    one.id.to_string(),
                    one.object.clone(),
                    one.words().to_owned(),
                    one.state(),
                ]
            }),
        )
    }
}

/// A command with all that it has waited for, each after its parent.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct Tree(pub Vec<Command>);

impl Tree {
    /// The state of the command, and why it is so.
    pub fn root(&self) -> (&str, &str) {
        let root = self.0.first();
        root.map_or(("", ""), |root| (root.state.as_str(), root.why.as_str()))
    }
}

impl Human for Tree {
    fn human(&self) -> String {
        let mut text = String::new();
        let first = self.0.first().map_or(0, |root| root.depth);
        for command in &self.0 {
            let indent = "  ".repeat((command.depth - first.min(command.depth)) as usize);
            let _ = writeln!(
                text,
                "{indent}{} {}: {}",
                command.id,
                command.words(),
                command.state()
            );
            for line in &command.log {
                let _ = writeln!(text, "{indent}    - {line}");
            }
        }
        text
    }
}

/// A change of a command.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct Change(pub Command);

impl Human for Change {
    fn human(&self) -> String {
        let command = &self.0;
        let indent = "  ".repeat(command.depth as usize);
        format!(
            "{indent}{} {}: {}\n",
            command.id,
            command.words(),
            command.state()
        )
    }
}
