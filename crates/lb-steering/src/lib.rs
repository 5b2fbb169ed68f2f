//! Health, load and what the operator wants → weights. Pure: state, readings and a clock in, weights out, so
//! that the agent and a simulation run the same code. What the laws are is in `docs/steering.md`.
//!
//! [`Controller::step`] is one VIP's way: [`observed`] → who may have flows at all ([`standing`]) → what
//! they carry ([`traffic`]) → what they can carry ([`capacity`], [`learn`]) → the share they are to have
//! ([`law`], [`steer`]) → how much of that may move now ([`movement`]) → weights for the ring ([`scale`]).

mod capacity;
mod controller;
mod decision;
mod drift;
mod lag;
mod law;
mod learn;
mod life;
mod movement;
mod observed;
mod overload;
mod pool;
pub mod ring;
mod scale;
mod shed;
pub mod spec;
mod standing;
mod steer;
mod traffic;

pub use self::{
    controller::Controller,
    decision::{Decision, Limit},
    observed::{Load, Observed, Order, Sample},
};

#[cfg(test)]
mod tests;
