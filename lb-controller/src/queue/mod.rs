//! The queue of commands: stored before they are executed, run by one watched task.
//!
//! - `state.rs`: what is stored: commands, and the environments that they are about.
//! - `worker.rs`: the task. It takes what has come, makes all steps that follow, stores the records in one transaction, and only
//!   then answers, and has commands run.
//!
//! What runs says how it ended as one more thing that has come. No command holds a thread or a lock while it waits.

mod state;
#[cfg(test)]
mod tests;
mod worker;

use std::{
    collections::{BTreeSet, VecDeque},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::future::BoxFuture;
use lb_commands::{
    command::{Command, CommandId, NewCommand, State as CommandState},
    environment::Environment,
    queue::{Limits, Outcome, Queue, QueueError, Task},
};
use lb_serve::{vital::Registrar, watchdog::Pulse};
use tokio::sync::{mpsc, oneshot, watch};

pub use self::state::State;
use crate::{
    keeper::{Keeper, KeeperError},
    records::{Counter, Stored, Unreadable},
};

/// See [`lb_serve::vital`].
pub const QUEUE: &str = "the task of the command queue";
/// Orders that wait to be taken at most; whoever has one more waits.
const ORDERS: usize = 4_096;
/// Changes that watchers may be behind.
const KEPT: usize = 8_192;

/// Why an order was not taken. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The queue refused it.
    #[error("{0}")]
    Queue(#[from] QueueError),
    /// It was refused, as it is about an environment.
    #[error("{0}")]
    Refused(#[from] crate::environments::Refusal),
    /// The store does not work.
    #[error("nothing was changed: {0}")]
    Store(KeeperError),
    /// The task has ended.
    #[error("the task of the command queue has ended; restart the controller")]
    Ended,
}

/// What has commands done whose runs are not pure.
pub trait Execute: fmt::Debug + Send + Sync + 'static {
    /// Does what a command says, or a part of it. It is dropped when the command's lease ends, and done again after a crash: it is
    /// idempotent.
    fn execute(
        &self,
        command: Command,
        environment: Option<Environment>,
    ) -> BoxFuture<'static, Outcome>;
}

/// A command that has changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Changed {
    /// Counts the changes of all commands since the process started.
    pub revision: u64,
    /// The command, as it is then.
    pub command: Command,
}

/// What is decided about an order.
type Decide = Box<dyn FnOnce(&mut State, Duration) -> Result<CommandId, CommandError> + Send>;

/// What comes to the task.
enum Input {
    /// An order, which is answered when it is stored.
    Order(Decide, oneshot::Sender<Result<CommandId, CommandError>>),
    /// A run has ended.
    Ended(Task, Outcome),
}

/// The queue.
#[derive(Clone, Debug)]
pub struct Commands(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    inputs: mpsc::Sender<Input>,
    changed: watch::Sender<u64>,
    kept: Mutex<VecDeque<Changed>>,
    pulse: Arc<Pulse>,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Commands").finish_non_exhaustive()
    }
}

/// A queue that was not started yet: what executes its commands needs the queue as well.
#[derive(Debug)]
pub struct Prepared {
    commands: Commands,
    inputs: mpsc::Receiver<Input>,
    keeper: Keeper,
}

/// Commands and environments, as they were stored.
#[derive(Debug, Default)]
pub struct StoredOrders {
    /// Commands.
    pub commands: Vec<Command>,
    /// Environments.
    pub environments: Vec<Environment>,
    /// The last number that was given to an environment.
    pub last_environment: u64,
}

impl StoredOrders {
    /// Reads what is stored.
    ///
    /// # Errors
    /// A record cannot be read.
    pub fn read(stored: &Stored) -> Result<Self, Unreadable> {
        Ok(StoredOrders {
            commands: stored.all()?.into_iter().map(|(_, one)| one).collect(),
            environments: stored.all()?.into_iter().map(|(_, one)| one).collect(),
            last_environment: stored.counter(Counter::LAST_ENVIRONMENT)?.unwrap_or(0),
        })
    }
}

