//! Frames of all kinds, determined by a seed: correct ones for VIPs and for other destinations, with options, extension
//! headers, fragments and tags, and the same frames truncated, mutated or with wrong lengths.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{
    checksum,
    headers::{aim, ethernet, extension_headers, fill_checksum, ip4, sctp, tcp, udp},
    named,
    random::Random,
    random_testbed::STATIONS,
    testbed::VipName,
    validate::GUE_PORTS,
};

/// Length of the longest frame.
pub const MAX_FRAME: usize = 1_514;
/// Length of the shortest frame: an Ethernet header. XDP never gets less.
pub const MIN_FRAME: usize = 14;

/// SYN, SYN+ACK, ACK, PSH+ACK, FIN+ACK, RST, RST+ACK, URG+ACK.
const FLAGS: [u8; 8] = [0x02, 0x12, 0x10, 0x18, 0x11, 0x04, 0x14, 0x30];
/// SCTP, GRE, ESP, AH, IPv4, IPv6, no next header, ICMP and ICMPv6 in the wrong family, IGMP, DCCP.
const OTHER_PROTOCOLS: [u8; 11] = [132, 47, 50, 51, 4, 41, 59, 1, 58, 2, 33];
const TTLS: [u8; 6] = [0, 1, 2, 64, 128, 255];

/// Checksums near which a change of TTL or type causes a carry.
const EDGES: [u16; 9] = [
    0x0000, 0x0001, 0x00FF, 0x0100, 0xF7FF, 0xFEFE, 0xFEFF, 0xFF00, 0xFFFE,
];

/// Destinations of some frames: other stations of the interface, another host's, broadcast, multicast.
const DESTINATIONS: [[u8; 6]; 6] = [
    STATIONS[1],
    STATIONS[2],
    [0x02, 0, 0, 0, 0, 0x04],
    [0; 6],
    [0xFF; 6],
    [0x01, 0, 0x5E, 0, 0, 0x01],
];

/// A generator of frames.
#[derive(Clone, Debug)]
pub struct Generator {
    random: Random,
    targets: Vec<VipName>,
    clients: Vec<IpAddr>,
    ports: Vec<u16>,
}

impl Generator {
    /// Creates a generator of frames to these VIPs and to other destinations. The number of clients is bounded, so that
    /// flows have several packets.
    #[must_use]
    pub fn new(seed: u64, targets: Vec<VipName>) -> Generator {
        let mut random = Random::new(seed);
        let clients = (0..40)
            .map(|i| {
                if i % 2 == 0 {
                    Ipv4Addr::from(0xC633_6400 + random.below(256) as u32).into()
                } else {
                    Ipv6Addr::from(0x2001_0DB8_00C0_0000_u128 << 64 | u128::from(random.number()))
                        .into()
                }
            })
            .collect();
        let ports = (0..6)
            .map(|_| 1_024 + random.below(60_000) as u16)
            .collect();
        Generator {
            random,
            targets,
            clients,
            ports,
        }
    }

    /// Returns the next frame. Most frames are correct and for a VIP.
    pub fn frame(&mut self) -> Vec<u8> {
        let mut frame = match self.random.below(100) {
            0..4 => self.not_ip(),
            4..10 => self.noise(),
            _ => self.ip_frame(),
        };
        if self.random.chance(30) {
            self.spoil(&mut frame);
        }
        if self.random.chance(8) && frame.len() >= 6 {
            let mac = *self.random.pick(&DESTINATIONS);
            frame[..6].copy_from_slice(&mac);
        }
        frame.truncate(MAX_FRAME);
        if frame.len() < MIN_FRAME {
            frame.resize(MIN_FRAME, 0);
        }
        frame
    }

