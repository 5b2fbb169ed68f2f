//! The agent: it keeps the intent, and brings the kernel's tables in line with it.
//!
//! A change's way: `lb_model::intent` (validated), [`store`] (stored), [`weights`] (effective weights),
//! `lb_steering::ring` (look-up tables), `lb_dataplane` (one owner of the kernel's tables, in [`control`]). See
//! `docs/architecture.md`.

pub mod api;
pub mod config;
pub mod control;
pub mod doctor;
pub mod hangup;
pub mod host;
pub mod metrics;
pub mod reference;
pub mod reload;
pub mod reporter;
pub mod store;
pub mod supervisor;
pub mod weights;

pub use lb_clients::KINDS;
