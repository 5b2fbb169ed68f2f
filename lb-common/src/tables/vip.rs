//! The tables of VIPs: which service a packet is for.
//!
//! An entry is one word, so one store adds it, changes its service or removes it. From the top: 32 bits of
//! the address (IPv4: all of it; IPv6: a digest, and the address stands beside the word), 16 bits of the
//! port in network order, 3 bits that stand for the protocol ([`protocol_code`]), [`OVERFLOWED`], and the
//! service. `crate::vip_table` looks entries up and places them.

use crate::limits::{MAX_SERVICES, VIPS_PER_BUCKET};

/// Key of an IPv4 VIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Vip4Key {
    /// Address, in network order.
    pub address: [u8; 4],
    /// Port in network order; 0 is any port.
    pub port: [u8; 2],
    /// IP protocol: 6, 17, 132, or with port 0: 1 for echo requests, [`TUNNEL_END`].
    pub protocol: u8,
}

/// Key of an IPv6 VIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Vip6Key {
    /// Address, in network order.
    pub address: [u8; 16],
    /// Port in network order; 0 is any port.
    pub port: [u8; 2],
    /// IP protocol: 6, 17, 132, or with port 0: 58 for echo requests, [`TUNNEL_END`].
    pub protocol: u8,
}

/// A value of [`super::names::VIPS4`]: half a cache line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(32))]
pub struct Vip4Bucket {
    /// The entries, in no order; see the module.
    pub words: [u64; VIPS_PER_BUCKET],
}

/// A value of [`super::names::VIPS6`]. A packet for no VIP reads the first of its two cache lines only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(128))]
pub struct Vip6Bucket {
    /// The entries, in no order; see the module.
    pub words: [u64; VIPS_PER_BUCKET],
    /// Their addresses as they lie in a packet. An address is written before its word, and not again while a
    /// packet may still have read the word.
    pub addresses: [[u64; 2]; VIPS_PER_BUCKET],
    /// Zero.
    pub pad: [u64; 4],
}

/// The service index that answers echo requests and does nothing else.
pub const ECHO_SERVICE: u32 = 0;

/// Bits of a word that hold the service.
pub const SERVICE_MASK: u64 = MAX_SERVICES as u64 - 1;
/// Mark in a bucket's last word: some VIP found this bucket, its first one, full and is in its second.
pub const OVERFLOWED: u64 = 1 << 12;
/// Bits of a word that are not the VIP's key.
pub const VALUE_MASK: u64 = (1 << 13) - 1;
/// Position of the protocol's code; likewise of port and address.
pub const PROTOCOL_SHIFT: u32 = 13;
/// See [`PROTOCOL_SHIFT`].
pub const PORT_SHIFT: u32 = 16;
/// See [`PROTOCOL_SHIFT`].
pub const ADDRESS_SHIFT: u32 = 32;

/// Protocols that VIPs have: ICMP, TCP, UDP, ICMPv6, SCTP; and that of IPv6 in IP, which stands for the ends of tunnels.
pub const PROTOCOLS: [u8; 6] = [1, 6, 17, 58, 132, TUNNEL_END];
/// The protocol of the key, with port 0, of an address for which the balancer takes outer headers off.
pub const TUNNEL_END: u8 = 41;

/// Three bits that tell [`PROTOCOLS`] from each other. Never 0: a word of 0 is an empty entry.
#[must_use]
#[inline(always)]
pub const fn protocol_code(protocol: u32) -> u32 {
    (protocol + (protocol >> 4)) & 7
}

/// The protocol with this code.
#[must_use]
pub const fn protocol_of(code: u32) -> Option<u8> {
    let mut i = 0;
    while i < PROTOCOLS.len() {
        if protocol_code(PROTOCOLS[i] as u32) == code {
            return Some(PROTOCOLS[i]);
        }
        i += 1;
    }
    None
}

const _: () = {
    assert!(MAX_SERVICES.is_power_of_two() && SERVICE_MASK < OVERFLOWED);
    assert!(size_of::<Vip4Bucket>() == 32 && size_of::<Vip6Bucket>() == 128);
    let mut i = 0;
    while i < PROTOCOLS.len() {
        let code = protocol_code(PROTOCOLS[i] as u32);
        assert!(code != 0);
        assert!(
            matches!(protocol_of(code), Some(found) if found == PROTOCOLS[i]),
            "two protocols have one code"
        );
        i += 1;
    }
};
