//! Instances that stand in for others whose hosts are away. A host that is silent may be dead or cut off, which nobody can tell
//! at once; so the instance there keeps its record and its address, and another one serves at an address of its own. Which of
//! both stays is decided later: the first one if it is back in time (`placement.stand_in`), otherwise the other one. At every
//! moment one of both is kept, and in the end only one.

use std::time::Duration;

use lb_steering::scaling::relaunch_budget;

use super::{Now, Pool, Role, Slot};

/// An instance that is back serves for so long before the one that stands in for it goes: a cable that is loose is not to
/// start and end an instance each time.
const SETTLED: Duration = Duration::from_secs(2);

/// What becomes of one that stands in.
enum Verdict {
    /// There is nobody any more that it stands in for.
    Stays,
    /// Its own host is away, too.
    IsAway,
    /// The one that it stands in for is back.
    Goes,
    /// The one that it stands in for was away for too long.
    Follows(Duration),
}

impl Pool {
    /// The instance that stands in for the one with this number.
    fn stand_in_of(&self, number: u32) -> Option<&Slot> {
        self.slots.values().find(|slot| {
            slot.record.stands_for == Some(number) && slot.record.role == Role::Serving
        })
    }

    /// Whether another instance stands in for the one with this number.
    pub(super) fn is_stood_in_for(&self, number: u32) -> bool {
        self.stand_in_of(number).is_some()
    }

    /// Whether an instance does not serve and nobody can do anything about that, because a host that has it, or one before it,
    /// is away.
    fn is_cut_off(&self, slot: &Slot) -> bool {
        let hosts = slot.record.host.iter();
        let mut hosts = hosts.chain(slot.left.iter().map(|old| &old.host));
        !slot.is_alive() && hosts.any(|host| self.is_away(host))
    }

    /// Has instances stand in for those that are cut off, and ends that.
    pub(super) fn stand_in(&mut self, now: Now) {
        let placement = self.spec.placement.as_ref();
        let patience = placement.and_then(|placement| placement.stand_in);
        let patience = patience.unwrap_or_default();
        self.end_stand_ins(patience, now);
        // Most hosts are silent: it is this controller that is cut off.
        if !patience.is_zero() && !self.is_alone {
            self.begin_stand_ins(now);
        }
    }

    fn end_stand_ins(&mut self, patience: Duration, now: Now) {
        for slot in self.slots.values_mut() {
            slot.alive_since = slot
                .is_alive()
                .then(|| slot.alive_since.unwrap_or(now.monotonic));
        }
        let mut verdicts = Vec::new();
        for (number, slot) in &self.slots {
            let Some(other) = slot.record.stands_for else {
                continue;
            };
            let original = self.slots.get(&other);
            let original = original.filter(|original| original.record.role == Role::Serving);
            let lasts = now.monotonic.saturating_sub(slot.role_since);
            let verdict = match original {
                _ if slot.record.role != Role::Serving => Verdict::Stays,
                None => Verdict::Stays,
                Some(original) => match original.alive_since {
                    Some(since) if now.monotonic.saturating_sub(since) >= SETTLED => Verdict::Goes,
                    Some(_) => continue,
                    None if self.is_cut_off(slot) => Verdict::IsAway,
                    None if slot.is_alive() && lasts >= patience => Verdict::Follows(lasts),
                    None => continue,
                },
            };
            verdicts.push((*number, other, verdict));
        }
        for (number, other, verdict) in verdicts {
            let name = |pool: &Pool, number| {
                let slot: Option<&Slot> = pool.slots.get(&number);
                slot.map(|slot| slot.record.name.to_string())
                    .unwrap_or_default()
            };
            let (own, original) = (name(self, number), name(self, other));
            match verdict {
                Verdict::Stays => {}
                Verdict::IsAway => {
                    let reason = format!("it stood in for {original}, and its host is away, too");
                    self.set_role(number, Role::Removing, &reason, now);
                }
                Verdict::Goes => {
                    let is_serving = self.slots.get(&number).is_some_and(Slot::is_alive);
                    let role = if is_serving {
                        Role::Draining
                    } else {
                        Role::Removing
                    };
                    let reason = format!("it stood in for {original}, which is back");
                    self.set_role(number, role, &reason, now);
                    let name = self.slots.get(&other).map(|slot| slot.record.name.clone());
                    let text = format!("it is back; {own}, which stood in for it, goes");
                    self.event(name.as_ref(), "is_back", text);
                }
                Verdict::Follows(lasts) => {
                    let lasts = lb_model::duration::format(Duration::from_secs(lasts.as_secs()));
                    let reason = format!("it was away for {lasts}; {own} has taken its place");
                    let name = self.slots.get(&other).map(|slot| slot.record.name.clone());
                    self.set_role(other, Role::Removing, &reason, now);
                    self.event(name.as_ref(), "given_up", reason);
                }
            }
            if let Some(slot) = self.slots.get_mut(&number) {
                slot.record.stands_for = None;
                slot.is_relaunch = false;
                self.dirty.insert(number);
            }
        }
    }

