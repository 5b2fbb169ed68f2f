//! TCP segments that no host sends: scans and the "land" attack. They are dropped before a real is chosen.

use crate::{
    codegen::apart,
    hash::Addresses,
    headers::tcp,
    parse::{NO_FLAGS, Packet},
    reason::Reason,
};

/// Looks at the flags and the addresses of a service's packet.
///
/// Nearly all segments have ACK, and pay for one comparison.
///
/// # Errors
/// The reason to drop it.
#[inline(always)]
pub fn check<A: Addresses>(packet: &Packet<A>) -> Result<(), Reason> {
    let flags = packet.transport.flags;
    if flags & (tcp::ACK | NO_FLAGS) != 0 {
        return Ok(());
    }
    apart();
    if flags & (tcp::SYN | tcp::RST) == 0 {
        return Err(Reason::BadFlags);
    }
    if flags & tcp::SYN == 0 {
        return Ok(());
    }
    if flags & (tcp::FIN | tcp::RST) != 0 {
        Err(Reason::BadFlags)
    } else if packet.addresses.are_one() {
        Err(Reason::Land)
    } else {
        Ok(())
    }
}
