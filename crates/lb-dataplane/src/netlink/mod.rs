//! The way to each real: route, neighbour and interface, as the kernel has them, kept true as they change.
//!
//! A thread listens to the kernel's news of links, routes and neighbours. XDP sends past the kernel's own
//! neighbour cache, so nothing there would keep the entries fresh: stale ones are asked for now and then.

pub mod hops;
pub(crate) mod interface;
pub(crate) mod neighbour;
pub(crate) mod route;
pub(crate) mod socket;

pub use hops::NextHops;
