//! The queue: which commands there are, which may run, and what follows from how they end.
//!
//! A command that has begun has its object until it ends, so commands of one object come one after the other; those of a parent
//! and its descendants are one for that. A parent that waits for children is a record and nothing else: no thread and no lock
//! waits with it. When all children have ended well, the parent runs again, one stage further. A command that fails is tried again
//! with growing pauses, then what it did is undone: its done children, the last one first, then itself. Each command has a deadline,
//! never later than that of its parent.

mod index;
mod steps;
#[cfg(test)]
mod tests;
mod waits;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde_json::Value;

use self::index::Index;
pub use self::steps::UNDOES;
use crate::command::{Command, CommandId, NewCommand, State};

/// How much of everything there may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Commands that have not ended.
    pub open: usize,
    /// Trees that have ended and are kept.
    pub ended: usize,
    /// Commands that wait for one, one above the other.
    pub depth: usize,
    /// Children of a command.
    pub children: usize,
    /// Failures in a row until a command has failed.
    pub failures: u32,
    /// Workers that are lost with a command until it has failed: one that kills whoever runs it must end, too.
    pub losses: u32,
    /// The pause after the first failure; it doubles with each.
    pub pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
    /// How long a worker may be silent.
    pub lease: Duration,
    /// How long a command may take that says nothing about that.
    pub patience: Duration,
    /// How long undoing one may take.
    pub undo: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            open: 100_000,
            ended: 1_000,
            depth: 8,
            children: 256,
            failures: 5,
            losses: 20,
            pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(30),
            lease: Duration::from_secs(30),
            patience: Duration::from_secs(600),
            undo: Duration::from_secs(600),
        }
    }
}

/// Why an order about commands is refused. Nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// There is no such command.
    #[error("there is no command {0}; `lbctl command list` shows those that are kept")]
    NoCommand(CommandId),
    /// There are too many.
    #[error(
        "{0} commands have not ended, which is the limit; wait until some have, or cancel some"
    )]
    Full(usize),
    /// It has ended.
    #[error("the command {0} has ended ({1}); there is nothing to cancel")]
    Ended(CommandId, State),
    /// It is already on its way to its end.
    #[error("the command {0} is being undone already; it ends by itself")]
    Ending(CommandId),
    /// It is done.
    #[error("the command {0} is done; there is nothing to try again")]
    Done(CommandId),
    /// It is a part of another command.
    #[error("the command {0} is a part of command {1}; try that again")]
    Part(CommandId, CommandId),
    /// It is under way.
    #[error("the command {0} is under way ({1}); there is nothing to try again")]
    UnderWay(CommandId, State),
    /// The lease is over.
    #[error("the lease of command {0} is over: what its worker says does not count")]
    Stale(CommandId),
}

/// A command that a worker is to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Task {
    /// The command.
    pub id: CommandId,
    /// The number of the lease.
    pub token: u64,
}

/// How a run of a command ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It is done; this is what it found.
    Done(Value),
    /// It goes on when these are done, and remembers this.
    Children(Vec<NewCommand>, Value),
    /// It cannot tell yet, for this reason, which is no failure: it is run again after this pause.
    Again(Duration, String),
    /// It failed, and may succeed later.
    Failed(String),
    /// It failed, and trying again will not help.
    Refused(String),
    /// It is refused, and nothing was done: there is nothing to undo of itself.
    Rejected(String),
}

/// All commands.
#[derive(Clone, Debug)]
pub struct Queue {
    limits: Limits,
    commands: BTreeMap<CommandId, Command>,
    last_id: CommandId,
    index: Index,
    /// Commands as they were stored last, of those that have changed since.
    before: BTreeMap<CommandId, Option<Command>>,
    /// Tasks that are to be stopped, since their command was cancelled.
    stops: BTreeSet<Task>,
}

/// A command that has changed; `None` if it is no longer kept.
pub type Record = (CommandId, Option<Command>);

