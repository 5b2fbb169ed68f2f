//! What an operator can name and set: VIPs, reals and their options, with their forms of text.
//!
//! Pure: the agent, `lbctl` and the other programs share it, and a change here does not rebuild the kernel
//! programs.

pub mod duration;
pub mod options;
pub mod ring;
pub mod vip;
