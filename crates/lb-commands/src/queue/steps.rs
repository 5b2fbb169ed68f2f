//! The steps. Each takes the time, which is since 1970.

use std::time::Duration;

use serde_json::Value;

use super::{Outcome, Queue, QueueError, Task};
use crate::command::{Command, CommandId, Ending, Lease, NewCommand, State, clipped};

/// What a command says that does not end in time.
fn too_long(command: Option<&Command>) -> String {
    let last = command.and_then(|command| command.log.last());
    let last = last.map(|line| format!("; at last: {}", line.text));
    format!("it took longer than it may{}", last.unwrap_or_default())
}

/// The argument of a command that undoes another one: that one's number.
pub const UNDOES: &str = "undoes";

impl Queue {
    /// Takes a command. One whose request is known is not a second one.
    ///
    /// # Errors
    /// There are too many.
    pub fn submit(&mut self, new: NewCommand, now: Duration) -> Result<CommandId, QueueError> {
        let known = new.request.as_deref();
        if let Some(id) = known.and_then(|request| self.index.by_request(request)) {
            return Ok(id);
        }
        if self.open() >= self.limits.open {
            return Err(QueueError::Full(self.limits.open));
        }
        let id = self.add(new, None, now);
        self.prune();
        Ok(id)
    }

    fn add(
        &mut self,
        new: NewCommand,
        parent: Option<(CommandId, bool)>,
        now: Duration,
    ) -> CommandId {
        self.last_id += 1;
        let id = self.last_id;
        let (mut path, mut latest) = (vec![id], Duration::MAX);
        let mut is_undo = false;
        if let Some((parent, undoes)) = parent
            && let Some(parent) = self.commands.get(&parent)
        {
            path.clone_from(&parent.path);
            path.push(parent.children.len() as u64);
            is_undo = undoes || parent.is_undo;
            // What undoes a command has its own time.
            if !undoes {
                latest = parent.deadline;
            }
        }
        let patience = if is_undo && new.patience.is_none() {
            self.limits.undo
        } else {
            new.patience.unwrap_or(self.limits.patience)
        };
        let command = Command {
            id,
            parent: parent.map(|(parent, _)| parent),
            children: Vec::new(),
            path,
            object: new.object,
            verb: new.verb,
            arguments: new.arguments,
            about: clipped(&new.about),
            step: new.step,
            undo: if is_undo { None } else { new.undo },
            is_undo,
            request: new.request,
            state: State::Waiting,
            stage: 0,
            memo: Value::Null,
            result: Value::Null,
            attempts: 0,
            failures: 0,
            losses: 0,
            next_try: Duration::ZERO,
            created: now,
            changed: now,
            deadline: now.saturating_add(patience).min(latest),
            lease: None,
            ending: None,
            log: Vec::new(),
        };
        self.insert(command);
        if let Some((parent, _)) = parent {
            self.edit(parent, |parent| parent.children.push(id));
        }
        id
    }

    /// Gives a worker up to `most` commands that can run. Their records are stored before they run.
    pub fn next(&mut self, worker: &str, most: usize, now: Duration) -> Vec<Task> {
        let mut tasks = Vec::new();
        while tasks.len() < most
            && let Some(id) = self.index.candidates.pop_first()
        {
            let Some(command) = self.commands.get(&id) else {
                continue;
            };
            let is_due = command.next_try <= now && now < command.deadline;
            if command.state != State::Waiting || !is_due || !self.may_run(command) {
                continue;
            }
            let token = command.attempts + 1;
            let until = now.saturating_add(self.limits.lease).min(command.deadline);
            self.edit(id, |command| {
                command.state = State::Running;
                command.attempts = token;
                command.changed = now;
                command.lease = Some(Lease {
                    worker: worker.to_owned(),
                    token,
                    until,
                });
            });
            tasks.push(Task { id, token });
        }
        tasks
    }

    fn leased(&self, task: Task) -> Result<&Command, QueueError> {
        let command = self.commands.get(&task.id);
        let command = command.ok_or(QueueError::NoCommand(task.id))?;
        let lease = command.lease.as_ref();
        if lease.is_some_and(|lease| lease.token == task.token) {
            Ok(command)
        } else {
            Err(QueueError::Stale(task.id))
        }
    }

    /// A worker says that it still runs a command; its lease is longer then, but not longer than the command's deadline.
    ///
    /// # Errors
    /// The lease is over: the worker has to stop.
    pub fn extend(&mut self, task: Task, now: Duration) -> Result<(), QueueError> {
        let until = self
            .leased(task)?
            .deadline
            .min(now.saturating_add(self.limits.lease));
        self.edit(task.id, |command| {
            if let Some(lease) = &mut command.lease {
                lease.until = until;
            }
        });
        Ok(())
    }

