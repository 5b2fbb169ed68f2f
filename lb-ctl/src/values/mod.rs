//! Values of the command line: durations, flows, packets, settings and weights.

pub mod duration;
pub mod flow;
pub mod frame;
pub mod hex;
pub mod setting;
pub mod what_if;
