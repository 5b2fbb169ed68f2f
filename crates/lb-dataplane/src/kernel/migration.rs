//! Moving pinned tables to another layout while packets flow.
//!
//! A folder of tables of the new layout is made beside the old one. Tables whose records are the same in both
//! layouts, the flow table and all counters among them, are in both folders, so nothing that the programs
//! write is copied. The others ([`CONVERTED`]) are recreated and filled with the converted records; only an
//! agent writes them, and none runs. Then programs of the new layout replace the old ones, with one atomic
//! replacement per interface: a packet meets the old program with the old tables or the new one with the new
//! tables, and both know the same flows.
//!
//! A migration that is killed leaves programs on either folder. The tables in use are then those of the later
//! folder, which is complete ([`super::adopt`]), so the next agent or migration goes on from there.

use std::{net::IpAddr, path::Path, sync::atomic::Ordering};

use lb_common::{
    limits::SLOTS_PER_CHUNK,
    tables::{
        meta::Meta,
        names,
        real::Real,
        ring::{Chunk, Slot},
        v2::{self, Unconvertible},
    },
};

use super::{
    adopt::{self, ActiveTables},
    attach, bpf,
    layout::{CONVERTED, Layout},
    loader::{self, Switches, Terms},
    mapped::{Mapped, Record},
    pinned_tables::{PinnedTables, read_meta},
    pins::{Pins, remove_all},
    station,
};
use crate::{
    engine::without_classes,
    error::{DataplaneError, system},
    options::Options,
    table_sizes::TableSizes,
};

/// A folder of tables of another layout, on which no program runs yet.
pub(crate) struct NewTables {
    pub generation: u32,
    pub sizes: TableSizes,
    pub meta: Meta,
}

/// What a migration has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migration {
    /// The layout that the tables had.
    pub from: u32,
    /// The layout that they have now.
    pub to: u32,
    /// The interfaces whose program was replaced.
    pub interfaces: Vec<String>,
}

/// Moves the pinned tables to another layout, so that a build that uses that layout can adopt them. Of the options it needs
/// the pins, the interfaces in the order of the agent's configuration, which gives their counters their places, and what
/// programs do with packets in tunnels.
///
/// # Errors
/// [`DataplaneError::System`] if this build cannot use one of the layouts, an agent runs, or a record has no
/// equivalent in the other layout. Packets still flow by the old tables then, unless the message names the
/// replacement of a program; repeating the migration finishes it.
pub fn migrate(options: &Options, layout: u32) -> Result<Option<Migration>, DataplaneError> {
    let to = Layout::from_version(layout).ok_or_else(|| {
        system(format!("migrating to layout {layout}"))(format!(
            "this build can use layout {} and layout {}",
            Layout::Previous.version(),
            Layout::Current.version()
        ))
    })?;
    let pins = Pins::new(&options.pins);
    if pins.linked()?.is_empty() {
        return Ok(None);
    }
    let _lock = pins.lock()?;
    let Some(active) = adopt::find(&pins)? else {
        return Ok(None);
    };
    let (from, meta) = read_meta(&active.folder)?;
    let meta = without_filters(&active, from, meta)?;
    let new = if from == to {
        // An earlier migration may have been killed before it replaced every program.
        NewTables {
            generation: active.generation,
            sizes: PinnedTables::open(&active.folder, from)?.sizes,
            meta,
        }
    } else {
        convert(&pins, &active, from, &meta, to)?
    };
    let interfaces = match replace_programs(&pins, &new, to, options) {
        Ok(interfaces) => interfaces,
        Err(error) => {
            discard(&pins, &active, new.generation);
            return Err(error);
        }
    };
    pins.remove_maps_but(Some(new.generation))?;
    Ok(Some(Migration {
        from: from.version(),
        to: to.version(),
        interfaces,
    }))
}

/// Takes the classes of exceptions from tables that have some: another build does not know them. Packets look up the
/// flow table in all the slots that have exceptions, until an agent of this build has swept it.
fn without_filters(
    active: &ActiveTables,
    layout: Layout,
    meta: Meta,
) -> Result<Meta, DataplaneError> {
    let tables = PinnedTables::open(&active.folder, layout)?;
    let meta = Meta {
        layout: layout.version(),
        // Programs that stamp no classes may run before the next agent of this build.
        classes_since: 0,
        ..meta
    };
    let rings = Mapped::<Chunk>::new(
        names::RINGS,
        tables.get(names::RINGS)?,
        tables.sizes.ring_slots / SLOTS_PER_CHUNK,
    )?;
    for chunk in 0..rings.len() {
        for at in 0..SLOTS_PER_CHUNK as usize {
            let word = rings.word32(chunk, at * size_of::<Slot>());
            let old = word.load(Ordering::Relaxed);
            let slot = without_classes(old);
            if slot != old {
                word.store(slot, Ordering::Release);
            }
        }
    }
    Mapped::<Meta>::new(names::META, tables.get(names::META)?, 1)?.write(0, meta);
    Ok(meta)
}

