//! Simulates how pools scale, with the law of the controller and the steering of the agent, beside the laws of others:
//! `cargo xtask bench scaling`. `docs/scaling.md` explains the figures.
//!
//! - [`trace`]: what clients demand, and when readings are lost.
//! - [`laws`]: the law under test, and those that it is compared with.
//! - `pool`: instances that start, serve, are drained and stop.
//! - [`play`]: plays a trace under a law, second by second.
//! - [`brokers`]: connections that live for hours, with shedding.
//! - [`report`]: all of it, as tables.
//!
//! # Model
//! A fluid: in each second, demand with normal noise is split over the instances that serve, by the weights that the
//! agent's steering decides from readings; what is more than an instance carries is lost, and nothing waits. An instance is
//! ordered, serves after the start-up time (steering lets it in slowly, unless the others are busy), is drained for
//! [`pool::DRAIN`] without new flows, and stops. All laws have the same steering in front of their pool.

pub mod brokers;
pub mod laws;
pub mod play;
pub mod pool;
pub mod report;
pub mod trace;

#[cfg(test)]
mod tests;
