//! Tables and frames to test with.

use std::{
    net::{IpAddr, SocketAddr},
    vec,
    vec::Vec,
};

use etherparse::{IpNumber, Ipv4Header, PacketBuilder};

use crate::{
    forward::{Facts, IPIP, L2},
    headers::udp::GUE_PORT,
    memory::{Constants, MemFrame, MemTables, Processed, run},
    station,
    tables::{
        config::{ANY_PORT_V4, ANY_PORT_V6},
        next_hop::NextHop,
        real::{ADDRESS_V6, MODE_MASK, Real, outer_checksum},
        ring::{Classes, Previous, slot},
        service::{Service, ring_place},
        vip::{ECHO_SERVICE, Vip4Key, Vip6Key},
    },
};

/// The state of a slot after its window, of whose exceptions nothing is known.
pub const EXCEPTIONS: Previous = Previous::Exceptions(Classes::ALL);

/// The interface that frames come in by.
pub const INTERFACE: u32 = 7;
/// The interface behind which redirected reals are.
pub const OTHER: u32 = 9;
/// MAC addresses of the client's router and of the balancer.
pub const ROUTER: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub const BALANCER: [u8; 6] = [2, 0, 0, 0, 0, 2];
/// MAC addresses of the next hops 1 and 2.
pub const HOP_MAC: [u8; 6] = [2, 0, 0, 0, 1, 1];
pub const OTHER_MAC: [u8; 6] = [2, 0, 0, 0, 1, 2];
/// Slots of a service's ring.
pub const SLOTS: u32 = 256;
/// A service's window, in ticks.
pub const WINDOW: u32 = 1_000;

pub struct Testbed {
    pub tables: MemTables,
    services: u32,
    reals: u16,
}

impl Testbed {
    pub fn new() -> Testbed {
        let mut tables = MemTables::new(16, 64, 16 * SLOTS as usize, 4, 16);
        tables.constants = Constants {
            interface_index: INTERFACE,
            ring_seed: 0x5EED_5EED_5EED_5EED,
            flow_secret: [0x0123_4567_89AB_CDEF, 0xFEDC_BA98_7654_3210],
            gue_port: GUE_PORT,
            ends_tunnels: false,
        };
        tables.state.station.own.store(station::pack(BALANCER));
        tables.clear_vips(16);
        tables.now = 1_000_000;
        tables.next_hops[1] = NextHop {
            destination: HOP_MAC,
            source: BALANCER,
            interface: INTERFACE,
        };
        tables.next_hops[2] = NextHop {
            destination: OTHER_MAC,
            source: BALANCER,
            interface: OTHER,
        };
        Testbed {
            tables,
            services: 0,
            reals: 0,
        }
    }

    /// Adds a service with an empty ring, and its address to those that answer echo requests.
    pub fn service(&mut self, vip: &str) -> u32 {
        self.services += 1;
        let service = self.services;
        let (vip, protocol) = vip.rsplit_once('/').unwrap();
        let vip: SocketAddr = vip.parse().unwrap();
        let port = vip.port().to_be_bytes();
        let protocol = match protocol {
            "tcp" => 6,
            "udp" => 17,
            "sctp" => 132,
            other => panic!("{other} is no protocol of a VIP"),
        };
        match vip.ip() {
            IpAddr::V4(address) => {
                let address = address.octets();
                let key = Vip4Key {
                    address,
                    port,
                    protocol,
                };
                let echo = Vip4Key {
                    port: [0; 2],
                    protocol: 1,
                    ..key
                };
                self.tables.insert_vip4(&key, service).unwrap();
                self.tables.insert_vip4(&echo, ECHO_SERVICE).unwrap();
                if vip.port() == 0 {
                    self.tables.config.flags |= ANY_PORT_V4;
                }
            }
            IpAddr::V6(address) => {
                let address = address.octets();
                let key = Vip6Key {
                    address,
                    port,
                    protocol,
                };
                let echo = Vip6Key {
                    port: [0; 2],
                    protocol: 58,
                    ..key
                };
                self.tables.insert_vip6(&key, service).unwrap();
                self.tables.insert_vip6(&echo, ECHO_SERVICE).unwrap();
                if vip.port() == 0 {
                    self.tables.config.flags |= ANY_PORT_V6;
                }
            }
        }
        self.tables.services[service as usize] = Service {
            ring: ring_place(service * SLOTS, SLOTS),
            window: WINDOW,
            ..Service::default()
        };
        service
    }

