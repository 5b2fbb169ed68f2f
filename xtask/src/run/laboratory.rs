//! What `cargo xtask run` builds: reals behind four VIPs, clients, and the agent between them.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context as _;
use lb_tests::{
    Agent, AgentOptions, Host, Real, Site,
    client::{Connections, HttpPlan, Load, MqttPlan, http_load, mqtt_load},
    server::{Mosquitto, Nginx},
};

use super::{interrupt::Interrupt, report::Client};

/// HTTP, both families.
const HTTP: [&str; 2] = ["192.0.2.10:80/tcp", "[2001:db8::10]:80/tcp"];
/// MQTT, both families; their flows are tracked, so that live flows are exact.
const MQTT: [&str; 2] = ["192.0.2.20:1883/tcp", "[2001:db8::20]:1883/tcp"];

/// Weights of the reals for HTTP; for MQTT all have the same.
const HTTP_WEIGHTS: [u16; 3] = [100, 200, 300];
const MQTT_WEIGHTS: [u16; 3] = [100, 100, 100];

/// A server, whichever it is; kept for its life and to see whether it still runs.
enum Server {
    Nginx(Nginx),
    Mosquitto(Mosquitto),
}

/// A real: its host, what makes it one, and its server. Fields go in this order.
struct Behind {
    server: Server,
    real: Real,
    host: Host,
}

/// A group of clients.
struct Group {
    name: &'static str,
    vip: &'static str,
    load: Load,
}

/// Everything there is. Dropping it removes everything, however far it came; fields go in this order.
pub struct Laboratory {
    groups: Vec<Group>,
    behind: Vec<Behind>,
    agent: Option<Agent>,
    clients: Vec<Host>,
    site: Site,
}

impl Laboratory {
    /// The network, with nothing in it yet.
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self {
            groups: Vec::new(),
            behind: Vec::new(),
            agent: None,
            clients: Vec::new(),
            site: Site::new()?,
        })
    }

    /// Builds reals and balancer and configures it; says what it does.
    pub fn set_up(&mut self, interrupt: &Interrupt) -> anyhow::Result<()> {
        println!(
            "laboratory: a switch, one balancer, two clients, three reals for HTTP and three for MQTT"
        );
        for _ in 0..2 {
            self.clients.push(self.site.client()?);
        }
        for _ in HTTP_WEIGHTS {
            interrupt.check()?;
            self.add_real(&HTTP, |host| Ok(Server::Nginx(Nginx::start(host, 80)?)))?;
        }
        for _ in MQTT_WEIGHTS {
            interrupt.check()?;
            self.add_real(&MQTT, |host| {
                Ok(Server::Mosquitto(Mosquitto::start(host, 1883)?))
            })?;
        }
        let agent = Agent::start(&self.site.balancer, AgentOptions::default())?;
        println!(
            "lb-agent: attached to eth0 of the balancer's namespace, API at {}",
            agent.endpoint()
        );
        println!("\n    export LB_ENDPOINT={}", agent.endpoint());
        let agent = self.agent.insert(agent);
        let (http, mqtt) = self.behind.split_at(HTTP_WEIGHTS.len());
        configure(
            agent,
            &HTTP,
            http,
            &HTTP_WEIGHTS,
            " --check http",
            interrupt,
        )?;
        let options = " --track all --check mqtt --on-down reset";
        configure(agent, &MQTT, mqtt, &MQTT_WEIGHTS, options, interrupt)
    }

    fn add_real(
        &mut self,
        vips: &[&str],
        serve: impl FnOnce(&Host) -> anyhow::Result<Server>,
    ) -> anyhow::Result<()> {
        let host = self.site.real()?;
        let server = serve(&host)?;
        let real = Real::start(&host, "eth0", vips)?;
        self.behind.push(Behind { server, real, host });
        Ok(())
    }

    /// Lets the clients begin.
    pub fn start_clients(&mut self) -> anyhow::Result<()> {
        let [first, second] = &self.clients[..] else {
            anyhow::bail!("the laboratory is not set up");
        };
        for (client, http, mqtt) in [(first, HTTP[0], MQTT[0]), (second, HTTP[1], MQTT[1])] {
            for (name, connections, workers) in [
                ("HTTP on kept connections", Connections::Kept, 12),
                ("HTTP on new connections", Connections::New, 4),
            ] {
                let plan = HttpPlan {
                    target: target(http)?,
                    workers,
                    connections,
                    pause: Duration::from_millis(10),
                    requests: None,
                };
                self.groups.push(Group {
                    name,
                    vip: http,
                    load: http_load(client, plan),
                });
            }
            let plan = MqttPlan {
                target: target(mqtt)?,
                clients: 30,
                messages: Some(200),
                payload: 64,
                pause: Duration::from_millis(50),
            };
            self.groups.push(Group {
                name: "MQTT publishing, QoS 1",
                vip: mqtt,
                load: mqtt_load(client, plan),
            });
        }
        Ok(())
    }

    /// Lets the clients end what they have begun, and gives what they saw.
    pub fn stop_clients(&mut self) -> anyhow::Result<Vec<Client>> {
        self.groups
            .iter()
            .for_each(|group| group.load.ask_to_stop());
        self.groups
            .drain(..)
            .map(|group| {
                Ok(Client {
                    name: group.name.to_owned(),
                    vip: group.vip.to_owned(),
                    record: group.load.stop()?,
                })
            })
            .collect()
    }

    /// What the clients have seen so far.
    pub fn clients(&self) -> Vec<Client> {
        self.groups
            .iter()
            .map(|group| Client {
                name: group.name.to_owned(),
                vip: group.vip.to_owned(),
                record: group.load.report(),
            })
            .collect()
    }

    /// Where the agent's API is.
    pub fn endpoint(&self) -> anyhow::Result<String> {
        Ok(self.agent()?.endpoint())
    }

    /// What `lbctl -o json VERB` prints.
    pub fn read<T: serde::de::DeserializeOwned>(&self, verb: &str) -> anyhow::Result<T> {
        serde_json::from_value(self.agent()?.ctl_json(verb)?)
            .with_context(|| format!("reading what `lbctl -o json {verb}` prints"))
    }

    /// Whether the agent and all reals still run.
    pub fn check(&mut self) -> anyhow::Result<()> {
        if let Some(agent) = &mut self.agent {
            agent.check()?;
        }
        self.behind.iter_mut().try_for_each(Behind::check)
    }

    fn agent(&self) -> anyhow::Result<&Agent> {
        self.agent.as_ref().context("there is no agent yet")
    }
}

