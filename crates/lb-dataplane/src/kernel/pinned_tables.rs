//! The tables of a folder of pins: opened, with their forms checked.

use std::{collections::HashMap, path::Path};

use aya::maps::{MapData, MapInfo};
use lb_common::limits::SLOTS_PER_CHUNK;
use lb_common::tables::{
    meta::{MAGIC, Meta},
    names,
};
use lb_common::vip_table::VipHash;

use super::{
    layout::{ADDED, Form, Layout},
    loader,
    mapped::Mapped,
};
use crate::{
    error::{DataplaneError, system},
    table_sizes::{MIN_NAT_FLOWS, TableSizes},
};

/// Pinned maps whose form was checked.
pub(crate) struct PinnedTables<'a> {
    folder: &'a Path,
    pub sizes: TableSizes,
    pub maps: HashMap<&'static str, MapData>,
}

impl<'a> PinnedTables<'a> {
    /// Opens the tables of a folder and checks the form of each: a map of another form would be misread.
    ///
    /// # Errors
    /// [`DataplaneError::System`] if a table cannot be opened, has another form or does not fit the others.
    pub fn open(folder: &'a Path, layout: Layout) -> Result<PinnedTables<'a>, DataplaneError> {
        let mut maps = HashMap::new();
        let mut entries = HashMap::new();
        let any = TableSizes {
            services: 1,
            reals: 1,
            next_hops: 1,
            ring_slots: SLOTS_PER_CHUNK,
            vip_buckets: VipHash::LEAST,
            flow_buckets: 1,
            nat_flows: 1,
            source_limits: 1,
            server_ids: 1,
        };
        for (name, _) in loader::tables(&any) {
            let path = folder.join(name);
            if ADDED.contains(&name) && !path.exists() {
                continue;
            }
            let (map, info) = open(&path)?;
            check(name, layout, &path, &info)?;
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
            // Tables of an earlier build have none.
            nat_flows: size(names::NAT_FLOWS).max(MIN_NAT_FLOWS),
            source_limits: size(names::SOURCE_LIMITS).max(1),
            server_ids: size(names::SERVER_IDS).max(1),
        };
        let sound = sizes.flow_buckets.is_power_of_two()
            && sizes.vip_buckets.is_power_of_two()
            && sizes.vip_buckets >= VipHash::LEAST
            && loader::tables(&sizes)
                .iter()
                .all(|(name, least)| entries.get(name).is_none_or(|entries| entries >= least));
        if !sound {
            return Err(unreadable(
                folder,
                "the sizes of its tables do not fit each other".to_owned(),
            ));
        }
        Ok(PinnedTables {
            folder,
            sizes,
            maps,
        })
    }

    /// A table.
    pub fn get(&self, name: &'static str) -> Result<&MapData, DataplaneError> {
        self.maps
            .get(name)
            .ok_or_else(|| unreadable(self.folder, format!("{name} is missing")))
    }

    /// Opens a further handle of a map.
    pub fn reopen(&self, name: &'static str) -> Result<MapData, DataplaneError> {
        let path = self.folder.join(name);
        MapData::from_pin(&path).map_err(system(format!("opening the table {}", path.display())))
    }
}

fn check(name: &str, layout: Layout, path: &Path, info: &MapInfo) -> Result<(), DataplaneError> {
    let Form {
        kind,
        key,
        value,
        flags,
    } = layout.form(name);
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

/// Opens a pinned table, whose form is still to be checked.
fn open(path: &Path) -> Result<(MapData, MapInfo), DataplaneError> {
    let map = MapData::from_pin(path).map_err(system(format!(
        "opening the table {}; it may be the rest of a removed data plane, which `lb-agent detach` removes",
        path.display()
    )))?;
    let info = map
        .info()
        .map_err(system(format!("examining the table {}", path.display())))?;
    Ok((map, info))
}

/// Reads the record that describes pinned tables, and their layout. It is read before the tables are opened:
/// tables of another layout may have other forms, and then the layout is the reason to name.
///
/// # Errors
/// [`DataplaneError::System`] if this build cannot use their layout.
pub(crate) fn read_meta(folder: &Path) -> Result<(Layout, Meta), DataplaneError> {
    let path = folder.join(names::META);
    let (map, info) = open(&path)?;
    check(names::META, Layout::Current, &path, &info)?;
    let meta = Mapped::<Meta>::new(names::META, &map, 1)?.read(0);
    if meta.magic != MAGIC {
        return Err(unreadable(
            folder,
            "they are not lb-agent's, or an agent was killed before they were complete".to_owned(),
        ));
    }
    match Layout::of(meta.layout) {
        Some(layout) => Ok((layout, meta)),
        None => Err(unreadable(folder, unsupported(meta.layout))),
    }
}

/// Why a layout cannot be used.
fn unsupported(version: u32) -> String {
    let (previous, current) = (Layout::Previous.version(), Layout::Current.version());
    let advice = if version < previous {
        format!("upgrade in two steps, first to a build with layout {previous}")
    } else {
        format!(
            "a newer build made them, which may bring them back with `lb-agent migrate --layout {current}`"
        )
    };
    format!(
        "they have layout {version}, and this build uses layout {current} and migrates from layout {previous}; {advice}"
    )
}

fn unreadable(path: &Path, reason: String) -> DataplaneError {
    system(format!("adopting the tables in {}", path.display()))(format!(
        "{reason}. The tables were not changed and packets still flow. Start the build that made them, or end \
         forwarding with `lb-agent detach` and start again"
    ))
}
