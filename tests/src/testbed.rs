//! A testbed for tests with clients and servers: one network, an agent, backends and a client host.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use anyhow::Context as _;
use serde_json::Value;

use crate::{
    Agent, AgentOptions, Host, Network, Real,
    server::{Server, StandardServer},
    wait_for,
};

/// Limit for state changes that take milliseconds to a few seconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The `lbctl` commands whose output explains a failed test.
const DIAGNOSTICS: [&str; 4] = ["list -o wide", "load", "stats", "status"];

/// A host behind the balancer: a server, and the `lb-agent real` that makes the host a real.
///
/// Fields are dropped in this order: the host goes last.
#[derive(Debug)]
pub struct Backend<S> {
    /// The server.
    pub server: S,
    /// The real's part of the data path; `None` while a test has stopped it.
    pub real: Option<Real>,
    /// The host of both.
    pub host: Host,
}

impl<S: StandardServer> Backend<S> {
    /// Starts the server on `host` and makes `host` a real of `vips`.
    ///
    /// # Errors
    /// Fails if the server or `lb-agent real` does not start.
    pub fn start(host: Host, vips: &[&str]) -> anyhow::Result<Self> {
        Ok(Self {
            server: S::start(&host)?,
            real: Some(Real::start(&host, "eth0", vips)?),
            host,
        })
    }
}

impl<S: Server> Backend<S> {
    /// Fails if the server or `lb-agent real` has ended.
    ///
    /// # Errors
    /// Returns the output of the process that has ended.
    pub fn check(&mut self) -> anyhow::Result<()> {
        if let Some(real) = &mut self.real {
            real.check()?;
        }
        self.server.check()
    }

    /// Asks all processes to end, without waiting.
    pub fn ask_to_end(&mut self) {
        self.server.ask_to_end();
        if let Some(real) = &mut self.real {
            real.ask_to_end();
        }
    }
}

impl<S> Backend<S> {
    /// Returns the host's IPv4 address, as `lbctl` takes it.
    pub fn address(&self) -> String {
        self.host.v4.to_string()
    }

    /// Returns the host's IPv6 address, as `lbctl` takes it.
    pub fn address_v6(&self) -> String {
        self.host.v6.to_string()
    }
}

/// One network with an agent, backends and a client host.
///
/// Fields are dropped in this order: the network goes last. If the test panics, the testbed first prints what the
/// agent knows.
#[derive(Debug)]
pub struct Testbed<S: Server> {
    /// The agent on the balancer's host.
    pub agent: Agent,
    /// The hosts behind it.
    pub backends: Vec<Backend<S>>,
    /// A host for clients.
    pub client: Host,
    /// The network.
    pub network: Network,
}

impl<S: StandardServer> Testbed<S> {
    /// Builds a network with backends for `vips`, and starts an agent that knows neither VIPs nor reals yet.
    ///
    /// # Errors
    /// Fails if any part does not start.
    pub fn new(backends: usize, vips: &[&str], options: AgentOptions) -> anyhow::Result<Self> {
        let network = Network::new()?;
        let client = network.client()?;
        let backends = (0..backends)
            .map(|_| Backend::start(network.real()?, vips))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let agent = Agent::start(&network.balancer, options)?;
        Ok(Self {
            agent,
            backends,
            client,
            network,
        })
    }
}

impl<S: Server> Testbed<S> {
    /// Runs `lbctl` with these words and returns what it prints.
    ///
    /// # Errors
    /// Fails if `lbctl` does; the error has what it wrote to standard error.
    pub fn lbctl(&self, words: &[&str]) -> anyhow::Result<String> {
        self.agent.lbctl(words)
    }

    /// Adds a VIP and these backends as its reals, by IPv4 address. `options` are further words of `lbctl add-vip`.
    ///
    /// # Errors
    /// See [`lbctl`](Self::lbctl).
    pub fn add_service(
        &self,
        vip: &str,
        options: &[&str],
        backends: &[&Backend<S>],
    ) -> anyhow::Result<()> {
        self.lbctl(&[&["add-vip", vip][..], options].concat())?;
        for backend in backends {
            self.lbctl(&["add-real", vip, &backend.address()])?;
        }
        Ok(())
    }

