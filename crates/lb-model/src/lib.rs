//! Names and settings of VIPs and reals, with their forms of text.
//!
//! This crate is pure. The agent, `lbctl` and the other programs share it, and a change here does not rebuild the kernel
//! programs. [`mod@settings`] lets an option be declared once; by [`component`], a registry of kinds (probes, load
//! readers, controllers) adds settings of its own.

#![forbid(unsafe_code)]

pub mod check;
pub mod component;
pub mod dns;
pub mod document;
pub mod duration;
pub mod environment;
pub mod flow_limits;
pub mod host;
pub mod intent;
pub mod load;
pub mod network;
pub mod options;
pub mod peer;
pub mod pool;
pub mod project;
pub mod ring;
pub mod scaling;
pub mod server_id;
pub mod settings;
pub mod shedding;
pub mod source_rule;
pub mod steering;
pub mod time_zone;
pub mod vip;

/// For the macros of [`settings`].
#[doc(hidden)]
pub use serde;
