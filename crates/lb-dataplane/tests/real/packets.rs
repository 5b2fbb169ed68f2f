//! Incoming packets, and the segment sizes of outgoing ones.

use std::{
    fs,
    net::{IpAddr, TcpListener},
};

use etherparse::{IpNumber, Ipv4Header, PacketBuilder, TcpOptionElement};
use lb_common::decap::Reason;
use lb_dataplane::{
    options::XdpMode,
    real::{Options, Real},
};

use crate::{
    fixture::{
        CLIENT4, VIP4, VIP6, address, all_families_arrive, both, client, encapsulated, fingerprint,
        listen, to, udp, wait_unchanged,
    },
    testbed::{CLIENT_MAC, INTERFACE, REAL_MAC, Testbed, ip, run},
};

pub fn packets_of_all_families_reach_the_vips_sockets() {
    run(async |bed: &Testbed| {
        let before = fingerprint();
        let real = Real::set_up(&bed.options(&both())).await.unwrap();
        assert_eq!(real.warnings(), &[] as &[String]);
        assert!(
            ip(&format!("link show {INTERFACE}")).contains("xdp "),
            "native mode"
        );
        all_families_arrive(bed);
        let counters = &real.counters().unwrap()[0];
        for reason in [
            Reason::Ip4InIp4,
            Reason::Ip6InIp4,
            Reason::Ip4InIp6,
            Reason::Ip6InIp6,
        ] {
            assert_eq!(counters.of(reason), 1, "{counters}");
        }
        real.finish().await.unwrap();
        wait_unchanged(&before);
        let left: Vec<_> = fs::read_dir(bed.state_folder())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(left, ["real.lock"], "nothing is left to undo");
    });
}

/// What the balancer sends on of a router's messages: the VIP's socket hears of it.
pub fn icmp_errors_reach_the_vips_sockets() {
    run(async |bed: &Testbed| {
        let IpAddr::V4(vip) = address(VIP4) else {
            unreachable!("an IPv4 VIP")
        };
        let real = Real::set_up(&bed.options(&both())).await.unwrap();
        let (socket, port) = listen(vip.into());
        socket.connect((client(vip.into()), 40_000)).unwrap();
        // Port unreachable, about a datagram from the socket to the client.
        let mut quoted = udp(vip.into(), 40_000, b"");
        quoted[12..16].copy_from_slice(&vip.octets());
        quoted[16..20].copy_from_slice(&CLIENT4);
        quoted[20..22].copy_from_slice(&port.to_be_bytes());
        let mut packet = Vec::new();
        let header = Ipv4Header::new(0, 61, IpNumber::ICMP, CLIENT4, vip.octets()).unwrap();
        PacketBuilder::ip(etherparse::IpHeaders::Ipv4(header, Default::default()))
            .icmpv4(etherparse::Icmpv4Type::DestinationUnreachable(
                etherparse::icmpv4::DestUnreachableHeader::Port,
            ))
            .write(&mut packet, &quoted)
            .unwrap();
        for outer_v6 in [false, true] {
            bed.send(&encapsulated(outer_v6, vip.into(), &packet));
            let error = socket.recv(&mut [0; 10]).unwrap_err();
            assert_eq!(
                error.kind(),
                std::io::ErrorKind::ConnectionRefused,
                "{error}"
            );
        }
        real.finish().await.unwrap();
    });
}

pub fn generic_mode_works_and_says_so() {
    run(async |bed: &Testbed| {
        let options = Options {
            xdp_mode: XdpMode::Generic,
            ..bed.options(&both())
        };
        let real = Real::set_up(&options).await.unwrap();
        assert!(
            real.warnings()[0].contains("generic"),
            "{:?}",
            real.warnings()
        );
        all_families_arrive(bed);
        real.finish().await.unwrap();
    });
}

