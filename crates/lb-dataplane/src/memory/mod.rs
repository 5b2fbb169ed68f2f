//! The data plane in memory: the same rules and the same decision without a kernel, for tests and trials.

mod backend;
#[cfg(test)]
mod down_tests;
#[cfg(test)]
mod hop_tests;
#[cfg(test)]
mod katran_tests;
#[cfg(test)]
mod mode_tests;
#[cfg(test)]
mod server_id_tests;
#[cfg(test)]
mod settling_tests;
#[cfg(test)]
mod size_tests;
#[cfg(test)]
mod source_rule_tests;
#[cfg(test)]
mod testbed;

use lb_common::memory::{MemFrame, Processed, run, simulate};
use lb_common::station::pack;
use lb_model::vip::{RealId, VipKey};

#[cfg(test)]
pub(crate) use backend::FLOW_SECRET;
pub(crate) use backend::MemoryBackend;

use crate::{
    dataplane::Dataplane,
    engine::Engine,
    error::DataplaneError,
    options::Options,
    resolver::Resolver,
    service::ServiceSpec,
    simulation::{Simulation, check_frame},
    stats::{RealFlows, Stats},
    status::{InterfaceStatus, Status},
};

/// Name of its one interface.
const INTERFACE: &str = "memory";
/// Index of that interface.
pub(crate) const INTERFACE_INDEX: u32 = 1;

/// A data plane that forwards the frames it is given.
pub struct MemoryDataplane {
    engine: Engine<MemoryBackend>,
}

impl MemoryDataplane {
    /// A data plane with empty tables. The options that concern the kernel (interfaces, pins, mode, log) have
    /// no effect.
    ///
    /// # Errors
    /// [`DataplaneError::System`] as for the kernel's tables; with empty ones it does not occur.
    pub fn new(
        options: &Options,
        resolver: Box<dyn Resolver>,
    ) -> Result<MemoryDataplane, DataplaneError> {
        let backend = MemoryBackend::new(options);
        Ok(MemoryDataplane {
            engine: Engine::new(backend, resolver, options)?,
        })
    }

    /// Forwards a frame. Returns what was done with it, and its bytes afterwards.
    pub fn forward(&mut self, frame: &[u8]) -> (Processed, Vec<u8>) {
        let mut frame = MemFrame::new(frame);
        let outcome = run(self.engine.backend_mut().tables_mut(), &mut frame);
        (outcome, frame.bytes().to_vec())
    }

    /// Gives its interface this MAC address. Until then frames to any station are for it.
    pub fn set_station(&mut self, mac: [u8; 6]) {
        let tables = self.engine.backend_mut().tables_mut();
        tables.state.station.own.store(pack(mac));
    }

    /// The mark of a real's probes. No packet of these tables has one, but it names the real's index.
    #[cfg(test)]
    fn mark_of(&self, vip: &VipKey, real: RealId) -> Option<u32> {
        self.engine.probe_mark(vip, real)
    }

    /// Ends the agent, with or without the chance to give the tables up in the form that any build adopts, and starts
    /// another one on the tables as they are.
    ///
    /// # Errors
    /// As for the kernel's tables; it does not occur.
    pub fn restart(
        self,
        options: &Options,
        resolver: Box<dyn Resolver>,
        killed: bool,
    ) -> Result<MemoryDataplane, DataplaneError> {
        let mut engine = self.engine;
        if !killed {
            engine.give_up_filters();
        }
        Ok(MemoryDataplane {
            engine: Engine::new(engine.into_backend(), resolver, options)?,
        })
    }

    /// Lets time pass, in ticks of 2^[`lb_common::limits::TICK_SHIFT`] ns.
    pub fn pass_time(&mut self, ticks: u32) {
        let now = &mut self.engine.backend_mut().tables_mut().now;
        *now = now.wrapping_add(ticks);
    }
}

impl Dataplane for MemoryDataplane {
    fn set_service(&mut self, spec: &ServiceSpec) -> Result<(), DataplaneError> {
        self.engine.set_service(spec)
    }

    fn shed(&mut self, vip: &VipKey, real: RealId, flows: u32) -> Result<u32, DataplaneError> {
        self.engine.shed(vip, real, flows)
    }

    fn probe_mark(&self, _vip: &VipKey, _real: RealId) -> Option<u32> {
        None
    }

    fn probe_problem(&mut self, _vip: &VipKey) -> Option<String> {
        Some("packets of this host do not pass tables in memory".to_owned())
    }

    fn remove_service(&mut self, vip: &VipKey) -> Result<(), DataplaneError> {
        self.engine.remove_service(vip)
    }

    fn services(&self) -> Vec<VipKey> {
        self.engine.service_names()
    }

    fn tick(&mut self) -> Result<(), DataplaneError> {
        self.engine.tick()
    }

    fn awaits_settling(&self) -> bool {
        self.engine.awaits_settling()
    }

    fn settle_unused(&mut self) -> Result<(), DataplaneError> {
        self.engine.settle_unused()
    }

    fn stats(&self) -> Result<Stats, DataplaneError> {
        self.engine.stats(&[(0, INTERFACE.to_owned())])
    }

    fn flows(&self) -> Result<Vec<RealFlows>, DataplaneError> {
        self.engine.flows()
    }

    fn simulate(
        &mut self,
        interface: Option<&str>,
        frame: &[u8],
    ) -> Result<Simulation, DataplaneError> {
        if let Some(name) = interface.filter(|name| *name != INTERFACE) {
            return Err(DataplaneError::NoInterface {
                name: name.to_owned(),
                attached: INTERFACE.to_owned(),
            });
        }
        check_frame(frame)?;
        let mut frame = MemFrame::new(frame);
        let outcome = simulate(self.engine.backend_mut().tables_mut(), &mut frame);
        let looked_up = self.engine.backend_mut().tables_mut().looked_up();
        let (vip, real) = self.engine.names(outcome.service, u32::from(outcome.real));
        let (slot, entry) = self.engine.reads(outcome.service, &looked_up);
        Ok(Simulation {
            verdict: outcome.verdict,
            reason: outcome.reason,
            vip,
            real,
            chosen_by: outcome.chosen_by,
            packet: frame.bytes().to_vec(),
            slot,
            entry,
        })
    }

    fn status(&self) -> Status {
        let mut status = self.engine.status();
        status.interfaces = vec![InterfaceStatus {
            name: INTERFACE.to_owned(),
            index: INTERFACE_INDEX,
            attached: true,
            native: false,
            warning: String::new(),
        }];
        status
    }

    fn refresh_next_hops(&mut self) -> Result<bool, DataplaneError> {
        self.engine.refresh_next_hops()
    }
}
