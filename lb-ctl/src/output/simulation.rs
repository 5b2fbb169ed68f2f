//! What the program does with a packet, for `simulate`.

use lb_proto::v1;
use serde::Serialize;

use super::Human;
use crate::names;

/// What `simulate` prints for each packet.
#[derive(Debug, PartialEq, Serialize)]
pub struct Simulation {
    /// tx, redirect, pass or drop.
    pub verdict: String,
    /// The reason of the verdict.
    pub reason: String,
    /// The VIP that the packet is for, if any.
    pub vip: Option<String>,
    /// The real that the packet goes to, if any.
    pub real: Option<String>,
    /// ring, flow, new_flow, previous or nothing.
    pub chosen_by: String,
    /// The resulting frame, in hexadecimal digits.
    pub packet: String,
}

impl From<&v1::Simulation> for Simulation {
    fn from(simulation: &v1::Simulation) -> Self {
        Simulation {
            verdict: simulation.verdict.clone(),
            reason: simulation.reason.clone(),
            vip: simulation.vip.as_ref().map(|id| names::vip(Some(id))),
            real: Some(simulation.real.clone()).filter(|real| !real.is_empty()),
            chosen_by: simulation.chosen_by.clone(),
            packet: hex::encode(&simulation.packet),
        }
    }
}

impl Human for Simulation {
    fn human(&self) -> String {
        let mut text = format!("{} ({})", self.verdict, self.reason);
        if let Some(vip) = &self.vip {
            text += &format!(" for {vip}");
        }
        if let Some(real) = &self.real {
            text += &format!(" to {real}, chosen by {}", self.chosen_by);
        }
        format!("{text}\n{}\n", self.packet)
    }
}
