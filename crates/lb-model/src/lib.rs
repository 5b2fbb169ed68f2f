//! What an operator can name and set: VIPs, reals and their options, with their forms of text.
//!
//! Pure: the agent, `lbctl` and the other programs share it, and a change here does not rebuild the kernel
//! programs. [`mod@settings`] is the machinery by which an option stands once; [`component`] is how a registry of
//! kinds (probes, load readers, controllers) plugs its own settings in.

#![forbid(unsafe_code)]

pub mod check;
pub mod component;
pub mod duration;
pub mod intent;
pub mod load;
pub mod options;
pub mod peer;
pub mod ring;
pub mod settings;
pub mod shedding;
pub mod steering;
pub mod vip;

/// For the macros of [`settings`].
#[doc(hidden)]
pub use serde;
