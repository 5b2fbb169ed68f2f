//! The balancer's maps and constants. The agent sets the maps' sizes when it loads the program.

use core::marker::PhantomData;

use aya_ebpf::{
    Global,
    bindings::BPF_F_MMAPABLE,
    helpers::generated::{bpf_ktime_get_coarse_ns, bpf_ktime_get_ns, bpf_map_lookup_elem},
    macros::map,
    maps::{Array, PerCpuArray},
};
use aya_log_ebpf::macro_support::{Level, level_enabled};
use lb_common::{
    flow_table::{self, Newcomer, SharedBucket},
    limits::{REASON_SLOTS, SLOTS_PER_CHUNK, TICK_SHIFT},
    lookup::{FlowEvent, Step, Tables},
    reason::Reason,
    shared::SharedU64,
    signs::{self, FlowChange},
    state::State,
    station::Station,
    tables::{
        config::Config,
        counters::{
            FlowEvictions, FlowTableCounters, LookupCounters, RealCounters, ServiceCounters,
        },
        meta::Meta,
        next_hop::NextHop,
        real::Real,
        ring::{Chunk, Slot},
        service::Service,
        signs::{SharedSample, SharedSigns},
        trace::Trace,
    },
    vip_table::{AddressDigest, SharedVip4Bucket, SharedVip6Bucket, VipHash},
};

/// Entries of a map for which the agent sets another number.
const SMALL: u32 = 16;

#[map]
static VIPS4: Array<SharedVip4Bucket> = Array::with_max_entries(SMALL, BPF_F_MMAPABLE);
#[map]
static VIPS6: Array<SharedVip6Bucket> = Array::with_max_entries(SMALL, BPF_F_MMAPABLE);
#[map]
static CONFIG: Array<Config> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
static META: Array<Meta> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
static SERVICES: Array<Service> = Array::with_max_entries(SMALL, BPF_F_MMAPABLE);
#[map]
static RINGS: Array<Chunk> = Array::with_max_entries(SMALL, BPF_F_MMAPABLE);
#[map]
static REALS: Array<Real> = Array::with_max_entries(SMALL, BPF_F_MMAPABLE);
#[map]
static BUDGETS: Array<SharedU64> = Array::with_max_entries(SMALL, BPF_F_MMAPABLE);
#[map]
static NEXT_HOPS: Array<NextHop> = Array::with_max_entries(SMALL, BPF_F_MMAPABLE);
#[map]
static FLOWS: Array<SharedBucket> = Array::with_max_entries(SMALL, BPF_F_MMAPABLE);
#[map]
static REAL_COUNTERS: PerCpuArray<RealCounters> = PerCpuArray::with_max_entries(SMALL, 0);
#[map]
static SERVICE_COUNTERS: PerCpuArray<ServiceCounters> = PerCpuArray::with_max_entries(SMALL, 0);
#[map]
static REASON_COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(REASON_SLOTS, 0);
#[map]
static FLOW_COUNTERS: PerCpuArray<FlowTableCounters> = PerCpuArray::with_max_entries(1, 0);
#[map]
static FLOW_EVICTIONS: PerCpuArray<FlowEvictions> = PerCpuArray::with_max_entries(1, 0);
#[map]
static LOOKUPS: PerCpuArray<LookupCounters> = PerCpuArray::with_max_entries(SMALL, 0);
#[map]
static SIGNS: Array<SharedSigns> = Array::with_max_entries(SMALL, BPF_F_MMAPABLE);
#[map]
static SAMPLES: Array<SharedSample> = Array::with_max_entries(SMALL, BPF_F_MMAPABLE);
#[map]
static TRACE: Array<Trace> = Array::with_max_entries(1, 0);

/// The only variable that is zero at first: the agent finds it at the start of the map [`lb_common::state::MAP`].
#[unsafe(no_mangle)]
static STATE: State = State::new();

#[unsafe(no_mangle)]
static INTERFACE_SLOT: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static INTERFACE_INDEX: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static RING_SEED: Global<u64> = Global::new(0);
#[unsafe(no_mangle)]
static FLOW_SECRET_0: Global<u64> = Global::new(0);
#[unsafe(no_mangle)]
static FLOW_SECRET_1: Global<u64> = Global::new(0);
#[unsafe(no_mangle)]
static FLOW_MASK: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static VIP_FACTOR: Global<u64> = Global::new(1);
#[unsafe(no_mangle)]
static DIGEST_FACTOR_0: Global<u64> = Global::new(1);
#[unsafe(no_mangle)]
static DIGEST_FACTOR_1: Global<u64> = Global::new(1);
#[unsafe(no_mangle)]
static VIP_SHIFT: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static SIMULATE: Global<u32> = Global::new(0);

