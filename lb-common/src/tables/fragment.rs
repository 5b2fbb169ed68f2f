//! Fragments whose first one has been seen.
//!
//! Only the first fragment of a packet has ports. Those behind it are told apart by addresses and identification, and get
//! the ports from here, so that the decision about them is that about the first one.

use crate::ip::Family;

/// A key of [`super::names::FRAGMENTS`]: what all fragments of a packet have in common (RFC 791 section 3.2, RFC 8200 section
/// 4.5). Addresses as they lie in a packet; an IPv4 address is the first four bytes of 16, the others are zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct FragmentKey {
    /// Source address.
    pub source: [u64; 2],
    /// Destination address.
    pub destination: [u64; 2],
    /// The identification, as it lies in the packet.
    pub identification: u32,
    /// The protocol of IPv4, and 0 for IPv6, whose fragments need not say it alike: see [`FragmentKey::of_family`].
    pub kind: u32,
}

impl FragmentKey {
    /// The kind of a fragment's key.
    #[must_use]
    #[inline(always)]
    pub const fn of_family(family: Family, protocol: u32) -> u32 {
        match family {
            Family::V4 => protocol,
            Family::V6 => 0,
        }
    }
}

/// A value of [`super::names::FRAGMENTS`]: what the first fragment said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct FirstFragment {
    /// Ports, as they lie in the packet.
    pub ports: u32,
    /// TCP, UDP or SCTP.
    pub protocol: u16,
    /// The real that the packet names ([`crate::server_ids`]); 0: none.
    pub named: u16,
    /// When it came, in ticks.
    pub stamp: u32,
    /// Always 0.
    pub pad: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_have_no_padding() {
        assert_eq!(size_of::<FragmentKey>(), 40);
        assert_eq!(size_of::<FirstFragment>(), 16);
    }
}