impl Drop for Laboratory {
    fn drop(&mut self) {
        // All at the same time; then each value waits for the rest of its own.
        self.groups
            .iter()
            .for_each(|group| group.load.ask_to_stop());
        if let Some(agent) = &mut self.agent {
            agent.ask_to_end();
        }
        self.behind.iter_mut().for_each(Behind::ask_to_end);
    }
}

impl Behind {
    fn check(&mut self) -> anyhow::Result<()> {
        self.real.check()?;
        match &mut self.server {
            Server::Nginx(nginx) => nginx.check(),
            Server::Mosquitto(mosquitto) => mosquitto.check(),
        }
    }

    fn ask_to_end(&mut self) {
        self.real.ask_to_end();
        match &mut self.server {
            Server::Nginx(nginx) => nginx.ask_to_end(),
            Server::Mosquitto(mosquitto) => mosquitto.ask_to_end(),
        }
    }
}

/// Adds the VIPs and their reals, and shows the commands.
fn configure(
    agent: &Agent,
    vips: &[&str],
    behind: &[Behind],
    weights: &[u16],
    options: &str,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    for vip in vips {
        interrupt.check()?;
        lbctl(agent, &format!("add-vip {vip} --forward ipip{options}"))?;
        let target = target(vip)?;
        for (real, weight) in behind.iter().zip(weights) {
            let address = real.host.address_like(target.ip());
            lbctl(
                agent,
                &format!("add-real {vip} {address} --weight {weight}"),
            )?;
        }
    }
    Ok(())
}

fn lbctl(agent: &Agent, line: &str) -> anyhow::Result<()> {
    println!("    lbctl {line}");
    agent.ctl(line)?;
    Ok(())
}

/// The address and port of a VIP's name.
fn target(vip: &str) -> anyhow::Result<SocketAddr> {
    let address = vip.split('/').next().unwrap_or(vip);
    address
        .parse()
        .with_context(|| format!("{vip} is no name of a VIP"))
}
