//! Changes of records: relaunches, scaling, and the end of drains.

use std::time::Duration;

use lb_commands::environment::Power;
use lb_steering::scaling::{
    Clock, Drain, DrainStep, InstanceReadings, Patient, Phase as ScalingPhase, Vitality, relaunch,
    scale,
};
use lb_steering::{
    Sample,
    score::{Score, ScoreInputs},
};

use lb_model::{
    host::HostName,
    pool::{InstanceName, PoolName},
};

use super::{InstanceRecord, Now, Pool, Readings, Role, Slot, slot::Drained};
use crate::hosts::placement::Claim;

/// A drain lasts at least this long, so that agents and proxies hear of it before the instance stops.
const LEAST_DRAIN: Duration = Duration::from_secs(2);
/// A response time up to this is not slow, whatever is usual.
const LEAST_USUAL: Duration = Duration::from_millis(10);

impl Pool {
    /// Decides what instances there are to be. `readings` has what is known from outside of instances, by number; without it
    /// the size of the pool stays. Records that change have to be stored.
    pub fn decide(&mut self, readings: Option<Readings>, now: Now) {
        // What runs is not known yet: it may be more than the records say, or less.
        if !self.has_list {
            return;
        }
        self.configure();
        self.finish_removals();
        if self.is_deleted {
            self.remove_all("the pool is deleted", now);
            return;
        }
        match self.power {
            Power::Running => {}
            // What does not answer is paused, and not dead.
            Power::Suspended => return,
            Power::Stopped => {
                self.remove_all("the pool is stopped", now);
                return;
            }
        }
        self.end_moves(now);
        self.stand_in(now);
        self.relaunch(now);
        self.replace(now);
        if let Some(readings) = readings {
            self.scale(readings, now);
        }
    }

    /// Tells slots what settings say of them.
    fn configure(&mut self) {
        for slot in self.slots.values_mut() {
            slot.is_checked = self.spec.check.is_some();
            slot.start_deadline = self.spec.template.start_deadline;
        }
    }

    /// Forgets slots whose instances are gone.
    fn finish_removals(&mut self) {
        // A host that is away may have one before it, of which nothing is known after a restart.
        let is_all_known =
            self.awaited.is_empty() && self.silent.is_empty() && self.lost.is_empty();
        let gone: Vec<u32> = self
            .slots
            .iter()
            .filter(|(number, slot)| {
                slot.record.role == Role::Removing
                    && (slot.is_fresh() || (is_all_known && slot.is_nowhere()))
                    && slot.step.is_none()
                    && slot.seen.is_none()
                    && slot.left.is_empty()
                    && !self.dirty.contains(number)
            })
            .map(|(number, _)| *number)
            .collect();
        for number in gone {
            if let Some(slot) = self.slots.remove(&number) {
                self.dirty.insert(number);
                self.given_up.insert(number, slot.record.name.epoch);
                self.event(Some(&slot.record.name), "removed", slot.record.reason);
            }
        }
    }

    fn remove_all(&mut self, reason: &str, now: Now) {
        for number in self.slots.keys().copied().collect::<Vec<_>>() {
            self.set_role(number, Role::Removing, reason, now);
        }
    }

