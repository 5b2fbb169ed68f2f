//! Packets that name their real.

use std::{vec, vec::Vec};

use etherparse::PacketBuilder;

use super::testbed::*;
use crate::{
    memory::{MemFrame, simulate},
    reason::{ChosenBy, Reason},
    tables::{
        counters::ServerIdCounters,
        real::{DOWN, RESET},
        ring::Previous,
        server_id::{QuicLb, ServerIdKey, quic_lb_key},
        service::{ID_QUIC_KATRAN, ID_QUIC_LB, ID_TCP_OPTION, ID_UDP_STABLE, TRACK_ALL},
    },
};

/// A service of UDP and one of TCP, whose rings lead to their first real; each has a second one.
struct Bed {
    testbed: Testbed,
    udp: u32,
    tcp: u32,
    ringed: [u16; 2],
    named: [u16; 2],
}

impl Bed {
    fn new(flags: u32) -> Bed {
        let mut testbed = Testbed::new();
        let (udp, a) = testbed.served("10.0.0.1:53/udp", "10.1.0.2", 1);
        let (tcp, b) = testbed.served("10.0.0.1:80/tcp", "10.1.0.2", 1);
        let c = testbed.real(udp, "10.1.0.3", 1);
        let d = testbed.real(tcp, "10.1.0.3", 1);
        for service in [udp, tcp] {
            testbed.tables.services[service as usize].flags = flags;
        }
        Bed {
            testbed,
            udp,
            tcp,
            ringed: [a, b],
            named: [c, d],
        }
    }

    /// Gives the second real of both services this id.
    fn id(&mut self, id: u128) {
        for (service, real) in [(self.udp, self.named[0]), (self.tcp, self.named[1])] {
            let key = ServerIdKey::new(service, id);
            self.testbed.tables.server_ids.insert(key, real.into());
        }
    }

    fn config(&mut self, number: u32, id: u32, nonce: u32, key: Option<&str>) {
        let key = key.map(|key| hex(key).try_into().unwrap());
        let key_of = quic_lb_key(self.udp, number);
        self.testbed
            .tables
            .quic_lb
            .insert(key_of, QuicLb::new(id, nonce, key));
    }

    /// Sends a datagram with this payload; returns whether the real that it names got it.
    fn names(&mut self, payload: &[u8]) -> bool {
        self.names_from(40_000, payload)
    }

    fn names_from(&mut self, port: u16, payload: &[u8]) -> bool {
        let frame = datagram(port, payload);
        let expected = (self.ringed[0], self.named[0]);
        self.is_named(&frame, expected)
    }

    fn is_named(&mut self, frame: &[u8], (ringed, named): (u16, u16)) -> bool {
        let outcome = self.testbed.run(frame).0;
        assert_eq!(outcome.reason, Reason::ForwardedTx);
        match outcome.chosen_by {
            ChosenBy::ServerId => assert_eq!(outcome.real, named),
            ChosenBy::Ring => assert_eq!(outcome.real, ringed),
            other => panic!("chosen by {other:?}"),
        }
        outcome.chosen_by == ChosenBy::ServerId
    }