/// Makes tables of the layout `to` with the content of the active ones, which have the layout `from`.
///
/// # Errors
/// [`DataplaneError::System`]; then nothing has changed.
pub(crate) fn convert(
    pins: &Pins,
    active: &ActiveTables,
    from: Layout,
    meta: &Meta,
    to: Layout,
) -> Result<NewTables, DataplaneError> {
    let generation = pins.next_generation()?;
    let folder = pins.maps(generation);
    let old = PinnedTables::open(&active.folder, from)?;
    let new = NewTables {
        generation,
        sizes: old.sizes,
        meta: Meta {
            layout: to.version(),
            generation,
            ..*meta
        },
    };
    let result = fill(&folder, &old, from, &new, to);
    if result.is_err() {
        let _ = remove_all(&folder);
    }
    result.map(|()| new)
}

/// Removes the folder of a new generation of tables unless a program runs on it already.
pub(crate) fn discard(pins: &Pins, active: &ActiveTables, new: u32) {
    let in_use = adopt::find(pins)
        .ok()
        .flatten()
        .map(|tables| tables.generation);
    if in_use == Some(active.generation) && new != active.generation {
        let _ = remove_all(&pins.maps(new));
    }
}

fn fill(
    folder: &Path,
    old: &PinnedTables<'_>,
    from: Layout,
    new: &NewTables,
    to: Layout,
) -> Result<(), DataplaneError> {
    std::fs::create_dir(folder)
        .map_err(system(format!("making the folder {}", folder.display())))?;
    for (name, map) in &old.maps {
        if !CONVERTED.contains(name) && *name != names::META {
            let path = folder.join(name);
            map.pin(&path)
                .map_err(system(format!("pinning the table {}", path.display())))?;
        }
    }
    // Loading a program makes the tables that the folder lacks.
    drop(loader::load(&Terms {
        maps: folder,
        layout: to,
        sizes: &new.sizes,
        meta: &new.meta,
        interface: None,
        switches: Switches::of(&Options::new(Vec::new())),
    })?);
    let tables = PinnedTables::open(folder, to)?;
    let reals = new.sizes.reals;
    let (source, target) = (old.get(names::REALS)?, tables.get(names::REALS)?);
    let copied = match (from, to) {
        (Layout::Previous, Layout::Current) => copy(
            &Mapped::<v2::Real>::new(names::REALS, source, reals)?,
            &mut Mapped::<Real>::new(names::REALS, target, reals)?,
            |index, real| v2::upgrade(real).map_err(|reason| damaged(index, reason)),
        ),
        (Layout::Current, Layout::Previous) => copy(
            &Mapped::<Real>::new(names::REALS, source, reals)?,
            &mut Mapped::<v2::Real>::new(names::REALS, target, reals)?,
            |index, real| v2::downgrade(real).map_err(|reason| rejected(index, real, reason)),
        ),
        (Layout::Previous, Layout::Previous) | (Layout::Current, Layout::Current) => Ok(()),
    };
    copied.map_err(system(format!("migrating to layout {}", to.version())))?;
    // Last: a folder without this record is not taken for complete.
    Mapped::<Meta>::new(names::META, tables.get(names::META)?, 1)?.write(0, new.meta);
    Ok(())
}

/// Copies the records of a table into another table of the same length.
///
/// # Errors
/// The first one of `convert`.
fn copy<A: Record, B: Record>(
    from: &Mapped<A>,
    to: &mut Mapped<B>,
    convert: impl Fn(usize, &A) -> Result<B, String>,
) -> Result<(), String> {
    for index in 0..from.len() {
        to.write(index, convert(index, &from.read(index))?);
    }
    Ok(())
}

/// Why a record of the previous layout cannot be converted.
fn damaged(index: usize, reason: Unconvertible) -> String {
    format!(
        "entry {index} of the table {} is damaged ({reason:?}). The tables were not changed and packets still flow; \
         end forwarding with `lb-agent detach` and start again",
        names::REALS
    )
}

/// Why a real cannot be described in the previous layout.
fn rejected(index: usize, real: &Real, reason: Unconvertible) -> String {
    let [a, b, c, d, ..] = real.address;
    let address = if real.has_ipv6_address() {
        IpAddr::from(real.address)
    } else {
        IpAddr::from([a, b, c, d])
    };
    let what = match reason {
        Unconvertible::Port(port) => format!("its port {port}"),
        Unconvertible::Mode(_) => "its forwarding mode".to_owned(),
        Unconvertible::Flags(flags) => format!("its flags {flags:#x}"),
    };
    format!(
        "the real {address} (entry {index}) cannot be described in it, because it has no place for {what}. The tables \
         were not changed and packets still flow; start the agent, delete that real or change it, and try again"
    )
}

