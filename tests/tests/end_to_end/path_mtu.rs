//! Packets that do not fit: on the way from a real to its client, and on the way to a real.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsRawFd as _,
    time::Duration,
};

use anyhow::Context as _;
use lb_tests::{
    Agent, AgentOptions, Host, Namespace, Network, Real, RoutedNetwork, cable,
    client::udp_exchange, server::UdpEcho, wait_for,
};

use crate::fixture::{HTTP_V4, HTTP_V6, PATIENCE, target};

/// Bytes that the real sends.
const TRANSFER: usize = 1_000_000;
/// How long a transfer may stand still. Retransmissions double their interval from 200 ms.
const STALL: Duration = Duration::from_secs(20);
/// The MTU of the link that the client is behind.
const NARROW: u32 = 1_400;

/// A client behind a host that forwards, whose link to the router is narrow. The client's own link is not, so it
/// announces segments that do not fit the narrow one.
struct FarClient {
    client: Namespace,
    _gateway: Host,
}

impl FarClient {
    fn new(network: &RoutedNetwork) -> Self {
        let gateway = network.client().unwrap();
        let client = Namespace::new("far").unwrap();
        let near = ["10.99.0.1/24".to_owned(), "fd00:99::1/64".to_owned()];
        let far = ["10.99.0.2/24".to_owned(), "fd00:99::2/64".to_owned()];
        cable((&gateway, "inner", &near), (&client, "eth0", &far)).unwrap();
        gateway.sysctl("net/ipv4/ip_forward", "1").unwrap();
        gateway.sysctl("net/ipv6/conf/all/forwarding", "1").unwrap();
        for via in ["10.99.0.1", "fd00:99::1"] {
            client
                .sh(&format!("ip route add default via {via}"))
                .unwrap();
        }
        let router = &network.router;
        for (subnet, via) in [("10.99.0.0/24", gateway.v4), ("fd00:99::/64", gateway.v6)] {
            router
                .sh(&format!("ip route add {subnet} via {via}"))
                .unwrap();
        }
        gateway
            .sh(&format!("ip link set eth0 mtu {NARROW}"))
            .unwrap();
        router
            .sh(&format!("ip link set outside mtu {NARROW}"))
            .unwrap();
        Self {
            client,
            _gateway: gateway,
        }
    }
}

/// A host behind a VIP that sends bytes to whoever connects, until its listener is gone.
fn serve_bytes(
    host: &Namespace,
    address: SocketAddr,
) -> std::thread::JoinHandle<anyhow::Result<()>> {
    let listener = host.enter(|| TcpListener::bind(address)).unwrap().unwrap();
    host.thread(move || {
        let (mut connection, _) = listener.accept()?;
        connection.set_write_timeout(Some(STALL))?;
        let block: Vec<u8> = (0..TRANSFER).map(|at| (at % 251) as u8).collect();
        connection.write_all(&block)?;
        Ok(())
    })
}

fn receive(client: &Namespace, address: SocketAddr) -> anyhow::Result<Vec<u8>> {
    client.enter(|| {
        let mut connection = TcpStream::connect_timeout(&address, STALL)?;
        connection.set_read_timeout(Some(STALL))?;
        let mut bytes = Vec::new();
        connection
            .read_to_end(&mut bytes)
            .with_context(|| format!("after {} bytes", bytes.len()))?;
        Ok(bytes)
    })?
}

/// Adds a VIP with one real and waits until its next hop is known.
fn add(agent: &Agent, vip: &str, forward: &str, real: &str) {
    agent
        .add_service(
            vip,
            &format!("--forward {forward}"),
            &[(real.to_owned(), 100)],
        )
        .unwrap();
    wait_for("the next hop to the real", PATIENCE, || {
        let list = agent.ctl_json(&format!("list {vip}"))?;
        Ok((list[0]["reals"][0]["state"] != "unreachable").then_some(()))
    })
    .unwrap();
}

/// Frames of all interfaces with this reason.
fn frames(agent: &Agent, name: &str) -> u64 {
    let stats = agent.ctl_json("stats").unwrap();
    let interfaces = stats["interfaces"].as_array().unwrap();
    interfaces
        .iter()
        .flat_map(|interface| interface["reasons"].as_array().unwrap())
        .filter(|reason| reason["reason"] == name)
        .map(|reason| reason["frames"].as_u64().unwrap())
        .sum()
}

