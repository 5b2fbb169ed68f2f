//! A pool with a driver in memory: what follows from records and lists, also when the controller is killed between any two
//! of its actions.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use lb_drivers::{Listed, Phase};
use lb_model::{
    host::HostName,
    pool::{InstanceName, PoolSpec},
};
use lb_steering::scaling::Offered;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::KINDS;

const SECOND: Duration = Duration::from_secs(1);

/// A machine: what a driver would list, and what was stored.
struct Machine {
    now: Now,
    list: u64,
    /// Instances, and whether each is healthy.
    instances: BTreeMap<InstanceName, (Phase, bool)>,
    /// How long an instance takes until it is healthy.
    start_up: Duration,
    started: BTreeMap<InstanceName, Duration>,
    records: BTreeMap<u32, InstanceRecord>,
    last_epoch: u64,
    spec: PoolSpec,
    generation: u64,
    pool: Pool,
    refuses: bool,
    /// The store takes nothing.
    store_is_away: bool,
}

fn spec(scaling: &Value, check: bool) -> PoolSpec {
    let mut map = json!({
        "driver": { "kind": "process" },
        "network": { "port": 8000 },
        "template": { "program": "/bin/true", "start_deadline": "20s" },
        "scaling": scaling,
    });
    if check {
        map["check"] = json!({ "kind": "http", "interval": "1s" });
    }
    PoolSpec::read(map.as_object().unwrap(), &KINDS).unwrap()
}

impl Machine {
    fn new(scaling: Value) -> Self {
        let spec = spec(&scaling, true);
        Machine {
            now: Now {
                monotonic: Duration::from_secs(1_000),
                unix: Duration::from_secs(1_700_000_000),
            },
            list: 0,
            instances: BTreeMap::new(),
            start_up: SECOND,
            started: BTreeMap::new(),
            records: BTreeMap::new(),
            last_epoch: 0,
            pool: Pool::new("web".parse().unwrap(), spec.clone(), 1),
            spec,
            generation: 1,
            refuses: false,
            store_is_away: false,
        }
    }

    /// Kills the controller: what is not stored is lost.
    fn crash(&mut self) {
        let mut pool = Pool::new("web".parse().unwrap(), self.spec.clone(), self.generation);
        pool.last_epoch = self.last_epoch;
        // The pool's record has it.
        pool.power = self.pool.power;
        for record in self.records.values() {
            pool.restore(record.clone(), self.now);
        }
        self.pool = pool;
    }

    fn store(&mut self) {
        if self.store_is_away {
            self.pool.store_is_away |= !self.pool.unstored().is_empty();
            return;
        }
        for (number, record) in self.pool.unstored() {
            match record {
                Some(record) => self.records.insert(number, record.clone()),
                None => self.records.remove(&number),
            };
        }
        self.last_epoch = self.pool.last_epoch;
        self.pool.stored();
    }

    fn observe(&mut self) {
        self.list += 1;
        let listed: Vec<Listed> = self
            .instances
            .iter()
            .map(|(name, (phase, _))| Listed {
                name: name.clone(),
                phase: phase.clone(),
                cgroup: String::new(),
                fault: None,
                labels: BTreeMap::new(),
            })
            .collect();
        self.pool
            .observe(&HostName::local(), &listed, self.list, self.now);
        for (name, (phase, healthy)) in &mut self.instances {
            if *phase != Phase::Running {
                continue;
            }
            let since = *self
                .started
                .entry(name.clone())
                .or_insert(self.now.monotonic);
            if self.now.monotonic.saturating_sub(since) < self.start_up {
                continue;
            }
            let health = Health {
                is_up: Some(*healthy),
                is_success: Some(*healthy),
                ..Health::default()
            };
            self.pool.observe_health(name, health, self.now);
        }
    }

