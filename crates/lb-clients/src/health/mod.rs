//! Is a real alive? Probes ask it, and what they find makes its state.
//!
//! [`spec`] says what is asked; [`probe`] asks once, bounded in time and memory, and tells an [`Outcome`];
//! [`state`] makes outcomes a state, purely; [`runner`] is the task that does this for one real of one VIP
//! and reports.

mod outcome;
pub mod probe;
pub mod runner;
pub mod spec;
pub mod state;

pub use outcome::{Outcome, Verdict};
