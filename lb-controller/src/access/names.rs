//! What a call names: its project, and the object in it.

use std::fmt;

use lb_serve::Peer;

use super::{Access, Attempt, Caller, Denied, Named, audit::Outcome, verbs::Verb};
use crate::{
    controller::Controller, environments::Environments, projects::Projects, registry::Key,
};

/// What names objects in calls, in the order of the audit log.
const FIELDS: [&str; 13] = [
    "project",
    "balancer",
    "subnet",
    "environment",
    "member",
    "verb",
    "command",
    "pool",
    "instance",
    "host",
    "user",
    "token",
    "name",
];

/// What a call names, by kind: `project`, `balancer`, …; `name` is whatever the verb is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names(Vec<(&'static str, String)>);

impl Names {
    /// These, of which unknown and empty ones do not count.
    pub fn of<'a>(names: impl IntoIterator<Item = (&'a str, String)>) -> Self {
        let mut found = Names::default();
        for (field, text) in names {
            found.set(field, text);
        }
        found
    }

    /// Adds one.
    pub fn set(&mut self, field: &str, text: String) {
        let known = FIELDS.iter().find(|name| **name == field);
        if let Some(name) = known.filter(|_| !text.is_empty()) {
            self.0.push((name, text));
        }
    }

    /// What is named as this.
    #[must_use]
    pub fn get(&self, field: &str) -> Option<&str> {
        let found = self.0.iter().find(|(name, _)| *name == field);
        found.map(|(_, text)| text.as_str())
    }
}

/// The most bytes of a name in the audit log: the caller decides what it is.
const SHOWN: usize = 100;

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, (name, text)) in self.0.iter().enumerate() {
            let space = if position > 0 { " " } else { "" };
            let shown: String = text.chars().take(SHOWN).collect();
            write!(f, "{space}{name}={}", shown.escape_debug())?;
        }
        Ok(())
    }
}

/// Finds what calls name.
#[derive(Clone, Debug)]
pub struct Directory {
    access: Access,
    controller: Controller,
    projects: Projects,
    environments: Environments,
}

impl Directory {
    /// A directory of these objects.
    #[must_use]
    pub const fn new(
        access: Access,
        controller: Controller,
        projects: Projects,
        environments: Environments,
    ) -> Self {
        Directory {
            access,
            controller,
            projects,
            environments,
        }
    }

    /// The projects.
    #[must_use]
    pub const fn projects(&self) -> &Projects {
        &self.projects
    }

    /// Whether there is a pool of this name.
    #[must_use]
    pub fn has_pool(&self, name: &lb_model::pool::PoolName) -> bool {
        self.controller.views(Some(name)).is_ok()
    }

    /// Access to them.
    #[must_use]
    pub const fn access(&self) -> &Access {
        &self.access
    }

    /// The id of a project, by name or id.
    #[must_use]
    pub fn project(&self, text: &str) -> Option<u64> {
        let key: Key = text.parse().ok()?;
        let view = self.projects.project(&key).ok()?;
        Some(view.record.id)
    }

    /// The project that a call names: by an object that is in it, or itself. The object counts first, since it is what the call
    /// is about.
    #[must_use]
    pub fn named(&self, names: &Names, caller: &Caller) -> Named {
        let known = |id: Option<u64>| id.map_or(Named::Unknown, Named::Project);
        // What is the whole controller's is nothing to those of a project.
        let of = |project: Option<Option<u64>>| match project {
            None => Named::Unknown,
            Some(Some(project)) => Named::Project(project),
            Some(None) if caller.role(None).is_some() => Named::Nothing,
            Some(None) => Named::Unknown,
        };
        if let Some(token) = names.get("token") {
            return of(self.access.token_project(token));
        }
        if let Some(command) = names.get("command") {
            let id = command.parse().ok();
            return of(id.and_then(|id| self.environments.project_of_command(id)));
        }
        match names.get("project") {
            Some(project) => known(self.project(project)),
            None => Named::Nothing,
        }
    }