    fn act(&mut self, step: &Step) {
        if self.refuses {
            return;
        }
        let name = step.name.clone();
        match step.kind {
            StepKind::Create => {
                assert!(
                    self.instances
                        .keys()
                        .all(|other| other.number != name.number || *other == name),
                    "{name} has a predecessor: {:?}",
                    self.instances
                );
                self.instances.entry(name).or_insert((Phase::Created, true));
            }
            StepKind::Start | StepKind::Resume => {
                if let Some((phase, _)) = self.instances.get_mut(&name) {
                    *phase = Phase::Running;
                }
            }
            StepKind::Pause | StepKind::Suspend => {
                if let Some((phase, _)) = self.instances.get_mut(&name) {
                    *phase = Phase::Paused;
                }
            }
            StepKind::Reboot => {
                if let Some((phase, _)) = self.instances.get_mut(&name) {
                    *phase = Phase::Running;
                }
                if let Some(number) = step.number {
                    self.pool.rebooted(number, self.now);
                }
            }
            StepKind::Clone | StepKind::Move => unreachable!("nobody asks for it here"),
            StepKind::Stop => {
                if let Some((phase, _)) = self.instances.get_mut(&name) {
                    *phase = Phase::Ended {
                        status: Some(0),
                        reason: String::new(),
                    };
                }
            }
            StepKind::Remove => {
                self.instances.remove(&name);
            }
        }
    }

    /// A second passes. `crashes` says after which of its actions the controller is killed.
    fn second(&mut self, offered: Option<f64>, crashes: Option<usize>) {
        self.now.monotonic += SECOND;
        self.now.unix += SECOND;
        let mut actions = 0;
        let mut dies = |machine: &mut Machine| {
            let now = crashes == Some(actions);
            actions += 1;
            if now {
                machine.crash();
            }
            now
        };
        self.observe();
        let readings = Readings {
            offered: offered.map(Offered::Flows),
            requests: offered,
            ..Readings::default()
        };
        self.pool.decide(Some(readings), self.now);
        if dies(self) {
            return;
        }
        self.store();
        if dies(self) {
            return;
        }
        for step in self.pool.steps(true, self.now) {
            self.act(&step);
            if dies(self) {
                return;
            }
        }
    }

    /// The settings that instances are made by change.
    fn change_settings(&mut self) {
        self.generation += 1;
        self.pool.generation = self.generation;
    }

    fn seconds(&mut self, count: u32, offered: Option<f64>) {
        for _ in 0..count {
            self.second(offered, None);
        }
    }

    fn serving(&self) -> Vec<String> {
        self.pool
            .serving()
            .filter(|(_, standing)| !standing.is_drained())
            .map(|(slot, _)| slot.record.name.to_string())
            .collect()
    }

    fn events(&mut self, kind: &str) -> usize {
        let events = self.pool.take_events();
        events.iter().filter(|event| event.kind == kind).count()
    }

    /// What is there is what the records say, and nothing else.
    fn check(&self) {
        let mut numbers = BTreeSet::new();
        for name in self.instances.keys() {
            assert!(numbers.insert(name.number), "two of {}", name.number);
            let record = &self.records[&name.number];
            assert_eq!(record.name, *name, "nobody's instance");
        }
    }
}

#[test]
fn nothing_is_done_before_the_driver_has_listed() {
    let mut machine = Machine::new(json!({ "min": 2, "max": 4 }));
    machine.pool.decide(Some(Readings::default()), machine.now);
    assert!(machine.pool.slots.is_empty());
    assert_eq!(machine.pool.steps(true, machine.now), []);
}

#[test]
fn a_pool_starts_with_its_minimum() {
    let mut machine = Machine::new(json!({ "min": 3, "max": 8 }));
    machine.seconds(5, None);
    assert_eq!(machine.serving(), ["web-1-1", "web-2-2", "web-3-3"]);
    machine.check();
    let view = machine.pool.view(machine.now);
    assert!(view.iter().all(|one| one.state == InstanceState::Low));
    // An unhealthy start is INIT.
    assert_eq!(view[2].endpoint, Some("127.0.0.1:8002".parse().unwrap()));
}

