//! Turns what clients demand of a pool, and what steering has learned of its instances, into a number of instances.
//! Everything here is pure, so that the controller and the simulation run the same code. `docs/scaling.md` describes the
//! law.
//!
//! [`scale()`] handles one pool. Its parts:
//!
//! - `readings`, `state`: what is known now, and what is remembered.
//! - `rate`, `highest`: what arrives, second by second; the highest need of a window.
//! - `policies`: what asks for instances, one file each.
//! - `law`: a step, from the policies' opinions to the decision; `growth`: what is taken back, resumed and started;
//!   `reduction`: what is drained, and what keeps a pool from shrinking.
//! - `victim`: which instances go first.
//! - `decision`: the result with its reasons.
//! - `relaunch`: dead instances, from a budget of their own.
//! - `drain`: how a drained instance ends.

mod decision;
mod drain;
mod growth;
mod highest;
mod law;
mod policies;
mod rate;
mod readings;
mod reduction;
mod relaunch;
mod state;
mod victim;

pub use lb_model::scaling::{Scaling, ScalingPolicy};

pub use self::{
    decision::{Alarm, Ask, AskFigures, DecidedBy, Limit, ScalingDecision, Why},
    drain::{Drain, DrainStep},
    law::scale,
    policies::{MissingData, Unit},
    readings::{Clock, InstanceReadings, Offered, Phase, PoolReadings},
    relaunch::{
        Backoff, Patient, RelaunchPlan, RelaunchState, Vitality, is_mass_failure, relaunch,
        relaunch_budget,
    },
    state::ScalingState,
};

#[cfg(test)]
mod tests;
