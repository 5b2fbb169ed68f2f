//! A data plane for tests: it records calls, and refuses on demand.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, mpsc},
};

use lb_common::reason::{ChosenBy, Reason, Verdict};
use lb_model::vip::{RealId, VipKey};

use lb_dataplane::{
    Counters, Dataplane, DataplaneError, InterfaceStats, InterfaceStatus, RealFlows, RealStats,
    ServiceSpec, ServiceStats, Signs, Simulation, SlotStates, Stats, Status,
};
use lb_model::options::Track;

/// The recorded state.
#[derive(Debug, Default)]
pub struct Tables {
    /// Services as last set.
    pub services: BTreeMap<VipKey, ServiceSpec>,
    /// Each call that changes something.
    pub calls: Vec<String>,
    /// Reals there is room for; `None` for any number.
    pub capacity: Option<usize>,
    /// Reals without a next hop.
    pub unreachable: Vec<RealId>,
    /// Addresses of the host itself.
    pub own: BTreeSet<IpAddr>,
    /// Interfaces whose change is not yet recorded.
    pub changed_links: Vec<InterfaceStatus>,
    /// What somebody else changed in the tables.
    pub foreign_changes: Option<String>,
    /// How often counters were read.
    pub reads: u64,
    /// How often slots of unused services are still to be settled.
    pub settlings: u32,
}

/// The data plane; clones share the tables.
#[derive(Clone, Debug, Default)]
pub struct Recorder(Arc<Mutex<Tables>>);

impl Recorder {
    /// The tables.
    pub fn tables(&self) -> MutexGuard<'_, Tables> {
        self.0.lock().unwrap()
    }

    /// Keeps an owner that reads or writes the tables at that until the result is dropped.
    pub fn hold(&self) -> Held {
        let recorder = self.clone();
        let (release, released) = mpsc::channel();
        let (sender, held) = mpsc::channel();
        std::thread::spawn(move || {
            let _tables = recorder.tables();
            sender.send(()).unwrap();
            // An error: the result was dropped.
            let _ = released.recv();
        });
        held.recv().unwrap();
        Held { _release: release }
    }
}

/// See [`Recorder::hold`].
pub struct Held {
    _release: mpsc::Sender<()>,
}

impl Dataplane for Recorder {
    fn set_service(&mut self, wanted: &ServiceSpec) -> Result<(), DataplaneError> {
        let mut tables = self.tables();
        tables.calls.push(format!("set {}", wanted.vip));
        let others: usize = tables
            .services
            .values()
            .filter(|service| service.vip != wanted.vip)
            .map(|service| service.reals.len())
            .sum();
        if let Some(capacity) = tables.capacity
            && others + wanted.reals.len() > capacity
        {
            return Err(DataplaneError::Full {
                table: "reals",
                capacity: capacity as u64,
                advice: "delete some",
            });
        }
        let before = tables.services.get(&wanted.vip);
        let is_new = |real: &RealId| before.is_none_or(|service| !service.reals.contains(real));
        if let Some(real) = wanted.reals.iter().find(|real| {
            is_new(real) && tables.own.contains(&real.address) && !wanted.down.contains_key(*real)
        }) {
            return Err(DataplaneError::OwnAddress {
                vip: wanted.vip,
                real: *real,
            });
        }
        tables.services.insert(wanted.vip, wanted.clone());
        Ok(())
    }

    fn shed(&mut self, vip: &VipKey, real: RealId, flows: u32) -> Result<u32, DataplaneError> {
        let mut tables = self.tables();
        tables
            .calls
            .push(format!("shed {flows} of {real} of {vip}"));
        let known = tables.services.get(vip);
        if known.is_some_and(|service| service.reals.contains(&real)) {
            Ok(0)
        } else {
            Err(DataplaneError::CannotShed {
                vip: *vip,
                real,
                reason: "there is no such real",
            })
        }
    }

    fn probe_mark(&self, vip: &VipKey, real: RealId) -> Option<u32> {
        let tables = self.tables();
        let reals = &tables.services.get(vip)?.reals;
        let position = reals.iter().position(|of| *of == real)?;
        Some(1 + position as u32)
    }

    fn probe_problem(&mut self, _vip: &VipKey) -> Option<String> {
        None
    }

