//! Copies of instances, and instances that move to another host while they run, as an operator asks for them.
//!
//! A copy is an instance of its own: another number, with the host and the settings of the one that it is a copy of. One that moves
//! keeps its name: its record names both hosts ([`Role::Moving`]) until one of them has it, so a controller that is killed
//! meanwhile asks both. What the other one has is removed then.

use lb_commands::environment::Power;
use lb_drivers::{DriverError, ErrorCode, Listed, Phase};
use lb_model::{host::HostName, pool::InstanceName};

use super::{Event, Homeless, Now, Pool, Role, Slot, slot::Predecessor};

/// How often a copy is tried that cannot be made, and a move of which nobody knows whether it was done.
const TRIES: u32 = 2;

impl Slot {
    /// Whether clients are sent to it while it moves: that its machine stands still for a moment is no failure.
    #[must_use]
    pub fn serves_while_it_moves(&self) -> bool {
        !self.is_checked || self.health.is_up.unwrap_or(self.was_healthy)
    }

    /// It stays where it is. What the other host has of it goes before anything else is done.
    pub(super) fn give_up_move(&mut self) {
        if let Some(host) = self.record.next.take() {
            self.left.push(Predecessor {
                name: self.record.name.clone(),
                host,
                is_up: false,
            });
        }
    }
}

impl Pool {
    /// The slot of an instance with which something is to be done while it runs on.
    fn operable(&self, name: &InstanceName) -> Result<(&Slot, &HostName), String> {
        let slot = self.slots.get(&name.number);
        let slot = slot.filter(|slot| slot.record.name == *name);
        let slot = slot.ok_or("there is no such instance")?;
        if self.is_deleted || self.power != Power::Running {
            return Err("its pool does not run".to_owned());
        }
        let host = slot.record.host.as_ref().ok_or("it waits for a host")?;
        if self.is_away(host) {
            return Err(format!("its host {host} is not connected"));
        }
        if slot.seen.is_none() {
            return Err("it is being made".to_owned());
        }
        Ok((slot, host))
    }

    /// The place of a copy of an instance, and what it needs of the host that has the instance.
    ///
    /// # Errors
    /// Why there can be none, in words.
    pub fn place_of_copy(&self, name: &InstanceName) -> Result<(Homeless, HostName), String> {
        let (slot, host) = self.operable(name)?;
        match slot.record.role {
            Role::Serving | Role::Held | Role::Suspended => {}
            Role::Spare => return Err("it is a spare, which does not serve".to_owned()),
            Role::Moving | Role::Rebooting => {
                return Err(format!(
                    "it is {}; ask again when that is over",
                    slot.record.role
                ));
            }
            Role::Draining | Role::Replacing | Role::Removing => {
                return Err("it is about to end".to_owned());
            }
        }
        let counts = |slot: &&Slot| {
            !matches!(
                slot.record.role,
                Role::Spare | Role::Draining | Role::Removing
            )
        };
        let count = self.slots.values().filter(counts).count();
        if count >= self.spec.scaling.max as usize {
            return Err(format!(
                "its pool has {count} instances, and scaling.max allows no more"
            ));
        }
        let number = self.free_number();
        let number = number.ok_or("its pool has no address or port for another instance")?;
        let wish = Homeless {
            number,
            claim: slot.record.claim,
            before: None,
            leaves: false,
        };
        Ok((wish, host.clone()))
    }

    /// Launches a copy of an instance at its place; it is made when its record is stored. Returns its name.
    pub fn launch_copy(
        &mut self,
        from: &InstanceName,
        wish: &Homeless,
        host: HostName,
        now: Now,
    ) -> Option<InstanceName> {
        let generation = self.slots.get(&from.number)?.record.generation;
        let reason = format!("cloned from {from} by an operator");
        self.launch_at(wish.number, Role::Serving, &reason, now);
        let slot = self.slots.get_mut(&wish.number)?;
        slot.record.host = Some(host);
        slot.record.claim = wish.claim;
        slot.record.generation = generation;
        slot.record.cloned_from = Some(from.clone());
        Some(slot.record.name.clone())
    }

    /// Forgets an instance whose record could not be stored, before anything was made of it.
    pub fn take_back_launch(&mut self, name: &InstanceName) {
        let slot = self.slots.get(&name.number);
        if slot.is_some_and(|slot| slot.record.name == *name) {
            self.slots.remove(&name.number);
            // The write may have been done all the same.
            self.dirty.insert(name.number);
        }
    }

