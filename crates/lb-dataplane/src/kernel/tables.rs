//! The kernel's tables: opened from their pins, checked, mapped.

use std::{collections::HashMap, os::fd::AsFd as _, path::Path};

use aya::maps::{Array, Map, MapData, MapInfo, MapType, PerCpuArray};
use lb_common::limits::SLOTS_PER_CHUNK;
use lb_common::tables::{
    config::Config,
    flow::Bucket,
    meta::{LAYOUT_VERSION, MAGIC, Meta},
    names,
    next_hop::NextHop,
    real::{Budget, Real},
    ring::Chunk,
    service::Service,
    vip::{Vip4Bucket, Vip6Bucket},
};
use lb_common::vip_table::VipHash;

use super::{bpf, loader, mapped::Mapped};
use crate::{
    error::{DataplaneError, system},
    table_sizes::TableSizes,
};

/// `BPF_F_MMAPABLE`.
const MMAPABLE: u32 = 1 << 10;

/// Words of the counters' records.
const REAL_WORDS: usize = 4;
const SERVICE_WORDS: usize = 2;

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
    pub vips4: Mapped<Vip4Bucket>,
    pub vips6: Mapped<Vip6Bucket>,
    pub real_counters: PerCpuArray<MapData, [u64; REAL_WORDS]>,
    pub service_counters: PerCpuArray<MapData, [u64; SERVICE_WORDS]>,
    pub reason_counters: PerCpuArray<MapData, u64>,
    pub flow_counters: PerCpuArray<MapData, [u64; 4]>,
    pub trace: Array<MapData, [u32; 4]>,
}

/// Type, key size, value size and flags of each table in this layout version.
fn form(name: &str) -> (MapType, u32, u32, u32) {
    let mapped = |size| (MapType::Array, 4, size, MMAPABLE);
    match name {
        names::VIPS4 => mapped(size_of::<Vip4Bucket>() as u32),
        names::VIPS6 => mapped(size_of::<Vip6Bucket>() as u32),
        names::REAL_COUNTERS => (MapType::PerCpuArray, 4, 8 * REAL_WORDS as u32, 0),
        names::SERVICE_COUNTERS => (MapType::PerCpuArray, 4, 8 * SERVICE_WORDS as u32, 0),
        names::REASON_COUNTERS => (MapType::PerCpuArray, 4, 8, 0),
        names::FLOW_COUNTERS => (MapType::PerCpuArray, 4, 32, 0),
        names::TRACE => (MapType::Array, 4, 16, 0),
        names::BUDGETS => mapped(size_of::<Budget>() as u32),
        names::NEXT_HOPS => mapped(size_of::<NextHop>() as u32),
        // One record or one cache line each.
        _ => mapped(64),
    }
}