impl Commands {
    /// Takes up what is stored.
    #[must_use]
    pub fn prepare(keeper: Keeper, limits: Limits, stored: StoredOrders) -> Prepared {
        let (inputs, receiver) = mpsc::channel(ORDERS);
        let queue = Queue::restored(limits, stored.commands);
        let state = State::restored(queue, stored.environments, stored.last_environment);
        let commands = Commands(Arc::new(Inner {
            state: Mutex::new(state),
            inputs,
            changed: watch::Sender::new(0),
            kept: Mutex::default(),
            pulse: Arc::default(),
        }));
        Prepared {
            commands,
            inputs: receiver,
            keeper,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads commands and environments.
    pub fn read<R>(&self, read: impl FnOnce(&State) -> R) -> R {
        read(&self.state())
    }

    /// Has an order decided, and returns when what follows from it is stored.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn order(
        &self,
        decide: impl FnOnce(&mut State, Duration) -> Result<CommandId, CommandError> + Send + 'static,
    ) -> Result<CommandId, CommandError> {
        let (reply, answer) = oneshot::channel();
        let order = Input::Order(Box::new(decide), reply);
        let sent = self.0.inputs.send(order).await;
        sent.map_err(|_| CommandError::Ended)?;
        answer.await.map_err(|_| CommandError::Ended)?
    }

    /// Takes a command.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn submit(&self, new: NewCommand) -> Result<CommandId, CommandError> {
        self.order(move |state, now| Ok(state.queue.submit(new, now)?))
            .await
    }

    /// Cancels a command and all that it waits for.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn cancel(&self, id: CommandId, why: String) -> Result<CommandId, CommandError> {
        self.order(move |state, now| {
            state.queue.cancel(id, &why, now)?;
            Ok(id)
        })
        .await
    }

    /// Tries a command again: at once if it waits, as a new one if it has ended.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn retry(&self, id: CommandId) -> Result<CommandId, CommandError> {
        self.order(move |state, now| {
            let again = state.queue.retry(id, now)?;
            Ok(again)
        })
        .await
    }

    /// A command.
    ///
    /// # Errors
    /// There is none.
    pub fn get(&self, id: CommandId) -> Result<Command, QueueError> {
        let state = self.state();
        let command = state.queue.get(id).cloned();
        command.ok_or(QueueError::NoCommand(id))
    }

    /// A command with all that it has waited for, each after its parent.
    ///
    /// # Errors
    /// There is none.
    pub fn tree(&self, id: CommandId) -> Result<Vec<Command>, QueueError> {
        let state = self.state();
        let tree: Vec<Command> = state.queue.tree(id).into_iter().cloned().collect();
        if tree.is_empty() {
            return Err(QueueError::NoCommand(id));
        }
        Ok(tree)
    }

    /// The newest commands that fit, the oldest of them first. `wanted` must not ask this queue: it is locked meanwhile.
    #[must_use]
    pub fn list(&self, wanted: impl Fn(&State, &Command) -> bool, most: usize) -> Vec<Command> {
        let state = self.state();
        let newest = state.queue.all().rev();
        let newest = newest.filter(|command| wanted(&state, command));
        let mut newest: Vec<Command> = newest.take(most).cloned().collect();
        newest.reverse();
        newest
    }

    /// How many commands that are kept are in each state.
    #[must_use]
    pub fn counts(&self) -> Vec<(CommandState, usize)> {
        let state = self.state();
        let mut counts: Vec<_> = CommandState::ALL.map(|one| (one, 0)).to_vec();
        for command in state.queue.all() {
            if let Some((_, count)) = counts.iter_mut().find(|(one, _)| *one == command.state) {
                *count += 1;
            }
        }
        counts
    }

    /// Counts the changes that are stored.
    #[must_use]
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }

    /// The changes after this one, the oldest first; `None` if some are no longer known.
    #[must_use]
    pub fn since(&self, revision: u64) -> Option<Vec<Changed>> {
        let kept = self.kept();
        let first = kept.front().map_or(u64::MAX, |one| one.revision);
        let last = *self.0.changed.borrow();
        if revision > last || (revision < last && revision + 1 < first) {
            return None;
        }
        let later = kept.iter().filter(|one| one.revision > revision);
        Some(later.cloned().collect())
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<Changed>> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the task makes progress: it does something once a second.
    #[must_use]
    pub fn pulse(&self) -> Arc<Pulse> {
        Arc::clone(&self.0.pulse)
    }

    /// Tells what has changed.
    fn publish(&self, commands: Vec<Command>) {
        let mut kept = self.kept();
        let mut revision = *self.0.changed.borrow();
        for command in commands {
            revision += 1;
            kept.push_back(Changed { revision, command });
        }
        while kept.len() > KEPT {
            kept.pop_front();
        }
        drop(kept);
        self.0.changed.send_replace(revision);
    }
}

impl Prepared {
    /// The queue, which takes orders when it has started.
    #[must_use]
    pub fn commands(&self) -> Commands {
        self.commands.clone()
    }

    /// Starts the task.
    pub fn start(self, execute: Arc<dyn Execute>, parts: &Registrar) {
        let worker = worker::Worker::new(self, execute);
        parts.spawn(QUEUE, "commands".to_owned(), worker.run());
    }
}

/// The numbers of tasks.
type Tasks = BTreeSet<Task>;