/// The router's "fragmentation needed" and "packet too big" are for the VIP, and reach the real that sent too much.
pub fn a_client_behind_a_narrow_link_receives_everything() {
    let network = RoutedNetwork::new().unwrap();
    let far = FarClient::new(&network);
    let hosts: Vec<(Host, Real)> = (0..2)
        .map(|_| {
            let host = network.real().unwrap();
            let real = Real::start(&host, "eth0", &[HTTP_V4, HTTP_V6]).unwrap();
            // Without the errors, TCP would find out by probing after a while.
            host.sysctl("net/ipv4/tcp_mtu_probing", "0").unwrap();
            (host, real)
        })
        .collect();
    let options = AgentOptions {
        interfaces: vec!["eth0".to_owned(), "eth1".to_owned()],
        ..AgentOptions::default()
    };
    let agent = Agent::start(&network.balancer, options).unwrap();
    for (vip, forward, v6_real) in [
        (HTTP_V4, "ipip", false),
        (HTTP_V6, "ipip", true),
        (HTTP_V4, "ipip", true),
        (HTTP_V6, "ipip", false),
        (HTTP_V4, "l2", false),
        (HTTP_V6, "l2", true),
    ] {
        let what = format!("{vip} by {forward}, IPv6 real {v6_real}");
        for (host, _) in &hosts {
            // What an earlier transfer found out.
            for family in ["-4", "-6"] {
                host.sh(&format!("ip {family} route flush cache")).unwrap();
            }
        }
        // Only the second host serves: an error that went to the other one would be lost.
        let (host, _) = &hosts[1];
        let real = if v6_real { host.v6 } else { host.v4 };
        add(&agent, vip, forward, &real.to_string());
        let server = serve_bytes(host, target(vip));
        let bytes = receive(&far.client, target(vip)).unwrap_or_else(|error| {
            panic!("{what}: {error:#}\n{:#}", agent.ctl_json("stats").unwrap())
        });
        assert_eq!(bytes.len(), TRANSFER, "{what}");
        assert!(
            bytes
                .iter()
                .enumerate()
                .all(|(at, byte)| *byte == (at % 251) as u8),
            "{what}"
        );
        server.join().unwrap().unwrap();
        let client = if vip.starts_with('[') {
            "fd00:99::2"
        } else {
            "10.99.0.2"
        };
        let route = host.sh(&format!("ip route get {client}")).unwrap();
        assert!(route.contains(&format!("mtu {NARROW}")), "{what}: {route}");
        agent.ctl(&format!("del-vip {vip}")).unwrap();
    }
}

/// Sets a socket's policy about path MTUs: 0 lets routers fragment, 2 never does.
fn set_discovery(socket: &UdpSocket, v6: bool, policy: i32) {
    let (level, option) = if v6 {
        (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER)
    } else {
        (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER)
    };
    // SAFETY: the option's value is a number of this size, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const policy).cast(),
            size_of::<i32>() as u32,
        )
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

/// The path MTU that the kernel knows for a connected socket.
fn path_mtu(socket: &UdpSocket, v6: bool) -> i32 {
    let (level, option) = if v6 {
        (libc::IPPROTO_IPV6, libc::IPV6_MTU)
    } else {
        (libc::IPPROTO_IP, libc::IP_MTU)
    };
    let (mut mtu, mut length) = (0_i32, size_of::<i32>() as u32);
    // SAFETY: the value is a number of this size; both live through the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw mut mtu).cast(),
            &raw mut length,
        )
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    mtu
}

