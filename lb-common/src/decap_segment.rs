//! The segment size (MSS) that a real announces for a VIP.
//!
//! A client's segments arrive with an outer header around them, so they must be smaller than the real's
//! MTU allows. The real says so in the MSS option of its SYN-ACK.

use super::{Aligned, Vips};
use crate::{
    frame::Fields as _,
    parse::{ETHERNET, IP4, IP6, TYPE_IP4, TYPE_IP6},
};

/// Bytes of the largest outer header: IPv6.
pub const OUTER: u32 = 40;
/// The smallest segment that is announced, whatever the MTU: every host takes 576-byte packets (RFC 9293
/// section 3.7.1).
pub const LEAST: u32 = 536;

/// IP family of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Family {
    /// IPv4.
    V4 = 0,
    /// IPv6.
    V6 = 1,
}

/// The segment size that fits an MTU with an outer header of any kind.
#[must_use]
pub const fn limit(family: Family, mtu: u32) -> u32 {
    let headers = OUTER
        + Headers::TCP as u32
        + match family {
            Family::V4 => IP4 as u32,
            Family::V6 => IP6 as u32,
        };
    if mtu < headers + LEAST {
        LEAST
    } else {
        mtu - headers
    }
}

/// Sizes and places of headers.
pub struct Headers;

impl Headers {
    const TCP: usize = 20;
    /// The checksum's place in the TCP header.
    pub const TCP_CHECKSUM: usize = 16;
}

/// Options that are read before the search is given up; stacks put the MSS first.
const MAX_OPTIONS: usize = 10;

/// A packet on its way out.
pub trait Outgoing {
    /// Reads the `N` bytes at `offset` from the Ethernet header on. `false`: the packet does not have them.
    fn read<const N: usize>(&self, offset: usize, into: &mut Aligned<N>) -> bool;
}

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

/// A size to write, as it shall lie in the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lowered {
    /// What it was.
    pub old: u16,
    /// What it shall be.
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

/// The segment size that a packet announces for a VIP, if it does.
#[inline(always)]
pub fn announcement<P: Outgoing, V: Vips>(packet: &P, vips: &V) -> Option<Announcement> {
    const SYN: u8 = 2;
    const PROTOCOL_TCP: u8 = 6;
    let mut ether_type = Aligned([0; 2]);
    if !packet.read(12, &mut ether_type) {
        return None;
    }
    let (family, tcp) = match ether_type.0.half::<0>() {
        TYPE_IP4 => {
            let mut header = Aligned([0; IP4]);
            if !packet.read(ETHERNET, &mut header) {
                return None;
            }
            let header = &header.0;
            let size = (header.byte::<0>() & 0xF) as usize * 4;
            let offset = header.half::<6>() & 0x1FFF_u16.to_be();
            if header.byte::<9>() != PROTOCOL_TCP || size < IP4 || offset != 0 {
                return None;
            }
            let mut source = Aligned([0; 4]);
            source.0.set_word::<0>(header.word::<12>());
            if !vips.has4(&source.0) {
                return None;
            }
            (Family::V4, ETHERNET + size)
        }
        TYPE_IP6 => {
            let mut header = Aligned([0; IP6]);
            if !packet.read(ETHERNET, &mut header) {
                return None;
            }
            let header = &header.0;
            if header.byte::<6>() != PROTOCOL_TCP {
                return None;
            }
            let mut source = Aligned([0; 16]);
            source.0.set_long::<0>(header.long::<8>());
            source.0.set_long::<8>(header.long::<16>());
            if !vips.has6(&source.0) {
                return None;
            }
            (Family::V6, ETHERNET + IP6)
        }
        _ => return None,
    };
    let mut header = Aligned([0; Headers::TCP]);
    if !packet.read(tcp, &mut header) || header.0.byte::<13>() & SYN == 0 {
        return None;
    }
    let header = &header.0;
    let end = tcp + (header.byte::<12>() >> 4) as usize * 4;
    let (offset, size) = option(packet, tcp + Headers::TCP, end)?;
    Some(Announcement {
        family,
        tcp,
        offset,
        size,
    })
}