/// Receives the steps of a decision.
pub trait Observer {
    /// Called for each step.
    fn note(step: Step);
}

/// Ignores them.
pub struct Quiet;

/// Logs them.
pub struct Logging;

/// Logs them and writes the trace that a simulation reports.
pub struct Tracing;

impl Observer for Quiet {
    #[inline(always)]
    fn note(_step: Step) {}
}

impl Observer for Logging {
    #[inline(always)]
    fn note(step: Step) {
        crate::log::log(step);
    }
}

impl Observer for Tracing {
    #[inline(always)]
    fn note(step: Step) {
        crate::log::log(step);
        if let Some(trace) = TRACE.get_ptr_mut(0) {
            // SAFETY: the agent runs one simulation at a time, and nothing else writes the trace.
            unsafe { (*trace).note(step) }
        }
    }
}

/// Whether this program is the one that `simulate` runs.
#[inline(always)]
pub fn simulates() -> bool {
    SIMULATE.load() != 0
}

/// Whether this program logs anything.
#[inline(always)]
pub fn logs() -> bool {
    level_enabled(Level::Error)
}

/// The tables, as maps. The observer is a type: asking at each step whether to log costs something even if
/// the answer is always no.
pub struct MapTables<O>(PhantomData<O>);

impl<O: Observer> MapTables<O> {
    /// The tables.
    #[inline(always)]
    pub const fn new() -> MapTables<O> {
        MapTables(PhantomData)
    }
}

/// [`flow_table::find_room`], with its arguments in three words: the two buckets, the service, the stamp.
///
/// A global function, which the kernel's verifier (Linux 5.6) checks once by itself. It follows a function of another kind
/// from each state in which it is called, and this one has so many ways that it would not come to an end.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn find_room(buckets: u64, service: u64, stamp: u64) -> u64 {
    let newcomer = Newcomer {
        buckets: [buckets as u32, (buckets >> 32) as u32],
        service: service as u32,
        owner: 0,
        stamp,
    };
    flow_table::find_room(&MapTables::<Quiet>::new(), &newcomer)
}

/// [`signs::note`], with its arguments in two words: the hash; the real and above it the change. Returns 0.
///
/// A global function for the same reason as [`find_room`]. Such a function has to return a number (until Linux 6.8).
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn note_sign(hash: u64, flow: u64) -> u64 {
    let change = FlowChange::from_number((flow >> 16) as u8);
    signs::note(&MapTables::<Quiet>::new(), change, hash, flow as u16);
    0
}

/// This CPU's entry of a map of counters.
#[inline(always)]
fn counters<T>(map: &PerCpuArray<T>, index: u32) -> Option<&mut T> {
    // SAFETY: only this CPU writes to its entry, and a program is not interrupted by itself; the agent
    // reads whole words.
    map.get_ptr_mut(index).map(|entry| unsafe { &mut *entry })
}

impl<O: Observer> Tables for MapTables<O> {
    #[inline(always)]
    fn vips4(&self, bucket: u32) -> Option<&SharedVip4Bucket> {
        VIPS4.get(bucket)
    }

    #[inline(always)]
    fn vips6(&self, bucket: u32) -> Option<&SharedVip6Bucket> {
        VIPS6.get(bucket)
    }

    #[inline(always)]
    fn vip_hash(&self) -> VipHash {
        VipHash {
            factor: VIP_FACTOR.load(),
            shift: VIP_SHIFT.load(),
        }
    }

    #[inline(always)]
    fn address_digest(&self) -> AddressDigest {
        AddressDigest {
            factors: [DIGEST_FACTOR_0.load(), DIGEST_FACTOR_1.load()],
        }
    }

    #[inline(always)]
    fn config_flags(&self) -> u32 {
        CONFIG.get(0).map_or(0, |config| config.flags)
    }

    #[inline(always)]
    fn service(&self, index: u32) -> Option<&Service> {
        SERVICES.get(index)
    }

    #[inline(always)]
    fn slot(&self, index: u32) -> Option<Slot> {
        let chunk = RINGS.get(index / SLOTS_PER_CHUNK)?;
        Some(chunk.slots[(index % SLOTS_PER_CHUNK) as usize])
    }

    #[inline(always)]
    fn real(&self, index: u16) -> Option<&Real> {
        REALS.get(u32::from(index))
    }

    #[inline(always)]
    fn budget(&self, real: u16) -> Option<&SharedU64> {
        BUDGETS.get(u32::from(real))
    }

