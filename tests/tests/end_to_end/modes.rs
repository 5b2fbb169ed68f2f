//! Reals of one VIP that have a forwarding mode of their own.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use lb_tests::{
    Agent, Backend, Host, Network,
    client::{Connections, get, http_load},
    server::{StandardServer as _, WebAndBroker},
    wait_for,
};
use tempfile::TempDir;

use crate::{
    fixture::{HTTP_V4, HTTP_V6, PATIENCE, assert_no_failure, endless, target},
    nat::agent_with_file,
};

/// A network with a VIP of each family, whose mode is `l2`. Fields are dropped in this order.
struct Testbed {
    agent: Agent,
    _file: TempDir,
    /// Hosts with the VIPs.
    backends: Vec<Backend<WebAndBroker>>,
    /// A host without.
    plain: (WebAndBroker, Host),
    client: Host,
    network: Network,
}

impl Testbed {
    /// The modes `l2`, `ipip` and `gue` have the hosts with the VIPs, `nat` the other one.
    fn new(options: &[&str]) -> Testbed {
        let network = Network::new().unwrap();
        let client = network.client().unwrap();
        let backends: Vec<Backend<WebAndBroker>> = (0..3)
            .map(|_| Backend::start(network.real().unwrap(), &[HTTP_V4, HTTP_V6]).unwrap())
            .collect();
        // Probes leave the balancer's host as packets to the VIP, by way of any neighbour.
        for (vips, neighbour) in [
            ("192.0.2.0/24", client.v4.to_string()),
            ("2001:db8::/64", client.v6.to_string()),
        ] {
            network
                .balancer
                .sh(&format!("ip route add {vips} via {neighbour}"))
                .unwrap();
        }
        let plain = network.real().unwrap();
        let (agent, file) = agent_with_file(&network.balancer, &["eth0"]);
        let testbed = Testbed {
            agent,
            _file: file,
            backends,
            plain: (WebAndBroker::start(&plain).unwrap(), plain),
            client,
            network,
        };
        for vip in [HTTP_V4, HTTP_V6] {
            let words = [&["add-vip", vip, "--forward", "l2"], options].concat();
            testbed.agent.lbctl(&words).unwrap();
            for (host, mode) in testbed.modes() {
                let real = testbed.real(host, vip);
                let own: &[&str] = if mode == "l2" { &[] } else { &["--mode", mode] };
                let words = [&["add-real", vip, &real], own].concat();
                testbed.agent.lbctl(&words).unwrap();
            }
            testbed.wait_active(vip);
        }
        testbed
    }

    fn hosts(&self) -> impl Iterator<Item = &Host> {
        let backends = self.backends.iter().map(|backend| &backend.host);
        backends.chain([&self.plain.1])
    }

    fn modes(&self) -> impl Iterator<Item = (&Host, &'static str)> {
        self.hosts().zip(["l2", "ipip", "gue", "nat"])
    }

    fn real(&self, host: &Host, vip: &str) -> String {
        host.address_like(target(vip).ip()).to_string()
    }

    fn wait_active(&self, vip: &str) {
        wait_for("all reals to be active", PATIENCE, || {
            let list = self.agent.ctl_json(&format!("list {vip}"))?;
            let reals = list[0]["reals"].as_array().unwrap();
            Ok(reals
                .iter()
                .all(|real| real["state"] == "active")
                .then_some(()))
        })
        .unwrap();
    }

    /// Makes requests until each of these hosts has answered; each must have seen the source that its mode has.
    fn answered_by<'a>(&self, vip: &str, hosts: impl Iterator<Item = (&'a Host, &'static str)>) {
        let of_client = self.client.address_like(target(vip).ip());
        let of_balancer = self.network.balancer.address_like(target(vip).ip());
        let mut expected: BTreeMap<String, IpAddr> = hosts
            .map(|(host, mode)| {
                let source = if mode == "nat" {
                    of_balancer
                } else {
                    of_client
                };
                (host.label().to_owned(), source)
            })
            .collect();
        let all = expected.clone();
        // A real that comes back begins with a small share.
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            let (server, body) = get(&self.client, target(vip), "/").unwrap();
            let source: IpAddr = body.split_whitespace().nth(1).unwrap().parse().unwrap();
            assert_eq!(Some(&source), all.get(&server), "{server} of {vip}");
            expected.remove(&server);
            if expected.is_empty() {
                return;
            }
        }
        panic!("of {all:?}, these did not answer: {expected:?}");
    }

    /// The mode of each real in the column FORWARD of `lbctl list`.
    fn listed(&self, vip: &str) -> Vec<(String, String)> {
        let table = self.agent.ctl(&format!("list {vip}")).unwrap();
        let rows = table.lines().skip(1).map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            (words[5].to_owned(), words[1].to_owned())
        });
        let mut rows: Vec<_> = rows.collect();
        rows.sort();
        rows
    }
}

