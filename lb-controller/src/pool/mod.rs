//! A pool, purely: what is stored of it, what is seen of it, and what follows from both.
//!
//! [`Pool::decide`] changes *records*: which instances there are to be, and what each is for. Records are stored before
//! anything is done about them. [`Pool::steps`] compares stored records with what the driver lists and says what to do; it
//! remembers nothing. So a controller that was killed at any moment reads its records, lists, and goes on.

mod decide;
mod fleet;
mod moving;
mod record;
mod rollout;
mod slot;
mod stand_in;
mod steps;
mod stored;
#[cfg(test)]
mod tests;
mod view;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use lb_commands::environment::Power;
use lb_drivers::{Listed, Phase};
use lb_model::{
    host::HostName,
    pool::{InstanceName, PoolName, PoolSpec},
};
use lb_steering::{
    scaling::{PoolReadings, RelaunchState, ScalingDecision, ScalingState},
    score::Distribution,
};

use crate::agents::Standing;

pub use self::{
    decide::place,
    fleet::{Homeless, Orphan},
    record::{InstanceRecord, Learned, PoolOwner, PoolRecord, Role},
    slot::{Health, Slot, Trouble},
    steps::{Step, StepKind, pause_after},
    stored::StoredPool,
    view::{InstanceState, InstanceView},
};

/// How long an instance that no record knows may exist before it is removed, if this pool has not given it up itself. A record
/// is stored before its instance is made, so such an instance is left of a store that was lost or restored; the grace period is
/// for operators who notice that.
pub const ORPHAN_GRACE: Duration = Duration::from_secs(30);

/// The time, twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// By a clock that nobody sets, since any moment before the process started.
    pub monotonic: Duration,
    /// Since 1970; it may jump.
    pub unix: Duration,
}

/// What happened, for watchers and the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The instance, if it is about one.
    pub instance: Option<InstanceName>,
    /// A word for programs: `scaled`, `relaunched`, `failed`, …
    pub kind: &'static str,
    /// In words.
    pub text: String,
    /// Whether an operator must know it at once.
    pub is_alarm: bool,
}

/// A pool.
#[derive(Debug)]
pub struct Pool {
    /// Its name.
    pub name: PoolName,
    /// Its settings.
    pub spec: PoolSpec,
    /// Counts changes of what instances are made from.
    pub generation: u64,
    /// The last epoch that was given out.
    pub last_epoch: u64,
    /// Whether it is being deleted: it has no instances in the end.
    pub is_deleted: bool,
    /// Who says what it is.
    pub owner: PoolOwner,
    /// Whether its instances are to run.
    pub power: Power,
    /// Its instances, by number.
    pub slots: BTreeMap<u32, Slot>,
    /// What the scaling law remembers.
    pub scaling: ScalingState,
    /// What is remembered of relaunches.
    pub relaunches: RelaunchState,
    /// How the scores of its instances are spread.
    pub distribution: Distribution,
    /// The last decision of the scaling law.
    pub decision: Option<ScalingDecision>,
    /// Instances of this pool that no record knows.
    pub orphans: BTreeMap<InstanceName, Orphan>,
    /// How long these are left alone; `None`: for ever.
    pub orphan_grace: Option<Duration>,
    /// The last epoch that was stored when this process had its first list. Epochs up to it were given out by this store; later
    /// ones may be of a store that was lost. A process that starts while such instances have their grace period cannot tell
    /// all of them apart any more, because new epochs are greater than theirs.
    stored_epoch: Option<u64>,
    /// The last epoch of each place whose record this process has removed.
    given_up: BTreeMap<u32, u64>,
    /// Hosts that are not connected and not lost: nothing is done about what they have.
    pub silent: BTreeSet<HostName>,
    /// Hosts that are lost.
    pub lost: BTreeSet<HostName>,
    /// Whether most hosts are silent, so that it is rather this controller that is cut off.
    pub is_alone: bool,
    /// Hosts whose first list is waited for before anything is decided.
    pub awaited: BTreeSet<HostName>,
    /// Hosts that have listed since the start of this process.
    listed: BTreeSet<HostName>,
    /// Hosts that have not listed since they were lost. They may still have instances that no record names, which take room.
    unlisted: BTreeSet<HostName>,
    /// Why the driver's list is not known, if it is not.
    pub list_trouble: Option<String>,
    /// Whether the driver has listed since the start of this process.
    pub has_list: bool,
    /// The number of the last list.
    pub last_list: u64,
    /// Whether so many instances are dead that none is killed.
    pub mass_failure: bool,
    /// Whether the store does not work. Dead instances are relaunched all the same; see [`Pool::steps`].
    pub store_is_away: bool,
    /// Connections a second that may be ended on its instances, by all agents; 0: none.
    pub shed_rate: f64,
    events: Vec<Event>,
    /// Numbers of slots whose records have changed and are not stored yet.
    dirty: BTreeSet<u32>,
    /// Numbers of slots of whose health only the record has changed. Nothing waits for that.
    confirmed: BTreeSet<u32>,
}