    #[inline(always)]
    fn next_hop(&self, real: &Real) -> Option<&NextHop> {
        let index = &raw const real.next_hop;
        // SAFETY: a map's name is its definition, and its keys are indices. The kernel reads the index once, so one
        // that the agent changes meanwhile is the old or the new one. What a look-up returns is a record, or null.
        unsafe {
            bpf_map_lookup_elem((&raw const NEXT_HOPS).cast_mut().cast(), index.cast())
                .cast::<NextHop>()
                .as_ref()
        }
    }

    #[inline(always)]
    fn bucket(&self, index: u32) -> Option<&SharedBucket> {
        FLOWS.get(index)
    }

    #[inline(always)]
    fn now(&self) -> u32 {
        // SAFETY: a helper without conditions (kernel 5.11 and later).
        (unsafe { bpf_ktime_get_coarse_ns() } >> TICK_SHIFT) as u32
    }

    #[inline(always)]
    fn nanoseconds(&self) -> u64 {
        // SAFETY: a helper without conditions.
        unsafe { bpf_ktime_get_ns() }
    }

    #[inline(always)]
    fn sample(&self, index: u32) -> Option<&SharedSample> {
        SAMPLES.get(index)
    }

    #[inline(always)]
    fn signs(&self, real: u16) -> Option<&SharedSigns> {
        SIGNS.get(u32::from(real))
    }

    #[inline(always)]
    fn note_sign(&self, change: FlowChange, hash: u64, real: u16) {
        let flow = u64::from(change.number()) << 16 | u64::from(real);
        note_sign(hash, flow);
    }

    #[inline(always)]
    fn inserted(&self) -> u64 {
        counters(&FLOW_COUNTERS, 0).map_or(0, |flows| flows.inserted)
    }

    #[inline(always)]
    fn find_room(&self, newcomer: &Newcomer) -> u64 {
        let [first, second] = newcomer.buckets.map(u64::from);
        find_room(
            first | second << 32,
            newcomer.service.into(),
            newcomer.stamp,
        )
    }

    #[inline(always)]
    fn count_real(&self, index: u16, bytes: u32) {
        if let Some(real) = counters(&REAL_COUNTERS, u32::from(index)) {
            real.packets += 1;
            real.bytes += u64::from(bytes);
        }
    }

    #[inline(always)]
    fn count_change(&self, real: u16, opened: bool, closed: bool) {
        if let Some(real) = counters(&REAL_COUNTERS, u32::from(real)) {
            if opened {
                real.opened += 1;
            }
            if closed {
                real.closed += 1;
            }
        }
    }

    #[inline(always)]
    fn count_ended(&self, real: u16) {
        if let Some(real) = counters(&REAL_COUNTERS, u32::from(real)) {
            real.closed += 1;
        }
    }

    #[inline(always)]
    fn count_dropped(&self, service: u32, bytes: u32) {
        if let Some(service) = counters(&SERVICE_COUNTERS, service) {
            service.dropped_packets += 1;
            service.dropped_bytes += u64::from(bytes);
        }
    }

    #[inline(always)]
    fn count_reason(&self, reason: Reason) {
        let index = INTERFACE_SLOT.load() * REASON_SLOTS + reason as u32;
        if let Some(count) = counters(&REASON_COUNTERS, index) {
            *count += 1;
        }
    }

    #[inline(always)]
    fn count_flow(&self, event: FlowEvent) {
        if let Some(flows) = counters(&FLOW_COUNTERS, 0) {
            flows.count(event);
        }
        if matches!(event, FlowEvent::Evicted { .. } | FlowEvent::Refused)
            && let Some(evictions) = counters(&FLOW_EVICTIONS, 0)
        {
            evictions.count(event);
        }
    }

    #[inline(always)]
    fn count_lookup(&self, service: u32, hit: bool) {
        if let Some(lookups) = counters(&LOOKUPS, service) {
            lookups.count(hit);
        }
    }

    #[inline(always)]
    fn note(&self, step: Step) {
        O::note(step);
    }

    #[inline(always)]
    fn ring_seed(&self) -> u64 {
        RING_SEED.load()
    }

    #[inline(always)]
    fn flow_secret(&self) -> [u64; 2] {
        [FLOW_SECRET_0.load(), FLOW_SECRET_1.load()]
    }

    #[inline(always)]
    fn flow_mask(&self) -> u32 {
        FLOW_MASK.load()
    }

    #[inline(always)]
    fn interface_index(&self) -> u32 {
        INTERFACE_INDEX.load()
    }

    #[inline(always)]
    fn station(&self) -> &Station {
        &STATE.station
    }

    #[inline(always)]
    fn admit_error(&self, hash: u64) -> bool {
        STATE.error_limits.admit(hash, self.now())
    }
}
