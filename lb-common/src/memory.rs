//! Tables and frames in memory: the decision without a kernel.

mod frame;

use core::ops::{Deref, DerefMut};
use std::{
    boxed::Box,
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashMap, hash_map::Entry},
    sync::Arc,
    vec,
    vec::Vec,
};

pub use frame::{HEADROOM, MemFrame};

use crate::{
    decide::decide,
    flow_table::SharedBucket,
    limits::{FRAGMENT_BUCKETS, SAMPLES, SLOTS_PER_CHUNK, SOURCE_LIMITS, TICK_SHIFT},
    lookup::{FlowEvent, Step, Tables},
    nat::Inserted,
    outcome::Outcome,
    reason::{ChosenBy, Reason, Verdict},
    shared::SharedU64,
    simulated::Simulated,
    state::State,
    station::Station,
    tables::{
        config::Config,
        counters::{
            FlowEvictions, FlowTableCounters, LookupCounters, RealCounters, ServerIdCounters,
            ServiceCounters,
        },
        flow::Flow,
        fragment::FragmentBucket,
        nat::{NatDraft, NatEntry, NatKey, NatSettings},
        next_hop::NextHop,
        real::Real,
        ring::{Chunk, Slot},
        server_id::{QuicLb, ServerIdKey},
        service::Service,
        signs::{SharedSample, SharedSigns},
        source_rule::SourceKey,
        trace::{LookedUp, Trace},
        vip::{Vip4Key, Vip6Key},
        wide::{FIXED_BITS, PortSet, WideKey},
    },
    vip_table::{AddressDigest, PackedVipKey, SharedVip4Bucket, SharedVip6Bucket, VipHash, edit},
};

/// The constants a kernel program gets when it is loaded; see `crate::tables::constants`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Constants {
    /// `INTERFACE_INDEX`.
    pub interface_index: u32,
    /// `RING_SEED`.
    pub ring_seed: u64,
    /// `FLOW_SECRET_0` and `FLOW_SECRET_1`.
    pub flow_secret: [u64; 2],
    /// `GUE_PORT`.
    pub gue_port: u16,
    /// `TUNNEL_ENDS`.
    pub ends_tunnels: bool,
}

/// Counters as in the kernel's maps, of one interface and summed over CPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemCounters {
    /// By real index.
    pub reals: Vec<RealCounters>,
    /// By service index.
    pub services: Vec<ServiceCounters>,
    /// By service index.
    pub lookups: Vec<LookupCounters>,
    /// By service index.
    pub server_ids: Vec<ServerIdCounters>,
    /// By reason.
    pub reasons: Vec<u64>,
    /// Frames whose outer header was taken off.
    pub decapsulated: u64,
    /// Counters of the flow table.
    pub flows: FlowTableCounters,
    /// Evictions from the flow table by kind.
    pub evictions: FlowEvictions,
}

/// The tables in memory. Vectors are as long as the kernel's maps would be.
#[derive(Debug, Default)]
pub struct MemTables {
    /// `VIPS4`.
    pub vips4: Vec<SharedVip4Bucket>,
    /// `VIPS6`.
    pub vips6: Vec<SharedVip6Bucket>,
    /// `WIDE`: for each number of bits that count, the keys and their sets.
    pub wide: BTreeMap<(u32, WideKey), u32>,
    /// `PORT_SETS`.
    pub port_sets: Vec<PortSet>,
    /// `CONFIG`.
    pub config: Config,
    /// `SERVICES`.
    pub services: Vec<Service>,
    /// `RINGS`.
    pub rings: Vec<Chunk>,
    /// `REALS`.
    pub reals: Vec<Real>,
    /// `BUDGETS`.
    pub budgets: Vec<SharedU64>,
    /// `SERVICE_LIMITS`.
    pub service_limits: Vec<SharedU64>,
    /// `REAL_LIMITS`.
    pub real_limits: Vec<SharedU64>,
    /// `SOURCE_LIMITS`.
    pub source_limits: Vec<SharedU64>,
    /// `NEXT_HOPS`.
    pub next_hops: Vec<NextHop>,
    /// `FLOWS`: a power of two.
    pub flows: Vec<SharedBucket>,
    /// `SIGNS`.
    pub signs: Vec<SharedSigns>,
    /// `SAMPLES`.
    pub samples: Vec<SharedSample>,
    /// `NAT_SETTINGS`.
    pub nat_settings: NatSettings,
    /// `NAT_FLOWS`.
    pub nat: RefCell<HashMap<NatKey, Arc<NatEntry>>>,
    /// `FRAGMENTS`.
    pub fragments: Vec<FragmentBucket>,
    /// `SERVER_IDS`.
    pub server_ids: HashMap<ServerIdKey, u32>,
    /// `SOURCE_RULES`.
    pub source_rules: HashMap<SourceKey, u32>,
    /// `QUIC_LB`.
    pub quic_lb: HashMap<u32, QuicLb>,
    /// The constants.
    pub constants: Constants,
    /// The program's own state.
    pub state: State,
    /// The clock, in ticks.
    pub now: u32,
    /// Nanoseconds since the last tick.
    pub since_tick: u64,
    counters: RefCell<MemCounters>,
    trace: Cell<Trace>,
    looked_up: Cell<LookedUp>,
}