#[test]
fn a_new_controller_takes_nothing_out_of_service() {
    let mut machine = Machine::new(json!({ "min": 3, "max": 3 }));
    machine.seconds(5, None);
    let serving = machine.serving();
    assert_eq!(serving.len(), 3);
    machine.crash();
    let states = |machine: &Machine| {
        let view = machine.pool.view(machine.now);
        view.iter().map(|one| one.state).collect::<Vec<_>>()
    };
    // Neither the driver nor a probe has said anything.
    assert_eq!(states(&machine), [InstanceState::Low; 3]);
    // One has died meanwhile, and no probe of the others has ended.
    let gone: InstanceName = serving[2].parse().unwrap();
    machine.instances.remove(&gone);
    machine.start_up = Duration::MAX;
    machine.observe();
    machine.pool.decide(None, machine.now);
    let after = [InstanceState::Low, InstanceState::Low, InstanceState::Init];
    assert_eq!(states(&machine), after);
    assert_eq!(machine.serving(), serving[..2]);
    // The one that died is made anew, and serves when its check passes.
    machine.seconds(3, None);
    assert!(
        !machine
            .serving()
            .iter()
            .any(|name| name.starts_with("web-3-"))
    );
}

#[test]
fn the_schedule_is_of_the_time_zone_of_the_pool() {
    // 2023-11-14, 22:13 in UTC and 23:13 in Berlin.
    for (zone, count) in [("UTC", 1), ("Europe/Berlin", 4)] {
        let mut machine = Machine::new(json!({
            "max": 8, "time_zone": zone, "schedule": [{ "from": "23:00", "to": "23:30", "min": 4 }],
        }));
        machine.seconds(5, None);
        assert_eq!(machine.serving().len(), count, "{zone}");
    }
}

#[test]
fn nothing_is_done_about_records_that_are_not_stored() {
    let mut machine = Machine::new(json!({ "min": 2, "max": 4 }));
    machine.observe();
    machine.pool.decide(Some(Readings::default()), machine.now);
    assert_eq!(machine.pool.unstored().len(), 2);
    assert_eq!(machine.pool.steps(true, machine.now), []);
    machine.store();
    assert_eq!(machine.pool.steps(true, machine.now).len(), 2);
}

/// A list comes before the first result of a probe.
#[test]
fn instances_serve_on_while_a_controller_that_starts_has_not_asked_them() {
    let mut machine = Machine::new(json!({ "min": 2, "max": 4 }));
    machine.seconds(5, None);
    // A third one is being started, and does not answer yet.
    machine.start_up = Duration::MAX;
    machine.pool.spec.scaling.min = 3;
    machine.spec.scaling.min = 3;
    machine.seconds(2, None);
    machine.crash();
    machine.observe();
    machine.pool.decide(None, machine.now);
    assert_eq!(machine.serving(), ["web-1-1", "web-2-2"]);
    // One of them has died meanwhile.
    let name: InstanceName = "web-1-1".parse().unwrap();
    let health = Health {
        is_up: Some(false),
        is_success: Some(false),
        ..Health::default()
    };
    machine.pool.observe_health(&name, health, machine.now);
    machine.pool.decide(None, machine.now);
    assert_eq!(machine.serving(), ["web-2-2"]);
    // One that is relaunched has its check to pass again, also for the next controller.
    machine.seconds(3, None);
    machine.crash();
    machine.observe();
    machine.pool.decide(None, machine.now);
    assert!(machine.pool.slots[&1].record.name.epoch > 3);
    assert_eq!(machine.serving(), ["web-2-2"]);
}

#[test]
fn a_dead_instance_is_relaunched_at_its_place() {
    let mut machine = Machine::new(json!({ "min": 4, "max": 8 }));
    machine.seconds(5, None);
    let name: InstanceName = "web-2-2".parse().unwrap();
    machine.instances.insert(
        name.clone(),
        (
            Phase::Ended {
                status: Some(-9),
                reason: String::new(),
            },
            true,
        ),
    );
    machine.pool.take_events();
    machine.second(None, None);
    let view = machine.pool.view(machine.now);
    assert_eq!(view[1].state, InstanceState::Failed);
    assert_eq!(view[1].reason, "ended by signal 9");
    assert_eq!(machine.serving().len(), 3);
    machine.seconds(6, None);
    assert_eq!(
        machine.serving(),
        ["web-1-1", "web-2-5", "web-3-3", "web-4-4"]
    );
    assert_eq!(machine.events("relaunched"), 1);
    machine.check();
}

