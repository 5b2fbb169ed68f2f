//! Fragments of packets for a VIP.

use std::{vec, vec::Vec};

use etherparse::{IpNumber, PacketBuilder};

use super::testbed::*;
use crate::{
    forward::{Facts, GUE, IPIP, L2},
    limits::FRAGMENT_TICKS,
    memory::{MemFrame, simulate},
    reason::{ChosenBy, Reason, Verdict},
    tables::{real::Real, ring::Previous, server_id::ServerIdKey, service::ID_UDP_STABLE},
};

const UDP: u8 = 17;
const TCP: u8 = 6;

/// A datagram of 3,000 bytes from a client's port to 10.0.0.1:53, in three fragments with this identification.
fn datagram4(port: u16, identification: u16) -> Vec<Vec<u8>> {
    let whole =
        PacketBuilder::ethernet2(ROUTER, BALANCER).ipv4([198, 51, 100, 7], [10, 0, 0, 1], 61);
    let mut bytes = Vec::new();
    let payload: Vec<u8> = (0..2_992_u32).map(|byte| byte as u8).collect();
    whole.udp(port, 53).write(&mut bytes, &payload).unwrap();
    pieces4(&bytes, identification, 1_000)
}

/// The fragments of a frame without options or extension headers, of so many bytes each.
pub(super) fn pieces(frame: &[u8], identification: u16, size: usize) -> Vec<Vec<u8>> {
    if frame[12] == 8 {
        return pieces4(frame, identification, size);
    }
    let pieces = pieces6(frame[20], &frame[54..], identification.into(), size);
    let with_headers_of = |piece: Vec<u8>| {
        let headers = (6..16).chain(21..54);
        let changes: Vec<_> = headers.map(|at| (at, frame[at])).collect();
        with(piece, &changes)
    };
    pieces.into_iter().map(with_headers_of).collect()
}

/// The frame of which these are all fragments, in order; each IPv4 header must have a right checksum.
pub(super) fn joined(pieces: &[Vec<u8>]) -> Vec<u8> {
    let is_v4 = pieces[0][12] == 8;
    let header = if is_v4 { 34 } else { 54 };
    let skipped = if is_v4 { 0 } else { 8 };
    let mut whole = pieces[0][..header].to_vec();
    for piece in pieces {
        assert!(!is_v4 || checksum_of(&piece[14..34]) == 0);
        whole.extend_from_slice(&piece[header + skipped..]);
    }
    let length = (whole.len() - header) as u16;
    if is_v4 {
        whole[16..18].copy_from_slice(&(length + 20).to_be_bytes());
        whole[20..22].fill(0);
        whole[24..26].fill(0);
        let sum = checksum_of(&whole[14..34]).to_be_bytes();
        whole[24..26].copy_from_slice(&sum);
    } else {
        whole[18..20].copy_from_slice(&length.to_be_bytes());
        whole[20] = pieces[0][54];
    }
    whole
}

/// The fragments of an IPv4 frame, of so many bytes each.
fn pieces4(frame: &[u8], identification: u16, size: usize) -> Vec<Vec<u8>> {
    let payload = &frame[34..];
    let parts: Vec<&[u8]> = payload.chunks(size).collect();
    parts
        .iter()
        .enumerate()
        .map(|(number, part)| {
            let more = number + 1 < parts.len();
            let mut piece = frame[..34].to_vec();
            piece[16..18].copy_from_slice(&(20 + part.len() as u16).to_be_bytes());
            piece[18..20].copy_from_slice(&identification.to_be_bytes());
            let offset = (number * size / 8) as u16 | if more { 0x2000 } else { 0 };
            piece[20..22].copy_from_slice(&offset.to_be_bytes());
            piece[24..26].copy_from_slice(&[0; 2]);
            let sum = checksum_of(&piece[14..34]).to_be_bytes();
            piece[24..26].copy_from_slice(&sum);
            piece.extend_from_slice(part);
            piece
        })
        .collect()
}

/// The fragments of a packet over IPv6 to [2001:db8::1], of so many bytes each.
fn pieces6(protocol: u8, payload: &[u8], identification: u32, size: usize) -> Vec<Vec<u8>> {
    let parts: Vec<&[u8]> = payload.chunks(size).collect();
    parts
        .iter()
        .enumerate()
        .map(|(number, part)| {
            let more = number + 1 < parts.len();
            let mut body = vec![protocol, 0];
            body.extend(((number * size) as u16 | u16::from(more)).to_be_bytes());
            body.extend(identification.to_be_bytes());
            body.extend_from_slice(part);
            let mut piece = Vec::new();
            PacketBuilder::ethernet2(ROUTER, BALANCER)
                .ipv6(client6(), vip6(), 61)
                .write(&mut piece, IpNumber(44), &body)
                .unwrap();
            piece
        })
        .collect()
}