/// The outcome for a frame, and the way to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Processed {
    /// What happens to the frame.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// The interface a redirected frame leaves by; 0 for all others.
    pub interface: u32,
    /// The service it is for; 0: no service.
    pub service: u32,
    /// The real it goes to; 0: no real.
    pub real: u16,
    /// How the real was chosen.
    pub chosen_by: ChosenBy,
}

impl MemTables {
    /// Empty tables with these numbers of entries; `buckets` is rounded up to a power of two.
    #[must_use]
    pub fn new(
        services: usize,
        reals: usize,
        slots: usize,
        next_hops: usize,
        buckets: usize,
    ) -> MemTables {
        let chunk = Chunk {
            slots: [0; SLOTS_PER_CHUNK as usize],
        };
        let words = |count| (0..count).map(|_| SharedU64::default()).collect();
        MemTables {
            services: vec![Service::default(); services],
            rings: vec![chunk; slots.div_ceil(SLOTS_PER_CHUNK as usize)],
            reals: vec![Real::default(); reals],
            budgets: words(reals),
            service_limits: words(services),
            real_limits: words(reals),
            source_limits: words(SOURCE_LIMITS as usize),
            next_hops: vec![NextHop::default(); next_hops],
            flows: (0..buckets.next_power_of_two())
                .map(|_| SharedBucket::default())
                .collect(),
            signs: (0..reals).map(|_| SharedSigns::default()).collect(),
            fragments: (0..FRAGMENT_BUCKETS)
                .map(|_| FragmentBucket::default())
                .collect(),
            samples: (0..SAMPLES).map(|_| SharedSample::default()).collect(),
            counters: RefCell::new(MemCounters {
                reals: vec![RealCounters::default(); reals],
                services: vec![ServiceCounters::default(); services],
                lookups: vec![LookupCounters::default(); services],
                server_ids: vec![ServerIdCounters::default(); services],
                reasons: vec![0; Reason::ALL.len()],
                decapsulated: 0,
                flows: FlowTableCounters::default(),
                evictions: FlowEvictions::default(),
            }),
            ..MemTables::default()
        }
    }

    /// Empties the VIP tables and gives them this many buckets, a power of two from [`VipHash::LEAST`] up.
    pub fn clear_vips(&mut self, buckets: u32) {
        self.vips4.clear();
        self.vips4.resize_with(buckets as usize, Default::default);
        self.vips6.clear();
        self.vips6.resize_with(buckets as usize, Default::default);
    }

    /// Adds an IPv4 VIP or changes its service.
    ///
    /// # Errors
    /// [`edit::BucketsFull`].
    pub fn insert_vip4(&mut self, key: &Vip4Key, service: u32) -> Result<(), edit::BucketsFull> {
        // Packets and changes take turns here, so no reader can be under way.
        let key = PackedVipKey::of4(key);
        edit::insert(&self.vips4, &self.vip_hash(), &key, service, &mut || {})
    }

    /// Adds an IPv6 VIP or changes its service.
    ///
    /// # Errors
    /// [`edit::BucketsFull`].
    pub fn insert_vip6(&mut self, key: &Vip6Key, service: u32) -> Result<(), edit::BucketsFull> {
        let key = PackedVipKey::of6(&self.address_digest(), key);
        edit::insert(&self.vips6, &self.vip_hash(), &key, service, &mut || {})
    }

    /// Removes an IPv4 VIP; nothing changes if there is no such VIP.
    pub fn remove_vip4(&mut self, key: &Vip4Key) {
        edit::remove(&self.vips4, &self.vip_hash(), &PackedVipKey::of4(key));
    }

    /// Removes an IPv6 VIP; nothing changes if there is no such VIP.
    pub fn remove_vip6(&mut self, key: &Vip6Key) {
        let key = PackedVipKey::of6(&self.address_digest(), key);
        edit::remove(&self.vips6, &self.vip_hash(), &key);
    }

