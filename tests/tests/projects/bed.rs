//! A provider: a host whose controller makes nodes on a bridge, web servers of a tenant, and clients.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use lb_tests::{Controller, Host, Network, client, server::Nginx, wait_for};
use serde_json::Value;

/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Where the controller serves HTTP, in the network namespace of its host.
const HTTP: &str = "127.0.0.1:8080";
/// The addresses of nodes, of which each load balancer has two.
pub const RANGE: &str = "10.10.60.11-10.10.60.30/16";

/// The provider.
pub struct Bed {
    pub clients: Host,
    /// Where the controller and the nodes are.
    pub host: Host,
    pub controller: Controller,
    /// Servers of tenants, at port 80.
    pub servers: Vec<(Host, Nginx)>,
    // The file is read, and the network is there, until the end.
    _folder: tempfile::TempDir,
    _network: Network,
}

impl Bed {
    /// Starts a controller, and so many web servers.
    pub fn new(name: &str, servers: usize) -> anyhow::Result<Self> {
        Self::with(name, servers, |_| String::new())
    }

    /// Starts a controller that also has the settings that `more` makes for the address of its host.
    pub fn with(
        name: &str,
        servers: usize,
        more: impl FnOnce(IpAddr) -> String,
    ) -> anyhow::Result<Self> {
        let network = Network::new()?;
        let clients = network.client()?;
        let host = network.real()?;
        host.bridge()?;
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("controller.toml");
        fs::write(
            &file,
            format!(
                "http = \"{HTTP}\"\n[nodes]\nbridge = \"br0\"\nrange = \"{RANGE}\"\neach = 2\n{}",
                more(host.v4)
            ),
        )?;
        let name = lb_tests::owner(name);
        let options = ["--config", &file.display().to_string()];
        let controller = Controller::start(Some(host.namespace()), &name, &options)?;
        let servers = (0..servers).map(|_| {
            let host = network.real()?;
            let nginx = Nginx::start(&host, 80)?;
            Ok((host, nginx))
        });
        let servers = servers.collect::<anyhow::Result<_>>()?;
        Ok(Bed {
            clients,
            host,
            controller,
            servers,
            _folder: folder,
            _network: network,
        })
    }

    /// Runs `lbctl` with the controller, by what an operator types after it.
    pub fn run(&self, line: &str) -> anyhow::Result<String> {
        self.controller.ctl(line)
    }

    /// What `lbctl` says when it fails, which it does.
    pub fn refused(&self, line: &str) -> anyhow::Result<String> {
        match self.run(line) {
            Ok(output) => bail!("{line}: not refused: {output}"),
            Err(error) => Ok(error.to_string()),
        }
    }

    /// Runs `lbctl` with the controller, and reads its answer as JSON.
    pub fn read(&self, line: &str) -> anyhow::Result<Value> {
        let text = self.run(&format!("{line} -o json"))?;
        serde_json::from_str(&text).with_context(|| text)
    }

    /// Sends an order in the envelope: the status of HTTP, and the answer.
    pub fn order(&self, order: &Value) -> anyhow::Result<(u16, Value)> {
        self.http("POST", "/v1/requests", Some(&order.to_string()))
    }

    /// Makes a request of the controller that is answered by JSON.
    pub fn http(
        &self,
        method: &str,
        path: &str,
        body: Option<&str>,
    ) -> anyhow::Result<(u16, Value)> {
        let (status, text) = self.exchange(method, path, body.unwrap_or_default())?;
        let value = if text.is_empty() {
            Value::Null
        } else {
            serde_json::from_str(&text).with_context(|| text)?
        };
        Ok((status, value))
    }

    /// Reads a page of the controller.
    pub fn http_text(&self, path: &str) -> anyhow::Result<(u16, String)> {
        self.exchange("GET", path, "")
    }

    fn exchange(&self, method: &str, path: &str, body: &str) -> anyhow::Result<(u16, String)> {
        self.host
            .namespace()
            .enter(|| client::exchange(HTTP.parse()?, method, path, body, PATIENCE))?
    }

    /// The addresses of the servers.
    pub fn backends(&self) -> Vec<String> {
        self.servers
            .iter()
            .map(|(host, _)| host.v4.to_string())
            .collect()
    }

    /// Waits until a load balancer has so many nodes that all serve by its newest settings, and returns it.
    pub fn wait_complete(
        &self,
        project: &str,
        balancer: &str,
        nodes: usize,
    ) -> anyhow::Result<Value> {
        let what = format!("{nodes} nodes of {project}/{balancer} to serve");
        let waited = wait_for(&what, PATIENCE, || {
            let shown = self.read(&format!("lb show {project} {balancer}"))?;
            let list = shown["nodes"].as_array().cloned().unwrap_or_default();
            let serving = list.iter().filter(|node| node["serving"] == true).count();
            let is_newest = shown["generation"] == shown["observed_generation"];
            ensure!(
                serving == nodes && list.len() == nodes && is_newest,
                "{shown}"
            );
            Ok(Some(shown))
        });
        waited.with_context(|| self.controller.output())
    }

    /// The server that answers a client at this address.
    pub fn ask(&self, address: &str, port: u16) -> anyhow::Result<String> {
        let target = SocketAddr::new(address.parse()?, port);
        Ok(client::get(self.clients.namespace(), target, "/")?.0)
    }

    /// Waits until exactly these servers answer at this address.
    pub fn wait_answers(&self, address: &str, port: u16, servers: &[&Host]) -> anyhow::Result<()> {
        let wanted: std::collections::BTreeSet<String> =
            servers.iter().map(|host| host.label().to_owned()).collect();
        wait_for("answers of all servers", PATIENCE, || {
            let names: std::collections::BTreeSet<String> = (0..20)
                .map(|_| self.ask(address, port))
                .collect::<anyhow::Result<_>>()?;
            ensure!(names == wanted, "{names:?}, not {wanted:?}");
            Ok(Some(()))
        })
        .with_context(|| self.controller.output())
    }
}

/// The first address at which a load balancer serves.
pub fn address(balancer: &Value) -> anyhow::Result<String> {
    let first = balancer["addresses"][0].as_str();
    Ok(first.context("it does not serve")?.to_owned())
}