    /// The generation of the object that a call of this verb names.
    #[must_use]
    pub fn generation(&self, verb: &Verb, names: &Names) -> Option<u64> {
        let get = |field: &str| names.get(field).or_else(|| names.get("name"));
        let (kind, _) = verb.name.split_once('.')?;
        match kind {
            "pool" => {
                let views = self.controller.views(Some(&get("pool")?.parse().ok()?));
                Some(views.ok()?.first()?.generation)
            }
            "project" => {
                let key: Key = get("project")?.parse().ok()?;
                Some(self.projects.project(&key).ok()?.record.generation)
            }
            "subnet" => {
                let project: Key = names.get("project")?.parse().ok()?;
                let key: Key = get("subnet")?.parse().ok()?;
                let view = self.projects.subnet(&project, &key).ok()?;
                Some(view.record.generation)
            }
            "environment" => {
                let project: Key = names.get("project")?.parse().ok()?;
                let key: Key = get("environment")?.parse().ok()?;
                let view = self.environments.environment(&project, &key).ok()?;
                Some(view.environment.generation)
            }
            "balancer" => {
                let project: Key = names.get("project")?.parse().ok()?;
                let key: Key = get("balancer")?.parse().ok()?;
                let view = self.projects.balancer(&project, &key).ok()?;
                Some(view.record.generation)
            }
            _ => None,
        }
    }

    /// Begins an attempt, and checks it.
    ///
    /// # Errors
    /// The caller may not; that is noted.
    pub fn enter(&self, call: Entering<'_>) -> Result<Attempt, Box<(Denied, Attempt)>> {
        let Entering {
            verb,
            caller,
            peer,
            via,
            names,
            named,
            request,
        } = call;
        let mut attempt = Attempt {
            verb,
            who: caller.who.clone(),
            from: peer.clone(),
            via,
            project: match named {
                Named::Project(id) => Some(id),
                _ => None,
            },
            names,
            before: None,
            request,
        };
        match self.access.check(caller, verb, named) {
            Ok(()) => {
                if verb.is_audited {
                    attempt.before = self.generation(verb, &attempt.names);
                }
                Ok(attempt)
            }
            Err(denied) => {
                // Who is not known is only counted: anybody could fill the log.
                if denied != Denied::Unauthenticated {
                    let status = denied.to_string();
                    self.access.note(&attempt, Outcome::Denied, status, None);
                }
                Err(Box::new((denied, attempt)))
            }
        }
    }

    /// Notes what became of an attempt that was let in.
    pub fn leave(&self, attempt: &Attempt, is_done: bool, status: impl Into<String>) {
        if !attempt.verb.is_audited {
            return;
        }
        let outcome = if is_done {
            Outcome::Done
        } else {
            Outcome::Refused
        };
        let after = self.generation(attempt.verb, &attempt.names);
        let mut attempt = attempt.clone();
        if attempt.verb.name == "project.create" && is_done {
            // It exists by now.
            attempt.project = attempt
                .names
                .get("name")
                .and_then(|name| self.project(name));
        }
        self.access.note(&attempt, outcome, status, after);
    }
}

/// A call that wants to be let in.
#[derive(Debug)]
pub struct Entering<'a> {
    /// What is to be done.
    pub verb: &'static Verb,
    /// Who wants it.
    pub caller: &'a Caller,
    /// From where.
    pub peer: &'a Peer,
    /// `grpc` or `http`.
    pub via: &'static str,
    /// What it names.
    pub names: Names,
    /// The project among that.
    pub named: Named,
    /// Id of the request.
    pub request: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shown_in_one_line_and_bounded() {
        let names = Names::of([
            ("project", "shop".to_owned()),
            ("colour", "red".to_owned()),
            ("balancer", String::new()),
            ("name", format!("a\nb{}", "x".repeat(500))),
        ]);
        let text = names.to_string();
        assert!(text.starts_with("project=shop name=a\\nbxxx"), "{text}");
        assert!(text.len() < 150, "{text}");
        assert_eq!(names.get("project"), Some("shop"));
        assert_eq!(names.get("balancer"), None);
    }
}