/// The MSS option among those from `at` to `end`: where its value is, and the value.
#[inline(always)]
fn option<P: Outgoing>(packet: &P, mut at: usize, end: usize) -> Option<(usize, u16)> {
    const END: u8 = 0;
    const NOTHING: u8 = 1;
    const SIZE: u8 = 2;
    for _ in 0..MAX_OPTIONS {
        if at + 4 > end {
            return None;
        }
        let mut head = Aligned([0; 4]);
        if !packet.read(at, &mut head) {
            return None;
        }
        let length = head.0.byte::<1>();
        match head.0.byte::<0>() {
            END => return None,
            NOTHING => at += 1,
            SIZE if length == 4 => return Some((at + 2, head.0.half::<2>())),
            _ if length < 2 => return None,
            _ => at += length as usize,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use etherparse::{PacketBuilder, TcpOptionElement};

    use super::*;

    struct Bytes(Vec<u8>);

    impl Outgoing for Bytes {
        fn read<const N: usize>(&self, offset: usize, into: &mut Aligned<N>) -> bool {
            let Some(bytes) = self.0.get(offset..offset + N) else {
                return false;
            };
            into.0.copy_from_slice(bytes);
            true
        }
    }

    struct Vip;

    impl Vips for Vip {
        fn has4(&self, address: &[u8; 4]) -> bool {
            *address == [192, 0, 2, 1]
        }

        fn has6(&self, address: &[u8; 16]) -> bool {
            *address == [9; 16]
        }
    }

    fn syn_ack(v6: bool, source: u8, options: &[TcpOptionElement]) -> Bytes {
        let ethernet = PacketBuilder::ethernet2([2; 6], [4; 6]);
        let ip = if v6 {
            ethernet.ipv6([source; 16], [7; 16], 64)
        } else {
            ethernet.ipv4([192, 0, 2, source], [198, 51, 100, 7], 64)
        };
        let mut bytes = Vec::new();
        ip.tcp(80, 40_000, 1, 1_000)
            .syn()
            .ack(2)
            .options(options)
            .unwrap()
            .write(&mut bytes, &[])
            .unwrap();
        Bytes(bytes)
    }

    #[test]
    fn the_option_is_found_wherever_it_stands() {
        use TcpOptionElement::{
            MaximumSegmentSize, Noop, SelectiveAcknowledgementPermitted, WindowScale,
        };
        let mss = MaximumSegmentSize(1_460);
        for (v6, source, ip, family) in [(false, 1, 20, Family::V4), (true, 9, 40, Family::V6)] {
            for (options, at) in [
                (
                    &[
                        mss.clone(),
                        SelectiveAcknowledgementPermitted,
                        Noop,
                        WindowScale(7),
                    ][..],
                    0,
                ),
                (&[Noop, mss.clone()], 1),
                (
                    &[
                        SelectiveAcknowledgementPermitted,
                        WindowScale(7),
                        mss.clone(),
                    ],
                    5,
                ),
            ] {
                let tcp = 14 + ip;
                let wanted = Announcement {
                    family,
                    tcp,
                    offset: tcp + 22 + at,
                    size: 1_460_u16.to_be(),
                };
                assert_eq!(
                    announcement(&syn_ack(v6, source, options), &Vip),
                    Some(wanted)
                );
            }
        }
    }

    #[test]
    fn other_packets_are_left_alone() {
        let mss = [TcpOptionElement::MaximumSegmentSize(1_460)];
        assert_eq!(
            announcement(&syn_ack(false, 2, &mss), &Vip),
            None,
            "not from a VIP"
        );
        assert_eq!(
            announcement(&syn_ack(true, 8, &mss), &Vip),
            None,
            "not from a VIP"
        );
        assert_eq!(
            announcement(&syn_ack(false, 1, &[]), &Vip),
            None,
            "no option"
        );
        for (at, value) in [
            (13, 6),
            (23, 17),
            (21, 1),
            (47, 0x10),
            (54, 0),
            (55, 1),
            (55, 3),
        ] {
            let mut packet = syn_ack(false, 1, &mss);
            packet.0[at] = value;
            assert_eq!(announcement(&packet, &Vip), None, "byte {at}");
        }
        let mut packet = syn_ack(false, 1, &mss);
        packet.0.truncate(57);
        assert_eq!(announcement(&packet, &Vip), None, "cut");
    }

    #[test]
    fn sizes_leave_room_for_the_outer_header() {
        assert_eq!(limit(Family::V4, 1_500), 1_420);
        assert_eq!(limit(Family::V6, 1_500), 1_400);
        assert_eq!(limit(Family::V4, 9_000), 8_920);
        assert_eq!(limit(Family::V4, 576), LEAST);
        assert_eq!(limit(Family::V6, 0), LEAST);
        let to = |size: u16, limit| {
            lowered(size.to_be(), limit).map(|lowered| u16::from_be(lowered.new))
        };
        assert_eq!(to(1_460, 1_420), Some(1_420));
        assert_eq!(to(1_420, 1_420), None);
        assert_eq!(to(536, 1_420), None);
        assert_eq!(to(65_495, 0), None);
    }
}
