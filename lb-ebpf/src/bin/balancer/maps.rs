//! The balancer's maps and constants. The agent sets the maps' sizes when it loads the program.

use core::{
    marker::PhantomData,
    ops::{Deref, DerefMut},
};

use aya_ebpf::programs::XdpContext;
use aya_ebpf::{
    Global,
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC, BPF_NOEXIST, xdp_md},
    helpers::generated::{bpf_ktime_get_coarse_ns, bpf_ktime_get_ns, bpf_map_lookup_elem},
    macros::map,
    maps::{
        Array, HashMap, LruHashMap, PerCpuArray,
        lpm_trie::{Key, LpmTrie},
    },
};
use lb_common::{
    flow_limits,
    flow_table::{self, Newcomer, SharedBucket},
    fragments::{self, Found},
    frame::Frame,
    headers::udp,
    icmp_answer,
    limits::{
        DECAPSULATED_SLOT, FRAGMENT_BUCKETS, MAX_QUIC_LB, MAX_REALS, MAX_SOURCE_RULES,
        MAX_WIDE_KEYS, REASON_SLOTS, SLOTS_PER_CHUNK, TICK_SHIFT,
    },
    lookup::{FlowEvent, Step, Tables},
    nat::{self, Inserted, Task, Translated},
    reason::Reason,
    reset::{self, Segment},
    server_ids::{self, Named},
    shared::SharedU64,
    shed,
    signs::{self, FlowChange},
    simulated::Simulated,
    state::State,
    station::Station,
    tables::{
        config::Config,
        counters::{
            FlowEvictions, FlowTableCounters, LookupCounters, RealCounters, ServerIdCounters,
            ServiceCounters,
        },
        fragment::FragmentBucket,
        meta::Meta,
        nat::{NatDraft, NatEntry, NatKey, NatSettings},
        next_hop::NextHop,
        real::Real,
        ring::{Chunk, Slot},
        server_id::{QuicLb, ServerIdKey},
        service::Service,
        signs::{SharedSample, SharedSigns},
        source_rule::SourceKey,
        trace::{LookedUp, Trace},
        wide::{PortSet, WideKey},
    },
    vip_table::{AddressDigest, SharedVip4Bucket, SharedVip6Bucket, VipHash},
};
use lb_ebpf::frame::XdpFrame;

/// Bytes of a key of `WIDE` behind the number of its bits.
const WIDE_DATA: usize = size_of::<WideKey>() - size_of::<u32>();

/// The same of `SOURCE_RULES`.
const SOURCE_DATA: usize = size_of::<SourceKey>() - size_of::<u32>();

/// Entries of a map for which the agent sets another number.
const SMALL: u32 = 16;

#[map]
static VIPS4: Array<SharedVip4Bucket> = Array::with_max_entries(SMALL, BPF_F_MMAPABLE);
#[map]
static VIPS6: Array<SharedVip6Bucket> = Array::with_max_entries(SMALL, BPF_F_MMAPABLE);
#[map]
static WIDE: LpmTrie<[u8; WIDE_DATA], u32> =
    LpmTrie::with_max_entries(MAX_WIDE_KEYS, BPF_F_NO_PREALLOC);
#[map]
static SOURCE_RULES: LpmTrie<[u8; SOURCE_DATA], u32> =
    LpmTrie::with_max_entries(MAX_SOURCE_RULES, BPF_F_NO_PREALLOC);
#[map]
static PORT_SETS: Array<PortSet> = Array::with_max_entries(SMALL, BPF_F_MMAPABLE);
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
static SERVICE_LIMITS: Array<SharedU64> = Array::with_max_entries(SMALL, 0);
#[map]
static REAL_LIMITS: Array<SharedU64> = Array::with_max_entries(SMALL, 0);
#[map]
static SOURCE_LIMITS: Array<SharedU64> =
    Array::with_max_entries(lb_common::limits::SOURCE_LIMITS, 0);
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
static NAT_FLOWS: LruHashMap<NatKey, NatEntry> = LruHashMap::with_max_entries(SMALL, 0);
#[map]
static NAT_DRAFT: PerCpuArray<NatDraft> = PerCpuArray::with_max_entries(1, 0);
#[map]
static NAT_SETTINGS: Array<NatSettings> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
static FRAGMENTS: Array<FragmentBucket> = Array::with_max_entries(FRAGMENT_BUCKETS, 0);
/// Without allocation in advance, as all hash maps that only the agent changes: an unused one is its buckets, 512 KiB.
#[map]
static SERVER_IDS: HashMap<ServerIdKey, u32> =
    HashMap::with_max_entries(MAX_REALS, BPF_F_NO_PREALLOC);
