//! Addresses, packets and checks that the tests share.

use std::{
    fs,
    net::{IpAddr, SocketAddr, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use etherparse::{IpNumber, Ipv4Header, Ipv6Header, PacketBuilder, PacketBuilderStep, UdpHeader};
use lb_common::headers::udp::GUE_PORT;

use crate::testbed::{CLIENT_MAC, INTERFACE, PATIENCE, REAL_MAC, Testbed, ip};

pub const VIP4: &str = "192.0.2.10";
pub const VIP6: &str = "2001:db8::10";
pub const CLIENT4: [u8; 4] = [198, 51, 100, 7];
pub const CLIENT6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];

pub fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub fn both() -> [IpAddr; 2] {
    [address(VIP4), address(VIP6)]
}

/// Returns the IP header of a packet from the client to a VIP.
pub fn to(vip: IpAddr) -> PacketBuilderStep<etherparse::IpHeaders> {
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

/// Returns the frame that a balancer would send: `packet` in an outer header.
pub fn encapsulated(outer_v6: bool, inner: IpAddr, packet: &[u8]) -> Vec<u8> {
    let protocol = if inner.is_ipv4() {
        IpNumber::IPV4
    } else {
        IpNumber::IPV6
    };
    between_tunnel_ends(outer_v6, protocol, packet)
}

/// A frame of generic UDP encapsulation to the real.
pub fn in_gue(outer_v6: bool, packet: &[u8]) -> Vec<u8> {
    let mut datagram = Vec::new();
    UdpHeader {
        source_port: 40_000,
        destination_port: GUE_PORT,
        length: (UdpHeader::LEN + packet.len()) as u16,
        // A balancer leaves it out: the inner packet has its own.
        checksum: 0,
    }
    .write(&mut datagram)
    .unwrap();
    datagram.extend_from_slice(packet);
    between_tunnel_ends(outer_v6, IpNumber::UDP, &datagram)
}

fn between_tunnel_ends(v6: bool, protocol: IpNumber, payload: &[u8]) -> Vec<u8> {
    let mut frame = [&REAL_MAC[..], &CLIENT_MAC].concat();
    if v6 {
        frame.extend([0x86, 0xDD]);
        let header = Ipv6Header {
            payload_length: payload.len() as u16,
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
            payload.len() as u16,
            64,
            protocol,
            [10, 9, 0, 1],
            [10, 9, 0, 2],
        )
        .unwrap();
        header.header_checksum = header.calc_header_checksum();
        header.write(&mut frame).unwrap();
    }
    frame.extend_from_slice(payload);
    frame
}

pub fn udp(vip: IpAddr, port: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    to(vip)
        .udp(40_000, port)
        .write(&mut packet, payload)
        .unwrap();
    packet
}

pub fn client(vip: IpAddr) -> IpAddr {
    if vip.is_ipv4() {
        IpAddr::from(CLIENT4)
    } else {
        IpAddr::from(CLIENT6)
    }
}

/// Binds a socket to the VIP, with a read timeout, and returns its port.
pub fn listen(vip: IpAddr) -> (UdpSocket, u16) {
    let socket = UdpSocket::bind((vip, 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, port)
}

/// Sends a packet for each pair of families and checks that the VIP's socket receives it, with the client as source.
pub fn all_families_arrive(bed: &Testbed) {
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

pub fn setting(interface: &str, name: &str) -> String {
    host_setting(&format!("conf/{interface}/{name}"))
}

pub fn host_setting(name: &str) -> String {
    fs::read_to_string(format!("/proc/sys/net/ipv4/{name}"))
        .unwrap()
        .trim()
        .to_owned()
}

/// Returns everything that a real changes: settings, addresses and programs.
pub fn fingerprint() -> String {
    let mut text = String::new();
    for interface in ["all", "lo", INTERFACE] {
        for name in ["arp_ignore", "arp_announce", "rp_filter"] {
            text += &format!("{interface} {name} {}\n", setting(interface, name));
        }
    }
    text += &format!("tcp_mtu_probing {}\n", host_setting("tcp_mtu_probing"));
    text + &ip("-o addr show dev lo")
        + &ip(&format!("-o link show dev {INTERFACE}"))
        + &ip("-o link show dev lo")
}

/// Waits until everything is as it was. This can take a moment: while a concurrent test starts a program, the child
/// holds copies of all open files until it executes the program, and thereby keeps XDP programs attached.
pub fn wait_unchanged(before: &str) {
    let began = Instant::now();
    while fingerprint() != before && began.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(fingerprint(), before);
}
