//! Loading the balancer program onto a folder of tables.

use std::path::Path;

use aya::{
    Ebpf, EbpfLoader,
    programs::{ProgramError, Xdp},
};
use lb_common::{
    limits::{MAX_INTERFACES, REASON_SLOTS, SLOTS_PER_CHUNK},
    tables::{constants, meta::Meta, names},
    vip_table::{AddressDigest, VipHash},
};

use super::{DataplaneError, error::system, layout::Layout};
use crate::objects;

/// Name of the program in the object.
pub(crate) const PROGRAM: &str = "balancer";
/// The ring buffer of the programs' own log.
pub(crate) const LOG: &str = "AYA_LOGS";
/// Level of that log, a constant.
const LOG_LEVEL: &str = "AYA_LOG_LEVEL";

/// Every table and its entries in a layout. A ring's slots stand in chunks.
pub(crate) fn tables(layout: &Layout) -> [(&'static str, u32); 15] {
    [
        (names::VIPS4, layout.vip_buckets),
        (names::VIPS6, layout.vip_buckets),
        (names::CONFIG, 1),
        (names::META, 1),
        (names::SERVICES, layout.services),
        (names::RINGS, layout.ring_slots / SLOTS_PER_CHUNK),
        (names::REALS, layout.reals),
        (names::BUDGETS, layout.reals),
        (names::NEXT_HOPS, layout.next_hops),
        (names::FLOWS, layout.flow_buckets),
        (names::REAL_COUNTERS, layout.reals),
        (names::SERVICE_COUNTERS, layout.services),
        (names::REASON_COUNTERS, MAX_INTERFACES * REASON_SLOTS),
        (names::FLOW_COUNTERS, 1),
        (names::TRACE, 1),
    ]
}

/// What one program is made for.
pub(crate) struct Terms<'a> {
    /// The tables' folder: maps that are pinned there are used, others made and pinned there.
    pub maps: &'a Path,
    pub layout: &'a Layout,
    pub meta: &'a Meta,
    /// Place and index of the interface; `None` for the program that simulates and is attached nowhere.
    pub interface: Option<(u32, u32)>,
    /// 0 is off, 1 errors, ... 5 everything.
    pub log_level: u8,
}

/// Loads the program into the kernel.
///
/// # Errors
/// [`DataplaneError::System`], with the verifier's words if it was the verifier.
pub(crate) fn load(terms: &Terms<'_>) -> Result<Ebpf, DataplaneError> {
    let sizes = tables(terms.layout);
    let (slot, index) = terms.interface.unwrap_or((0, 0));
    let simulate = u32::from(terms.interface.is_none());
    let mask = terms.layout.flow_buckets - 1;
    let vip_hash = VipHash::new(terms.meta.flow_secret, terms.layout.vip_buckets);
    let digest = AddressDigest::new(terms.meta.flow_secret);
    let log_level = if simulate == 1 { 0 } else { terms.log_level };
    let mut loader = EbpfLoader::new();
    for (name, entries) in &sizes {
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
    let mut ebpf = loader.load(objects::BALANCER).map_err(|error| {
        system(format!(
            "making the tables in {} (CAP_BPF or root is needed, and Linux 5.15 or newer)",
            terms.maps.display()
        ))(error)
    })?;
    let program = program(&mut ebpf)?;
    load_patiently(|| program.load()).map_err(system(
        "loading the balancer program (the kernel's verifier refused it or a capability is missing: run as root, \
         on Linux 5.15 or newer; if both hold, report this text)",
    ))?;
    Ok(ebpf)
}

/// The verifier gives up with EAGAIN when a signal is pending; asking again is all there is to do.
pub(crate) fn load_patiently(
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
        system("finding the balancer program in the object")("this build of the agent is broken")
    })?;
    program
        .try_into()
        .map_err(system("taking the balancer program for an XDP program"))
}
