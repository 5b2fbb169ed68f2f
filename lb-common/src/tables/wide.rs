//! VIPs that are more than one address and port: prefixes, ranges of ports, several protocols.
//!
//! They are looked up after the single ones ([`super::vip`]). A trie leads from the longest prefix that holds an address to
//! a set of ranges of ports. The agent puts the ranges of the shorter prefixes around it into the set as well, behind its
//! own, so that one look-up is enough.

use crate::limits::RANGES_PER_SET;

/// A key of [`super::names::WIDE`].
///
/// Aligned, because a program makes one on its stack and writes the address in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(C, align(8))]
pub struct WideKey {
    /// Bits behind this field that count.
    pub bits: u32,
    /// [`crate::ip::Family`] as a number.
    pub family: u8,
    /// IP protocol: 6, 17, 132, or that of the family's echo requests.
    pub protocol: u8,
    /// Zero.
    pub pad: [u8; 2],
    /// Address in network order; IPv4 in the first four bytes.
    pub address: [u8; 16],
}

impl WideKey {
    /// The key of which only these bits count; the others are 0.
    #[must_use]
    pub const fn first_bits(mut self, bits: u32) -> WideKey {
        if bits < FIXED_BITS {
            return WideKey {
                bits,
                family: 0,
                protocol: 0,
                pad: [0; 2],
                address: [0; 16],
            };
        }
        self.bits = bits;
        let bits = bits - FIXED_BITS;
        let mut at = 0;
        while at < self.address.len() {
            let start = at as u32 * 8;
            if start >= bits {
                self.address[at] = 0;
            } else if bits - start < 8 {
                self.address[at] &= 0xFF << (8 - (bits - start));
            }
            at += 1;
        }
        self
    }
}

/// Bits of a [`WideKey`] in front of the address.
pub const FIXED_BITS: u32 = 32;

const _: () = assert!(size_of::<WideKey>() == 24);

/// A value of [`super::names::PORT_SETS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct PortSet {
    /// Ranges in the order in which they are tried, as [`range`] packs them; [`NO_RANGE`] behind the last.
    pub ranges: [u64; RANGES_PER_SET],
}

impl Default for PortSet {
    fn default() -> PortSet {
        PortSet {
            ranges: [NO_RANGE; RANGES_PER_SET],
        }
    }
}

/// A range without a port.
pub const NO_RANGE: u64 = 1;

/// Packs a range of ports, both included, and its service.
#[must_use]
pub const fn range(first: u16, last: u16, service: u32) -> u64 {
    first as u64 | (last as u64) << 16 | (service as u64) << 32
}

/// The service of a range, if the port is in it.
#[must_use]
#[inline(always)]
pub const fn service_of(range: u64, port: u16) -> Option<u32> {
    let first = range as u16;
    let last = (range >> 16) as u16;
    if first <= port && port <= last {
        Some((range >> 32) as u32)
    } else {
        None
    }
}