#[test]
fn an_instance_that_does_not_answer_is_killed_and_relaunched() {
    let mut machine = Machine::new(json!({ "min": 4, "max": 8 }));
    machine.seconds(5, None);
    machine
        .instances
        .get_mut(&"web-1-1".parse().unwrap())
        .unwrap()
        .1 = false;
    machine.seconds(8, None);
    assert_eq!(
        machine.serving(),
        ["web-1-5", "web-2-2", "web-3-3", "web-4-4"]
    );
    machine.check();
}

#[test]
fn many_dead_instances_are_not_killed() {
    let mut machine = Machine::new(json!({ "min": 6, "max": 8 }));
    machine.seconds(5, None);
    for (_, healthy) in machine.instances.values_mut() {
        *healthy = false;
    }
    machine.pool.take_events();
    machine.seconds(60, None);
    assert_eq!(machine.instances.len(), 6);
    let names: Vec<_> = machine.instances.keys().map(|name| name.epoch).collect();
    assert_eq!(names, [1, 2, 3, 4, 5, 6]);
    assert!(machine.pool.mass_failure);
    let alarms = machine.pool.take_events();
    assert_eq!(alarms.iter().filter(|event| event.is_alarm).count(), 1);
    // The common cause is mended.
    for (_, healthy) in machine.instances.values_mut() {
        *healthy = true;
    }
    machine.seconds(2, None);
    assert_eq!(machine.serving().len(), 6);
    assert!(!machine.pool.mass_failure);
}

#[test]
fn an_instance_that_never_becomes_healthy_is_given_up_at_its_deadline() {
    let mut machine = Machine::new(json!({ "min": 1, "max": 4 }));
    machine.start_up = Duration::from_secs(3_600);
    machine.seconds(15, None);
    let view = machine.pool.view(machine.now);
    assert_eq!(view[0].state, InstanceState::Init);
    machine.seconds(10, None);
    assert!(machine.events("relaunched") >= 1);
    machine.check();
}

#[test]
fn a_pool_grows_with_its_load_and_shrinks_again() {
    let mut machine = Machine::new(json!({
        "min": 2, "max": 8, "requests": 600, "requests_over": "60s", "load_over": "20s", "surge_over": "5s",
        "in_after": "60s", "in_every": "5s", "drain_natural": "0ms", "drain_deadline": "5s", "policies": ["requests"], "period": "5s",
    }));
    machine.seconds(10, Some(5.0));
    assert_eq!(machine.serving().len(), 2);
    machine.seconds(120, Some(50.0));
    let grown = machine.serving().len();
    assert!(grown >= 5, "{grown}");
    assert!(machine.events("scaled") > 0);
    machine.seconds(600, Some(5.0));
    assert_eq!(machine.serving().len(), 2);
    machine.check();
    let removed = machine.events("removed");
    assert!(removed >= grown - 2, "{removed} of {grown}");
}

#[test]
fn spares_are_warm_and_serve_at_once() {
    let mut machine = Machine::new(json!({ "min": 2, "max": 8, "spare": 1 }));
    machine.seconds(10, None);
    let paused = machine
        .instances
        .values()
        .filter(|(phase, _)| *phase == Phase::Paused)
        .count();
    assert_eq!((machine.instances.len(), paused), (3, 1));
    assert_eq!(machine.serving().len(), 2);
    let view = machine.pool.view(machine.now);
    assert_eq!(view[2].state, InstanceState::Spare);
    machine.pool.spec = spec(&json!({ "min": 3, "max": 8, "spare": 1 }), true);
    machine.seconds(3, None);
    assert_eq!(machine.serving().len(), 3);
    machine.seconds(5, None);
    assert_eq!(machine.instances.len(), 4);
}

