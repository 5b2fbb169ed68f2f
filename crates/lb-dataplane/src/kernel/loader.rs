//! Loading the balancer program onto a folder of tables.

use std::path::Path;

use aya::{
    Ebpf, EbpfLoader,
    programs::{ProgramError, Xdp},
};
use lb_common::limits::{
    FRAGMENT_BUCKETS, MAX_INTERFACES, MAX_PORT_SETS, MAX_SOURCE_RULES, MAX_WIDE_KEYS, REASON_SLOTS,
    SAMPLES, SLOTS_PER_CHUNK,
};
use lb_common::tables::{constants, meta::Meta, names};
use lb_common::vip_table::{AddressDigest, VipHash};

use super::layout::Layout;
use crate::{
    error::{DataplaneError, system},
    options::Options,
    table_sizes::TableSizes,
};

/// Name of the program in the object.
pub(crate) const PROGRAM: &str = "balancer";
/// The ring buffer of the programs' own log.
pub(crate) const LOG: &str = "AYA_LOGS";
/// Level of that log, a constant.
const LOG_LEVEL: &str = "AYA_LOG_LEVEL";

/// Name and number of entries of every table. The entries of `RINGS` are chunks of slots.
pub(crate) fn tables(sizes: &TableSizes) -> [(&'static str, u32); 31] {
    [
        (names::VIPS4, sizes.vip_buckets),
        (names::VIPS6, sizes.vip_buckets),
        (names::WIDE, MAX_WIDE_KEYS),
        (names::PORT_SETS, MAX_PORT_SETS),
        (names::CONFIG, 1),
        (names::META, 1),
        (names::SERVICES, sizes.services),
        (names::RINGS, sizes.ring_slots / SLOTS_PER_CHUNK),
        (names::REALS, sizes.reals),
        (names::BUDGETS, sizes.reals),
        (names::SERVICE_LIMITS, sizes.services),
        (names::REAL_LIMITS, sizes.reals),
        (names::SOURCE_LIMITS, sizes.source_limits),
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
        (names::NAT_FLOWS, sizes.nat_flows),
        (names::NAT_SETTINGS, 1),
        (names::SERVER_IDS, sizes.server_ids),
        (names::QUIC_LB, sizes.quic_lb()),
        (names::SERVER_ID_COUNTERS, sizes.services),
        (names::SOURCE_RULES, MAX_SOURCE_RULES),
        (names::FRAGMENTS, FRAGMENT_BUCKETS),
        (names::TRACE, 1),
    ]
}

/// Constants of a program that follow from the agent's options.
#[derive(Clone, Copy)]
pub(crate) struct Switches {
    /// 0 is off, 1 is errors, 5 is everything.
    pub log_level: u8,
    /// Whether tunnels end at some address of the balancer.
    pub ends_tunnels: bool,
    /// The UDP port of the mode `gue`.
    pub gue_port: u16,
    /// Whether it copies packets to the agent.
    pub captures: bool,
}

impl Switches {
    /// The constants for these options.
    pub fn of(options: &Options) -> Switches {
        Switches {
            log_level: options.kernel_log.map_or(0, |level| level as u8),
            ends_tunnels: !options.tunnel_ends.is_empty(),
            gue_port: options.gue_port,
            captures: false,
        }
    }

    /// The same for a program that copies packets to the agent, or does not.
    pub const fn capturing(self, captures: bool) -> Switches {
        Switches { captures, ..self }
    }
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
    pub switches: Switches,
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
    let log_level = if simulate == 1 {
        0
    } else {
        terms.switches.log_level
    };
    let ends_tunnels = u32::from(terms.switches.ends_tunnels);
    let captures = u32::from(terms.switches.captures);
    let observes = u32::from(log_level > 0 || terms.switches.captures);
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
        .override_global(constants::TUNNEL_ENDS, &ends_tunnels, false)
        .override_global(constants::GUE_PORT, &terms.switches.gue_port, false)
        .override_global(constants::VIP_FACTOR, &vip_hash.factor, true)
        .override_global(constants::VIP_SHIFT, &vip_hash.shift, true)
        .override_global(constants::DIGEST_FACTOR_0, &digest.factors[0], true)
        .override_global(constants::DIGEST_FACTOR_1, &digest.factors[1], true)
        .override_global(constants::SIMULATE, &simulate, true)
        .override_global(constants::OBSERVE, &observes, true)
        .override_global(constants::CAPTURE, &captures, true)
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
