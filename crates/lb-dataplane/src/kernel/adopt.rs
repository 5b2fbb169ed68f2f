//! Finding the tables that an earlier agent left in use.

use std::{collections::HashMap, path::PathBuf};

use aya::maps::{MapData, MapInfo};

use lb_common::tables::names;

use super::{bpf, loader, pins::Pins};
use crate::{
    error::{DataplaneError, system},
    table_sizes::TableSizes,
};

/// The tables by which packets are forwarded now.
#[derive(Debug)]
pub(crate) struct ActiveTables {
    pub generation: u32,
    pub folder: PathBuf,
    /// Whether every attached program stamps the classes of flows: [`lb_common::tables::meta::Meta::classes_since`].
    pub stamp_classes: bool,
}

/// Finds the tables in use.
///
/// The programs that the pinned links hold say which tables are in use, not the folders: an agent may have
/// been killed while it made new tables. If two interfaces use different folders, the later one is complete,
/// because programs are replaced only then, and nothing was changed since.
///
/// # Errors
/// [`DataplaneError::System`] if there are links whose tables are not pinned.
pub(crate) fn find(pins: &Pins) -> Result<Option<ActiveTables>, DataplaneError> {
    let mut generations = pins.generations()?;
    generations.sort_unstable();
    let folders = generations
        .into_iter()
        .rev()
        .map(|generation| Ok((generation, pinned_maps(pins, generation)?)))
        .collect::<Result<Vec<_>, DataplaneError>>()?;
    let names: Vec<String> = table_names().map(short).collect();
    let mut latest: Option<u32> = None;
    let mut linked = false;
    let mut stamp_classes = true;
    for name in pins.linked()? {
        let path = pins.link(&name);
        let link = bpf::pinned_link_info(&path)
            .map_err(system(format!("examining the link {}", path.display())))?;
        let used = used_maps(link.program)?;
        // The link of an interface that is gone holds nothing.
        linked |= link.interface != 0;
        // Programs have stamped classes for as long as they have counted look-ups.
        stamp_classes &= link.interface == 0 || used.iter().any(|(name, _)| name == names::LOOKUPS);
        // All of them, because folders share the tables that did not change, and an agent may have been killed
        // before a folder had the others.
        let mut tables = used.iter().filter(|(name, _)| names.contains(name));
        let folder = folders
            .iter()
            .find(|(_, maps)| tables.clone().all(|(name, id)| maps.get(name) == Some(id)))
            .filter(|_| tables.next().is_some());
        if let Some((generation, _)) = folder {
            latest = latest.max(Some(*generation));
        }
    }
    match latest {
        Some(generation) => {
            let folder = pins.maps(generation);
            Ok(Some(ActiveTables { generation, folder, stamp_classes }))
        }
        None if linked => Err(DataplaneError::System {
            operation: format!("adopting what is pinned in {}", pins.root().display()),
            source: "programs are attached but their tables are not pinned; packets still flow. End forwarding with \
                     `lb-agent detach` and start again"
                .into(),
        }),
        None => Ok(None),
    }
}

/// The kernel cuts the names of maps to 15 bytes.
fn short(name: &str) -> String {
    name.chars().take(15).collect()
}

fn table_names() -> impl Iterator<Item = &'static str> {
    loader::tables(&TableSizes::initial(0))
        .into_iter()
        .map(|(name, _)| name)
}

/// Ids of the tables that are pinned in a generation's folder.
fn pinned_maps(pins: &Pins, generation: u32) -> Result<HashMap<String, u32>, DataplaneError> {
    let folder = pins.maps(generation);
    let mut maps = HashMap::new();
    for name in table_names() {
        // An incomplete folder lacks some.
        if let Ok(map) = MapData::from_pin(folder.join(name)) {
            let info = map
                .info()
                .map_err(system(format!("examining {}", folder.join(name).display())))?;
            maps.insert(short(name), info.id());
        }
    }
    Ok(maps)
}

/// Names and ids of the maps that a program uses.
pub(super) fn used_maps(program: u32) -> Result<Vec<(String, u32)>, DataplaneError> {
    let operation = || format!("examining the attached program {program}");
    let info = aya::programs::loaded_programs()
        .filter_map(Result::ok)
        .find(|info| info.id() == program)
        .ok_or_else(|| system(operation())("the kernel does not list it; start again"))?;
    let ids = info
        .map_ids()
        .map_err(system(operation()))?
        .unwrap_or_default();
    ids.into_iter()
        .map(|id| {
            let info = MapInfo::from_id(id).map_err(system(operation()))?;
            Ok((info.name_as_str().unwrap_or_default().to_owned(), id))
        })
        .collect()
}
