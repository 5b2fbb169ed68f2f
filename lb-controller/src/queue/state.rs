//! What is stored: the commands, and the environments that they are about.

use std::collections::BTreeMap;

use lb_commands::{
    command::{Command, CommandId},
    environment::Environment,
    queue::Queue,
};

/// Commands and environments. Both change together, in the task of the queue only.
#[derive(Debug)]
pub struct State {
    /// The commands.
    pub queue: Queue,
    environments: BTreeMap<u64, Environment>,
    last_environment: u64,
    /// The projects of all environments that there are, or were since this process started.
    projects: BTreeMap<u64, u64>,
    /// Environments as they were stored last, of those that have changed since.
    before: BTreeMap<u64, Option<Environment>>,
}

/// What has changed.
#[derive(Debug, Default, PartialEq)]
pub struct Records {
    /// Commands; `None` if it is no longer kept.
    pub commands: Vec<(CommandId, Option<Command>)>,
    /// Environments; `None` if it is gone.
    pub environments: Vec<(u64, Option<Environment>)>,
}

impl Records {
    /// Whether nothing has.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.commands.is_empty() && self.environments.is_empty()
    }
}

impl State {
    pub(super) fn restored(
        queue: Queue,
        environments: Vec<Environment>,
        last_environment: u64,
    ) -> Self {
        let environments: BTreeMap<u64, Environment> =
            environments.into_iter().map(|one| (one.id, one)).collect();
        let last = environments.keys().next_back().copied();
        State {
            queue,
            last_environment: last_environment.max(last.unwrap_or_default()),
            projects: environments
                .iter()
                .map(|(id, one)| (*id, one.project))
                .collect(),
            environments,
            before: BTreeMap::new(),
        }
    }

    /// All environments, by number.
    pub fn environments(&self) -> impl Iterator<Item = &Environment> {
        self.environments.values()
    }

    /// An environment.
    #[must_use]
    pub fn environment(&self, id: u64) -> Option<&Environment> {
        self.environments.get(&id)
    }

    /// The project of an environment, which may be gone.
    #[must_use]
    pub fn project_of(&self, environment: u64) -> Option<u64> {
        self.projects.get(&environment).copied()
    }

    /// The last number that was given to an environment.
    #[must_use]
    pub const fn last_environment(&self) -> u64 {
        self.last_environment
    }

    /// A number that no environment had.
    pub fn next_environment(&mut self) -> u64 {
        self.last_environment += 1;
        self.last_environment
    }

    /// Puts an environment in the place of the one with its number.
    pub fn put(&mut self, environment: Environment) {
        let id = environment.id;
        self.projects.insert(id, environment.project);
        let before = self.environments.insert(id, environment);
        self.before.entry(id).or_insert(before);
    }

    /// Forgets an environment.
    pub fn remove(&mut self, id: u64) {
        if let Some(before) = self.environments.remove(&id) {
            self.before.entry(id).or_insert(Some(before));
        }
    }

    /// What has changed since it was stored.
    #[must_use]
    pub fn records(&self) -> Records {
        let environments = self.before.keys();
        Records {
            commands: self.queue.records(),
            environments: environments
                .map(|id| (*id, self.environments.get(id).cloned()))
                .collect(),
        }
    }

    /// It is stored.
    pub fn stored(&mut self) {
        self.queue.stored();
        self.before.clear();
    }

    /// Takes back all that has changed since it was stored, and returns how it was.
    pub fn roll_back(&mut self) -> Records {
        let environments: Vec<_> = std::mem::take(&mut self.before).into_iter().collect();
        for (id, before) in &environments {
            match before {
                Some(before) => self.environments.insert(*id, before.clone()),
                None => self.environments.remove(id),
            };
        }
        Records {
            commands: self.queue.roll_back(),
            environments,
        }
    }
}