#[test]
fn what_an_operator_holds_keeps_its_place_and_is_not_replaced() {
    for (role, phase) in [
        (Role::Held, Phase::Paused),
        (Role::Suspended, Phase::Paused),
        (Role::Rebooting, Phase::Running),
    ] {
        let mut machine = Machine::new(json!({ "min": 2, "max": 4 }));
        machine.seconds(10, None);
        let name: InstanceName = machine.instances.keys().next().unwrap().clone();
        let all: Vec<InstanceName> = machine.instances.keys().cloned().collect();
        machine.pool.hold(&name, role, machine.now).unwrap();
        machine.seconds(3, None);
        // A controller that is killed meanwhile holds it on.
        machine.crash();
        machine.seconds(60, None);
        assert_eq!(machine.instances[&name].0, phase, "{role}");
        machine
            .pool
            .hold(&name, Role::Serving, machine.now)
            .unwrap();
        machine.seconds(10, None);
        assert_eq!(machine.instances[&name].0, Phase::Running, "{role}");
        let after: Vec<InstanceName> = machine.instances.keys().cloned().collect();
        assert_eq!(after, all, "{role}");
        assert_eq!(machine.serving().len(), 2);
        machine.check();
    }
    let mut machine = Machine::new(json!({ "min": 1, "max": 4 }));
    machine.seconds(10, None);
    let unknown = "web-1-99".parse().unwrap();
    assert!(
        machine
            .pool
            .hold(&unknown, Role::Held, machine.now)
            .is_err()
    );
}

#[test]
fn changed_settings_replace_a_few_instances_at_a_time() {
    let mut machine = Machine::new(json!({
        "min": 6, "max": 8, "spare": 1, "drain_natural": "0ms", "drain_deadline": "2s",
    }));
    machine.seconds(10, None);
    machine.pool.take_events();
    machine.change_settings();
    let mut stopped = BTreeSet::new();
    for _ in 0..120 {
        machine.second(None, None);
        assert!(machine.serving().len() >= 5, "{:?}", machine.serving());
        let ended = |(name, (phase, _)): (&InstanceName, &(Phase, bool))| {
            matches!(phase, Phase::Ended { .. }).then(|| name.clone())
        };
        stopped.extend(machine.instances.iter().filter_map(ended));
    }
    let view = machine.pool.view(machine.now);
    assert!(view.iter().all(|one| one.is_current), "{view:?}");
    let numbers: Vec<u32> = view.iter().map(|one| one.number).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(machine.serving().len(), 6);
    // Each was stopped before it was removed.
    assert_eq!(stopped.len(), 7, "{stopped:?}");
    assert_eq!(machine.events("replaced"), 7);
    machine.check();
}

#[test]
fn settings_that_do_not_work_stop_the_rollout() {
    let mut machine = Machine::new(json!({
        "min": 5, "max": 8, "drain_natural": "0ms", "drain_deadline": "2s", "relaunch_most": "2s",
    }));
    machine.seconds(10, None);
    machine.start_up = Duration::from_secs(3_600);
    machine.change_settings();
    machine.seconds(300, None);
    assert_eq!(machine.serving().len(), 4);
    // They are mended.
    machine.start_up = SECOND;
    machine.change_settings();
    machine.seconds(300, None);
    assert_eq!(machine.serving().len(), 5);
    assert!(
        machine
            .pool
            .view(machine.now)
            .iter()
            .all(|one| one.is_current)
    );
    machine.check();
}

#[test]
fn instances_keep_what_they_were_made_by_if_they_are_to() {
    let mut machine = Machine::new(json!({ "min": 3, "max": 8 }));
    machine.pool.spec.rollout = lb_model::pool::Rollout::Manual;
    machine.seconds(10, None);
    machine.change_settings();
    machine.seconds(60, None);
    assert_eq!(machine.serving(), ["web-1-1", "web-2-2", "web-3-3"]);
    assert!(
        machine
            .pool
            .view(machine.now)
            .iter()
            .all(|one| !one.is_current)
    );
}

