//! Larger tables while packets flow.
//!
//! A new folder of maps is made beside the old one. Maps that keep their size are in both; the others are
//! recreated and filled. Then programs on the new folder replace the old ones, with one atomic replacement
//! per interface. Only the agent writes the tables that are copied, so the copies stay accurate. The programs
//! write the counters and signs all the while; what they gain between copy and replacement is added afterwards.

use std::{mem::offset_of, path::Path, sync::atomic::Ordering};

use aya::maps::{MapData, PerCpuArray};
use lb_common::tables::{meta::Meta, signs::Signs};

use super::{
    backend::KernelBackend,
    layout::Layout,
    loader::{self, Terms},
    mapped::{Mapped, Record},
    pins::remove_all,
    tables::KernelTables,
};
use crate::{
    error::{DataplaneError, system},
    table_sizes::TableSizes,
    vip_key::VipTableKey,
    vip_placement::with_room_for_vips,
};

/// See [`crate::backend::TableBackend::grow`].
pub(crate) fn grow(backend: &mut KernelBackend, sizes: TableSizes) -> Result<(), DataplaneError> {
    let meta: Meta = backend.tables.meta.read(0);
    let vips = backend.tables.vips();
    let sizes = with_room_for_vips(sizes, &backend.tables.sizes, meta.flow_secret, &vips)?;
    let generation = backend.attachments.pins.next_generation()?;
    let folder = backend.attachments.pins.maps(generation);
    match build(backend, &sizes, generation, &folder, &meta, &vips) {
        Ok(()) => Ok(()),
        Err(error) => {
            // The old tables are unchanged and in use; the new ones are discarded.
            let _ = remove_all(&folder);
            Err(error)
        }
    }
}

fn build(
    backend: &mut KernelBackend,
    sizes: &TableSizes,
    generation: u32,
    folder: &Path,
    meta: &Meta,
    vips: &[(VipTableKey, u32)],
) -> Result<(), DataplaneError> {
    std::fs::create_dir(folder)
        .map_err(system(format!("making the folder {}", folder.display())))?;
    for ((name, entries), (_, old_entries)) in loader::tables(sizes)
        .iter()
        .zip(loader::tables(&backend.tables.sizes))
    {
        if *entries == old_entries
            && let Some(map) = backend.tables.maps.get(name)
        {
            let path = folder.join(name);
            map.pin(&path)
                .map_err(system(format!("pinning the table {}", path.display())))?;
        }
    }
    let log = folder.join(loader::LOG);
    backend
        .attachments
        .log_map()?
        .pin(&log)
        .map_err(system(format!("pinning the log {}", log.display())))?;

    let simulator = loader::load(&Terms {
        maps: folder,
        layout: Layout::Current,
        sizes,
        meta,
        interface: None,
        switches: backend.attachments.switches,
    })?;
    let mut tables = KernelTables::open(folder)?;
    let old = &backend.tables;
    copy(&old.services, &mut tables.services);
    copy(&old.rings, &mut tables.rings);
    copy(&old.reals, &mut tables.reals);
    copy(&old.budgets, &mut tables.budgets);
    copy(&old.next_hops, &mut tables.next_hops);
    if sizes.vip_buckets != old.sizes.vip_buckets {
        for (key, service) in vips {
            tables.insert_vip(key, *service).map_err(|_| {
                system("copying the VIP tables")(
                    "a VIP found no place in tables that were chosen to have one; please report this",
                )
            })?;
        }
    }
    // Before the first replacement: from then on the next agent may find this folder in use.
    tables.meta.write(
        0,
        Meta {
            generation,
            ..*meta
        },
    );
    let programs = backend.attachments.reload(folder, sizes, meta, false)?;
    // As late as possible: what is counted from here to the replacement is known to this agent only.
    let old = &backend.tables;
    let reals = (sizes.reals != old.sizes.reals)
        .then(|| {
            copy_counters(
                &old.real_counters,
                &mut tables.real_counters,
                old.sizes.reals,
            )
        })
        .transpose()?;
    let lookups = (sizes.services != old.sizes.services)
        .then(|| copy_counters(&old.lookups, &mut tables.lookups, old.sizes.services))
        .transpose()?;
    let server_ids = (sizes.services != old.sizes.services)
        .then(|| {
            copy_counters(
                &old.server_id_counters,
                &mut tables.server_id_counters,
                old.sizes.services,
            )
        })
        .transpose()?;
    let services = (sizes.services != old.sizes.services)
        .then(|| {
            copy_counters(
                &old.service_counters,
                &mut tables.service_counters,
                old.sizes.services,
            )
        })
        .transpose()?;
    let signs = (sizes.reals != old.sizes.reals).then(|| copy_signs(&old.signs, &mut tables.signs));
    backend.attachments.switch(programs, simulator)?;
    backend.attachments.generation = generation;

    // No program writes to the old counters any more.
    let old = std::mem::replace(&mut backend.tables, tables);
    if let Some(copied) = reals {
        carry(&old.real_counters, &copied, &mut backend.carried.reals)?;
        keep_evidence(
            &copied,
            &mut backend.carried.reals,
            &mut backend.tables.real_counters,
        )?;
    }
    if let Some(copied) = lookups {
        carry(&old.lookups, &copied, &mut backend.carried.lookups)?;
    }
    if let Some(copied) = server_ids {
        carry(
            &old.server_id_counters,
            &copied,
            &mut backend.carried.server_ids,
        )?;
    }
    if let Some(copied) = services {
        carry(
            &old.service_counters,
            &copied,
            &mut backend.carried.services,
        )?;
    }
    if let Some(copied) = signs {
        carry_signs(&old.signs, &copied, &backend.tables.signs);
    }
    backend.attachments.pins.remove_maps_but(Some(generation))
}

