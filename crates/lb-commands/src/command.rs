//! A command, as it is stored.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The number of a command. Numbers grow, and none is given out twice.
pub type CommandId = u64;

/// Lines of a command's log.
pub const LOG_LINES: usize = 32;
/// The first lines are kept when others give way.
const LOG_FIRST: usize = 8;
/// Bytes of a line of the log, and of a reason.
pub const LINE: usize = 400;

/// What a command does now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It waits: for its turn at its object, for the step before it, or for its next attempt.
    Waiting,
    /// A worker has it.
    Running,
    /// It has children that have not ended.
    WaitsForChildren,
    /// What it did is being undone.
    Compensating,
    /// It did what it should.
    Done,
    /// It did not, and what could be undone is undone.
    Failed,
    /// It was cancelled, and what could be undone is undone.
    Cancelled,
}

impl State {
    /// All, in the order of a command's life.
    pub const ALL: [State; 7] = [
        State::Waiting,
        State::Running,
        State::WaitsForChildren,
        State::Compensating,
        State::Done,
        State::Failed,
        State::Cancelled,
    ];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            State::Waiting => "waiting",
            State::Running => "running",
            State::WaitsForChildren => "waits_for_children",
            State::Compensating => "compensating",
            State::Done => "done",
            State::Failed => "failed",
            State::Cancelled => "cancelled",
        }
    }

    /// Whether nothing happens to the command any more.
    #[must_use]
    pub const fn has_ended(self) -> bool {
        matches!(self, State::Done | State::Failed | State::Cancelled)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What undoes a command, at its object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undo {
    /// What to do.
    pub verb: String,
    /// With what.
    #[serde(default)]
    pub arguments: Map<String, Value>,
}

/// A command that is to be.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NewCommand {
    /// What it changes. Commands of one object are run one after the other.
    pub object: String,
    /// What it does.
    pub verb: String,
    /// With what.
    pub arguments: Map<String, Value>,
    /// Among its siblings: those of a step begin when those of the steps before have ended.
    pub step: u32,
    /// What undoes it, when it fails after it has begun, or when its parent does.
    pub undo: Option<Undo>,
    /// How long it may take. Default: the queue's; never longer than its parent.
    pub patience: Option<Duration>,
    /// The caller's name of a request: a request that is repeated is not a second command.
    pub request: Option<String>,
    /// In words, for people.
    pub about: String,
}

impl NewCommand {
    /// A command without arguments.
    #[must_use]
    pub fn new(object: impl Into<String>, verb: impl Into<String>) -> Self {
        NewCommand {
            object: object.into(),
            verb: verb.into(),
            ..NewCommand::default()
        }
    }

    /// With an argument.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.arguments.insert(name.to_owned(), value.into());
        self
    }

    /// In words.
    #[must_use]
    pub fn about(mut self, words: impl Into<String>) -> Self {
        self.about = words.into();
        self
    }

    /// What undoes it, with the same arguments.
    #[must_use]
    pub fn undone_by(mut self, verb: &str) -> Self {
        self.undo = Some(Undo {
            verb: verb.to_owned(),
            arguments: self.arguments.clone(),
        });
        self
    }

    /// In this step among its siblings.
    #[must_use]
    pub const fn in_step(mut self, step: u32) -> Self {
        self.step = step;
        self
    }
}

/// The right to run a command, for a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Who has it: a name of one process.
    pub worker: String,
    /// Its number: no two leases of a command have the same.
    pub token: u64,
    /// When it ends, since 1970.
    pub until: Duration,
}

/// How a command that does not succeed is to end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// [`State::Failed`] or [`State::Cancelled`].
    pub state: State,
    /// Why.
    pub why: String,
}

/// A line of a command's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// When, since 1970.
    pub time: Duration,
    /// What happened.
    pub text: String,
}

