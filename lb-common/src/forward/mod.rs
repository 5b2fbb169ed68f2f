//! Sending a packet on to its real: one file per forwarding mode.
//!
//! A mode is a file with its [`Facts`] and a function `forward`, declared here, and a line in the registry
//! below, which starts with the mode that most packets take. Its number stands in the records of its reals
//! ([`Real::mode`]). User space reads the facts, so it needs no knowledge of single modes.

mod gue;
mod ipip;
mod l2;
mod nat;
mod tunnel;

use crate::{
    codegen::{apart, rare},
    frame::{Fields as _, Frame},
    headers::{ethernet, ipv4, ipv6},
    ip::Family,
    reason::Reason,
    tables::{
        next_hop::NextHop,
        real::{MODE_MASK, Real},
    },
};

/// The packet that is sent on, as it was parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForwardedPacket {
    /// Its family. The outer header's is the real's.
    pub family: Family,
    /// Bytes, IP header included.
    pub length: u32,
    /// TTL or hop limit.
    pub ttl: u32,
    /// The flow's ring hash: it varies what lets routers and NICs spread flows.
    pub hash: u64,
    /// The UDP destination port of the mode `gue`.
    pub gue_port: u16,
}

/// What must be known of a forwarding mode to choose it and to fill in a real's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Number in a real's record: 1 to [`MODE_MASK`]. It is part of the tables' layout, so it is never
    /// given to another mode.
    pub number: u32,
    /// Name in configuration files and on the command line.
    pub name: &'static str,
    /// Whether the real itself must be the next hop: no router may be on the way.
    pub needs_direct_neighbour: bool,
    /// Whether the packet's TTL is decremented, so that one with TTL 1 is dropped.
    pub decrements_ttl: bool,
    /// Bytes that a frame grows by on its way to a real with an IPv4 address.
    pub overhead_v4: u32,
    /// Bytes that a frame grows by on its way to a real with an IPv6 address.
    pub overhead_v6: u32,
    /// Whether a real may have an address of another family than its VIP.
    pub families_may_differ: bool,
    /// Whether a real's port may differ from the VIP's.
    pub translates_ports: bool,
}

impl Facts {
    /// Bytes that a frame grows by on its way to a real with an address of this family.
    #[must_use]
    pub const fn overhead(&self, real: Family) -> u32 {
        match real {
            Family::V4 => self.overhead_v4,
            Family::V6 => self.overhead_v6,
        }
    }

    /// Bytes by which a packet for a VIP of one family grows on its way to a real of the other or the same one.
    #[must_use]
    pub const fn growth(&self, vip: Family, real: Family) -> u32 {
        match (self.overhead(real), vip, real) {
            // Without an outer header its own one becomes the longer one.
            (0, Family::V4, Family::V6) => (ipv6::LENGTH - ipv4::LENGTH) as u32,
            (overhead, ..) => overhead,
        }
    }
}

macro_rules! registry {
    ($($(#[$doc:meta])* $constant:ident = $mode:ident;)*) => {
        $($(#[$doc])* pub const $constant: &Facts = &$mode::FACTS;)*

        /// Every mode.
        pub const MODES: &[&Facts] = &[$($constant,)*];

        /// Makes the frame one for `real` over `hop`, by the real's mode.
        ///
        /// # Errors
        /// The reason to drop the frame, which is unchanged; [`Reason::BadTables`] if no mode has the
        /// number that the record says.
        #[inline(always)]
        pub fn forward<F: Frame>(
            frame: &mut F,
            packet: &ForwardedPacket,
            real: &Real,
            hop: &NextHop,
        ) -> Result<(), Reason> {
            let mode = real.mode();
            $(if mode == $mode::FACTS.number {
                return $mode::forward(frame, packet, real, hop);
            }
            // The first mode is the first that is compared.
            apart();)*
            Err(rare(Reason::BadTables))
        }

        /// [`Facts::decrements_ttl`] of the mode with this number, in a form that the kernel programs can
        /// read: they have no tables of constants with addresses.
        #[must_use]
        #[inline(always)]
        pub const fn decrements_ttl(number: u32) -> bool {
            $((number == $mode::FACTS.number && $mode::FACTS.decrements_ttl))||*
        }
    };
}

registry! {
    /// In an outer IP header.
    IPIP = ipip;
    /// The destination MAC address is rewritten.
    L2 = l2;
    /// In an outer IP and a UDP header.
    GUE = gue;
    /// Addresses and ports are translated.
    NAT = nat;
}

/// The mode with this number.
#[must_use]
pub const fn mode(number: u32) -> Option<&'static Facts> {
    let mut at = 0;
    while at < MODES.len() {
        if MODES[at].number == number {
            return Some(MODES[at]);
        }
        at += 1;
    }
    None
}

const _: () = {
    let mut at = 0;
    while at < MODES.len() {
        let number = MODES[at].number;
        assert!(number != 0 && number & !MODE_MASK == 0, "0 is no mode");
        let mut other = 0;
        while other < at {
            assert!(MODES[other].number != number, "two modes have one number");
            other += 1;
        }
        at += 1;
    }
};

/// Takes one off the TTL of an IPv4 header.
#[inline(always)]
fn decrement_ttl(header: &mut [u8; ipv4::LENGTH]) {
    let ttl = header.u8_at::<{ ipv4::TTL }>();
    header.set_u8_at::<{ ipv4::TTL }>(ttl.wrapping_sub(1));
    // The checksum grows by what its word shrinks. A sum does not depend on the byte order (RFC 1071 section 2): as
    // little-endian numbers, whose order most machines have, the word shrinks by 1. 0xFFFF is never a header's
    // checksum (RFC 1624 section 3): it is written as 0.
    let sum = u16::from_le(header.u16_at::<{ ipv4::CHECKSUM }>()) as u32 + 1;
    let sum = if sum >= 0xFFFF { sum + 1 } else { sum };
    header.set_u16_at::<{ ipv4::CHECKSUM }>((sum as u16).to_le());
}

/// Writes both MAC addresses of a frame.
#[inline(always)]
pub(crate) fn set_macs<const N: usize>(window: &mut [u8; N], hop: &NextHop) {
    let [a, b, c, d, e, f] = hop.destination;
    let [g, h, i, j, k, l] = hop.source;
    window.set_u64_at::<{ ethernet::DESTINATION }>(u64::from_ne_bytes([a, b, c, d, e, f, g, h]));
    window.set_u32_at::<{ ethernet::DESTINATION + 8 }>(u32::from_ne_bytes([i, j, k, l]));
}