    /// Returns a correct frame for a VIP, of the flow with this number: a TCP segment with these flags, or a UDP datagram
    /// if the VIP's protocol is UDP.
    #[must_use]
    pub fn flow_frame(&self, target: VipName, flow: u32, flags: u8) -> Vec<u8> {
        let (source, port) = match target.address {
            IpAddr::V4(_) => (
                Ipv4Addr::from(0xC612_0000 + (flow >> 4 & 0xFFFF)).into(),
                flow & 0xF,
            ),
            IpAddr::V6(_) => {
                let address = 0x2001_0DB8_00F0_0000_u128 << 64 | u128::from(flow >> 4);
                (Ipv6Addr::from(address).into(), flow & 0xF)
            }
        };
        let ports = (
            40_000 + port as u16,
            if target.port == 0 { 7_777 } else { target.port },
        );
        let segment = match target.protocol {
            6 => tcp(ports, 5, flags, &[], b"some data"),
            132 => sctp(ports, flags, b"some data"),
            _ => udp(ports, b"some data"),
        };
        let mut random = Random::new(u64::from(flow));
        self.wrap(
            &mut random,
            source,
            target.address,
            target.protocol,
            segment,
            true,
        )
    }

    fn not_ip(&mut self) -> Vec<u8> {
        let random = &mut self.random;
        // ARP, VLAN, QinQ, MPLS, LLDP, a length (802.3), IPv4's number the other way round.
        let kind: u16 = *random.pick(&[0x0806, 0x8100, 0x88A8, 0x8847, 0x88CC, 0x0026, 0x0008]);
        let length = random.below(100);
        let mut frame = ethernet(kind);
        match kind {
            // A tagged frame for a VIP is not forwarded.
            0x8100 => {
                let inner = self.ip_frame();
                frame.extend([0x00, 0x2A]);
                frame.extend(&inner[12..]);
            }
            _ => frame.extend(random.bytes(length)),
        }
        frame
    }

    /// Returns random bytes after an IP type.
    fn noise(&mut self) -> Vec<u8> {
        let random = &mut self.random;
        let mut frame = ethernet(if random.chance(50) { 0x0800 } else { 0x86DD });
        let length = random.below(120);
        frame.extend(random.bytes(length));
        let version = if frame[12] == 0x08 { 0x45 } else { 0x60 };
        if let Some(first) = frame.get_mut(14)
            && random.chance(70)
        {
            *first = version;
        }
        frame
    }

    /// Returns a port, which is none of a tunnel: a datagram to it would be taken for what a balancer sends.
    fn port(&mut self) -> u16 {
        let port = self.random.number() as u16;
        if GUE_PORTS.contains(&port) {
            port + GUE_PORTS.len() as u16
        } else {
            port
        }
    }