    fn begin_stand_ins(&mut self, now: Now) {
        let serving = self
            .slots
            .values()
            .filter(|slot| slot.record.role == Role::Serving);
        let of = serving.clone().count();
        let under_way = serving
            .filter(|slot| slot.record.stands_for.is_some() && !slot.is_alive())
            .count();
        let budget = relaunch_budget(&self.spec.scaling, u32::try_from(of).unwrap_or(u32::MAX));
        let left = (budget as usize).saturating_sub(under_way);
        let cut_off = self.slots.iter().filter(|(number, slot)| {
            slot.record.role == Role::Serving
                && slot.record.stands_for.is_none()
                && self.is_cut_off(slot)
                && !self.is_stood_in_for(**number)
        });
        let cut_off: Vec<u32> = cut_off.map(|(number, _)| *number).take(left).collect();
        for number in cut_off {
            // Without an address to spare it waits until its host is lost.
            let Some(free) = self.free_number() else {
                return;
            };
            let Some(slot) = self.slots.get(&number) else {
                continue;
            };
            let name = slot.record.name.clone();
            let reason = format!("stands in for {name}, whose host is away");
            self.launch_at(free, Role::Serving, &reason, now);
            if let Some(slot) = self.slots.get_mut(&free) {
                slot.record.stands_for = Some(number);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use lb_drivers::{Listed, Phase};
    use lb_model::{
        host::HostName,
        pool::{InstanceName, PoolSpec},
    };
    use serde_json::json;

    use super::super::{Health, Readings, StepKind};
    use super::*;
    use crate::KINDS;

    /// A pool of one instance on two hosts, which has two addresses, and gives one that is away ten seconds.
    struct Bed {
        pool: Pool,
        now: u64,
        list: u64,
        /// What runs on each host, and answers.
        running: BTreeMap<HostName, Vec<InstanceName>>,
        away: Vec<HostName>,
        store_is_away: bool,
    }

    fn host(number: u32) -> HostName {
        format!("h{number}").parse().unwrap()
    }

    impl Bed {
        fn new(addresses: u32) -> Self {
            let map = json!({
                "driver": { "kind": "process" },
                "network": { "port": 80, "bridge": "br0", "range": format!("10.0.0.1-10.0.0.{addresses}/24"), "delivery": "address" },
                "template": { "program": "/bin/true", "cpu": 0.5, "memory": "64MiB" },
                "check": { "kind": "http", "interval": "1s" },
                "placement": { "stand_in": "10s" },
                "scaling": { "min": 1, "max": 1, "drain_natural": "0ms", "drain_deadline": "1s" },
            });
            let spec = PoolSpec::read(map.as_object().unwrap(), &KINDS).unwrap();
            let mut pool = Pool::new("lb-1".parse().unwrap(), spec, 1);
            pool.awaited = [host(1), host(2)].into();
            let running = BTreeMap::from([(host(1), Vec::new()), (host(2), Vec::new())]);
            let mut bed = Bed {
                pool,
                now: 1_000,
                list: 0,
                running,
                away: Vec::new(),
                store_is_away: false,
            };
            bed.pass(4);
            assert_eq!(bed.serving(), ["lb-1-1-1 on h1"]);
            bed
        }

        fn now(&self) -> Now {
            let time = Duration::from_secs(self.now);
            Now {
                monotonic: time,
                unix: time,
            }
        }

        fn pass(&mut self, seconds: u32) {
            for _ in 0..seconds {
                self.second();
            }
        }

        fn second(&mut self) {
            self.now += 1;
            let now = self.now();
            for (host, names) in &self.running {
                if self.away.contains(host) {
                    continue;
                }
                let listed: Vec<Listed> = names
                    .iter()
                    .map(|name| Listed {
                        name: name.clone(),
                        phase: Phase::Running,
                        cgroup: String::new(),
                        fault: None,
                        labels: BTreeMap::new(),
                    })
                    .collect();
                self.list += 1;
                self.pool.observe(host, &listed, self.list, now);
            }
            let names: Vec<InstanceName> = self
                .pool
                .slots
                .values()
                .filter(|slot| slot.seen.is_some())
                .map(|slot| slot.record.name.clone())
                .collect();
            for name in names {
                let mut there = self.running.iter();
                let is_up =
                    there.any(|(host, names)| !self.away.contains(host) && names.contains(&name));
                let health = Health {
                    is_up: Some(is_up),
                    is_success: Some(is_up),
                    ..Health::default()
                };
                self.pool.observe_health(&name, health, now);
            }
            self.pool.decide(Some(Readings::default()), now);
            for wish in self.pool.homeless(now) {
                let mut hosts = self.running.keys();
                let is_closed = |host: &HostName| {
                    self.away.contains(host) || self.pool.unlisted().contains(host)
                };
                let open = hosts.find(|host| !is_closed(host));
                if let Some(open) = open.cloned() {
                    self.pool.house(wish.number, open, now);
                }
            }
            if self.store_is_away {
                self.pool.store_is_away = true;
            } else {
                self.pool.stored();
            }
            for step in self.pool.steps(false, now) {
                let names = self.running.get_mut(&step.host).unwrap();
                match step.kind {
                    StepKind::Create => names.push(step.name),
                    _ => names.retain(|name| *name != step.name),
                }
            }
        }

        /// Cuts a host off: at first it is silent.
        fn cut_off(&mut self, number: u32) {
            self.away.push(host(number));
            self.pool.silent.insert(host(number));
        }

        fn lose(&mut self, number: u32) {
            self.pool.lose(&host(number));
        }

        fn connect(&mut self, number: u32) {
            self.away.retain(|one| *one != host(number));
            self.pool.silent.remove(&host(number));
            self.pool.lost.remove(&host(number));
        }

        fn restart(&mut self) {
            let mut pool = Pool::new(self.pool.name.clone(), self.pool.spec.clone(), 1);
            pool.last_epoch = self.pool.last_epoch;
            for slot in self.pool.slots.values() {
                pool.restore(slot.record.clone(), self.now());
            }
            pool.silent.clone_from(&self.pool.silent);
            pool.lost.clone_from(&self.pool.lost);
            pool.awaited.clear();
            pool.has_list = true;
            self.pool = pool;
        }

        fn serving(&self) -> Vec<String> {
            let slots = self.pool.slots.values();
            let serving = slots.filter(|slot| slot.is_alive() && slot.record.role == Role::Serving);
            serving
                .map(|slot| {
                    let host = slot.record.host.as_ref().unwrap();
                    format!("{} on {host}", slot.record.name)
                })
                .collect()
        }
    }

    #[test]
    fn one_that_is_back_in_time_stays() {
        let mut bed = Bed::new(2);
        bed.cut_off(1);
        bed.pass(4);
        assert_eq!(bed.serving(), ["lb-1-2-2 on h2"]);
        // That its host is lost meanwhile changes nothing.
        bed.lose(1);
        bed.pass(2);
        bed.restart();
        bed.pass(1);
        assert_eq!(bed.pool.slots.len(), 2);
        bed.connect(1);
        bed.pass(10);
        assert_eq!(bed.serving(), ["lb-1-1-1 on h1"]);
        assert_eq!(bed.pool.slots.len(), 1);
        assert_eq!(bed.running[&host(2)], []);
    }

    #[test]
    fn one_that_is_away_for_too_long_goes() {
        for (is_lost, is_killed) in [(false, false), (false, true), (true, false), (true, true)] {
            let mut bed = Bed::new(2);
            bed.cut_off(1);
            if is_lost {
                bed.lose(1);
            }
            bed.pass(16);
            assert_eq!(bed.serving(), ["lb-1-2-2 on h2"]);
            let stands = |slot: &Slot| slot.record.stands_for.is_some();
            assert!(!bed.pool.slots.values().any(stands));
            // It is known until nothing of it can be left.
            assert_eq!(bed.pool.slots.len(), if is_lost { 1 } else { 2 });
            if is_killed {
                bed.restart();
            }
            // Nobody has to notice it first: it goes at once.
            bed.connect(1);
            bed.pass(4);
            assert_eq!(bed.serving(), ["lb-1-2-2 on h2"]);
            assert_eq!((bed.pool.slots.len(), &bed.running[&host(1)]), (1, &vec![]));
        }
    }

    #[test]
    fn another_one_stands_in_when_the_first_is_cut_off_too() {
        let mut bed = Bed::new(3);
        bed.cut_off(1);
        bed.pass(4);
        bed.running.insert(host(3), Vec::new());
        bed.cut_off(2);
        bed.pass(4);
        assert_eq!(bed.serving(), ["lb-1-3-3 on h3"]);
        bed.connect(2);
        bed.connect(1);
        bed.pass(15);
        assert_eq!(bed.serving(), ["lb-1-1-1 on h1"]);
        assert_eq!(bed.pool.slots.len(), 1);
        let left = bed.running.values().map(Vec::len).sum::<usize>();
        assert_eq!(left, 1, "{:?}", bed.running);
    }

    #[test]
    fn without_an_address_or_when_most_hosts_are_silent_nobody_stands_in() {
        let mut bed = Bed::new(1);
        bed.cut_off(1);
        bed.pass(20);
        assert_eq!(bed.pool.slots.len(), 1);
        // Then it is replaced at its address.
        bed.lose(1);
        bed.pass(5);
        assert_eq!(bed.serving(), ["lb-1-1-2 on h2"]);
        let mut bed = Bed::new(2);
        bed.pool.is_alone = true;
        bed.cut_off(1);
        bed.pass(20);
        assert_eq!(bed.pool.slots.len(), 1);
    }

    #[test]
    fn a_predecessor_goes_while_the_host_of_its_successor_is_away() {
        for is_killed in [false, true] {
            let mut bed = Bed::new(1);
            bed.cut_off(1);
            bed.lose(1);
            bed.pass(5);
            assert_eq!(bed.serving(), ["lb-1-1-2 on h2"]);
            bed.cut_off(2);
            if is_killed {
                bed.restart();
            }
            bed.connect(1);
            bed.pass(2);
            assert_eq!(bed.running[&host(1)], []);
            assert_eq!(bed.running[&host(2)].len(), 1);
            bed.connect(2);
            bed.pass(2);
            assert_eq!(bed.serving(), ["lb-1-1-2 on h2"]);
        }
    }

    #[test]
    fn a_place_without_a_host_is_given_up_after_a_restart() {
        let mut bed = Bed::new(1);
        bed.cut_off(1);
        bed.cut_off(2);
        bed.lose(1);
        bed.pass(3);
        // No host has room for its successor, and then it is not wanted any more.
        assert_eq!(bed.pool.slots[&1].record.host, None);
        bed.restart();
        bed.pool.is_deleted = true;
        bed.pass(1);
        bed.connect(1);
        bed.connect(2);
        bed.pass(4);
        assert_eq!(bed.pool.slots.len(), 0);
        assert_eq!(bed.running[&host(1)], []);
    }

    #[test]
    fn a_relaunch_on_another_host_waits_for_the_store() {
        let mut bed = Bed::new(1);
        bed.store_is_away = true;
        bed.cut_off(1);
        bed.lose(1);
        bed.pass(5);
        assert_eq!(bed.running[&host(2)], []);
        bed.store_is_away = false;
        bed.pass(3);
        assert_eq!(bed.serving(), ["lb-1-1-2 on h2"]);
    }

    #[test]
    fn what_a_lost_host_has_is_not_adopted_and_goes_at_once() {
        let mut bed = Bed::new(1);
        bed.cut_off(1);
        // An earlier process relaunched it there without the store, so its epoch is greater than that of its successor.
        let later = InstanceName {
            epoch: 3,
            ..bed.running[&host(1)][0].clone()
        };
        bed.running.insert(host(1), vec![later]);
        bed.restart();
        bed.lose(1);
        bed.pass(5);
        assert_eq!(bed.serving(), ["lb-1-1-2 on h2"]);
        bed.connect(1);
        bed.pass(2);
        assert_eq!(bed.serving(), ["lb-1-1-2 on h2"]);
        assert_eq!(bed.running[&host(1)], []);
    }

    #[test]
    fn a_host_that_is_back_takes_nothing_before_it_has_listed() {
        let mut bed = Bed::new(1);
        bed.cut_off(1);
        bed.lose(1);
        bed.pass(5);
        bed.connect(1);
        assert!(bed.pool.unlisted().contains(&host(1)));
        bed.pass(1);
        assert!(bed.pool.unlisted().is_empty());
    }

    #[test]
    fn one_that_ends_is_replaced_at_its_address() {
        let mut bed = Bed::new(2);
        bed.running.get_mut(&host(1)).unwrap().clear();
        bed.pass(6);
        assert_eq!(bed.serving(), ["lb-1-1-2 on h1"]);
        assert_eq!(bed.pool.slots.len(), 1);
    }
}