/// A service with two reals, of which a flow's port decides which one it gets.
fn two_reals(vip: &str) -> (Testbed, [u16; 2]) {
    let mut testbed = Testbed::new();
    let (service, first) = testbed.served(vip, "10.1.0.2", 1);
    let second = testbed.real(service, "10.1.0.3", 1);
    let ring = testbed.tables.services[service as usize].ring as u32;
    for slot in (0..SLOTS).step_by(2) {
        testbed.tables.set_slot(
            ring + slot,
            crate::tables::ring::slot(second, Previous::Settled),
        );
    }
    (testbed, [first, second])
}

#[test]
fn fragments_go_to_the_real_of_the_first_one() {
    let (mut testbed, reals) = two_reals("10.0.0.1:53/udp");
    let mut seen = [0; 2];
    for port in 1_000..1_050 {
        let pieces = datagram4(port, port);
        let (first, sent) = testbed.run(&pieces[0]);
        assert_eq!(first.reason, Reason::ForwardedTx, "{port}");
        assert_eq!(sent[54..], pieces[0][34..]);
        for piece in &pieces[1..] {
            let (outcome, sent) = testbed.run(piece);
            assert_eq!(outcome.reason, Reason::ForwardedTx, "{port}");
            assert_eq!((outcome.service, outcome.real), (first.service, first.real));
            assert_eq!(outcome.chosen_by, ChosenBy::Ring);
            // Behind the outer header is the fragment, but for its TTL and header checksum.
            assert_eq!(sent.len(), piece.len() + 20);
            assert_eq!(sent[54..], piece[34..]);
        }
        seen[usize::from(first.real == reals[1])] += 1;
        // As the whole packet of the same flow.
        assert_eq!(testbed.run(&udp4(port)).0.real, first.real, "{port}");
    }
    assert!(seen[0] > 10 && seen[1] > 10, "{seen:?}");
}

#[test]
fn without_a_first_fragment_the_others_are_dropped_for_a_vip_only() {
    let (mut testbed, _) = two_reals("10.0.0.1:53/udp");
    let pieces = datagram4(1_000, 7);
    let (outcome, bytes) = testbed.run(&pieces[1]);
    assert_eq!(outcome.reason, Reason::FragmentUnknown);
    assert_eq!(outcome.verdict, Verdict::Drop);
    assert_eq!(bytes, pieces[1]);
    // Another address, protocol or identification is another packet.
    assert_eq!(testbed.run(&pieces[0]).0.reason, Reason::ForwardedTx);
    for (what, change, reason) in [
        ("identification", (19, 8), Reason::FragmentUnknown),
        ("source", (29, 8), Reason::FragmentUnknown),
        ("protocol", (23, TCP), Reason::FragmentUnknown),
        ("destination", (33, 2), Reason::Fragment),
    ] {
        let other = with(pieces[1].clone(), &[change]);
        assert_eq!(testbed.run(&other).0.reason, reason, "{what}");
    }
    assert_eq!(testbed.run(&pieces[1]).0.reason, Reason::ForwardedTx);
    // To another port of the VIP's address nothing is served, and the host may have it.
    let mut other = datagram4(1_000, 9);
    other[0][37] = 54;
    for piece in &other {
        let (outcome, bytes) = testbed.run(piece);
        assert_eq!((outcome.reason, &bytes), (Reason::NotVip, piece));
    }
}

#[test]
fn what_is_remembered_of_a_first_fragment_times_out() {
    let (mut testbed, _) = two_reals("10.0.0.1:53/udp");
    let pieces = datagram4(1_000, 7);
    testbed.tables.now = 0x00FF_FFF0;
    testbed.run(&pieces[0]);
    testbed.tables.now += FRAGMENT_TICKS;
    assert_eq!(testbed.run(&pieces[1]).0.reason, Reason::ForwardedTx);
    testbed.tables.now += 1;
    assert_eq!(testbed.run(&pieces[1]).0.reason, Reason::FragmentUnknown);
}

