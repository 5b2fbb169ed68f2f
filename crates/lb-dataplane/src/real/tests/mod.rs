//! Real packets through real namespaces, and what remains afterwards.

mod changes;
mod kernel;
mod packets;
mod silence;
mod testbed;
mod upkeep;

use std::{
    fs,
    net::{IpAddr, SocketAddr, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use etherparse::{IpNumber, Ipv4Header, Ipv6Header, PacketBuilder, PacketBuilderStep};
use testbed::{CLIENT_MAC, INTERFACE, PATIENCE, REAL_MAC, Testbed, ip, run};

use super::*;

const VIP4: &str = "192.0.2.10";
const VIP6: &str = "2001:db8::10";
const CLIENT4: [u8; 4] = [198, 51, 100, 7];
const CLIENT6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn both() -> [IpAddr; 2] {
    [address(VIP4), address(VIP6)]
}

/// The IP header of a packet from the client to a VIP.
fn to(vip: IpAddr) -> PacketBuilderStep<etherparse::IpHeaders> {
    PacketBuilder::ip(match vip {
        IpAddr::V4(vip) => etherparse::IpHeaders::Ipv4(
            Ipv4Header::new(0, 61, IpNumber::UDP, CLIENT4, vip.octets()).unwrap(),
            Default::default(),
        ),
        IpAddr::V6(vip) => etherparse::IpHeaders::Ipv6(
            Ipv6Header {
                hop_limit: 61,
                source: CLIENT6,
                destination: vip.octets(),
                ..Default::default()
            },
            Default::default(),
        ),
    })
}

/// The frame that a balancer would send: `packet` in an outer header.
fn encapsulated(outer_v6: bool, inner: IpAddr, packet: &[u8]) -> Vec<u8> {
    let protocol = if inner.is_ipv4() {
        IpNumber::IPV4
    } else {
        IpNumber::IPV6
    };
    let mut frame = [&REAL_MAC[..], &CLIENT_MAC].concat();
    if outer_v6 {
        frame.extend([0x86, 0xDD]);
        let header = Ipv6Header {
            payload_length: packet.len() as u16,
            next_header: protocol,
            hop_limit: 64,
            source: "fd00:9::1".parse::<std::net::Ipv6Addr>().unwrap().octets(),
            destination: "fd00:9::2".parse::<std::net::Ipv6Addr>().unwrap().octets(),
            ..Default::default()
        };
        header.write(&mut frame).unwrap();
    } else {
        frame.extend([8, 0]);
        let mut header = Ipv4Header::new(
            packet.len() as u16,
            64,
            protocol,
            [10, 9, 0, 1],
            [10, 9, 0, 2],
        )
        .unwrap();
        header.header_checksum = header.calc_header_checksum();
        header.write(&mut frame).unwrap();
    }
    frame.extend_from_slice(packet);
    frame
}

fn udp(vip: IpAddr, port: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    to(vip)
        .udp(40_000, port)
        .write(&mut packet, payload)
        .unwrap();
    packet
}

fn client(vip: IpAddr) -> IpAddr {
    if vip.is_ipv4() {
        IpAddr::from(CLIENT4)
    } else {
        IpAddr::from(CLIENT6)
    }
}

/// A socket of the VIP that gives up after ten seconds.
fn listen(vip: IpAddr) -> (UdpSocket, u16) {
    let socket = UdpSocket::bind((vip, 0)).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, port)
}

/// Sends a packet for each pair of families, and checks that the VIP's socket gets it from the client.
fn all_families_arrive(bed: &Testbed) {
    for vip in both() {
        let (socket, port) = listen(vip);
        for outer_v6 in [false, true] {
            let payload = format!("{vip} in IPv{}", if outer_v6 { 6 } else { 4 });
            bed.send(&encapsulated(
                outer_v6,
                vip,
                &udp(vip, port, payload.as_bytes()),
            ));
            let mut buffer = [0; 100];
            let (length, from) = socket.recv_from(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], payload.as_bytes());
            assert_eq!(from, SocketAddr::new(client(vip), 40_000));
        }
    }
}

fn setting(interface: &str, name: &str) -> String {
    fs::read_to_string(format!("/proc/sys/net/ipv4/conf/{interface}/{name}"))
        .unwrap()
        .trim()
        .to_owned()
}

/// All that a real changes: settings, addresses and programs.
fn fingerprint() -> String {
    let mut text = String::new();
    for interface in ["all", "lo", INTERFACE] {
        for name in ["arp_ignore", "arp_announce", "rp_filter"] {
            text += &format!("{interface} {name} {}\n", setting(interface, name));
        }
    }
    text + &ip("-o addr show dev lo")
        + &ip(&format!("-o link show dev {INTERFACE}"))
        + &ip("-o link show dev lo")
}

/// Waits until everything is as it was: a program of a test beside this one that is just being started has a copy of
/// every open file until it runs, and so of what holds an attached program.
fn wait_unchanged(before: &str) {
    let began = Instant::now();
    while fingerprint() != before && began.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(fingerprint(), before);
}
