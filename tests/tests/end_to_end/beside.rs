//! Several VIPs, and traffic for no VIP.

use std::net::SocketAddr;

use lb_tests::{
    AgentOptions,
    client::{get, udp_exchange, unanswered},
    server::{Nginx, UdpEcho},
};

use crate::fixture::{HTTP_V4, HTTP_V6, Testbed, every_real_answers, serve, target};

pub fn two_vips_have_their_own_reals() {
    const OTHER: &str = "192.0.2.11:80/tcp";
    let testbed = Testbed::new(2, &[HTTP_V4, OTHER], AgentOptions::default()).unwrap();
    for (vip, real) in [HTTP_V4, OTHER].into_iter().zip(&testbed.backends) {
        testbed
            .agent
            .add_service(vip, "--forward ipip", &[(real.address(), 100)])
            .unwrap();
    }
    for (vip, real) in [HTTP_V4, OTHER].into_iter().zip(&testbed.backends) {
        for _ in 0..20 {
            let (server, _) = get(&testbed.client, target(vip), "/").unwrap();
            assert_eq!(server, real.host.label(), "{vip}");
        }
    }
    // Deleting one does not affect the other.
    testbed.agent.ctl(&format!("del-vip {HTTP_V4}")).unwrap();
    unanswered(&testbed.client, target(HTTP_V4)).unwrap();
    assert!(get(&testbed.client, target(OTHER), "/").is_ok());
}

pub fn other_traffic_is_the_hosts_own() {
    let testbed = Testbed::new(3, &[HTTP_V4, HTTP_V6], AgentOptions::default()).unwrap();
    serve(&testbed, HTTP_V4, "--forward ipip", false, &[100]);
    serve(&testbed, HTTP_V6, "--forward ipip", true, &[100]);
    // The balancer's host serves on the VIP's port as well.
    let balancer = &testbed.network.balancer;
    let _nginx = Nginx::start(balancer, 80).unwrap();
    for (address, vip) in [(balancer.v4, HTTP_V4), (balancer.v6, HTTP_V6)] {
        let own = SocketAddr::new(address, 80);
        let _echo = UdpEcho::start(balancer, SocketAddr::new(address, 7)).unwrap();
        for round in 0..10 {
            assert_eq!(
                get(&testbed.client, own, "/").unwrap().0,
                "balancer",
                "round {round}"
            );
            let answer =
                udp_exchange(&testbed.client, 0, SocketAddr::new(address, 7), b"beside").unwrap();
            assert!(answer.ends_with(b" beside"));
        }
        testbed
            .client
            .sh(&format!("ping -c 3 -i 0.2 -W 15 {address}"))
            .unwrap();
        // Larger than a frame: fragments go to the host.
        testbed
            .client
            .sh(&format!("ping -c 2 -i 0.2 -W 15 -s 4000 {address}"))
            .unwrap();
        every_real_answers(&testbed.client, vip, &testbed.names());
    }
}

pub fn a_vip_answers_a_ping() {
    let testbed = Testbed::new(1, &[HTTP_V4, HTTP_V6], AgentOptions::default()).unwrap();
    for (vip, v6_reals) in [(HTTP_V4, false), (HTTP_V6, true)] {
        serve(&testbed, vip, "--forward ipip", v6_reals, &[100]);
        testbed
            .client
            .sh(&format!("ping -c 3 -i 0.2 -W 15 {}", target(vip).ip()))
            .unwrap();
    }
    let status = testbed.agent.ctl_json("stats").unwrap();
    let reasons = status["interfaces"][0]["reasons"].as_array().unwrap();
    let echoes: u64 = reasons
        .iter()
        .filter(|reason| reason["reason"] == "echo_reply")
        .map(|reason| reason["frames"].as_u64().unwrap())
        .sum();
    assert_eq!(echoes, 6, "{status:#}");
}

/// The default ping of scapy: neither identifier nor sequence number nor data. The checksum of zeroes is 0xFFFF, and
/// Linux drops an answer with 0x0000.
pub fn a_vip_answers_a_ping_of_zeroes() {
    const REQUEST: [u8; 8] = [8, 0, 0xF7, 0xFF, 0, 0, 0, 0];
    const REPLY: [u8; 8] = [0, 0, 0xFF, 0xFF, 0, 0, 0, 0];
    let testbed = Testbed::new(1, &[HTTP_V4], AgentOptions::default()).unwrap();
    serve(&testbed, HTTP_V4, "--forward ipip", false, &[100]);
    let std::net::IpAddr::V4(vip) = target(HTTP_V4).ip() else {
        unreachable!("an IPv4 VIP")
    };
    let errors = || {
        let text = std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap();
        let mut lines = text.lines().filter(|line| line.starts_with("Icmp:"));
        let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
        names
            .split_whitespace()
            .zip(values.split_whitespace())
            .find(|(name, _)| *name == "InCsumErrors")
            .map(|(_, value)| value.to_owned())
            .unwrap()
    };
    testbed
        .client
        .enter(|| {
            let before = errors();
            let socket = raw_icmp();
            socket.connect((vip, 0)).unwrap();
            socket.send(&REQUEST).unwrap();
            let mut packet = [0; 100];
            loop {
                let length = socket.recv(&mut packet).unwrap();
                if packet[12..16] == vip.octets() {
                    assert_eq!(packet[20..length], REPLY);
                    break;
                }
            }
            assert_eq!(errors(), before);
        })
        .unwrap();
}

/// A raw socket of ICMP, which receives whole IP packets.
fn raw_icmp() -> std::net::UdpSocket {
    use std::os::fd::FromRawFd as _;
    // SAFETY: a system call without pointers.
    let fd = unsafe {
        libc::socket(
            libc::AF_INET,
            libc::SOCK_RAW | libc::SOCK_CLOEXEC,
            libc::IPPROTO_ICMP,
        )
    };
    assert!(fd >= 0, "{}", std::io::Error::last_os_error());
    // SAFETY: the descriptor is new and nobody else's. The type's operations are those of any socket of datagrams.
    let socket = unsafe { std::net::UdpSocket::from_raw_fd(fd) };
    socket
        .set_read_timeout(Some(crate::fixture::PATIENCE))
        .unwrap();
    socket
}
