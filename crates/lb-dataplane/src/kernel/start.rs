//! Starting the data plane: adopting pinned tables or making new ones, and attaching.

use std::fs::File;

use aya_log::EbpfLogger;
use lb_common::limits::MAX_INTERFACES;
use lb_common::tables::meta::{LAYOUT_VERSION, MAGIC, Meta};

use super::{
    KernelDataplane,
    adopt::{self, ActiveTables},
    attach,
    attachments::Attachments,
    backend::KernelBackend,
    claim,
    layout::Layout,
    loader::{self, Switches, Terms},
    migration,
    pinned_tables::{PinnedTables, read_meta},
    pins::Pins,
    station::Stations,
    tables::KernelTables,
};
use crate::{
    engine::Engine,
    error::{DataplaneError, system},
    options::Options,
    resolver::Resolver,
    table_sizes::{TableSizes, flow_buckets},
};

/// The tables to start with.
struct StartTables {
    generation: u32,
    sizes: TableSizes,
    meta: Meta,
    /// Whether an earlier agent made them, so that packets flow by them already.
    adopted: bool,
    /// The tables of the previous layout that these were made from; packets flow by those until a program is
    /// replaced.
    migrated: Option<ActiveTables>,
    warnings: Vec<String>,
}

/// See [`KernelDataplane::start`].
///
/// # Errors
/// As there.
pub(super) fn start(
    options: &Options,
    resolver: Box<dyn Resolver>,
) -> Result<KernelDataplane, DataplaneError> {
    check(options)?;
    let pins = Pins::new(&options.pins);
    pins.create()?;
    let lock = pins.lock()?;
    let tables = match adopt::find(&pins)? {
        Some(active) => adopted(options, &pins, active)?,
        None => empty(options, &pins)?,
    };
    let mut plane = match launch(options, &pins, &tables, lock, resolver) {
        Ok(plane) => plane,
        Err(error) => {
            if let Some(old) = &tables.migrated {
                migration::discard(&pins, old, tables.generation);
            } else if !tables.adopted {
                // No packet was forwarded yet: leave the machine as it was.
                let _ = pins.remove();
            }
            return Err(error);
        }
    };
    if tables.migrated.is_some() {
        tracing::info!(
            "the tables in {} were migrated to layout {LAYOUT_VERSION}; packets flowed meanwhile",
            pins.root().display()
        );
    }
    for warning in tables.warnings {
        plane.engine.warn(warning);
    }
    pins.remove_maps_but(Some(tables.generation))?;
    detach_others(&mut plane, options, &pins)?;
    // Neighbours and routes may have changed while no agent ran, and nobody announces that again.
    if let Err(error) = plane.engine.refresh_next_hops() {
        let warning = format!("next hops of reals are as an earlier agent has left them: {error}");
        tracing::warn!("{warning}");
        plane.engine.warn(warning);
    }
    Ok(plane)
}

/// The tables of an earlier agent, migrated to the current layout if they have the previous one.
fn adopted(
    options: &Options,
    pins: &Pins,
    active: ActiveTables,
) -> Result<StartTables, DataplaneError> {
    let (layout, meta) = read_meta(&active.folder)?;
    let tables = PinnedTables::open(&active.folder, layout)?;
    if let Some(claim) = &options.claim {
        claim::check(claim, &meta, &claim::vips_of(&tables)?).map_err(system(format!(
            "adopting the tables in {}",
            active.folder.display()
        )))?;
    }
    let sizes = tables.sizes;
    if meta.ring_seed != options.ring_seed {
        return Err(system(format!(
            "adopting the tables in {}",
            active.folder.display()
        ))(format!(
            "they have the ring seed {} and the configuration says {}: another seed moves every running flow to \
             another slot. Keep the old seed, or end forwarding with `lb-agent detach` and start again",
            meta.ring_seed, options.ring_seed
        )));
    }
    let mut warnings = Vec::new();
    let configured = flow_buckets(options.flow_entries);
    if configured != sizes.flow_buckets {
        let warning = format!(
            "the flow table keeps its {} buckets; the {configured} that are configured take effect after `lb-agent \
             detach`",
            sizes.flow_buckets
        );
        tracing::warn!("{warning}");
        warnings.push(warning);
    }
    let start = StartTables {
        generation: active.generation,
        sizes,
        meta: Meta {
            classes_since: if active.stamp_classes {
                meta.classes_since
            } else {
                0
            },
            ..meta
        },
        adopted: true,
        migrated: None,
        warnings,
    };
    match layout {
        Layout::Current => Ok(start),
        Layout::Previous => {
            let new = migration::convert(pins, &active, layout, &start.meta, Layout::Current)?;
            Ok(StartTables {
                generation: new.generation,
                sizes: new.sizes,
                meta: new.meta,
                migrated: Some(active),
                ..start
            })
        }
    }
}

