//! The task of the queue.

use std::{collections::HashMap, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt as _;
use lb_commands::{
    command::Command,
    environment::{self, Change, verbs},
    queue::{Outcome, Task},
};
use lb_serve::vital;
use tokio::{
    sync::{mpsc, oneshot},
    task::AbortHandle,
    time::Instant,
};

use super::{CommandError, Commands, Execute, Input, Prepared, State, Tasks, state::Records};
use crate::{
    clock::unix_now,
    keeper::{Changes, Keeper},
    records::Counter,
};

/// Commands that run at the same time at most.
const RUNNING: usize = 128;
/// What is taken together into one transaction at most.
const BATCH: usize = 1_024;
/// How often the task looks around without a reason.
const LOOK: Duration = Duration::from_secs(1);
/// The pause after a failure of the store.
const PAUSE: Duration = Duration::from_millis(500);

/// Where the answer to an order goes.
type Reply = oneshot::Sender<Result<u64, CommandError>>;

pub(super) struct Worker {
    commands: Commands,
    inputs: mpsc::Receiver<Input>,
    keeper: Keeper,
    execute: Arc<dyn Execute>,
    /// The name of this process among workers.
    name: String,
    running: HashMap<Task, AbortHandle>,
    /// Runs that have ended, which could not be stored yet.
    ended: Vec<(Task, Outcome)>,
    extended: Instant,
    last_environment: u64,
}

/// What is to be done once the records are stored.
#[derive(Default)]
struct Then {
    replies: Vec<(Reply, Result<u64, CommandError>)>,
    starts: Vec<(Task, Command)>,
    stops: Tasks,
    ended: Vec<(Task, Outcome)>,
}

impl Worker {
    pub(super) fn new(prepared: Prepared, execute: Arc<dyn Execute>) -> Self {
        let Prepared {
            commands,
            inputs,
            keeper,
        } = prepared;
        let last_environment = commands.state().last_environment();
        Worker {
            commands,
            inputs,
            keeper,
            execute,
            name: format!("{}-{}", std::process::id(), unix_now().as_millis()),
            running: HashMap::new(),
            ended: Vec::new(),
            extended: Instant::now(),
            last_environment,
        }
    }

    pub(super) async fn run(mut self) {
        let pulse = self.commands.pulse();
        // No other process has this store: whatever had commands of it is no more.
        self.commands.state().queue.recover(|_| false, unix_now());
        let mut inputs = Vec::new();
        loop {
            let is_stored = {
                let _work = pulse.work();
                self.step(&mut inputs).await
            };
            let pause = if is_stored { self.pause() } else { PAUSE };
            if inputs.is_empty() {
                tokio::select! {
                    count = self.inputs.recv_many(&mut inputs, BATCH), if is_stored => {
                        if count == 0 {
                            return;
                        }
                    }
                    () = tokio::time::sleep(pause) => {}
                }
            }
            while inputs.len() < BATCH
                && let Ok(input) = self.inputs.try_recv()
            {
                inputs.push(input);
            }
        }
    }

    /// How long nothing is due by time.
    fn pause(&self) -> Duration {
        let next = self.commands.state().queue.next_time();
        let next = next.map_or(LOOK, |next| next.saturating_sub(unix_now()));
        next.clamp(Duration::from_millis(1), LOOK)
    }

    /// Makes all steps that follow from what has come, stores them, and does what is to be done then. Returns whether they were
    /// stored.
    async fn step(&mut self, inputs: &mut Vec<Input>) -> bool {
        let (records, mut then) = self.decide(std::mem::take(inputs));
        if !records.is_empty() {
            let mut changes = self.changes(&records);
            let last = self.commands.state().last_environment();
            if last > self.last_environment {
                changes.put(Counter::LAST_ENVIRONMENT, &Counter(last));
            }
            if let Err(error) = self.keeper.write(changes).await {
                let before = self.commands.state().roll_back();
                // They may be written after all.
                self.keeper.owe(self.changes(&before));
                self.ended = std::mem::take(&mut then.ended);
                let text = error.to_string();
                for (reply, _) in then.replies {
                    let error = crate::keeper::KeeperError::Away(text.clone());
                    // Whoever asked may have gone.
                    let _ = reply.send(Err(CommandError::Store(error)));
                }
                return false;
            }
            self.last_environment = last;
            self.commands.state().stored();
        }
        for task in &then.stops {
            if let Some(handle) = self.running.remove(task) {
                handle.abort();
            }
        }
        for (task, _) in &then.ended {
            self.running.remove(task);
        }
        let changed = records.commands.into_iter();
        self.commands
            .publish(changed.filter_map(|(_, command)| command).collect());
        for (task, command) in then.starts {
            self.start(task, command);
        }
        for (reply, result) in then.replies {
            let _ = reply.send(result);
        }
        true
    }

    fn changes(&self, records: &Records) -> Changes {
        let mut changes = Changes::default();
        for (id, command) in &records.commands {
            changes.set(id, command.as_ref());
        }
        for (id, environment) in &records.environments {
            changes.set(id, environment.as_ref());
        }
        changes
    }

    fn decide(&mut self, inputs: Vec<Input>) -> (Records, Then) {
        let now = unix_now();
        let mut then = Then::default();
        let commands = self.commands.clone();
        let mut state = commands.state();
        let state = &mut *state;
        then.ended = std::mem::take(&mut self.ended);
        for input in inputs {
            match input {
                Input::Ended(task, outcome) => then.ended.push((task, outcome)),
                Input::Order(decide, reply) => {
                    let decided = decide(state, now);
                    then.replies.push((reply, decided));
                }
            }
        }
        for (task, outcome) in &then.ended {
            finish(state, *task, outcome.clone(), now);
        }
        if self.extended.elapsed() > state.queue.limits().lease / 3 {
            self.extended = Instant::now();
            for task in self.running.keys() {
                // One whose lease is over is stopped below.
                let _ = state.queue.extend(*task, now);
            }
        }
        state.queue.expire(now);
        let stopped = state.queue.take_stops();
        for task in stopped {
            let outcome = Outcome::Failed("it was stopped".to_owned());
            // One whose lease has ended has nothing to say.
            let _ = state.queue.finish(task, outcome, now);
            then.stops.insert(task);
        }
        self.lease(state, &mut then, now);
        (state.records(), then)
    }

    /// Gives out commands that can run. Those whose runs are pure are run at once.
    fn lease(&self, state: &mut State, then: &mut Then, now: Duration) {
        let mut pure = 0;
        while pure < BATCH {
            let left = then
                .ended
                .iter()
                .filter(|(task, _)| self.running.contains_key(task));
            let busy = self.running.len() - left.count() + then.starts.len();
            let tasks = state
                .queue
                .next(&self.name, RUNNING.saturating_sub(busy).min(64), now);
            if tasks.is_empty() {
                return;
            }
            for task in tasks {
                let Some(command) = state.queue.get(task.id).cloned() else {
                    continue;
                };
                if verbs::is_pure(&command.verb) {
                    pure += 1;
                    let outcome = run(state, &command, now);
                    let _ = state.queue.finish(task, outcome, now);
                } else {
                    then.starts.push((task, command));
                }
            }
        }
    }

    fn start(&mut self, task: Task, command: Command) {
        let environment = self
            .commands
            .state()
            .environment(command.number(verbs::ENVIRONMENT))
            .cloned();
        let work = self.execute.execute(command, environment);
        let inputs = self.commands.0.inputs.clone();
        let running = tokio::spawn(async move {
            let outcome = AssertUnwindSafe(work).catch_unwind().await;
            let outcome = outcome.unwrap_or_else(|panic| {
                let message = vital::message(&*panic);
                tracing::error!("command {}: {message}", task.id);
                Outcome::Failed(format!(
                    "it panicked, which is a fault of this program: {message}"
                ))
            });
            // The controller may be ending.
            let _ = inputs.send(Input::Ended(task, outcome)).await;
        });
        self.running.insert(task, running.abort_handle());
    }
}

/// A run of a command whose run is pure.
fn run(state: &mut State, command: &Command, now: Duration) -> Outcome {
    let id = command.number(verbs::ENVIRONMENT);
    let ran = environment::run(state.environment(id), command, now);
    match ran.change {
        Change::Nothing => {}
        Change::Put(environment) => state.put(*environment),
        Change::Remove => state.remove(id),
    }
    ran.outcome
}

/// Takes up how a run ended, with what becomes of the environment.
fn finish(state: &mut State, task: Task, outcome: Outcome, now: Duration) {
    let command = state.queue.get(task.id).cloned();
    let is_done = matches!(outcome, Outcome::Done(_));
    let finished = state.queue.finish(task, outcome, now);
    if let (Some(command), true, Ok(())) = (command, is_done, finished) {
        let id = command.number(verbs::ENVIRONMENT);
        let environment = state.environment(id);
        if let Some(changed) = environment.and_then(|one| environment::applied(one, &command)) {
            state.put(changed);
        }
    }
}
