//! Instances with an address of their own, which are reals of a VIP although their program knows nothing of it.

use std::sync::Arc;

use anyhow::Context as _;
use lb_drivers::{Driver, Phase};
use lb_model::pool::{Attachment, Launch, Network as Place};
use lb_tests::{Agent, AgentOptions, Host, Network, client, vip_target};

use crate::{
    conformance::{find, script, until},
    docker::{Containers, container},
    process::{Processes, runtime},
};

const VIP: &str = "192.0.2.10:80/tcp";
/// Addresses that the testbed gives to nobody.
const ADDRESSES: [&str; 2] = ["10.10.60.11", "10.10.60.12"];

/// A web server that answers every request with the instance's name.
const SERVER: &str = r#"exec /usr/bin/perl -MIO::Socket::INET -e '
$| = 1; $SIG{PIPE} = "IGNORE";
$s = IO::Socket::INET->new(LocalPort => 80, Listen => 64, ReuseAddr => 1) or die $!;
while (1) { $c = $s->accept or next; while (<$c>) { last if /^\r?$/ }
$n = $ENV{LB_INSTANCE}; print $c "HTTP/1.1 200 OK\r\nx-real: $n\r\nContent-Length: ", length $n, "\r\nConnection: close\r\n\r\n$n"; close $c }'"#;

/// A network with an agent, a client, and a host with a bridge for instances.
struct Bed {
    agent: Agent,
    client: Host,
    host: Host,
    _network: Network,
}

impl Bed {
    fn new() -> anyhow::Result<Self> {
        let network = Network::new()?;
        let client = network.client()?;
        let host = network.real()?;
        // The host is on the same network as the instances: its interface is a port of the bridge.
        for line in [
            // Higher than those of all instances: a bridge has the lowest of its ports' unless it keeps its own.
            "ip link set eth0 address fe:ff:ff:ff:ff:fe",
            "ip link add br0 type bridge mcast_snooping 0",
            "ip link set eth0 master br0",
            "ip link set br0 up",
        ] {
            host.sh(line)?;
        }
        let agent = Agent::start(&network.balancer, AgentOptions::default())?;
        agent.lbctl(["add-vip", VIP])?;
        Ok(Bed {
            agent,
            client,
            host,
            _network: network,
        })
    }

    /// Runs a future on the host, with the threads that it starts.
    fn on_host<T: Send>(
        &self,
        work: impl Future<Output = anyhow::Result<T>> + Send,
    ) -> anyhow::Result<T> {
        self.host.namespace().block_on(work)
    }

    /// The names that answer at the VIP in some requests.
    fn answers(&self) -> anyhow::Result<std::collections::BTreeSet<String>> {
        let target = vip_target(VIP)?;
        (0..40)
            .map(|_| Ok(client::get(self.client.namespace(), target, "/")?.0))
            .collect()
    }
}

fn attached(launch: Launch, address: &str) -> Launch {
    let attachment = Attachment {
        bridge: "br0".to_owned(),
        prefix: 16,
        gateway: None,
        mtu: None,
        vips: vec!["192.0.2.10".parse().unwrap()],
        encapsulated: true,
        legs: Vec::new(),
    };
    Launch {
        endpoint: format!("{address}:80").parse().unwrap(),
        network: Place::Bridge(attachment),
        ..launch
    }
}

/// Instances of the driver serve a VIP, and what is removed leaves nothing.
/// The MAC address of the bridge.
fn bridge_mac(bed: &Bed) -> anyhow::Result<String> {
    let text = bed.host.sh("ip -o link show br0")?;
    let (_, mac) = text.split_once("link/ether ").context("no MAC address")?;
    Ok(mac.split(' ').next().unwrap_or_default().to_owned())
}

fn serve(bed: &Bed, driver: &Arc<dyn Driver>, launches: &[Launch]) -> anyhow::Result<()> {
    let mac = bridge_mac(bed)?;
    bed.on_host(async {
        for launch in launches {
            driver.create(launch).await?;
            driver.start(&launch.name).await.context("starting")?;
            let listed = find(&**driver, &launch.name).await?.context("not listed")?;
            assert_eq!((listed.phase, listed.fault), (Phase::Running, None));
        }
        Ok(())
    })?;
    for launch in launches {
        let address = launch.endpoint.ip().to_string();
        bed.agent.lbctl(["add-real", VIP, &address])?;
    }
    let names: std::collections::BTreeSet<_> = launches
        .iter()
        .map(|launch| launch.name.to_string())
        .collect();
    let answers = runtime()?.block_on(until("answers of all", || async {
        let answers = bed.answers()?;
        Ok((answers == names).then_some(answers))
    }))?;
    assert_eq!(answers, names);
    assert_eq!(bridge_mac(bed)?, mac, "neighbours know the host by it");
    Ok(())
}

