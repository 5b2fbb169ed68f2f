//! Mode `nat`: packets in and out, with checksums that are computed anew.

use std::{net::SocketAddr, vec, vec::Vec};

use etherparse::{IpNumber, PacketBuilder};

use super::{
    fragments::{joined, pieces},
    testbed::*,
};
use crate::{
    forward::NAT,
    limits::{NAT_ESTABLISHED_TICKS, NAT_TRANSITORY_TICKS, NAT_UDP_TICKS, STAMP_TICKS},
    memory::{MemFrame, Processed, simulate},
    reason::{ChosenBy, Reason, Verdict},
    tables::{
        config,
        nat::{MAX_SOURCES, NatSettings},
        real::DOWN,
        ring::Previous,
        service::NAT_KEEPS_SOURCE,
    },
};

/// Source addresses of the balancer.
const SOURCE4: [u8; 4] = [10, 1, 0, 1];
const SOURCE6: [u8; 16] = [0xFD, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const FIRST_PORT: u16 = 2_000;
const PORTS: u16 = 64;

/// What the tests look at in a packet of TCP or UDP.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    source: SocketAddr,
    destination: SocketAddr,
    ttl: u8,
    macs: [[u8; 6]; 2],
    payload: Vec<u8>,
}

/// Reads a frame and checks each of its checksums.
fn seen(frame: &[u8]) -> Seen {
    let is_v4 = frame[12] == 8;
    let (protocol, at, ttl, addresses): (u8, usize, u8, Vec<&[u8]>) = if is_v4 {
        let size = usize::from(frame[14] & 0xF) * 4;
        assert_eq!(
            checksum_of(&frame[14..14 + size]),
            0,
            "checksum of the IPv4 header"
        );
        (
            frame[23],
            14 + size,
            frame[22],
            vec![&frame[26..30], &frame[30..34]],
        )
    } else {
        (
            frame[20],
            54,
            frame[21],
            vec![&frame[22..38], &frame[38..54]],
        )
    };
    let segment = &frame[at..];
    let mut pseudo = addresses.concat();
    pseudo.extend((segment.len() as u32).to_be_bytes());
    pseudo.extend([0, 0, 0, protocol]);
    pseudo.extend(segment);
    let header = match protocol {
        6 => 20,
        17 => 8,
        other => panic!("protocol {other}"),
    };
    let has_none = protocol == 17 && segment[6..8] == [0, 0];
    assert!(
        has_none || checksum_of(&pseudo) == 0,
        "checksum of the transport header"
    );
    let port = |at: usize| u16::from_be_bytes([segment[at], segment[at + 1]]);
    let address = |bytes: &[u8]| match <[u8; 4]>::try_from(bytes) {
        Ok(v4) => v4.into(),
        Err(_) => <[u8; 16]>::try_from(bytes).unwrap().into(),
    };
    Seen {
        source: SocketAddr::new(address(addresses[0]), port(0)),
        destination: SocketAddr::new(address(addresses[1]), port(2)),
        ttl,
        macs: [
            frame[..6].try_into().unwrap(),
            frame[6..12].try_into().unwrap(),
        ],
        payload: segment[header..].to_vec(),
    }
}