    fn ip_frame(&mut self) -> Vec<u8> {
        let mut target = *self.random.pick(&self.targets);
        match self.random.below(100) {
            0..6 => target.port = self.port(),
            6..10 => target.protocol = *self.random.pick(&[6, 17, 132]),
            10..14 => target.protocol = *self.random.pick(&OTHER_PROTOCOLS),
            14..20 => {
                target.address = match target.address {
                    IpAddr::V4(address) => {
                        Ipv4Addr::from(u32::from(address) ^ 1 << self.random.below(32)).into()
                    }
                    IpAddr::V6(address) => {
                        Ipv6Addr::from(u128::from(address) ^ 1 << self.random.below(128)).into()
                    }
                }
            }
            20..32 => target.protocol = if target.address.is_ipv4() { 1 } else { 58 },
            32..40 => return self.icmp_error(target),
            _ => {}
        }
        if target.port == 0 && self.random.chance(90) {
            target.port = self.port();
        }
        let clients: Vec<IpAddr> = self
            .clients
            .iter()
            .copied()
            .filter(|client| client.is_ipv4() == target.address.is_ipv4())
            .collect();
        let mut source = *self.random.pick(&clients);
        if self.random.chance(4) {
            source = self.martian(target.address);
        }
        // "Land": the VIP itself.
        if self.random.chance(3) {
            source = target.address;
        }
        let ports = (*self.random.pick(&self.ports), target.port);
        let length = match self.random.below(10) {
            0 => 0,
            1..8 => self.random.below(80),
            _ => self.random.below(1_440),
        };
        let mut data = self.random.bytes(length);
        let random = &mut self.random;
        if target.protocol == 17 && random.chance(50) {
            let id = random.below(6) as u128;
            data = named::datagram(random, id);
        }
        let segment = match target.protocol {
            6 if random.chance(30) => {
                let id = random.below(6) as u32;
                let options = named::options(random, id);
                let words = 5 + options.len() as u8 / 4;
                tcp(ports, words, *random.pick(&FLAGS), &options, &data)
            }
            6 => {
                let words = if random.chance(60) {
                    5
                } else {
                    5 + random.below(11)
                };
                let flags = if random.chance(90) {
                    *random.pick(&FLAGS)
                } else {
                    random.byte()
                };
                let options = random.bytes(4 * (words - 5));
                tcp(ports, words as u8, flags, &options, &data)
            }
            17 => udp(ports, &data),
            132 => {
                let chunk = *random.pick(&[0, 0, 0, 1, 3, 6, 7, 14]);
                sctp(ports, chunk, &data)
            }
            1 | 58 => {
                let request = if target.protocol == 1 { 8 } else { 128 };
                let kind = if random.chance(85) {
                    request
                } else {
                    random.byte()
                };
                let code = if random.chance(95) { 0 } else { random.byte() };
                let mut message = vec![kind, code, 0, 0, random.byte(), random.byte(), 0, 1];
                if random.chance(10) {
                    // Neither numbers nor data, as scapy's.
                    message[4..].fill(0);
                } else {
                    message.extend(data);
                }
                message
            }
            _ => data,
        };
        let mut random = self.random.clone();
        let frame = self.wrap(
            &mut random,
            source,
            target.address,
            target.protocol,
            segment,
            false,
        );
        self.random = random;
        frame
    }

    /// A source that is not answered.
    fn martian(&mut self, vip: IpAddr) -> IpAddr {
        let random = &mut self.random;
        match vip {
            IpAddr::V4(_) => {
                let first = *random.pick(&[[0, 9], [127, 0], [169, 254], [224, 0], [240, 1]]);
                Ipv4Addr::new(first[0], first[1], random.byte(), random.byte()).into()
            }
            IpAddr::V6(_) => {
                let high = *random.pick(&[0, 0xFE80_u64 << 48, 0xFF02 << 48]);
                Ipv6Addr::from(u128::from(high) << 64 | u128::from(random.byte())).into()
            }
        }
    }

    /// An ICMP error about a packet from a VIP to one of the clients, most of them right.
    fn icmp_error(&mut self, target: VipName) -> Vec<u8> {
        let mut target = target;
        if target.port == 0 && self.random.chance(90) {
            target.port = self.port();
        }
        let v4 = target.address.is_ipv4();
        let clients: Vec<IpAddr> = self
            .clients
            .iter()
            .copied()
            .filter(|client| client.is_ipv4() == v4)
            .collect();
        let client = *self.random.pick(&clients);
        let router = *self.random.pick(&clients);
        let ports = (target.port, *self.random.pick(&self.ports));
        let data = self.random.bytes(30);
        let segment = match target.protocol {
            6 => tcp(ports, 5, 0x10, &[], &data),
            _ => udp(ports, &data),
        };
        let mut random = self.random.clone();
        let plain = random.chance(60);
        let quoted = self.wrap(
            &mut random,
            target.address,
            client,
            target.protocol,
            segment,
            plain,
        );
        let mut quoted = quoted[14..].to_vec();
        if random.chance(20) {
            let at = random.below(quoted.len());
            quoted[at] = random.byte();
        }
        if random.chance(40) {
            quoted.truncate(random.below(90));
        }
        let kinds: &[u8] = if v4 { &[3, 11, 12] } else { &[1, 2, 3, 4] };
        let kind = if random.chance(95) {
            *random.pick(kinds)
        } else {
            random.byte()
        };
        let mut message = vec![kind, random.byte(), 0, 0, 0, 0, 5, random.byte()];
        message.extend(quoted);
        let protocol = if v4 { 1 } else { 58 };
        let plain = random.chance(70);
        let frame = self.wrap(
            &mut random,
            router,
            target.address,
            protocol,
            message,
            plain,
        );
        self.random = random;
        frame
    }

