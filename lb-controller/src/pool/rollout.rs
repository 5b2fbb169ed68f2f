//! Replacement of instances that other settings made than the present ones: a few at a time, each drained first, at its place.
//!
//! An instance that replaces another one counts against the budget until it is healthy, so settings that do not work stop
//! the rollout by themselves.

use lb_model::pool::Rollout;
use lb_steering::scaling::{Vitality, relaunch_budget};

use super::{Now, Pool, Role};

const REASON: &str = "the settings have changed";
const MOVED: &str = "it moves to another host";

impl Pool {
    /// Begins to replace instances, as far as the budget allows.
    pub(super) fn replace(&mut self, now: Now) {
        if self.mass_failure {
            return;
        }
        let is_manual = self.spec.rollout == Rollout::Manual;
        let generation = self.generation;
        let (mut of, mut under_way) = (0, 0);
        let mut outdated = Vec::new();
        for (number, slot) in &self.slots {
            // One that has a place on another host is to go there.
            let is_current = slot.record.generation == generation && slot.record.next.is_none();
            if self.is_held(slot) {
                of += u32::from(slot.record.role == Role::Serving);
                continue;
            }
            match slot.record.role {
                Role::Serving => {
                    of += 1;
                    let is_alive = slot.vitality(now) == Vitality::Alive;
                    // One that was not asked yet since the controller has started may well serve.
                    let is_known = is_alive || !slot.is_up() || slot.health.is_up == Some(false);
                    if is_current && !is_alive {
                        under_way += 1;
                    } else if !is_current && is_known && (!is_manual || slot.record.next.is_some())
                    {
                        // Those that do not serve go first.
                        outdated.push((is_alive, *number));
                    }
                }
                // Nobody misses one that does not serve.
                Role::Spare if !is_current && (!is_manual || slot.record.next.is_some()) => {
                    outdated.push((false, *number));
                }
                Role::Replacing | Role::Moving => {
                    of += 1;
                    under_way += 1;
                }
                Role::Spare
                | Role::Draining
                | Role::Removing
                | Role::Held
                | Role::Suspended
                | Role::Rebooting => {}
            }
        }
        outdated.sort_unstable();
        let budget = relaunch_budget(&self.spec.scaling, of);
        let left = budget.saturating_sub(under_way) as usize;
        for (is_serving, number) in outdated.into_iter().take(left) {
            if is_serving {
                let reason = self.why_replaced(number);
                self.set_role(number, Role::Replacing, reason, now);
            } else {
                self.launch_again(number, now);
            }
        }
    }

    /// Gives a place an instance by the present settings; the one that is there is stopped first.
    pub(super) fn launch_again(&mut self, number: u32, now: Now) {
        let (epoch, generation) = (self.next_epoch(), self.generation);
        let Some(slot) = self.slots.get_mut(&number) else {
            return;
        };
        let old = slot.record.name.clone();
        let reason = if slot.record.next.is_some() {
            MOVED
        } else {
            REASON
        };
        slot.relaunch(epoch, generation, now);
        self.rehouse(number);
        let Some(slot) = self.slots.get_mut(&number) else {
            return;
        };
        slot.record.is_update = true;
        slot.is_relaunch = false;
        if slot.record.role == Role::Replacing {
            slot.record.role = Role::Serving;
        }
        slot.record.since = now.unix;
        reason.clone_into(&mut slot.record.reason);
        slot.role_since = now.monotonic;
        slot.drain = None;
        let new = slot.record.name.clone();
        self.dirty.insert(number);
        self.event(Some(&new), "replaced", format!("{old}: {reason}"));
    }

    fn why_replaced(&self, number: u32) -> &'static str {
        let slot = self.slots.get(&number);
        if slot.is_some_and(|slot| slot.record.next.is_some()) {
            MOVED
        } else {
            REASON
        }
    }
}
