//! Segment sizes of real SYN-ACKs.

extern crate std;

use std::vec::Vec;

use etherparse::{PacketBuilder, TcpOptionElement};

use super::*;
use crate::memory::MemFrame;

struct Vip;

impl Vips for Vip {
    fn has4(&self, address: &[u8; 4]) -> bool {
        *address == [192, 0, 2, 1]
    }

    fn has6(&self, address: &[u8; 16]) -> bool {
        *address == [9; 16]
    }
}

fn announced(packet: &[u8]) -> Option<Announcement> {
    announcement(&mut MemFrame::new(packet), &Vip)
}

fn syn_ack(v6: bool, source: u8, options: &[TcpOptionElement]) -> Vec<u8> {
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
    bytes
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
            assert_eq!(announced(&syn_ack(v6, source, options)), Some(wanted));
        }
    }
}

#[test]
fn other_packets_are_left_alone() {
    let mss = [TcpOptionElement::MaximumSegmentSize(1_460)];
    assert_eq!(announced(&syn_ack(false, 2, &mss)), None, "not from a VIP");
    assert_eq!(announced(&syn_ack(true, 8, &mss)), None, "not from a VIP");
    assert_eq!(announced(&syn_ack(false, 1, &[])), None, "no option");
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
        packet[at] = value;
        assert_eq!(announced(&packet), None, "byte {at}");
    }
    let mut packet = syn_ack(false, 1, &mss);
    packet.truncate(57);
    assert_eq!(announced(&packet), None, "cut");
}

#[test]
fn sizes_leave_room_for_the_outer_header() {
    assert_eq!(limit(Family::V4, 1_500), 1_420);
    assert_eq!(limit(Family::V6, 1_500), 1_400);
    assert_eq!(limit(Family::V4, 9_000), 8_920);
    assert_eq!(limit(Family::V4, 576), LEAST);
    assert_eq!(limit(Family::V6, 0), LEAST);
    let to =
        |size: u16, limit| lowered(size.to_be(), limit).map(|lowered| u16::from_be(lowered.new));
    assert_eq!(to(1_460, 1_420), Some(1_420));
    assert_eq!(to(1_420, 1_420), None);
    assert_eq!(to(536, 1_420), None);
    assert_eq!(to(65_495, 0), None);
}
