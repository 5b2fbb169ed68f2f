//! Loading the balancer program onto a folder of tables.

use std::path::Path;

use aya::{
    Ebpf, EbpfLoader,
    programs::{ProgramError, Xdp},
};
use lb_common::limits::{MAX_INTERFACES, REASON_SLOTS, SAMPLES, SLOTS_PER_CHUNK};
use lb_common::tables::{constants, meta::Meta, names};
use lb_common::vip_table::{AddressDigest, VipHash};

use super::layout::Layout;
use crate::{
    error::{DataplaneError, system},
    table_sizes::TableSizes,
};

/// Name of the program in the object.
pub(crate) const PROGRAM: &str = "balancer";
/// The ring buffer of the programs' own log.
pub(crate) const LOG: &str = "AYA_LOGS";
/// Level of that log, a constant.
const LOG_LEVEL: &str = "AYA_LOG_LEVEL";

/// Name and number of entries of every table. The entries of `RINGS` are chunks of slots.
pub(crate) fn tables(sizes: &TableSizes) -> [(&'static str, u32); 19] {
    [
        (names::VIPS4, sizes.vip_buckets),
        (names::VIPS6, sizes.vip_buckets),
        (names::CONFIG, 1),
        (names::META, 1),
        (names::SERVICES, sizes.services),
        (names::RINGS, sizes.ring_slots / SLOTS_PER_CHUNK),
        (names::REALS, sizes.reals),
        (names::BUDGETS, sizes.reals),
        (names::NEXT_HOPS, sizes.next_hops),
        (names::FLOWS, sizes.flow_buckets),
        (names::REAL_COUNTERS, sizes.reals),
        (names::SERVICE_COUNTERS, sizes.services),
        (names::REASON_COUNTERS, MAX_INTERFACES * REASON_SLOTS),
        (names::FLOW_COUNTERS, 1),
        (names::FLOW_EVICTIONS, 1),
        (names::LOOKUPS, sizes.services),
        (names::SIGNS, sizes.reals),
        (names::SAMPLES, SAMPLES),
        (names::TRACE, 1),
    ]
}

/// What a program is loaded for.
pub(crate) struct Terms<'a> {
    /// Folder of the tables: maps that are pinned there are used, the others are made and pinned there.
    pub maps: &'a Path,
    pub layout: Layout,
    pub sizes: &'a TableSizes,
    pub meta: &'a Meta,
    /// Slot in the counters and index of the interface; `None` for the program that simulates and is not
    /// attached.
    pub interface: Option<(u32, u32)>,
    /// 0 is off, 1 is errors, 5 is everything.
    pub log_level: u8,
}

/// Loads the program into the kernel.
///
/// # Errors
/// [`DataplaneError::System`], with the verifier's log if the verifier rejected the program.
pub(crate) fn load(terms: &Terms<'_>) -> Result<Ebpf, DataplaneError> {
    let tables = tables(terms.sizes);
    let (slot, index) = terms.interface.unwrap_or((0, 0));
    let simulate = u32::from(terms.interface.is_none());
    let mask = terms.sizes.flow_buckets - 1;
    let vip_hash = VipHash::new(terms.meta.flow_secret, terms.sizes.vip_buckets);
    let digest = AddressDigest::new(terms.meta.flow_secret);
    let log_level = if simulate == 1 { 0 } else { terms.log_level };
    let mut loader = EbpfLoader::new();
    for (name, entries) in &tables {
        loader
            .map_max_entries(name, *entries)
            .map_pin_path(name, terms.maps.join(name));
    }
    loader
        .map_pin_path(LOG, terms.maps.join(LOG))
        .override_global(constants::INTERFACE_SLOT, &slot, true)
        .override_global(constants::INTERFACE_INDEX, &index, true)
        .override_global(constants::RING_SEED, &terms.meta.ring_seed, true)
        .override_global(constants::FLOW_SECRET_0, &terms.meta.flow_secret[0], true)
        .override_global(constants::FLOW_SECRET_1, &terms.meta.flow_secret[1], true)
        .override_global(constants::FLOW_MASK, &mask, true)
        .override_global(constants::VIP_FACTOR, &vip_hash.factor, true)
        .override_global(constants::VIP_SHIFT, &vip_hash.shift, true)
        .override_global(constants::DIGEST_FACTOR_0, &digest.factors[0], true)
        .override_global(constants::DIGEST_FACTOR_1, &digest.factors[1], true)
        .override_global(constants::SIMULATE, &simulate, true)
        .override_global(LOG_LEVEL, &log_level, false);
    let mut ebpf = loader.load(terms.layout.object()).map_err(|error| {
        system(format!(
            "making the tables in {} (this needs root or CAP_BPF, and Linux 5.15 or newer)",
            terms.maps.display()
        ))(error)
    })?;
    let program = program(&mut ebpf)?;
    load_with_retries(|| program.load()).map_err(system(
        "loading the balancer program (the kernel's verifier rejected it or a capability is missing: run as root, \
         on Linux 5.15 or newer; if you do, please report this text)",
    ))?;
    Ok(ebpf)
}

/// Loads a program and retries on EAGAIN, with which the verifier gives up when a signal is pending.
pub(crate) fn load_with_retries(
    mut load: impl FnMut() -> Result<(), ProgramError>,
) -> Result<(), ProgramError> {
    const ATTEMPTS: u32 = 5;
    let mut attempt = 1;
    loop {
        match load() {
            Err(ProgramError::LoadError { io_error, .. })
                if io_error.raw_os_error() == Some(libc::EAGAIN) && attempt < ATTEMPTS =>
            {
                attempt += 1;
            }
            result => return result,
        }
    }
}

/// The program of a loaded object.
///
/// # Errors
/// [`DataplaneError::System`] if the object has none: a broken build.
pub(crate) fn program(ebpf: &mut Ebpf) -> Result<&mut Xdp, DataplaneError> {
    let program = ebpf.program_mut(PROGRAM).ok_or_else(|| {
        system("finding the balancer program in the agent's binary")(
            "this build of lb-agent is broken; install another one",
        )
    })?;
    program
        .try_into()
        .map_err(system("using the balancer program as an XDP program"))
}
