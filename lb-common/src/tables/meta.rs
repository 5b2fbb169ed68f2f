//! What a new agent must know about the tables it finds.

/// Version of every record in this folder and of the meaning of each.
///
/// Version 3 numbers forwarding modes apart from address families and gives a real a port. [`super::v2`] has
/// the records of version 2 that differ, and converts them.
pub const LAYOUT_VERSION: u32 = 3;
/// A mark in [`Meta::layout`] beside the version: slots may have exceptions of some classes only
/// ([`super::ring::Classes`]).
///
/// Builds that do not know such slots refuse tables with this mark. A build that does takes the mark away when it ends,
/// after it has given each such slot all classes, or when it migrates the tables.
pub const FILTERS: u32 = 1 << 8;

/// The version in [`Meta::layout`].
#[must_use]
pub const fn version(layout: u32) -> u32 {
    layout & !FILTERS
}

/// "lb-agent": tells our map from that of another program.
pub const MAGIC: u64 = u64::from_le_bytes(*b"lb-agent");

/// The one entry of [`super::names::META`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Meta {
    /// [`MAGIC`].
    pub magic: u64,
    /// [`LAYOUT_VERSION`], and [`FILTERS`].
    pub layout: u32,
    /// Incremented each time the tables are replaced by tables of other sizes.
    pub generation: u32,
    /// Seed of the ring hash.
    pub ring_seed: u64,
    /// The flow table's secret.
    pub flow_secret: [u64; 2],
    /// Id of the database whose VIPs these are; 0 if an earlier build made the tables.
    pub state: u64,
    /// A number that each agent chooses when it starts: another one means that another agent has taken the tables.
    pub session: u64,
    /// Since when only programs that stamp all of [`super::flow::RING_BITS`] have run, in ticks; 0: not known. Earlier
    /// builds do not write it: it holds only if the attached programs use [`super::names::LOOKUPS`].
    pub classes_since: u32,
    /// Zero.
    pub pad: u32,
}

const _: () = assert!(size_of::<Meta>() == 64);
const _: () = assert!(version(LAYOUT_VERSION) == LAYOUT_VERSION);