    /// A copy could not be made. One that never can goes at once: what it is a copy of is gone, or its driver cannot.
    pub fn not_cloned(&mut self, number: u32, error: &DriverError, now: Now) {
        let Some(slot) = self.slots.get(&number) else {
            return;
        };
        let (name, role) = (slot.record.name.clone(), slot.record.role);
        let is_final = matches!(
            error.code(),
            ErrorCode::NotFound | ErrorCode::Foreign | ErrorCode::Invalid | ErrorCode::Unsupported
        );
        let tries = 1 + slot.trouble.as_ref().map_or(0, |trouble| trouble.count);
        let is_copy = slot.record.cloned_from.is_some() && role == Role::Serving;
        if !is_copy || !(is_final || tries >= TRIES) {
            return;
        }
        let text = format!("it could not be cloned: {error}");
        self.set_role(number, Role::Removing, &text, now);
        self.alarm(&name, "not_cloned", text);
    }

    /// What an instance needs of the host that it is to move to.
    ///
    /// # Errors
    /// Why it cannot move, in words.
    pub fn check_move(&self, name: &InstanceName, to: &HostName) -> Result<Homeless, String> {
        let (slot, host) = self.operable(name)?;
        match slot.record.role {
            Role::Serving if slot.record.next.is_none() => {}
            Role::Serving | Role::Moving | Role::Replacing => {
                return Err("it moves or is replaced already".to_owned());
            }
            Role::Spare => return Err("it is a spare, which does not serve".to_owned()),
            Role::Held | Role::Suspended | Role::Rebooting => {
                return Err(format!("it is {}; have it go on first", slot.record.role));
            }
            Role::Draining | Role::Removing => return Err("it is about to end".to_owned()),
        }
        if self.is_stood_in_for(name.number) || slot.record.stands_for.is_some() {
            return Err("another one stands in for it, or it for another one".to_owned());
        }
        if host == to {
            return Err(format!("it is on {to} already"));
        }
        if self.spec.placement.is_none() {
            return Err(
                "its pool has no `placement`, so its instances are on the controller's host"
                    .to_owned(),
            );
        }
        let vm = self.spec.template.vm.as_ref();
        if vm.is_some_and(|vm| vm.disk.is_some()) {
            return Err("its disk is on its host, so it cannot move while it runs".to_owned());
        }
        if slot
            .seen
            .as_ref()
            .is_none_or(|seen| seen.phase != Phase::Running)
        {
            return Err("it does not run".to_owned());
        }
        Ok(Homeless {
            number: name.number,
            claim: slot.record.claim,
            before: Some(host.clone()),
            leaves: true,
        })
    }

    /// Has an instance move; it begins to when its record is stored.
    pub fn begin_move(&mut self, name: &InstanceName, to: HostName, now: Now) {
        let text = format!("it moves to {to}, as an operator asked");
        self.set_role(name.number, Role::Moving, &text, now);
        if let Some(slot) = self.slots.get_mut(&name.number) {
            slot.record.next = Some(to);
        }
        self.event(Some(name), "operated", text);
    }

    /// An instance does not move, since its record could not be stored.
    pub fn take_back_move(&mut self, name: &InstanceName, now: Now) {
        self.stay(
            name.number,
            "it was to move, and that could not be stored",
            now,
        );
    }

    /// An instance runs on the host that it was to move to. `fresh_from` is the number of the first list there that knows it.
    pub fn moved(&mut self, number: u32, fresh_from: u64, now: Now) {
        let Some(slot) = self.slots.get_mut(&number) else {
            return;
        };
        if slot.record.role != Role::Moving {
            return;
        }
        let (Some(new), Some(old)) = (slot.record.next.take(), slot.record.host.take()) else {
            return;
        };
        let name = slot.record.name.clone();
        let text = format!("moved from {old} to {new}");
        slot.left.push(Predecessor {
            name: name.clone(),
            host: old,
            is_up: false,
        });
        slot.record.host = Some(new.clone());
        // As its driver said; the next list says it, too.
        slot.seen = Some(Listed {
            name: name.clone(),
            phase: Phase::Running,
            cgroup: String::new(),
            fault: None,
            labels: Default::default(),
        });
        slot.was_up = true;
        slot.last_end.clear();
        // Lists of each host have numbers of their own.
        slot.list = None;
        slot.fresh_from = fresh_from;
        slot.fresh_on = Some(new);
        if slot.health.is_up == Some(false) {
            // That it stood still was no failure.
            slot.begin_anew(now);
        }
        self.set_role(number, Role::Serving, &text, now);
        self.event(Some(&name), "moved", text);
    }