#[test]
fn a_deleted_pool_leaves_nothing() {
    let mut machine = Machine::new(json!({ "min": 3, "max": 8 }));
    machine.seconds(5, None);
    machine.pool.is_deleted = true;
    machine.seconds(5, None);
    assert!(machine.instances.is_empty() && machine.records.is_empty());
    machine.observe();
    assert!(machine.pool.is_gone());
}

#[test]
fn an_orphan_is_removed_after_a_grace_period() {
    let mut machine = Machine::new(json!({ "min": 1, "max": 8 }));
    machine.seconds(5, None);
    let orphan: InstanceName = "web-2-77".parse().unwrap();
    machine
        .instances
        .insert(orphan.clone(), (Phase::Running, true));
    // What is of another pool is not looked at.
    let other: InstanceName = "shop-1-1".parse().unwrap();
    machine
        .instances
        .insert(other.clone(), (Phase::Running, true));
    machine.seconds(20, None);
    assert!(machine.instances.contains_key(&orphan));
    // Its number is not given out, and no epoch is used twice.
    machine.pool.spec = spec(&json!({ "min": 2, "max": 8 }), true);
    machine.seconds(5, None);
    assert_eq!(machine.serving(), ["web-1-1", "web-3-78"]);
    machine.seconds(20, None);
    assert!(!machine.instances.contains_key(&orphan));
    assert!(machine.instances.contains_key(&other));
}

#[test]
fn what_a_restored_store_does_not_know_has_its_grace_period() {
    let mut machine = Machine::new(json!({ "min": 1, "max": 8 }));
    machine.seconds(5, None);
    // The store is of a time before these were made.
    let (newer, orphan) = ("web-1-9".parse().unwrap(), "web-2-5".parse().unwrap());
    machine.instances.clear();
    for name in [&newer, &orphan] {
        let running = (Phase::Running, true);
        machine.instances.insert(InstanceName::clone(name), running);
    }
    machine.crash();
    // That the first one is taken up does not make an earlier epoch one that this store has given out.
    machine.seconds(20, None);
    assert_eq!(machine.serving(), ["web-1-9"]);
    assert!(machine.instances.contains_key(&orphan));
    machine.seconds(20, None);
    assert!(!machine.instances.contains_key(&orphan));
}

#[test]
fn what_is_given_up_has_no_grace_period() {
    let scaling = |count: u32| json!({ "min": count, "max": count, "drain_natural": "0ms", "drain_deadline": "2s" });
    let mut machine = Machine::new(scaling(2));
    machine.seconds(5, None);
    machine.spec = spec(&scaling(1), true);
    machine.pool.spec = machine.spec.clone();
    machine.seconds(10, None);
    assert_eq!(machine.serving(), ["web-1-1"]);
    assert_eq!((machine.records.len(), machine.instances.len()), (1, 1));
    // It is there after all, as one on a host that was lost.
    for is_killed in [false, true] {
        let given_up: InstanceName = "web-2-2".parse().unwrap();
        let running = (Phase::Running, true);
        machine.instances.insert(given_up.clone(), running);
        if is_killed {
            machine.crash();
        }
        machine.seconds(2, None);
        assert!(!machine.instances.contains_key(&given_up));
    }
}

#[test]
fn a_dead_instance_is_relaunched_without_the_store() {
    let mut machine = Machine::new(json!({ "min": 4, "max": 8 }));
    machine.seconds(5, None);
    machine.store_is_away = true;
    let ended = Phase::Ended {
        status: None,
        reason: String::new(),
    };
    machine
        .instances
        .insert("web-2-2".parse().unwrap(), (ended, true));
    machine.seconds(6, None);
    assert_eq!(
        machine.serving(),
        ["web-1-1", "web-2-5", "web-3-3", "web-4-4"]
    );
    assert_eq!(machine.records[&2].name.to_string(), "web-2-2");
    // The pool does not grow: nobody would know its new instance.
    machine.pool.spec = spec(&json!({ "min": 5, "max": 8 }), true);
    machine.seconds(5, None);
    assert_eq!(machine.instances.len(), 4);
    // The next process does not know of the relaunch, and finds what runs.
    machine.crash();
    machine.pool.spec = spec(&json!({ "min": 4, "max": 8 }), true);
    machine.seconds(3, None);
    assert_eq!(machine.events("adopted"), 1);
    assert_eq!(
        machine.serving(),
        ["web-1-1", "web-2-5", "web-3-3", "web-4-4"]
    );
    machine.store_is_away = false;
    machine.seconds(2, None);
    machine.check();
    assert!(machine.pool.unstored().is_empty());
}

