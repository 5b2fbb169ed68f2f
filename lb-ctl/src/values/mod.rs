//! Values that are typed: durations, flows, packets and weights, read from text.

pub mod duration;
pub mod flow;
pub mod frame;
pub mod hex;
pub mod what_if;
