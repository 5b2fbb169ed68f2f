//! The data plane in the kernel.

mod adopt;
mod attach;
mod attachments;
mod backend;
mod bpf;
mod capture;
mod claim;
mod growth;
mod guard;
mod interfaces;
mod layout;
mod loader;
mod mapped;
mod migration;
mod pinned_tables;
mod pins;
mod probes;
mod start;
mod station;
mod tables;
mod test_run;
mod veth;
mod vips;

use std::{collections::BTreeSet, fs::File, net::IpAddr, path::Path};

use aya_log::EbpfLogger;
use lb_model::vip::{RealId, VipKey};

pub(crate) use attach::Attached;
pub use claim::pinned_vips;
pub(crate) use interfaces::{Interface, Presence};
pub use migration::{Migration, migrate};

use self::{attachments::Attachments, backend::KernelBackend, pins::Pins, station::Stations};
use crate::{
    backend::TableBackend as _,
    capture::{CaptureFilter, CaptureReader},
    dataplane::Dataplane,
    engine::Engine,
    error::DataplaneError,
    options::Options,
    resolver::Resolver,
    service::ServiceSpec,
    simulation::Simulation,
    stats::{RealFlows, Stats},
    status::{InterfaceStatus, Status},
};

/// The kernel's tables and programs, and the rules that fill them.
pub struct KernelDataplane {
    engine: Engine<KernelBackend>,
    adopted: bool,
    stations: Stations,
    log: Option<EbpfLogger<&'static dyn log::Log>>,
    /// Keeps other agents and migrations away from the pins.
    lock: File,
    /// What is wrong with the pins, as was last seen.
    pins_problem: Option<String>,
    /// This agent's number in the tables.
    session: u64,
    /// What others have changed in the tables, as was last seen.
    foreign_changes: Option<String>,
}

impl KernelDataplane {
    /// Adopts what an earlier agent left in the folder of pins, or begins with empty tables, and attaches
    /// to the interfaces. Packets of an adopted data plane flow meanwhile.
    ///
    /// # Errors
    /// [`DataplaneError::System`], in words for an operator.
    pub fn start(
        options: &Options,
        resolver: Box<dyn Resolver>,
    ) -> Result<KernelDataplane, DataplaneError> {
        start::start(options, resolver)
    }

    /// Looks whether somebody else has changed the tables, which belong to this agent alone.
    fn find_foreign_changes(&self) -> Result<Option<String>, DataplaneError> {
        let backend = self.engine.backend();
        let folder = backend.attachments().maps();
        if backend.meta().session != self.session {
            return Ok(Some(format!(
                "another agent has taken the tables in {}: what both write contradicts; end one of the two, and start the \
                 other again",
                folder.display()
            )));
        }
        let changed = self.engine.unexpected_keys()?;
        Ok(changed.map(|change| {
            format!(
                "somebody else has changed the tables in {}: {change}; start the agent again, which repairs them",
                folder.display()
            )
        }))
    }

    fn attachments(&self) -> &Attachments {
        self.engine.backend().attachments()
    }
}

/// The tables stay as any build that uses their layout may adopt them.
impl Drop for KernelDataplane {
    fn drop(&mut self) {
        // Another agent may have taken the tables.
        if self.engine.backend().meta().session == self.session {
            if let Err(error) = capture::stop(self.engine.backend_mut()) {
                tracing::warn!("ending a capture: {error}; the next agent ends it");
            }
            self.engine.give_up_filters();
        }
    }
}

/// Ends forwarding: removes every link, program and table pinned in the folder. Returns the interfaces
/// that were attached; the list is empty if nothing was pinned. An agent that runs on the folder keeps it from that, unless
/// it is forced; then the agent attaches again.
///
/// # Errors
/// [`DataplaneError::System`] if an agent runs, or a pin cannot be removed.
pub fn detach(pins: &Path, force: bool) -> Result<Vec<String>, DataplaneError> {
    let pins = Pins::new(pins);
    // A running agent would attach again within a second.
    let _lock = match pins.root().exists() {
        true if !force => Some(pins.lock()?),
        _ => None,
    };
    let interfaces = pins.linked()?;
    pins.remove()?;
    Ok(interfaces)
}

impl Dataplane for KernelDataplane {
    fn set_service(&mut self, spec: &ServiceSpec) -> Result<(), DataplaneError> {
        self.engine.set_service(spec)
    }

