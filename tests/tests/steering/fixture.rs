//! What the tests have in common: a network with a client and reals, and an agent.

use std::{net::SocketAddr, time::Duration};

use lb_tests::{
    Agent, AgentOptions, Host, Real, Site,
    client::MqttPlan,
    server::{Mosquitto, Nginx},
    wait_for,
};
use serde_json::Value;

/// The VIP of brokers.
pub const MQTT: &str = "192.0.2.20:1883/tcp";
/// The VIP of web servers.
pub const HTTP: &str = "192.0.2.10:80/tcp";
/// The VIP of web servers that stand in for those.
pub const SORRY: &str = "192.0.2.11:80/tcp";

/// Patience for what takes seconds on a machine at rest.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A real with nginx and Mosquitto. What ends first stands first.
pub struct Behind {
    pub nginx: Option<Nginx>,
    pub mosquitto: Mosquitto,
    pub real: Option<Real>,
    pub host: Host,
}

impl Behind {
    /// Makes a host a real of `vips`.
    pub fn new(host: Host, vips: &[&str]) -> Self {
        Self {
            nginx: Some(Nginx::start(&host, 80).unwrap()),
            mosquitto: Mosquitto::start(&host, 1883).unwrap(),
            real: Some(Real::start(&host, "eth0", vips).unwrap()),
            host,
        }
    }

    /// Its address, as `lbctl` takes it.
    pub fn address(&self) -> String {
        self.host.v4.to_string()
    }
}

/// One network with a balancer, a client and reals.
pub struct Stand {
    pub agent: Agent,
    pub reals: Vec<Behind>,
    pub client: Host,
    pub site: Site,
}

impl Stand {
    /// Reals for these VIPs, and an agent that knows nothing of them yet.
    pub fn new(reals: usize, vips: &[&str]) -> Self {
        let site = Site::new().unwrap();
        let client = site.client().unwrap();
        let reals = (0..reals)
            .map(|_| Behind::new(site.real().unwrap(), vips))
            .collect();
        let agent = Agent::start(&site.balancer, AgentOptions::default()).unwrap();
        Self {
            agent,
            reals,
            client,
            site,
        }
    }

    /// Runs `lbctl` with these words.
    pub fn ctl(&self, words: &[&str]) -> String {
        self.agent.lbctl(words).unwrap()
    }

    /// Adds a VIP and these reals of it.
    pub fn serve(&self, vip: &str, options: &[&str], reals: &[&Behind]) {
        self.ctl(&[&["add-vip", vip][..], options].concat());
        for real in reals {
            self.ctl(&["add-real", vip, &real.address()]);
        }
    }

    /// A real as `lbctl why` has it.
    pub fn why(&self, vip: &str, address: &str) -> Value {
        self.agent
            .ctl_json(&format!("why {address} {vip}"))
            .unwrap()[0]
            .clone()
    }

    /// Waits until a real is in this state.
    pub fn wait_state(&self, vip: &str, address: &str, state: &str) {
        wait_for(&format!("{address} to be {state}"), PATIENCE, || {
            let why = self.agent.ctl_json(&format!("why {address} {vip}"))?;
            Ok((why[0]["real"]["state"] == state).then_some(()))
        })
        .unwrap();
    }

    /// Waits until a real was probed and found alive, and has got its part of the ring.
    pub fn wait_healthy(&self, vip: &str, address: &str) {
        wait_for(&format!("{address} to be found alive"), PATIENCE, || {
            let why = self.agent.ctl_json(&format!("why {address} {vip}"))?;
            let real = &why[0]["real"];
            let alive = why[0]["probe"]["verdict"] == "healthy" && real["state"] == "active";
            Ok((alive && real["share"].as_f64() > Some(0.0)).then_some(()))
        })
        .unwrap();
    }
}

/// A test that fails shows what the balancer thinks.
impl Drop for Stand {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for line in ["list -o wide", "load", "stats"] {
                match self.agent.ctl(line) {
                    Ok(text) => println!("--- lbctl {line}\n{text}"),
                    Err(error) => println!("--- lbctl {line}: {error:#}"),
                }
            }
            println!("--- lb-agent says\n{}", self.agent.output());
        }
    }
}

/// The address and port of a VIP's name.
pub fn target(vip: &str) -> SocketAddr {
    vip.split('/').next().unwrap().parse().unwrap()
}

/// Clients that stay connected and publish.
pub fn devices(clients: usize) -> MqttPlan {
    MqttPlan {
        target: target(MQTT),
        clients,
        messages: None,
        payload: 50,
        pause: Duration::from_millis(100),
    }
}