impl Pool {
    /// A pool without instances.
    #[must_use]
    pub fn new(name: PoolName, spec: PoolSpec, generation: u64) -> Self {
        Pool {
            name,
            spec,
            generation,
            last_epoch: 0,
            is_deleted: false,
            owner: PoolOwner::default(),
            power: Power::default(),
            slots: BTreeMap::new(),
            scaling: ScalingState::default(),
            relaunches: RelaunchState::default(),
            distribution: Distribution::default(),
            decision: None,
            orphans: BTreeMap::new(),
            orphan_grace: Some(ORPHAN_GRACE),
            stored_epoch: None,
            given_up: BTreeMap::new(),
            silent: BTreeSet::new(),
            lost: BTreeSet::new(),
            is_alone: false,
            awaited: BTreeSet::from([HostName::local()]),
            listed: BTreeSet::new(),
            unlisted: BTreeSet::new(),
            list_trouble: None,
            has_list: false,
            last_list: 0,
            mass_failure: false,
            store_is_away: false,
            shed_rate: 0.0,
            events: Vec::new(),
            dirty: BTreeSet::new(),
            confirmed: BTreeSet::new(),
        }
    }

    /// Has its instances run, wait, or go. Those that go on have their health asked anew: that they did not answer while they were
    /// paused says nothing.
    pub fn set_power(&mut self, power: Power, now: Now) {
        let before = std::mem::replace(&mut self.power, power);
        if before != Power::Suspended || power != Power::Running {
            return;
        }
        for slot in self.slots.values_mut() {
            slot.wake(now);
        }
    }

    /// Takes up a record that was stored.
    pub fn restore(&mut self, mut record: InstanceRecord, now: Now) {
        if self.spec.placement.is_none() && record.host.is_none() {
            record.host = Some(HostName::local());
        }
        self.last_epoch = self.last_epoch.max(record.name.epoch);
        let slot = Slot::restored(record, now);
        self.slots.insert(slot.record.name.number, slot);
    }

    /// Takes note of what the driver of a host lists; `began` is the number of the list, which tells what it can know.
    pub fn observe(&mut self, host: &HostName, listed: &[Listed], began: u64, now: Now) {
        // Taken before instances that the store does not know raise `last_epoch`.
        self.stored_epoch.get_or_insert(self.last_epoch);
        let was_lost = self.unlisted.remove(host);
        let is_first = self.listed.insert(host.clone());
        if was_lost {
            self.try_again(now);
        } else if is_first {
            self.adopt(host, listed);
        }
        self.awaited.remove(host);
        self.has_list |= self.awaited.is_empty();
        self.last_list = self.last_list.max(began);
        if host.is_local() {
            self.list_trouble = None;
        }
        for slot in self.slots.values_mut() {
            slot.begin_list(host, began);
        }
        let mut seen = BTreeSet::new();
        for one in listed.iter().filter(|one| one.name.pool == self.name) {
            match self.slots.get_mut(&one.name.number) {
                Some(slot) if one.name.epoch <= slot.record.name.epoch => {
                    slot.see(host, one, began);
                }
                // A number or an epoch that no record has given out.
                slot => {
                    seen.insert(one.name.clone());
                    // Its place was given to another host, so two instances have one address.
                    let is_replaced = was_lost && slot.is_some();
                    let is_given_up = is_replaced || self.is_given_up(&one.name);
                    self.orphans
                        .entry(one.name.clone())
                        .or_insert_with(|| Orphan {
                            host: host.clone(),
                            since: now.monotonic,
                            is_given_up,
                        });
                }
            }
        }
        self.orphans
            .retain(|name, orphan| orphan.host != *host || seen.contains(name));
        for slot in self.slots.values_mut() {
            if let Some(event) = slot.end_list(host, began) {
                self.events.push(event);
            }
        }
    }