impl KernelTables {
    /// Opens the tables of a folder and checks the form of each first: a map of another form would be misread.
    pub fn open(folder: &Path) -> Result<KernelTables, DataplaneError> {
        let pinned = Pinned::read(folder)?;
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

/// Pinned maps whose form was checked.
struct Pinned<'a> {
    folder: &'a Path,
    sizes: TableSizes,
    maps: HashMap<&'static str, MapData>,
}

impl<'a> Pinned<'a> {
    fn read(folder: &'a Path) -> Result<Pinned<'a>, DataplaneError> {
        let mut maps = HashMap::new();
        let mut entries = HashMap::new();
        let any = TableSizes {
            services: 1,
            reals: 1,
            next_hops: 1,
            ring_slots: SLOTS_PER_CHUNK,
            vip_buckets: VipHash::LEAST,
            flow_buckets: 1,
        };
        for (name, _) in loader::tables(&any) {
            let path = folder.join(name);
            let map = MapData::from_pin(&path).map_err(system(format!(
                "opening the table {}; it may be the rest of a removed data plane, which `lb-agent detach` removes",
                path.display()
            )))?;
            let info = map
                .info()
                .map_err(system(format!("examining the table {}", path.display())))?;
            check(name, &path, &info)?;
            entries.insert(name, info.max_entries());
            maps.insert(name, map);
        }
        let size = |name| entries.get(name).copied().unwrap_or_default();
        let sizes = TableSizes {
            services: size(names::SERVICES),
            reals: size(names::REALS),
            next_hops: size(names::NEXT_HOPS),
            ring_slots: size(names::RINGS).saturating_mul(SLOTS_PER_CHUNK),
            vip_buckets: size(names::VIPS4),
            flow_buckets: size(names::FLOWS),
        };
        let sound = sizes.flow_buckets.is_power_of_two()
            && sizes.vip_buckets.is_power_of_two()
            && sizes.vip_buckets >= VipHash::LEAST
            && loader::tables(&sizes).iter().all(|(n, e)| size(n) >= *e);
        if !sound {
            return Err(unreadable(
                folder,
                "the sizes of its tables do not fit each other".to_owned(),
            ));
        }
        Ok(Pinned {
            folder,
            sizes,
            maps,
        })
    }

    fn get(&self, name: &'static str) -> Result<&MapData, DataplaneError> {
        self.maps
            .get(name)
            .ok_or_else(|| unreadable(self.folder, format!("{name} is missing")))
    }

    /// Opens a further handle of a map.
    fn reopen(&self, name: &'static str) -> Result<MapData, DataplaneError> {
        let path = self.folder.join(name);
        MapData::from_pin(&path).map_err(system(format!("opening the table {}", path.display())))
    }
}

fn check(name: &str, path: &Path, info: &MapInfo) -> Result<(), DataplaneError> {
    let (kind, key, value, flags) = form(name);
    let actual = info
        .map_type()
        .map_err(system(format!("examining the table {}", path.display())))?;
    if actual != kind
        || info.key_size() != key
        || info.value_size() != value
        || info.map_flags() & flags != flags
    {
        return Err(unreadable(
            path,
            format!(
                "it is a {actual:?} with keys of {} and values of {} bytes, not a {kind:?} with keys of {key} and \
                 values of {value} bytes",
                info.key_size(),
                info.value_size()
            ),
        ));
    }
    Ok(())
}

/// Reads the record that describes pinned tables. It is read before the tables are opened: tables of another
/// layout may have other forms, and then the layout is the reason to name.
///
/// # Errors
/// [`DataplaneError::System`] if the tables do not have this build's layout.
pub(crate) fn adopted_meta(folder: &Path) -> Result<Meta, DataplaneError> {
    let path = folder.join(names::META);
    let map = MapData::from_pin(&path).map_err(system(format!(
        "opening the table {}; it may be the rest of a removed data plane, which `lb-agent detach` removes",
        path.display()
    )))?;
    let info = map
        .info()
        .map_err(system(format!("examining the table {}", path.display())))?;
    check(names::META, &path, &info)?;
    let meta = Mapped::<Meta>::new(names::META, &map, 1)?.read(0);
    check_meta(folder, &meta)?;
    Ok(meta)
}

fn check_meta(folder: &Path, meta: &Meta) -> Result<(), DataplaneError> {
    if meta.magic != MAGIC {
        return Err(unreadable(
            folder,
            "they are not lb-agent's, or an agent was killed before they were complete".to_owned(),
        ));
    }
    if meta.layout != LAYOUT_VERSION {
        return Err(unreadable(
            folder,
            format!(
                "they have layout {}, and this build reads layout {LAYOUT_VERSION}",
                meta.layout
            ),
        ));
    }
    Ok(())
}

fn unreadable(path: &Path, reason: String) -> DataplaneError {
    DataplaneError::System {
        operation: format!("adopting the tables in {}", path.display()),
        source: format!(
            "{reason}. The tables were not changed and packets still flow. Start the build that made them, or end \
             forwarding with `lb-agent detach` and start again"
        )
        .into(),
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