    /// A worker says how a run ended.
    ///
    /// # Errors
    /// Its lease was over; what it says does not count.
    pub fn finish(
        &mut self,
        task: Task,
        outcome: Outcome,
        now: Duration,
    ) -> Result<(), QueueError> {
        let is_ending = self.leased(task)?.ending.is_some();
        let id = task.id;
        self.edit(id, |command| {
            command.lease = None;
            command.losses = 0;
        });
        if is_ending {
            self.undo(id, now);
            return Ok(());
        }
        match outcome {
            Outcome::Done(result) => {
                self.edit(id, |command| command.result = result);
                self.end(id, State::Done, now);
            }
            Outcome::Children(children, memo) => self.go_on(id, children, memo, now),
            Outcome::Again(pause, why) => self.edit(id, |command| {
                command.state = State::Waiting;
                command.changed = now;
                command.failures = 0;
                command.next_try = now.saturating_add(pause);
                command.note(&why, now);
            }),
            Outcome::Failed(why) => self.fail(id, &why, now),
            Outcome::Refused(why) => self.give_up(id, State::Failed, &why, now),
            Outcome::Rejected(why) => {
                self.edit(id, |command| command.undo = None);
                self.give_up(id, State::Failed, &why, now);
            }
        }
        Ok(())
    }

    /// A command has children, or goes on without.
    fn go_on(&mut self, id: CommandId, children: Vec<NewCommand>, memo: Value, now: Duration) {
        let Some(command) = self.commands.get(&id) else {
            return;
        };
        let refusal = if command.depth() >= self.limits.depth && !children.is_empty() {
            Some(format!(
                "commands order commands, {} deep, which is the limit: a handler may order what calls it again",
                self.limits.depth
            ))
        } else if command.children.len() + children.len() > self.limits.children {
            Some(format!(
                "it orders more than {} commands",
                self.limits.children
            ))
        } else {
            None
        };
        if let Some(why) = refusal {
            self.give_up(id, State::Failed, &why, now);
            return;
        }
        let has_children = !children.is_empty();
        self.edit(id, |command| {
            command.stage += 1;
            command.failures = 0;
            command.memo = memo;
            command.changed = now;
            command.next_try = Duration::ZERO;
            command.state = if has_children {
                State::WaitsForChildren
            } else {
                State::Waiting
            };
        });
        let added: Vec<CommandId> = children
            .into_iter()
            .map(|child| self.add(child, Some((id, false)), now))
            .collect();
        let circle = added.iter().find_map(|child| self.circle(*child));
        if let Some(circle) = circle {
            let circle: Vec<String> = circle.iter().map(ToString::to_string).collect();
            let why = format!(
                "it would wait for itself, by way of the commands {}",
                circle.join(", ")
            );
            self.give_up(id, State::Failed, &why, now);
        }
    }

    /// A run failed; the next one comes later, unless there were too many.
    fn fail(&mut self, id: CommandId, why: &str, now: Duration) {
        let Some(command) = self.commands.get(&id) else {
            return;
        };
        let failures = command.failures + 1;
        if failures >= self.limits.failures {
            self.edit(id, |command| command.failures = failures);
            self.give_up(id, State::Failed, why, now);
            return;
        }
        let pause = self.pause(failures);
        self.edit(id, |command| {
            command.failures = failures;
            command.state = State::Waiting;
            command.changed = now;
            command.next_try = now.saturating_add(pause);
            command.note(why, now);
        });
    }

    fn pause(&self, failures: u32) -> Duration {
        let doubled = 1_u32 << failures.saturating_sub(1).min(16);
        self.limits
            .pause
            .saturating_mul(doubled)
            .min(self.limits.longest_pause)
    }

    /// A command is to end in this way: its children are cancelled, and what was done is undone.
    fn give_up(&mut self, id: CommandId, state: State, why: &str, now: Duration) {
        let Some(command) = self.commands.get(&id) else {
            return;
        };
        if command.state.has_ended() || command.ending.is_some() {
            return;
        }
        let (was, has_begun) = (command.state, command.has_begun());
        let children = command.children.clone();
        let lease = command.lease.as_ref().map(|lease| lease.token);
        self.edit(id, |command| {
            command.note(why, now);
            command.ending = Some(Ending {
                state,
                why: clipped(why),
            });
        });
        if was == State::Running
            && let Some(token) = lease
        {
            // Its worker says when it has stopped; at the latest its lease ends.
            self.stops.insert(Task { id, token });
            return;
        }
        if !has_begun {
            self.end(id, state, now);
            return;
        }
        self.cancel_all(
            &children,
            &format!("command {id} does not go on: {why}"),
            now,
        );
        self.undo_when_alone(id, now);
    }