    /// Whether this store once had a record of an instance, and removed it. That happens only when the instance is gone, or its
    /// host is lost. No operator has to notice such an instance first, and until it is removed it may answer at an address that
    /// another one has.
    fn is_given_up(&self, name: &InstanceName) -> bool {
        let here = self.given_up.get(&name.number);
        self.stored_epoch.max(here.copied()) >= Some(name.epoch)
    }

    /// Takes up instances that are further than their records, as an earlier process left them that relaunched without its
    /// store: what the driver lists is the truth. What a host has that was lost in the meantime is not taken up, because its
    /// places have successors on other hosts.
    fn adopt(&mut self, host: &HostName, listed: &[Listed]) {
        let mut events = Vec::new();
        for one in listed.iter().filter(|one| one.name.pool == self.name) {
            let Some(slot) = self.slots.get_mut(&one.name.number) else {
                continue;
            };
            if one.name.epoch <= slot.record.name.epoch {
                continue;
            }
            let text = format!(
                "it runs in the place of {}, which the store names",
                slot.record.name
            );
            slot.record.name.epoch = one.name.epoch;
            slot.record.host = Some(host.clone());
            slot.record.next = None;
            slot.record.was_healthy = false;
            slot.was_healthy = false;
            self.last_epoch = self.last_epoch.max(one.name.epoch);
            self.dirty.insert(one.name.number);
            events.push((one.name.clone(), text));
        }
        for (name, text) in events {
            self.event(Some(&name), "adopted", text);
        }
    }

    /// Takes note of an instance's health. Returns whether it is another than before, so that something may follow from it;
    /// most results of probes are like the one before.
    pub fn observe_health(&mut self, name: &InstanceName, health: Health, now: Now) -> bool {
        let slot = self.slots.get_mut(&name.number);
        let Some(slot) = slot.filter(|slot| slot.record.name == *name) else {
            return false;
        };
        let (is_other, event) = slot.observe_health(health, now);
        if slot.was_healthy && !slot.record.was_healthy {
            slot.record.was_healthy = true;
            self.confirmed.insert(name.number);
        }
        self.events.extend(event);
        is_other
    }

    /// The records that are to be stored, most of them before anything is done about them: by number, `None` removes one.
    #[must_use]
    pub fn unstored(&self) -> Vec<(u32, Option<&InstanceRecord>)> {
        self.dirty
            .union(&self.confirmed)
            .map(|number| (*number, self.slots.get(number).map(|slot| &slot.record)))
            .collect()
    }

    /// They are stored.
    pub fn stored(&mut self) {
        self.confirmed.clear();
        for number in std::mem::take(&mut self.dirty) {
            if let Some(slot) = self.slots.get_mut(&number) {
                slot.is_stored = true;
                slot.stored_host.clone_from(&slot.record.host);
                slot.is_relaunch = false;
            }
        }
        self.store_is_away = false;
    }

