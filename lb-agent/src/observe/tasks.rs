//! The tasks that ask: one for each real's probe, one for each of its sources of load.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
};

use tokio::sync::{Semaphore, mpsc};

use crate::{
    health::{
        self,
        runner::{Order, Runner},
        state::Health,
    },
    intent::{RealSpec, Vip},
    load::{self, reading::Subject, spec::Source},
};

/// Marks of the sockets that reach reals through the tunnel.
pub(super) type Marks = HashMap<IpAddr, u32>;

/// What all tasks need.
pub(super) struct Tasks {
    probes: mpsc::Sender<health::runner::Report>,
    loads: mpsc::Sender<load::reading::Report>,
    slots: Arc<Semaphore>,
}

impl Tasks {
    pub(super) fn new(
        probes: mpsc::Sender<health::runner::Report>,
        loads: mpsc::Sender<load::reading::Report>,
    ) -> Self {
        let slots = health::runner::slots().unwrap_or_else(|error| {
            tracing::warn!(
                "how many files may be open is not known: {error}; one probe runs at a time"
            );
            Arc::new(Semaphore::new(1))
        });
        Tasks {
            probes,
            loads,
            slots,
        }
    }
}

/// The tasks of one real. Dropping it ends them.
#[derive(Default)]
pub(super) struct RealTasks {
    probe: Option<Runner>,
    readers: BTreeMap<String, (Source, load::reader::Handle)>,
}

impl RealTasks {
    /// Starts, changes and ends tasks so that they are as the VIP and the real say.
    pub(super) fn update(
        &mut self,
        vip: &Vip,
        address: IpAddr,
        real: &RealSpec,
        mark: Option<u32>,
        health: impl FnOnce() -> Health,
        tasks: &Tasks,
    ) {
        self.update_probe(vip, address, real, mark, health, tasks);
        self.update_readers(vip, address, real, tasks);
    }

    fn update_probe(
        &mut self,
        vip: &Vip,
        address: IpAddr,
        real: &RealSpec,
        mark: Option<u32>,
        health: impl FnOnce() -> Health,
        tasks: &Tasks,
    ) {
        let Some(check) = vip.spec.check.as_ref().filter(|_| !real.check.disabled) else {
            self.probe = None;
            return;
        };
        if mark.is_none() && super::watch::is_tunnelled(vip, real) {
            tracing::warn!(
                "VIP {}, real {address}: packets of this host cannot be sent as clients' are, so it is not \
                 probed; set via=direct in its check",
                vip.address
            );
            self.probe = None;
            return;
        }
        let order = Order {
            target: real
                .check
                .target(check, &vip.address, address, mark.unwrap_or_default()),
            check: check.clone(),
        };
        match &self.probe {
            Some(probe) => probe.replace(order),
            None => {
                self.probe = Some(Runner::start(
                    vip.address,
                    address,
                    order,
                    health(),
                    Arc::clone(&tasks.slots),
                    tasks.probes.clone(),
                ));
            }
        }
    }

    fn update_readers(&mut self, vip: &Vip, address: IpAddr, real: &RealSpec, tasks: &Tasks) {
        let wanted: BTreeMap<String, Source> = sources(vip, real)
            .map(|source| (source.name.clone(), source))
            .collect();
        self.readers
            .retain(|name, (source, _)| wanted.get(name) == Some(source));
        for (name, source) in wanted {
            self.readers.entry(name).or_insert_with(|| {
                let subject = Subject {
                    vip: vip.address,
                    real: address,
                };
                let handle = load::reader::start(&source, subject, tasks.loads.clone());
                (source, handle)
            });
        }
    }

    /// Tells the readers how many flows the real has taken in all.
    pub(super) fn observe_opened(&self, flows: u64) {
        for (_, handle) in self.readers.values() {
            handle.observe_opened(flows);
        }
    }
}

/// The sources of a real's load, with what is different for it.
pub(super) fn sources<'a>(vip: &'a Vip, real: &'a RealSpec) -> impl Iterator<Item = Source> + 'a {
    vip.spec.load.iter().filter_map(|source| {
        match real.load.iter().find(|change| change.name == source.name) {
            // What cannot be was refused when it was asked for; a source that changed since is as the VIP says.
            Some(change) => change
                .apply(source)
                .unwrap_or_else(|_| Some(source.clone())),
            None => Some(source.clone()),
        }
    })
}
