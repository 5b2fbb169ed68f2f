//! Looking after what others can take away from a running agent: programs, pins, the lock on the folder of pins.

use std::{
    fs::{self, File},
    time::Duration,
};

use aya::Ebpf;

use super::{KernelDataplane, backend::KernelBackend, loader, pins::Pins, tables::KernelTables};
use crate::{
    error::{DataplaneError, system},
    status::InterfaceStatus,
};

/// See [`crate::Dataplane::check_links`].
pub(super) fn check(plane: &mut KernelDataplane) -> Vec<InterfaceStatus> {
    let KernelDataplane {
        engine,
        lock,
        pins_problem,
        ..
    } = plane;
    let KernelBackend {
        tables,
        attachments,
        ..
    } = engine.backend_mut();
    let kept = keep_pins(
        &attachments.pins,
        lock,
        tables,
        attachments.generation,
        &attachments.simulator,
    );
    let problem = kept.err().map(|error| error.to_string());
    // Once, not each second.
    if let Some(problem) = problem.as_ref().filter(|_| problem != *pins_problem) {
        tracing::error!("the pins are not complete: {problem}");
    }
    pins_problem.clone_from(&problem);
    let meta = tables.meta.read(0);
    let sizes = tables.sizes;
    attachments.check(&sizes, &meta, problem.as_deref())
}

/// Pins the tables again that somebody has unpinned, and takes a folder again that was removed: programs can only be
/// attached, and the next agent can only go on, with these pins.
fn keep_pins(
    pins: &Pins,
    lock: &mut File,
    tables: &KernelTables,
    generation: u32,
    simulator: &Ebpf,
) -> Result<(), DataplaneError> {
    if !pins.is_locked_by(lock) {
        tracing::warn!(
            "the folder of pins {} was removed; it is made again",
            pins.root().display()
        );
        pins.create()?;
        *lock = pins.lock_within(Duration::ZERO)?;
    }
    if !pins.links().exists() {
        pins.create()?;
    }
    let folder = pins.maps(generation);
    let missing = |name: &str| !folder.join(name).exists();
    if !tables.maps.keys().any(|name| missing(name)) && !missing(loader::LOG) {
        return Ok(());
    }
    tracing::warn!(
        "tables in {} were unpinned; they are pinned again",
        folder.display()
    );
    fs::create_dir_all(&folder)
        .map_err(system(format!("making the folder {}", folder.display())))?;
    for (name, map) in tables.maps.iter().filter(|(name, _)| missing(name)) {
        let path = folder.join(name);
        map.pin(&path)
            .map_err(system(format!("pinning the table {}", path.display())))?;
    }
    if missing(loader::LOG)
        && let Some(log) = simulator.map(loader::LOG)
    {
        let path = folder.join(loader::LOG);
        log.pin(&path)
            .map_err(system(format!("pinning the log {}", path.display())))?;
    }
    Ok(())
}