    /// Returns a real as `lbctl why` prints it.
    ///
    /// # Errors
    /// Fails if the agent does not know the real.
    pub fn why(&self, vip: &str, address: &str) -> anyhow::Result<Value> {
        let why = self.agent.ctl_json(&format!("why {address} {vip}"))?;
        why.get(0)
            .cloned()
            .with_context(|| format!("`lbctl why` printed nothing about {address} of {vip}"))
    }

    /// Returns the counters of one VIP as `lbctl stats` prints them.
    ///
    /// # Errors
    /// Fails if the agent does not know the VIP.
    pub fn stats(&self, vip: &str) -> anyhow::Result<Value> {
        Ok(self.agent.ctl_json(&format!("stats {vip}"))?["vips"][0].clone())
    }

    /// Waits until a real is in this state.
    ///
    /// # Errors
    /// Fails if the real does not reach the state within a minute.
    pub fn wait_state(&self, vip: &str, address: &str, state: &str) -> anyhow::Result<()> {
        wait_for(&format!("{address} to be {state}"), PATIENCE, || {
            let why = self.why(vip, address)?;
            Ok((why["real"]["state"] == state).then_some(()))
        })
        .with_context(|| format!("{:?}", self.why(vip, address)))
    }

    /// Waits until a real is active and has a share of the ring, and, if the VIP has a health check, a probe has
    /// succeeded.
    ///
    /// # Errors
    /// Fails if that takes longer than a minute.
    pub fn wait_serving(&self, vip: &str, address: &str) -> anyhow::Result<()> {
        wait_for(&format!("{address} to serve"), PATIENCE, || {
            let why = self.why(vip, address)?;
            let alive = why["probe"].is_null() || why["probe"]["verdict"] == "healthy";
            let active = why["real"]["state"] == "active";
            let has_share = why["real"]["share"].as_f64() > Some(0.0);
            Ok((alive && active && has_share).then_some(()))
        })
        .with_context(|| format!("{:?}", self.why(vip, address)))
    }

    /// Waits until a probe of the real has succeeded and the real has a share of the ring.
    ///
    /// # Errors
    /// Fails if that takes longer than a minute.
    pub fn wait_healthy(&self, vip: &str, address: &str) -> anyhow::Result<()> {
        wait_for(&format!("a probe of {address}"), PATIENCE, || {
            Ok((self.why(vip, address)?["probe"]["verdict"] == "healthy").then_some(()))
        })?;
        self.wait_serving(vip, address)
    }

    /// Returns the names of all backends, which are the labels of their hosts.
    pub fn names(&self) -> BTreeSet<String> {
        self.backends
            .iter()
            .map(|backend| backend.host.label().to_owned())
            .collect()
    }

    /// Fails if the agent or a backend has ended.
    ///
    /// # Errors
    /// Returns the output of the process that has ended.
    pub fn check(&mut self) -> anyhow::Result<()> {
        self.agent.check()?;
        self.backends.iter_mut().try_for_each(Backend::check)
    }
}

impl<S: Server> Drop for Testbed<S> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for line in DIAGNOSTICS {
                match self.agent.ctl(line) {
                    Ok(text) => println!("--- lbctl {line}\n{text}"),
                    Err(error) => println!("--- lbctl {line}: {error:#}"),
                }
            }
            println!("--- output of lb-agent\n{}", self.agent.output());
        }
        // All processes end at the same time; each field's own drop then waits for what is left.
        self.agent.ask_to_end();
        self.backends.iter_mut().for_each(Backend::ask_to_end);
    }
}

/// Returns the address and port of a VIP such as `192.0.2.10:80/tcp`.
///
/// # Errors
/// Fails if the text does not begin with an address and a port.
pub fn vip_target(vip: &str) -> anyhow::Result<SocketAddr> {
    let address = vip.split('/').next().unwrap_or(vip);
    address
        .parse()
        .with_context(|| format!("{vip} is not ADDRESS:PORT/PROTOCOL"))
}
