//! Larger tables under running traffic.
//!
//! A new folder of maps is made beside the old one. Maps that keep their size are in both; the others are
//! made anew and filled. Then programs on the new folder take the old ones' places, one atomic replacement
//! per interface. Only the agent writes the tables that are copied, so the copies stay true; counters are
//! written by packets all the while, and what they gained between copy and replacement is added after.

use std::path::Path;

use aya::maps::{MapData, PerCpuArray};
use lb_common::tables::meta::Meta;

use super::{
    DataplaneError,
    error::system,
    home::VipKey,
    kernel_home::KernelHome,
    layout::Layout,
    loader::{self, Terms},
    mapped::{Mapped, Record},
    pins::remove_all,
    tables::KernelTables,
    vips::room_for,
};

/// See [`super::home::Home::grow`].
pub(crate) fn grow(home: &mut KernelHome, layout: Layout) -> Result<(), DataplaneError> {
    let meta: Meta = home.tables.meta.read(0);
    let vips = home.tables.vips();
    let layout = room_for(layout, &home.tables.layout, meta.flow_secret, &vips)?;
    let generation = home
        .attachments
        .pins
        .generations()?
        .into_iter()
        .max()
        .unwrap_or(0)
        + 1;
    let folder = home.attachments.pins.maps(generation);
    match build(home, &layout, generation, &folder, &meta, &vips) {
        Ok(()) => Ok(()),
        Err(error) => {
            // The old tables are untouched and in use; the rest is thrown away.
            let _ = remove_all(&folder);
            Err(error)
        }
    }
}

fn build(
    home: &mut KernelHome,
    layout: &Layout,
    generation: u32,
    folder: &Path,
    meta: &Meta,
    vips: &[(VipKey, u32)],
) -> Result<(), DataplaneError> {
    std::fs::create_dir(folder)
        .map_err(system(format!("making the folder {}", folder.display())))?;
    for ((name, entries), (_, old_entries)) in loader::tables(layout)
        .iter()
        .zip(loader::tables(&home.tables.layout))
    {
        if *entries == old_entries
            && let Some(map) = home.tables.maps.get(name)
        {
            let path = folder.join(name);
            map.pin(&path)
                .map_err(system(format!("pinning the table {}", path.display())))?;
        }
    }
    let log = folder.join(loader::LOG);
    home.attachments
        .log_map()?
        .pin(&log)
        .map_err(system(format!("pinning the log {}", log.display())))?;

    let simulator = loader::load(&Terms {
        maps: folder,
        layout,
        meta,
        interface: None,
        log_level: 0,
    })?;
    let mut tables = KernelTables::open(folder)?;
    let old = &home.tables;
    copy(&old.services, &mut tables.services);
    copy(&old.rings, &mut tables.rings);
    copy(&old.reals, &mut tables.reals);
    copy(&old.budgets, &mut tables.budgets);
    copy(&old.next_hops, &mut tables.next_hops);
    if layout.vip_buckets != old.layout.vip_buckets {
        for (key, service) in vips {
            tables.insert_vip(key, *service).map_err(|_| {
                system("copying the VIP tables")("a place that was there is gone; an agent's fault")
            })?;
        }
    }
    let programs = home.attachments.reload(folder, layout, meta)?;
    // As late as can be: what is counted from here to the switch is kept by this agent only.
    let old = &home.tables;
    let reals = (layout.reals != old.layout.reals)
        .then(|| {
            copy_counters(
                &old.real_counters,
                &mut tables.real_counters,
                old.layout.reals,
            )
        })
        .transpose()?;
    let services = (layout.services != old.layout.services)
        .then(|| {
            copy_counters(
                &old.service_counters,
                &mut tables.service_counters,
                old.layout.services,
            )
        })
        .transpose()?;
    home.attachments.switch(programs, simulator)?;
    home.attachments.generation = generation;

    // Nobody writes to the old counters any more.
    let old = std::mem::replace(&mut home.tables, tables);
    if let Some(copied) = reals {
        carry(&old.real_counters, &copied, &mut home.carried)?;
    }
    if let Some(copied) = services {
        carry(&old.service_counters, &copied, &mut home.carried_services)?;
    }
    home.tables.meta.write(
        0,
        Meta {
            generation,
            ..*meta
        },
    );
    home.attachments.pins.remove_maps_but(Some(generation))
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

/// Keeps what was counted after the copy.
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