    fn cancel_all(&mut self, children: &[CommandId], why: &str, now: Duration) {
        for child in children {
            self.give_up(*child, State::Cancelled, why, now);
        }
    }

    /// Undoes a command that is to end, once its children have ended.
    fn undo_when_alone(&mut self, id: CommandId, now: Duration) {
        let Some(command) = self.commands.get(&id) else {
            return;
        };
        let is_open = |child: &CommandId| {
            let child = self.commands.get(child);
            child.is_some_and(|child| !child.state.has_ended())
        };
        if command.state.has_ended() || command.state == State::Compensating {
            return;
        }
        if command.children.iter().any(is_open) {
            if command.state != State::WaitsForChildren {
                self.edit(id, |command| {
                    command.state = State::WaitsForChildren;
                    command.changed = now;
                });
            }
            return;
        }
        self.undo(id, now);
    }

    /// Orders what undoes a command: its done children, the last one first, then itself.
    fn undo(&mut self, id: CommandId, now: Duration) {
        let Some(command) = self.commands.get(&id) else {
            return;
        };
        let state = command
            .ending
            .as_ref()
            .map_or(State::Failed, |end| end.state);
        if command.is_undo {
            self.end(id, state, now);
            return;
        }
        let done = command.children.iter().rev();
        let done = done.filter_map(|child| self.commands.get(child));
        let done = done.filter(|child| child.state == State::Done);
        let itself = command.has_begun().then_some(command);
        let undone = done.chain(itself).filter_map(|one| {
            let undo = one.undo.as_ref()?;
            let new = NewCommand {
                object: one.object.clone(),
                verb: undo.verb.clone(),
                arguments: undo.arguments.clone(),
                about: format!("undo: {}", one.about),
                ..NewCommand::default()
            };
            Some(new.with(UNDOES, one.id))
        });
        let undone: Vec<NewCommand> = undone
            .zip(0..)
            .map(|(command, step)| command.in_step(step))
            .collect();
        if undone.is_empty() {
            self.end(id, state, now);
            return;
        }
        self.edit(id, |command| {
            command.state = State::Compensating;
            command.changed = now;
        });
        for command in undone {
            self.add(command, Some((id, true)), now);
        }
    }

    fn end(&mut self, id: CommandId, state: State, now: Duration) {
        let Some(command) = self.commands.get(&id) else {
            return;
        };
        let parent = command.parent;
        self.edit(id, |command| {
            command.state = state;
            command.changed = now;
            command.lease = None;
        });
        if let Some(parent) = parent {
            self.child_ended(parent, id, now);
        }
    }

    fn child_ended(&mut self, id: CommandId, child: CommandId, now: Duration) {
        let (Some(command), Some(child)) = (self.commands.get(&id), self.commands.get(&child))
        else {
            return;
        };
        let siblings = command.children.clone();
        // The reason is that of the command which failed first, however deep it is.
        let failed_below = child.children.iter().any(|one| {
            let one = self.commands.get(one);
            one.is_some_and(|one| one.state == State::Failed && !one.is_undo)
        });
        let failed = (child.state != State::Done).then(|| {
            if failed_below {
                return child.why().to_owned();
            }
            let what = if child.about.is_empty() {
                &child.verb
            } else {
                &child.about
            };
            format!("{} ({what}): {}", child.id, child.why())
        });
        match (command.state, &command.ending) {
            (State::Compensating, ending) => {
                let state = ending.as_ref().map_or(State::Failed, |end| end.state);
                if let Some(failed) = failed {
                    self.edit(id, |command| {
                        command.note(&format!("undoing it failed: {failed}"), now);
                    });
                }
                let is_open = |id: &CommandId| {
                    let one = self.commands.get(id);
                    one.is_some_and(|one| !one.state.has_ended())
                };
                if siblings.iter().any(is_open) {
                    self.index.candidates.extend(siblings);
                } else {
                    self.end(id, state, now);
                }
            }
            (State::WaitsForChildren, Some(_)) => self.undo_when_alone(id, now),
            (State::WaitsForChildren, None) => {
                if let Some(failed) = failed {
                    self.give_up(id, State::Failed, &failed, now);
                    return;
                }
                let is_open = |id: &CommandId| {
                    let one = self.commands.get(id);
                    one.is_some_and(|one| !one.state.has_ended())
                };
                if siblings.iter().any(is_open) {
                    self.index.candidates.extend(siblings);
                } else {
                    self.edit(id, |command| {
                        command.state = State::Waiting;
                        command.changed = now;
                    });
                }
            }
            _ => {}
        }
    }