#[test]
fn a_simulation_remembers_nothing() {
    let (mut testbed, _) = two_reals("10.0.0.1:53/udp");
    let pieces = datagram4(1_000, 7);
    let outcome = simulate(&mut testbed.tables, &mut MemFrame::new(&pieces[0]));
    assert_eq!(outcome.reason, Reason::ForwardedTx);
    assert_eq!(testbed.run(&pieces[1]).0.reason, Reason::FragmentUnknown);
}

#[test]
fn fragments_of_ipv6_and_of_every_protocol() {
    for (vip, protocol, mut payload) in [
        (
            "[2001:db8::1]:80/tcp",
            TCP,
            tcp6(40_000, SYN)[54..].to_vec(),
        ),
        ("[2001:db8::1]:80/udp", UDP, {
            let [a, b] = 40_000_u16.to_be_bytes();
            vec![a, b, 0, 80, 4, 0, 1, 1]
        }),
        ("[2001:db8::1]:9/sctp", 132, sctp4(9, 1)[34..].to_vec()),
    ] {
        payload.resize(1_024, 7);
        let mut testbed = Testbed::new();
        let (service, real) = testbed.served(vip, "fd00::2", 1);
        let pieces = pieces6(protocol, &payload, 0x0102_0304, 256);
        assert_eq!(testbed.run(&pieces[1]).0.reason, Reason::FragmentUnknown);
        for piece in &pieces {
            let (outcome, sent) = testbed.run(piece);
            assert_eq!(outcome.reason, Reason::ForwardedTx, "{vip}");
            assert_eq!((outcome.service, outcome.real), (service, real), "{vip}");
            assert_eq!(sent[94..], piece[54..], "{vip}");
        }
        let counters = testbed.tables.counters().reals[usize::from(real)];
        assert_eq!(counters.packets, pieces.len() as u64);
        // The flow began with the first one only.
        assert_eq!(counters.opened, u64::from(protocol != UDP), "{vip}");
        // The kind of the header behind the fragment header need not be the same in each of them.
        let other = with(pieces[2].clone(), &[(54, 59)]);
        assert_eq!(testbed.run(&other).0.reason, Reason::ForwardedTx, "{vip}");
    }
}

#[test]
fn fragments_in_each_mode() {
    let modes: [(&Facts, usize); 3] = [(IPIP, 20), (GUE, 28), (L2, 0)];
    for (mode, overhead) in modes {
        let mut testbed = Testbed::new();
        let (_, real) = testbed.served("10.0.0.1:53/udp", "10.1.0.2", 1);
        testbed.set_mode(real, mode);
        for piece in datagram4(1_000, 7) {
            let (outcome, sent) = testbed.run(&piece);
            assert_eq!(outcome.reason, Reason::ForwardedTx, "{}", mode.name);
            assert_eq!(sent.len(), piece.len() + overhead, "{}", mode.name);
            assert_eq!(sent[34 + overhead..], piece[34..], "{}", mode.name);
            if overhead > 0 {
                // The outer packet is whole.
                assert_eq!(sent[20] & 0x3F, 0, "{}", mode.name);
                assert_eq!(sent[21], 0, "{}", mode.name);
            }
        }
    }
}

#[test]
fn fragments_follow_the_real_that_their_packet_names() {
    let (mut testbed, reals) = two_reals("10.0.0.1:53/udp");
    let service = 1;
    testbed.tables.services[service as usize].flags |= ID_UDP_STABLE;
    for (id, real) in [(7_u64, reals[0]), (8, reals[1])] {
        let key = ServerIdKey {
            id: [0, id],
            service,
            pad: 0,
        };
        testbed.tables.server_ids.insert(key, real.into());
        for port in 1_000..1_020 {
            let mut pieces = datagram4(port, port);
            pieces[0][42..46].copy_from_slice(&[0x52, 0, 0, id as u8]);
            for piece in &pieces {
                let outcome = testbed.run(piece).0;
                assert_eq!(
                    (outcome.real, outcome.chosen_by),
                    (real, ChosenBy::ServerId),
                    "{port}"
                );
            }
        }
    }
    // A packet that names nothing goes the usual way in all its parts, and so do the parts of one whose real has gone.
    let pieces = datagram4(3_000, 1);
    let outcomes = pieces.iter().map(|piece| testbed.run(piece).0);
    let chosen: Vec<_> = outcomes
        .map(|outcome| (outcome.real, outcome.chosen_by))
        .collect();
    assert_eq!(chosen, vec![(chosen[0].0, ChosenBy::Ring); 3]);
    let mut pieces = datagram4(3_001, 2);
    pieces[0][42..46].copy_from_slice(&[0x52, 0, 0, 8]);
    assert_eq!(testbed.run(&pieces[0]).0.real, reals[1]);
    testbed.tables.reals[usize::from(reals[1])] = Real::default();
    assert_eq!(testbed.run(&pieces[1]).0.chosen_by, ChosenBy::Ring);
    let counters = testbed.tables.counters().server_ids[service as usize];
    assert_eq!((counters.known, counters.unknown), (41, 0));
}

