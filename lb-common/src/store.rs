//! How the decision reaches the tables: maps in the kernel, memory in user space.

use crate::{
    flow_table::SharedBucket,
    reason::{ChosenBy, Reason},
    tables::{next_hop::NextHop, real::Real, ring::Slot, service::Service},
    vip_table::{Digest, SharedVip4Bucket, SharedVip6Bucket, VipHash},
    word::Word,
};

/// What the decision has come to, for traces and logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The packet is for this service.
    Service(u32),
    /// It goes to this real.
    Real(u16, ChosenBy),
    /// A packet for this service goes to no real: it is dropped, or answered with a reset.
    Dropped(u32, Reason),
    /// This is what becomes of the frame.
    End(Reason),
}

/// What happened in the flow table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowEvent {
    /// A packet found its entry.
    Hit,
    /// A packet looked and found none.
    Miss,
    /// An entry was made.
    Inserted,
    /// An entry was made, in the place of a live one.
    Evicted,
}

/// The tables and constants of `crate::tables`. Look-ups that find nothing give `None`.
///
/// While [`Tables::simulating`], the counting methods are not called and no bucket is written to.
pub trait Tables {
    /// A bucket of the table of IPv4 VIPs.
    fn vips4(&self, bucket: u32) -> Option<&SharedVip4Bucket>;
    /// A bucket of the table of IPv6 VIPs.
    fn vips6(&self, bucket: u32) -> Option<&SharedVip6Bucket>;
    /// Where VIPs belong in both tables.
    fn vip_hash(&self) -> VipHash;
    /// What stands for an IPv6 address there.
    fn vip_digest(&self) -> Digest;
    /// `Config::flags`.
    fn config_flags(&self) -> u32;
    /// A service.
    fn service(&self, index: u32) -> Option<&Service>;
    /// A slot of the ring table.
    fn slot(&self, index: u32) -> Option<Slot>;
    /// A real.
    fn real(&self, index: u16) -> Option<&Real>;
    /// How many flows of a real are still to be ended; see [`crate::tables::real::Budget`].
    fn budget(&self, real: u16) -> Option<&Word>;
    /// A next hop.
    fn next_hop(&self, index: u32) -> Option<&NextHop>;
    /// A bucket of the flow table.
    fn bucket(&self, index: u32) -> Option<&SharedBucket>;
    /// The clock, in ticks of 2^`TICK_SHIFT` ns.
    fn now(&self) -> u32;

    /// Counts a forwarded packet.
    fn count_real(&self, index: u16, bytes: u32, opened: bool, closed: bool);
    /// Counts a flow that was ended because its real is to have fewer: as closed.
    fn count_ended(&self, real: u16);
    /// Counts a service's dropped packet.
    fn count_dropped(&self, service: u32, bytes: u32);
    /// Counts a frame.
    fn count_reason(&self, reason: Reason);
    /// Counts what happened in the flow table.
    fn count_flow(&self, event: FlowEvent);

    /// Told as the decision proceeds; a simulating home writes its trace here.
    fn note(&self, step: Step);

    /// Seed of the ring hash.
    fn ring_seed(&self) -> u64;
    /// The flow table's secret.
    fn flow_secret(&self) -> [u64; 2];
    /// Buckets of the flow table, less one.
    fn flow_mask(&self) -> u32;
    /// Index of the interface the frame came in.
    fn interface_index(&self) -> u32;
    /// Whether nothing may be changed but the frame.
    fn simulating(&self) -> bool;
}
