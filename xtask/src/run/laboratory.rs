//! What `cargo xtask run` builds: reals behind four VIPs, clients, and the agent between them.

use std::{net::SocketAddr, time::Instant};

use anyhow::Context as _;
use lb_tests::{Agent, AgentOptions, Cgroup, Host, Limits, Site};

use super::{
    broker::{Broker, REPORT_PORT},
    clients::{Client, Clients},
    episode::Outage,
    interrupt::Interrupt,
    script::Deed,
    stats::Stats,
    web::Web,
    why::Why,
};

/// HTTP, both families.
const HTTP: [&str; 2] = ["192.0.2.10:80/tcp", "[2001:db8::10]:80/tcp"];
/// MQTT, both families; their flows are tracked, so that live flows are exact.
const MQTT: [&str; 2] = ["192.0.2.20:1883/tcp", "[2001:db8::20]:1883/tcp"];

/// Weights of the web servers.
const HTTP_WEIGHTS: [u16; 3] = [100, 200, 300];

/// Parts of a core that the brokers' hosts have. The operator gives all the same weight: that they differ is for
/// the balancer to find out.
const CORES: [f64; 4] = [0.05, 0.07, 0.1, 0.15];

/// Quick, so that a minute shows much. A broker that dies is out after 3.4 s at most.
const CHECK: &str = "mqtt interval=1s fast_interval=400ms timeout=800ms";
const STEERING: &str = "capacity period=1s slow_start=6s healthy_for=2s life_over=30s flap_within=20s \
    overload_back_periods=2";
/// The brokers tell how many clients they have; how busy their hosts are the reporters tell.
const CLIENTS: &str = "mosquitto interval=1s";

/// Everything there is. Dropping it removes everything, however far it came; fields go in this order.
pub struct Laboratory {
    clients: Clients,
    webs: Vec<Web>,
    brokers: Vec<Broker>,
    agent: Option<Agent>,
    hosts: Vec<Host>,
    site: Site,
    limits: bool,
}

impl Laboratory {
    /// The network, with nothing in it yet.
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self {
            clients: Clients::default(),
            webs: Vec::new(),
            brokers: Vec::new(),
            agent: None,
            hosts: Vec::new(),
            site: Site::new()?,
            limits: false,
        })
    }

    /// Builds reals and balancer and configures it; says what it does.
    pub fn set_up(&mut self, interrupt: &Interrupt) -> anyhow::Result<()> {
        println!(
            "laboratory: a switch, one balancer, two clients, three web servers and four MQTT brokers"
        );
        self.limits = limits();
        for _ in MQTT {
            self.hosts.push(self.site.client()?);
        }
        for _ in HTTP_WEIGHTS {
            interrupt.check()?;
            self.webs.push(Web::start(&self.site, &HTTP)?);
        }
        for (number, cores) in CORES.into_iter().enumerate() {
            interrupt.check()?;
            let cores = self.limits.then_some(cores);
            let broker = Broker::start(&self.site, &MQTT, number, cores)?;
            let limit = cores.map_or(String::new(), |cores| format!(", {cores} of a core"));
            println!("    broker {}: {}{limit}", number + 1, broker.host().v4);
            self.brokers.push(broker);
        }
        let agent = Agent::start(&self.site.balancer, AgentOptions::default())?;
        println!(
            "lb-agent: attached to eth0 of the balancer's namespace, API at {}",
            agent.endpoint()
        );
        println!("\n    export LB_ENDPOINT={}", agent.endpoint());
        let agent = self.agent.insert(agent);
        let webs: Vec<&Host> = self.webs.iter().map(Web::host).collect();
        let brokers: Vec<&Host> = self.brokers.iter().map(Broker::host).collect();
        for vip in HTTP {
            interrupt.check()?;
            configure(agent, vip, &["--check", "http"], &webs, &HTTP_WEIGHTS)?;
        }
        let busy = format!("grpc port={REPORT_PORT} interval=1s timeout=800ms");
        let mut options = vec!["--track", "all", "--check", CHECK, "--on-down", "reset"];
        options.extend(["--steering", STEERING, "--load", CLIENTS]);
        if self.limits {
            options.extend(["--load", &busy]);
        }
        for vip in MQTT {
            interrupt.check()?;
            configure(agent, vip, &options, &brokers, &[100; CORES.len()])?;
        }
        Ok(())
    }

    /// Whether brokers have limits and can be loaded.
    pub fn limits(&self) -> bool {
        self.limits
    }

    /// How many brokers there are.
    pub fn brokers(&self) -> usize {
        self.brokers.len()
    }

    /// The number, from 0, of the broker with this address.
    pub fn broker(&self, address: &str) -> Option<usize> {
        let address = address.parse().ok()?;
        self.brokers
            .iter()
            .position(|broker| broker.host().address_like(address) == address)
    }

    /// Does this to a broker.
    pub fn suffer(&mut self, broker: usize, deed: Deed) -> anyhow::Result<()> {
        self.brokers
            .get_mut(broker)
            .context("there is no such broker")?
            .suffer(deed)
            .with_context(|| {
                format!(
                    "doing to broker {} what the script says: {deed:?}",
                    broker + 1
                )
            })
    }

    /// Lets the clients begin.
    pub fn start_clients(&mut self) -> anyhow::Result<()> {
        for ((host, http), mqtt) in self.hosts.iter().zip(HTTP).zip(MQTT) {
            self.clients.start_http(host, http, target(http)?);
            self.clients.start_mqtt(host, mqtt, target(mqtt)?);
        }
        Ok(())
    }

    /// Lets the clients end what they have begun, and gives what they saw.
    pub fn stop_clients(&mut self) -> anyhow::Result<Vec<Client>> {
        for broker in &self.brokers {
            broker.thaw();
        }
        self.clients.stop()
    }

    /// What the clients have seen so far.
    pub fn clients(&self) -> Vec<Client> {
        self.clients.reports()
    }

    /// See [`Clients::take_outages`].
    pub fn take_outages(&mut self, begin: Instant) -> Vec<Outage> {
        self.clients.take_outages(begin)
    }

    /// Where the agent's API is.
    pub fn endpoint(&self) -> anyhow::Result<String> {
        Ok(self.agent()?.endpoint())
    }

    /// Its reals, and why they are as they are. What somebody adds by hand while it runs is none of its business.
    pub fn why(&self) -> anyhow::Result<Vec<Why>> {
        let mut reals: Vec<Why> = self.read("why")?;
        reals.retain(|why| is_own(&why.vip));
        Ok(reals)
    }

    /// Counters of its VIPs.
    pub fn stats(&self) -> anyhow::Result<Stats> {
        let mut stats: Stats = self.read("stats")?;
        stats.vips.retain(|vip| is_own(&vip.vip));
        Ok(stats)
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
        self.webs.iter_mut().try_for_each(Web::check)?;
        self.brokers.iter_mut().try_for_each(Broker::check)
    }

    fn agent(&self) -> anyhow::Result<&Agent> {
        self.agent.as_ref().context("there is no agent yet")
    }
}