    /// Whether nothing may be done about a slot before its record is stored. A relaunch on the host that the stored record names
    /// may, while the store does not work: the next process waits for the list of that host before it does anything about the
    /// slot, and adopts what it finds there ([`Pool::observe`]). On another host the relaunch waits for the store. That host
    /// may be silent when the next process starts, which would then launch the stored instance beside the one that runs.
    fn waits_for_store(&self, number: u32, slot: &Slot) -> bool {
        let may_go = self.store_is_away
            && slot.is_relaunch
            && slot.is_stored
            && slot.record.host == slot.stored_host;
        self.dirty.contains(&number) && !may_go
    }

    /// What happened since the last call.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Whether nothing of it is left.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.is_deleted
            && self.has_list
            && self.slots.is_empty()
            && self.orphans.is_empty()
            && self.dirty.is_empty()
    }

    /// The instances that serve or are drained.
    pub fn serving(&self) -> impl Iterator<Item = (&Slot, Standing)> {
        self.slots
            .values()
            .filter_map(|slot| match slot.record.role {
                Role::Serving if slot.is_alive() => Some((slot, Standing::Serving)),
                Role::Moving if slot.serves_while_it_moves() => Some((slot, Standing::Serving)),
                Role::Draining | Role::Replacing if slot.is_up() => {
                    let is_over = slot.drain.as_ref().is_some_and(|drain| drain.is_over);
                    let standing = if is_over {
                        Standing::Evacuated
                    } else {
                        Standing::Drained
                    };
                    Some((slot, standing))
                }
                _ => None,
            })
    }

    fn event(&mut self, instance: Option<&InstanceName>, kind: &'static str, text: String) {
        self.events.push(Event {
            instance: instance.cloned(),
            kind,
            text,
            is_alarm: false,
        });
    }

    /// Does what an operator asks of an instance. Returns the number of its place.
    ///
    /// # Errors
    /// Why it cannot be done, in words.
    pub fn hold(&mut self, name: &InstanceName, role: Role, now: Now) -> Result<u32, &'static str> {
        let number = name.number;
        let slot = self.slots.get_mut(&number);
        let Some(slot) = slot.filter(|slot| slot.record.name == *name) else {
            return Err("there is no such instance");
        };
        match (slot.record.role, role) {
            (Role::Removing | Role::Draining | Role::Replacing, _) => {
                return Err("it is about to end");
            }
            (Role::Spare, _) => return Err("it is a spare, which does not serve"),
            (Role::Moving, Role::Serving) if slot.step.is_none() => {}
            (Role::Moving, _) => return Err("it moves to another host; ask again when it has"),
            (before, Role::Serving) if before.is_held() => slot.begin_anew(now),
            _ => {}
        }
        let reason = match role {
            Role::Held => "paused by an operator",
            Role::Suspended => "suspended by an operator",
            Role::Rebooting => "rebooted by an operator",
            _ => "let go on by an operator",
        };
        self.set_role(number, role, reason, now);
        self.event(Some(name), "operated", reason.to_owned());
        Ok(number)
    }

    /// An instance that was stopped and started serves again, when its check passes.
    pub fn rebooted(&mut self, number: u32, now: Now) {
        let Some(slot) = self.slots.get_mut(&number) else {
            return;
        };
        if slot.record.role == Role::Rebooting {
            slot.begin_anew(now);
            self.set_role(number, Role::Serving, "rebooted by an operator", now);
        }
    }

    /// Changes a record, which has to be stored then.
    fn set_role(&mut self, number: u32, role: Role, reason: &str, now: Now) {
        let Some(slot) = self.slots.get_mut(&number) else {
            return;
        };
        if slot.record.role == role {
            return;
        }
        if slot.record.role == Role::Moving {
            slot.give_up_move();
        }
        slot.record.role = role;
        slot.record.since = now.unix;
        reason.clone_into(&mut slot.record.reason);
        slot.role_since = now.monotonic;
        slot.drain = None;
        slot.is_relaunch = false;
        self.dirty.insert(number);
    }
}

/// Whether a phase is the end of an instance.
const fn has_ended(phase: &Phase) -> bool {
    matches!(phase, Phase::Ended { .. })
}

/// What is known of a pool from outside, when its size is decided.
pub type Readings = PoolReadings;