    /// Does what time alone brings: leases and deadlines end, pauses are over.
    pub fn expire(&mut self, now: Duration) {
        for id in self.index.due(now) {
            let Some(command) = self.commands.get(&id) else {
                continue;
            };
            let is_late = command.deadline <= now;
            match command.state {
                State::Running => self.lose(id, "its worker has not said anything in time", now),
                State::Waiting | State::WaitsForChildren if is_late => {
                    self.give_up(id, State::Failed, &too_long(self.commands.get(&id)), now);
                }
                // Its pause is over.
                State::Waiting => {
                    self.index.silence(id);
                    self.edit(id, |command| command.next_try = Duration::ZERO);
                }
                _ => self.index.silence(id),
            }
        }
    }

    /// The lease of a command ends without a word of its worker.
    fn lose(&mut self, id: CommandId, why: &str, now: Duration) {
        let Some(command) = self.commands.get(&id) else {
            return;
        };
        if let Some(lease) = &command.lease {
            self.stops.insert(Task {
                id,
                token: lease.token,
            });
        }
        let (is_late, losses) = (command.deadline <= now, command.losses + 1);
        let is_ending = command.ending.is_some();
        let most = self.limits.losses;
        self.edit(id, |command| {
            command.lease = None;
            command.losses = losses;
            command.state = State::Waiting;
            command.changed = now;
            command.next_try = Duration::ZERO;
        });
        if is_ending {
            self.undo(id, now);
        } else if is_late {
            self.give_up(id, State::Failed, &too_long(self.commands.get(&id)), now);
        } else if losses >= most {
            let why = format!("{losses} workers in a row were lost with it");
            self.give_up(id, State::Failed, &why, now);
        } else {
            self.edit(id, |command| command.note(why, now));
        }
    }

    /// Takes commands from workers that are no more, as those of an earlier process.
    pub fn recover(&mut self, is_alive: impl Fn(&str) -> bool, now: Duration) {
        let lost: Vec<CommandId> = self
            .commands
            .values()
            .filter(|command| {
                let lease = command.lease.as_ref();
                lease.is_some_and(|lease| !is_alive(&lease.worker))
            })
            .map(|command| command.id)
            .collect();
        for id in lost {
            self.lose(id, "its worker is no more; it is run again", now);
        }
        // They were of that worker.
        self.stops.clear();
    }

    /// Cancels a command and all that it waits for. What is under way is stopped, and what was done is undone.
    ///
    /// # Errors
    /// There is none, or it has ended, or is on its way to its end.
    pub fn cancel(&mut self, id: CommandId, why: &str, now: Duration) -> Result<(), QueueError> {
        let command = self.commands.get(&id).ok_or(QueueError::NoCommand(id))?;
        if command.state.has_ended() {
            return Err(QueueError::Ended(id, command.state));
        }
        if command.ending.is_some() || command.is_undo {
            return Err(QueueError::Ending(id));
        }
        self.give_up(id, State::Cancelled, why, now);
        Ok(())
    }

    /// Tries a command again: one that waits after a failure at once, and one that has failed or was cancelled as a new command.
    /// Returns the command that is tried.
    ///
    /// # Errors
    /// There is none, it is done, it is under way, or it is a part of another one.
    pub fn retry(&mut self, id: CommandId, now: Duration) -> Result<CommandId, QueueError> {
        let command = self.commands.get(&id).ok_or(QueueError::NoCommand(id))?;
        match command.state {
            State::Waiting if command.failures > 0 => {
                self.edit(id, |command| {
                    command.next_try = Duration::ZERO;
                    command.failures = 0;
                    command.note("an operator has it tried at once", now);
                });
                Ok(id)
            }
            State::Failed | State::Cancelled => {
                if command.parent.is_some() {
                    return Err(QueueError::Part(id, command.root()));
                }
                let new = NewCommand {
                    object: command.object.clone(),
                    verb: command.verb.clone(),
                    arguments: command.arguments.clone(),
                    step: 0,
                    undo: command.undo.clone(),
                    patience: Some(command.deadline.saturating_sub(command.created)),
                    request: None,
                    about: command.about.clone(),
                };
                let again = self.submit(new, now)?;
                self.edit(again, |command| {
                    command.note(&format!("it is tried again after command {id}"), now);
                });
                Ok(again)
            }
            State::Done => Err(QueueError::Done(id)),
            state => Err(QueueError::UnderWay(id, state)),
        }
    }

    /// Forgets the oldest trees that have ended, when there are too many.
    fn prune(&mut self) {
        while self.index.ended.len() > self.limits.ended
            && let Some(oldest) = self.index.ended.first().copied()
        {
            let tree: Vec<CommandId> = self.tree(oldest).iter().map(|one| one.id).collect();
            for id in tree {
                self.forget(id);
            }
        }
    }
}