    /// Puts a segment into IP and Ethernet headers. `plain` omits rare features.
    fn wrap(
        &self,
        random: &mut Random,
        source: IpAddr,
        destination: IpAddr,
        protocol: u8,
        mut segment: Vec<u8>,
        plain: bool,
    ) -> Vec<u8> {
        fill_checksum(source, destination, protocol, &mut segment);
        if matches!(protocol, 1 | 58) && segment.len() >= 8 && random.chance(10) {
            aim(&mut segment, 4, 2, *random.pick(&EDGES));
        }
        let ttl = match random.below(10) {
            _ if plain => 64,
            0..5 => 64,
            5..8 => *random.pick(&TTLS),
            _ => random.byte(),
        };
        let class = if random.chance(50) { 0 } else { random.byte() };
        let mut frame = match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let mut header = ip4(random, source, destination, plain);
                (header[1], header[8], header[9]) = (class, ttl, protocol);
                let length = header.len() + segment.len();
                header[2..4].copy_from_slice(&(length as u16).to_be_bytes());
                let sum = checksum::checksum(&header);
                header[10..12].copy_from_slice(&sum.to_be_bytes());
                if random.chance(10) {
                    aim(&mut header, 4, 10, *random.pick(&EDGES));
                }
                [ethernet(0x0800), header, segment].concat()
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let (first, extensions) = if plain {
                    (protocol, Vec::new())
                } else {
                    extension_headers(random, protocol)
                };
                let length = extensions.len() + segment.len();
                let word = 6 << 28 | u32::from(class) << 20 | random.number() as u32 & 0xF_FFFF;
                let mut header = word.to_be_bytes().to_vec();
                header.extend((length as u16).to_be_bytes());
                header.extend([first, ttl]);
                header.extend(source.octets());
                header.extend(destination.octets());
                [ethernet(0x86DD), header, extensions, segment].concat()
            }
            _ => unreachable!("client and VIP are of one family"),
        };
        // Short frames are padded; some switches pad more than they must.
        if !plain && random.chance(15) {
            let padding = random.below(50);
            frame.extend(random.bytes(padding));
        }
        frame
    }

    /// Corrupts some frames.
    fn spoil(&mut self, frame: &mut Vec<u8>) {
        let random = &mut self.random;
        match random.below(5) {
            // Truncate anywhere.
            0 => {
                let length = random.below(frame.len() + 1);
                frame.truncate(length);
            }
            // Truncate within the headers.
            1 => {
                let length = random.below(90);
                frame.truncate(length);
            }
            // Change some bytes, mostly in the headers.
            2 => {
                for _ in 0..=random.below(3) {
                    let end = if random.chance(80) {
                        frame.len().min(80)
                    } else {
                        frame.len()
                    };
                    let at = random.below(end);
                    frame[at] = random.byte();
                }
            }
            // Flip a bit.
            3 => {
                let at = random.below(frame.len().min(120));
                frame[at] ^= 1 << random.below(8);
            }
            // Change a length field: IPv4's header and total length, IPv6's payload and first extension, data offset of
            // TCP and length of UDP, at their offsets in packets without options.
            _ => {
                let fields: &[usize] = if frame.get(12) == Some(&0x08) {
                    &[14, 16, 17, 38, 39, 46]
                } else {
                    &[18, 19, 20, 55, 58, 59, 66]
                };
                let at = *random.pick(fields);
                let near = random.below(9) as u8;
                if let Some(byte) = frame.get_mut(at) {
                    *byte = if random.chance(50) {
                        byte.wrapping_add(near).wrapping_sub(4)
                    } else {
                        random.byte()
                    };
                }
            }
        }
    }
}
