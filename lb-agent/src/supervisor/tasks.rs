//! The tasks that ask: one for each real's probe, one for each of its sources of load.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
};

use tokio::sync::{Semaphore, mpsc};

use lb_model::intent::{RealSpec, Vip};
use lb_clients::health::{
    self,
    runner::{Order, Runner},
    spec::Via,
    state::Health,
};
use lb_clients::load::{self, reading::Subject};
use lb_clients::shedding::{self, Shedder};
use lb_model::load::LoadSource;

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
    readers: BTreeMap<String, (LoadSource, load::reader::Handle)>,
    shedder: Option<Shedder>,
}

/// Whom tasks ask, and how.
pub(super) struct Asked<'a> {
    pub(super) vip: &'a Vip,
    pub(super) address: IpAddr,
    pub(super) real: &'a RealSpec,
    /// Of sockets that reach it through the tunnel; none: nothing does.
    pub(super) mark: Option<u32>,
}

impl RealTasks {
    /// Starts and ends readers so that there is one for each of these sources.
    pub(super) fn read(&mut self, asked: &Asked<'_>, sources: Vec<LoadSource>, tasks: &Tasks) {
        let wanted: BTreeMap<String, LoadSource> = sources
            .into_iter()
            .map(|source| (source.name().to_owned(), source))
            .collect();
        self.readers
            .retain(|name, (source, _)| wanted.get(name) == Some(source));
        for (name, source) in wanted {
            self.readers.entry(name).or_insert_with(|| {
                let subject = Subject {
                    vip: asked.vip.address,
                    real: asked.address,
                };
                let handle = load::reader::start(&source, subject, tasks.loads.clone());
                (source, handle)
            });
        }
    }

    /// Starts, changes or ends the probe so that it is as the VIP and the real say; one that starts takes
    /// `health` for what is known.
    pub(super) fn probe(&mut self, asked: &Asked<'_>, health: Health, tasks: &Tasks) {
        let Asked {
            vip,
            address,
            real,
            mark,
        } = *asked;
        let Some(check) = vip.spec.check.as_ref().filter(|_| !real.check.disabled) else {
            self.probe = None;
            return;
        };
        if mark.is_none() && is_tunnelled(vip, real) {
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
                    health,
                    Arc::clone(&tasks.slots),
                    tasks.probes.clone(),
                ));
            }
        }
    }

    /// Whether it is probed now.
    pub(super) fn is_probed(&self) -> bool {
        self.probe.is_some()
    }

    /// Connections are shed like this.
    pub(super) fn shed_by(&mut self, asked: &Asked<'_>) {
        let by = &asked.vip.spec.shed;
        if !self.shedder.as_ref().is_some_and(|shedder| shedder.is(by)) {
            self.shedder = Shedder::start(by, asked.vip.address, asked.address);
        }
    }

    /// Has so many connections ended by whoever is asked to; false: the data plane is to.
    pub(super) fn shed(&self, order: shedding::Order) -> bool {
        self.shedder
            .as_ref()
            .is_some_and(|shedder| shedder.order(order))
    }

    /// Tells the readers how many flows the real has taken in all.
    pub(super) fn observe_opened(&self, flows: u64) {
        for (_, handle) in self.readers.values() {
            handle.observe_opened(flows);
        }
    }
}

/// The sources of a real's load, with what is different for it.
pub(super) fn sources(vip: &Vip, real: &RealSpec) -> Vec<LoadSource> {
    let of = |source: &LoadSource| {
        match real.load.iter().find(|change| change.name == source.name()) {
            // What cannot be was refused when it was asked for; a source that changed since is as the VIP says.
            Some(change) => load::reader::apply_override(source, change)
                .unwrap_or_else(|_| Some(source.clone())),
            None => Some(source.clone()),
        }
    };
    vip.spec.load.iter().filter_map(of).collect()
}

/// Whether a real is probed through the tunnel.
pub(super) fn is_tunnelled(vip: &Vip, real: &RealSpec) -> bool {
    let tunnelled = |check| !real.check.disabled && real.check.via(check) == Via::Tunnel;
    vip.spec.check.as_ref().is_some_and(tunnelled)
}
