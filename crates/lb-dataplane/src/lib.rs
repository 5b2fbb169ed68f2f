//! The data plane behind one trait, [`Dataplane`], with two backends: the kernel and memory.
//!
//! Callers describe services ([`ServiceSpec`]) by addresses and a ring of positions in the list of reals.
//! Indices, windows, unsettled slots, next hops and table sizes stay inside this crate.
//!
//! From the top down: [`KernelDataplane`] and [`MemoryDataplane`] wrap the engine, which holds the rules that
//! fill the tables; the engine writes through a `TableBackend` and asks a [`resolver::Resolver`] for next
//! hops, which [`netlink`] implements. `real` sets up the hosts that serve a VIP and is independent of the
//! rest.

mod backend;
mod capture;
mod dataplane;
mod engine;
mod error;
pub mod host;
mod kernel;
mod memory;
pub mod netlink;
pub mod objects;
pub mod options;
pub mod real;
pub mod resolver;
mod service;
mod simulation;
mod stats;
mod status;
mod table_sizes;
mod vip_key;
mod vip_placement;

pub use capture::{CaptureBatch, CaptureFilter, CaptureReader, CapturedPacket};
pub use dataplane::Dataplane;
pub use error::DataplaneError;
pub use kernel::{KernelDataplane, Migration, detach, migrate, pinned_vips};
pub use lb_common::tables::signs::Signs;
pub use memory::MemoryDataplane;
pub use service::{ServerIds, ServiceSpec, Terms, WhenEmpty};
pub use simulation::{EntryRead, Simulation, SlotRead, SlotState};
pub use stats::{
    Counters, FlowTableStats, InterfaceStats, RealFlows, RealStats, ServiceStats, SlotStates, Stats,
};
pub use status::{InterfaceStatus, Status, TableUse};
pub use table_sizes::{DEFAULT_FLOW_ENTRIES, MAX_FLOW_ENTRIES};