fn remove(bed: &Bed, driver: &Arc<dyn Driver>, launches: &[Launch]) -> anyhow::Result<()> {
    bed.on_host(async {
        for launch in launches {
            driver.remove(&launch.name).await?;
        }
        assert_eq!(driver.list().await?, []);
        Ok(())
    })?;
    let left = bed.host.sh("ip -o link show type veth")?;
    assert_eq!(left.lines().count(), 1, "{left}");
    Ok(())
}

pub fn a_process_is_a_real_of_a_vip() -> anyhow::Result<()> {
    let bed = Bed::new()?;
    let processes = Processes::new("real")?.with_agent()?;
    let driver = bed.on_host(async { processes.driver() })?;
    let launches = [
        attached(script("web-1-1", SERVER), ADDRESSES[0]),
        attached(script("web-2-1", SERVER), ADDRESSES[1]),
    ];
    serve(&bed, &driver, &launches)?;
    remove(&bed, &driver, &launches)
}

pub fn a_container_is_a_real_of_a_vip() -> anyhow::Result<()> {
    let bed = Bed::new()?;
    let mut containers = Containers::new("container")?;
    containers.processes = Processes::new("container")?.with_agent()?;
    let owner = containers.processes.owner.clone();
    let launches = [
        attached(container("web-1-1", SERVER), ADDRESSES[0]),
        attached(container("web-2-1", SERVER), ADDRESSES[1]),
    ];
    let driver = bed.on_host(async { containers.driver(&owner) })?;
    serve(&bed, &driver, &launches)?;
    remove(&bed, &driver, &launches)
}

pub fn a_fault_is_listed_and_mended() -> anyhow::Result<()> {
    let bed = Bed::new()?;
    let processes = Processes::new("fault")?.with_agent()?;
    let driver = bed.on_host(async { processes.driver() })?;
    let launch = attached(script("web-1-1", SERVER), ADDRESSES[0]);
    serve(&bed, &driver, std::slice::from_ref(&launch))?;
    let fault = || {
        bed.on_host(async {
            let listed = find(&*driver, &launch.name).await?.context("not listed")?;
            assert_eq!(listed.phase, Phase::Running);
            Ok(listed.fault)
        })
    };
    // Its decapsulator is killed.
    let companion = format!("lb-process-{}/{}.real", processes.owner, launch.name);
    let procs = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].map(|root| {
        std::path::Path::new(root)
            .join(&companion)
            .join("cgroup.procs")
    });
    let procs = procs
        .iter()
        .find(|path| path.exists())
        .context("no group")?;
    let signal = |signal| {
        for pid in std::fs::read_to_string(procs)?.lines() {
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.parse()?), signal)?;
        }
        anyhow::Ok(())
    };
    signal(nix::sys::signal::Signal::SIGKILL)?;
    let found = runtime()?.block_on(until("a fault", || async { fault() }))?;
    assert!(found.contains("no real of its VIPs"), "{found}");
    bed.on_host(async { Ok(driver.start(&launch.name).await?) })?;
    assert_eq!(fault()?, None);
    assert_eq!(bed.answers()?.len(), 1);
    // It hangs.
    signal(nix::sys::signal::Signal::SIGSTOP)?;
    let found = runtime()?.block_on(until("a fault", || async { fault() }))?;
    assert!(found.contains("hangs: it has said nothing"), "{found}");
    bed.on_host(async { Ok(driver.start(&launch.name).await?) })?;
    assert_eq!(fault()?, None);
    assert_eq!(bed.answers()?.len(), 1);
    // Its interface is removed.
    let links = bed.host.sh("ip -o link show type veth")?;
    let own = links
        .split_whitespace()
        .find_map(|word| word.strip_prefix("lb")?.split('@').next())
        .context("no interface")?;
    bed.host.sh(&format!("ip link del lb{own}"))?;
    let found = fault()?.context("no fault")?;
    assert!(found.contains("not connected"), "{found}");
    bed.on_host(async { Ok(driver.start(&launch.name).await?) })?;
    assert_eq!(fault()?, None);
    assert_eq!(bed.answers()?.len(), 1);
    remove(&bed, &driver, std::slice::from_ref(&launch))
}
