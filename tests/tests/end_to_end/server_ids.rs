//! Packets that name their real, over real sockets: a client that changes its port keeps it.

use std::collections::BTreeSet;

use lb_tests::{AgentOptions, client::udp_exchange, server::UdpEcho};

use crate::fixture::{Testbed, serve, target};

const V4: &str = "192.0.2.30:443/udp";
const V6: &str = "[2001:db8::30]:443/udp";
/// The server ids of the reals.
const IDS: [u16; 3] = [300, 301, 70];

/// A datagram of this length, whatever follows its head.
fn datagram(head: &[u8]) -> Vec<u8> {
    let mut bytes = head.to_vec();
    bytes.resize(60, b'x');
    bytes
}

/// The server that answers a datagram from this port.
fn answering(testbed: &Testbed, vip: &str, port: u16, payload: &[u8]) -> String {
    let answer = udp_exchange(&testbed.client, port, target(vip), payload).unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    answer.split_whitespace().next().unwrap().to_owned()
}

pub fn a_client_that_moves_keeps_the_real_that_its_packets_name() {
    let testbed = Testbed::new(IDS.len(), &[V4, V6], AgentOptions::default()).unwrap();
    for (vip, v6_reals) in [(V4, false), (V6, true)] {
        let _echoes: Vec<UdpEcho> = testbed
            .backends
            .iter()
            .map(|real| UdpEcho::start(&real.host, target(vip)).unwrap())
            .collect();
        serve(&testbed, vip, "--forward ipip", v6_reals, &[100]);
        // One method after the other: what a short header of QUIC, or a datagram, has in front of it.
        let stable = |id: u16| {
            let [high, low] = id.to_be_bytes();
            datagram(&[0x52, 0, high, low])
        };
        let katran = |id: u16| {
            let head = [
                0x40,
                0x40 | (id >> 10) as u8,
                (id >> 2) as u8,
                (id << 6) as u8,
            ];
            datagram(&head)
        };
        let quic_lb = |id: u16| {
            let [high, low] = id.to_be_bytes();
            datagram(&[0x40, 0x08, high, low, 1, 2, 3, 4, 5, 6])
        };
        type Payload<'a> = &'a dyn Fn(u16) -> Vec<u8>;
        let methods: [(&str, Payload<'_>); 3] = [
            ("--server-ids udp-stable", &stable),
            ("--server-ids quic-katran", &katran),
            ("--server-ids quic-lb --quic-lb 0:2:6", &quic_lb),
        ];
        for (options, payload) in methods {
            testbed
                .agent
                .ctl(&format!("set-vip {vip} {options}"))
                .unwrap();
            for (real, id) in testbed.backends.iter().zip(IDS) {
                let address = if v6_reals { real.host.v6 } else { real.host.v4 };
                testbed
                    .agent
                    .ctl(&format!("set-real {vip} {address} --server-id {id}"))
                    .unwrap();
                for port in 20_000..20_030 {
                    let server = answering(&testbed, vip, port, &payload(id));
                    assert_eq!(server, real.host.label(), "{vip} {options} {port}");
                }
            }
            // An id that no real has goes by the ring, as do packets without one.
            for other in [payload(500), datagram(&[0xC0, 0, 0, 0, 1])] {
                let seen: BTreeSet<String> = (20_000..20_060)
                    .map(|port| answering(&testbed, vip, port, &other))
                    .collect();
                assert_eq!(seen, testbed.names(), "{vip} {options}");
            }
        }
        let stats = testbed.agent.ctl_json(&format!("stats {vip}")).unwrap();
        let stats = &stats["vips"][0];
        assert!(stats["named"].as_u64().unwrap() >= 270, "{stats:#}");
        assert!(stats["named_unknown"].as_u64().unwrap() >= 180, "{stats:#}");
    }
}
