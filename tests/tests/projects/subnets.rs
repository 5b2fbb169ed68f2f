//! Subnets of projects: networks of their own that cannot reach each other.

use std::{
    fs::File,
    net::{SocketAddr, TcpStream},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use lb_tests::{Controller, Namespace, cable_without_xdp, server::Nginx, wait_for};
use nix::sched::{CloneFlags, setns};
use serde_json::Value;

use crate::{
    bed::{Bed, PATIENCE, address},
    names::{dns, look_up},
};

/// How long a connection may take that is to fail.
const SHORT: Duration = Duration::from_millis(800);

/// A web server of a tenant, in a subnet.
struct Server {
    namespace: Namespace,
    /// The interface on the host.
    port: String,
    _nginx: Nginx,
}

impl Server {
    /// Starts one at an address, and connects it to a bridge of a host, as a hypervisor would.
    fn start(host: &Namespace, bridge: &str, label: &str, address: &str) -> anyhow::Result<Self> {
        static PORTS: AtomicU32 = AtomicU32::new(0);
        let namespace = Namespace::new(label)?;
        let port = format!("tenant{}", PORTS.fetch_add(1, Ordering::Relaxed));
        cable_without_xdp(
            (host, &port, &[]),
            (&namespace, "eth0", &[format!("{address}/24")]),
        )?;
        host.sh(&format!("ip link set {port} master {bridge}"))?;
        let nginx = Nginx::start(&namespace, 80)?;
        Ok(Server {
            namespace,
            port,
            _nginx: nginx,
        })
    }
}

fn bridge(bed: &Bed, project: &str, subnet: &str) -> anyhow::Result<String> {
    let shown = wait_ready(bed, project, subnet)?;
    Ok(shown["bridge"].as_str().context("no bridge")?.to_owned())
}

fn wait_ready(bed: &Bed, project: &str, subnet: &str) -> anyhow::Result<Value> {
    let waited = wait_for("the subnet to be ready", PATIENCE, || {
        let shown = bed.read(&format!("subnet show {project} {subnet}"))?;
        let is_newest = shown["generation"] == shown["observed_generation"];
        ensure!(
            shown["conditions"][0]["value"] == true && is_newest,
            "{shown}"
        );
        Ok(Some(shown))
    });
    waited.with_context(|| bed.controller.output())
}

/// Whether a connection is made from the network namespace of a process.
fn reaches(pid: i32, target: &str) -> anyhow::Result<bool> {
    let file = File::open(format!("/proc/{pid}/ns/net"))?;
    connects(target, move || Ok(setns(&file, CloneFlags::CLONE_NEWNET)?))
}

fn connects(
    target: &str,
    enter: impl FnOnce() -> anyhow::Result<()> + Send,
) -> anyhow::Result<bool> {
    let target: SocketAddr = target.parse()?;
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            enter()?;
            Ok(TcpStream::connect_timeout(&target, SHORT).is_ok())
        });
        thread.join().unwrap()
    })
}

/// The first process of the first node of a load balancer.
fn node(bed: &Bed, balancer: &Value) -> anyhow::Result<i32> {
    let name = balancer["nodes"][0]["name"].as_str().context("no node")?;
    let processes = bed.controller.processes(name);
    processes.first().copied().context("it does not run")
}