    /// Adds a real that is reached in an outer header over a next hop.
    pub fn real(&mut self, service: u32, address: &str, next_hop: u32) -> u16 {
        self.reals += 1;
        let mut real = Real {
            next_hop,
            service,
            ..Real::default()
        };
        match address.parse().unwrap() {
            IpAddr::V4(address) => {
                let source = [172, 16, 0, 0];
                real.flags = IPIP.number;
                real.address[..4].copy_from_slice(&address.octets());
                real.source[..4].copy_from_slice(&source);
                real.checksum = outer_checksum(source, address.octets());
            }
            IpAddr::V6(address) => {
                real.flags = IPIP.number | ADDRESS_V6;
                real.address = address.octets();
                real.source = [0xFD, 0x1F, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            }
        }
        real.source_mask = [0, 0, 0xFF, 0xFF];
        self.tables.reals[self.reals as usize] = real;
        self.reals
    }

    /// Adds a real that is reached by its MAC address.
    pub fn l2_real(&mut self, service: u32, next_hop: u32) -> u16 {
        let real = self.real(service, "10.9.9.9", next_hop);
        self.set_mode(real, L2);
        real
    }

    /// Gives a real another forwarding mode.
    pub fn set_mode(&mut self, real: u16, mode: &Facts) {
        let real = &mut self.tables.reals[real as usize];
        real.flags = real.flags & !MODE_MASK | mode.number;
    }

    /// Gives every slot of a service the same content.
    pub fn slots(&mut self, service: u32, real: u16, previous: Previous) {
        for index in 0..SLOTS {
            self.tables
                .set_slot(service * SLOTS + index, slot(real, previous));
        }
    }

    /// A service with one real on all its settled slots.
    pub fn served(&mut self, vip: &str, real: &str, next_hop: u32) -> (u32, u16) {
        let service = self.service(vip);
        let real = self.real(service, real, next_hop);
        self.slots(service, real, Previous::Settled);
        (service, real)
    }

    /// Runs a frame: what becomes of it, and the frame as it leaves.
    pub fn run(&mut self, bytes: &[u8]) -> (Processed, Vec<u8>) {
        let mut frame = MemFrame::new(bytes);
        let outcome = run(&mut self.tables, &mut frame);
        assert_eq!(outcome.verdict, outcome.reason.verdict());
        (outcome, frame.bytes().to_vec())
    }
}

/// TCP flags.
pub const ACK: u8 = 0x10;
pub const SYN: u8 = 0x02;
pub const FIN: u8 = 0x01;
pub const RST: u8 = 0x04;

/// A TCP segment over IPv4 from a client's port to 10.0.0.1:80.
pub fn tcp4(port: u16, flags: u8) -> Vec<u8> {
    let mut frame = build(
        PacketBuilder::ethernet2(ROUTER, BALANCER)
            .ipv4([198, 51, 100, 7], [10, 0, 0, 1], 61)
            .tcp(port, 80, 1, 1_000),
        b"hello",
    );
    set_tcp_flags(&mut frame, 34, flags);
    frame
}

/// A TCP segment over IPv6 from a client's port to [2001:db8::1]:80.
pub fn tcp6(port: u16, flags: u8) -> Vec<u8> {
    let mut frame = build(
        PacketBuilder::ethernet2(ROUTER, BALANCER)
            .ipv6(client6(), vip6(), 61)
            .tcp(port, 80, 1, 1_000),
        b"hello",
    );
    set_tcp_flags(&mut frame, 54, flags);
    frame
}

/// A UDP datagram over IPv4 from a client's port to 10.0.0.1:53.
pub fn udp4(port: u16) -> Vec<u8> {
    let packet =
        PacketBuilder::ethernet2(ROUTER, BALANCER).ipv4([198, 51, 100, 7], [10, 0, 0, 1], 61);
    let mut bytes = Vec::new();
    packet.udp(port, 53).write(&mut bytes, b"hello").unwrap();
    bytes
}

/// A packet of SCTP over IPv4 from port 40000 to a port of 10.0.0.1, with the head of one chunk.
pub fn sctp4(port: u16, chunk: u8) -> Vec<u8> {
    let packet =
        PacketBuilder::ethernet2(ROUTER, BALANCER).ipv4([198, 51, 100, 7], [10, 0, 0, 1], 61);
    let [a, b] = 40_000_u16.to_be_bytes();
    let [c, d] = port.to_be_bytes();
    let body = [a, b, c, d, 1, 2, 3, 4, 5, 6, 7, 8, chunk, 0, 0, 4];
    let mut bytes = Vec::new();
    packet.write(&mut bytes, IpNumber::SCTP, &body).unwrap();
    bytes
}

pub fn client6() -> [u8; 16] {
    [0x20, 1, 0xD, 0xB8, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]
}

pub fn vip6() -> [u8; 16] {
    [0x20, 1, 0xD, 0xB8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]
}

fn build(packet: etherparse::PacketBuilderStep<etherparse::TcpHeader>, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    packet.write(&mut bytes, payload).unwrap();
    bytes
}

/// Sets the flags of the TCP header at `offset`, and its checksum with them.
fn set_tcp_flags(frame: &mut [u8], offset: usize, flags: u8) {
    let old = u16::from_ne_bytes([frame[offset + 12], frame[offset + 13]]);
    frame[offset + 13] = flags;
    let new = u16::from_ne_bytes([frame[offset + 12], flags]);
    let checksum = u16::from_ne_bytes([frame[offset + 16], frame[offset + 17]]);
    let checksum = crate::checksum::update(checksum, old, new).to_ne_bytes();
    frame[offset + 16..offset + 18].copy_from_slice(&checksum);
}

/// Changes bytes of a frame.
pub fn with(mut frame: Vec<u8>, changes: &[(usize, u8)]) -> Vec<u8> {
    for &(at, byte) in changes {
        frame[at] = byte;
    }
    frame
}

/// Puts bytes behind the IPv6 header, with what else has to change.
pub fn extended(first: u8, headers: &[u8]) -> Vec<u8> {
    let mut frame = tcp6(40_000, ACK);
    frame.splice(54..54, headers.iter().copied());
    let length = u16::from_be_bytes([frame[18], frame[19]]) + headers.len() as u16;
    frame[18..20].copy_from_slice(&length.to_be_bytes());
    frame[20] = first;
    frame
}

/// An IPv4 frame with options, their length in words.
pub fn options4(words: u8) -> Vec<u8> {
    let mut frame = tcp4(40_000, ACK);
    let size = words as usize * 4;
    frame.splice(34..34, vec![1; size]);
    frame[14] = 0x45 + words;
    let length = u16::from_be_bytes([frame[16], frame[17]]) + size as u16;
    frame[16..18].copy_from_slice(&length.to_be_bytes());
    let header = Ipv4Header::from_slice(&frame[14..]).unwrap().0;
    frame[24..26].copy_from_slice(&header.calc_header_checksum().to_be_bytes());
    frame
}

/// The one's complement checksum of bytes whose checksum field is zero, the plain way.
pub fn checksum_of(bytes: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    !(sum as u16)
}

/// An ICMP error of a router to 10.0.0.1, about the IP packet that is quoted.
pub fn icmp_error4(kind: u8, code: u8, mtu: u16, quoted: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, code, 0, 0, 0, 0];
    message.extend(mtu.to_be_bytes());
    message.extend(quoted);
    let sum = checksum_of(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2(ROUTER, BALANCER)
        .ipv4([203, 0, 113, 9], [10, 0, 0, 1], 61)
        .write(&mut bytes, IpNumber::ICMP, &message)
        .unwrap();
    bytes
}

/// An ICMPv6 error of a router to 2001:db8::1, about the IP packet that is quoted.
pub fn icmp_error6(kind: u8, code: u8, mtu: u32, quoted: &[u8]) -> Vec<u8> {
    let router = [0x20, 1, 0xD, 0xB8, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
    let mut message = vec![kind, code, 0, 0];
    message.extend(mtu.to_be_bytes());
    message.extend(quoted);
    let mut pseudo = [router, vip6()].concat();
    pseudo.extend((message.len() as u32).to_be_bytes());
    pseudo.extend([0, 0, 0, 58]);
    pseudo.extend(&message);
    let sum = checksum_of(&pseudo);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2(ROUTER, BALANCER)
        .ipv6(router, vip6(), 61)
        .write(&mut bytes, IpNumber::IPV6_ICMP, &message)
        .unwrap();
    bytes
}

/// The IP packet that a real answers the client's frame with, without data: its ends are exchanged.
pub fn answer_to(frame: &[u8]) -> Vec<u8> {
    let mut packet = frame[14..].to_vec();
    let (source, size, ports) = if frame[12] == 8 {
        (12, 4, 20)
    } else {
        (8, 16, 40)
    };
    packet[source..source + size].copy_from_slice(&frame[14 + source + size..][..size]);
    packet[source + size..source + 2 * size].copy_from_slice(&frame[14 + source..][..size]);
    packet[ports..ports + 2].copy_from_slice(&frame[14 + ports + 2..][..2]);
    packet[ports + 2..ports + 4].copy_from_slice(&frame[14 + ports..][..2]);
    packet
}

/// A service of either family, each with one real in an outer header.
pub fn two_services() -> Testbed {
    let mut testbed = Testbed::new();
    testbed.served("10.0.0.1:80/tcp", "10.1.0.2", 1);
    testbed.served("[2001:db8::1]:80/tcp", "fd00::2", 1);
    testbed
}
