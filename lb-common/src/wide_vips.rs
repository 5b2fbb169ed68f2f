//! Looking up the service of a packet for a VIP that is a prefix or a range of ports.

use crate::{
    ip::Ip,
    limits::RANGES_PER_SET,
    lookup::Tables,
    tables::wide::{FIXED_BITS, WideKey, service_of},
};

/// No service.
const NONE: u32 = u32::MAX;

/// The service of a packet with this destination; `port` as it lies in the packet.
#[inline(always)]
pub fn find<I: Ip, T: Tables>(
    tables: &T,
    addresses: &I::Addresses,
    port: u16,
    protocol: u32,
) -> Option<u32> {
    let key = WideKey {
        bits: FIXED_BITS + 128,
        family: I::FAMILY as u8,
        protocol: protocol as u8,
        pad: [0; 2],
        address: I::destination(addresses),
    };
    match search(tables, &key, u16::from_be(port) as u32) {
        NONE => None,
        service => Some(service),
    }
}

/// A function of its own: single VIPs, which are most, do not pay for its stack.
#[inline(never)]
fn search<T: Tables>(tables: &T, key: &WideKey, port: u32) -> u32 {
    let Some(set) = tables.port_set(key) else {
        return NONE;
    };
    for at in 0..RANGES_PER_SET {
        if let Some(service) = service_of(set.ranges[at], port as u16) {
            return service;
        }
    }
    NONE
}
