//! What a new agent must know about the tables it finds.

/// Version of every record in this folder and of the meaning of each.
///
/// Version 3 numbers forwarding modes apart from address families and gives a real a port. [`super::v2`] has
/// the records of version 2 that differ, and converts them.
pub const LAYOUT_VERSION: u32 = 3;
/// "lb-agent": tells our map from that of another program.
pub const MAGIC: u64 = u64::from_le_bytes(*b"lb-agent");

/// The one entry of [`super::names::META`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Meta {
    /// [`MAGIC`].
    pub magic: u64,
    /// [`LAYOUT_VERSION`].
    pub layout: u32,
    /// Incremented each time the tables are replaced by tables of other sizes.
    pub generation: u32,
    /// Seed of the ring hash.
    pub ring_seed: u64,
    /// The flow table's secret.
    pub flow_secret: [u64; 2],
    /// Id of the database whose VIPs these are; 0 if an earlier build made the tables.
    pub state: u64,
    /// A number that each agent chooses anew when it starts: another one means that another agent has taken the tables.
    pub session: u64,
}

const _: () = assert!(size_of::<Meta>() == 64);