/// A datagram that does not fit the tunnel is answered by the VIP, with the size that fits.
pub fn senders_of_large_datagrams_are_told_what_fits() {
    const UDP_V4: &str = "192.0.2.30:7/udp";
    const UDP_V6: &str = "[2001:db8::30]:7/udp";
    let network = Network::new().unwrap();
    let client = network.client().unwrap();
    let host = network.real().unwrap();
    let _real = Real::start(&host, "eth0", &[UDP_V4, UDP_V6]).unwrap();
    let agent = Agent::start(&network.balancer, AgentOptions::default()).unwrap();
    for (vip, v6_real, mtu) in [
        (UDP_V4, false, 1_480),
        (UDP_V4, true, 1_460),
        (UDP_V6, true, 1_460),
        (UDP_V6, false, 1_480),
    ] {
        let what = format!("{vip}, IPv6 real {v6_real}");
        let v6 = vip.starts_with('[');
        for family in ["-4", "-6"] {
            client
                .sh(&format!("ip {family} route flush cache"))
                .unwrap();
        }
        let address = target(vip);
        let _echo = UdpEcho::start(&host, address).unwrap();
        let real = if v6_real { host.v6 } else { host.v4 };
        add(&agent, vip, "ipip", &real.to_string());
        let (answered, dropped) = (
            frames(&agent, "too_large_answered"),
            frames(&agent, "too_large"),
        );
        let largest = mtu - if v6 { 48 } else { 28 };
        client
            .enter(|| {
                let socket = UdpSocket::bind(if v6 { "[::]:0" } else { "0.0.0.0:0" }).unwrap();
                socket.set_read_timeout(Some(PATIENCE)).unwrap();
                set_discovery(&socket, v6, 2);
                socket.connect(address).unwrap();
                assert_eq!(path_mtu(&socket, v6), 1_500, "{what}: before");
                socket.send(&vec![b'x'; largest + 1]).unwrap();
                let error = socket.recv(&mut [0; 16]).unwrap_err();
                assert_eq!(
                    error.raw_os_error(),
                    Some(libc::EMSGSIZE),
                    "{what}: {error}"
                );
                assert_eq!(path_mtu(&socket, v6), mtu as i32, "{what}: after");
            })
            .unwrap();
        assert_eq!(frames(&agent, "too_large_answered"), answered + 1, "{what}");
        let answer = udp_exchange(&client, 0, address, &vec![b'x'; largest]).unwrap();
        assert!(answer.ends_with(&vec![b'x'; largest]), "{what}");
        assert_eq!(frames(&agent, "too_large"), dropped, "{what}");
        if !v6 {
            // What routers may fragment cannot be told, and is not lost without a count. The client does not know of
            // the size any more, or it would make fragments itself.
            client.sh("ip -4 route flush cache").unwrap();
            client
                .enter(|| {
                    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
                    set_discovery(&socket, v6, 0);
                    socket.send_to(&vec![b'x'; largest + 1], address).unwrap();
                })
                .unwrap();
            wait_for("the count of a dropped datagram", PATIENCE, || {
                Ok((frames(&agent, "too_large") > dropped).then_some(()))
            })
            .unwrap();
        }
        agent.ctl(&format!("del-vip {vip}")).unwrap();
    }
}

/// The sizes follow the interface's MTU and the route's.
pub fn sizes_follow_links_and_routes() {
    const UDP: &str = "192.0.2.30:7/udp";
    let network = Network::new().unwrap();
    let client = network.client().unwrap();
    let host = network.real().unwrap();
    let _real = Real::start(&host, "eth0", &[UDP]).unwrap();
    let agent = Agent::start(&network.balancer, AgentOptions::default()).unwrap();
    add(&agent, UDP, "ipip", &host.v4.to_string());
    let told = |expected: i32| {
        wait_for(&format!("the size {expected}"), PATIENCE, || {
            client.sh("ip -4 route flush cache")?;
            client.enter(|| -> anyhow::Result<Option<()>> {
                let socket = UdpSocket::bind("0.0.0.0:0")?;
                socket.set_read_timeout(Some(Duration::from_millis(200)))?;
                set_discovery(&socket, false, 2);
                socket.connect(target(UDP))?;
                // A little more than fits: the balancer's own link takes it.
                socket.send(&vec![b'x'; expected as usize - 28 + 10])?;
                match socket.recv(&mut [0; 16]) {
                    Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => {
                        Ok((path_mtu(&socket, false) == expected).then_some(()))
                    }
                    _ => Ok(None),
                }
            })?
        })
        .unwrap();
    };
    let balancer = &network.balancer;
    told(1_480);
    balancer
        .sh(&format!("ip route add {}/32 dev eth0 mtu 1400", host.v4))
        .unwrap();
    told(1_380);
    balancer
        .sh(&format!("ip route del {}/32 dev eth0", host.v4))
        .unwrap();
    told(1_480);
    balancer.sh("ip link set eth0 mtu 1450").unwrap();
    told(1_430);
}
