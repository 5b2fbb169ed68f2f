//! What would happen to a frame.

use lb_dataplane::Simulation;
use lb_proto::v1;
use tonic::Status;

use super::{Api, convert, error::unread, stats::verdict};

impl Api {
    pub(super) async fn simulation(
        &self,
        request: v1::SimulateRequest,
    ) -> Result<v1::Simulation, Status> {
        Ok(message(&self.simulated(request).await?))
    }

    /// What would happen to the frame of a request.
    pub(super) async fn simulated(
        &self,
        request: v1::SimulateRequest,
    ) -> Result<Simulation, Status> {
        let interface = (!request.interface.is_empty()).then_some(request.interface);
        self.control
            .simulate(interface, request.packet)
            .await
            .map_err(unread)
    }
}

/// A simulation, as messages have it.
pub(super) fn message(simulation: &Simulation) -> v1::Simulation {
    v1::Simulation {
        verdict: verdict(simulation.verdict).to_owned(),
        reason: simulation.reason.name().to_owned(),
        vip: simulation.vip.as_ref().map(convert::vip_id),
        real: simulation
            .real
            .map(|real| real.to_string())
            .unwrap_or_default(),
        chosen_by: simulation.chosen_by.name().to_owned(),
        packet: simulation.packet.clone(),
    }
}