    /// Gives dead instances another epoch, from their budget.
    fn relaunch(&mut self, now: Now) {
        let names: Vec<(u32, String)> = self
            .slots
            .iter()
            .filter(|(_, slot)| matches!(slot.record.role, Role::Serving | Role::Spare))
            .map(|(number, _)| (*number, place(&self.name, *number)))
            .collect();
        let patients: Vec<Patient<'_>> = names
            .iter()
            .map(|(number, name)| Patient {
                name,
                vitality: self.slots.get(number).map_or(Vitality::Alive, |slot| {
                    // What its host does is not known, or another one serves in its place until it is decided which one stays.
                    if self.is_held(slot) || self.is_stood_in_for(*number) {
                        return Vitality::Alive;
                    }
                    match (slot.record.role, slot.vitality(now)) {
                        // One that is paused is not asked.
                        (Role::Spare, Vitality::Unhealthy) if slot.is_up() => Vitality::Alive,
                        (_, vitality) => vitality,
                    }
                }),
            })
            .collect();
        let plan = relaunch(
            &self.spec.scaling,
            &mut self.relaunches,
            &patients,
            now.monotonic,
        );
        if plan.mass_failure != self.mass_failure {
            self.mass_failure = plan.mass_failure;
            let dead = plan.out_of_rotation.len();
            let text = if plan.mass_failure {
                format!(
                    "{dead} instances are dead at once: none is killed; look for a common cause"
                )
            } else {
                "so many instances are no longer dead".to_owned()
            };
            self.event(None, "mass_failure", text);
            if let Some(event) = self.events.last_mut() {
                event.is_alarm = plan.mass_failure;
            }
        }
        let generation = self.generation;
        for name in plan.relaunch {
            let epoch = self.next_epoch();
            let number = names.iter().find(|(_, one)| *one == name);
            let Some((number, slot)) =
                number.and_then(|(number, _)| Some((*number, self.slots.get_mut(number)?)))
            else {
                continue;
            };
            let why = death(slot);
            let old = slot.record.name.clone();
            slot.relaunch(epoch, generation, now);
            self.rehouse(number);
            let Some(slot) = self.slots.get_mut(&number) else {
                continue;
            };
            // What has changed besides is stored first.
            slot.is_relaunch |= !self.dirty.contains(&number);
            let new = slot.record.name.clone();
            self.dirty.insert(number);
            self.event(Some(&new), "relaunched", format!("{old}: {why}"));
        }
    }

    fn scale(&mut self, mut readings: Readings, now: Now) {
        let clock = Clock {
            now: now.unix,
            utc_offset: self.spec.scaling.time_zone.offset_at(now.unix),
        };
        self.complete(&mut readings, now);
        self.score(&readings, now);
        let decision = scale(&self.spec.scaling, &mut self.scaling, &readings, clock);
        let text = decision.is_action().then(|| decision.to_string());
        let number = |name: &String| number_of(name);
        for number in decision.take_back.iter().filter_map(number) {
            self.set_role(number, Role::Serving, "taken back", now);
        }
        for number in decision.resume.iter().filter_map(number) {
            self.set_role(number, Role::Serving, "scaled out", now);
            if let Some(slot) = self.slots.get_mut(&number) {
                // Its health is asked anew.
                slot.launched = now.monotonic;
                slot.was_healthy = false;
            }
        }
        for number in decision.drain.iter().filter_map(number) {
            let is_serving = self.slots.get(&number).is_some_and(Slot::is_alive);
            // One that does not serve yet has nothing to drain.
            let role = if is_serving {
                Role::Draining
            } else {
                Role::Removing
            };
            self.set_role(number, role, "scaled in", now);
        }
        for number in decision.remove_spares.iter().filter_map(number) {
            self.set_role(number, Role::Removing, "no longer a spare", now);
        }
        for _ in 0..decision.start {
            self.launch(Role::Serving, "scaled out", now);
        }
        for _ in 0..decision.create_spares {
            self.launch(Role::Spare, "spare", now);
        }
        if let Some(text) = text {
            self.event(None, "scaled", text);
        }
        self.drain(&readings, now);
        self.decision = Some(decision);
    }

    /// An epoch that no instance of the pool had. It is stored with the record that gets it.
    pub(super) fn next_epoch(&mut self) -> u64 {
        let orphans = self.orphans.keys().map(|name| name.epoch).max();
        self.last_epoch = self.last_epoch.max(orphans.unwrap_or_default()) + 1;
        self.last_epoch
    }

