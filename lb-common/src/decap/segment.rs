//! The segment size (MSS) that a real announces for a VIP.
//!
//! A client's segments arrive with an outer header around them, so they must be smaller than the real's
//! MTU allows. The real says so in the MSS option of its SYN-ACK.

use super::Vips;
use crate::{
    forward::IPIP,
    frame::{Aligned, Fields as _, Frame},
    headers::{
        IP, IPPROTO_TCP, ethernet, ipv4, ipv6, tcp,
        tcp::option::{self, END, MAXIMUM_SEGMENT_SIZE, MAXIMUM_SEGMENT_SIZE_LENGTH, NO_OPERATION},
    },
    ip::Family,
};

/// Bytes of the largest outer header.
pub const OUTER: u32 = IPIP.overhead(Family::V6);
/// The smallest segment that is announced, whatever the MTU: every host takes 576-byte packets (RFC 9293
/// section 3.7.1).
pub const LEAST: u32 = 536;

const _: () = assert!(OUTER >= IPIP.overhead(Family::V4));

/// The segment size that fits an MTU with an outer header of any kind.
#[must_use]
pub const fn limit(family: Family, mtu: u32) -> u32 {
    let headers = OUTER
        + tcp::LENGTH as u32
        + match family {
            Family::V4 => ipv4::LENGTH as u32,
            Family::V6 => ipv6::LENGTH as u32,
        };
    if mtu < headers + LEAST {
        LEAST
    } else {
        mtu - headers
    }
}

/// Options that are read before the search is given up; stacks put the MSS first.
const MAX_OPTIONS: usize = 10;

/// A SYN or SYN-ACK from a VIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// Family of the connection.
    pub family: Family,
    /// Offset of the TCP header.
    pub tcp: usize,
    /// Offset of the two bytes of the size.
    pub offset: usize,
    /// The size, as it lies in the packet.
    pub size: u16,
}

/// A size to write; both as they lie in the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lowered {
    /// The size that was announced.
    pub old: u16,
    /// The size to announce.
    pub new: u16,
}

/// What to write for an announced size; `None` if it may stay.
#[must_use]
#[inline(always)]
pub const fn lowered(size: u16, limit: u32) -> Option<Lowered> {
    if limit == 0 || u16::from_be(size) as u32 <= limit {
        return None;
    }
    Some(Lowered {
        old: size,
        new: (limit as u16).to_be(),
    })
}

/// The segment size that a packet announces for a VIP; `None` if it announces none.
#[inline(always)]
pub fn announcement<F: Frame, V: Vips>(frame: &mut F, vips: &V) -> Option<Announcement> {
    let mut ether_type = Aligned([0; 2]);
    if !frame.read(ethernet::TYPE, &mut ether_type) {
        return None;
    }
    let (family, at) = match ether_type.0.u16_at::<0>() {
        ethernet::TYPE_IPV4 => {
            let mut header = Aligned([0; ipv4::LENGTH]);
            if !frame.read(IP, &mut header) {
                return None;
            }
            let header = &header.0;
            let size = (header.u8_at::<{ ipv4::VERSION }>() & 0xF) as usize * 4;
            let offset = header.u16_at::<{ ipv4::FRAGMENT }>() & ipv4::FRAGMENT_OFFSET;
            let protocol = u32::from(header.u8_at::<{ ipv4::PROTOCOL }>());
            if protocol != IPPROTO_TCP || size < ipv4::LENGTH || offset != 0 {
                return None;
            }
            let mut source = Aligned([0; 4]);
            source
                .0
                .set_u32_at::<0>(header.u32_at::<{ ipv4::SOURCE }>());
            if !vips.has4(&source.0) {
                return None;
            }
            (Family::V4, IP + size)
        }
        ethernet::TYPE_IPV6 => {
            let mut header = Aligned([0; ipv6::LENGTH]);
            if !frame.read(IP, &mut header) {
                return None;
            }
            let header = &header.0;
            if u32::from(header.u8_at::<{ ipv6::NEXT_HEADER }>()) != IPPROTO_TCP {
                return None;
            }
            let mut source = Aligned([0; 16]);
            source
                .0
                .set_u64_at::<0>(header.u64_at::<{ ipv6::SOURCE }>());
            source
                .0
                .set_u64_at::<8>(header.u64_at::<{ ipv6::SOURCE + 8 }>());
            if !vips.has6(&source.0) {
                return None;
            }
            (Family::V6, IP + ipv6::LENGTH)
        }
        _ => return None,
    };
    let mut header = Aligned([0; tcp::LENGTH]);
    if !frame.read(at, &mut header) || u32::from(header.0.u8_at::<{ tcp::FLAGS }>()) & tcp::SYN == 0
    {
        return None;
    }
    let header = &header.0;
    let end = at + (header.u8_at::<{ tcp::DATA_OFFSET }>() >> 4) as usize * 4;
    let (offset, size) = segment_size(frame, at + tcp::LENGTH, end)?;
    Some(Announcement {
        family,
        tcp: at,
        offset,
        size,
    })
}

/// The MSS option among those from `at` to `end`: the offset of its value, and the value.
#[inline(always)]
fn segment_size<F: Frame>(frame: &mut F, mut at: usize, end: usize) -> Option<(usize, u16)> {
    const MSS_LENGTH: usize = MAXIMUM_SEGMENT_SIZE_LENGTH as usize;
    for _ in 0..MAX_OPTIONS {
        if at + MSS_LENGTH > end {
            return None;
        }
        let mut head = Aligned([0; MSS_LENGTH]);
        if !frame.read(at, &mut head) {
            return None;
        }
        let length = head.0.u8_at::<{ option::OPTION_LENGTH }>();
        match head.0.u8_at::<{ option::KIND }>() {
            END => return None,
            NO_OPERATION => at += 1,
            MAXIMUM_SEGMENT_SIZE if length == MAXIMUM_SEGMENT_SIZE_LENGTH => {
                let value = head.0.u16_at::<{ option::VALUE }>();
                return Some((at + option::VALUE, value));
            }
            _ if length < 2 => return None,
            _ => at += length as usize,
        }
    }
    None
}

#[cfg(test)]
mod tests;
