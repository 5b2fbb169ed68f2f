//! Network address translation: the packet gets the real's address and port, and a source address of the balancer, to
//! which the real answers. `crate::nat` does it, because it needs the connection's entry.

use super::{Facts, ForwardedPacket};
use crate::{
    codegen::rare,
    frame::Frame,
    reason::Reason,
    tables::{next_hop::NextHop, real::Real},
};

/// The mode.
pub const FACTS: Facts = Facts {
    number: 4,
    name: "nat",
    needs_direct_neighbour: false,
    decrements_ttl: true,
    overhead_v4: 0,
    overhead_v6: 0,
    families_may_differ: true,
    translates_ports: true,
};

/// Packets of this mode are sent by [`crate::nat::send`] and do not come here.
///
/// # Errors
/// [`Reason::BadTables`].
#[inline(always)]
pub fn forward<F: Frame>(
    _frame: &mut F,
    _packet: &ForwardedPacket,
    _real: &Real,
    _hop: &NextHop,
) -> Result<(), Reason> {
    Err(rare(Reason::BadTables))
}
