//! The balancer's maps and constants. Sizes stand for "small": the agent sets them when it loads.

use aya_ebpf::{
    Global,
    bindings::BPF_F_MMAPABLE,
    helpers::generated::bpf_ktime_get_coarse_ns,
    macros::map,
    maps::{Array, HashMap, PerCpuArray},
};
use aya_log_ebpf::macro_support::{Level, level_enabled};
use lb_common::{
    flow_table::SharedBucket,
    limits::{REASON_SLOTS, SLOTS_PER_CHUNK, TICK_SHIFT},
    reason::Reason,
    store::{FlowEvent, Step, Tables},
    tables::{
        config::Config,
        counters::{FlowTableCounters, RealCounters, ServiceCounters},
        meta::Meta,
        next_hop::NextHop,
        real::Real,
        ring::{Chunk, Slot},
        service::Service,
        trace::Trace,
    },
    word::Word,
};

/// Entries of a map before the agent says how many.
const SMALL: u32 = 16;

// Keys are those of `tables::vip`, in whole words. The kernel compares eight bytes at a time, and a load is
// slow that has to wait for two stores: so what it loads at once is stored at once.
#[map]
static VIPS4: HashMap<u64, u32> = HashMap::with_max_entries(SMALL, 0);
#[map]
static VIPS6: HashMap<[u32; 5], u32> = HashMap::with_max_entries(SMALL, 0);
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
static BUDGETS: Array<Word> = Array::with_max_entries(SMALL, BPF_F_MMAPABLE);
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
static TRACE: Array<Trace> = Array::with_max_entries(1, 0);

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
static SIMULATE: Global<u32> = Global::new(0);

/// The tables, as maps. Only a loud one logs and simulates: asking at each step whether to do so costs
/// something even if the answer is always no.
pub struct MapTables<const LOUD: bool>(());

/// Tables that do their work in silence.
pub type Quiet = MapTables<false>;
/// Tables that log, or simulate, or both.
pub type Loud = MapTables<true>;

/// Whether this program is one that logs or simulates.
#[inline(always)]
pub fn is_loud() -> bool {
    SIMULATE.load() != 0 || level_enabled(Level::Error)
}

impl<const LOUD: bool> MapTables<LOUD> {
    /// The tables.
    #[inline(always)]
    pub const fn new() -> MapTables<LOUD> {
        MapTables(())
    }
}

/// This CPU's entry of a map of counters.
#[inline(always)]
fn counters<T>(map: &PerCpuArray<T>, index: u32) -> Option<&mut T> {
    // SAFETY: only this CPU writes to its entry, and a program is not interrupted by itself; the agent
    // reads whole words.
    map.get_ptr_mut(index).map(|entry| unsafe { &mut *entry })
}

impl<const LOUD: bool> Tables for MapTables<LOUD> {
    #[inline(always)]
    fn vip4(&self, address: u32, port: u16, protocol: u32) -> Option<u32> {
        let rest = u16::from_le(port) as u64 | (protocol as u64) << 16;
        let key = (u32::from_le(address) as u64 | rest << 32).to_le();
        // SAFETY: the value is copied at once. Should its entry be deleted and used again meanwhile, the
        // index is that of another service, as if the packet had come a moment later.
        unsafe { VIPS4.get(&key) }.copied()
    }

    #[inline(always)]
    fn vip6(&self, address: [u64; 2], port: u16, protocol: u32) -> Option<u32> {
        let [a, b] = port.to_ne_bytes();
        let key = Key6 {
            address,
            rest: u32::from_ne_bytes([a, b, protocol as u8, 0]),
        };
        // SAFETY: see `vip4`; the key's first 20 bytes are the map's key.
        unsafe { VIPS6.get(&*(&raw const key).cast::<[u32; 5]>()) }.copied()
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
    fn budget(&self, real: u16) -> Option<&Word> {
        BUDGETS.get(u32::from(real))
    }

    #[inline(always)]
    fn next_hop(&self, index: u32) -> Option<&NextHop> {
        NEXT_HOPS.get(index)
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
    fn count_real(&self, index: u16, bytes: u32, opened: bool, closed: bool) {
        if let Some(real) = counters(&REAL_COUNTERS, u32::from(index)) {
            real.packets += 1;
            real.bytes += u64::from(bytes);
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
    }

    #[inline(always)]
    fn note(&self, step: Step) {
        if !LOUD {
            return;
        }
        crate::log::log(step);
        if self.simulating()
            && let Some(trace) = TRACE.get_ptr_mut(0)
        {
            // SAFETY: the agent runs one simulation at a time, and nothing else writes the trace.
            unsafe { (*trace).note(step) }
        }
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
    fn simulating(&self) -> bool {
        LOUD && SIMULATE.load() != 0
    }
}

/// The key of `VIPS6`, in words as wide as they are loaded.
#[repr(C)]
struct Key6 {
    address: [u64; 2],
    rest: u32,
}
