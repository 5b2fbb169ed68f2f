//! What the tests have in common: a network with a client, reals and an agent.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::Context as _;
use lb_tests::{
    Agent, AgentOptions, Host, Real, Site,
    client::{Connections, HttpPlan, LoadReport, get},
    server::{Mosquitto, Nginx},
    wait_for,
};

/// VIPs of both families, for HTTP and for MQTT.
pub const HTTP_V4: &str = "192.0.2.10:80/tcp";
pub const HTTP_V6: &str = "[2001:db8::10]:80/tcp";
pub const MQTT_V4: &str = "192.0.2.20:1883/tcp";
pub const MQTT_V6: &str = "[2001:db8::20]:1883/tcp";

/// Patience for what takes milliseconds on a machine at rest. A request that hangs fails before.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A real with nginx and Mosquitto. What ends first stands first.
pub struct Behind {
    pub nginx: Nginx,
    mosquitto: Mosquitto,
    real: Real,
    pub host: Host,
}

impl Behind {
    /// Makes `host` a real of `vips`.
    pub fn new(host: Host, vips: &[&str]) -> Self {
        Self {
            nginx: Nginx::start(&host, 80).unwrap(),
            mosquitto: Mosquitto::start(&host, 1883).unwrap(),
            real: Real::start(&host, "eth0", vips).unwrap(),
            host,
        }
    }

    fn ask_to_end(&mut self) {
        self.nginx.ask_to_end();
        self.mosquitto.ask_to_end();
        self.real.ask_to_end();
    }

    /// Its address of one family, as `lbctl` takes it.
    pub fn address(&self, v6: bool) -> String {
        if v6 {
            self.host.v6.to_string()
        } else {
            self.host.v4.to_string()
        }
    }
}

/// One network with a balancer, a client and reals.
pub struct Stand {
    pub agent: Agent,
    pub reals: Vec<Behind>,
    pub client: Host,
    pub vips: Vec<&'static str>,
    pub site: Site,
}

impl Stand {
    /// Reals for `vips`, and an agent that knows nothing of them yet.
    pub fn new(reals: usize, vips: &[&'static str], options: AgentOptions) -> Self {
        let site = Site::new().unwrap();
        let client = site.client().unwrap();
        let reals = (0..reals)
            .map(|_| Behind::new(site.real().unwrap(), vips))
            .collect();
        let agent = Agent::start(&site.balancer, options).unwrap();
        Self {
            agent,
            reals,
            client,
            vips: vips.to_vec(),
            site,
        }
    }

    /// Adds a VIP with all reals at these weights (the last one repeats), by addresses of one family, and
    /// waits until the ways to them are known.
    pub fn serve(&self, vip: &str, options: &str, v6_reals: bool, weights: &[u16]) {
        let last = *weights.last().unwrap();
        let weights = weights.iter().copied().chain(std::iter::repeat(last));
        let reals: Vec<(String, u16)> = self
            .reals
            .iter()
            .map(|real| real.address(v6_reals))
            .zip(weights)
            .collect();
        self.agent.add_service(vip, options, &reals).unwrap();
        wait_for("the ways to the reals to be known", PATIENCE, || {
            let list = self.agent.ctl_json(&format!("list {vip}"))?;
            let reals = list[0]["reals"].as_array().context("a list of reals")?;
            Ok(reals
                .iter()
                .all(|real| real["state"] != "unreachable")
                .then_some(()))
        })
        .unwrap();
    }

    /// The names of all reals.
    pub fn names(&self) -> BTreeSet<String> {
        self.reals
            .iter()
            .map(|real| real.host.label().to_owned())
            .collect()
    }

    /// The counters of one VIP, as `lbctl` prints them.
    pub fn stats(&self, vip: &str) -> serde_json::Value {
        self.agent.ctl_json(&format!("stats {vip}")).unwrap()["vips"][0].clone()
    }
}

/// A test that fails shows what the balancer thinks. Everything ends at the same time.
impl Drop for Stand {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for verb in ["list", "stats", "status"] {
                match self.agent.ctl(verb) {
                    Ok(text) => println!("--- lbctl {verb}\n{text}"),
                    Err(error) => println!("--- lbctl {verb}: {error:#}"),
                }
            }
            println!("--- lb-agent says\n{}", self.agent.output());
        }
        self.agent.ask_to_end();
        self.reals.iter_mut().for_each(Behind::ask_to_end);
    }
}

/// The address and port of a VIP's name.
pub fn target(vip: &str) -> SocketAddr {
    vip.split('/').next().unwrap().parse().unwrap()
}

/// Asks the VIP on new connections until every real has answered; each must have seen the client's own
/// address.
pub fn every_real_answers(client: &Host, vip: &str, names: &BTreeSet<String>) {
    let target = target(vip);
    let mut seen = BTreeSet::new();
    // With three equal reals, that one is missed by all of them happens once in 10^50.
    for _ in 0..300 {
        let (server, body) = get(client, target, "/").unwrap();
        let source: IpAddr = body.split_whitespace().nth(1).unwrap().parse().unwrap();
        assert_eq!(
            source,
            client.address_like(target.ip()),
            "{server} saw another client"
        );
        assert!(names.contains(&server), "{server} is none of {names:?}");
        seen.insert(server);
        if seen == *names {
            return;
        }
    }
    panic!("only {seen:?} of {names:?} answered");
}

/// A load that runs until it is stopped.
pub fn endless(vip: &str, connections: Connections, workers: usize, pause: Duration) -> HttpPlan {
    HttpPlan {
        target: target(vip),
        workers,
        connections,
        pause,
        requests: None,
    }
}

/// No request may have failed, and there must have been some.
pub fn assert_whole(report: &LoadReport) {
    assert_eq!(
        report.failed, 0,
        "of {} requests: {:?}",
        report.requests, report.errors
    );
    assert!(report.requests > 0);
}