/// The addresses of a server's interfaces in a node, as `ip` shows them.
fn addresses_of(pid: i32) -> anyhow::Result<String> {
    let output = std::process::Command::new("nsenter")
        .arg(format!("--net=/proc/{pid}/ns/net"))
        .args(["ip", "-o", "-4", "addr"])
        .output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

pub fn two_projects_with_the_same_addresses_reach_only_their_own() -> anyhow::Result<()> {
    let bed = Bed::with("same", 0, dns)?;
    let host = bed.host.namespace();
    // A host that forwards, as one with Docker does: namespaces begin with this setting.
    host.sysctl("net/ipv4/ip_forward", "1")?;
    let mut servers = Vec::new();
    for project in ["shop", "bank"] {
        bed.run(&format!("project add {project}"))?;
        let added = bed.run(&format!("subnet add {project} back cidr=10.0.0.0/24"))?;
        ensure!(added.contains("10.0.0.0/24 on bridge lbs"), "{added}");
        let bridge = bridge(&bed, project, "back")?;
        servers.push(Server::start(host, &bridge, project, "10.0.0.11")?);
        bed.run(&format!(
            "lb add {project} web --backend 10.0.0.11 subnet=back check.kind=http check.interval=500ms --wait 60"
        ))?;
    }
    // One that only the bank has.
    let bank = bridge(&bed, "bank", "back")?;
    let further = Server::start(host, &bank, "further", "10.0.0.12")?;
    for project in ["shop", "bank"] {
        let balancer = bed.wait_complete(project, "web", 1)?;
        let name = format!("web.{project}.lb.example");
        let found = wait_for(&name, PATIENCE, || {
            Ok(look_up(&bed, &name)?.into_iter().next())
        })?;
        ensure!(found == address(&balancer)?, "{found}");
        for _ in 0..20 {
            let answer = bed.ask(&found, 80)?;
            ensure!(answer == project, "{project} is answered by {answer}");
        }
        let pid = node(&bed, &balancer)?;
        let addresses = addresses_of(pid)?;
        ensure!(addresses.contains("10.0.0.128/24"), "{addresses}");
        ensure!(reaches(pid, "10.0.0.11:80")?, "its own server");
        let is_bank = project == "bank";
        ensure!(reaches(pid, "10.0.0.12:80")? == is_bank, "{project}");
    }
    // Nobody on the nodes' own network reaches a subnet through a node, although each node has a leg in both.
    let client = bed.clients.namespace();
    let node_address = address(&bed.wait_complete("shop", "web", 1)?)?;
    client.sh(&format!("ip route add 10.0.0.0/24 via {node_address}"))?;
    ensure!(
        !connects("10.0.0.11:80", || client.move_thread())?,
        "a node forwards"
    );
    // The host neither takes part nor forwards, although a server sends it what it will.
    let link = host.sh(&format!("ip -o link show {bank}"))?;
    let (_, mac) = link.split_once("link/ether ").context("no MAC address")?;
    let mac = mac.split(' ').next().context("no MAC address")?.to_owned();
    let tenant = &further.namespace;
    let (of_host, of_client) = (bed.host.v4, bed.clients.v4);
    for target in [of_host, of_client] {
        tenant.sh(&format!("ip route add {target}/32 dev eth0"))?;
        tenant.sh(&format!("ip neigh add {target} lladdr {mac} dev eth0"))?;
    }
    let _client_server = Nginx::start(client, 80)?;
    let to_host = || connects(&format!("{of_host}:53"), || tenant.move_thread());
    let to_client = || connects(&format!("{of_client}:80"), || tenant.move_thread());
    ensure!(!to_host()?, "the host takes packets of a subnet");
    ensure!(!to_client()?, "the host forwards packets of a subnet");
    ensure!(
        !connects("10.0.0.12:80", || host.move_thread())?,
        "the host is in a subnet"
    );
    // With an address, it takes part, and still forwards nothing. Answers could return.
    client.sh("ip route del 10.0.0.0/24")?;
    client.sh(&format!("ip route add 10.0.0.0/24 via {of_host}"))?;
    bed.run("subnet set bank back gateway=10.0.0.1")?;
    wait_ready(&bed, "bank", "back")?;
    ensure!(
        connects("10.0.0.12:80", || host.move_thread())?,
        "the host reaches a server"
    );
    ensure!(to_host()?, "a server reaches the host");
    ensure!(!to_client()?, "the host forwards packets of a subnet");
    let text = bed.refused("subnet set shop back gateway=10.0.0.2")?;
    ensure!(text.contains("could not tell the two apart"), "{text}");
    bed.run("subnet set bank back gateway=")?;
    wait_ready(&bed, "bank", "back")?;
    ensure!(!to_host()?, "the host is out again");
    ensure!(
        !connects("10.0.0.12:80", || host.move_thread())?,
        "the host is out again"
    );
    Ok(())
}

pub fn a_bridge_that_is_deleted_by_hand_comes_back() -> anyhow::Result<()> {
    let mut bed = Bed::new("bridge", 0)?;
    bed.run("project add shop")?;
    bed.run("subnet add shop back cidr=10.0.0.0/24")?;
    let bridge = bridge(&bed, "shop", "back")?;
    let host = bed.host.namespace().clone();
    let server = Server::start(&host, &bridge, "one", "10.0.0.11")?;
    bed.run("lb add shop web --backend 10.0.0.11 subnet=back --wait 60")?;
    let before = bed.wait_complete("shop", "web", 1)?;
    let at = address(&before)?;
    ensure!(bed.ask(&at, 80)? == "one", "it is answered");
    // As soon as the task has seen the ports.
    wait_for("both ports", PATIENCE, || {
        let ports = wait_ready(&bed, "shop", "back")?["ports"].clone();
        Ok((ports.as_array().map(Vec::len) == Some(2)).then_some(()))
    })?;
    let again = |bed: &Bed, what: &str| {
        let begin = Instant::now();
        let waited = wait_for("answers", PATIENCE, || {
            ensure!(bed.ask(&at, 80)? == "one", "another answer");
            Ok(Some(()))
        });
        waited.with_context(|| bed.controller.output())?;
        println!("{what}: answers again after {:?}", begin.elapsed());
        anyhow::Ok(())
    };
    host.sh(&format!("ip link del {bridge}"))?;
    again(&bed, "a bridge that was deleted")?;
    // One whose port was taken off, and one that is down.
    let ports = wait_ready(&bed, "shop", "back")?["ports"].clone();
    let ports = ports.as_array().context("no ports")?.iter();
    let own = ports
        .filter_map(Value::as_str)
        .find(|port| *port != server.port);
    let own = own.context("no port of the node")?;
    host.sh(&format!("ip link set {own} nomaster"))?;
    again(&bed, "a port that was taken off")?;
    host.sh(&format!("ip link set {bridge} down"))?;
    again(&bed, "a bridge that was down")?;
    let log = bed.controller.output();
    ensure!(log.contains("was not as it is wanted"), "{log}");
    // While nobody looks: the controller makes it again, and connects what is its own.
    bed.controller.kill()?;
    host.sh(&format!("ip link del {bridge}"))?;
    bed.controller.run()?;
    wait_ready(&bed, "shop", "back")?;
    host.sh(&format!("ip link set {} master {bridge}", server.port))?;
    again(&bed, "a bridge that was deleted while no controller ran")?;
    let after = bed.wait_complete("shop", "web", 1)?;
    ensure!(
        after["nodes"] == before["nodes"],
        "no node was replaced: {after}"
    );
    Ok(())
}

pub fn a_load_balancer_moves_between_subnets_and_gives_its_addresses_back() -> anyhow::Result<()> {
    let bed = Bed::new("moves", 0)?;
    bed.run("project add shop")?;
    let host = bed.host.namespace();
    let mut bridges = Vec::new();
    let mut servers = Vec::new();
    // Of the first one, addresses for one load balancer.
    for (name, cidr, at) in [
        (
            "one",
            "10.0.0.0/24 range=10.0.0.20-10.0.0.21/24",
            "10.0.0.11",
        ),
        ("two", "10.0.1.0/24", "10.0.1.11"),
    ] {
        bed.run(&format!("subnet add shop {name} cidr={cidr}"))?;
        let bridge = bridge(&bed, "shop", name)?;
        servers.push(Server::start(host, &bridge, name, at)?);
        bridges.push(bridge);
    }
    bed.run("lb add shop web --backend 10.0.0.11 subnet=one --wait 60")?;
    let at = address(&bed.wait_complete("shop", "web", 1)?)?;
    ensure!(bed.ask(&at, 80)? == "one", "the first");
    let text = bed.refused("lb add shop other --backend 10.0.0.11 subnet=one")?;
    ensure!(
        text.contains("the subnet one has no 2 addresses in a row left"),
        "{text}"
    );
    let text = bed.refused("subnet del shop one")?;
    ensure!(
        text.contains("the load balancers web are in the subnet one"),
        "{text}"
    );
    bed.run("lb set shop web --backend 10.0.1.11 subnet=two")?;
    let moved = bed.wait_complete("shop", "web", 1)?;
    wait_for("the second to answer", PATIENCE, || {
        ensure!(bed.ask(&at, 80)? == "two", "the first");
        Ok(Some(()))
    })?;
    let addresses = addresses_of(node(&bed, &moved)?)?;
    ensure!(
        addresses.contains("10.0.1.128/24") && !addresses.contains("10.0.0."),
        "{addresses}"
    );
    // Its addresses are free, now that no node has them.
    wait_for("the addresses to be free", PATIENCE, || {
        let shown = bed.read("subnet show shop one")?;
        Ok((shown["leases"].as_array().map(Vec::len) == Some(0)).then_some(()))
    })?;
    bed.run("lb add shop other --backend 10.0.0.11 subnet=one --wait 60")?;
    let other = address(&bed.wait_complete("shop", "other", 1)?)?;
    ensure!(bed.ask(&other, 80)? == "one", "the first");
    let shown = bed.run("subnet show shop one")?;
    ensure!(shown.contains("10.0.0.20-10.0.0.21/24"), "{shown}");
    let list = bed.run("subnet list shop")?;
    ensure!(
        list.contains("10.0.1.0/24") && list.contains(&bridges[1]),
        "{list}"
    );
    // With everything, the subnet goes after its load balancer.
    bed.run("subnet del shop one --everything")?;
    wait_for("the subnet to be gone", PATIENCE, || {
        let list = bed.read("subnet list shop")?;
        ensure!(list.as_array().map(Vec::len) == Some(1), "{list}");
        Ok(Some(()))
    })?;
    let links = host.sh("ip -o link show type bridge")?;
    ensure!(
        !links.contains(&bridges[0]) && links.contains(&bridges[1]),
        "{links}"
    );
    ensure!(
        bed.refused("lb show shop other")?
            .contains("no load balancer other"),
        "it is gone"
    );
    let text = bed.refused("project del shop")?;
    ensure!(
        text.contains("the load balancers web and the subnets two"),
        "{text}"
    );
    bed.run("project del shop --everything")?;
    wait_for("the project to be gone", PATIENCE, || {
        let list = bed.read("project list")?;
        ensure!(list.as_array().is_some_and(Vec::is_empty), "{list}");
        Ok(Some(()))
    })?;
    let links = host.sh("ip -o link show type bridge")?;
    ensure!(!links.contains("lbs"), "{links}");
    Ok(())
}

pub fn wrong_subnets_are_refused_with_advice() -> anyhow::Result<()> {
    let bed = Bed::new("refused", 0)?;
    for project in ["shop", "bank"] {
        bed.run(&format!("project add {project} quota.subnets=2"))?;
    }
    bed.run("subnet add shop back cidr=10.0.0.0/24 vxlan.id=7")?;
    bed.run("subnet add bank back cidr=10.0.0.0/24")?;
    let before = bed.read("subnet list")?;
    let foreign = before[1]["id"].to_string();
    for (line, words) in [
        (
            "subnet add shop front cidr=10.0.0.128/25",
            "the subnet back has 10.0.0.0/24",
        ),
        (
            "subnet add shop front cidr=10.0.0.0/30",
            "cidr: 10.0.0.0/30: too small",
        ),
        ("subnet add shop front", "cidr: not set"),
        (
            "subnet add shop back cidr=10.1.0.0/24",
            "a subnet back in project shop already",
        ),
        ("subnet add zoo back cidr=10.1.0.0/24", "no project zoo"),
        (
            "subnet add shop front cidr=10.1.0.0/24 gateway=10.2.0.1",
            "gateway: 10.2.0.1: no address of the subnet",
        ),
        ("subnet add shop front cidr=10.1.0.0/24 colour=1", "colour"),
        (
            "subnet set bank back vxlan.id=7",
            "vxlan.id: 7: a subnet of another project has it",
        ),
        (
            "subnet set shop back cidr=10.1.0.0/24",
            "a subnet keeps its addresses",
        ),
        (format!("subnet show shop {foreign}").as_str(), "no subnet"),
        (
            format!("subnet set shop {foreign} mtu=1400").as_str(),
            "no subnet",
        ),
        (format!("subnet del shop {foreign}").as_str(), "no subnet"),
        (
            "lb add shop web subnet=nowhere",
            "subnet: nowhere: there is no subnet nowhere in project shop",
        ),
        (
            "project set bank quota.subnets=0",
            "may have 0 subnets, and would have 1",
        ),
        ("project del bank", "the project bank has the subnets back"),
    ] {
        let text = bed.refused(line)?;
        ensure!(text.contains(words), "{line}: {text}");
        let settings = |list: &Value| -> Vec<Value> {
            let list = list.as_array().unwrap().iter();
            list.map(|one| one["settings"].clone()).collect()
        };
        ensure!(
            settings(&bed.read("subnet list")?) == settings(&before),
            "{line}"
        );
    }
    bed.run("subnet add shop nodes cidr=10.10.60.0/24")?;
    let text = bed.refused("lb add shop web subnet=nodes")?;
    ensure!(
        text.contains("overlap with those of the nodes' own network, 10.10.0.0/16"),
        "{text}"
    );
    let text = bed.refused("subnet add shop third cidr=10.2.0.0/24")?;
    ensure!(
        text.contains("may have 2 subnets, and would have 3"),
        "{text}"
    );
    // What is in the way says so, and goes on when it is gone.
    bed.run("subnet set shop back vxlan.underlay=nowhere0")?;
    wait_for("the trouble", PATIENCE, || {
        let shown = bed.run("subnet show shop back")?;
        Ok(shown
            .contains("! ready: there is no interface nowhere0")
            .then_some(()))
    })?;
    bed.host
        .namespace()
        .sh("ip link add nowhere0 type veth peer name nowhere1")?;
    wait_ready(&bed, "shop", "back")?;
    // The same as REST.
    let path = "/v1/projects/shop/subnets/back";
    let (status, subnet) = bed.http("GET", path, None)?;
    ensure!(
        status == 200 && subnet["settings"]["vxlan"]["id"] == 7,
        "{subnet}"
    );
    let (status, answer) = bed.http("PATCH", path, Some(r#"{"mtu": 70000}"#))?;
    ensure!(status == 422 && answer["field"] == "mtu", "{answer}");
    let (status, _) = bed.http("DELETE", path, None)?;
    ensure!(status == 202, "{status}");
    let (status, list) = bed.http("GET", "/v1/subnets", None)?;
    ensure!(
        status == 200 && list["subnets"].as_array().is_some(),
        "{list}"
    );
    let (_, metrics) = bed.http_text("/metrics")?;
    ensure!(
        metrics.contains("lb_controller_subnets{state=\"ready\"}"),
        "{metrics}"
    );
    Ok(())
}

pub fn a_subnet_spans_two_hosts() -> anyhow::Result<()> {
    let bed = Bed::new("vxlan", 1)?;
    let other = &bed.servers[0].0;
    bed.run("project add shop")?;
    bed.run(&format!(
        "subnet add shop back cidr=10.0.0.0/24 vxlan.id=42 vxlan.underlay=br0 vxlan.peers=['{}']",
        other.v4
    ))?;
    let here = bridge(&bed, "shop", "back")?;
    // The other host has a controller of its own.
    let name = lb_tests::owner("vxlan-other");
    let controller = Controller::start(Some(other.namespace()), &name, &[])?;
    controller.lbctl("project", &["add", "shop"])?;
    let peers = format!("vxlan.peers=['{}']", bed.host.v4);
    let words = [
        "add",
        "shop",
        "back",
        "cidr=10.0.0.0/24",
        "vxlan.id=42",
        "vxlan.underlay=eth0",
        &peers,
    ];
    controller.lbctl("subnet", &words)?;
    let there = wait_for("the bridge of the other host", PATIENCE, || {
        let text = controller.lbctl("subnet", &["show", "shop", "back", "-o", "json"])?;
        let shown: Value = serde_json::from_str(&text)?;
        ensure!(shown["conditions"][0]["value"] == true, "{shown}");
        Ok(shown["bridge"].as_str().map(str::to_owned))
    })?;
    let _server = Server::start(other.namespace(), &there, "remote", "10.0.0.11")?;
    bed.run("lb add shop web --backend 10.0.0.11 subnet=back --wait 60")?;
    let balancer = bed.wait_complete("shop", "web", 1)?;
    let at = address(&balancer)?;
    let answered = wait_for("an answer", PATIENCE, || {
        ensure!(bed.ask(&at, 80)? == "remote", "another server");
        Ok(Some(()))
    });
    answered.with_context(|| bed.controller.output())?;
    // Its MTU leaves room for the outer headers.
    let links = bed
        .host
        .namespace()
        .sh(&format!("ip -o link show {here}"))?;
    ensure!(links.contains("mtu 1450"), "{links}");
    // The VXLAN is deleted by hand, and its peer is taken off.
    let vxlan = here.replacen("lbs", "lbv", 1);
    for line in [
        format!("ip link del {vxlan}"),
        format!(
            "bridge fdb del 00:00:00:00:00:00 dev {vxlan} dst {} self",
            other.v4
        ),
    ] {
        bed.host.namespace().sh(&line)?;
        // Stations that are known by now would still be reached.
        let fdb = wait_for("the peer to be back", PATIENCE, || {
            let fdb = bed.host.namespace().sh("bridge fdb show")?;
            let peer = format!("dev {vxlan} dst {}", other.v4);
            Ok(fdb.contains(&peer).then_some(fdb))
        });
        fdb.with_context(|| bed.controller.output())?;
        wait_for("an answer", PATIENCE, || {
            ensure!(bed.ask(&at, 80)? == "remote", "another server");
            Ok(Some(()))
        })?;
    }
    // Another id is another network.
    bed.run("subnet set shop back vxlan.id=43")?;
    wait_for("no answer", PATIENCE, || {
        Ok(bed.ask(&at, 80).is_err().then_some(()))
    })?;
    bed.run("subnet set shop back vxlan.id=42")?;
    wait_for("an answer", PATIENCE, || {
        ensure!(bed.ask(&at, 80)? == "remote", "another server");
        Ok(Some(()))
    })?;
    Ok(())
}