pub fn reals_of_four_modes_answer_behind_one_vip() {
    let mut testbed = Testbed::new(&[]);
    for vip in [HTTP_V4, HTTP_V6] {
        testbed.answered_by(vip, testbed.modes());
        let mut expected: Vec<(String, String)> = testbed
            .modes()
            .map(|(host, mode)| (testbed.real(host, vip), mode.to_owned()))
            .collect();
        expected.sort();
        assert_eq!(testbed.listed(vip), expected);
    }
    // Without an agent, and with another one.
    testbed.agent.kill().unwrap();
    testbed.answered_by(HTTP_V4, testbed.modes());
    testbed.agent.run().unwrap();
    for vip in [HTTP_V4, HTTP_V6] {
        testbed.wait_active(vip);
        testbed.answered_by(vip, testbed.modes());
    }
    let stats = testbed.agent.ctl_json("stats").unwrap();
    for vip in stats["vips"].as_array().unwrap() {
        assert_eq!(vip["dropped_packets"], 0, "{stats:#}");
    }
}

pub fn a_service_moves_from_one_mode_to_another_real_by_real() {
    let testbed = Testbed::new(&[]);
    let vip = HTTP_V4;
    let plain = testbed.real(&testbed.plain.1, vip);
    testbed
        .agent
        .ctl(&format!("del-real {vip} {plain}"))
        .unwrap();
    let set = |host: &Host, mode: &str| {
        let real = testbed.real(host, vip);
        testbed
            .agent
            .ctl(&format!("set-real {vip} {real} --mode {mode}"))
            .unwrap();
    };
    // None of these modes changes what reals see of their clients, so connections go on.
    let plan = endless(vip, Connections::Kept, 24, Duration::from_millis(5));
    let load = http_load(&testbed.client, plan);
    load.wait_requests(500, PATIENCE).unwrap();
    for mode in ["gue", "ipip", "none", "ipip"] {
        for backend in &testbed.backends {
            set(&backend.host, mode);
            load.wait_requests(200, PATIENCE).unwrap();
        }
    }
    testbed
        .agent
        .ctl(&format!("set-vip {vip} --forward ipip"))
        .unwrap();
    for backend in &testbed.backends {
        set(&backend.host, "none");
    }
    load.wait_requests(500, PATIENCE).unwrap();
    let report = load.stop().unwrap();
    assert_no_failure(&report);
    assert_eq!(report.connections, 24, "{report:?}");

    // With nat a real sees another client: it gets the mode while it is drained.
    let first = &testbed.backends[0].host;
    let real = testbed.real(first, vip);
    testbed.agent.ctl(&format!("drain {vip} {real}")).unwrap();
    set(first, "nat");
    testbed.agent.ctl(&format!("undrain {vip} {real}")).unwrap();
    let others = testbed.backends[1..].iter().map(|backend| &backend.host);
    let expected = others.map(|host| (host, "ipip")).chain([(first, "nat")]);
    testbed.answered_by(vip, expected);
}

pub fn probes_take_the_way_of_their_reals_mode() {
    let check =
        "tcp interval=200ms timeout=200ms unhealthy_threshold=2 healthy_threshold=1 via=tunnel";
    let mut testbed = Testbed::new(&["--check", check]);
    let verdict = |testbed: &Testbed, real: &str, wanted: &str| {
        wait_for(&format!("{real} to be {wanted}"), PATIENCE, || {
            let why = testbed.agent.ctl_json(&format!("why {real} {HTTP_V4}"))?;
            Ok((why[0]["probe"]["verdict"] == wanted).then_some(()))
        })
        .unwrap();
    };
    let reals: Vec<String> = (testbed.hosts())
        .map(|host| testbed.real(host, HTTP_V4))
        .collect();
    for real in &reals {
        verdict(&testbed, real, "healthy");
    }
    testbed.answered_by(HTTP_V4, testbed.modes());
    // Without decapsulation and VIP no clients' packet is answered, though the server's own address is.
    for (backend, real) in testbed.backends.iter_mut().zip(&reals) {
        backend.real.take().unwrap().stop().unwrap();
        wait_for(&format!("{real} to be down"), PATIENCE, || {
            let why = testbed.agent.ctl_json(&format!("why {real} {HTTP_V4}"))?;
            Ok((why[0]["real"]["state"] == "down").then_some(()))
        })
        .unwrap();
    }
    verdict(&testbed, &reals[3], "healthy");
    testbed.answered_by(HTTP_V4, [(&testbed.plain.1, "nat")].into_iter());
    // As one of mode nat, such a host serves all the same.
    testbed
        .agent
        .ctl(&format!("set-real {HTTP_V4} {} --mode nat", reals[0]))
        .unwrap();
    verdict(&testbed, &reals[0], "healthy");
    wait_for("the real to be active", PATIENCE, || {
        let why = testbed
            .agent
            .ctl_json(&format!("why {} {HTTP_V4}", reals[0]))?;
        Ok((why[0]["real"]["state"] == "active").then_some(()))
    })
    .unwrap();
    let hosts = [&testbed.plain.1, &testbed.backends[0].host];
    testbed.answered_by(HTTP_V4, hosts.map(|host| (host, "nat")).into_iter());
}