    fn shed(&mut self, vip: &VipKey, real: RealId, flows: u32) -> Result<u32, DataplaneError> {
        self.engine.shed(vip, real, flows)
    }

    fn probe_mark(&self, vip: &VipKey, real: RealId) -> Option<u32> {
        let works = self.attachments().probes.warning.is_empty();
        works.then(|| self.engine.probe_mark(vip, real)).flatten()
    }

    fn probe_problem(&mut self, vip: &VipKey) -> Option<String> {
        let attachments = self.attachments();
        if !attachments.probes.warning.is_empty() {
            return Some(attachments.probes.warning.clone());
        }
        let attached = attachments.interfaces.iter().filter(|at| at.is_attached());
        let interfaces: Vec<u32> = attached.map(Interface::index).collect();
        self.engine.probe_problem(vip, &interfaces)
    }

    fn remove_service(&mut self, vip: &VipKey) -> Result<(), DataplaneError> {
        self.engine.remove_service(vip)
    }

    fn services(&self) -> Vec<VipKey> {
        self.engine.service_names()
    }

    fn tick(&mut self) -> Result<(), DataplaneError> {
        if let Some(log) = &mut self.log {
            log.flush();
        }
        self.foreign_changes = self.find_foreign_changes()?;
        self.engine.tick()
    }

    fn awaits_settling(&self) -> bool {
        self.engine.awaits_settling()
    }

    fn settle_unused(&mut self) -> Result<(), DataplaneError> {
        self.engine.settle_unused()
    }

    fn stats(&self) -> Result<Stats, DataplaneError> {
        let interfaces = self.attachments().interfaces.iter();
        let interfaces: Vec<_> = interfaces.map(|at| (at.slot, at.name.clone())).collect();
        self.engine.stats(&interfaces)
    }

    fn flows(&self) -> Result<Vec<RealFlows>, DataplaneError> {
        self.engine.flows()
    }

    fn simulate(
        &mut self,
        interface: Option<&str>,
        frame: &[u8],
    ) -> Result<Simulation, DataplaneError> {
        let index = self.attachments().serving(interface)?;
        let run = test_run::run(self.engine.backend_mut(), index, frame)?;
        let (vip, real) = self.engine.names(run.service, run.real);
        let (slot, entry) = self.engine.reads(run.service, &run.looked_up);
        Ok(Simulation {
            verdict: run.verdict,
            reason: run.reason,
            vip,
            real,
            chosen_by: run.chosen_by,
            packet: run.packet,
            slot,
            entry,
        })
    }

    fn start_capture(
        &mut self,
        filter: &CaptureFilter,
    ) -> Result<Box<dyn CaptureReader>, DataplaneError> {
        let (service, reals) = self.engine.indices(filter.vip.as_ref(), &filter.reals);
        let filter = capture::KernelFilter {
            service,
            reals,
            reasons: filter.reasons.clone(),
        };
        capture::start(self.engine.backend_mut(), &filter)
    }

    fn stop_capture(&mut self) -> Result<(), DataplaneError> {
        capture::stop(self.engine.backend_mut())
    }

    fn capture_names(&self, (service, real): (u32, u32)) -> (Option<VipKey>, Option<RealId>) {
        self.engine.names(service, real)
    }

    fn status(&self) -> Status {
        let mut status = self.engine.status();
        let attachments = self.attachments();
        status.interfaces = attachments.status();
        let probes = Some(&attachments.probes.warning).filter(|warning| !warning.is_empty());
        status.warnings.extend(probes.cloned());
        let pins = self.pins_problem.as_ref();
        status.warnings.extend(pins.map(|problem| {
            format!("the pins are not complete, so the next agent could not go on: {problem}")
        }));
        status.warnings.extend(self.foreign_changes.clone());
        status.adopted = self.adopted;
        status
    }

    fn foreign_changes(&self) -> Option<String> {
        self.foreign_changes.clone()
    }

    fn own_reals(&self) -> BTreeSet<IpAddr> {
        self.engine.own_reals()
    }

    fn refresh_next_hops(&mut self) -> Result<bool, DataplaneError> {
        let attachments = self.engine.backend().attachments();
        self.stations
            .refresh(&attachments.pins, &attachments.interfaces);
        self.engine.refresh_next_hops()
    }

    fn check_links(&mut self) -> Vec<InterfaceStatus> {
        guard::check(self)
    }
}
