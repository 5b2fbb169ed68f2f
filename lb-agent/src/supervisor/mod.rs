//! The supervisor: health probes and load readers of every VIP that has any, and the steering that turns their results
//! into weights.
//!
//! One task (`run`) receives changes of the intent and the reports of probes and readers. It steps the steering of a
//! VIP ([`lb_steering`]) once a period, and at once when health changes, and passes the weights to the owner
//! ([`crate::control`]). It never waits for a peer: each probe and each reader is a task of its own.

mod figures;
mod own_trouble;
mod real_readings;
mod run;
mod shed_pace;
mod snapshot;
mod tasks;
mod vip_supervisor;

pub use figures::{AllFigures, ProbeCounts, ReaderFigures, RealFigures, VipFigures};
pub use run::{Handle, start};
pub use snapshot::{ProbeSnapshot, ReadingSnapshot, RealSnapshot, RealSnapshots};