    /// An instance could not be moved. `is_unsure` says that it does not run where it was, so that the other host may have it:
    /// then it is tried again.
    pub fn not_moved(&mut self, number: u32, error: &DriverError, is_unsure: bool, now: Now) {
        let Some(slot) = self.slots.get(&number) else {
            return;
        };
        let tries = 1 + slot.trouble.as_ref().map_or(0, |trouble| trouble.count);
        if !is_unsure || tries >= TRIES {
            let text = format!("it could not be moved: {error}");
            self.stay(number, &text, now);
        }
    }

    /// Ends the moves whose hosts are lost. Of both hosts the one that it was on counts: nobody has said that the other one has it.
    pub(super) fn end_moves(&mut self, now: Now) {
        let is_over = |slot: &Slot| {
            let own = slot.record.host.as_ref();
            slot.record.next.is_none() || own.is_none_or(|host| self.lost.contains(host))
        };
        let moving = self.slots.iter();
        let over: Vec<u32> = moving
            .filter(|(_, slot)| slot.record.role == Role::Moving && slot.step.is_none())
            .filter(|(_, slot)| is_over(slot))
            .map(|(number, _)| *number)
            .collect();
        for number in over {
            self.stay(number, "it was to move, and a host was lost meanwhile", now);
        }
    }

    fn stay(&mut self, number: u32, text: &str, now: Now) {
        let slot = self.slots.get(&number);
        let Some(slot) = slot.filter(|slot| slot.record.role == Role::Moving) else {
            return;
        };
        let name = slot.record.name.clone();
        self.set_role(number, Role::Serving, text, now);
        self.alarm(&name, "not_moved", text.to_owned());
    }