impl Drop for Laboratory {
    fn drop(&mut self) {
        // All at the same time; then each value waits for the rest of its own.
        self.clients.ask_to_stop();
        if let Some(agent) = &mut self.agent {
            agent.ask_to_end();
        }
        self.webs.iter_mut().for_each(Web::ask_to_end);
        self.brokers.iter_mut().for_each(Broker::ask_to_end);
    }
}

/// Whether hosts can be given a part of a core; says why not.
fn limits() -> bool {
    let wanted = Limits {
        cores: Some(CORES[0]),
        memory: None,
    };
    match Cgroup::new(wanted) {
        Ok(_) => true,
        Err(error) => {
            println!(
                "    no control group can be made here ({error:#}): the brokers have no limits of CPU, \
                 their load is not read, and none of them is loaded"
            );
            false
        }
    }
}

/// Adds a VIP and its reals, and shows the commands.
fn configure(
    agent: &Agent,
    vip: &str,
    options: &[&str],
    hosts: &[&Host],
    weights: &[u16],
) -> anyhow::Result<()> {
    let words = [&["add-vip", vip, "--forward", "ipip"], options].concat();
    lbctl(agent, &words)?;
    let target = target(vip)?;
    for (host, weight) in hosts.iter().zip(weights) {
        let address = host.address_like(target.ip()).to_string();
        let weight = weight.to_string();
        lbctl(agent, &["add-real", vip, &address, "--weight", &weight])?;
    }
    Ok(())
}

fn lbctl(agent: &Agent, words: &[&str]) -> anyhow::Result<()> {
    println!("    lbctl {}", shown(words));
    agent.lbctl(words)?;
    Ok(())
}

/// Words as a shell takes them.
fn shown(words: &[&str]) -> String {
    let quoted: Vec<String> = words
        .iter()
        .map(|word| {
            if word.contains(' ') {
                format!("'{word}'")
            } else {
                (*word).to_owned()
            }
        })
        .collect();
    quoted.join(" ")
}

/// The address and port of a VIP's name.
fn target(vip: &str) -> anyhow::Result<SocketAddr> {
    let address = vip.split('/').next().unwrap_or(vip);
    address
        .parse()
        .with_context(|| format!("{vip} is no name of a VIP"))
}

/// Whether it is a VIP of the laboratory.
fn is_own(vip: &str) -> bool {
    HTTP.iter().chain(&MQTT).any(|own| *own == vip)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_can_be_typed() {
        assert_eq!(
            shown(&["add-vip", "10.0.0.1:1/tcp", "--check", "mqtt interval=1s"]),
            "add-vip 10.0.0.1:1/tcp --check 'mqtt interval=1s'"
        );
    }
}
