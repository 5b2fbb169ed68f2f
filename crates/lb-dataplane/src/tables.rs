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

use super::{DataplaneError, bpf, error::system, layout::Layout, loader, mapped::Mapped};

/// `BPF_F_MMAPABLE`.
const MMAPABLE: u32 = 1 << 10;

/// Words of the counters' records.
const REAL_WORDS: usize = 4;
const SERVICE_WORDS: usize = 2;

/// The tables of one folder.
pub(crate) struct KernelTables {
    pub layout: Layout,
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
    /// Opens the tables of a folder. Nothing is believed before it is checked: a map of another form would
    /// be misread.
    pub fn open(folder: &Path) -> Result<KernelTables, DataplaneError> {
        let pinned = Pinned::read(folder)?;
        let layout = pinned.layout;
        let meta = Mapped::<Meta>::new(names::META, pinned.get(names::META)?, 1)?;
        Ok(KernelTables {
            layout,
            config: Mapped::new(names::CONFIG, pinned.get(names::CONFIG)?, 1)?,
            services: Mapped::new(
                names::SERVICES,
                pinned.get(names::SERVICES)?,
                layout.services,
            )?,
            rings: Mapped::new(
                names::RINGS,
                pinned.get(names::RINGS)?,
                layout.ring_slots / SLOTS_PER_CHUNK,
            )?,
            reals: Mapped::new(names::REALS, pinned.get(names::REALS)?, layout.reals)?,
            budgets: Mapped::new(names::BUDGETS, pinned.get(names::BUDGETS)?, layout.reals)?,
            next_hops: Mapped::new(
                names::NEXT_HOPS,
                pinned.get(names::NEXT_HOPS)?,
                layout.next_hops,
            )?,
            flows: Mapped::new(names::FLOWS, pinned.get(names::FLOWS)?, layout.flow_buckets)?,
            vips4: Mapped::new(names::VIPS4, pinned.get(names::VIPS4)?, layout.vip_buckets)?,
            vips6: Mapped::new(names::VIPS6, pinned.get(names::VIPS6)?, layout.vip_buckets)?,
            real_counters: typed(names::REAL_COUNTERS, pinned.again(names::REAL_COUNTERS)?)?,
            service_counters: typed(
                names::SERVICE_COUNTERS,
                pinned.again(names::SERVICE_COUNTERS)?,
            )?,
            reason_counters: typed(
                names::REASON_COUNTERS,
                pinned.again(names::REASON_COUNTERS)?,
            )?,
            flow_counters: typed(names::FLOW_COUNTERS, pinned.again(names::FLOW_COUNTERS)?)?,
            trace: typed(names::TRACE, pinned.again(names::TRACE)?)?,
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
            .ok_or_else(|| system(operation())("it is not open; an agent's fault"))?;
        let cpus = aya::util::nr_cpus().map_err(|(what, error)| system(what.to_owned())(error))?;
        let values = bpf::read_per_cpu(map.fd().as_fd(), self.layout.reals, REAL_WORDS, cpus)
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
    layout: Layout,
    maps: HashMap<&'static str, MapData>,
}

impl<'a> Pinned<'a> {
    fn read(folder: &'a Path) -> Result<Pinned<'a>, DataplaneError> {
        let mut maps = HashMap::new();
        let mut sizes = HashMap::new();
        let any = Layout {
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
                "opening the table {}; `lb-agent detach` removes what is left of it",
                path.display()
            )))?;
            let info = map
                .info()
                .map_err(system(format!("looking at the table {}", path.display())))?;
            check(name, &path, &info)?;
            sizes.insert(name, info.max_entries());
            maps.insert(name, map);
        }
        let size = |name| sizes.get(name).copied().unwrap_or_default();
        let layout = Layout {
            services: size(names::SERVICES),
            reals: size(names::REALS),
            next_hops: size(names::NEXT_HOPS),
            ring_slots: size(names::RINGS).saturating_mul(SLOTS_PER_CHUNK),
            vip_buckets: size(names::VIPS4),
            flow_buckets: size(names::FLOWS),
        };
        let sound = layout.flow_buckets.is_power_of_two()
            && layout.vip_buckets.is_power_of_two()
            && layout.vip_buckets >= VipHash::LEAST
            && loader::tables(&layout).iter().all(|(n, e)| size(n) >= *e);
        if !sound {
            return Err(unreadable(
                folder,
                "the sizes of its tables do not fit each other".to_owned(),
            ));
        }
        Ok(Pinned {
            folder,
            layout,
            maps,
        })
    }

    fn get(&self, name: &'static str) -> Result<&MapData, DataplaneError> {
        self.maps
            .get(name)
            .ok_or_else(|| unreadable(self.folder, format!("{name} is missing")))
    }

    /// Another handle of a map.
    fn again(&self, name: &'static str) -> Result<MapData, DataplaneError> {
        let path = self.folder.join(name);
        MapData::from_pin(&path).map_err(system(format!("opening the table {}", path.display())))
    }
}

fn check(name: &str, path: &Path, info: &MapInfo) -> Result<(), DataplaneError> {
    let (kind, key, value, flags) = form(name);
    let found = info
        .map_type()
        .map_err(system(format!("looking at the table {}", path.display())))?;
    if found != kind
        || info.key_size() != key
        || info.value_size() != value
        || info.map_flags() & flags != flags
    {
        return Err(unreadable(
            path,
            format!(
                "it is a {found:?} with keys of {} and values of {} bytes, not a {kind:?} with keys of {key} and \
                 values of {value} bytes",
                info.key_size(),
                info.value_size()
            ),
        ));
    }
    Ok(())
}

/// Reads what adopted tables say of themselves. Before they are opened: those of another layout may be of
/// other forms too, and the layout says why.
///
/// # Errors
/// [`DataplaneError::System`] if they are not of this build's layout.
pub(crate) fn adopted_meta(folder: &Path) -> Result<Meta, DataplaneError> {
    let path = folder.join(names::META);
    let map = MapData::from_pin(&path).map_err(system(format!(
        "opening the table {}; `lb-agent detach` removes what is left of it",
        path.display()
    )))?;
    let info = map
        .info()
        .map_err(system(format!("looking at the table {}", path.display())))?;
    check(names::META, &path, &info)?;
    let meta = Mapped::<Meta>::new(names::META, &map, 1)?.read(0);
    check_meta(folder, &meta)?;
    Ok(meta)
}

fn check_meta(folder: &Path, meta: &Meta) -> Result<(), DataplaneError> {
    if meta.magic != MAGIC {
        return Err(unreadable(
            folder,
            "they are not lb-agent's (or were never finished)".to_owned(),
        ));
    }
    if meta.layout != LAYOUT_VERSION {
        return Err(unreadable(
            folder,
            format!(
                "they are of layout {}, this build reads layout {LAYOUT_VERSION}",
                meta.layout
            ),
        ));
    }
    Ok(())
}

fn unreadable(what: &Path, why: String) -> DataplaneError {
    DataplaneError::System {
        operation: format!("adopting the tables in {}", what.display()),
        source: format!(
            "{why}. They were left alone and packets still flow by them. Start the build that made them, or end \
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
