//! What is typed: durations, flows, packets and weights, read from text.

pub mod check;
pub mod duration;
pub mod flow;
pub mod frame;
pub mod hex;
pub mod load_source;
pub mod overrides;
pub mod shed_by;
pub mod steering;
pub mod tls;
pub mod weight;
pub mod what_if;
pub mod words;