#[test]
fn a_probe_that_this_machine_could_not_make_says_nothing() {
    let mut machine = Machine::new(json!({ "min": 1, "max": 4 }));
    machine.seconds(5, None);
    let name: InstanceName = "web-1-1".parse().unwrap();
    for _ in 0..20 {
        let health = Health {
            is_up: Some(true),
            is_success: None,
            reason: "too many open files".to_owned(),
            ..Health::default()
        };
        machine.pool.observe_health(&name, health, machine.now);
    }
    let slot = &machine.pool.slots[&1];
    assert_eq!(slot.probes, Some(1.0));
    assert_eq!(slot.unasked.as_deref(), Some("too many open files"));
    assert_eq!(slot.health.reason, "");
    // A probe that was started again knows nothing of the instance yet.
    let health = Health {
        is_success: Some(false),
        ..Health::default()
    };
    machine.pool.observe_health(&name, health, machine.now);
    let slot = &machine.pool.slots[&1];
    assert_eq!((slot.health.is_up, &slot.unasked), (Some(true), &None));
}

#[test]
fn failures_of_a_start_do_not_count_and_only_changes_of_health_matter() {
    let mut machine = Machine::new(json!({ "min": 1, "max": 4 }));
    machine.start_up = Duration::MAX;
    machine.seconds(3, None);
    let name: InstanceName = "web-1-1".parse().unwrap();
    let mut observe = |is_up: Option<bool>, is_success: Option<bool>| {
        let health = Health {
            is_up,
            is_success,
            ..Health::default()
        };
        let now = machine.now;
        let is_other = machine.pool.observe_health(&name, health, now);
        (is_other, machine.pool.slots[&1].probes)
    };
    // It starts: it is asked often, and does not answer yet.
    assert_eq!(observe(None, Some(false)), (false, None));
    assert_eq!(observe(None, Some(false)), (false, None));
    assert_eq!(observe(Some(true), Some(true)), (true, Some(1.0)));
    assert_eq!(observe(Some(true), Some(true)), (false, Some(1.0)));
    // The probe could not be made, twice; then it can.
    assert_eq!(observe(Some(true), None), (true, Some(1.0)));
    assert_eq!(observe(Some(true), None), (false, Some(1.0)));
    assert_eq!(observe(Some(true), Some(true)), (true, Some(1.0)));
    // It fails: that counts, and matters when it is down.
    assert_eq!(observe(Some(true), Some(false)), (false, Some(0.8)));
    assert!(observe(Some(false), Some(false)).0);
    // It is not the instance of this place any more.
    let other: InstanceName = "web-1-9".parse().unwrap();
    assert!(
        !machine
            .pool
            .observe_health(&other, Health::default(), machine.now)
    );
}

