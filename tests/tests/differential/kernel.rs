//! Runs the balancer program in the kernel on frames, without an interface.

use std::{
    fs,
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

use aya::{
    Ebpf, EbpfLoader, Pod, TestRun as _, TestRunOptions,
    maps::{
        Array, HashMap, Map, MapData, PerCpuArray,
        lpm_trie::{Key, LpmTrie},
    },
    programs::Xdp,
};
use lb_common::{
    limits::{SAMPLES, SLOTS_PER_CHUNK},
    memory::MemTables,
    reason::Reason,
    state::{MAP, State},
    tables::{
        config::Config,
        constants,
        counters::{
            FlowEvictions, FlowTableCounters, RealCounters, ServerIdCounters, ServiceCounters,
        },
        flow::Bucket,
        names,
        next_hop::NextHop,
        real::{Budget, Real},
        ring::Chunk,
        server_id::{QuicLb, ServerIdKey},
        service::Service,
        signs::{Sample, Signs},
        trace::Trace,
        vip::{Vip4Bucket, Vip6Bucket},
    },
    vip_table::{AddressDigest, SharedVip4Bucket, SharedVip6Bucket, VipHash},
};
use lb_tests::model::{tables, testbed::Testbed};

/// Instructions that the verifier may go through. It gives up after 1,000,000, and kernels differ in what they go
/// through twice.
const VERIFIED: u32 = 800_000;

/// The message if a map has another kind or size than in `lb_common::tables::names`.
const KIND: &str = "maps are of the kind and size that the contract says";
/// The message if an entry of a table cannot be read.
const THERE: &str = "an array has all its entries";

/// A record of `lb_common::tables` for aya.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
struct Record<T>(T);

macro_rules! records {
    ($($name:ty),*) => {
        // SAFETY: records are `repr(C)` and consist of integers without padding, so every bit pattern is valid.
        $(unsafe impl Pod for Record<$name> {})*
    };
}
records!(
    Budget,
    Vip4Bucket,
    Vip6Bucket,
    Config,
    Service,
    Chunk,
    Real,
    NextHop,
    Bucket,
    RealCounters,
    ServiceCounters,
    ServerIdCounters,
    ServerIdKey,
    QuicLb,
    FlowTableCounters,
    FlowEvictions,
    Signs,
    Sample,
    Trace
);

/// A folder of pins. Dropping the value removes it.
struct Pins(PathBuf);

impl Pins {
    fn new() -> Pins {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = PathBuf::from(format!(
            "/sys/fs/bpf/lb-differential-{}-{number}",
            std::process::id()
        ));
        // A killed run may have used this number.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path)
            .unwrap_or_else(|error| panic!("creating {}: {error}", path.display()));
        Pins(path)
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        // A failure cannot be handled here. The name of the folder shows where it comes from.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The result of the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// An XDP action.
    pub verdict: u32,
    /// The frame afterwards.
    pub frame: Vec<u8>,
}

/// The forwarding and the simulating program on the same maps.
pub struct Kernel {
    forwarding: Ebpf,
    simulating: Ebpf,
    vip_buckets: u32,
    _pins: Pins,
}

/// Returns the testbed's VIP tables in memory.
fn vip_tables(testbed: &Testbed) -> MemTables {
    let mut tables = MemTables::default();
    tables.constants.flow_secret = testbed.flow_secret;
    tables::write_vips(&mut tables, testbed);
    tables
}

impl Kernel {
    /// Loads the program for tables of this testbed's size.
    pub fn new(testbed: &Testbed, flow_buckets: u32) -> Kernel {
        let pins = Pins::new();
        let forwarding = load(testbed, flow_buckets, &pins, 0);
        let simulating = load(testbed, flow_buckets, &pins, 1);
        let mut kernel = Kernel {
            forwarding,
            simulating,
            vip_buckets: vip_tables(testbed).vips4.len() as u32,
            _pins: pins,
        };
        kernel.write(testbed);
        kernel
    }

    /// Writes all tables but the flow table.
    pub fn write(&mut self, testbed: &Testbed) {
        let vips = vip_tables(testbed);
        assert_eq!(
            vips.vips4.len() as u32,
            self.vip_buckets,
            "a testbed's VIPs change neither in number nor in place"
        );
        self.set(
            names::VIPS4,
            vips.vips4.iter().map(SharedVip4Bucket::record),
        );
        self.set(
            names::VIPS6,
            vips.vips6.iter().map(SharedVip6Bucket::record),
        );
        self.set(names::CONFIG, [testbed.config()]);
        self.set(names::SERVICES, testbed.service_records());
        self.set(names::REALS, testbed.real_records());
        self.set(names::BUDGETS, testbed.budget_records());
        self.set(names::NEXT_HOPS, testbed.next_hop_records());
        self.set(names::RINGS, tables::chunks(testbed));
        let map = self.map_mut(names::SERVER_IDS);
        let mut ids = HashMap::<_, Record<ServerIdKey>, u32>::try_from(map).expect(KIND);
        for (key, real) in testbed.server_id_records() {
            ids.insert(Record(key), real, 0).expect("writing an id");
        }
        let map = self.map_mut(names::SOURCE_RULES);
        let mut rules = LpmTrie::<_, [u8; 20], u32>::try_from(map).expect(KIND);
        for (key, rule) in testbed.source_rule_records() {
            let mut data = [0; 20];
            data[..4].copy_from_slice(&key.service.to_ne_bytes());
            data[4..].copy_from_slice(&key.address);
            let key = Key::new(key.bits, data);
            rules.insert(&key, rule, 0).expect("writing a rule");
        }
        let map = self.map_mut(names::QUIC_LB);
        let mut configs = HashMap::<_, u32, Record<QuicLb>>::try_from(map).expect(KIND);
        for (key, config) in testbed.quic_lb_records() {
            configs
                .insert(key, Record(config), 0)
                .expect("writing a configuration");
        }
    }

    fn map(&self, name: &str) -> &Map {
        self.forwarding
            .map(name)
            .unwrap_or_else(|| panic!("the object has no map {name}"))
    }

    fn map_mut(&mut self, name: &str) -> &mut Map {
        self.forwarding
            .map_mut(name)
            .unwrap_or_else(|| panic!("the object has no map {name}"))
    }

    fn array<T>(&self, name: &str) -> Array<&MapData, Record<T>>
    where
        Record<T>: Pod,
    {
        self.map(name).try_into().expect(KIND)
    }

    fn set<T>(&mut self, name: &str, records: impl IntoIterator<Item = T>)
    where
        Record<T>: Pod,
    {
        let mut table = Array::<_, Record<T>>::try_from(self.map_mut(name)).expect(KIND);
        for (index, record) in (0..).zip(records) {
            table
                .set(index, Record(record), 0)
                .unwrap_or_else(|error| panic!("writing {name} {index}: {error}"));
        }
    }

    /// Returns the flow table.
    pub fn buckets(&self) -> Vec<Bucket> {
        self.array::<Bucket>(names::FLOWS)
            .iter()
            .map(|bucket| bucket.expect(THERE).0)
            .collect()
    }

    /// Writes the flow table.
    pub fn set_buckets(&mut self, buckets: &[Bucket]) {
        self.set(names::FLOWS, buckets.iter().copied());
    }

    /// Gives the forwarding program its state: the interface's MAC addresses, and no error sent yet.
    pub fn set_state(&mut self, testbed: &Testbed) {
        set_state(&mut self.forwarding, testbed);
    }

    /// Runs the forwarding program.
    pub fn forward(&mut self, frame: &[u8]) -> Run {
        run(&mut self.forwarding, frame)
    }

    /// Runs the simulating program, and reads its trace.
    pub fn simulate(&mut self, frame: &[u8]) -> (Run, Trace) {
        self.set(names::TRACE, [Trace::default()]);
        let run = run(&mut self.simulating, frame);
        (
            run,
            self.array::<Trace>(names::TRACE).get(&0, 0).expect(THERE).0,
        )
    }

    fn per_cpu<T: Copy>(&self, name: &str, index: u32) -> Vec<T>
    where
        Record<T>: Pod,
    {
        let table = PerCpuArray::<_, Record<T>>::try_from(self.map(name)).expect(KIND);
        table
            .get(&index, 0)
            .expect(THERE)
            .iter()
            .map(|record| record.0)
            .collect()
    }

    /// Returns the flows of each real that are still to be shed.
    pub fn budgets(&self) -> Vec<Budget> {
        self.array::<Budget>(names::BUDGETS)
            .iter()
            .map(|budget| budget.expect(THERE).0)
            .collect()
    }

    /// Returns the frames by reason.
    pub fn reasons(&self) -> Vec<u64> {
        let table = PerCpuArray::<_, u64>::try_from(self.map(names::REASON_COUNTERS)).expect(KIND);
        Reason::ALL
            .iter()
            .map(|reason| table.get(&(*reason as u32), 0).expect(THERE).iter().sum())
            .collect()
    }

    /// Returns the counters of the first `count` reals.
    pub fn reals(&self, count: usize) -> Vec<RealCounters> {
        (0..count as u32)
            .map(|index| {
                self.per_cpu(names::REAL_COUNTERS, index).iter().fold(
                    RealCounters::default(),
                    |sum, one: &RealCounters| RealCounters {
                        packets: sum.packets + one.packets,
                        bytes: sum.bytes + one.bytes,
                        opened: sum.opened + one.opened,
                        closed: sum.closed + one.closed,
                    },
                )
            })
            .collect()
    }

    /// Returns the counters of the first `count` services.
    pub fn services(&self, count: usize) -> Vec<ServiceCounters> {
        (0..count as u32)
            .map(|index| {
                self.per_cpu(names::SERVICE_COUNTERS, index).iter().fold(
                    ServiceCounters::default(),
                    |sum, one: &ServiceCounters| ServiceCounters {
                        dropped_packets: sum.dropped_packets + one.dropped_packets,
                        dropped_bytes: sum.dropped_bytes + one.dropped_bytes,
                    },
                )
            })
            .collect()
    }

    /// Returns the counters of packets that named a real, by service.
    pub fn server_ids(&self, count: usize) -> Vec<ServerIdCounters> {
        (0..count as u32)
            .map(|index| {
                self.per_cpu(names::SERVER_ID_COUNTERS, index).iter().fold(
                    ServerIdCounters::default(),
                    |sum, one: &ServerIdCounters| ServerIdCounters {
                        known: sum.known + one.known,
                        unknown: sum.unknown + one.unknown,
                    },
                )
            })
            .collect()
    }

    /// Returns the signs of each real.
    pub fn signs(&self) -> Vec<Signs> {
        self.array::<Signs>(names::SIGNS)
            .iter()
            .map(|signs| signs.expect(THERE).0)
            .collect()
    }

    /// Returns the table of sampled flows.
    pub fn samples(&self) -> Vec<Sample> {
        self.array::<Sample>(names::SAMPLES)
            .iter()
            .map(|sample| sample.expect(THERE).0)
            .collect()
    }

    /// Returns the evictions from the flow table by kind.
    pub fn evictions(&self) -> FlowEvictions {
        self.per_cpu(names::FLOW_EVICTIONS, 0).iter().fold(
            FlowEvictions::default(),
            |sum, one: &FlowEvictions| FlowEvictions {
                opening: sum.opening + one.opening,
                running: sum.running + one.running,
                refused: sum.refused + one.refused,
                pad: sum.pad + one.pad,
            },
        )
    }

    /// Returns the counters of the flow table.
    pub fn flow_counters(&self) -> FlowTableCounters {
        self.per_cpu(names::FLOW_COUNTERS, 0).iter().fold(
            FlowTableCounters::default(),
            |sum, one: &FlowTableCounters| FlowTableCounters {
                inserted: sum.inserted + one.inserted,
                evicted: sum.evicted + one.evicted,
                hits: sum.hits + one.hits,
                misses: sum.misses + one.misses,
            },
        )
    }
}

fn load(testbed: &Testbed, flow_buckets: u32, pins: &Pins, simulate: u32) -> Ebpf {
    let buckets = vip_tables(testbed).vips4.len() as u32;
    let vip_hash = VipHash::new(testbed.flow_secret, buckets);
    let digest = AddressDigest::new(testbed.flow_secret);
    let sizes = [
        (names::VIPS4, buckets),
        (names::VIPS6, buckets),
        (names::CONFIG, 1),
        (names::SERVICES, testbed.services.len() as u32),
        (
            names::RINGS,
            (testbed.slots.len() as u32).div_ceil(SLOTS_PER_CHUNK),
        ),
        (names::REALS, testbed.reals.len() as u32),
        (names::BUDGETS, testbed.reals.len() as u32),
        (names::NEXT_HOPS, testbed.next_hops.len() as u32),
        (names::FLOWS, flow_buckets),
        (names::REAL_COUNTERS, testbed.reals.len() as u32),
        (names::SERVICE_COUNTERS, testbed.services.len() as u32),
        (names::REASON_COUNTERS, lb_common::limits::REASON_SLOTS),
        (names::FLOW_COUNTERS, 1),
        (names::FLOW_EVICTIONS, 1),
        (names::SIGNS, testbed.reals.len() as u32),
        (names::SAMPLES, SAMPLES),
        (names::SERVER_ID_COUNTERS, testbed.services.len() as u32),
        (names::SERVER_IDS, lb_common::limits::MAX_REALS),
        (names::QUIC_LB, lb_common::limits::MAX_QUIC_LB),
        (names::SOURCE_RULES, lb_common::limits::MAX_SOURCE_RULES),
        (names::FRAGMENTS, lb_common::limits::FRAGMENT_BUCKETS),
        (names::TRACE, 1),
        (names::PORT_SETS, lb_common::limits::MAX_PORT_SETS),
    ];
    let mask = flow_buckets - 1;
    let mut loader = EbpfLoader::new();
    for (name, entries) in &sizes {
        loader
            .map_max_entries(name, *entries)
            .map_pin_path(name, pins.0.join(name));
    }
    let mut ebpf = loader
        .override_global(constants::INTERFACE_INDEX, &testbed.interface, true)
        .override_global(constants::RING_SEED, &testbed.ring_seed, true)
        .override_global(constants::FLOW_SECRET_0, &testbed.flow_secret[0], true)
        .override_global(constants::FLOW_SECRET_1, &testbed.flow_secret[1], true)
        .override_global(constants::FLOW_MASK, &mask, true)
        .override_global(constants::GUE_PORT, &testbed.gue_port, true)
        .override_global(constants::VIP_FACTOR, &vip_hash.factor, true)
        .override_global(constants::VIP_SHIFT, &vip_hash.shift, true)
        .override_global(constants::DIGEST_FACTOR_0, &digest.factors[0], true)
        .override_global(constants::DIGEST_FACTOR_1, &digest.factors[1], true)
        .override_global(constants::SIMULATE, &simulate, true)
        .load(lb_dataplane::objects::BALANCER)
        .expect("creating the balancer's maps");
    let balancer = program(&mut ebpf);
    balancer
        .load()
        .expect("loading the balancer into the kernel");
    // Linux 5.16 and newer say how many.
    let info = balancer.info().expect("examining the loaded balancer");
    if let Some(instructions) = info.verified_instruction_count() {
        assert!(
            instructions < VERIFIED,
            "the verifier went through {instructions} instructions"
        );
    }
    set_state(&mut ebpf, testbed);
    ebpf
}

fn set_state(ebpf: &mut Ebpf, testbed: &Testbed) {
    let state = tables::state(testbed);
    let mut words = [0_u64; size_of::<State>() / 8];
    let places = std::iter::once(&state.station.own).chain(&state.station.others);
    for (word, place) in words.iter_mut().zip(places) {
        *word = place.load();
    }
    let map = ebpf.map_mut(MAP).expect("the object has a program's state");
    Array::<_, [u64; size_of::<State>() / 8]>::try_from(map)
        .expect(KIND)
        .set(0, words, 0)
        .expect("writing a program's state");
}

fn program(ebpf: &mut Ebpf) -> &mut Xdp {
    ebpf.program_mut("balancer")
        .expect("the object has a program `balancer`")
        .try_into()
        .expect("`balancer` is an XDP program")
}

fn run(ebpf: &mut Ebpf, frame: &[u8]) -> Run {
    let mut out = vec![0; 4_096];
    let result = program(ebpf)
        .test_run(TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            ..TestRunOptions::default()
        })
        .unwrap_or_else(|error| panic!("test run of {} bytes: {error}", frame.len()));
    out.truncate(result.data_size_out as usize);
    Run {
        verdict: result.return_value,
        frame: out,
    }
}
