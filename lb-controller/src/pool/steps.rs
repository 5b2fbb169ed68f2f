//! What to do next so that what the driver lists becomes what the records say. Pure, and without memory: a step that is
//! repeated after a crash does no harm, because drivers' calls are idempotent.

use std::time::Duration;

use lb_commands::environment::Power;
use lb_drivers::Phase;
use lb_model::{host::HostName, pool::InstanceName};

use super::{Now, Pool, Role, Slot, has_ended};

/// How long agents may take to give an instance no packets any more before it is stopped all the same: one that cannot be
/// reached must not keep it.
const UNROUTE: Duration = Duration::from_secs(10);

/// Something to do with one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The slot; `None` for an orphan.
    pub number: Option<u32>,
    /// The instance.
    pub name: InstanceName,
    /// The host that has it, or is to have it.
    pub host: HostName,
    /// What to do.
    pub kind: StepKind,
}

/// What to do with an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepKind {
    /// Remove it, without ceremony: it is dead, or nobody's.
    Remove,
    /// Make it.
    Create,
    /// Start it, or mend its network.
    Start,
    /// Let it go on.
    Resume,
    /// Let it wait, warm.
    Pause,
    /// Stop it, politely.
    Stop,
    /// Write it to disk.
    Suspend,
    /// Stop it, politely, and start it.
    Reboot,
    /// Make it as another one is.
    Clone,
    /// Have another host take it over while it runs.
    Move,
}

impl StepKind {
    /// In a word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            StepKind::Remove => "removing",
            StepKind::Create => "creating",
            StepKind::Start => "starting",
            StepKind::Resume => "resuming",
            StepKind::Pause => "pausing",
            StepKind::Stop => "stopping",
            StepKind::Suspend => "suspending",
            StepKind::Reboot => "rebooting",
            StepKind::Clone => "cloning",
            StepKind::Move => "moving",
        }
    }
}

impl Pool {
    /// What to do now, one step at most for each slot that has no step under way. There are none before the driver has
    /// listed, and none for records that are not stored, save for relaunches while the store does not work.
    #[must_use]
    pub fn steps(&self, can_pause: bool, now: Now) -> Vec<Step> {
        if !self.has_list {
            return Vec::new();
        }
        let mut steps = Vec::new();
        for (number, slot) in &self.slots {
            if self.waits_for_store(*number, slot) || slot.step.is_some() {
                continue;
            }
            if let Some(trouble) = &slot.trouble
                && now.monotonic < trouble.next
            {
                continue;
            }
            // A predecessor has the same address and port: it goes first.
            let next = if slot.left.is_empty() {
                let known = slot.is_fresh().then_some(slot);
                known.and_then(|slot| step(slot, can_pause, self.power))
            } else {
                self.predecessor_step(slot)
            };
            if let Some((name, host, kind)) = next {
                // It cannot be asked.
                if self.is_away(&host) {
                    continue;
                }
                let next = slot.record.next.as_ref();
                if kind == StepKind::Move && next.is_none_or(|next| self.is_away(next)) {
                    continue;
                }
                let since = now.monotonic.saturating_sub(slot.role_since);
                let ends_flows = matches!(
                    kind,
                    StepKind::Stop | StepKind::Pause | StepKind::Suspend | StepKind::Reboot
                );
                if ends_flows && slot.is_routed && since < UNROUTE {
                    continue;
                }
                steps.push(Step {
                    number: Some(*number),
                    name,
                    host,
                    kind,
                });
            }
        }
        let orphans = self
            .orphans
            .iter()
            .filter(|(_, orphan)| {
                let age = now.monotonic.saturating_sub(orphan.since);
                orphan.is_given_up || self.orphan_grace.is_some_and(|grace| age >= grace)
            })
            .filter(|(_, orphan)| !self.is_away(&orphan.host));
        steps.extend(orphans.map(|(name, orphan)| Step {
            number: None,
            name: name.clone(),
            host: orphan.host.clone(),
            kind: StepKind::Remove,
        }));
        steps
    }

    /// What to do about instances before a slot's own. One whose host can be asked goes, also while another host, which has
    /// the successor or another predecessor, is away: all of them have one address.
    fn predecessor_step(&self, slot: &Slot) -> Option<(InstanceName, HostName, StepKind)> {
        let mut left = slot.left.iter();
        let old = left.find(|old| !self.is_away(&old.host) && slot.is_known_on(&old.host))?;
        let kind = if old.is_up && slot.record.is_update {
            StepKind::Stop
        } else {
            StepKind::Remove
        };
        Some((old.name.clone(), old.host.clone(), kind))
    }
}

fn step(slot: &Slot, can_pause: bool, power: Power) -> Option<(InstanceName, HostName, StepKind)> {
    // While no host has room there is nothing to do.
    let host = slot.record.host.clone()?;
    let name = slot.record.name.clone();
    let seen = slot.seen.as_ref();
    let kind = match (slot.record.role, seen.map(|seen| &seen.phase)) {
        // It may be there already, or have ended: the step finds out.
        (Role::Moving, _) => StepKind::Move,
        (Role::Removing, None) => return None,
        (Role::Removing, Some(Phase::Running | Phase::Paused)) => StepKind::Stop,
        (Role::Removing, Some(_)) => StepKind::Remove,
        (_, Some(Phase::Running)) if power == Power::Suspended && can_pause => StepKind::Pause,
        (Role::Serving | Role::Spare | Role::Rebooting, _) if power == Power::Suspended => {
            return None;
        }
        (Role::Rebooting, Some(Phase::Created)) => StepKind::Start,
        (Role::Rebooting, Some(_)) => StepKind::Reboot,
        (role, None) if role.is_held() => return None,
        // One that has ended, or has gone, waits for its relaunch, which gives it another epoch.
        (_, Some(phase)) if has_ended(phase) => return None,
        (_, None) if slot.was_up => return None,
        (_, None) if slot.record.cloned_from.is_some() => StepKind::Clone,
        (_, None) => StepKind::Create,
        (Role::Spare, Some(Phase::Created)) if !can_pause => return None,
        (Role::Held | Role::Suspended, Some(Phase::Created)) => return None,
        (_, Some(Phase::Created)) => StepKind::Start,
        (Role::Held, Some(Phase::Running)) => StepKind::Pause,
        (Role::Suspended, Some(Phase::Running)) => StepKind::Suspend,
        // What is in memory has a control group.
        (Role::Suspended, Some(Phase::Paused))
            if seen.is_some_and(|seen| !seen.cgroup.is_empty()) =>
        {
            StepKind::Suspend
        }
        (Role::Spare | Role::Held | Role::Suspended, Some(Phase::Paused)) => return None,
        (Role::Spare, Some(Phase::Running)) if can_pause && slot.is_alive() => StepKind::Pause,
        (_, Some(Phase::Paused)) => StepKind::Resume,
        (_, Some(Phase::Running)) if seen.is_some_and(|seen| seen.fault.is_some()) => {
            StepKind::Start
        }
        _ => return None,
    };
    Some((name, host, kind))
}

/// How long to wait after so many failures in a row of a driver.
#[must_use]
pub fn pause_after(failures: u32) -> Duration {
    const FIRST: Duration = Duration::from_millis(200);
    const LONGEST: Duration = Duration::from_secs(30);
    FIRST.saturating_mul(1 << failures.min(16)).min(LONGEST)
}
