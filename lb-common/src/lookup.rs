//! How the decision reaches the tables: maps in the kernel, memory in user space.
//!
//! All that the decision changes besides the frame is changed by a method of [`Tables`]: so a backend whose
//! methods do nothing simulates ([`crate::simulated`]).

use core::ops::{Deref, DerefMut};

use crate::{
    flow_limits,
    flow_table::{self, Newcomer, SharedBucket, SharedFlow},
    fragments::{self, Found},
    frame::Frame,
    icmp_answer,
    nat::{self, Task, Translated},
    reason::{ChosenBy, Reason},
    reset::{self, Segment},
    server_ids::{self, Named},
    shared::SharedU64,
    shed,
    signs::{self, FlowChange},
    simulated::Simulated,
    station::Station,
    tables::{
        fragment::{FirstFragment, FragmentBucket, FragmentEntry},
        nat::{NatDraft, NatEntry, NatKey, NatSettings},
        next_hop::NextHop,
        real::Real,
        ring::Slot,
        server_id::{QuicLb, ServerIdKey},
        service::Service,
        signs::{SharedSample, SharedSigns},
        wide::{PortSet, WideKey},
    },
    vip_table::{AddressDigest, SharedVip4Bucket, SharedVip6Bucket, VipHash},
};

/// A step of the decision, for logs and traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The packet is for this service.
    Service(u32),
    /// The ring's slot at this place of the ring table was read.
    Slot(u32, Slot),
    /// The flow has an entry, which names this real, with this [`crate::tables::flow::Flow::stamp`].
    Entry(u16, u64),
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
    /// The ports of the longest prefix that holds a packet's destination.
    fn port_set(&self, key: &WideKey) -> Option<&PortSet>;
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
    /// When the next connection of a service is due ([`crate::flow_limits`]).
    fn service_limit(&self, service: u32) -> Option<&SharedU64>;
    /// When the next one of a real is due.
    fn real_limit(&self, real: u16) -> Option<&SharedU64>;
    /// When the next one of source prefixes is due.
    fn source_limit(&self, place: u32) -> Option<&SharedU64>;
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
    /// The UDP port of the mode `gue`.
    fn gue_port(&self) -> u16;
    /// Whether tunnels end at some address of the balancer ([`crate::tunnel_end`]).
    fn ends_tunnels(&self) -> bool;
    /// Index of the interface the frame came in by.
    fn interface_index(&self) -> u32;
    /// The MAC addresses of that interface.
    fn station(&self) -> &Station;
    /// Whether an ICMP error may be sent now to a source with this hash; see [`crate::error_limits`].
    fn admit_error(&self, hash: u64) -> bool;

    /// The settings of mode `nat`.
    fn nat_settings(&self) -> Option<&NatSettings>;
    /// An entry of a translated connection.
    fn nat_entry(&self, key: &NatKey) -> Option<impl Deref<Target = NatEntry>>;
    /// Room in which a connection is drafted; what it holds is left from another one.
    fn nat_draft(&self) -> Option<impl DerefMut<Target = NatDraft>>;
    /// Adds such an entry if there is none with its key.
    fn insert_nat(&self, key: &NatKey, entry: &NatEntry) -> nat::Inserted;
    /// Removes such an entry.
    fn remove_nat(&self, key: &NatKey);

    /// Sets the state of such an entry.
    #[inline(always)]
    fn stamp_nat(&self, entry: &NatEntry, state: u64) {
        entry.state.store(state);
    }

    /// Sets the way to the client.
    #[inline(always)]
    fn move_nat(&self, entry: &NatEntry, hop: [u64; 2]) {
        entry.hop[0].store(hop[0]);
        entry.hop[1].store(hop[1]);
    }

    /// [`nat::translate`], which a program may have as a function of its own.
    #[inline(always)]
    fn translate<F: Frame>(&self, frame: &mut F, task: Task, fragment: Found) -> Translated
    where
        Self: Sized,
    {
        nat::translate(frame, self, task, fragment)
    }

    /// [`nat::translate_error`], which a program may have as a function of its own.
    #[inline(always)]
    fn translate_error<F: Frame>(&self, frame: &mut F) -> Translated
    where
        Self: Sized,
    {
        nat::translate_error(frame, self)
    }

    /// [`nat::open`], which a program may have as a function of its own.
    #[inline(always)]
    fn open_connection<F: Frame>(&self, frame: &mut F, real: u16, fragment: Found) -> Translated
    where
        Self: Sized,
    {
        nat::open(frame, self, real, fragment)
    }

    /// [`Tables::translate`] without a trace in the tables.
    #[inline(always)]
    fn simulate_translation<F: Frame>(
        &self,
        frame: &mut F,
        task: Task,
        fragment: Found,
    ) -> Translated
    where
        Self: Sized,
    {
        nat::translate(frame, &Simulated(self), task, fragment)
    }

    /// [`nat::close`], which a program may have as a function of its own.
    #[inline(always)]
    fn close_connection<F: Frame>(&self, frame: &mut F, fragment: Found)
    where
        Self: Sized,
    {
        nat::close(frame, self, fragment);
    }

    /// Called when the first packet of a connection has been translated: a simulated one ends.
    #[inline(always)]
    fn end_simulated_connection<F: Frame>(&self, _frame: &mut F, _fragment: Found)
    where
        Self: Sized,
    {
    }

    /// The real that a service's packets name by an id.
    fn server_id(&self, key: &ServerIdKey) -> Option<u32>;
    /// A configuration of QUIC-LB, by [`crate::tables::server_id::quic_lb_key`].
    fn quic_lb(&self, key: u32) -> Option<&QuicLb>;

    /// The rule about packets of a source for a service, as a number ([`crate::tables::source_rule::Rule`]); 0: there is none.
    /// The source's address is two words as they lie in a packet.
    fn source_rule(&self, service: u32, source: [u64; 2]) -> u32;

    /// [`server_ids::find`], which a program may have as a function of its own.
    #[inline(always)]
    fn find_named<F: Frame>(&self, frame: &mut F, named: Named) -> u16
    where
        Self: Sized,
    {
        server_ids::find(frame, self, named)
    }

    /// [`Tables::find_named`] without a trace in the tables.
    #[inline(always)]
    fn simulate_named<F: Frame>(&self, frame: &mut F, named: Named) -> u16
    where
        Self: Sized,
    {
        server_ids::find(frame, &Simulated(self), named)
    }

    /// A bucket of the packets whose first fragment was seen.
    fn fragments(&self, bucket: u32) -> Option<&FragmentBucket>;

    /// Remembers a first fragment in an entry.
    #[inline(always)]
    fn write_fragment(&self, entry: &FragmentEntry, tag: u64, first: FirstFragment) {
        // Without a tag first, so that none stands beside what another packet's fragment said.
        entry.tag.store(0);
        entry.data.store(first.0);
        entry.tag.store(tag);
    }

    /// [`fragments::find`], which a program may have as a function of its own.
    #[inline(always)]
    fn find_fragment<F: Frame>(&self, frame: &mut F) -> Found
    where
        Self: Sized,
    {
        fragments::find(frame, self)
    }

    /// [`Tables::find_fragment`] without a trace in the tables.
    #[inline(always)]
    fn simulate_fragment<F: Frame>(&self, frame: &mut F) -> Found
    where
        Self: Sized,
    {
        fragments::find(frame, &Simulated(self))
    }

    /// [`fragments::named`], which a program may have as a function of its own.
    #[inline(always)]
    fn named_of_fragment<F: Frame>(&self, frame: &mut F, named: u16) -> u16
    where
        Self: Sized,
    {
        fragments::named(frame, self, named)
    }

    /// [`Tables::named_of_fragment`] without a trace in the tables.
    #[inline(always)]
    fn simulate_named_of_fragment<F: Frame>(&self, frame: &mut F, named: u16) -> u16
    where
        Self: Sized,
    {
        fragments::named(frame, &Simulated(self), named)
    }

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

    /// [`reset::answer_number`], which a program may have as a global function.
    #[inline(always)]
    fn answer_segment<F: Frame>(&self, frame: &mut F, segment: Segment) -> u64
    where
        Self: Sized,
    {
        reset::answer_number(frame, segment)
    }

    /// [`icmp_answer::answer_number`], which a program may have as a global function.
    #[inline(always)]
    fn answer_error<F: Frame>(&self, frame: &mut F, cause: u64) -> bool
    where
        Self: Sized,
    {
        icmp_answer::answer_apart(frame, self, cause)
    }

    /// [`signs::note`], which a program may have as a function of its own.
    #[inline(always)]
    fn note_sign(&self, change: FlowChange, hash: u64, real: u16)
    where
        Self: Sized,
    {
        signs::note(self, change, hash, real);
    }

    /// [`flow_limits::admit`], which a program may have as a function of its own.
    #[inline(always)]
    fn admit_flow(&self, service: u32, source: u64, real: u16) -> bool
    where
        Self: Sized,
    {
        flow_limits::admit(self, service, source, real)
    }

    /// [`shed::end_flow`], which a program may have as a function of its own.
    #[inline(always)]
    fn end_flow<F: Frame>(&self, frame: &mut F, real: u16) -> bool
    where
        Self: Sized,
    {
        shed::end_flow(frame, self, real)
    }

    /// Sets when the next connection is due.
    #[inline(always)]
    fn set_flow_limit(&self, word: &SharedU64, due: u64) {
        word.store(due);
    }

    /// Makes it due later.
    #[inline(always)]
    fn add_to_flow_limit(&self, word: &SharedU64, nanos: u64) {
        word.add(nanos);
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
    /// Counts a frame whose outer header was taken off. It is counted by its reason as well.
    fn count_decapsulated(&self);
    /// Counts an event of the flow table.
    fn count_flow(&self, event: FlowEvent);
    /// Counts a packet of a service that looked up the flow table, and whether it found its entry.
    fn count_lookup(&self, service: u32, hit: bool);
    /// Counts a packet of a service that names a real, and whether it is known.
    fn count_server_id(&self, service: u32, known: bool);

    /// Called as the decision proceeds, for logs and traces.
    fn note(&self, step: Step);
}
