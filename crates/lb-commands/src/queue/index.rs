//! What finds commands without looking at all of them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use crate::command::{Command, CommandId, State};

/// The commands of an object that have not ended, by their place among all.
#[derive(Clone, Debug, Default)]
pub(super) struct AtObject {
    /// Those that have never run.
    pub waiting: BTreeMap<Vec<u64>, CommandId>,
    /// Those that have the object.
    pub active: BTreeMap<Vec<u64>, CommandId>,
}

impl AtObject {
    /// The first that waits, of those that may: all, or only those that an active one waits for.
    fn firsts(&self) -> Vec<CommandId> {
        if self.active.is_empty() {
            return self.waiting.values().next().copied().into_iter().collect();
        }
        let holders = self.active.keys();
        let firsts = holders.filter_map(|holder| self.first_below(holder));
        firsts.collect()
    }

    /// The first that waits of those below this place.
    pub fn first_below(&self, holder: &[u64]) -> Option<CommandId> {
        let (path, id) = self.waiting.range(holder.to_vec()..).next()?;
        path.starts_with(holder).then_some(*id)
    }

    /// The one that comes before this place, of those below the holder; of all if there is none.
    pub fn before(&self, holder: Option<&[u64]>, path: &[u64]) -> Option<CommandId> {
        let (before, id) = self.waiting.range(..path.to_vec()).next_back()?;
        holder
            .is_none_or(|holder| before.starts_with(holder))
            .then_some(*id)
    }
}

/// Where a command stands in the index.
#[derive(Clone, Debug)]
struct Place {
    object: String,
    path: Vec<u64>,
    has_ended: bool,
    wake: Option<Duration>,
    request: Option<String>,
}

/// Where commands are found.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    places: HashMap<CommandId, Place>,
    objects: HashMap<String, AtObject>,
    /// Commands that may be able to run. One that cannot is taken out, and put back when something changes that it waits for.
    pub candidates: BTreeSet<CommandId>,
    timers: BTreeSet<(Duration, CommandId)>,
    requests: HashMap<String, CommandId>,
    /// Roots that have ended.
    pub ended: BTreeSet<CommandId>,
    open: usize,
}

impl Index {
    /// Puts a command where it belongs by what it is now.
    pub fn put(&mut self, command: &Command) {
        self.remove(command.id);
        let has_ended = command.state.has_ended();
        let wake = wake(command);
        if has_ended {
            if command.parent.is_none() {
                self.ended.insert(command.id);
            }
        } else {
            self.open += 1;
            let object = self.objects.entry(command.object.clone()).or_default();
            let list = if command.has_begun() {
                &mut object.active
            } else {
                &mut object.waiting
            };
            list.insert(command.path.clone(), command.id);
            if command.state == State::Waiting {
                self.candidates.insert(command.id);
            }
        }
        if let Some(wake) = wake {
            self.timers.insert((wake, command.id));
        }
        if let Some(request) = &command.request {
            self.requests.insert(request.clone(), command.id);
        }
        let place = Place {
            object: command.object.clone(),
            path: command.path.clone(),
            has_ended,
            wake,
            request: command.request.clone(),
        };
        self.places.insert(command.id, place);
    }

    /// Takes a command out. Whoever is the next at its object may be able to run.
    pub fn remove(&mut self, id: CommandId) {
        let Some(place) = self.places.remove(&id) else {
            return;
        };
        self.candidates.remove(&id);
        self.ended.remove(&id);
        if let Some(wake) = place.wake {
            self.timers.remove(&(wake, id));
        }
        if let Some(request) = &place.request {
            self.requests.remove(request);
        }
        if place.has_ended {
            return;
        }
        self.open -= 1;
        let Some(object) = self.objects.get_mut(&place.object) else {
            return;
        };
        object.waiting.remove(&place.path);
        object.active.remove(&place.path);
        let next = object.firsts();
        if object.waiting.is_empty() && object.active.is_empty() {
            self.objects.remove(&place.object);
        }
        self.candidates.extend(next);
    }

    pub fn at(&self, object: &str) -> Option<&AtObject> {
        self.objects.get(object)
    }

    pub const fn open(&self) -> usize {
        self.open
    }

    pub fn next_time(&self) -> Option<Duration> {
        self.timers.first().map(|(time, _)| *time)
    }

    /// The commands that are due by time.
    pub fn due(&self, now: Duration) -> Vec<CommandId> {
        let due = self.timers.iter().take_while(|(time, _)| *time <= now);
        due.map(|(_, id)| *id).collect()
    }

    /// The time of a command has come, and nothing followed: it is due no more.
    pub fn silence(&mut self, id: CommandId) {
        if let Some(place) = self.places.get_mut(&id)
            && let Some(wake) = place.wake.take()
        {
            self.timers.remove(&(wake, id));
        }
    }

    pub fn by_request(&self, request: &str) -> Option<CommandId> {
        self.requests.get(request).copied()
    }
}

/// When time alone has something happen to a command.
fn wake(command: &Command) -> Option<Duration> {
    match command.state {
        State::Waiting if command.next_try > command.changed => {
            Some(command.next_try.min(command.deadline))
        }
        State::Waiting | State::WaitsForChildren => {
            // One that ends already waits for nothing but its children.
            command.ending.is_none().then_some(command.deadline)
        }
        State::Running => Some(
            command
                .lease
                .as_ref()
                .map_or(command.deadline, |lease| lease.until),
        ),
        // Each child has a deadline.
        State::Compensating | State::Done | State::Failed | State::Cancelled => None,
    }
}
