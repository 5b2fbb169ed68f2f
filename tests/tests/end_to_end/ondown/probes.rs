//! Probes that take the same way to a real as clients' packets.

use std::{io, net::SocketAddr, os::fd::AsRawFd as _, time::Duration};

use lb_dataplane::{Dataplane as _, ServiceSpec, Terms};
use lb_model::options::{Forward, Track};
use lb_tests::{Host, Real, wait_for};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

use super::testbed::{DataplaneTestbed, PATIENCE, Ways};

/// Timeout of a probe that is expected to fail.
const PROBE: Duration = Duration::from_secs(2);

/// Every pair of families through the tunnel, and by MAC address.
const WAYS: [Ways; 6] = [
    Ways::new(false, false, Forward::Ipip),
    Ways::new(false, true, Forward::Ipip),
    Ways::new(true, false, Forward::Ipip),
    Ways::new(true, true, Forward::Ipip),
    Ways::new(false, false, Forward::L2),
    Ways::new(true, true, Forward::L2),
];

/// Connects from a host, with or without a mark, sends bytes in many segments, and returns the number with which the
/// server answers each.
fn probe(
    from: &Host,
    target: SocketAddr,
    mark: Option<u32>,
    patience: Duration,
) -> anyhow::Result<u8> {
    const BYTES: usize = 8_000;
    from.block_on(async move {
        let connection = async {
            let mut stream = connect(target, mark).await?;
            stream.write_all(&[0x55; BYTES]).await?;
            let mut answer = [0; BYTES];
            stream.read_exact(&mut answer).await?;
            anyhow::ensure!(
                answer.iter().all(|byte| *byte == answer[0]),
                "mixed answers"
            );
            Ok(answer[0])
        };
        tokio::time::timeout(patience, connection).await?
    })
}

async fn connect(target: SocketAddr, mark: Option<u32>) -> anyhow::Result<TcpStream> {
    let socket = if target.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    if let Some(mark) = mark {
        // SAFETY: the descriptor is open, and the option's value outlives the call.
        let result = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_MARK,
                (&raw const mark).cast(),
                size_of::<u32>() as libc::socklen_t,
            )
        };
        if result != 0 {
            return Err(io::Error::last_os_error().into());
        }
    }
    Ok(socket.connect(target).await?)
}

/// Adds routes to the VIPs through a neighbour. Packets of probes never reach that neighbour.
fn route_vips(testbed: &DataplaneTestbed) {
    for (network, via) in [
        ("192.0.2.0/24", testbed.client.v4),
        ("2001:db8::/64", testbed.client.v6),
    ] {
        testbed
            .network
            .balancer
            .sh(&format!("ip route add {network} via {via}"))
            .unwrap();
    }
}

pub fn probes_reach_their_real_in_every_mode() {
    for ways in WAYS {
        let mut testbed = DataplaneTestbed::new(ways, 2);
        // The first real has no share of the ring.
        testbed.serve(&[], &[1]);
        let vip = testbed.service(&[], &[]).vip;
        let trouble = testbed.plane.probe_problem(&vip).unwrap();
        assert!(trouble.contains("no route"), "{trouble}");
        route_vips(&testbed);
        wait_for("a route to the VIP", PATIENCE, || {
            Ok(testbed.plane.probe_problem(&vip).is_none().then_some(()))
        })
        .unwrap();
        // Checksums and segmentation are left to the interface, as with a network card.
        testbed
            .network
            .balancer
            .sh("ethtool -K eth0 tx on tso on gso on")
            .unwrap();
        let balancer = &testbed.network.balancer;
        for real in [0, 1, 0] {
            let mark = testbed.plane.probe_mark(&vip, testbed.id(real)).unwrap();
            let answer = probe(balancer, testbed.target(), Some(mark), PATIENCE).unwrap();
            assert_eq!(usize::from(answer), real, "{ways:?}");
        }
        assert_eq!(
            testbed.plane.probe_mark(&vip, "10.9.9.9".parse().unwrap()),
            None
        );
        // A packet without a mark follows the route, as without a balancer.
        assert!(
            probe(balancer, testbed.target(), None, PROBE).is_err(),
            "{ways:?}"
        );
    }
}