/// New tables, which loading the first program makes.
fn empty(options: &Options, pins: &Pins) -> Result<StartTables, DataplaneError> {
    // No program is attached, so folders of maps are the rest of a start that failed.
    pins.remove_maps_but(None)?;
    let folder = pins.maps(1);
    std::fs::create_dir(&folder)
        .map_err(system(format!("making the folder {}", folder.display())))?;
    Ok(StartTables {
        generation: 1,
        sizes: TableSizes::initial(options.flow_entries),
        meta: new_meta(options)?,
        adopted: false,
        migrated: None,
        warnings: Vec::new(),
    })
}

fn launch(
    options: &Options,
    pins: &Pins,
    start: &StartTables,
    lock: File,
    resolver: Box<dyn Resolver>,
) -> Result<KernelDataplane, DataplaneError> {
    let folder = pins.maps(start.generation);
    let simulator = loader::load(&Terms {
        maps: &folder,
        layout: Layout::Current,
        sizes: &start.sizes,
        meta: &start.meta,
        interface: None,
        switches: Switches::of(options),
    })?;
    let mut tables = KernelTables::open(&folder)?;
    let claim = options.claim.as_ref();
    let meta = Meta {
        generation: start.generation,
        state: claim.map_or(start.meta.state, |claim| claim.state),
        session: session()?,
        ..start.meta
    };
    tables.meta.write(0, meta);
    let mut attachments = Attachments::make(
        pins.clone(),
        start.generation,
        options,
        &start.sizes,
        &start.meta,
        simulator,
    )?;
    let log = match options.kernel_log {
        Some(_) => Some(log_reader(&mut attachments)?),
        None => None,
    };
    let backend = KernelBackend::new(tables, attachments);
    Ok(KernelDataplane {
        engine: Engine::new(backend, resolver, options)?,
        adopted: start.adopted,
        stations: Stations::new(),
        log,
        lock,
        pins_problem: None,
        session: meta.session,
        foreign_changes: None,
    })
}

/// Detaches from interfaces of an earlier agent that the options do not name: no agent would keep the tables
/// of their programs up to date.
fn detach_others(
    plane: &mut KernelDataplane,
    options: &Options,
    pins: &Pins,
) -> Result<(), DataplaneError> {
    for name in pins.linked()? {
        if !options.interfaces.contains(&name) {
            pins.remove_link(&name)?;
            let warning = format!(
                "{name} was served by an earlier agent and is not configured any more: it was detached"
            );
            tracing::warn!("{warning}");
            plane.engine.warn(warning);
        }
    }
    Ok(())
}

fn log_reader(
    attachments: &mut Attachments,
) -> Result<EbpfLogger<&'static dyn log::Log>, DataplaneError> {
    // aya-log finds the ring buffer by a program that uses it; the simulating one is always there.
    let program = loader::program(&mut attachments.simulator)?;
    EbpfLogger::init_from_id(attach::program_id(program)?)
        .map_err(system("opening the programs' log"))
}

fn check(options: &Options) -> Result<(), DataplaneError> {
    let invalid = |reason: String| Err(system("starting the data plane")(reason));
    if options.interfaces.is_empty() {
        return invalid("no interface is given; name one with --iface".to_owned());
    }
    if options.interfaces.len() > MAX_INTERFACES as usize {
        return invalid(format!(
            "{} interfaces are given; {MAX_INTERFACES} is the limit",
            options.interfaces.len()
        ));
    }
    let mut seen = std::collections::HashSet::new();
    if let Some(twice) = options.interfaces.iter().find(|name| !seen.insert(*name)) {
        return invalid(format!("the interface {twice} is given twice"));
    }
    if !options.source_v4.address().is_ipv4() || options.source_v6.address().is_ipv4() {
        return invalid(
            "a prefix of outer source addresses has the wrong family; outer_source_v4 takes an IPv4 prefix and \
             outer_source_v6 an IPv6 one"
                .to_owned(),
        );
    }
    Ok(())
}

/// A number for [`Meta::session`].
fn session() -> Result<u64, DataplaneError> {
    let mut number = [0; 8];
    getrandom::fill(&mut number).map_err(system("asking the kernel for random bytes"))?;
    Ok(u64::from_ne_bytes(number) | 1)
}

fn new_meta(options: &Options) -> Result<Meta, DataplaneError> {
    let mut secret = [0_u8; 16];
    getrandom::fill(&mut secret).map_err(system("asking the kernel for random bytes"))?;
    let number = u128::from_ne_bytes(secret);
    Ok(Meta {
        magic: MAGIC,
        layout: LAYOUT_VERSION,
        generation: 1,
        ring_seed: options.ring_seed,
        flow_secret: [number as u64, (number >> 64) as u64],
        state: 0,
        session: 0,
        classes_since: 0,
        pad: 0,
    })
}
