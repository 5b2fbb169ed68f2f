//! The hosts of a pool's instances: which one has which, and what follows when one is silent, lost, or to be left.

use std::{collections::BTreeSet, time::Duration};

use lb_model::host::HostName;
use lb_steering::scaling::relaunch_budget;

use super::{Now, Pool, Role, Slot, Trouble, pause_after};
use crate::hosts::{
    ledger::Held,
    placement::{Claim, suits},
};

/// An instance that no record knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orphan {
    /// The host that has it.
    pub host: HostName,
    /// Since when it was seen, monotonic.
    pub since: Duration,
    /// Whether its record was removed, or its place was given to another host, while its host was lost. Then it goes without a
    /// grace period.
    pub is_given_up: bool,
}

/// An instance that needs a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Homeless {
    /// Its place in the pool.
    pub number: u32,
    /// What it may take.
    pub claim: Claim,
    /// The host that had its predecessor.
    pub before: Option<HostName>,
    /// Whether it is to leave that.
    pub leaves: bool,
}

impl Pool {
    /// Whether nobody knows what an instance does, because its host is silent. Nothing is done about it.
    pub(super) fn is_held(&self, slot: &Slot) -> bool {
        slot.record
            .host
            .as_ref()
            .is_some_and(|host| self.silent.contains(host))
    }

    /// Whether a host cannot be asked for anything.
    pub(super) fn is_away(&self, host: &HostName) -> bool {
        self.silent.contains(host) || self.lost.contains(host)
    }

    /// Waits no longer for the first list of hosts that are silent or lost.
    pub fn wait_no_longer(&mut self) {
        let (silent, lost) = (&self.silent, &self.lost);
        self.awaited
            .retain(|host| !silent.contains(host) && !lost.contains(host));
        self.has_list |= self.awaited.is_empty();
    }

    /// A host is lost: what it had is dead. What it still has, when it comes back, is of an earlier epoch or nobody's.
    pub fn lose(&mut self, host: &HostName) {
        self.lost.insert(host.clone());
        self.unlisted.insert(host.clone());
        self.awaited.remove(host);
        self.has_list |= self.awaited.is_empty();
        self.silent.remove(host);
        self.orphans.retain(|_, orphan| orphan.host != *host);
        let mut ended = Vec::new();
        for (number, slot) in &mut self.slots {
            let had = slot.record.host.as_ref() == Some(host);
            let text = format!("its host {host} is lost");
            if had && slot.last_end != text {
                ended.push((slot.record.name.clone(), text));
            }
            slot.lose(host);
            if slot.record.next.as_ref() == Some(host) {
                slot.record.next = None;
                self.dirty.insert(*number);
            }
        }
        for (name, text) in ended {
            self.event(Some(&name), "ended", text);
        }
    }

    /// Gives a new epoch its host: the one that was reserved for it, or the one that a pool without placement has; otherwise it
    /// has none until it is placed.
    pub(super) fn rehouse(&mut self, number: u32) {
        let (is_placed, claim) = (self.spec.placement.is_some(), Claim::of(&self.spec));
        let Some(slot) = self.slots.get_mut(&number) else {
            return;
        };
        let lost = &self.lost;
        slot.left.retain(|old| !lost.contains(&old.host));
        slot.record.claim = claim;
        slot.record.host = match slot.record.next.take() {
            Some(next) => Some(next),
            None => (!is_placed).then(HostName::local),
        };
        slot.fresh_on = slot.left.last().map(|old| old.host.clone());
    }

    /// The hosts that have not listed since they were lost. A host that is back gets no instance before its list tells what it
    /// still has, because that takes room there.
    #[must_use]
    pub const fn unlisted(&self) -> &BTreeSet<HostName> {
        &self.unlisted
    }

