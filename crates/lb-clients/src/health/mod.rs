//! Is a real alive? Probes ask it, and their outcomes make its state.
//!
//! [`lb_model::check::Check`] says how a VIP's reals are probed. [`probe`] probes once, bounded in time and memory, and
//! yields an [`Outcome`]; [`state`] makes a state of outcomes, purely; [`runner`] is the task that does this for one
//! real of one VIP and reports.

pub mod capacity;
mod outcome;
pub mod probe;
pub mod runner;
pub mod state;
mod target;

pub use outcome::{Outcome, Verdict};
pub use target::probe_target;