    fn counters(&self, service: u32) -> ServerIdCounters {
        self.testbed
            .tables
            .read_counters(|counters| counters.server_ids[service as usize])
    }
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

fn datagram(port: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2(ROUTER, BALANCER)
        .ipv4([198, 51, 100, 7], [10, 0, 0, 1], 61)
        .udp(port, 53)
        .write(&mut bytes, payload)
        .unwrap();
    bytes
}

/// A packet with a short header.
fn short(id: &[u8]) -> Vec<u8> {
    [&[0x40], id, &[0x5A; 20]].concat()
}

/// A packet with a long header of this first byte.
fn long(first: u8, version: u32, id: &[u8]) -> Vec<u8> {
    let version = version.to_be_bytes();
    let head = [&[first][..], &version, &[id.len() as u8], id].concat();
    [&head[..], &[0; 24]].concat()
}

/// A TCP segment with these options.
fn segment(flags: u8, options: &[u8]) -> Vec<u8> {
    let mut frame = tcp4(40_000, flags);
    frame.splice(54..54, options.iter().copied());
    frame[46] += (options.len() as u8 / 4) << 4;
    let length = u16::from_be_bytes([frame[16], frame[17]]) + options.len() as u16;
    frame[16..18].copy_from_slice(&length.to_be_bytes());
    frame
}

const KEY: &str = "8f95f09245765f80256934e50c66207f";

/// The test vectors of draft-ietf-quic-load-balancers-21, appendix B, and the example of section 5.4.2: configuration, server
/// id, bytes of the nonce, key, connection id. The second one's nonce has half a byte less there and its first octet another
/// length; the fourth encrypted one is made for configuration 0 although its row says 3.
const VECTORS: [(u32, &str, u32, Option<&str>, &str); 7] = [
    (0, "c4605e", 4, None, "07c4605e4504cc4f"),
    (1, "350d28b420", 5, None, "2a350d28b4203487d970b0"),
    (0, "ed793a", 4, Some(KEY), "0720b1d07b359d3c"),
    (
        1,
        "ed793a51d49b8f5fab65",
        5,
        Some(KEY),
        "2fcc381bc74cb4fbad2823a3d1f8fed2",
    ),
    (
        2,
        "ed793a51d49b8f5f",
        8,
        Some(KEY),
        "504dd2d05a7b0de9b2b9907afb5ecf8cc3",
    ),
    (
        0,
        "ed793a51d49b8f5fab",
        9,
        Some(KEY),
        "125779c9cc86beb3a3a4a3ca96fce4bfe0cdbc",
    ),
    (
        0,
        "31441a",
        4,
        Some("fdf726a9893ec05c0632d3956680baf0"),
        "0767947d29be054a",
    ),
];

#[test]
fn ids_of_quic_lb_are_those_of_its_test_vectors() {
    for (config, id, nonce, key, connection) in VECTORS {
        let mut bed = Bed::new(ID_QUIC_LB);
        let bytes = hex(id);
        let number = bytes.iter().fold(0, |id, &byte| id << 8 | u128::from(byte));
        bed.config(config, bytes.len() as u32, nonce, key);
        let connection = hex(connection);
        assert!(!bed.names(&short(&connection)), "{id}: nobody has it yet");
        bed.id(number);
        assert!(bed.names(&short(&connection)), "{id}");
        assert!(bed.names(&long(0xE0, 1, &connection)), "{id}");
        // Another configuration, and that of servers without one.
        for other in [config + 3, 7] {
            let mut connection = connection.clone();
            connection[0] = connection[0] & 0x1F | (other as u8) << 5;
            assert!(!bed.names(&short(&connection)));
        }
        // A long header says that the connection id is shorter than one of the configuration.
        let shorter = &connection[..bytes.len() + nonce as usize];
        assert!(!bed.names(&long(0xE0, 1, shorter)));
    }
}

#[test]
fn a_packet_that_opens_a_connection_is_for_the_ring() {
    let id = [0x40, 0, 0, 0, 0, 0, 0, 0];
    let mut bed = Bed::new(ID_QUIC_KATRAN);
    bed.id(0);
    for (first, version, named) in [
        (0xC0, 1, false),
        (0xD0, 1, false),
        (0xE0, 1, true),
        (0xC0, 0x6B33_43CF, true),
        (0xD0, 0x6B33_43CF, false),
        (0xE0, 0x6B33_43CF, false),
        (0xF0, 0x6B33_43CF, true),
        (0xC0, 0xFF00_001D, false),
        (0xE0, 0xFF00_001D, true),
    ] {
        let names = bed.names(&long(first, version, &id));
        assert_eq!(names, named, "{first:#x} of {version:#x}");
    }
    assert!(bed.names(&short(&id)));
}

#[test]
fn katran_writes_ids_in_three_ways() {
    for (connection, id) in [
        ([0x40 | 0x2A, 0xBC, 0xDF, 9, 9, 9, 9, 9], Some(0xAAF3)),
        ([0x80, 0xAB, 0xCD, 0xEF, 9, 9, 9, 9], Some(0xAB_CDEF)),
        ([0xC0, 0xAB, 0xCD, 0xEF, 0x12, 9, 9, 9], Some(0xABCD_EF12)),
        ([0x00, 0xAB, 0xCD, 0xEF, 0x12, 9, 9, 9], None),
    ] {
        let mut bed = Bed::new(ID_QUIC_KATRAN);
        bed.id(id.unwrap_or_default());
        assert_eq!(bed.names(&short(&connection)), id.is_some(), "{id:x?}");
        // Connection ids of Katran's servers have eight bytes.
        assert!(!bed.names(&[&[0x40], &connection[..7]].concat()));
        assert!(!bed.names(&long(0xE0, 1, &connection[..7])));
    }
}

#[test]
fn datagrams_with_stable_routing_begin_with_their_id() {
    let mut bed = Bed::new(ID_UDP_STABLE);
    bed.id(0xAB_CDEF);
    for (payload, named) in [
        (&[0x52, 0xAB, 0xCD, 0xEF][..], true),
        (&[0x52, 0xAB, 0xCD, 0xEF, 1, 2, 3, 4], true),
        (&[0x52, 0xAB, 0xCD], false),
        (&[0x53, 0xAB, 0xCD, 0xEF], false),
        (&[0x52, 0xAB, 0xCD, 0xEE], false),
        (&[], false),
    ] {
        assert_eq!(bed.names(payload), named, "{payload:x?}");
    }
    let counters = bed.counters(bed.udp);
    assert_eq!((counters.known, counters.unknown), (2, 1));
}

#[test]
fn an_option_of_tcp_names_the_real_of_a_running_connection() {
    let option = [0xB7, 6, 0x12, 0xEF, 0xCD, 0xAB];
    let with = |before: &[u8], after: &[u8]| [before, &option[..], after].concat();
    let mut bed = Bed::new(ID_TCP_OPTION);
    bed.id(0xABCD_EF12);
    let mut far = vec![1; 14];
    far.extend(option);
    for (flags, options, named) in [
        (ACK, with(&[], &[1, 1]), true),
        (ACK, with(&[1, 1], &[]), true),
        (RST | ACK, with(&[2, 4, 5, 0xB4, 1, 1], &[]), true),
        (ACK, far.clone(), true),
        // A SYN opens a connection, which has no real yet.
        (SYN, with(&[1, 1], &[]), false),
        (SYN | ACK, with(&[1, 1], &[]), false),
        // Behind the end, in another option, cut off, of another length, too far.
        (ACK, with(&[0, 1], &[]), false),
        (ACK, with(&[8, 8], &[]), false),
        (ACK, [&[1, 1, 1, 1, 1][..], &option[..3]].concat(), false),
        (ACK, vec![0xB7, 5, 0x12, 0xEF, 0xCD, 0xAB, 1, 1], false),
        (ACK, vec![0xB7, 0, 0x12, 0xEF, 0xCD, 0xAB, 1, 1], false),
        (ACK, [&[1, 1], &far[..], &[1, 1]].concat(), false),
        (ACK, vec![], false),
    ] {
        let frame = segment(flags, &options);
        let expected = (bed.ringed[1], bed.named[1]);
        assert_eq!(bed.is_named(&frame, expected), named, "{options:x?}");
    }
}

#[test]
fn only_the_services_own_methods_count() {
    for flags in [0, ID_QUIC_LB, ID_QUIC_KATRAN, ID_UDP_STABLE, ID_TCP_OPTION] {
        let mut bed = Bed::new(flags);
        bed.id(7);
        let katran = bed.names(&short(&[0x80, 0, 0, 7, 0, 0, 0, 0]));
        let stable = bed.names(&[0x52, 0, 0, 7]);
        let option = segment(ACK, &[0xB7, 6, 7, 0, 0, 0, 1, 1]);
        let expected = (bed.ringed[1], bed.named[1]);
        let option = bed.is_named(&option, expected);
        assert_eq!(
            [katran, stable, option],
            [ID_QUIC_KATRAN, ID_UDP_STABLE, ID_TCP_OPTION].map(|method| flags == method)
        );
        let counters = bed.counters(bed.udp);
        assert_eq!(counters.known, u64::from(katran) + u64::from(stable));
    }
}

#[test]
fn ids_of_dead_and_foreign_reals_go_the_usual_way() {
    let payload = [0x52, 0, 0, 7];
    let mut bed = Bed::new(ID_UDP_STABLE);
    bed.id(7);
    assert!(bed.names(&payload));
    let named = bed.named[0] as usize;
    for dead in [DOWN, RESET] {
        bed.testbed.tables.reals[named].flags |= dead;
        assert!(!bed.names(&payload));
        bed.testbed.tables.reals[named].flags &= !dead;
    }
    assert!(bed.names(&payload));
    bed.testbed.tables.reals[named].service = bed.tcp;
    assert!(!bed.names(&payload));
    let counters = bed.counters(bed.udp);
    assert_eq!((counters.known, counters.unknown), (2, 3));
}

#[test]
fn an_id_counts_for_more_than_the_flow_table() {
    let mut bed = Bed::new(ID_UDP_STABLE | TRACK_ALL);
    let [ringed, named] = [bed.ringed[0], bed.named[0]];
    let payload = [0x52, 0, 0, 7];
    let run = |bed: &mut Bed, payload: &[u8]| {
        let outcome = bed.testbed.run(&datagram(40_000, payload)).0;
        (outcome.real, outcome.chosen_by)
    };
    assert_eq!(run(&mut bed, &payload), (ringed, ChosenBy::Ring));
    assert_eq!(run(&mut bed, &payload), (ringed, ChosenBy::Flow));
    bed.id(7);
    assert_eq!(run(&mut bed, &payload), (named, ChosenBy::ServerId));
    assert_eq!(run(&mut bed, &payload), (named, ChosenBy::ServerId));
    // A forged packet does not move a flow whose own packets name no real.
    assert_eq!(run(&mut bed, b"none"), (ringed, ChosenBy::Flow));
    assert_eq!(bed.testbed.tables.live_flows().count(), 1);
}

#[test]
fn a_flow_whose_packets_name_their_real_is_not_remembered() {
    let payload = [0x52, 0, 0, 7];
    let mut bed = Bed::new(ID_UDP_STABLE);
    bed.id(7);
    let other = bed.testbed.real(bed.udp, "10.1.0.4", 1);
    for previous in [Previous::Settled, Previous::Real(other)] {
        bed.testbed.slots(bed.udp, bed.ringed[0], previous);
        for port in 1..9 {
            assert!(bed.names_from(port, &payload));
        }
    }
    // Without a real for new flows, too.
    bed.testbed.slots(bed.udp, 0, Previous::Settled);
    assert!(bed.names(&payload));
    assert_eq!(bed.testbed.tables.live_flows().count(), 0);
}

#[test]
fn a_simulated_packet_is_not_counted() {
    let mut bed = Bed::new(ID_UDP_STABLE);
    bed.id(7);
    let frame = datagram(1, &[0x52, 0, 0, 7]);
    let outcome = simulate(&mut bed.testbed.tables, &mut MemFrame::new(&frame));
    assert_eq!(outcome.chosen_by, ChosenBy::ServerId);
    assert_eq!(bed.counters(bed.udp), ServerIdCounters::default());
}