    fn remove_service(&mut self, vip: &VipKey) -> Result<(), DataplaneError> {
        let mut tables = self.tables();
        tables.calls.push(format!("remove {vip}"));
        tables.services.remove(vip);
        Ok(())
    }

    fn services(&self) -> Vec<VipKey> {
        self.tables().services.keys().copied().collect()
    }

    fn tick(&mut self) -> Result<(), DataplaneError> {
        Ok(())
    }

    fn awaits_settling(&self) -> bool {
        self.tables().settlings > 0
    }

    fn settle_unused(&mut self) -> Result<(), DataplaneError> {
        let mut tables = self.tables();
        tables.calls.push("settle".to_owned());
        tables.settlings = tables.settlings.saturating_sub(1);
        Ok(())
    }

    fn stats(&self) -> Result<Stats, DataplaneError> {
        let mut tables = self.tables();
        tables.reads += 1;
        let counters = Counters {
            packets: 2,
            bytes: 120,
            opened: 1,
            closed: 0,
            lost: 0,
        };
        let mut signs = Signs {
            opened: 9,
            repeated: 2,
            resets: 1,
            ..Signs::default()
        };
        signs.lives[3..=5].copy_from_slice(&[1, 3, 1]);
        Ok(Stats {
            services: tables
                .services
                .values()
                .map(|service| ServiceStats {
                    vip: service.vip,
                    total: counters,
                    dropped: (1, 60),
                    slots: SlotStates {
                        settled: (service.ring.len() as u64).saturating_sub(4),
                        in_window: 3,
                        exceptions: 1,
                    },
                    table_hits: 1,
                    table_misses: 0,
                    named: 0,
                    named_unknown: 0,
                    reals: service
                        .reals
                        .iter()
                        .map(|real| RealStats {
                            real: *real,
                            counters,
                            signs: Some(signs),
                        })
                        .collect(),
                })
                .collect(),
            interfaces: vec![InterfaceStats {
                name: "eth7".into(),
                decapsulated: 3,
                reasons: Reason::ALL.iter().map(|reason| (*reason, 3)).collect(),
            }],
            flow_table: Default::default(),
        })
    }

    fn flows(&self) -> Result<Vec<RealFlows>, DataplaneError> {
        let tables = self.tables();
        let flows = tables.services.values().flat_map(|service| {
            service.reals.iter().map(|address| RealFlows {
                vip: service.vip,
                real: *address,
                flows: 5,
                exact: service.track == Track::All,
                entries: 2,
                reachable: !tables.unreachable.contains(address),
            })
        });
        Ok(flows.collect())
    }

    fn simulate(
        &mut self,
        interface: Option<&str>,
        frame: &[u8],
    ) -> Result<Simulation, DataplaneError> {
        if let Some(name) = interface.filter(|name| *name != "eth7") {
            return Err(DataplaneError::NoInterface {
                name: name.into(),
                attached: "eth7".into(),
            });
        }
        if !(14..=4_000).contains(&frame.len()) {
            return Err(DataplaneError::FrameLength {
                length: frame.len(),
                min: 14,
                max: 4_000,
            });
        }
        Ok(Simulation {
            verdict: Verdict::Pass,
            reason: Reason::NotIp,
            vip: None,
            real: None,
            chosen_by: ChosenBy::Nothing,
            packet: frame.to_vec(),
            slot: None,
            entry: None,
        })
    }

    fn status(&self) -> Status {
        Status {
            interfaces: vec![InterfaceStatus {
                name: "eth7".into(),
                index: 7,
                attached: true,
                native: true,
                warning: String::new(),
            }],
            ..Default::default()
        }
    }

    fn refresh_next_hops(&mut self) -> Result<bool, DataplaneError> {
        // Tests change the list before they call this.
        Ok(true)
    }

    fn check_links(&mut self) -> Vec<InterfaceStatus> {
        std::mem::take(&mut self.tables().changed_links)
    }

    fn foreign_changes(&self) -> Option<String> {
        self.tables().foreign_changes.clone()
    }

    fn own_reals(&self) -> BTreeSet<IpAddr> {
        let tables = self.tables();
        let reals = tables.services.values().flat_map(|service| &service.reals);
        reals
            .map(|real| real.address)
            .filter(|address| tables.own.contains(address))
            .collect()
    }
}
