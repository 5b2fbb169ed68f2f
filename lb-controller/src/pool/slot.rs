//! A place in a pool: its record, and what is seen of its instance.

use std::time::Duration;

use lb_drivers::{Listed, Phase};
use lb_model::{host::HostName, pool::InstanceName};
use lb_steering::{
    scaling::Vitality,
    score::{Category, Score},
};

use super::{Event, InstanceRecord, Now, Role, Step, has_ended};

/// The weight of the last probe in the fraction of those that succeeded.
const PROBES: f64 = 0.2;

/// An instance's health, as its check sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// `None` before the first result.
    pub is_up: Option<bool>,
    /// Whether the last probe succeeded; `None` if it says nothing of the instance: this machine could not ask, or slept
    /// through the answer.
    pub is_success: Option<bool>,
    /// It serves and wants no new flows.
    pub wants_drain: bool,
    /// The last probe's reason.
    pub reason: String,
    /// How long the last probe took.
    pub latency: Duration,
}

/// A drain under way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drained {
    /// Connections when it was drained.
    pub at_first: Option<f64>,
    /// When the last step was made, monotonic.
    pub stepped: Duration,
    /// Whether what it still has is ended, where that is possible.
    pub is_over: bool,
}

/// A failure of the driver, and when it is tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// In words.
    pub text: String,
    /// Whether trying again will not help.
    pub is_final: bool,
    /// Failures in a row.
    pub count: u32,
    /// The next try, monotonic.
    pub next: Duration,
}

/// An instance of an earlier epoch that is left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Predecessor {
    /// Its name.
    pub name: InstanceName,
    /// The host that has it.
    pub host: HostName,
    /// Whether it runs or is paused.
    pub is_up: bool,
}

/// A place in a pool.
#[derive(Clone, Debug)]
pub struct Slot {
    /// What is stored.
    pub record: InstanceRecord,
    /// When it got its role, by this process's clock.
    pub role_since: Duration,
    /// When it got its epoch, by this process's clock; for a restored record as long ago as the record says.
    pub launched: Duration,
    /// What the driver lists of the instance; `None` if it lists none.
    pub seen: Option<Listed>,
    /// Instances of earlier epochs that are left.
    pub left: Vec<Predecessor>,
    /// The number of the first list that knows what the last step did.
    pub fresh_from: u64,
    /// The host of the last step, whose lists count for that; `None` stands for the instance's own.
    pub fresh_on: Option<HostName>,
    /// The number of the last list of that host.
    pub list: Option<u64>,
    /// Whether the list that is being read has the instance.
    is_listed: bool,
    /// Whether it is to move to another host.
    pub is_misplaced: bool,
    /// Why no host has room for it, and when that is tried again.
    pub no_room: Option<Trouble>,
    /// Whether the instance was seen up once.
    pub was_up: bool,
    /// Since when it serves without a break, monotonic.
    pub alive_since: Option<Duration>,
    /// Its health.
    pub health: Health,
    /// Whether its health check passed once.
    pub was_healthy: bool,
    /// Whether it has a health check.
    pub is_checked: bool,
    /// How long it may take from its start until it is healthy.
    pub start_deadline: Duration,
    /// The step that is being made.
    pub step: Option<&'static str>,
    /// Why the last step failed.
    pub trouble: Option<Trouble>,
    /// The drain under way.
    pub drain: Option<Drained>,
    /// Whether an agent still has it as a real.
    pub is_routed: bool,
    /// How it ended, of the last epoch.
    pub last_end: String,
    /// The fraction of its probes that succeeded lately.
    pub probes: Option<f64>,
    /// Its scores, once it serves.
    pub score: Option<Score>,
    /// Its category, once it has a score.
    pub category: Option<Category>,
    /// Why its last probe says nothing of it, if that is so.
    pub unasked: Option<String>,
    /// Whether a record of its place was stored once.
    pub is_stored: bool,
    /// The host in the record that was stored last.
    pub stored_host: Option<HostName>,
    /// Whether its record has changed by a relaunch alone since it was stored.
    pub is_relaunch: bool,
}

impl Slot {
    /// A slot for a record.
    #[must_use]
    pub fn new(record: InstanceRecord, now: Now) -> Self {
        Slot {
            record,
            role_since: now.monotonic,
            launched: now.monotonic,
            seen: None,
            left: Vec::new(),
            fresh_from: 0,
            fresh_on: None,
            list: None,
            is_listed: false,
            is_misplaced: false,
            no_room: None,
            was_up: false,
            alive_since: None,
            health: Health::default(),
            was_healthy: false,
            is_checked: false,
            start_deadline: Duration::MAX,
            step: None,
            trouble: None,
            drain: None,
            is_routed: false,
            last_end: String::new(),
            probes: None,
            score: None,
            category: None,
            unasked: None,
            is_stored: false,
            stored_host: None,
            is_relaunch: false,
        }
    }