/// Replaces the program on each interface by one of the layout on the new tables.
fn replace_programs(
    pins: &Pins,
    new: &NewTables,
    layout: Layout,
    options: &Options,
) -> Result<Vec<String>, DataplaneError> {
    let folder = pins.maps(new.generation);
    // All are loaded before the first is replaced, so that a failure concerns no packet.
    let mut programs = Vec::new();
    for (slot, name) in (0..).zip(in_order(pins.linked()?, &options.interfaces)) {
        let pin = pins.link(&name);
        let link = bpf::pinned_link_info(&pin)
            .map_err(system(format!("examining the link {}", pin.display())))?;
        // The link of an interface that is gone holds nothing.
        if link.interface != 0 {
            let mut program = loader::load(&Terms {
                maps: &folder,
                layout,
                sizes: &new.sizes,
                meta: &new.meta,
                interface: Some((slot, link.interface)),
                switches: Switches::of(options),
            })?;
            station::copy(&mut program, link.program);
            programs.push((name, program));
        }
    }
    if programs.is_empty() {
        return Err(system(format!(
            "migrating the tables in {}",
            pins.root().display()
        ))(
            "the interfaces are gone, so no packet flows by the tables; remove them with `lb-agent detach` and start \
             again",
        ));
    }
    let mut replaced = Vec::new();
    for (name, mut program) in programs {
        attach::replace(loader::program(&mut program)?, &pins.link(&name), &name)?;
        if replaced.is_empty() {
            attach::pin_program(&mut program, pins)?;
        }
        replaced.push(name);
    }
    Ok(replaced)
}

/// The linked interfaces, first those of the configuration in its order.
fn in_order(linked: Vec<String>, order: &[String]) -> Vec<String> {
    let mut names: Vec<String> = order
        .iter()
        .filter(|name| linked.contains(name))
        .cloned()
        .collect();
    names.extend(linked.into_iter().filter(|name| !order.contains(name)));
    names
}

#[cfg(test)]
mod tests {
    use lb_common::{forward::IPIP, tables::real::ADDRESS_V6};

    use super::*;

    /// A record of twice the size, as a later layout may have it.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    #[repr(C, align(128))]
    struct Wide {
        service: u64,
        address: [u8; 16],
        added: [u64; 13],
    }

    // SAFETY: `repr(C)`, integers only, 128 bytes without padding.
    unsafe impl Record for Wide {}

    #[test]
    fn records_may_become_wider_and_narrower() {
        let mut narrow = Mapped::<v2::Real>::anonymous(5);
        for index in 0..5_u32 {
            let record = v2::Real {
                flags: v2::KIND_IP4,
                service: 100 + index,
                address: [index as u8; 16],
                ..v2::Real::default()
            };
            narrow.write(index as usize, record);
        }
        let mut wide = Mapped::<Wide>::anonymous(5);
        copy(&narrow, &mut wide, |_, real| {
            Ok(Wide {
                service: real.service.into(),
                address: real.address,
                added: [7; 13],
            })
        })
        .unwrap();
        assert_eq!(wide.read(4).added, [7; 13]);
        let mut back = Mapped::<v2::Real>::anonymous(5);
        copy(&wide, &mut back, |_, record| {
            Ok(v2::Real {
                flags: v2::KIND_IP4,
                service: record.service as u32,
                address: record.address,
                ..v2::Real::default()
            })
        })
        .unwrap();
        for index in 0..5 {
            assert_eq!(back.read(index), narrow.read(index));
        }
        let error = copy(&wide, &mut back, |index, _| match index {
            3 => Err("no".to_owned()),
            _ => Ok(v2::Real::default()),
        });
        assert_eq!(error, Err("no".to_owned()));
    }

    #[test]
    fn the_configuration_orders_the_interfaces() {
        let names = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(
            in_order(names("back eth1 front"), &names("front gone back")),
            names("front back eth1")
        );
    }

    #[test]
    fn a_real_that_the_other_layout_cannot_describe_is_named() {
        let real = Real {
            flags: IPIP.number,
            address: [10, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            port: 8_080_u16.to_be_bytes(),
            ..Real::default()
        };
        let reason = v2::downgrade(&real).unwrap_err();
        let text = rejected(7, &real, reason);
        for word in ["10.1.0.2", "port 8080", "delete that real", "still flow"] {
            assert!(text.contains(word), "no {word} in {text}");
        }
        let v6 = Real {
            flags: 200 | ADDRESS_V6,
            address: [0x20, 1, 0xD, 0xB8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2],
            port: [0; 2],
            ..real
        };
        let text = rejected(8, &v6, v2::downgrade(&v6).unwrap_err());
        assert!(
            text.contains("2001:db8::2") && text.contains("forwarding mode"),
            "{text}"
        );
    }
}
