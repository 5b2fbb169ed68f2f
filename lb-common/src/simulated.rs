//! Tables that a simulation reads and does not change.

use core::ops::{Deref, DerefMut};

use crate::{
    flow_table::{Newcomer, SharedBucket, SharedFlow},
    fragments::Found,
    frame::Frame,
    icmp_answer,
    lookup::{FlowEvent, Step, Tables},
    nat::{Inserted, Task, Translated},
    reason::Reason,
    reset::Segment,
    server_ids::Named,
    shared::SharedU64,
    signs::FlowChange,
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

/// Reads the tables behind it; neither flows nor budgets nor counters change. Steps are noted as ever.
#[derive(Clone, Copy, Debug)]
pub struct Simulated<'a, T>(pub &'a T);

impl<T: Tables> Tables for Simulated<'_, T> {
    #[inline(always)]
    fn vips4(&self, bucket: u32) -> Option<&SharedVip4Bucket> {
        self.0.vips4(bucket)
    }

    #[inline(always)]
    fn vips6(&self, bucket: u32) -> Option<&SharedVip6Bucket> {
        self.0.vips6(bucket)
    }

    #[inline(always)]
    fn vip_hash(&self) -> VipHash {
        self.0.vip_hash()
    }

    #[inline(always)]
    fn address_digest(&self) -> AddressDigest {
        self.0.address_digest()
    }

    #[inline(always)]
    fn config_flags(&self) -> u32 {
        self.0.config_flags()
    }

    #[inline(always)]
    fn service(&self, index: u32) -> Option<&Service> {
        self.0.service(index)
    }

    #[inline(always)]
    fn slot(&self, index: u32) -> Option<Slot> {
        self.0.slot(index)
    }

    #[inline(always)]
    fn real(&self, index: u16) -> Option<&Real> {
        self.0.real(index)
    }

    #[inline(always)]
    fn budget(&self, real: u16) -> Option<&SharedU64> {
        self.0.budget(real)
    }

    #[inline(always)]
    fn service_limit(&self, service: u32) -> Option<&SharedU64> {
        self.0.service_limit(service)
    }

    #[inline(always)]
    fn real_limit(&self, real: u16) -> Option<&SharedU64> {
        self.0.real_limit(real)
    }

    #[inline(always)]
    fn source_limit(&self, place: u32) -> Option<&SharedU64> {
        self.0.source_limit(place)
    }

    #[inline(always)]
    fn next_hop(&self, real: &Real) -> Option<&NextHop> {
        self.0.next_hop(real)
    }

    #[inline(always)]
    fn bucket(&self, index: u32) -> Option<&SharedBucket> {
        self.0.bucket(index)
    }

    #[inline(always)]
    fn now(&self) -> u32 {
        self.0.now()
    }

    #[inline(always)]
    fn nanoseconds(&self) -> u64 {
        self.0.nanoseconds()
    }

    #[inline(always)]
    fn sample(&self, index: u32) -> Option<&SharedSample> {
        self.0.sample(index)
    }

    #[inline(always)]
    fn signs(&self, real: u16) -> Option<&SharedSigns> {
        self.0.signs(real)
    }

    #[inline(always)]
    fn nat_settings(&self) -> Option<&NatSettings> {
        self.0.nat_settings()
    }

    #[inline(always)]
    fn nat_entry(&self, key: &NatKey) -> Option<impl Deref<Target = NatEntry>> {
        self.0.nat_entry(key)
    }

    #[inline(always)]
    fn nat_draft(&self) -> Option<impl DerefMut<Target = NatDraft>> {
        self.0.nat_draft()
    }

    /// A simulated connection is in the table until its packet is translated.
    #[inline(always)]
    fn insert_nat(&self, key: &NatKey, entry: &NatEntry) -> Inserted {
        self.0.insert_nat(key, entry)
    }

    #[inline(always)]
    fn remove_nat(&self, key: &NatKey) {
        self.0.remove_nat(key);
    }

    #[inline(always)]
    fn stamp_nat(&self, _entry: &NatEntry, _state: u64) {}

    #[inline(always)]
    fn move_nat(&self, _entry: &NatEntry, _hop: [u64; 2]) {}

    #[inline(always)]
    fn translate<F: Frame>(&self, frame: &mut F, task: Task, fragment: Found) -> Translated {
        self.0.simulate_translation(frame, task, fragment)
    }

    #[inline(always)]
    fn translate_error<F: Frame>(&self, frame: &mut F) -> Translated {
        self.0.translate_error(frame)
    }

    #[inline(always)]
    fn open_connection<F: Frame>(&self, frame: &mut F, real: u16, fragment: Found) -> Translated {
        self.0.open_connection(frame, real, fragment)
    }

    #[inline(always)]
    fn end_simulated_connection<F: Frame>(&self, frame: &mut F, fragment: Found) {
        self.0.close_connection(frame, fragment);
    }

    #[inline(always)]
    fn server_id(&self, key: &ServerIdKey) -> Option<u32> {
        self.0.server_id(key)
    }

    #[inline(always)]
    fn quic_lb(&self, key: u32) -> Option<&QuicLb> {
        self.0.quic_lb(key)
    }

    #[inline(always)]
    fn source_rule(&self, service: u32, source: [u64; 2]) -> u32 {
        self.0.source_rule(service, source)
    }

    #[inline(always)]
    fn find_named<F: Frame>(&self, frame: &mut F, named: Named) -> u16 {
        self.0.simulate_named(frame, named)
    }

    #[inline(always)]
    fn fragments(&self, bucket: u32) -> Option<&FragmentBucket> {
        self.0.fragments(bucket)
    }

    #[inline(always)]
    fn write_fragment(&self, _entry: &FragmentEntry, _tag: u64, _first: FirstFragment) {}

    #[inline(always)]
    fn named_of_fragment<F: Frame>(&self, frame: &mut F, named: u16) -> u16 {
        self.0.simulate_named_of_fragment(frame, named)
    }

    #[inline(always)]
    fn find_fragment<F: Frame>(&self, frame: &mut F) -> Found {
        self.0.simulate_fragment(frame)
    }

    #[inline(always)]
    fn inserted(&self) -> u64 {
        self.0.inserted()
    }

    #[inline(always)]
    fn ring_seed(&self) -> u64 {
        self.0.ring_seed()
    }

    #[inline(always)]
    fn flow_secret(&self) -> [u64; 2] {
        self.0.flow_secret()
    }

    #[inline(always)]
    fn flow_mask(&self) -> u32 {
        self.0.flow_mask()
    }

    #[inline(always)]
    fn port_set(&self, key: &WideKey) -> Option<&PortSet> {
        self.0.port_set(key)
    }

    #[inline(always)]
    fn answer_segment<F: Frame>(&self, frame: &mut F, segment: Segment) -> u64 {
        self.0.answer_segment(frame, segment)
    }

    #[inline(always)]
    fn answer_error<F: Frame>(&self, frame: &mut F, cause: u64) -> bool {
        icmp_answer::answer_apart(frame, self, cause)
    }

    #[inline(always)]
    fn ends_tunnels(&self) -> bool {
        self.0.ends_tunnels()
    }

    #[inline(always)]
    fn count_decapsulated(&self) {}

    #[inline(always)]
    fn gue_port(&self) -> u16 {
        self.0.gue_port()
    }

    #[inline(always)]
    fn interface_index(&self) -> u32 {
        self.0.interface_index()
    }

    #[inline(always)]
    fn station(&self) -> &Station {
        self.0.station()
    }

    /// A simulated packet is answered as if no other one was.
    #[inline(always)]
    fn admit_error(&self, _hash: u64) -> bool {
        true
    }

    #[inline(always)]
    fn stamp_flow(&self, _flow: &SharedFlow, _stamp: u64) {}

    #[inline(always)]
    fn write_flow(&self, _flow: &SharedFlow, _stamp: u64, _owner: u64) {}

    #[inline(always)]
    fn find_room(&self, newcomer: &Newcomer) -> u64 {
        self.0.find_room(newcomer)
    }

    #[inline(always)]
    fn note_sign(&self, _change: FlowChange, _hash: u64, _real: u16) {}

    #[inline(always)]
    fn take_from_budget(&self, _budget: &SharedU64) {}

    #[inline(always)]
    fn set_flow_limit(&self, _word: &SharedU64, _due: u64) {}

    #[inline(always)]
    fn add_to_flow_limit(&self, _word: &SharedU64, _nanos: u64) {}

    #[inline(always)]
    fn count_real(&self, _index: u16, _bytes: u32) {}

    #[inline(always)]
    fn count_change(&self, _real: u16, _opened: bool, _closed: bool) {}

    #[inline(always)]
    fn count_ended(&self, _real: u16) {}

    #[inline(always)]
    fn count_dropped(&self, _service: u32, _bytes: u32) {}

    #[inline(always)]
    fn count_reason(&self, _reason: Reason) {}

    #[inline(always)]
    fn count_flow(&self, _event: FlowEvent) {}

    #[inline(always)]
    fn count_lookup(&self, _service: u32, _hit: bool) {}

    #[inline(always)]
    fn count_server_id(&self, _service: u32, _known: bool) {}

    #[inline(always)]
    fn note(&self, step: Step) {
        self.0.note(step);
    }
}