    /// Writes one slot of the ring table.
    ///
    /// # Panics
    /// If there is no such slot.
    pub fn set_slot(&mut self, index: u32, slot: Slot) {
        self.rings[(index / SLOTS_PER_CHUNK) as usize].slots[(index % SLOTS_PER_CHUNK) as usize] =
            slot;
    }

    /// A copy of the counters.
    #[must_use]
    pub fn counters(&self) -> MemCounters {
        self.counters.borrow().clone()
    }

    /// Reads counters without copying them all.
    pub fn read_counters<R>(&self, read: impl FnOnce(&MemCounters) -> R) -> R {
        read(&self.counters.borrow())
    }

    /// What the frame that was simulated last looked up.
    #[must_use]
    pub fn looked_up(&self) -> LookedUp {
        self.looked_up.get()
    }

    /// The outcome for the frame whose steps were noted last.
    fn processed(&self, outcome: Outcome) -> Processed {
        let trace = self.trace.get();
        Processed {
            verdict: outcome.verdict(),
            reason: outcome.reason(),
            interface: outcome.interface(),
            service: trace.service,
            real: trace.real as u16,
            chosen_by: ChosenBy::from_number(trace.chosen_by).unwrap_or(ChosenBy::Nothing),
        }
    }

    /// The entries of the flow table that are not empty.
    pub fn live_flows(&self) -> impl Iterator<Item = Flow> {
        self.flows
            .iter()
            .flat_map(|bucket| &bucket.flows)
            .filter_map(|flow| {
                let flow = Flow {
                    owner: flow.owner.load(),
                    stamp: flow.stamp.load(),
                };
                (flow.owner != 0).then_some(flow)
            })
    }
}

/// Runs the decision on a frame.
pub fn run(tables: &mut MemTables, frame: &mut MemFrame) -> Processed {
    let outcome = decide(frame, tables);
    tables.processed(outcome)
}

/// Runs the decision on a frame without changing flows or counters.
pub fn simulate(tables: &mut MemTables, frame: &mut MemFrame) -> Processed {
    tables.looked_up.set(LookedUp::default());
    let outcome = decide(frame, &Simulated(tables));
    tables.processed(outcome)
}

impl Tables for MemTables {
    fn vips4(&self, bucket: u32) -> Option<&SharedVip4Bucket> {
        self.vips4.get(bucket as usize)
    }

    fn vips6(&self, bucket: u32) -> Option<&SharedVip6Bucket> {
        self.vips6.get(bucket as usize)
    }

    fn vip_hash(&self) -> VipHash {
        VipHash::new(self.constants.flow_secret, self.vips4.len() as u32)
    }

    fn address_digest(&self) -> AddressDigest {
        AddressDigest::new(self.constants.flow_secret)
    }

    fn port_set(&self, key: &WideKey) -> Option<&PortSet> {
        let set = (0..=FIXED_BITS + 128)
            .rev()
            .find_map(|bits| self.wide.get(&(bits, key.first_bits(bits))))?;
        self.port_sets.get(*set as usize)
    }

    fn config_flags(&self) -> u32 {
        self.config.flags
    }

    fn service(&self, index: u32) -> Option<&Service> {
        self.services.get(index as usize)
    }

    fn slot(&self, index: u32) -> Option<Slot> {
        let chunk = self.rings.get((index / SLOTS_PER_CHUNK) as usize)?;
        Some(chunk.slots[(index % SLOTS_PER_CHUNK) as usize])
    }

    fn real(&self, index: u16) -> Option<&Real> {
        self.reals.get(index as usize)
    }

    fn budget(&self, real: u16) -> Option<&SharedU64> {
        self.budgets.get(real as usize)
    }

    fn service_limit(&self, service: u32) -> Option<&SharedU64> {
        self.service_limits.get(service as usize)
    }

    fn real_limit(&self, real: u16) -> Option<&SharedU64> {
        self.real_limits.get(real as usize)
    }

    fn source_limit(&self, place: u32) -> Option<&SharedU64> {
        self.source_limits.get(place as usize)
    }

    fn next_hop(&self, real: &Real) -> Option<&NextHop> {
        self.next_hops.get(real.next_hop as usize)
    }

    fn bucket(&self, index: u32) -> Option<&SharedBucket> {
        self.flows.get(index as usize)
    }

    fn now(&self) -> u32 {
        self.now
    }

    fn nanoseconds(&self) -> u64 {
        (u64::from(self.now) << TICK_SHIFT) + self.since_tick
    }

    fn sample(&self, index: u32) -> Option<&SharedSample> {
        self.samples.get(index as usize)
    }

