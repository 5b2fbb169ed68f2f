//! How the decision reaches the tables: maps in the kernel, memory in user space.
//!
//! All that the decision changes besides the frame is changed by a method of [`Tables`]: so a backend whose
//! methods do nothing simulates ([`crate::simulated`]).

use crate::{
    flow_table::{self, Newcomer, SharedBucket, SharedFlow},
    reason::{ChosenBy, Reason},
    shared::SharedU64,
    signs::{self, FlowChange},
    station::Station,
    tables::{
        next_hop::NextHop,
        real::Real,
        ring::Slot,
        service::Service,
        signs::{SharedSample, SharedSigns},
    },
    vip_table::{AddressDigest, SharedVip4Bucket, SharedVip6Bucket, VipHash},
};

/// A step of the decision, for logs and traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The packet is for this service.
    Service(u32),
    /// It goes to this real.
    Real(u16, ChosenBy),
    /// A packet for this service goes to no real: it is dropped, or answered with a reset.
    Dropped(u32, Reason),
    /// The frame leaves the decision for this reason.
    End(Reason),
}

/// An event of the flow table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowEvent {
    /// A packet found its entry.
    Hit,
    /// A packet looked and found none.
    Miss,
    /// An entry was made.
    Inserted,
    /// An entry was made in place of a live, provisional one.
    Evicted {
        /// Whether the evicted entry was one of a flow that opened, not of a running one.
        opening: bool,
    },
    /// A flow got no entry: all that it might have had are confirmed.
    Refused,
}

/// The tables and constants of `crate::tables`. Look-ups return `None` if there is no such entry.
pub trait Tables {
    /// A bucket of the table of IPv4 VIPs.
    fn vips4(&self, bucket: u32) -> Option<&SharedVip4Bucket>;
    /// A bucket of the table of IPv6 VIPs.
    fn vips6(&self, bucket: u32) -> Option<&SharedVip6Bucket>;
    /// The hash that names a VIP's buckets in both tables.
    fn vip_hash(&self) -> VipHash;
    /// The digest that stands for an IPv6 address there.
    fn address_digest(&self) -> AddressDigest;
    /// `Config::flags`.
    fn config_flags(&self) -> u32;
    /// A service.
    fn service(&self, index: u32) -> Option<&Service>;
    /// A slot of the ring table.
    fn slot(&self, index: u32) -> Option<Slot>;
    /// A real.
    fn real(&self, index: u16) -> Option<&Real>;
    /// How many flows of a real are still to be ended; see [`crate::tables::real::Budget`].
    fn budget(&self, real: u16) -> Option<&SharedU64>;
    /// The next hop of a real. The real's record and not an index, because a look-up wants the index in memory, where
    /// the record has it: to write it to the stack and to read it again takes more time than to look it up.
    fn next_hop(&self, real: &Real) -> Option<&NextHop>;
    /// A bucket of the flow table.
    fn bucket(&self, index: u32) -> Option<&SharedBucket>;
    /// The clock, in ticks of 2^`TICK_SHIFT` ns.
    fn now(&self) -> u32;
    /// The precise clock, in nanoseconds; it costs more.
    fn nanoseconds(&self) -> u64;
    /// An entry of the table of sampled flows.
    fn sample(&self, index: u32) -> Option<&SharedSample>;
    /// The signs of a real.
    fn signs(&self, real: u16) -> Option<&SharedSigns>;
    /// Number of entries of the flow table that this CPU has made.
    fn inserted(&self) -> u64;

    /// Seed of the ring hash.
    fn ring_seed(&self) -> u64;
    /// The flow table's secret.
    fn flow_secret(&self) -> [u64; 2];
    /// Buckets of the flow table, less one.
    fn flow_mask(&self) -> u32;
    /// Index of the interface the frame came in by.
    fn interface_index(&self) -> u32;
    /// The MAC addresses of that interface.
    fn station(&self) -> &Station;
    /// Whether an ICMP error may be sent now to a source with this hash; see [`crate::error_limits`].
    fn admit_error(&self, hash: u64) -> bool;

    /// Renews an entry's stamp.
    #[inline(always)]
    fn stamp_flow(&self, flow: &SharedFlow, stamp: u64) {
        flow.stamp.store(stamp);
    }

    /// Puts a flow into an entry.
    #[inline(always)]
    fn write_flow(&self, flow: &SharedFlow, stamp: u64, owner: u64) {
        // Stamp first, so that a new owner never stands beside a stamp older than its own.
        flow.stamp.store(stamp);
        flow.owner.store(owner);
    }

    /// [`flow_table::find_room`], which a program may have as a function of its own.
    #[inline(always)]
    fn find_room(&self, newcomer: &Newcomer) -> u64
    where
        Self: Sized,
    {
        flow_table::find_room(self, newcomer)
    }

    /// [`signs::note`], which a program may have as a function of its own.
    #[inline(always)]
    fn note_sign(&self, change: FlowChange, hash: u64, real: u16)
    where
        Self: Sized,
    {
        signs::note(self, change, hash, real);
    }

    /// Takes one flow from a real's budget.
    #[inline(always)]
    fn take_from_budget(&self, budget: &SharedU64) {
        budget.decrement();
    }

    /// Counts a forwarded packet.
    fn count_real(&self, index: u16, bytes: u32);
    /// Counts a flow that a packet to the real has opened or closed.
    fn count_change(&self, real: u16, opened: bool, closed: bool);
    /// Counts a flow as closed that was ended because its real is to have fewer.
    fn count_ended(&self, real: u16);
    /// Counts a service's packet that no real got.
    fn count_dropped(&self, service: u32, bytes: u32);
    /// Counts a frame.
    fn count_reason(&self, reason: Reason);
    /// Counts an event of the flow table.
    fn count_flow(&self, event: FlowEvent);
    /// Counts a packet of a service that looked up the flow table, and whether it found its entry.
    fn count_lookup(&self, service: u32, hit: bool);

    /// Called as the decision proceeds, for logs and traces.
    fn note(&self, step: Step);
}