fn copy<T: Record>(from: &Mapped<T>, to: &mut Mapped<T>) {
    // Equal sizes: the same map in both folders.
    if from.len() == to.len() {
        return;
    }
    for index in 0..from.len() {
        to.write(index, from.read(index));
    }
}

/// Copies signs; returns what was copied.
fn copy_signs(from: &Mapped<Signs>, to: &mut Mapped<Signs>) -> Vec<Signs> {
    (0..from.len())
        .map(|index| {
            let signs = from.read(index);
            to.write(index, signs);
            signs
        })
        .collect()
}

/// Adds the signs that were counted after the copy. Programs count in both tables meanwhile.
fn carry_signs(from: &Mapped<Signs>, copied: &[Signs], to: &Mapped<Signs>) {
    for (index, copied) in copied.iter().enumerate() {
        let last = from.read(index);
        if last == *copied {
            continue;
        }
        let add = |offset: usize, last: u64, copied: u64| {
            to.word64(index, offset)
                .fetch_add(last - copied, Ordering::Relaxed);
        };
        add(offset_of!(Signs, opened), last.opened, copied.opened);
        add(offset_of!(Signs, repeated), last.repeated, copied.repeated);
        add(offset_of!(Signs, resets), last.resets, copied.resets);
        for (bucket, (last, copied)) in last.lives.into_iter().zip(copied.lives).enumerate() {
            add(offset_of!(Signs, lives) + bucket * 8, last, copied);
        }
    }
}

fn sum<const N: usize>(values: &[[u64; N]]) -> [u64; N] {
    let mut sum = [0; N];
    for value in values {
        for (sum, word) in sum.iter_mut().zip(value) {
            *sum += word;
        }
    }
    sum
}

/// Copies counters; returns what was copied, summed over CPUs.
fn copy_counters<const N: usize>(
    from: &PerCpuArray<MapData, [u64; N]>,
    to: &mut PerCpuArray<MapData, [u64; N]>,
    entries: u32,
) -> Result<Vec<[u64; N]>, DataplaneError> {
    let mut copied = Vec::with_capacity(entries as usize);
    for index in 0..entries {
        let values = from.get(&index, 0).map_err(system("copying counters"))?;
        let total = sum(&values);
        if total != [0; N] {
            to.set(index, values, 0)
                .map_err(system("copying counters"))?;
        }
        copied.push(total);
    }
    Ok(copied)
}

/// Adds what was counted after the copy.
fn carry<const N: usize>(
    from: &PerCpuArray<MapData, [u64; N]>,
    copied: &[[u64; N]],
    carried: &mut std::collections::HashMap<u32, [u64; N]>,
) -> Result<(), DataplaneError> {
    for (index, copied) in (0..).zip(copied) {
        let mut last = sum(&from
            .get(&index, 0)
            .map_err(system("reading the old counters"))?);
        for (last, copied) in last.iter_mut().zip(copied) {
            *last -= copied;
        }
        if last != [0; N] {
            let entry = carried.entry(index).or_insert([0; N]);
            for (entry, last) in entry.iter_mut().zip(last) {
                *entry += last;
            }
        }
    }
    Ok(())
}

/// Writes the first packets of reals into the new table, if they were counted after the copy: a later agent, which does
/// not know what was carried, must not take such a real for one that has never had a flow.
///
/// The few packets that a CPU counts in the moment between reading and writing are not counted.
fn keep_evidence<const N: usize>(
    copied: &[[u64; N]],
    carried: &mut std::collections::HashMap<u32, [u64; N]>,
    table: &mut PerCpuArray<MapData, [u64; N]>,
) -> Result<(), DataplaneError> {
    for (index, _) in (0..).zip(copied).filter(|(_, copied)| **copied == [0; N]) {
        let Some(first) = carried.remove(&index) else {
            continue;
        };
        let values = table
            .get(&index, 0)
            .map_err(system("reading the new counters"))?;
        let mut values: Vec<[u64; N]> = values.iter().copied().collect();
        if let Some(cpu) = values.first_mut() {
            for (word, first) in cpu.iter_mut().zip(first) {
                *word += first;
            }
        }
        let values = aya::maps::PerCpuValues::try_from(values)
            .map_err(system("writing the new counters"))?;
        table
            .set(index, values, 0)
            .map_err(system("writing the new counters"))?;
    }
    Ok(())
}