    /// A slot for a record that was stored by an earlier process.
    #[must_use]
    pub fn restored(record: InstanceRecord, now: Now) -> Self {
        let ago = |since: Duration| now.monotonic.saturating_sub(now.unix.saturating_sub(since));
        Slot {
            role_since: ago(record.since),
            // An instance has its time anew: it may be that nobody has asked it so far.
            launched: now.monotonic,
            is_stored: true,
            stored_host: record.host.clone(),
            was_healthy: record.was_healthy,
            ..Slot::new(record, now)
        }
    }

    /// Whether the last list knows what the last step did.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.list.is_some_and(|list| list >= self.fresh_from)
    }

    /// Whether the last list of a host tells what it has of the slot's instances. Only the list of the host that the last step
    /// was made on has to be awaited for that.
    #[must_use]
    pub fn is_known_on(&self, host: &HostName) -> bool {
        self.is_fresh() || !self.is_source(host)
    }

    /// Whether no host has it, or had something done for it, so that no list says anything of it.
    #[must_use]
    pub const fn is_nowhere(&self) -> bool {
        self.record.host.is_none() && self.fresh_on.is_none()
    }

    /// Whether a host's lists tell what the last step did.
    fn is_source(&self, host: &HostName) -> bool {
        self.fresh_on.as_ref().or(self.record.host.as_ref()) == Some(host)
    }

    /// Whether a list began too early to say anything.
    fn is_stale(&self, host: &HostName, began: u64) -> bool {
        self.is_source(host) && began < self.fresh_from
    }

    /// Begins a list of a host; a list that began too early says nothing.
    pub(super) fn begin_list(&mut self, host: &HostName, began: u64) {
        if !self.is_stale(host, began) {
            self.left.retain(|old| old.host != *host);
            self.is_listed = false;
        }
    }

    /// What a list says of one of the slot's instances.
    pub(super) fn see(&mut self, host: &HostName, listed: &Listed, began: u64) {
        if self.is_stale(host, began) {
            return;
        }
        let is_own = listed.name == self.record.name;
        if is_own && self.record.role == Role::Moving && self.record.next.as_ref() == Some(host) {
            // It is on its way there, and is none of an earlier epoch.
            return;
        }
        if is_own && self.record.host.as_ref() == Some(host) {
            if listed.phase.is_up() && !self.was_up {
                self.was_up = true;
            }
            // What failed before was done after all.
            let is_done = listed.phase == Phase::Running && listed.fault.is_none();
            if is_done && matches!(self.record.role, Role::Serving | Role::Draining) {
                self.trouble = None;
            }
            self.seen = Some(listed.clone());
            self.is_listed = true;
        } else {
            self.left.push(Predecessor {
                name: listed.name.clone(),
                host: host.clone(),
                is_up: listed.phase.is_up(),
            });
        }
    }

    /// Ends a list: what it has not is not there.
    pub(super) fn end_list(&mut self, host: &HostName, began: u64) -> Option<Event> {
        if self.is_stale(host, began) {
            return None;
        }
        if self.is_source(host) {
            self.list = Some(began);
        }
        // Other hosts know nothing of it.
        if self.record.host.as_ref() != Some(host) {
            return None;
        }
        if !self.is_listed {
            self.seen = None;
        }
        if self.seen.is_none() {
            // What is made in its place has its check to pass, also if it has the same name.
            self.was_healthy = false;
            self.record.was_healthy = false;
        }
        let ended = match &self.seen {
            Some(listed) if has_ended(&listed.phase) => listed.phase.to_string(),
            None if self.was_up && self.record.role != Role::Removing => {
                "it does not exist any more".to_owned()
            }
            _ => return None,
        };
        if self.last_end == ended {
            return None;
        }
        self.last_end.clone_from(&ended);
        Some(Event {
            instance: Some(self.record.name.clone()),
            kind: "ended",
            text: ended,
            is_alarm: false,
        })
    }

    /// Takes note that a step has ended. `is_done` says whether it is known to have been done; `fresh_from` is the number of the
    /// first list of its host that tells what it did, `None` if the host is lost and lists no more.
    pub fn end_step(&mut self, step: &Step, is_done: bool, fresh_from: Option<u64>) {
        // It was about a predecessor, while the list of another host is awaited. That list is still awaited. If the predecessor
        // is there after all, the next list of its own host has it.
        if !self.is_fresh() && !self.is_source(&step.host) {
            self.left
                .retain(|old| !is_done || old.name != step.name || old.host != step.host);
            return;
        }
        self.fresh_from = fresh_from.unwrap_or_default();
        self.fresh_on = fresh_from.map(|_| step.host.clone());
    }

    /// Takes note of its health. Returns whether it is another than before, and what to tell of that.
    pub(super) fn observe_health(&mut self, health: Health, _: Now) -> (bool, Option<Event>) {
        let Some(is_success) = health.is_success else {
            let is_new = self.unasked.is_none();
            self.unasked = Some(health.reason);
            return (is_new, None);
        };
        let was_unasked = self.unasked.take().is_some();
        let wanted_drain = self.health.wants_drain;
        let before = self.health.is_up;
        // One that starts is asked until it answers: that it does not yet is no failure.
        if is_success || self.was_healthy {
            let success = if is_success { 1.0 } else { 0.0 };
            self.probes = Some(
                self.probes
                    .map_or(success, |probes| probes + PROBES * (success - probes)),
            );
        }
        self.health = Health {
            // A probe that was started again knows nothing yet.
            is_up: health.is_up.or(before),
            ..health
        };
        if self.health.is_up == Some(true) {
            self.was_healthy = true;
        }
        if before == self.health.is_up {
            return (was_unasked || wanted_drain != self.health.wants_drain, None);
        }
        let (kind, text) = match self.health.is_up {
            Some(true) => (
                "healthy",
                format!("its check passes: {}", self.health.reason),
            ),
            Some(false) => ("unhealthy", self.health.reason.clone()),
            None => return (true, None),
        };
        let event = Event {
            instance: Some(self.record.name.clone()),
            kind,
            text,
            is_alarm: false,
        };
        (true, Some(event))
    }

    /// Whether it runs or is paused.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.seen.as_ref().is_some_and(|seen| seen.phase.is_up())
    }

    /// Whether it runs and its check passes. One that this process has not asked yet serves on if its check has passed once: it
    /// serves clients, which know nothing of a controller that starts again.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        let runs = match &self.seen {
            Some(seen) => seen.phase == Phase::Running && seen.fault.is_none(),
            // The driver has not listed yet: whatever asks meanwhile must not hear that nothing serves.
            None => self.was_healthy && self.list.is_none(),
        };
        runs && (!self.is_checked || self.health.is_up.unwrap_or(self.was_healthy))
    }

    /// How it is, for relaunches.
    #[must_use]
    pub fn vitality(&self, now: Now) -> Vitality {
        if self.is_alive() {
            return Vitality::Alive;
        }
        let has_ended = match &self.seen {
            Some(seen) => has_ended(&seen.phase),
            None => self.was_up,
        };
        if has_ended {
            return Vitality::Ended;
        }
        // Its time begins when a host has room for it.
        let is_placed = self.record.host.is_some();
        let is_late =
            is_placed && now.monotonic.saturating_sub(self.launched) > self.start_deadline;
        if !self.was_healthy {
            // One that cannot be made, or does not become healthy, is given up at its deadline.
            return match (is_late, self.is_up()) {
                (false, _) => Vitality::Starting,
                (true, true) => Vitality::Unhealthy,
                (true, false) => Vitality::Ended,
            };
        }
        // A fault is mended; until then it takes no flows.
        if self.health.is_up == Some(false) {
            Vitality::Unhealthy
        } else {
            Vitality::Starting
        }
    }

    /// It goes on after a pause.
    pub(super) fn wake(&mut self, now: Now) {
        self.launched = now.monotonic;
        self.health = Health::default();
        self.unasked = None;
        self.was_healthy = false;
    }

    /// It has its check to pass again, as one that was just started.
    pub(super) fn begin_anew(&mut self, now: Now) {
        self.wake(now);
        self.record.was_healthy = false;
        self.last_end.clear();
    }

    /// Begins a new epoch.
    pub(super) fn relaunch(&mut self, epoch: u64, generation: u64, now: Now) {
        let old = self.record.host.clone().map(|host| Predecessor {
            name: self.record.name.clone(),
            host,
            is_up: self.is_up(),
        });
        self.record.is_update = false;
        self.record.cloned_from = None;
        self.record.name.epoch = epoch;
        self.record.launched = now.unix;
        self.record.generation = generation;
        self.left.extend(old);
        self.launched = now.monotonic;
        self.seen = None;
        self.was_up = false;
        self.health = Health::default();
        self.unasked = None;
        self.was_healthy = false;
        self.record.was_healthy = false;
        self.trouble = None;
        self.no_room = None;
        self.last_end.clear();
        self.probes = None;
        self.score = None;
        self.category = None;
    }

    /// Its host is lost, and it with it.
    pub(super) fn lose(&mut self, host: &HostName) {
        self.left.retain(|old| old.host != *host);
        if self.fresh_on.as_ref() == Some(host) {
            self.fresh_on = None;
            self.fresh_from = 0;
        }
        if self.record.host.as_ref() == Some(host) {
            self.fresh_from = 0;
            self.list = self.list.or(Some(0));
            self.seen = None;
            // One that was being made there is dead, too.
            self.was_up = true;
            self.was_healthy = false;
            self.record.was_healthy = false;
            self.trouble = None;
            self.last_end = format!("its host {host} is lost");
        }
    }
}