    /// Scores the instances that serve.
    fn score(&mut self, readings: &Readings, now: Now) {
        let max_age = self.spec.scaling.stale_after;
        let latencies = self.slots.values().filter(|slot| slot.is_alive());
        let mut latencies: Vec<f64> = latencies
            .map(|slot| slot.health.latency.as_secs_f64())
            .collect();
        latencies.sort_by(f64::total_cmp);
        let median = latencies.get(latencies.len() / 2).copied();
        let usual = match self.spec.scaling.latency {
            Some(objective) => Some(objective.as_secs_f64()),
            None => median.map(|median| median.max(LEAST_USUAL.as_secs_f64())),
        };
        let mut scores = Vec::new();
        for (number, slot) in &mut self.slots {
            if slot.record.role != Role::Serving || !slot.is_alive() {
                continue;
            }
            let name = place(&self.name, *number);
            let Some(one) = readings.instances.iter().find(|one| one.name == name) else {
                continue;
            };
            let fresh = |sample: Option<Sample>| {
                sample
                    .filter(|sample| sample.age <= max_age)
                    .map(|sample| sample.value)
            };
            let checked = slot.is_checked.then_some(slot.health.latency.as_secs_f64());
            let score = Score::of(ScoreInputs {
                utilisation: fresh(one.utilisation),
                memory: fresh(one.memory),
                network: fresh(one.network),
                response: checked,
                usual_response: checked.and(usual),
                probes: slot.probes,
                ..ScoreInputs::default()
            });
            scores.push((score.overall, one.capacity.unwrap_or(1.0)));
            slot.score = Some(score);
        }
        self.distribution.observe(now.monotonic, &scores);
        let thresholds = self.distribution.thresholds(&self.spec.scaling);
        for slot in self.slots.values_mut() {
            if let Some(score) = &slot.score {
                slot.category = Some(thresholds.category(score.overall, slot.category));
            }
        }
    }

    /// The lowest number that no instance has, if there is an address or port for it.
    pub(super) fn free_number(&self) -> Option<u32> {
        let number = (1..=u32::MAX).find(|number| {
            !self.slots.contains_key(number)
                && !self.dirty.contains(number)
                && !self.orphans.keys().any(|orphan| orphan.number == *number)
        });
        number.filter(|number| self.spec.endpoint(*number).is_some())
    }

    /// Gives out the lowest free number.
    fn launch(&mut self, role: Role, reason: &str, now: Now) {
        match self.free_number() {
            Some(number) => self.launch_at(number, role, reason, now),
            None => self.event(
                None,
                "no_room",
                "there is no address or port for another instance".to_owned(),
            ),
        }
    }

    /// Gives out a number that is free.
    pub(super) fn launch_at(&mut self, number: u32, role: Role, reason: &str, now: Now) {
        let name = InstanceName {
            pool: self.name.clone(),
            number,
            epoch: self.next_epoch(),
        };
        let record = InstanceRecord {
            name: name.clone(),
            role,
            since: now.unix,
            launched: now.unix,
            generation: self.generation,
            reason: reason.to_owned(),
            is_update: false,
            was_healthy: false,
            host: self.spec.placement.is_none().then(HostName::local),
            next: None,
            stands_for: None,
            cloned_from: None,
            claim: Claim::of(&self.spec),
        };
        let mut slot = Slot::new(record, now);
        // No list has an instance of this number.
        slot.list = Some(self.last_list);
        self.slots.insert(number, slot);
        self.dirty.insert(number);
        self.event(Some(&name), "launched", reason.to_owned());
    }