#[map]
static QUIC_LB: HashMap<u32, QuicLb> = HashMap::with_max_entries(MAX_QUIC_LB, BPF_F_NO_PREALLOC);
#[map]
static SERVER_ID_COUNTERS: PerCpuArray<ServerIdCounters> = PerCpuArray::with_max_entries(SMALL, 0);
#[map]
static TRACE: Array<Trace> = Array::with_max_entries(1, 0);
#[map]
static LOOKED_UP: Array<LookedUp> = Array::with_max_entries(1, 0);

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
static TUNNEL_ENDS: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static GUE_PORT: Global<u16> = Global::new(udp::GUE_PORT);
#[unsafe(no_mangle)]
static SIMULATE: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static OBSERVE: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static CAPTURE: Global<u32> = Global::new(0);

/// Receives the steps of a decision.
pub trait Observer {
    /// Called for each step.
    fn note(step: Step);
}

/// Ignores them.
pub struct Quiet;

/// Logs them, and notes them for a capture.
pub struct Observing;

/// Logs them and writes the trace that a simulation reports.
pub struct Tracing;

impl Observer for Quiet {
    #[inline(always)]
    fn note(_step: Step) {}
}

impl Observer for Observing {
    #[inline(always)]
    fn note(step: Step) {
        crate::log::log(step);
        if captures() {
            crate::capture::note(step);
        }
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
        if let (Step::Slot(..) | Step::Entry(..), Some(looked_up)) =
            (step, LOOKED_UP.get_ptr_mut(0))
        {
            // SAFETY: as above.
            unsafe { (*looked_up).note(step) }
        }
    }
}

/// Whether this program is the one that `simulate` runs.
#[inline(always)]
pub fn simulates() -> bool {
    SIMULATE.load() != 0
}

/// Whether this program logs or captures anything. One constant for both, so that what is off costs nothing.
#[inline(always)]
pub fn observes() -> bool {
    OBSERVE.load() != 0
}

/// Whether this program captures.
#[inline(always)]
pub fn captures() -> bool {
    CAPTURE.load() != 0
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

/// [`flow_limits::admit`]; returns 1 or 0.
///
/// A global function for the same reason as [`find_room`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn admit_flow(service: u64, source: u64, real: u64) -> u64 {
    let tables = MapTables::<Quiet>::new();
    flow_limits::admit(&tables, service as u32, source, real as u16).into()
}

/// [`shed::end_flow`]; returns 1 or 0.
///
/// A global function for the same reason as [`find_room`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn end_flow(context: *mut xdp_md, real: u64) -> u64 {
    let frame = &mut XdpFrame::new(XdpContext::new(context));
    shed::end_flow(frame, &MapTables::<Quiet>::new(), real as u16).into()
}

/// The rule about a source, as a number; see [`Tables::source_rule`].
///
/// A global function for the same reason as [`find_room`], and because of the key's room on the stack.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn source_rule(service: u64, first: u64, second: u64) -> u64 {
    let key = &SourceKey::of_source(service as u32, [first, second]);
    // SAFETY: both are the number of bits and what they are of, without padding between.
    let key = unsafe { &*core::ptr::from_ref(key).cast::<Key<[u8; SOURCE_DATA]>>() };
    SOURCE_RULES.get(key).map_or(0, |rule| u64::from(*rule))
}

/// [`reset::answer_number`].
///
/// A global function for the same reason as [`find_room`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn answer_segment(context: *mut xdp_md, place: u64, header: u64) -> u64 {
    let mut frame = XdpFrame::new(XdpContext::new(context));
    reset::answer_number(&mut frame, Segment { place, header })
}

/// [`icmp_answer::answer_number`]; returns whether the frame is an answer.
///
/// A global function for the same reason as [`find_room`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn answer_error(context: *mut xdp_md, cause: u64) -> u64 {
    let mut frame = XdpFrame::new(XdpContext::new(context));
    let answered = icmp_answer::answer_number(&mut frame, &MapTables::<Quiet>::new(), cause);
    u64::from(answered)
}

/// [`nat::translate`]; the task and the result as numbers.
///
/// A global function for the same reason as [`find_room`]. It gets the program's context, from which it makes the frame
/// again.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn nat_translate(context: *mut xdp_md, task: u64, fragment: u64) -> u64 {
    let frame = &mut XdpFrame::new(XdpContext::new(context));
    let tables = &MapTables::<Quiet>::new();
    let task = Task::from_number(task);
    // The condition is a constant of the loaded program.
    let translated = if simulates() {
        nat::translate(frame, &Simulated(tables), task, Found(fragment))
    } else {
        nat::translate(frame, tables, task, Found(fragment))
    };
    translated.0
}

