//! Layer 2: the client's packet, to the real's MAC address. TTL and checksums do not change.

use super::{Facts, ForwardedPacket, set_macs};
use crate::{
    codegen::OrRare as _,
    frame::Frame,
    headers::ethernet,
    reason::Reason,
    tables::{next_hop::NextHop, real::Real},
};

/// The mode.
pub const FACTS: Facts = Facts {
    number: 1,
    name: "l2",
    needs_direct_neighbour: true,
    decrements_ttl: false,
    overhead_v4: 0,
    overhead_v6: 0,
    families_may_differ: false,
    translates_ports: false,
};

/// Rewrites the MAC addresses.
///
/// # Errors
/// [`Reason::BadTables`] if the frame is shorter than it was when it was parsed.
#[inline(always)]
pub fn forward<F: Frame>(
    frame: &mut F,
    _packet: &ForwardedPacket,
    _real: &Real,
    hop: &NextHop,
) -> Result<(), Reason> {
    let header = frame
        .window::<{ ethernet::LENGTH }>(0)
        .or_rare(Reason::BadTables)?;
    set_macs(header, hop);
    Ok(())
}
