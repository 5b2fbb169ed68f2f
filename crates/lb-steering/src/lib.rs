//! Turns health, load and the operator's weights into the weights of a VIP's reals. Everything here is pure:
//! observations and a clock go in, weights come out, so the agent and the simulation run the same code.
//! `docs/steering/law.md` describes the law.
//!
//! [`VipSteering::step`] handles one VIP. Its stages, in order:
//!
//! 1. `eligibility`: which reals may have new flows at all.
//! 2. `traffic`, `life`: what each real carries, and how long connections live.
//! 3. `comparing`, `learning`, `estimate`: whether readings are to be believed, what each real can carry, and which reals are overloaded.
//! 4. `allocation`: the share of new flows each real gets, by the VIP's `controllers` entry.
//! 5. `movement`: how much of the ring may move towards those shares in this period.
//! 6. `weight_scale`: integer weights for the ring.
//!
//! [`scaling`] decides how many instances a pool has, from what steering has learned of them; [`score`] and [`life_cycle`]
//! are how an instance is shown.

#![forbid(unsafe_code)]

mod allocation;
mod caution;
mod comparing;
mod controllers;
mod decision;
mod drift;
mod eligibility;
mod estimate;
mod lag;
mod learning;
mod life;
pub mod life_cycle;
mod loan;
mod movement;
mod observation;
mod overload;
mod pool;
mod rebalancing;
pub mod ring;
mod room;
mod safety;
pub mod scaling;
pub mod score;
mod shares;
mod shedding;
mod sources;
mod storm;
mod traffic;
mod trust;
mod verdict;
mod vip_steering;
mod weight_scale;

pub use lb_model::steering::Steering;

pub use self::{
    controllers::REGISTRY,
    decision::{Decision, LimitedBy},
    observation::{AgentCommand, LIFE_BUCKETS, Load, Observation, Sample, Signs, SourceReading},
    verdict::{Doubt, Fallback, Safety, Sign, Trust},
    vip_steering::VipSteering,
};

#[cfg(test)]
mod tests;
