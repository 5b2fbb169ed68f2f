//! Which frames are for this host: those sent to a MAC address that its interface receives by.
//!
//! A switch floods what it has no port for, and an interface in promiscuous mode takes it. If a balancer sent
//! such a frame on, another one beside it would do the same with the result, and so on without an end.

use crate::{lookup::Tables, shared::SharedU64};

/// Bits of a MAC address.
const MAC_BITS: u32 = 48;
/// MAC addresses besides the interface's own: of the bridge or bond it belongs to, of the interfaces of a bond,
/// of macvlan interfaces on top of it (VRRP has them).
pub const MAX_OTHERS: usize = 7;

/// The MAC addresses of a program's interface, as [`pack`] returns them; 0 is none. The agent writes them when it
/// loads the program and whenever they change.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct Station {
    /// The interface's own. 0: it is not known, and frames to any station are taken.
    pub own: SharedU64,
    /// The others.
    pub others: [SharedU64; MAX_OTHERS],
}

const _: () = assert!(size_of::<Station>() == 64);

impl Station {
    /// No address is known.
    #[must_use]
    pub const fn new() -> Station {
        Station {
            own: SharedU64::new(0),
            others: [const { SharedU64::new(0) }; MAX_OTHERS],
        }
    }
}

/// A MAC address as a number.
#[must_use]
pub const fn pack(mac: [u8; 6]) -> u64 {
    let [a, b, c, d, e, f] = mac;
    u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
}

/// The destination in the first eight bytes of a frame, as [`pack`] returns it.
#[must_use]
#[inline(always)]
pub const fn destination(start: u64) -> u64 {
    u64::from_le(start) & 0xFFFF_FFFF_FFFF
}

/// 0, which the kernel's verifier does not know: the bits above a MAC address.
#[inline(always)]
pub fn zero<T: Tables>(tables: &T) -> u32 {
    (tables.station().own.load() >> MAC_BITS) as u32
}

/// Whether a frame to this MAC address is for this host alone.
#[inline(always)]
pub fn is_addressed<T: Tables>(tables: &T, destination: u64) -> bool {
    let station = tables.station();
    destination == station.own.load() || is_other(station, destination)
}

#[inline(always)]
fn is_other(station: &Station, destination: u64) -> bool {
    // The lowest bit of the first byte tells a group of stations (IEEE 802 section 8.2.2).
    if destination & 1 != 0 {
        return false;
    }
    if station.own.load() == 0 {
        return true;
    }
    let mut found = false;
    for other in &station.others {
        found |= other.load() == destination;
    }
    found && destination != 0
}