#[test]
fn a_first_fragment_without_its_whole_header_is_not_served() {
    let mut testbed = two_services();
    let tiny = pieces4(&tcp4(40_000, ACK), 3, 16);
    assert_eq!(testbed.run(&tiny[0]).0.reason, Reason::Fragment);
    assert_eq!(testbed.run(&tiny[1]).0.reason, Reason::FragmentUnknown);
    // One that begins within the header of the first one could change what was looked at.
    let mut over = pieces4(&tcp4(40_000, ACK), 4, 24);
    assert_eq!(testbed.run(&over[0]).0.reason, Reason::ForwardedTx);
    for (units, reason) in [
        (1, Reason::FragmentUnknown),
        (2, Reason::FragmentUnknown),
        (3, Reason::ForwardedTx),
    ] {
        over[1][21] = units;
        assert_eq!(testbed.run(&over[1]).0.reason, reason, "{units}");
    }
    let enough = pieces4(&tcp4(40_000, ACK), 4, 24);
    assert_eq!(testbed.run(&enough[0]).0.reason, Reason::ForwardedTx);
    assert_eq!(testbed.run(&enough[1]).0.reason, Reason::ForwardedTx);
    // Echo requests in fragments are not answered.
    let mut echo = Vec::new();
    PacketBuilder::ethernet2(ROUTER, BALANCER)
        .ipv4([198, 51, 100, 7], [10, 0, 0, 1], 61)
        .icmpv4_echo_request(1, 2)
        .write(&mut echo, &[0; 64])
        .unwrap();
    let pieces = pieces4(&echo, 5, 32);
    assert_eq!(testbed.run(&pieces[0]).0.reason, Reason::Fragment);
    assert_eq!(testbed.run(&pieces[1]).0.reason, Reason::Fragment);
}

#[test]
fn a_fragment_that_lies_about_its_lengths_passes() {
    let (mut testbed, _) = two_reals("10.0.0.1:53/udp");
    let pieces = datagram4(1_000, 7);
    for (what, changes) in [
        ("longer than the frame", &[(16_usize, 8_u8)][..]),
        (
            "header longer than the packet",
            &[(14, 0x4F), (16, 0), (17, 40)],
        ),
        ("no UDP header", &[(16, 0), (17, 24)]),
        ("version 6", &[(14, 0x65)]),
    ] {
        let outcome = testbed.run(&with(pieces[0].clone(), changes)).0;
        assert_eq!(outcome.verdict, Verdict::Pass, "{what}: {outcome:?}");
    }
}

#[test]
fn later_fragments_are_not_answered() {
    // TTL 1 and a size that is too large: RFC 1122 section 3.2.2 and RFC 1812 section 4.3.2.7 forbid an error.
    let (mut testbed, [first, second]) = two_reals("10.0.0.1:53/udp");
    let pieces = datagram4(1_000, 7);
    assert_eq!(testbed.run(&pieces[0]).0.reason, Reason::ForwardedTx);
    let mut last_hop = with(pieces[1].clone(), &[(22, 1), (24, 0), (25, 0)]);
    let sum = checksum_of(&last_hop[14..34]).to_be_bytes();
    last_hop[24..26].copy_from_slice(&sum);
    assert_eq!(testbed.run(&last_hop).0.reason, Reason::TtlExpired);
    for real in [first, second] {
        testbed.tables.reals[usize::from(real)].largest = 900;
    }
    let mut fixed = with(pieces[1].clone(), &[(24, 0), (25, 0)]);
    fixed[20] |= 0x40;
    let sum = checksum_of(&fixed[14..34]).to_be_bytes();
    fixed[24..26].copy_from_slice(&sum);
    assert_eq!(testbed.run(&fixed).0.reason, Reason::TooLarge);
}