impl Queue {
    /// A queue without commands.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Queue {
            limits,
            commands: BTreeMap::new(),
            last_id: 0,
            index: Index::default(),
            before: BTreeMap::new(),
            stops: BTreeSet::new(),
        }
    }

    /// Takes up what is stored.
    #[must_use]
    pub fn restored(limits: Limits, commands: Vec<Command>) -> Self {
        let mut queue = Queue::new(limits);
        for command in commands {
            queue.last_id = queue.last_id.max(command.id);
            queue.commands.insert(command.id, command);
        }
        for command in queue.commands.values() {
            queue.index.put(command);
        }
        queue
    }

    /// The limits.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// A command.
    #[must_use]
    pub fn get(&self, id: CommandId) -> Option<&Command> {
        self.commands.get(&id)
    }

    /// All commands that are kept, by number.
    pub fn all(&self) -> impl DoubleEndedIterator<Item = &Command> {
        self.commands.values()
    }

    /// A command and all that it has waited for, each after its parent.
    #[must_use]
    pub fn tree(&self, id: CommandId) -> Vec<&Command> {
        let mut tree = Vec::new();
        let mut open: Vec<CommandId> = vec![id];
        while let Some(id) = open.pop() {
            if let Some(command) = self.commands.get(&id) {
                tree.push(command);
                open.extend(command.children.iter().rev());
            }
        }
        tree
    }

    /// The command that a request ordered.
    #[must_use]
    pub fn requested(&self, request: &str) -> Option<CommandId> {
        self.index.by_request(request)
    }

    /// Whether a command has this object, or waits for it.
    #[must_use]
    pub fn is_busy(&self, object: &str) -> bool {
        self.index.at(object).is_some()
    }

    /// The orders about an object that have not ended.
    #[must_use]
    pub fn open_at(&self, object: &str) -> Vec<CommandId> {
        let Some(at) = self.index.at(object) else {
            return Vec::new();
        };
        let mut open: Vec<CommandId> = at
            .active
            .values()
            .chain(at.waiting.values())
            .copied()
            .collect();
        open.retain(|id| {
            self.commands
                .get(id)
                .is_some_and(|one| one.parent.is_none())
        });
        open.sort_unstable();
        open
    }

    /// How many commands have not ended.
    #[must_use]
    pub fn open(&self) -> usize {
        self.index.open()
    }

    /// When something is due by time alone.
    #[must_use]
    pub fn next_time(&self) -> Option<Duration> {
        self.index.next_time()
    }

    /// The records that have changed since the last call. They are to be stored as a whole, before anything is done about them.
    pub fn take_records(&mut self) -> Vec<Record> {
        let records = self.records();
        self.stored();
        records
    }

    /// The records that have changed since they were stored.
    #[must_use]
    pub fn records(&self) -> Vec<Record> {
        let changed = self.before.keys();
        changed
            .map(|id| (*id, self.commands.get(id).cloned()))
            .collect()
    }

    /// The records are stored.
    pub fn stored(&mut self) {
        self.before.clear();
    }

    /// Whether there are changed records.
    #[must_use]
    pub fn has_records(&self) -> bool {
        !self.before.is_empty()
    }

    /// Takes back all that has changed since the records were stored, because it could not be stored. Returns the
    /// records as they were.
    pub fn roll_back(&mut self) -> Vec<Record> {
        let before: Vec<Record> = std::mem::take(&mut self.before).into_iter().collect();
        for (id, command) in &before {
            self.index.remove(*id);
            match command {
                Some(command) => self.commands.insert(*id, command.clone()),
                None => self.commands.remove(id),
            };
        }
        for (id, _) in &before {
            if let Some(command) = self.commands.get(id) {
                self.index.put(command);
            }
        }
        self.stops.clear();
        before
    }

    /// The tasks that are to be stopped: whoever runs them ends them, and says then how they ended.
    pub fn take_stops(&mut self) -> BTreeSet<Task> {
        std::mem::take(&mut self.stops)
    }

    /// Changes a command.
    fn edit(&mut self, id: CommandId, change: impl FnOnce(&mut Command)) {
        let Some(command) = self.commands.get_mut(&id) else {
            return;
        };
        self.before
            .entry(id)
            .or_insert_with(|| Some(command.clone()));
        change(command);
        self.index.put(command);
    }

    fn insert(&mut self, command: Command) {
        self.before.entry(command.id).or_insert(None);
        self.index.put(&command);
        self.commands.insert(command.id, command);
    }

    fn forget(&mut self, id: CommandId) {
        if let Some(command) = self.commands.remove(&id) {
            self.before.entry(id).or_insert(Some(command));
            self.index.remove(id);
        }
    }
}
