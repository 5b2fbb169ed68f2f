//! Finding what an earlier agent left, and starting from it.

use std::{collections::HashMap, path::PathBuf};

use aya::maps::{MapData, MapInfo};

use super::{DataplaneError, bpf, error::system, layout::Layout, loader, pins::Pins};

/// The tables that packets are forwarded by now.
#[derive(Debug)]
pub(crate) struct Found {
    pub generation: u32,
    pub folder: PathBuf,
}

/// Looks for tables in use.
///
/// Not the folders say which tables are in use but the programs that the pinned links hold: an agent may
/// have been killed while it made larger tables. Where two interfaces use different folders, the later one
/// is complete (programs are replaced only then) and nothing was changed since.
///
/// # Errors
/// [`DataplaneError::System`] if there are links but not their tables.
pub(crate) fn find(pins: &Pins) -> Result<Option<Found>, DataplaneError> {
    let mut generations = pins.generations()?;
    generations.sort_unstable();
    let folders = generations
        .into_iter()
        .rev()
        .map(|generation| Ok((generation, pinned_maps(pins, generation)?)))
        .collect::<Result<Vec<_>, DataplaneError>>()?;
    let mut latest: Option<u32> = None;
    let mut linked = false;
    for name in pins.linked()? {
        let path = pins.link(&name);
        let link = bpf::pinned_link_info(&path)
            .map_err(system(format!("looking at the link {}", path.display())))?;
        let used = used_maps(link.program)?;
        linked = true;
        // A program uses most of its folder's maps; those of no use to packets it does not name.
        let home = folders.iter().find(|(_, maps)| {
            used.iter()
                .all(|(name, id)| maps.get(name).is_none_or(|pinned| pinned == id))
                && used.iter().any(|(name, id)| maps.get(name) == Some(id))
        });
        if let Some((generation, _)) = home {
            latest = latest.max(Some(*generation));
        }
    }
    match latest {
        Some(generation) => Ok(Some(Found { generation, folder: pins.maps(generation) })),
        None if linked => Err(DataplaneError::System {
            operation: format!("adopting what is pinned in {}", pins.root().display()),
            source: "programs are attached but their tables are not pinned; packets still flow by them. \
                     `lb-agent detach` ends forwarding, then start again"
                .into(),
        }),
        None => Ok(None),
    }
}

/// Names in the kernel are cut to 15 bytes.
fn short(name: &str) -> String {
    name.chars().take(15).collect()
}

fn pinned_maps(pins: &Pins, generation: u32) -> Result<HashMap<String, u32>, DataplaneError> {
    let folder = pins.maps(generation);
    let mut maps = HashMap::new();
    for (name, _) in loader::tables(&Layout::initial(0)) {
        // A folder that was never finished lacks some.
        if let Ok(map) = MapData::from_pin(folder.join(name)) {
            let info = map.info().map_err(system(format!(
                "looking at {}",
                folder.join(name).display()
            )))?;
            maps.insert(short(name), info.id());
        }
    }
    Ok(maps)
}

fn used_maps(program: u32) -> Result<Vec<(String, u32)>, DataplaneError> {
    let operation = || format!("looking at the attached program {program}");
    let info = aya::programs::loaded_programs()
        .filter_map(Result::ok)
        .find(|info| info.id() == program)
        .ok_or_else(|| system(operation())("the kernel does not list it"))?;
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