    fn alarm(&mut self, name: &InstanceName, kind: &'static str, text: String) {
        self.events.push(Event {
            instance: Some(name.clone()),
            kind,
            text,
            is_alarm: true,
        });
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use lb_model::pool::PoolSpec;
    use serde_json::json;

    use super::super::{Health, Readings, Step, StepKind};
    use super::*;
    use crate::KINDS;

    fn host(number: u32) -> HostName {
        format!("h{number}").parse().unwrap()
    }

    /// A pool of one instance on two hosts that may have three, whose steps are made by hand.
    struct Bed {
        pool: Pool,
        second: u64,
        list: u64,
        has: BTreeMap<HostName, BTreeMap<InstanceName, Phase>>,
    }

    impl Bed {
        fn new() -> Self {
            let map = json!({
                "driver": { "kind": "qemu" },
                "network": { "port": 80, "bridge": "br0", "range": "10.0.0.1-10.0.0.9/24", "delivery": "address" },
                "template": { "vm": { "kernel": "/k" }, "cpu": 0.5, "memory": "640MiB" },
                "placement": {},
                "scaling": { "min": 1, "max": 2 },
            });
            let spec = PoolSpec::read(map.as_object().unwrap(), &KINDS).unwrap();
            let mut pool = Pool::new("web".parse().unwrap(), spec, 1);
            pool.awaited = [host(1), host(2)].into();
            let mut bed = Bed {
                pool,
                second: 1_000,
                list: 0,
                has: [(host(1), BTreeMap::new()), (host(2), BTreeMap::new())].into(),
            };
            bed.steps();
            bed.pool.decide(Some(Readings::default()), bed.now());
            bed.pool.house(1, host(1), bed.now());
            assert_eq!(bed.made(), ["creating web-1-1 on h1"]);
            assert_eq!(bed.made(), [""; 0]);
            bed
        }

        fn now(&self) -> Now {
            let time = Duration::from_secs(self.second);
            Now {
                monotonic: time,
                unix: time,
            }
        }

        fn first(&self) -> InstanceName {
            "web-1-1".parse().unwrap()
        }

        /// What there is to do after all hosts have listed and records are stored.
        fn steps(&mut self) -> Vec<Step> {
            self.second += 1;
            for (host, has) in &self.has {
                self.list += 1;
                let listed: Vec<Listed> = has
                    .iter()
                    .map(|(name, phase)| Listed {
                        name: name.clone(),
                        phase: phase.clone(),
                        cgroup: "/g".to_owned(),
                        fault: None,
                        labels: BTreeMap::new(),
                    })
                    .collect();
                self.pool.observe(host, &listed, self.list, self.now());
            }
            self.pool.decide(None, self.now());
            self.pool.stored();
            self.pool.steps(true, self.now())
        }

        /// Makes the steps as drivers do, moves excepted.
        fn made(&mut self) -> Vec<String> {
            let mut texts = Vec::new();
            for step in self.steps() {
                texts.push(format!(
                    "{} {} on {}",
                    step.kind.name(),
                    step.name,
                    step.host
                ));
                let has = self.has.get_mut(&step.host).unwrap();
                match step.kind {
                    StepKind::Create | StepKind::Clone | StepKind::Resume => {
                        has.insert(step.name.clone(), Phase::Running);
                    }
                    StepKind::Remove => drop(has.remove(&step.name)),
                    _ => {}
                }
            }
            texts
        }

        /// Both hosts have it: it was sent from one of them to the other.
        fn send(&mut self) {
            let first = self.first();
            let ended = Phase::Ended {
                status: None,
                reason: String::new(),
            };
            self.has
                .get_mut(&host(1))
                .unwrap()
                .insert(first.clone(), ended);
            self.has
                .get_mut(&host(2))
                .unwrap()
                .insert(first, Phase::Running);
        }

        fn restart(&mut self) {
            let (epoch, spec) = (self.pool.last_epoch, self.pool.spec.clone());
            let mut pool = Pool::new(self.pool.name.clone(), spec, 1);
            pool.last_epoch = epoch;
            pool.awaited = [host(1), host(2)].into();
            for slot in self.pool.slots.values() {
                pool.restore(slot.record.clone(), self.now());
            }
            self.pool = pool;
        }

        fn host_of(&self, number: u32) -> String {
            let record = &self.pool.slots[&number].record;
            format!("{} {}", record.name, record.host.as_ref().unwrap())
        }
    }

    fn failed() -> DriverError {
        DriverError::Failed {
            doing: "sending".to_owned(),
            why: "refused".to_owned(),
        }
    }

    #[test]
    fn a_copy_is_another_instance_on_the_same_host() {
        let mut bed = Bed::new();
        let first = bed.first();
        let (wish, on) = bed.pool.place_of_copy(&first).unwrap();
        let copy = bed.pool.launch_copy(&first, &wish, on, bed.now()).unwrap();
        assert_eq!(copy.to_string(), "web-2-2");
        bed.restart();
        assert_eq!(bed.made(), ["cloning web-2-2 on h1"]);
        assert_eq!(bed.made(), [""; 0]);
        let why = bed.pool.place_of_copy(&first).unwrap_err();
        assert!(why.contains("scaling.max"), "{why}");
        // It dies, and is one as all others then.
        bed.has.get_mut(&host(1)).unwrap().remove(&copy);
        bed.steps();
        bed.pool.house(2, host(1), bed.now());
        assert_eq!(bed.made(), ["removing web-2-2 on h1"]);
        assert_eq!(bed.made(), ["creating web-2-3 on h1"]);
    }

    #[test]
    fn a_copy_that_cannot_be_made_goes() {
        let mut bed = Bed::new();
        let first = bed.first();
        let (wish, on) = bed.pool.place_of_copy(&first).unwrap();
        bed.pool.launch_copy(&first, &wish, on, bed.now()).unwrap();
        assert_eq!(bed.steps()[0].kind, StepKind::Clone);
        bed.pool.not_cloned(2, &failed(), bed.now());
        assert_eq!(bed.steps()[0].kind, StepKind::Clone, "it is tried again");
        let gone = DriverError::NotFound(first);
        bed.pool.not_cloned(2, &gone, bed.now());
        for _ in 0..2 {
            assert_eq!(bed.made(), [""; 0]);
        }
        assert!(!bed.pool.slots.contains_key(&2));
        let events = bed.pool.take_events();
        assert!(
            events
                .iter()
                .any(|one| one.kind == "not_cloned" && one.is_alarm)
        );
    }

    #[test]
    fn one_that_moves_is_on_one_host_in_the_end() {
        for is_killed in [false, true] {
            let mut bed = Bed::new();
            let first = bed.first();
            bed.pool.check_move(&first, &host(1)).unwrap_err();
            bed.pool.check_move(&first, &host(2)).unwrap();
            bed.pool.begin_move(&first, host(2), bed.now());
            let again = bed.pool.check_move(&first, &host(2)).unwrap_err();
            assert!(again.contains("already"), "{again}");
            assert_eq!(bed.steps()[0].kind, StepKind::Move);
            assert_eq!(bed.pool.serving().count(), 1, "clients stay");
            // Two of one name are not two instances.
            bed.send();
            if is_killed {
                bed.restart();
            }
            let steps = bed.steps();
            assert_eq!((steps.len(), steps[0].kind), (1, StepKind::Move));
            bed.pool.moved(1, 0, bed.now());
            assert_eq!(bed.host_of(1), "web-1-1 h2");
            assert_eq!(bed.made(), ["removing web-1-1 on h1"]);
            assert_eq!(bed.made(), [""; 0]);
            assert_eq!(bed.host_of(1), "web-1-1 h2");
        }
    }

    #[test]
    fn what_the_other_host_has_of_one_that_stays_goes_first() {
        let mut bed = Bed::new();
        let first = bed.first();
        bed.pool.begin_move(&first, host(2), bed.now());
        bed.steps();
        // It stands still where it was, and waits at the other host.
        for at in [1, 2] {
            let has = bed.has.get_mut(&host(at)).unwrap();
            has.insert(first.clone(), Phase::Paused);
        }
        bed.pool.not_moved(1, &failed(), true, bed.now());
        assert_eq!(
            bed.steps()[0].kind,
            StepKind::Move,
            "nobody knows who has it"
        );
        bed.pool.not_moved(1, &failed(), false, bed.now());
        assert_eq!(bed.made(), ["removing web-1-1 on h2"]);
        assert_eq!(bed.made(), ["resuming web-1-1 on h1"]);
        assert_eq!(bed.made(), [""; 0]);
        assert_eq!(bed.host_of(1), "web-1-1 h1");
    }

    #[test]
    fn one_whose_host_is_lost_while_it_moves_is_launched_anew() {
        let mut bed = Bed::new();
        let first = bed.first();
        bed.pool.begin_move(&first, host(2), bed.now());
        bed.steps();
        let waits = bed.has.get_mut(&host(2)).unwrap();
        waits.insert(first.clone(), Phase::Paused);
        bed.has.get_mut(&host(1)).unwrap().clear();
        bed.pool.lose(&host(1));
        bed.steps();
        bed.pool.house(1, host(2), bed.now());
        assert_eq!(bed.made(), ["removing web-1-1 on h2"]);
        assert_eq!(bed.made(), ["creating web-1-2 on h2"]);
        // One whose next host is lost stays.
        let mut bed = Bed::new();
        bed.pool.begin_move(&first, host(2), bed.now());
        bed.steps();
        bed.pool.lose(&host(2));
        assert_eq!(bed.made(), [""; 0]);
        assert_eq!(bed.host_of(1), "web-1-1 h1");
        assert_eq!(bed.pool.slots[&1].record.role, Role::Serving);
    }

    #[test]
    fn what_cannot_move_says_why() {
        let mut bed = Bed::new();
        let first = bed.first();
        let why = |pool: &Pool, name: &InstanceName| pool.check_move(name, &host(2)).unwrap_err();
        let other: InstanceName = "web-1-9".parse().unwrap();
        assert!(why(&bed.pool, &other).contains("no such instance"));
        let now = bed.now();
        bed.pool.hold(&first, Role::Held, now).unwrap();
        assert!(why(&bed.pool, &first).contains("held"));
        bed.pool.hold(&first, Role::Serving, now).unwrap();
        bed.pool.observe_health(&first, Health::default(), now);
        bed.pool.silent.insert(host(1));
        assert!(why(&bed.pool, &first).contains("not connected"));
        bed.pool.silent.clear();
        bed.pool.spec.placement = None;
        assert!(why(&bed.pool, &first).contains("placement"));
    }
}