pub fn a_real_that_clients_cannot_reach_fails_though_it_answers_directly() {
    for ways in [WAYS[0], WAYS[3], WAYS[4]] {
        let mut testbed = DataplaneTestbed::new(ways, 2);
        testbed.serve(&[], &[0, 1]);
        route_vips(&testbed);
        let vip = testbed.service(&[], &[]).vip;
        let fails = |testbed: &DataplaneTestbed, real: usize, what: &str| {
            let balancer = &testbed.network.balancer;
            let mark = testbed.plane.probe_mark(&vip, testbed.id(real)).unwrap();
            assert!(
                probe(balancer, testbed.target(), Some(mark), PROBE).is_err(),
                "{ways:?}: {what}"
            );
            let direct = SocketAddr::new(testbed.address(real), testbed.target().port());
            assert_eq!(
                usize::from(probe(balancer, direct, None, PATIENCE).unwrap()),
                real
            );
        };
        let works = |testbed: &DataplaneTestbed, real: usize| {
            let balancer = &testbed.network.balancer;
            let mark = testbed.plane.probe_mark(&vip, testbed.id(real)).unwrap();
            let answer = probe(balancer, testbed.target(), Some(mark), PATIENCE).unwrap();
            assert_eq!(usize::from(answer), real, "{ways:?}");
        };
        works(&testbed, 0);
        // The host has neither the VIP's address nor the program that removes the outer header.
        drop(testbed.backends[0].real.take());
        fails(&testbed, 0, "not set up");
        // The host is a real of another VIP.
        let other = if ways.vip6 {
            "2001:db8::99"
        } else {
            "192.0.2.99"
        };
        testbed.backends[0].real =
            Some(Real::start(&testbed.backends[0].host, "eth0", &[other]).unwrap());
        fails(&testbed, 0, "another VIP");
        works(&testbed, 1);
    }
}

pub fn probes_need_a_running_agent_and_its_tables() {
    let ways = WAYS[0];
    let mut testbed = DataplaneTestbed::new(ways, 2);
    testbed.serve(&[], &[1]);
    route_vips(&testbed);
    let vip = testbed.service(&[], &[]).vip;
    let works = |testbed: &DataplaneTestbed| {
        let mark = testbed.plane.probe_mark(&vip, testbed.id(0)).unwrap();
        let answer = probe(
            &testbed.network.balancer,
            testbed.target(),
            Some(mark),
            PATIENCE,
        );
        assert_eq!(answer.unwrap(), 0);
        mark
    };
    works(&testbed);
    // Tables grow, which replaces the maps and the program.
    let generation = testbed.plane.status().generation;
    for number in 0..300_u32 {
        let other = ServiceSpec {
            vip: format!("192.0.3.{}:{}/tcp", 1 + number % 200, 80 + number / 200)
                .parse()
                .unwrap(),
            forward: Forward::Ipip,
            terms: Terms::default(),
            track: Track::Exceptions,
            window: Duration::from_secs(1),
            reals: vec![testbed.id(0)],
            down: std::collections::BTreeMap::new(),
            ring: vec![0; 256].into(),
        };
        testbed.plane.set_service(&other).unwrap();
    }
    assert!(testbed.plane.status().generation > generation);
    works(&testbed);
    // The VIP is an address of the balancer, so packets would never leave the host.
    testbed
        .network
        .balancer
        .sh("ip address add 192.0.2.10/32 dev lo")
        .unwrap();
    let trouble = wait_for("the problem to be reported", PATIENCE, || {
        Ok(testbed.plane.probe_problem(&vip))
    })
    .unwrap();
    assert!(trouble.contains("address of this host"), "{trouble}");
    testbed
        .network
        .balancer
        .sh("ip address del 192.0.2.10/32 dev lo")
        .unwrap();
    // Another agent takes over.
    testbed.restart();
    testbed.serve(&[], &[1]);
    let mark = works(&testbed);
    // The program ends with the agent, though packets are still forwarded.
    let (target, client, balancer) = (testbed.target(), &testbed.client, &testbed.network.balancer);
    drop(testbed.plane);
    // A process that another test starts holds a copy of its descriptor for a moment.
    wait_for("the program to be gone", PATIENCE, || {
        Ok(probe(balancer, target, Some(mark), PROBE)
            .is_err()
            .then_some(()))
    })
    .unwrap();
    assert_eq!(probe(client, target, None, PATIENCE).unwrap(), 1);
}