pub fn other_traffic_passes_and_every_frame_is_counted() {
    run(async |bed: &Testbed| {
        let real = Real::set_up(&bed.options(&both())).await.unwrap();
        let own = address("10.9.0.2");
        let (socket, port) = listen(own);
        let bare = [
            &REAL_MAC[..],
            &CLIENT_MAC,
            &[8, 0],
            &udp(own, port, b"plain"),
        ]
        .concat();
        let stranger = address("192.0.2.99");
        bed.send(&encapsulated(false, stranger, &udp(stranger, port, b"x")));
        let mut fragment = encapsulated(false, address(VIP4), &udp(address(VIP4), port, b"x"));
        fragment[20] |= 0x20;
        bed.send(&fragment);
        bed.send(&bare);
        let mut buffer = [0; 10];
        let length = socket.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"plain");
        let counters = &real.counters().unwrap()[0];
        assert_eq!(counters.of(Reason::NotVip), 1, "{counters}");
        assert_eq!(counters.of(Reason::Fragment), 1, "{counters}");
        assert!(counters.of(Reason::NotTunnel) >= 1, "{counters}");
        assert_eq!(
            counters.frames(),
            counters
                .reasons
                .iter()
                .map(|(_, frames)| frames)
                .sum::<u64>()
        );
        assert!(counters.to_string().contains("not_vip=1"), "{counters}");
        real.finish().await.unwrap();
    });
}

/// Opens a connection from the client and returns the segment size of the SYN-ACK, its checksum checked.
fn announced(bed: &Testbed, vip: IpAddr, port: u16, client_port: u16, tunnel: bool) -> u16 {
    let mut packet = Vec::new();
    to(vip)
        .tcp(client_port, port, 1_000, 64_000)
        .syn()
        .options(&[TcpOptionElement::MaximumSegmentSize(1_460)])
        .unwrap()
        .write(&mut packet, &[])
        .unwrap();
    if tunnel {
        bed.send(&encapsulated(false, vip, &packet));
    } else {
        let ether_type: &[u8] = if vip.is_ipv4() {
            &[8, 0]
        } else {
            &[0x86, 0xDD]
        };
        bed.send(&[&REAL_MAC[..], &CLIENT_MAC, ether_type, &packet].concat());
    }
    bed.receive("SYN-ACK", |frame| {
        let parsed = etherparse::PacketHeaders::from_ethernet_slice(frame).ok()?;
        let Some(etherparse::TransportHeader::Tcp(tcp)) = parsed.transport else {
            return None;
        };
        if !(tcp.syn && tcp.ack && tcp.destination_port == client_port) {
            return None;
        }
        let sum = match parsed.net {
            Some(etherparse::NetHeaders::Ipv4(ip, _)) => tcp.calc_checksum_ipv4(&ip, &[]).unwrap(),
            Some(etherparse::NetHeaders::Ipv6(ip, _)) => tcp.calc_checksum_ipv6(&ip, &[]).unwrap(),
            _ => return None,
        };
        assert_eq!(tcp.checksum, sum, "checksum of the SYN-ACK");
        tcp.options_iterator()
            .find_map(|option| match option.unwrap() {
                TcpOptionElement::MaximumSegmentSize(size) => Some(size),
                _ => None,
            })
    })
}

pub fn segments_leave_room_for_the_outer_header() {
    run(async |bed: &Testbed| {
        let mut real = Real::set_up(&bed.options(&both())).await.unwrap();
        for (vip, size) in [(VIP4, 1_420), (VIP6, 1_400)] {
            let server = TcpListener::bind((address(vip), 0)).unwrap();
            let port = server.local_addr().unwrap().port();
            assert_eq!(announced(bed, address(vip), port, 50_001, true), size);
        }
        // The host's other connections are not touched.
        let server = TcpListener::bind("10.9.0.2:0").unwrap();
        assert_eq!(
            announced(
                bed,
                address("10.9.0.2"),
                server.local_addr().unwrap().port(),
                50_002,
                false
            ),
            1_460
        );
        // The MTU is followed.
        ip(&format!("link set {INTERFACE} mtu 1400"));
        assert_eq!(real.look_after().await, Vec::<String>::new());
        let server = TcpListener::bind((address(VIP4), 0)).unwrap();
        assert_eq!(
            announced(
                bed,
                address(VIP4),
                server.local_addr().unwrap().port(),
                50_003,
                true
            ),
            1_320
        );
        real.finish().await.unwrap();
    });
}

pub fn packets_whose_way_back_leads_elsewhere_are_taken() {
    run(async |bed: &Testbed| {
        fs::write("/proc/sys/net/ipv4/conf/all/rp_filter", "1").unwrap();
        // The way back to the client leads to another interface than the packets come in by.
        ip("link add lbother0 type veth peer name lbother1");
        ip("link set lbother0 up");
        ip("route add 198.51.100.0/24 dev lbother0");
        let real = Real::set_up(&bed.options(&both())).await.unwrap();
        all_families_arrive(bed);
        real.finish().await.unwrap();
    });
}