/// [`nat::translate_error`], as [`nat_translate`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn nat_translate_error(context: *mut xdp_md) -> u64 {
    let frame = &mut XdpFrame::new(XdpContext::new(context));
    nat::translate_error(frame, &MapTables::<Quiet>::new()).0
}

/// [`nat::open`], as [`nat_translate`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn nat_open(context: *mut xdp_md, real: u64, fragment: u64) -> u64 {
    let frame = &mut XdpFrame::new(XdpContext::new(context));
    let fragment = Found(fragment);
    nat::open(frame, &MapTables::<Quiet>::new(), real as u16, fragment).0
}

/// [`nat::close`], as [`nat_translate`]. Returns 0.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn nat_close(context: *mut xdp_md, fragment: u64) -> u64 {
    let frame = &mut XdpFrame::new(XdpContext::new(context));
    nat::close(frame, &MapTables::<Quiet>::new(), Found(fragment));
    0
}

/// [`server_ids::find`]; the arguments as [`Named`] has them.
///
/// A global function for the same reason as [`find_room`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn find_named(context: *mut xdp_md, transport: u64, service: u64) -> u64 {
    let frame = &mut XdpFrame::new(XdpContext::new(context));
    let tables = &MapTables::<Quiet>::new();
    let named = Named { transport, service };
    // The condition is a constant of the loaded program.
    let real = if simulates() {
        server_ids::find(frame, &Simulated(tables), named)
    } else {
        server_ids::find(frame, tables, named)
    };
    real.into()
}

/// [`fragments::find`], as a number.
///
/// A global function for the same reason as [`find_room`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn find_fragment(context: *mut xdp_md) -> u64 {
    let frame = &mut XdpFrame::new(XdpContext::new(context));
    let tables = &MapTables::<Quiet>::new();
    // The condition is a constant of the loaded program.
    let found = if simulates() {
        fragments::find(frame, &Simulated(tables))
    } else {
        fragments::find(frame, tables)
    };
    found.0
}