    /// Ends drains that are over.
    fn drain(&mut self, readings: &Readings, now: Now) {
        let mut stop = Vec::new();
        for (number, slot) in &mut self.slots {
            if !matches!(slot.record.role, Role::Draining | Role::Replacing) {
                continue;
            }
            let name = place(&self.name, *number);
            let connections = readings
                .instances
                .iter()
                .find(|one| one.name == name)
                .and_then(|one| one.connections)
                .map(|sample| sample.value);
            let drain = slot.drain.get_or_insert(Drained {
                at_first: connections,
                stepped: now.monotonic,
                is_over: false,
            });
            let step = Drain {
                since: now.monotonic.saturating_sub(slot.role_since),
                connections,
                at_first: drain.at_first,
                life: readings.life,
                elapsed: now.monotonic.saturating_sub(drain.stepped),
                // The agents end connections; they know what the other reals take.
                gained: 0.0,
                shed_rate: self.shed_rate,
            }
            .step(&self.spec.scaling);
            drain.stepped = now.monotonic;
            drain.is_over = matches!(step, DrainStep::Shed(_));
            let is_dead = matches!(slot.vitality(now), Vitality::Ended);
            let is_known = now.monotonic.saturating_sub(slot.role_since) >= LEAST_DRAIN;
            if (step == DrainStep::Stop && is_known) || is_dead {
                stop.push(*number);
            }
        }
        for number in stop {
            let is_replaced = self
                .slots
                .get(&number)
                .is_some_and(|slot| slot.record.role == Role::Replacing);
            if is_replaced {
                self.launch_again(number, now);
            } else {
                self.set_role(number, Role::Removing, "drained", now);
            }
        }
    }

    /// Adds what this pool knows of its instances to the readings.
    fn complete(&self, readings: &mut Readings, now: Now) {
        let mut known = std::mem::take(&mut readings.instances);
        for (number, slot) in &self.slots {
            let Some(phase) = self.phase(slot, now) else {
                continue;
            };
            let name = place(&self.name, *number);
            let one = match known.iter().position(|one| one.name == name) {
                Some(at) => InstanceReadings {
                    phase,
                    ..known.swap_remove(at)
                },
                None => InstanceReadings::new(name, phase),
            };
            readings.instances.push(one);
        }
    }

    /// What an instance does, as the scaling law sees it; `None` if it does not count any more.
    fn phase(&self, slot: &Slot, now: Now) -> Option<ScalingPhase> {
        Some(match slot.record.role {
            Role::Removing => return None,
            // The one that stands in for it counts.
            Role::Serving if self.is_stood_in_for(slot.record.name.number) => return None,
            Role::Draining => ScalingPhase::Draining,
            // It keeps its place, as a dead one does.
            Role::Replacing | Role::Held | Role::Suspended | Role::Rebooting => {
                ScalingPhase::Dead(Some(Duration::ZERO))
            }
            Role::Spare => ScalingPhase::Spare,
            Role::Moving if slot.serves_while_it_moves() => ScalingPhase::Serving,
            Role::Moving => ScalingPhase::Dead(Some(Duration::ZERO)),
            Role::Serving => match slot.vitality(now) {
                Vitality::Alive => ScalingPhase::Serving,
                Vitality::Starting => ScalingPhase::Starting,
                // A dead instance keeps its place and is relaunched there, from its own budget: no other one is started for
                // it, which would take the pool above its maximum.
                Vitality::Unhealthy | Vitality::Ended => ScalingPhase::Dead(Some(Duration::ZERO)),
            },
        })
    }
}

/// What the scaling law calls the instance with this number, whatever its epoch.
#[must_use]
pub fn place(pool: &PoolName, number: u32) -> String {
    format!("{pool}-{number}")
}

/// The number in [`place`].
fn number_of(place: &str) -> Option<u32> {
    place.rsplit('-').next()?.parse().ok()
}

/// Why an instance is relaunched.
fn death(slot: &Slot) -> String {
    if !slot.last_end.is_empty() {
        return slot.last_end.clone();
    }
    if let Some(trouble) = &slot.trouble {
        return trouble.text.clone();
    }
    if !slot.was_healthy {
        return format!("not healthy in time: {}", slot.health.reason);
    }
    slot.health.reason.clone()
}