fn socket(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A frame of TCP with these flags, or of UDP, between these ends.
fn frame(from: SocketAddr, to: SocketAddr, flags: Option<u8>, macs: [[u8; 6]; 2]) -> Vec<u8> {
    let ethernet = PacketBuilder::ethernet2(macs[1], macs[0]);
    let ip = match (from.ip(), to.ip()) {
        (std::net::IpAddr::V4(from), std::net::IpAddr::V4(to)) => {
            ethernet.ipv4(from.octets(), to.octets(), 61)
        }
        (std::net::IpAddr::V6(from), std::net::IpAddr::V6(to)) => {
            ethernet.ipv6(from.octets(), to.octets(), 61)
        }
        _ => panic!("two families"),
    };
    let mut bytes = Vec::new();
    match flags {
        None => ip
            .udp(from.port(), to.port())
            .write(&mut bytes, b"hello!")
            .unwrap(),
        Some(flags) => {
            let mut tcp = ip.tcp(from.port(), to.port(), 1, 1_000);
            if flags & SYN != 0 {
                tcp = tcp.syn();
            }
            if flags & ACK != 0 {
                tcp = tcp.ack(7);
            }
            if flags & FIN != 0 {
                tcp = tcp.fin();
            }
            if flags & RST != 0 {
                tcp = tcp.rst();
            }
            tcp.write(&mut bytes, b"hello!").unwrap();
        }
    }
    bytes
}

/// One way of a connection: families, protocol.
struct Case {
    vip: &'static str,
    client: &'static str,
    real: &'static str,
    is_udp: bool,
}

const CASES: [Case; 4] = [
    Case {
        vip: "10.0.0.1:80",
        client: "198.51.100.7:40000",
        real: "10.1.0.2:80",
        is_udp: false,
    },
    Case {
        vip: "10.0.0.1:53",
        client: "198.51.100.7:40000",
        real: "10.1.0.2:5353",
        is_udp: true,
    },
    Case {
        vip: "[2001:db8::1]:80",
        client: "[2001:db8:7::7]:40000",
        real: "[fd00::2]:8080",
        is_udp: false,
    },
    Case {
        vip: "[2001:db8::1]:53",
        client: "[2001:db8:7::7]:40000",
        real: "[fd00::2]:53",
        is_udp: true,
    },
];

impl Case {
    fn flags(&self, flags: u8) -> Option<u8> {
        (!self.is_udp).then_some(flags)
    }

    fn service(&self) -> std::string::String {
        std::format!("{}/{}", self.vip, if self.is_udp { "udp" } else { "tcp" })
    }

    /// A frame of the client, which came by way of this router.
    fn client_frame(&self, flags: u8) -> Vec<u8> {
        let ends = (socket(self.client), socket(self.vip));
        frame(ends.0, ends.1, self.flags(flags), [BALANCER, ROUTER])
    }

    /// A frame of the real, to the source that it has seen.
    fn real_frame(&self, source: SocketAddr, flags: u8) -> Vec<u8> {
        frame(
            socket(self.real),
            source,
            self.flags(flags),
            [BALANCER, HOP_MAC],
        )
    }
}

/// Connections whose VIP and real have different families.
const CROSSING: [Case; 4] = [
    Case {
        vip: "10.0.0.1:80",
        client: "198.51.100.7:40000",
        real: "[fd00::2]:8080",
        is_udp: false,
    },
    Case {
        vip: "10.0.0.1:53",
        client: "198.51.100.7:40000",
        real: "[fd00::2]:53",
        is_udp: true,
    },
    Case {
        vip: "[2001:db8::1]:80",
        client: "[2001:db8:7::7]:40000",
        real: "10.1.0.2:8080",
        is_udp: false,
    },
    Case {
        vip: "[2001:db8::1]:53",
        client: "[2001:db8:7::7]:40000",
        real: "10.1.0.2:53",
        is_udp: true,
    },
];

/// A testbed with source addresses, and the real of this case.
fn testbed(case: &Case) -> (Testbed, u32, u16) {
    let mut testbed = Testbed::new();
    testbed.tables.config.flags |= config::NAT;
    testbed.tables.nat_settings = NatSettings {
        sources4: [u32::from_ne_bytes(SOURCE4); MAX_SOURCES],
        sources6: [[
            u64::from_ne_bytes(*SOURCE6.first_chunk().unwrap()),
            u64::from_ne_bytes(*SOURCE6.last_chunk().unwrap()),
        ]; MAX_SOURCES],
        first_port: FIRST_PORT.into(),
        ports: PORTS.into(),
        ..NatSettings::default()
    };
    let service = testbed.service(&case.service());
    let real = nat_real(&mut testbed, service, case.real);
    testbed.slots(service, real, Previous::Settled);
    (testbed, service, real)
}

fn nat_real(testbed: &mut Testbed, service: u32, name: &str) -> u16 {
    let name = socket(name);
    let real = testbed.real(service, &std::string::ToString::to_string(&name.ip()), 1);
    let record = &mut testbed.tables.reals[real as usize];
    record.flags = record.flags & !crate::tables::real::MODE_MASK | NAT.number;
    record.port = name.port().to_be_bytes();
    real
}

fn source_of(case: &Case) -> std::net::IpAddr {
    if case.real.starts_with('[') {
        SOURCE6.into()
    } else {
        SOURCE4.into()
    }
}

/// Sends a client's packet to its real; returns what arrives there.
fn to_real(testbed: &mut Testbed, case: &Case, flags: u8) -> (Processed, Seen) {
    let (outcome, sent) = testbed.run(&case.client_frame(flags));
    assert_eq!(outcome.reason, Reason::ForwardedTx);
    (outcome, seen(&sent))
}

#[test]
fn both_ways_are_translated() {
    for case in CASES.iter().chain(&CROSSING) {
        let (mut testbed, service, real) = testbed(case);
        for flags in [SYN, ACK, ACK] {
            let (outcome, there) = to_real(&mut testbed, case, flags);
            assert_eq!((outcome.service, outcome.real), (service, real));
            assert_eq!(there.destination, socket(case.real), "{}", case.vip);
            assert_eq!(there.source.ip(), source_of(case));
            assert!((FIRST_PORT..FIRST_PORT + PORTS).contains(&there.source.port()));
            assert_eq!((there.ttl, &there.payload[..]), (60, &b"hello!"[..]));
            assert_eq!(there.macs, [HOP_MAC, BALANCER]);

            let (outcome, sent) = testbed.run(&case.real_frame(there.source, ACK));
            assert_eq!(
                (outcome.verdict, outcome.reason),
                (Verdict::Tx, Reason::NatAnswerTx)
            );
            let back = seen(&sent);
            assert_eq!(
                (back.source, back.destination),
                (socket(case.vip), socket(case.client))
            );
            assert_eq!((back.ttl, &back.payload[..]), (60, &b"hello!"[..]));
            assert_eq!(
                back.macs,
                [ROUTER, BALANCER],
                "the way that the client's packet came"
            );
        }
        let counters = testbed.tables.counters();
        assert_eq!(counters.reals[real as usize].packets, 3);
        assert_eq!(
            counters.reals[real as usize].opened,
            u64::from(!case.is_udp)
        );
        assert_eq!(counters.reasons[Reason::NatAnswerTx as usize], 3);
        assert_eq!(testbed.tables.nat.borrow().len(), 2);
    }
}

/// Runs all fragments of a frame, and joins what leaves.
fn in_fragments(testbed: &mut Testbed, frame: &[u8], reason: Reason) -> Seen {
    // The transport header fits into the first one, and some data is behind it.
    let header = if frame[12] == 8 { 34 } else { 54 };
    let size = (frame.len() - header) & !7;
    let sent: Vec<Vec<u8>> = pieces(frame, 77, size)
        .iter()
        .map(|piece| {
            let (outcome, sent) = testbed.run(piece);
            assert_eq!(outcome.reason, reason);
            sent
        })
        .collect();
    assert_eq!(sent.len(), 2);
    seen(&joined(&sent))
}

#[test]
fn fragments_are_translated_both_ways() {
    for case in &CASES {
        let (mut testbed, ..) = testbed(case);
        let request = in_fragments(&mut testbed, &case.client_frame(SYN), Reason::ForwardedTx);
        assert_eq!(request.destination, socket(case.real), "{}", case.vip);
        assert_eq!(request.source.ip(), source_of(case), "{}", case.vip);
        assert_eq!(request.payload, b"hello!", "{}", case.vip);
        // Whole packets belong to the same connection.
        let (_, whole) = to_real(&mut testbed, case, ACK);
        assert_eq!(whole.source, request.source, "{}", case.vip);
        let answer = case.real_frame(request.source, ACK);
        let answer = in_fragments(&mut testbed, &answer, Reason::NatAnswerTx);
        assert_eq!(
            (answer.source, answer.destination),
            (socket(case.vip), socket(case.client)),
        );
        assert_eq!(answer.payload, b"hello!", "{}", case.vip);
    }
}

#[test]
fn fragments_do_not_cross_families_nor_open_a_connection_by_halves() {
    for case in &CROSSING {
        let (mut testbed, ..) = testbed(case);
        for piece in pieces(
            &case.client_frame(SYN),
            78,
            8 + 16 * usize::from(!case.is_udp),
        ) {
            let (outcome, bytes) = testbed.run(&piece);
            assert_eq!(outcome.verdict, Verdict::Drop, "{}: {outcome:?}", case.vip);
            assert_eq!(bytes, piece, "{}", case.vip);
        }
    }
    // The connection timed out between two fragments.
    let case = &CASES[1];
    let (mut testbed, ..) = testbed(case);
    let pieces = pieces(&case.client_frame(0), 79, 8);
    assert_eq!(testbed.run(&pieces[0]).0.reason, Reason::ForwardedTx);
    testbed.tables.nat.borrow_mut().clear();
    assert_eq!(testbed.run(&pieces[1]).0.reason, Reason::FragmentUnknown);
    assert!(testbed.tables.nat.borrow().is_empty());
}

#[test]
fn a_simulated_fragment_leaves_nothing() {
    for case in &CASES {
        let (mut testbed, ..) = testbed(case);
        let pieces = pieces(
            &case.client_frame(SYN),
            80,
            8 + 16 * usize::from(!case.is_udp),
        );
        let outcome = simulate(&mut testbed.tables, &mut MemFrame::new(&pieces[0]));
        assert_eq!(outcome.reason, Reason::ForwardedTx, "{}", case.vip);
        assert!(testbed.tables.nat.borrow().is_empty(), "{}", case.vip);
        let mut entries = testbed
            .tables
            .fragments
            .iter()
            .flat_map(|bucket| &bucket.entries);
        assert!(entries.all(|entry| entry.tag.load() == 0));
    }
}

#[test]
fn a_client_that_comes_another_way_is_answered_that_way() {
    let case = &CASES[0];
    let (mut testbed, ..) = testbed(case);
    let (_, there) = to_real(&mut testbed, case, SYN);
    testbed.tables.now += STAMP_TICKS;
    let other = [2, 0, 0, 0, 9, 9];
    let mut moved = case.client_frame(ACK);
    moved[6..12].copy_from_slice(&other);
    testbed.tables.constants.interface_index = OTHER;
    testbed.run(&moved);
    testbed.tables.constants.interface_index = INTERFACE;
    let (outcome, sent) = testbed.run(&case.real_frame(there.source, ACK));
    assert_eq!(
        (outcome.reason, outcome.interface),
        (Reason::NatAnswerRedirect, OTHER)
    );
    assert_eq!(seen(&sent).macs, [other, BALANCER]);
}

#[test]
fn a_udp_packet_without_a_checksum_stays_one() {
    let case = &CASES[1];
    let (mut testbed, ..) = testbed(case);
    let bare = with(case.client_frame(0), &[(40, 0), (41, 0)]);
    let (_, sent) = testbed.run(&bare);
    assert_eq!(sent[40..42], [0, 0]);
    assert_eq!(seen(&sent).destination, socket(case.real));
}

#[test]
fn a_udp_checksum_never_becomes_none() {
    let case = &CASES[1];
    let (mut testbed, ..) = testbed(case);
    let (_, there) = to_real(&mut testbed, case, 0);
    // Two bytes of the payload that make the sum of the translated packet 0xFFFF.
    let ends = (there.source, socket(case.real));
    let plain = frame(ends.0, ends.1, None, [BALANCER, ROUTER]);
    let sum = u16::from_be_bytes([plain[40], plain[41]]);
    let word = u16::from_be_bytes([plain[42], plain[43]]);
    let mut filled = u32::from(word) + u32::from(sum);
    if filled > 0xFFFF {
        filled -= 0xFFFF;
    }
    let mut client = case.client_frame(0);
    let old = u16::from_ne_bytes([client[42], client[43]]);
    client[42..44].copy_from_slice(&(filled as u16).to_be_bytes());
    let new = u16::from_ne_bytes([client[42], client[43]]);
    let checksum = u16::from_ne_bytes([client[40], client[41]]);
    let checksum = crate::checksum::update(checksum, old, new).to_ne_bytes();
    client[40..42].copy_from_slice(&checksum);
    seen(&client);
    let (_, sent) = testbed.run(&client);
    assert_eq!(sent[40..42], [0xFF, 0xFF]);
    seen(&sent);
}

#[test]
fn what_belongs_to_no_connection_passes_unchanged() {
    for case in &CASES {
        let (mut testbed, ..) = testbed(case);
        let (_, there) = to_real(&mut testbed, case, SYN);
        let mut other = there.source;
        other.set_port(there.source.port() ^ 1);
        let stray = case.real_frame(other, ACK);
        let (outcome, sent) = testbed.run(&stray);
        assert_eq!(outcome.reason, Reason::NotVip);
        assert_eq!(sent, stray);
        // Without the flag nothing is looked up.
        testbed.tables.config.flags &= !config::NAT;
        let answer = case.real_frame(there.source, ACK);
        assert_eq!(testbed.run(&answer).0.reason, Reason::NotVip);
    }
}

#[test]
fn clients_get_different_ports_until_none_is_left() {
    let case = &CASES[0];
    let (mut testbed, service, real) = testbed(case);
    let mut ports = std::collections::HashSet::new();
    let mut refused = 0;
    for port in 1_000..1_200 {
        let syn = frame(
            SocketAddr::new(socket(case.client).ip(), port),
            socket(case.vip),
            Some(SYN),
            [BALANCER, ROUTER],
        );
        let (outcome, sent) = testbed.run(&syn);
        if outcome.reason == Reason::NatNoPort {
            refused += 1;
            assert_eq!(sent, syn, "it is unchanged");
        } else {
            assert_eq!(outcome.reason, Reason::ForwardedTx);
            assert!(
                ports.insert(seen(&sent).source),
                "two connections with one port"
            );
        }
    }
    assert!(refused >= 200 - u32::from(PORTS) && ports.len() > usize::from(PORTS) * 3 / 4);
    let counters = testbed.tables.counters();
    assert_eq!(
        counters.services[service as usize].dropped_packets,
        u64::from(refused)
    );
    assert_eq!(counters.reals[real as usize].packets, ports.len() as u64);
    assert_eq!(
        testbed.tables.nat.borrow().len(),
        2 * ports.len(),
        "none is left over"
    );
}

#[test]
fn two_reals_on_one_address_are_told_apart_by_their_ports() {
    let case = &CASES[0];
    let (mut testbed, service, first) = testbed(case);
    let second = nat_real(&mut testbed, service, "10.1.0.2:81");
    let (_, to_first) = to_real(&mut testbed, case, SYN);
    testbed.slots(service, second, Previous::Settled);
    let client = SocketAddr::new(socket(case.client).ip(), 40_001);
    let syn = frame(client, socket(case.vip), Some(SYN), [BALANCER, ROUTER]);
    let (outcome, sent) = testbed.run(&syn);
    let to_second = seen(&sent);
    assert_eq!(
        (outcome.real, to_second.destination),
        (second, socket("10.1.0.2:81"))
    );
    assert_ne!(first, second);
    for (there, port, to) in [(to_first, 80, socket(case.client)), (to_second, 81, client)] {
        let from = SocketAddr::new(socket(case.real).ip(), port);
        let answer = frame(from, there.source, Some(SYN | ACK), [BALANCER, HOP_MAC]);
        let (_, sent) = testbed.run(&answer);
        assert_eq!(seen(&sent).destination, to);
    }
}

#[test]
fn a_connection_keeps_its_real_when_the_ring_changes() {
    let case = &CASES[0];
    let (mut testbed, service, first) = testbed(case);
    let (_, syn) = to_real(&mut testbed, case, SYN);
    testbed.run(&case.real_frame(syn.source, SYN | ACK));
    to_real(&mut testbed, case, ACK);
    let second = nat_real(&mut testbed, service, "10.1.0.3:80");
    testbed.slots(service, second, Previous::Settled);
    let (outcome, there) = to_real(&mut testbed, case, ACK);
    assert_eq!((outcome.real, outcome.chosen_by), (first, ChosenBy::Flow));
    assert_eq!(
        (there.source, there.destination),
        (syn.source, socket(case.real))
    );
    assert_eq!(testbed.tables.counters().reals[first as usize].packets, 3);
    // A new connection from the same port goes where the ring says.
    to_real(&mut testbed, case, FIN | ACK);
    let (outcome, there) = to_real(&mut testbed, case, SYN);
    assert_eq!(
        (outcome.real, there.destination),
        (second, socket("10.1.0.3:80"))
    );
    assert_eq!(testbed.tables.nat.borrow().len(), 2);
}

#[test]
fn connections_of_a_dead_real_move_and_others_stay() {
    let case = &CASES[0];
    let (mut testbed, service, first) = testbed(case);
    to_real(&mut testbed, case, SYN);
    let second = nat_real(&mut testbed, service, "10.1.0.3:80");
    testbed.slots(service, second, Previous::Settled);
    testbed.tables.reals[first as usize].flags |= DOWN;
    let (outcome, there) = to_real(&mut testbed, case, ACK);
    assert_eq!(
        (outcome.real, there.destination),
        (second, socket("10.1.0.3:80"))
    );
    assert_eq!(
        testbed.tables.nat.borrow().len(),
        2,
        "the old entries are gone"
    );
}

#[test]
fn an_index_that_another_real_has_by_now_is_not_followed() {
    let case = &CASES[0];
    let (mut testbed, _, real) = testbed(case);
    to_real(&mut testbed, case, SYN);
    testbed.tables.reals[real as usize].address[3] = 9;
    let (_, there) = to_real(&mut testbed, case, ACK);
    assert_eq!(there.destination, socket("10.1.0.9:80"));
}

#[test]
fn connections_time_out_as_the_rfcs_say() {
    /// Packets of the client and of the real, how long nothing comes then, and whether the connection is still known.
    type Timeout = (&'static str, usize, &'static [(bool, u8)], u32, bool);
    let cases: [Timeout; 8] = [
        ("half open", 0, &[(true, SYN)], NAT_TRANSITORY_TICKS, true),
        (
            "half open, later",
            0,
            &[(true, SYN)],
            NAT_TRANSITORY_TICKS + 1,
            false,
        ),
        (
            "established",
            0,
            &[(true, SYN), (false, SYN | ACK), (true, ACK)],
            NAT_ESTABLISHED_TICKS,
            true,
        ),
        (
            "established, later",
            0,
            &[(true, SYN), (false, SYN | ACK), (true, ACK)],
            NAT_ESTABLISHED_TICKS + 1,
            false,
        ),
        (
            "closed by the client",
            0,
            &[
                (true, SYN),
                (false, SYN | ACK),
                (true, ACK),
                (true, FIN | ACK),
            ],
            NAT_TRANSITORY_TICKS + 1,
            false,
        ),
        (
            "reset by the real",
            0,
            &[(true, SYN), (false, SYN | ACK), (true, ACK), (false, RST)],
            NAT_TRANSITORY_TICKS + 1,
            false,
        ),
        ("udp", 1, &[(true, 0)], NAT_UDP_TICKS, true),
        ("udp, later", 1, &[(true, 0)], NAT_UDP_TICKS + 1, false),
    ];
    for (description, case, packets, silence, is_known) in cases {
        let case = &CASES[case];
        let (mut testbed, ..) = testbed(case);
        let mut source = None;
        for &(is_client, flags) in packets {
            if is_client {
                source = Some(to_real(&mut testbed, case, flags).1.source);
            } else {
                let answer = case.real_frame(source.unwrap(), flags);
                assert_eq!(testbed.run(&answer).0.reason, Reason::NatAnswerTx);
            }
        }
        testbed.tables.now += silence;
        let answer = case.real_frame(source.unwrap(), ACK);
        let expected = if is_known {
            Reason::NatAnswerTx
        } else {
            Reason::NotVip
        };
        assert_eq!(testbed.run(&answer).0.reason, expected, "{description}");
    }
}

#[test]
fn a_packet_of_either_side_keeps_both_entries() {
    let case = &CASES[1];
    let (mut testbed, ..) = testbed(case);
    let (_, there) = to_real(&mut testbed, case, 0);
    for _ in 0..4 {
        testbed.tables.now += NAT_UDP_TICKS - 1;
        let answer = case.real_frame(there.source, 0);
        assert_eq!(testbed.run(&answer).0.reason, Reason::NatAnswerTx);
    }
    assert_eq!(to_real(&mut testbed, case, 0).1.source, there.source);
}

#[test]
fn an_entry_for_answers_that_gave_way_is_made_again() {
    let case = &CASES[0];
    let (mut testbed, ..) = testbed(case);
    let (_, there) = to_real(&mut testbed, case, SYN);
    testbed
        .tables
        .nat
        .borrow_mut()
        .retain(|_, entry| entry.is_answer == 0);
    testbed.tables.now += STAMP_TICKS;
    assert_eq!(to_real(&mut testbed, case, ACK).1.source, there.source);
    let answer = case.real_frame(there.source, ACK);
    assert_eq!(testbed.run(&answer).0.reason, Reason::NatAnswerTx);
}

#[test]
fn the_source_is_kept_if_asked() {
    for case in &CASES {
        let (mut testbed, service, _) = testbed(case);
        testbed.tables.services[service as usize].flags |= NAT_KEEPS_SOURCE;
        testbed.tables.nat_settings = NatSettings::default();
        let (_, there) = to_real(&mut testbed, case, SYN);
        assert_eq!(
            (there.source, there.destination),
            (socket(case.client), socket(case.real))
        );
        let (outcome, sent) = testbed.run(&case.real_frame(there.source, SYN | ACK));
        assert_eq!(outcome.reason, Reason::NatAnswerTx);
        let back = seen(&sent);
        assert_eq!(
            (back.source, back.destination),
            (socket(case.vip), socket(case.client))
        );
    }
}

#[test]
fn a_client_is_no_source_for_a_real_of_the_other_family() {
    for case in &CROSSING {
        let (mut testbed, service, _) = testbed(case);
        testbed.tables.services[service as usize].flags |= NAT_KEEPS_SOURCE;
        let syn = case.client_frame(SYN);
        let (outcome, sent) = testbed.run(&syn);
        assert_eq!((outcome.reason, sent), (Reason::NatUntranslatable, syn));
        assert!(testbed.tables.nat.borrow().is_empty());
    }
}

#[test]
fn what_cannot_be_sent_is_dropped_unchanged() {
    let case = &CASES[0];
    let syn = case.client_frame(SYN);
    let (mut testbed, service, _) = testbed(case);
    testbed.tables.nat_settings = NatSettings::default();
    let (outcome, sent) = testbed.run(&syn);
    assert_eq!((outcome.reason, sent), (Reason::NatNoSource, syn));
    assert_eq!(
        testbed.tables.counters().services[service as usize].dropped_packets,
        1
    );
    let (mut testbed, ..) = self::testbed(case);
    let (_, there) = to_real(&mut testbed, case, SYN);
    for frame in [case.client_frame(ACK), case.real_frame(there.source, ACK)] {
        let last = with(frame, &[(22, 1)]);
        let (outcome, sent) = testbed.run(&last);
        assert_eq!((outcome.reason, sent), (Reason::TtlExpired, last));
    }
    testbed.tables.next_hops[1].interface = 0;
    assert_eq!(
        testbed.run(&case.client_frame(ACK)).0.reason,
        Reason::NoNextHop
    );
}

#[test]
fn a_simulation_says_the_same_and_leaves_nothing() {
    for case in CASES.iter().chain(&CROSSING) {
        let (mut testbed, ..) = testbed(case);
        let mut source = None;
        for flags in [SYN, ACK] {
            let client = case.client_frame(flags);
            let before = testbed.tables.nat.borrow().len();
            let mut foreseen = MemFrame::new(&client);
            let simulated = simulate(&mut testbed.tables, &mut foreseen);
            assert_eq!(testbed.tables.nat.borrow().len(), before);
            let (outcome, sent) = testbed.run(&client);
            assert_eq!((simulated, foreseen.bytes()), (outcome, &sent[..]));
            source = Some(seen(&sent).source);
        }
        let answer = case.real_frame(source.unwrap(), ACK);
        let mut foreseen = MemFrame::new(&answer);
        let simulated = simulate(&mut testbed.tables, &mut foreseen);
        let (outcome, sent) = testbed.run(&answer);
        assert_eq!((simulated, foreseen.bytes()), (outcome, &sent[..]));
    }
}

/// An ICMP error from this address to that one, about a packet.
fn error(
    from: std::net::IpAddr,
    to: std::net::IpAddr,
    quoted: &[u8],
    macs: [[u8; 6]; 2],
) -> Vec<u8> {
    let mut bytes = Vec::new();
    let ethernet = PacketBuilder::ethernet2(macs[1], macs[0]);
    match (from, to) {
        (std::net::IpAddr::V4(from), std::net::IpAddr::V4(to)) => {
            let mut message = vec![3, 4, 0, 0, 0, 0, 5, 0];
            message.extend(quoted);
            let sum = checksum_of(&message);
            message[2..4].copy_from_slice(&sum.to_be_bytes());
            ethernet
                .ipv4(from.octets(), to.octets(), 61)
                .write(&mut bytes, IpNumber::ICMP, &message)
                .unwrap();
        }
        (std::net::IpAddr::V6(from), std::net::IpAddr::V6(to)) => {
            let mut message = vec![2, 0, 0, 0, 0, 0, 5, 0];
            message.extend(quoted);
            let mut pseudo = [from.octets(), to.octets()].concat();
            pseudo.extend((message.len() as u32).to_be_bytes());
            pseudo.extend([0, 0, 0, 58]);
            pseudo.extend(&message);
            let sum = checksum_of(&pseudo);
            message[2..4].copy_from_slice(&sum.to_be_bytes());
            ethernet
                .ipv6(from.octets(), to.octets(), 61)
                .write(&mut bytes, IpNumber::IPV6_ICMP, &message)
                .unwrap();
        }
        _ => panic!("two families"),
    }
    bytes
}

/// Checks the checksums of an ICMP error, and those of the packet that it quotes, if it quotes all of it; returns the ends
/// of the error and of that packet.
fn seen_error(frame: &[u8], is_whole: bool) -> ([std::net::IpAddr; 2], [SocketAddr; 2]) {
    let is_v4 = frame[12] == 8;
    let (addresses, message): (Vec<&[u8]>, &[u8]) = if is_v4 {
        assert_eq!(
            checksum_of(&frame[14..34]),
            0,
            "checksum of the outer header"
        );
        assert_eq!(checksum_of(&frame[34..]), 0, "checksum of the message");
        (vec![&frame[26..30], &frame[30..34]], &frame[34..])
    } else {
        let mut pseudo = frame[22..54].to_vec();
        pseudo.extend(((frame.len() - 54) as u32).to_be_bytes());
        pseudo.extend([0, 0, 0, 58]);
        pseudo.extend(&frame[54..]);
        assert_eq!(checksum_of(&pseudo), 0, "checksum of the message");
        (vec![&frame[22..38], &frame[38..54]], &frame[54..])
    };
    let address = |bytes: &[u8]| match <[u8; 4]>::try_from(bytes) {
        Ok(v4) => std::net::IpAddr::from(v4),
        Err(_) => <[u8; 16]>::try_from(bytes).unwrap().into(),
    };
    let quoted = &message[8..];
    let inner = if is_v4 {
        assert_eq!(
            checksum_of(&quoted[..20]),
            0,
            "checksum of the quoted header"
        );
        (
            address(&quoted[12..16]),
            address(&quoted[16..20]),
            &quoted[20..],
        )
    } else {
        (
            address(&quoted[8..24]),
            address(&quoted[24..40]),
            &quoted[40..],
        )
    };
    let port = |at: usize| u16::from_be_bytes([inner.2[at], inner.2[at + 1]]);
    if is_whole {
        let mut whole = frame[..14].to_vec();
        whole.extend(quoted);
        seen(&whole);
    }
    (
        [address(addresses[0]), address(addresses[1])],
        [
            SocketAddr::new(inner.0, port(0)),
            SocketAddr::new(inner.1, port(2)),
        ],
    )
}

#[test]
fn errors_of_either_side_reach_the_other_one() {
    for case in &CASES {
        let is_v4 = case.vip.starts_with("10.");
        let router: std::net::IpAddr = if is_v4 {
            [203, 0, 113, 9].into()
        } else {
            socket("[2001:db8:9::9]:0").ip()
        };
        let header = if is_v4 { 20 } else { 40 };
        // All of the packet, or its transport header's first eight bytes.
        for length in [usize::MAX, header + 8] {
            let (mut testbed, _, real) = testbed(case);
            let (_, sent) = testbed.run(&case.client_frame(ACK));
            let there = seen(&sent);
            let cut =
                |packet: &[u8]| packet[14..packet.len().min(length.saturating_add(14))].to_vec();
            let whole = length == usize::MAX;

            let about = error(router, there.source.ip(), &cut(&sent), [BALANCER, HOP_MAC]);
            let (outcome, returned) = testbed.run(&about);
            assert_eq!(outcome.reason, Reason::NatAnswerTx);
            let (ends, quoted) = seen_error(&returned, whole);
            assert_eq!(ends, [socket(case.vip).ip(), socket(case.client).ip()]);
            assert_eq!(quoted, [socket(case.client), socket(case.vip)]);
            assert_eq!(returned[..6], ROUTER);

            let (_, answer) = testbed.run(&case.real_frame(there.source, ACK));
            let about = error(
                router,
                socket(case.vip).ip(),
                &cut(&answer),
                [BALANCER, ROUTER],
            );
            let (outcome, forwarded) = testbed.run(&about);
            assert_eq!((outcome.reason, outcome.real), (Reason::ForwardedTx, real));
            let (ends, quoted) = seen_error(&forwarded, whole);
            assert_eq!(ends, [there.source.ip(), socket(case.real).ip()]);
            assert_eq!(quoted, [socket(case.real), there.source]);
            assert_eq!(forwarded[..6], HOP_MAC);
            assert_eq!(testbed.tables.counters().reals[real as usize].packets, 2);
        }
    }
}

#[test]
fn an_error_about_nothing_known_passes_or_is_dropped() {
    let case = &CASES[0];
    let (mut testbed, ..) = testbed(case);
    let stray = frame(
        socket("10.1.0.1:2001"),
        socket(case.real),
        Some(ACK),
        [BALANCER, ROUTER],
    );
    let about = error(
        [203, 0, 113, 9].into(),
        SOURCE4.into(),
        &stray[14..],
        [BALANCER, HOP_MAC],
    );
    let (outcome, sent) = testbed.run(&about);
    assert_eq!((outcome.reason, sent), (Reason::OtherProtocol, about));
    let answer = frame(
        socket(case.vip),
        socket(case.client),
        Some(ACK),
        [BALANCER, ROUTER],
    );
    let about = error(
        [203, 0, 113, 9].into(),
        socket(case.vip).ip(),
        &answer[14..],
        [BALANCER, ROUTER],
    );
    assert_eq!(testbed.run(&about).0.reason, Reason::NoReal);
}

#[test]
fn what_the_other_family_has_no_place_for_is_dropped() {
    let case = &CROSSING[1];
    let (mut testbed, ..) = testbed(case);
    let bare = with(case.client_frame(0), &[(40, 0), (41, 0)]);
    let (outcome, sent) = testbed.run(&bare);
    assert_eq!(outcome.reason, Reason::NatUntranslatable, "no checksum");
    assert_eq!(sent, bare);
    let (mut testbed, ..) = self::testbed(&CROSSING[0]);
    let (outcome, _) = testbed.run(&options4(2));
    assert_eq!(outcome.reason, Reason::NatUntranslatable, "IPv4 options");
    let (mut testbed, ..) = self::testbed(&CROSSING[2]);
    let (outcome, _) = testbed.run(&extended(60, &[6, 0, 1, 4, 0, 0, 0, 0]));
    assert_eq!(
        outcome.reason,
        Reason::NatUntranslatable,
        "an extension header"
    );
    // Errors between families are not translated yet.
    let (mut testbed, ..) = self::testbed(&CROSSING[0]);
    let (_, sent) = testbed.run(&CROSSING[0].client_frame(ACK));
    let there = seen(&sent);
    let router = socket("[2001:db8:9::9]:0").ip();
    let about = error(router, there.source.ip(), &sent[14..], [BALANCER, HOP_MAC]);
    assert_eq!(testbed.run(&about).0.reason, Reason::NatUntranslatable);
}

#[test]
fn the_traffic_class_crosses_and_small_packets_may_be_fragmented() {
    let case = &CROSSING[0];
    let (mut testbed, ..) = testbed(case);
    let mut marked = case.client_frame(ACK);
    marked[15] = 0xB8;
    let header = etherparse::Ipv4Header::from_slice(&marked[14..]).unwrap().0;
    marked[24..26].copy_from_slice(&header.calc_header_checksum().to_be_bytes());
    let (_, sent) = testbed.run(&marked);
    assert_eq!(sent[14..18], [0x6B, 0x80, 0, 0]);
    let there = seen(&sent);
    let mut answer = case.real_frame(there.source, ACK);
    answer[14] = 0x6B;
    answer[15] = 0x80;
    let (_, back) = testbed.run(&answer);
    assert_eq!(back[14..16], [0x45, 0xB8]);
    assert_eq!(back[20], 0, "no DF");
}

#[test]
fn a_packet_without_a_hop_left_is_answered() {
    for case in CASES.iter().chain(&CROSSING) {
        let (mut testbed, ..) = testbed(case);
        to_real(&mut testbed, case, SYN);
        let mut last = case.client_frame(ACK);
        let (hops, protocol) = if last[12] == 8 { (22, 23) } else { (21, 20) };
        last[hops] = 1;
        if hops == 22 {
            last[24..26].fill(0);
            let sum = checksum_of(&last[14..34]);
            last[24..26].copy_from_slice(&sum.to_be_bytes());
        }
        let (outcome, reply) = testbed.run(&last);
        assert_eq!(
            (outcome.verdict, outcome.reason),
            (Verdict::Tx, Reason::TtlExpiredAnswered)
        );
        assert_eq!(reply[..6], ROUTER);
        assert!(matches!(reply[protocol], 1 | 58), "it is ICMP");
        let (outcome, sent) = testbed.run(&last);
        assert_eq!(
            (outcome.reason, sent),
            (Reason::TtlExpired, last),
            "within the same tick"
        );
    }
}

#[test]
fn sctp_is_not_translated() {
    let (mut testbed, ..) = testbed(&CASES[0]);
    let service = testbed.service("10.0.0.1:9/sctp");
    let real = nat_real(&mut testbed, service, "10.1.0.3:9");
    testbed.slots(service, real, Previous::Settled);
    let init = sctp4(9, 1);
    let (outcome, sent) = testbed.run(&init);
    assert_eq!((outcome.reason, sent), (Reason::NatUntranslatable, init));
    assert_eq!(testbed.run(&sctp4(10, 1)).0.reason, Reason::NotVip);
    assert!(testbed.tables.nat.borrow().is_empty());
}
