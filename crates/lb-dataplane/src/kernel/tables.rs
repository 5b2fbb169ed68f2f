//! The kernel's tables of the current layout, mapped into memory.

use std::{collections::HashMap, os::fd::AsFd as _, path::Path};

use aya::maps::{Array, HashMap as HashMapTable, Map, MapData, PerCpuArray, lpm_trie::LpmTrie};
use lb_common::limits::{MAX_PORT_SETS, SAMPLES, SLOTS_PER_CHUNK};
use lb_common::tables::{
    config::Config,
    flow::Bucket,
    meta::Meta,
    names,
    nat::NatSettings,
    next_hop::NextHop,
    real::{Budget, Real},
    ring::Chunk,
    server_id::{QuicLb, ServerIdKey},
    service::Service,
    signs::{Sample, Signs},
    vip::{Vip4Bucket, Vip6Bucket},
    wide::PortSet,
};

use super::{bpf, layout::Layout, mapped::Mapped, pinned_tables::PinnedTables};
use crate::{
    error::{DataplaneError, system},
    table_sizes::TableSizes,
};

/// Words of the counters' records.
const REAL_WORDS: usize = 4;
const SERVICE_WORDS: usize = 2;
const LOOKUP_WORDS: usize = 2;
const SERVER_ID_COUNTER_WORDS: usize = 2;
/// Words of a key of `SERVER_IDS`, and of a value of `QUIC_LB`.
pub(crate) const ID_WORDS: usize = size_of::<ServerIdKey>() / 8;
pub(crate) const QUIC_LB_WORDS: usize = size_of::<QuicLb>() / 8;

/// The tables of one folder.
pub(crate) struct KernelTables {
    pub sizes: TableSizes,
    /// Every map by its name, to pin it again.
    pub maps: HashMap<&'static str, MapData>,
    pub meta: Mapped<Meta>,
    pub config: Mapped<Config>,
    pub services: Mapped<Service>,
    pub rings: Mapped<Chunk>,
    pub reals: Mapped<Real>,
    pub budgets: Mapped<Budget>,
    pub next_hops: Mapped<NextHop>,
    pub flows: Mapped<Bucket>,
    pub wide: LpmTrie<MapData, [u8; 20], u32>,
    pub port_sets: Mapped<PortSet>,
    pub vips4: Mapped<Vip4Bucket>,
    pub vips6: Mapped<Vip6Bucket>,
    pub real_counters: PerCpuArray<MapData, [u64; REAL_WORDS]>,
    pub service_counters: PerCpuArray<MapData, [u64; SERVICE_WORDS]>,
    pub reason_counters: PerCpuArray<MapData, u64>,
    pub flow_counters: PerCpuArray<MapData, [u64; 4]>,
    pub flow_evictions: PerCpuArray<MapData, [u64; 4]>,
    pub lookups: PerCpuArray<MapData, [u64; LOOKUP_WORDS]>,
    pub signs: Mapped<Signs>,
    pub samples: Mapped<Sample>,
    pub nat_flows: HashMapTable<MapData, [u64; 5], [u64; 10]>,
    pub nat_settings: Mapped<NatSettings>,
    pub server_ids: HashMapTable<MapData, [u64; ID_WORDS], u32>,
    pub source_rules: LpmTrie<MapData, [u8; 20], u32>,
    pub quic_lb: HashMapTable<MapData, u32, [u64; QUIC_LB_WORDS]>,
    pub server_id_counters: PerCpuArray<MapData, [u64; SERVER_ID_COUNTER_WORDS]>,
    pub trace: Array<MapData, [u32; 4]>,
}

