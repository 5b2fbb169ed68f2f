//! Tables that a simulation reads and does not change.

use crate::{
    flow_table::{Newcomer, SharedBucket, SharedFlow},
    lookup::{FlowEvent, Step, Tables},
    reason::Reason,
    shared::SharedU64,
    signs::FlowChange,
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
    fn note(&self, step: Step) {
        self.0.note(step);
    }
}
