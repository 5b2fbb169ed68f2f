//! The next hop of each real: its route, neighbour and interface, as the kernel has them, followed as they change.
//!
//! A thread listens to the kernel's notifications about links, routes and neighbours. XDP does not use the kernel's
//! neighbour cache, so packets would not keep its entries fresh: stale ones are solicited from time to time.
//!
//! This module knows nothing of the data plane above it: it implements [`crate::resolver::Resolver`], and its errors
//! are those of the system.

pub(crate) mod interface;
pub mod links;
mod neighbour;
mod next_hops;
mod prefixes;
mod route;
pub(crate) mod socket;
pub(crate) mod station;

pub use next_hops::NextHops;