    fn signs(&self, real: u16) -> Option<&SharedSigns> {
        self.signs.get(real as usize)
    }

    fn nat_settings(&self) -> Option<&NatSettings> {
        Some(&self.nat_settings)
    }

    fn nat_entry(&self, key: &NatKey) -> Option<impl Deref<Target = NatEntry>> {
        self.nat.borrow().get(key).cloned()
    }

    fn nat_draft(&self) -> Option<impl DerefMut<Target = NatDraft>> {
        Some(Box::<NatDraft>::default())
    }

    fn insert_nat(&self, key: &NatKey, entry: &NatEntry) -> Inserted {
        match self.nat.borrow_mut().entry(*key) {
            Entry::Occupied(_) => Inserted::Exists,
            Entry::Vacant(place) => {
                place.insert(Arc::new(entry.clone()));
                Inserted::Done
            }
        }
    }

    fn remove_nat(&self, key: &NatKey) {
        self.nat.borrow_mut().remove(key);
    }

    fn server_id(&self, key: &ServerIdKey) -> Option<u32> {
        self.server_ids.get(key).copied()
    }

    fn source_rule(&self, service: u32, source: [u64; 2]) -> u32 {
        let SourceKey { address, .. } = SourceKey::of_source(service, source);
        let prefixes = (0..=128).rev();
        prefixes
            .map(|prefix| SourceKey::new(service, address, prefix))
            .find_map(|key| self.source_rules.get(&key).copied())
            .unwrap_or(0)
    }

    fn quic_lb(&self, key: u32) -> Option<&QuicLb> {
        self.quic_lb.get(&key)
    }

    fn fragments(&self, bucket: u32) -> Option<&FragmentBucket> {
        self.fragments.get(bucket as usize)
    }

    fn inserted(&self) -> u64 {
        self.counters.borrow().flows.inserted
    }

    fn count_real(&self, index: u16, bytes: u32) {
        if let Some(real) = self.counters.borrow_mut().reals.get_mut(index as usize) {
            real.packets += 1;
            real.bytes += u64::from(bytes);
        }
    }

    fn count_change(&self, real: u16, opened: bool, closed: bool) {
        if let Some(real) = self.counters.borrow_mut().reals.get_mut(real as usize) {
            real.opened += u64::from(opened);
            real.closed += u64::from(closed);
        }
    }

    fn count_ended(&self, real: u16) {
        if let Some(real) = self.counters.borrow_mut().reals.get_mut(real as usize) {
            real.closed += 1;
        }
    }

    fn count_dropped(&self, service: u32, bytes: u32) {
        if let Some(service) = self
            .counters
            .borrow_mut()
            .services
            .get_mut(service as usize)
        {
            service.dropped_packets += 1;
            service.dropped_bytes += u64::from(bytes);
        }
    }

    fn count_reason(&self, reason: Reason) {
        if let Some(count) = self.counters.borrow_mut().reasons.get_mut(reason as usize) {
            *count += 1;
        }
    }

    fn count_flow(&self, event: FlowEvent) {
        let mut counters = self.counters.borrow_mut();
        counters.flows.count(event);
        counters.evictions.count(event);
    }

    fn count_lookup(&self, service: u32, hit: bool) {
        if let Some(lookups) = self.counters.borrow_mut().lookups.get_mut(service as usize) {
            lookups.count(hit);
        }
    }

    fn count_server_id(&self, service: u32, known: bool) {
        let mut counters = self.counters.borrow_mut();
        if let Some(ids) = counters.server_ids.get_mut(service as usize) {
            ids.count(known);
        }
    }

    fn note(&self, step: Step) {
        let mut trace = self.trace.get();
        trace.note(step);
        self.trace.set(trace);
        let mut looked_up = self.looked_up.get();
        looked_up.note(step);
        self.looked_up.set(looked_up);
    }

    fn ring_seed(&self) -> u64 {
        self.constants.ring_seed
    }

    fn flow_secret(&self) -> [u64; 2] {
        self.constants.flow_secret
    }

    fn flow_mask(&self) -> u32 {
        (self.flows.len() as u32).wrapping_sub(1)
    }

    fn ends_tunnels(&self) -> bool {
        self.constants.ends_tunnels
    }

    fn count_decapsulated(&self) {
        self.counters.borrow_mut().decapsulated += 1;
    }

    fn gue_port(&self) -> u16 {
        self.constants.gue_port
    }

    fn interface_index(&self) -> u32 {
        self.constants.interface_index
    }

    fn station(&self) -> &Station {
        &self.state.station
    }

    fn admit_error(&self, hash: u64) -> bool {
        self.state.error_limits.admit(hash, self.now)
    }
}
