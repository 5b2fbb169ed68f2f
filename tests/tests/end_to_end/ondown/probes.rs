//! Probes that reach a certain real as clients' packets do.

use std::{io, net::SocketAddr, os::fd::AsRawFd as _, time::Duration};

use lb_dataplane::{Dataplane as _, ServiceSpec, WhenEmpty};
use lb_model::options::{Forward, Track};
use lb_tests::{Host, Real, wait_for};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

use super::ground::{Ground, PATIENCE, Ways};

/// How long a probe waits that is to fail.
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

/// Connects from a host, with a mark or without, sends bytes over many segments and gives the number that the
/// server answers each with.
fn probe(
    from: &Host,
    target: SocketAddr,
    mark: Option<u32>,
    patience: Duration,
) -> anyhow::Result<u8> {
    const BYTES: usize = 8_000;
    from.block_on(async move {
        let talk = async {
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
        tokio::time::timeout(patience, talk).await?
    })
}

async fn connect(target: SocketAddr, mark: Option<u32>) -> anyhow::Result<TcpStream> {
    let socket = if target.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    if let Some(mark) = mark {
        // SAFETY: the descriptor is open, and the option's value lives through the call.
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

/// A route to the VIPs by way of a neighbour that nothing of a probe comes to.
fn route_vips(ground: &Ground) {
    for (network, via) in [
        ("192.0.2.0/24", ground.client.v4),
        ("2001:db8::/64", ground.client.v6),
    ] {
        ground
            .site
            .balancer
            .sh(&format!("ip route add {network} via {via}"))
            .unwrap();
    }
}

#[test]
fn probes_reach_their_real_by_every_way() {
    for ways in WAYS {
        let mut ground = Ground::new(ways, 2);
        // The ring says nothing of the first.
        ground.serve(&[], &[1]);
        let vip = ground.wanted(&[], &[]).vip;
        let trouble = ground.plane.probe_problem(&vip).unwrap();
        assert!(trouble.contains("no route"), "{trouble}");
        route_vips(&ground);
        wait_for("the way to the VIP", PATIENCE, || {
            Ok(ground.plane.probe_problem(&vip).is_none().then_some(()))
        })
        .unwrap();
        // What a network card would be left to do: checksums and segments.
        ground
            .site
            .balancer
            .sh("ethtool -K eth0 tx on tso on gso on")
            .unwrap();
        let balancer = &ground.site.balancer;
        for real in [0, 1, 0] {
            let mark = ground.plane.probe_mark(&vip, ground.address(real)).unwrap();
            let answer = probe(balancer, ground.target(), Some(mark), PATIENCE).unwrap();
            assert_eq!(usize::from(answer), real, "{ways:?}");
        }
        assert_eq!(
            ground.plane.probe_mark(&vip, "10.9.9.9".parse().unwrap()),
            None
        );
        // A packet without a mark goes where the route leads, as if there were no balancer.
        assert!(
            probe(balancer, ground.target(), None, PROBE).is_err(),
            "{ways:?}"
        );
    }
}

#[test]
fn a_real_that_clients_do_not_reach_fails_though_it_answers_directly() {
    for ways in [WAYS[0], WAYS[3], WAYS[4]] {
        let mut ground = Ground::new(ways, 2);
        ground.serve(&[], &[0, 1]);
        route_vips(&ground);
        let vip = ground.wanted(&[], &[]).vip;
        let fails = |ground: &Ground, real: usize, what: &str| {
            let balancer = &ground.site.balancer;
            let mark = ground.plane.probe_mark(&vip, ground.address(real)).unwrap();
            assert!(
                probe(balancer, ground.target(), Some(mark), PROBE).is_err(),
                "{ways:?}: {what}"
            );
            let direct = SocketAddr::new(ground.address(real), ground.target().port());
            assert_eq!(
                usize::from(probe(balancer, direct, None, PATIENCE).unwrap()),
                real
            );
        };
        let works = |ground: &Ground, real: usize| {
            let balancer = &ground.site.balancer;
            let mark = ground.plane.probe_mark(&vip, ground.address(real)).unwrap();
            let answer = probe(balancer, ground.target(), Some(mark), PATIENCE).unwrap();
            assert_eq!(usize::from(answer), real, "{ways:?}");
        };
        works(&ground, 0);
        // Neither the VIP's address nor anybody who takes the outer header off.
        drop(ground.reals[0].decap.take());
        fails(&ground, 0, "not set up");
        // Set up, but for another VIP.
        let other = if ways.vip6 {
            "2001:db8::99"
        } else {
            "192.0.2.99"
        };
        ground.reals[0].decap = Some(Real::start(&ground.reals[0].host, "eth0", &[other]).unwrap());
        fails(&ground, 0, "another VIP");
        works(&ground, 1);
    }
}

#[test]
fn probes_need_a_running_agent_and_its_tables() {
    let ways = WAYS[0];
    let mut ground = Ground::new(ways, 2);
    ground.serve(&[], &[1]);
    route_vips(&ground);
    let vip = ground.wanted(&[], &[]).vip;
    let works = |ground: &Ground| {
        let mark = ground.plane.probe_mark(&vip, ground.address(0)).unwrap();
        let answer = probe(&ground.site.balancer, ground.target(), Some(mark), PATIENCE);
        assert_eq!(answer.unwrap(), 0);
        mark
    };
    works(&ground);
    // Larger tables: other maps, and a program on them.
    let generation = ground.plane.status().generation;
    for number in 0..300_u32 {
        let other = ServiceSpec {
            vip: format!("192.0.3.{}:{}/tcp", 1 + number % 200, 80 + number / 200)
                .parse()
                .unwrap(),
            forward: Forward::Ipip,
            track: Track::Exceptions,
            window: Duration::from_secs(1),
            reals: vec![ground.address(0)],
            down: std::collections::BTreeMap::new(),
            ring: vec![0; 256].into(),
            when_empty: WhenEmpty::Drop,
        };
        ground.plane.set_service(&other).unwrap();
    }
    assert!(ground.plane.status().generation > generation);
    works(&ground);
    // The balancer's own address: the packet would never leave.
    ground
        .site
        .balancer
        .sh("ip address add 192.0.2.10/32 dev lo")
        .unwrap();
    let trouble = wait_for("the trouble to be seen", PATIENCE, || {
        Ok(ground.plane.probe_problem(&vip))
    })
    .unwrap();
    assert!(trouble.contains("address of this host"), "{trouble}");
    ground
        .site
        .balancer
        .sh("ip address del 192.0.2.10/32 dev lo")
        .unwrap();
    // Another agent takes over.
    ground.restart();
    ground.serve(&[], &[1]);
    let mark = works(&ground);
    // With the agent its program is gone, though packets are still forwarded.
    let (target, client, balancer) = (ground.target(), &ground.client, &ground.site.balancer);
    drop(ground.plane);
    // A program that another test starts holds its descriptor for a moment.
    wait_for("the program to be gone", PATIENCE, || {
        Ok(probe(balancer, target, Some(mark), PROBE)
            .is_err()
            .then_some(()))
    })
    .unwrap();
    assert_eq!(probe(client, target, None, PATIENCE).unwrap(), 1);
}
