//! The agent: it holds what is wanted, and makes the kernel's tables say so.
//!
//! An order's way: [`intent`] (what is wanted, stored) → [`steer`] (effective weights) → [`ring`] (look-up
//! tables) → [`dataplane`] (one owner of the kernel's tables, in [`control`]). See `docs/architecture.md`.

pub mod api;
pub mod config;
pub mod control;
pub mod dataplane;
pub mod intent;
pub mod netlink;
pub mod objects;
pub mod real;
pub mod ring;
pub mod steer;
