//! The tasks of a real: its probe, a reader for each of its sources of load, and its shedder.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use tokio::sync::{Semaphore, mpsc};

use lb_clients::{
    health::{
        self, probe_target,
        runner::{FirstProbe, ProbeConfig, Runner},
        state::Health,
    },
    load::{self, reading::Subject},
    shedding::{ShedRequest, Shedder},
};
use lb_model::vip::RealId;
use lb_model::{
    check::Via,
    intent::{RealSpec, Vip},
    load::LoadSource,
};

/// Marks of the sockets that reach reals through the tunnel.
pub(super) type Marks = HashMap<RealId, u32>;

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

/// The real that tasks work for.
pub(super) struct RealContext<'a> {
    pub(super) vip: &'a Vip,
    pub(super) address: RealId,
    pub(super) real: &'a RealSpec,
    /// Mark of sockets that reach it through the tunnel; `None` if no socket does.
    pub(super) mark: Option<u32>,
}

impl RealTasks {
    /// Starts and ends readers so that there is one for each of these sources.
    pub(super) fn read(
        &mut self,
        context: &RealContext<'_>,
        sources: Vec<LoadSource>,
        tasks: &Tasks,
    ) {
        let wanted: BTreeMap<String, LoadSource> = sources
            .into_iter()
            .map(|source| (source.name().to_owned(), source))
            .collect();
        self.readers
            .retain(|name, (source, _)| wanted.get(name) == Some(source));
        for (name, source) in wanted {
            self.readers.entry(name).or_insert_with(|| {
                let subject = Subject {
                    vip: context.vip.address,
                    real: context.address,
                };
                let handle = load::reader::start(&source, subject, tasks.loads.clone());
                (source, handle)
            });
        }
    }

    /// Starts, changes or ends the probe by the settings of the VIP and the real. A probe that starts continues from
    /// `health`.
    pub(super) fn probe(
        &mut self,
        context: &RealContext<'_>,
        health: Health,
        first: FirstProbe,
        tasks: &Tasks,
    ) {
        let RealContext {
            vip,
            address,
            real,
            mark,
        } = *context;
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
        let config = ProbeConfig {
            target: probe_target(
                check,
                &real.check,
                &vip.address,
                (address, vip.mode_of(real)),
                mark.unwrap_or_default(),
            ),
            check: check.clone(),
        };
        match &self.probe {
            Some(probe) => probe.replace(config),
            None => {
                self.probe = Some(Runner::start(
                    vip.address,
                    address,
                    config,
                    health,
                    first,
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

    /// Drops the tasks that have ended by themselves, so that they are started again, and names them.
    pub(super) fn drop_ended(&mut self) -> Vec<String> {
        let mut ended = Vec::new();
        if self.probe.as_ref().is_some_and(Runner::has_ended) {
            self.probe = None;
            ended.push("its probe".to_owned());
        }
        self.readers.retain(|name, (_, reader)| {
            let has_ended = reader.has_ended();
            if has_ended {
                ended.push(format!("its load reader {name}"));
            }
            !has_ended
        });
        if self.shedder.as_ref().is_some_and(Shedder::has_ended) {
            self.shedder = None;
            ended.push("its shedder".to_owned());
        }
        ended
    }

    /// Sheds connections by the VIP's settings from now on.
    pub(super) fn shed_by(&mut self, context: &RealContext<'_>) {
        let settings = &context.vip.spec.shed;
        let is_same = |shedder: &Shedder| shedder.is(settings);
        if !self.shedder.as_ref().is_some_and(is_same) {
            self.shedder = Shedder::start(settings, context.vip.address, context.address);
        }
    }

    /// Passes on a request to end connections. Returns whether a server ends them; otherwise the data plane is to.
    pub(super) fn shed(&self, request: ShedRequest) -> bool {
        self.shedder
            .as_ref()
            .is_some_and(|shedder| shedder.shed(request))
    }

    /// Tells the readers how many flows the real has taken in all.
    pub(super) fn observe_opened(&self, flows: u64) {
        for (_, handle) in self.readers.values() {
            handle.observe_opened(flows);
        }
    }
}

/// Whether a real is probed through the tunnel.
pub(super) fn is_tunnelled(vip: &Vip, real: &RealSpec) -> bool {
    let tunnelled =
        |check| !real.check.disabled && real.check.via(check, vip.mode_of(real)) == Via::Tunnel;
    vip.spec.check.as_ref().is_some_and(tunnelled)
}
