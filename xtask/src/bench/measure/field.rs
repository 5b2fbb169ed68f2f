//! A network with a balancer, a client and reals, for what is measured with real clients and servers.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context as _;
use lb_tests::{
    Agent, AgentOptions, Host, Real, Site,
    server::{Mosquitto, Nginx},
    wait_for,
};

/// For what must happen at some time.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A server of one kind.
pub trait Server: Sized {
    /// The VIP of such servers.
    const VIP: &str;

    /// Starts it at the VIP's port.
    fn start(host: &Host) -> anyhow::Result<Self>;

    /// Where clients find the VIP.
    fn target() -> anyhow::Result<SocketAddr> {
        let address = Self::VIP.trim_end_matches("/tcp");
        address
            .parse()
            .with_context(|| format!("reading {address}"))
    }
}

impl Server for Mosquitto {
    const VIP: &str = "192.0.2.20:1883/tcp";

    fn start(host: &Host) -> anyhow::Result<Self> {
        Mosquitto::start(host, 1883)
    }
}

impl Server for Nginx {
    const VIP: &str = "192.0.2.10:80/tcp";

    fn start(host: &Host) -> anyhow::Result<Self> {
        Nginx::start(host, 80)
    }
}

/// A real. What ends first stands first.
pub struct Behind<S> {
    pub server: S,
    _real: Real,
    pub host: Host,
}

impl<S> Behind<S> {
    /// Its address, as `lbctl` takes it.
    pub fn address(&self) -> String {
        self.host.v4.to_string()
    }
}

/// Everything. What ends first stands first.
pub struct Field<S> {
    pub agent: Agent,
    pub reals: Vec<Behind<S>>,
    pub client: Host,
    _site: Site,
}

impl<S: Server> Field<S> {
    /// Makes it, with one VIP of so many reals; `options` are further words of `lbctl add-vip`.
    pub fn new(reals: usize, options: &[&str]) -> anyhow::Result<Self> {
        let site = Site::new()?;
        let client = site.client()?;
        let reals = (0..reals)
            .map(|_| {
                let host = site.real()?;
                Ok(Behind {
                    server: S::start(&host)?,
                    _real: Real::start(&host, "eth0", &[S::VIP])?,
                    host,
                })
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        let agent = Agent::start(&site.balancer, AgentOptions::default())?;
        agent.lbctl([&["add-vip", S::VIP], options].concat())?;
        for real in &reals {
            agent.lbctl(["add-real", S::VIP, &real.address()])?;
        }
        let field = Self {
            agent,
            reals,
            client,
            _site: site,
        };
        for real in &field.reals {
            field.wait_state(&real.address(), "active")?;
        }
        Ok(field)
    }

    /// A real as `lbctl why` has it.
    pub fn why(&self, address: &str) -> anyhow::Result<serde_json::Value> {
        let why = self.agent.ctl_json(&format!("why {address} {}", S::VIP))?;
        why.get(0).cloned().context("lbctl says nothing of a real")
    }

    /// Waits until a real is in this state; an active one has been probed if it is to be, and gets flows.
    pub fn wait_state(&self, address: &str, state: &str) -> anyhow::Result<()> {
        wait_for(&format!("{address} to be {state}"), PATIENCE, || {
            let why = self.why(address)?;
            let alive = why["probe"].is_null() || why["probe"]["verdict"] == "healthy";
            let serves = alive && why["real"]["share"].as_f64() > Some(0.0);
            let found = why["real"]["state"] == state && (state != "active" || serves);
            Ok(found.then_some(()))
        })
        .with_context(|| format!("{:?}", self.why(address)))
    }
}