/// A command. Times are since 1970.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Command {
    /// Its number.
    pub id: CommandId,
    /// The command that waits for it.
    #[serde(default)]
    pub parent: Option<CommandId>,
    /// The commands that it waits for, or has waited for.
    #[serde(default)]
    pub children: Vec<CommandId>,
    /// Its place among all: the number of its root, then its place among the children of each command on the way to it.
    pub path: Vec<u64>,
    /// What it changes.
    pub object: String,
    /// What it does.
    pub verb: String,
    /// With what.
    #[serde(default)]
    pub arguments: Map<String, Value>,
    /// In words.
    #[serde(default)]
    pub about: String,
    /// Siblings of lower steps come first.
    #[serde(default)]
    pub step: u32,
    /// What undoes it.
    #[serde(default)]
    pub undo: Option<Undo>,
    /// Whether it undoes another one, or is part of that: it is not undone itself.
    #[serde(default)]
    pub is_undo: bool,
    /// The caller's name of the request.
    #[serde(default)]
    pub request: Option<String>,
    /// What it does now.
    pub state: State,
    /// How often its children have all ended well, and it went on.
    #[serde(default)]
    pub stage: u32,
    /// What it remembers from one stage to the next.
    #[serde(default)]
    pub memo: Value,
    /// What it found, when it is done.
    #[serde(default)]
    pub result: Value,
    /// How often a worker has had it.
    #[serde(default)]
    pub attempts: u64,
    /// Failures in a row.
    #[serde(default)]
    pub failures: u32,
    /// How often its worker was lost, in a row.
    #[serde(default)]
    pub losses: u32,
    /// Not before then.
    #[serde(default)]
    pub next_try: Duration,
    /// When it was ordered.
    pub created: Duration,
    /// When it last changed its state.
    pub changed: Duration,
    /// When it fails unless it has ended.
    pub deadline: Duration,
    /// Who runs it.
    #[serde(default)]
    pub lease: Option<Lease>,
    /// How it is to end, if not well.
    #[serde(default)]
    pub ending: Option<Ending>,
    /// What happened, the newest last.
    #[serde(default)]
    pub log: Vec<Line>,
}

impl Command {
    /// Whether it ever ran: from then on it has its object until it ends.
    #[must_use]
    pub const fn has_begun(&self) -> bool {
        self.attempts > 0
    }

    /// The command that nobody waits for, and that this one is of.
    #[must_use]
    pub fn root(&self) -> CommandId {
        self.path.first().copied().unwrap_or(self.id)
    }

    /// How many commands wait for this one.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.path.len().saturating_sub(1)
    }

    /// Whether one of them is an ancestor of the other.
    #[must_use]
    pub fn is_related(&self, other: &Command) -> bool {
        self.path.starts_with(&other.path) || other.path.starts_with(&self.path)
    }

    /// Why it did not succeed, or does not go on.
    #[must_use]
    pub fn why(&self) -> &str {
        match (&self.ending, self.failures) {
            (Some(ending), _) => &ending.why,
            (None, 0) => "",
            (None, _) => self.log.last().map_or("", |line| line.text.as_str()),
        }
    }

    /// A text among the arguments; empty if there is none.
    #[must_use]
    pub fn text(&self, name: &str) -> &str {
        self.arguments
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// A number among the arguments; 0 if there is none.
    #[must_use]
    pub fn number(&self, name: &str) -> u64 {
        self.arguments
            .get(name)
            .and_then(Value::as_u64)
            .unwrap_or_default()
    }

    pub(crate) fn note(&mut self, text: &str, now: Duration) {
        let text = clipped(text);
        if self.log.last().is_some_and(|last| last.text == text) {
            return;
        }
        if self.log.len() >= LOG_LINES {
            self.log.remove(LOG_FIRST);
        }
        self.log.push(Line { time: now, text });
    }
}

/// The beginning of a text that may be long.
#[must_use]
pub fn clipped(text: &str) -> String {
    if text.len() <= LINE {
        return text.to_owned();
    }
    let end = (0..=LINE).rev().find(|at| text.is_char_boundary(*at));
    format!("{}…", &text[..end.unwrap_or_default()])
}