/// [`fragments::named`].
///
/// A global function as [`find_fragment`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn named_of_fragment(context: *mut xdp_md, named: u64) -> u64 {
    let frame = &mut XdpFrame::new(XdpContext::new(context));
    let tables = &MapTables::<Quiet>::new();
    // The condition is a constant of the loaded program.
    let named = if simulates() {
        fragments::named(frame, &Simulated(tables), named as u16)
    } else {
        fragments::named(frame, tables, named as u16)
    };
    named.into()
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
    fn port_set(&self, key: &WideKey) -> Option<&PortSet> {
        // SAFETY: both are the number of bits and the bytes behind it, and the kernel's needs no alignment.
        let key = unsafe { &*core::ptr::from_ref(key).cast::<Key<[u8; WIDE_DATA]>>() };
        let set = WIDE.get(key)?;
        PORT_SETS.get(*set)
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
    fn service_limit(&self, service: u32) -> Option<&SharedU64> {
        SERVICE_LIMITS.get(service)
    }

    #[inline(always)]
    fn real_limit(&self, real: u16) -> Option<&SharedU64> {
        REAL_LIMITS.get(u32::from(real))
    }

    #[inline(always)]
    fn source_limit(&self, place: u32) -> Option<&SharedU64> {
        SOURCE_LIMITS.get(place)
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
    fn nat_settings(&self) -> Option<&NatSettings> {
        NAT_SETTINGS.get(0)
    }

    #[inline(always)]
    fn nat_entry(&self, key: &NatKey) -> Option<impl Deref<Target = NatEntry>> {
        // SAFETY: an entry that gives way while a packet is translated may become another connection's, and then one packet
        // is damaged, which its receiver sees by its checksum. Only shared words are written.
        unsafe { NAT_FLOWS.get(key) }
    }

    #[inline(always)]
    fn nat_draft(&self) -> Option<impl DerefMut<Target = NatDraft>> {
        // SAFETY: see `counters`; one connection at a time is opened by a CPU.
        NAT_DRAFT.get_ptr_mut(0).map(|draft| unsafe { &mut *draft })
    }

    #[inline(always)]
    fn insert_nat(&self, key: &NatKey, entry: &NatEntry) -> Inserted {
        const EXISTS: i32 = -17;
        match NAT_FLOWS.insert(key, entry, BPF_NOEXIST.into()) {
            Ok(()) => Inserted::Done,
            Err(EXISTS) => Inserted::Exists,
            Err(_) => Inserted::Full,
        }
    }

    #[inline(always)]
    fn remove_nat(&self, key: &NatKey) {
        let _ = NAT_FLOWS.remove(key);
    }

    #[inline(always)]
    fn admit_flow(&self, service: u32, source: u64, real: u16) -> bool {
        admit_flow(service.into(), source, real.into()) != 0
    }

    #[inline(always)]
    fn end_flow<F: Frame>(&self, frame: &mut F, real: u16) -> bool {
        end_flow(frame.context().cast(), real.into()) != 0
    }

    #[inline(always)]
    fn translate<F: Frame>(&self, frame: &mut F, task: Task, fragment: Found) -> Translated {
        let context = frame.context().cast();
        Translated(nat_translate(context, task.number(), fragment.0))
    }

    #[inline(always)]
    fn simulate_translation<F: Frame>(
        &self,
        frame: &mut F,
        task: Task,
        fragment: Found,
    ) -> Translated {
        self.translate(frame, task, fragment)
    }

    #[inline(always)]
    fn translate_error<F: Frame>(&self, frame: &mut F) -> Translated {
        Translated(nat_translate_error(frame.context().cast()))
    }

    #[inline(always)]
    fn open_connection<F: Frame>(&self, frame: &mut F, real: u16, fragment: Found) -> Translated {
        Translated(nat_open(frame.context().cast(), real.into(), fragment.0))
    }

    #[inline(always)]
    fn close_connection<F: Frame>(&self, frame: &mut F, fragment: Found) {
        nat_close(frame.context().cast(), fragment.0);
    }

    #[inline(always)]
    fn server_id(&self, key: &ServerIdKey) -> Option<u32> {
        // SAFETY: the agent replaces entries and does not change them.
        unsafe { SERVER_IDS.get(key) }.copied()
    }

    #[inline(always)]
    fn quic_lb(&self, key: u32) -> Option<&QuicLb> {
        // SAFETY: the agent replaces entries and does not change them; an old one is freed when no program has it any more.
        unsafe { QUIC_LB.get(&key) }
    }

    #[inline(always)]
    fn source_rule(&self, service: u32, source: [u64; 2]) -> u32 {
        source_rule(service.into(), source[0], source[1]) as u32
    }

    #[inline(always)]
    fn find_named<F: Frame>(&self, frame: &mut F, named: Named) -> u16 {
        find_named(frame.context().cast(), named.transport, named.service) as u16
    }

    #[inline(always)]
    fn simulate_named<F: Frame>(&self, frame: &mut F, named: Named) -> u16 {
        self.find_named(frame, named)
    }

    #[inline(always)]
    fn fragments(&self, bucket: u32) -> Option<&FragmentBucket> {
        FRAGMENTS.get(bucket)
    }

    #[inline(always)]
    fn find_fragment<F: Frame>(&self, frame: &mut F) -> Found {
        Found(find_fragment(frame.context().cast()))
    }

    #[inline(always)]
    fn named_of_fragment<F: Frame>(&self, frame: &mut F, named: u16) -> u16 {
        named_of_fragment(frame.context().cast(), named.into()) as u16
    }

    #[inline(always)]
    fn simulate_named_of_fragment<F: Frame>(&self, frame: &mut F, named: u16) -> u16 {
        self.named_of_fragment(frame, named)
    }

    #[inline(always)]
    fn simulate_fragment<F: Frame>(&self, frame: &mut F) -> Found {
        self.find_fragment(frame)
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
    fn answer_segment<F: Frame>(&self, frame: &mut F, Segment { place, header }: Segment) -> u64 {
        answer_segment(frame.context().cast(), place, header)
    }

    #[inline(always)]
    fn answer_error<F: Frame>(&self, frame: &mut F, cause: u64) -> bool {
        answer_error(frame.context().cast(), cause) != 0
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
    fn count_decapsulated(&self) {
        let index = INTERFACE_SLOT.load() * REASON_SLOTS + DECAPSULATED_SLOT;
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
    fn count_server_id(&self, service: u32, known: bool) {
        if let Some(ids) = counters(&SERVER_ID_COUNTERS, service) {
            ids.count(known);
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
    fn ends_tunnels(&self) -> bool {
        TUNNEL_ENDS.load() != 0
    }

    #[inline(always)]
    fn gue_port(&self) -> u16 {
        GUE_PORT.load()
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
