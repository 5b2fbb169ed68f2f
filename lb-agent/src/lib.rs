//! The agent: it holds what is wanted, and makes the kernel's tables say so.
//!
//! An order's way: [`intent`] (what is wanted, stored) → [`steer`] (effective weights) → [`ring`] (look-up
//! tables) → [`dataplane`] (one owner of the kernel's tables, in [`control`]). See `docs/architecture.md`.

pub mod api;
pub mod config;
pub mod control;
pub mod dataplane;
pub mod duration;
pub mod health;
pub mod intent;
pub mod load;
pub mod netlink;
pub mod objects;
pub mod observe;
pub mod peer;
pub mod real;
pub mod report;
pub mod ring;
pub mod shedding;
pub mod steer;
pub mod steering;