impl KernelTables {
    /// Opens the tables of a folder, which have the current layout.
    ///
    /// # Errors
    /// [`DataplaneError::System`] if a table cannot be opened or has another form.
    pub fn open(folder: &Path) -> Result<KernelTables, DataplaneError> {
        let pinned = PinnedTables::open(folder, Layout::Current)?;
        let sizes = pinned.sizes;
        let meta = Mapped::<Meta>::new(names::META, pinned.get(names::META)?, 1)?;
        Ok(KernelTables {
            sizes,
            config: Mapped::new(names::CONFIG, pinned.get(names::CONFIG)?, 1)?,
            services: Mapped::new(
                names::SERVICES,
                pinned.get(names::SERVICES)?,
                sizes.services,
            )?,
            rings: Mapped::new(
                names::RINGS,
                pinned.get(names::RINGS)?,
                sizes.ring_slots / SLOTS_PER_CHUNK,
            )?,
            reals: Mapped::new(names::REALS, pinned.get(names::REALS)?, sizes.reals)?,
            budgets: Mapped::new(names::BUDGETS, pinned.get(names::BUDGETS)?, sizes.reals)?,
            next_hops: Mapped::new(
                names::NEXT_HOPS,
                pinned.get(names::NEXT_HOPS)?,
                sizes.next_hops,
            )?,
            flows: Mapped::new(names::FLOWS, pinned.get(names::FLOWS)?, sizes.flow_buckets)?,
            wide: typed(names::WIDE, pinned.reopen(names::WIDE)?)?,
            port_sets: Mapped::new(
                names::PORT_SETS,
                pinned.get(names::PORT_SETS)?,
                MAX_PORT_SETS,
            )?,
            vips4: Mapped::new(names::VIPS4, pinned.get(names::VIPS4)?, sizes.vip_buckets)?,
            vips6: Mapped::new(names::VIPS6, pinned.get(names::VIPS6)?, sizes.vip_buckets)?,
            real_counters: typed(names::REAL_COUNTERS, pinned.reopen(names::REAL_COUNTERS)?)?,
            service_counters: typed(
                names::SERVICE_COUNTERS,
                pinned.reopen(names::SERVICE_COUNTERS)?,
            )?,
            reason_counters: typed(
                names::REASON_COUNTERS,
                pinned.reopen(names::REASON_COUNTERS)?,
            )?,
            flow_counters: typed(names::FLOW_COUNTERS, pinned.reopen(names::FLOW_COUNTERS)?)?,
            flow_evictions: typed(names::FLOW_EVICTIONS, pinned.reopen(names::FLOW_EVICTIONS)?)?,
            lookups: typed(names::LOOKUPS, pinned.reopen(names::LOOKUPS)?)?,
            signs: Mapped::new(names::SIGNS, pinned.get(names::SIGNS)?, sizes.reals)?,
            samples: Mapped::new(names::SAMPLES, pinned.get(names::SAMPLES)?, SAMPLES)?,
            nat_flows: typed(names::NAT_FLOWS, pinned.reopen(names::NAT_FLOWS)?)?,
            nat_settings: Mapped::new(names::NAT_SETTINGS, pinned.get(names::NAT_SETTINGS)?, 1)?,
            server_ids: typed(names::SERVER_IDS, pinned.reopen(names::SERVER_IDS)?)?,
            source_rules: typed(names::SOURCE_RULES, pinned.reopen(names::SOURCE_RULES)?)?,
            quic_lb: typed(names::QUIC_LB, pinned.reopen(names::QUIC_LB)?)?,
            server_id_counters: typed(
                names::SERVER_ID_COUNTERS,
                pinned.reopen(names::SERVER_ID_COUNTERS)?,
            )?,
            trace: typed(names::TRACE, pinned.reopen(names::TRACE)?)?,
            meta,
            maps: pinned.maps,
        })
    }

    /// Every counter of the reals: four words each, all CPUs together.
    pub fn all_real_counters(&self) -> Result<Vec<[u64; REAL_WORDS]>, DataplaneError> {
        let operation = || format!("reading the table {}", names::REAL_COUNTERS);
        let map = self
            .maps
            .get(names::REAL_COUNTERS)
            .ok_or_else(|| system(operation())("the table is not open; please report this"))?;
        let cpus = aya::util::nr_cpus().map_err(|(what, error)| system(what.to_owned())(error))?;
        let values = bpf::read_per_cpu(map.fd().as_fd(), self.sizes.reals, REAL_WORDS, cpus)
            .map_err(system(operation()))?;
        Ok(values
            .chunks_exact(REAL_WORDS * cpus)
            .map(|entry| {
                let mut sum = [0; REAL_WORDS];
                for cpu in entry.chunks_exact(REAL_WORDS) {
                    for (sum, word) in sum.iter_mut().zip(cpu) {
                        *sum += word;
                    }
                }
                sum
            })
            .collect())
    }
}

fn typed<T>(name: &str, map: MapData) -> Result<T, DataplaneError>
where
    T: TryFrom<Map>,
    T::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let map = Map::from_map_data(map).map_err(system(format!("opening the table {name}")))?;
    T::try_from(map).map_err(system(format!("opening the table {name}")))
}