    /// What needs a host now.
    #[must_use]
    pub fn homeless(&self, now: Now) -> Vec<Homeless> {
        let is_due = |slot: &Slot| {
            let trouble = slot.no_room.as_ref();
            trouble.is_none_or(|trouble| trouble.next <= now.monotonic)
        };
        let mut found: Vec<Homeless> = self
            .slots
            .iter()
            .filter(|(_, slot)| slot.record.host.is_none() && slot.record.role != Role::Removing)
            .filter(|(_, slot)| is_due(slot))
            .map(|(number, slot)| Homeless {
                number: *number,
                claim: slot.record.claim,
                before: slot.left.last().map(|old| old.host.clone()),
                leaves: false,
            })
            .collect();
        // Those that move have their next place before they leave the one that they have.
        let is_served = |role| matches!(role, Role::Serving | Role::Replacing);
        let of = self
            .slots
            .values()
            .filter(|slot| is_served(slot.record.role))
            .count();
        let moving = self
            .slots
            .values()
            .filter(|slot| slot.record.next.is_some())
            .count();
        let budget = relaunch_budget(&self.spec.scaling, u32::try_from(of).unwrap_or(u32::MAX));
        let left = (budget as usize).saturating_sub(moving);
        let misplaced = self
            .slots
            .iter()
            .filter(|(_, slot)| slot.is_misplaced && slot.record.next.is_none())
            .filter(|(_, slot)| matches!(slot.record.role, Role::Serving | Role::Spare))
            .filter(|(_, slot)| !self.is_held(slot) && is_due(slot));
        found.extend(misplaced.take(left).filter_map(|(number, slot)| {
            Some(Homeless {
                number: *number,
                claim: Claim::of(&self.spec),
                before: Some(slot.record.host.clone()?),
                leaves: true,
            })
        }));
        found
    }

    /// A host has room for an instance, and it is reserved there.
    pub fn house(&mut self, number: u32, host: HostName, now: Now) {
        let Some(slot) = self.slots.get_mut(&number) else {
            return;
        };
        slot.no_room = None;
        if slot.record.host.is_none() {
            slot.record.host = Some(host);
            slot.launched = now.monotonic;
            slot.record.launched = now.unix;
        } else {
            slot.record.next = Some(host);
            slot.is_relaunch = false;
        }
        self.dirty.insert(number);
    }

    /// No host has room for an instance; it is tried again later.
    pub fn no_room(&mut self, number: u32, text: String, now: Now) {
        let Some(slot) = self.slots.get_mut(&number) else {
            return;
        };
        let before = slot.no_room.take();
        let count = before.as_ref().map_or(0, |trouble| trouble.count) + 1;
        let is_new = before.is_none_or(|trouble| trouble.text != text);
        slot.no_room = Some(Trouble {
            text: text.clone(),
            is_final: false,
            count,
            next: now.monotonic + pause_after(count - 1),
        });
        let name = slot.record.name.clone();
        if is_new {
            self.event(Some(&name), "no_room", text);
        }
    }

    /// There may be more room than before: what waits for it is tried at once.
    pub fn try_again(&mut self, now: Now) {
        for slot in self.slots.values_mut() {
            if let Some(trouble) = &mut slot.no_room {
                trouble.next = trouble.next.min(now.monotonic);
            }
        }
    }

    /// Marks the instances that are to move: those on hosts that are to be left or are not of the pool's placement any more,
    /// and the one that balance asks for.
    pub fn mark_misplaced(&mut self, leaves: impl Fn(&HostName) -> bool, moves: Option<u32>) {
        let is_placed = self.spec.placement.is_some();
        for (number, slot) in &mut self.slots {
            let is_wrong = slot
                .record
                .host
                .as_ref()
                .is_some_and(|host| leaves(host) || (!is_placed && !host.is_local()));
            slot.is_misplaced = is_wrong || moves == Some(*number);
        }
    }

    /// Whether the pool's settings let a host have its instances.
    #[must_use]
    pub fn suits(
        &self,
        host: &HostName,
        labels: &std::collections::BTreeMap<String, String>,
    ) -> bool {
        match &self.spec.placement {
            Some(placement) => suits(placement, host, labels),
            None => host.is_local(),
        }
    }

    /// What the pool holds of hosts: its instances, those before them that are left, those that are to be, and orphans.
    #[must_use]
    pub fn held(&self) -> Vec<Held> {
        let mut held = Vec::new();
        for (number, slot) in &self.slots {
            let own = slot.record.host.iter().chain(&slot.record.next);
            for host in own.chain(slot.left.iter().map(|old| &old.host)) {
                held.push(Held {
                    number: *number,
                    host: host.clone(),
                    claim: slot.record.claim,
                });
            }
        }
        held.extend(self.orphans.iter().map(|(name, orphan)| Held {
            number: name.number,
            host: orphan.host.clone(),
            claim: Claim::of(&self.spec),
        }));
        held
    }
}