#[test]
fn a_list_that_began_before_a_step_says_nothing_about_it() {
    let mut machine = Machine::new(json!({ "min": 1, "max": 4 }));
    machine.seconds(5, None);
    let slot = machine.pool.slots.get_mut(&1).unwrap();
    // A step ends; the next list is to begin later.
    slot.fresh_from = machine.list + 2;
    machine
        .pool
        .observe(&HostName::local(), &[], machine.list + 1, machine.now);
    assert!(machine.pool.slots[&1].seen.is_some());
    assert!(!machine.pool.slots[&1].is_fresh());
    machine
        .pool
        .observe(&HostName::local(), &[], machine.list + 2, machine.now);
    assert!(machine.pool.slots[&1].seen.is_none());
    let view = machine.pool.view(machine.now);
    assert_eq!(view[0].reason, "it does not exist any more");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// The controller is killed at random moments while instances die and the load moves. In the end there is exactly what
    /// the records say: no orphan, no double, nothing forgotten.
    #[test]
    fn a_controller_that_is_killed_at_any_moment_goes_on(
        seconds in prop::collection::vec(
            (
                0.0..100.0_f64, prop::option::of(0..8_usize), prop::option::of(0..8_usize), any::<bool>(),
                prop::bool::weighted(0.1), prop::bool::weighted(0.3),
            ),
            30..80,
        ),
    ) {
        let mut machine = Machine::new(json!({
            "min": 2, "max": 6, "requests": 600, "requests_over": "10s", "load_over": "5s", "surge_over": "2s",
            "in_after": "10s", "in_every": "1s", "drain_natural": "0ms", "drain_deadline": "2s", "policies": ["requests"],
            "period": "1s",
        }));
        for (load, crash, death, kills, changes, is_away) in seconds {
            machine.store_is_away = is_away;
            // Settings change in the store first.
            if changes && !is_away {
                machine.change_settings();
            }
            machine.second(Some(load), crash);
            if let Some(name) = death.and_then(|at| machine.instances.keys().nth(at).cloned()) {
                let ended = Phase::Ended { status: None, reason: String::new() };
                if kills {
                    machine.instances.remove(&name);
                } else {
                    machine.instances.insert(name, (ended, true));
                }
            }
            let mut numbers = BTreeSet::new();
            for name in machine.instances.keys() {
                prop_assert!(numbers.insert(name.number), "two of one number: {:?}", machine.instances);
            }
        }
        machine.store_is_away = false;
        machine.seconds(400, Some(1.0));
        machine.check();
        prop_assert!(machine.serving().len() >= 2, "{:?}", machine.pool.view(machine.now));
        prop_assert_eq!(machine.instances.len(), machine.records.len());
        let view = machine.pool.view(machine.now);
        prop_assert!(view.iter().all(|one| one.is_current), "{view:?}");
    }
}

#[test]
fn a_pool_is_suspended_resumed_stopped_and_started() {
    for crash in [None, Some(0), Some(1), Some(2), Some(3)] {
        let mut machine = Machine::new(json!({ "min": 2, "max": 4 }));
        for _ in 0..6 {
            machine.second(None, None);
        }
        let phases = |machine: &Machine| -> Vec<(String, Phase)> {
            let instances = machine.instances.iter();
            instances
                .map(|(name, (phase, _))| (name.to_string(), phase.clone()))
                .collect()
        };
        let running = phases(&machine);
        assert_eq!(running.len(), 2);
        assert_eq!(machine.pool.serving().count(), 2);
        machine.pool.set_power(Power::Suspended, machine.now);
        machine.second(None, crash);
        // What is asked meanwhile does not answer, for longer than any deadline, and is not dead.
        for (_, is_healthy) in machine.instances.values_mut() {
            *is_healthy = false;
        }
        for _ in 0..90 {
            machine.second(None, None);
        }
        let paused: Vec<_> = running
            .iter()
            .map(|(name, _)| (name.clone(), Phase::Paused))
            .collect();
        assert_eq!(phases(&machine), paused, "{crash:?}");
        assert_eq!(machine.pool.serving().count(), 0);
        let views = machine.pool.view(machine.now);
        assert!(
            views.iter().all(|one| one.state == InstanceState::Spare),
            "{views:?}"
        );
        for (_, is_healthy) in machine.instances.values_mut() {
            *is_healthy = true;
        }
        machine.pool.set_power(Power::Running, machine.now);
        machine.second(None, crash);
        for _ in 0..6 {
            machine.second(None, None);
        }
        assert_eq!(phases(&machine), running, "the same go on: {crash:?}");
        assert_eq!(machine.pool.serving().count(), 2);
        machine.pool.set_power(Power::Stopped, machine.now);
        machine.second(None, crash);
        for _ in 0..6 {
            machine.second(None, None);
        }
        assert!(machine.instances.is_empty(), "{crash:?}");
        machine.pool.set_power(Power::Running, machine.now);
        for _ in 0..6 {
            machine.second(None, None);
        }
        assert_eq!(machine.pool.serving().count(), 2);
    }
}
