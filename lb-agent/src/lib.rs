//! The agent: it holds what is wanted, and makes the kernel's tables say so.
//!
//! A change's way: [`intent`] (validated, stored) → [`steer`] (effective weights) → `lb_steering::ring` (look-up
//! tables) → `lb_dataplane` (one owner of the kernel's tables, in [`control`]). See `docs/architecture.md`.

pub mod api;
pub mod config;
pub mod control;
pub mod intent;
pub mod metrics;
pub mod observe;
pub mod reporter;
pub mod steer;
