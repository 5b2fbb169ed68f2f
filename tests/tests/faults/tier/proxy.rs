//! A proxy on a host of its own, which is a real of the VIPs of clients.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use lb_tests::{Host, Network, Process, Real, binary, client, wait_for};
use serde_json::Value;
use tempfile::TempDir;

use super::bench::{TLS, WEB};
use crate::injection::PATIENCE;

/// The port of the administration.
const ADMIN: u16 = 9470;

/// Words of warnings that stay for a minute after this host's own trouble.
const CALMS_LATER: &str = "this process was stopped or lacks CPU";

/// A proxy.
pub struct Proxy {
    process: Option<Process>,
    _real: Real,
    pub host: Host,
    folder: TempDir,
}

impl Proxy {
    /// Starts a proxy whose instances are those of a pool.
    pub fn start(network: &Network, pool: &str) -> anyhow::Result<Self> {
        let host = network.real()?;
        let folder = tempfile::tempdir()?;
        let real = Real::start(&host, "eth0", &[WEB, TLS])?;
        let mut proxy = Self {
            process: None,
            _real: real,
            host,
            folder,
        };
        let made = rcgen::generate_simple_self_signed(["tier.example".to_owned()])?;
        fs::write(proxy.certificate(), made.cert.pem())?;
        fs::write(proxy.path("key.pem"), made.signing_key.serialize_pem())?;
        let text = format!(
            r#"
# A part that hangs is noticed soon.
watchdog = "5s"
threads = 2
admin = "0.0.0.0:{ADMIN}"
[[listener]]
address = "0.0.0.0:80"
[[listener]]
address = "0.0.0.0:443"
certificates = [{{ certificate = "{}", key = "{}" }}]
[[route]]
service = "web"
[[service]]
name = "web"
choice = "round-robin"
# An instance that hangs is taken away sooner, and its requests are made again.
answer_timeout = "12s"
pool = "{pool}"
"#,
            proxy.certificate().display(),
            proxy.path("key.pem").display()
        );
        fs::write(proxy.file(), text)?;
        proxy.run()?;
        Ok(proxy)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The configuration file.
    pub fn file(&self) -> PathBuf {
        self.path("proxy.toml")
    }

    /// The certificate of the listener with TLS.
    pub fn certificate(&self) -> PathBuf {
        self.path("certificate.pem")
    }

    /// Starts the program, again.
    pub fn run(&mut self) -> anyhow::Result<()> {
        let mut command = self.host.command(binary("lb-proxy")?);
        command.args([Path::new("run"), Path::new("--config"), &self.file()]);
        let mut process = self.host.start_command("lb-proxy", command)?;
        process.wait_line("lb-proxy:", "ready", PATIENCE)?;
        self.process = Some(process);
        Ok(())
    }

    pub fn process(&mut self) -> anyhow::Result<&mut Process> {
        self.process.as_mut().context("the proxy does not run")
    }

    /// Its output since the last start.
    pub fn output(&self) -> String {
        self.process
            .as_ref()
            .map(Process::output)
            .unwrap_or_default()
    }

    fn page(&self, path: &str) -> anyhow::Result<String> {
        client::page(&self.host, SocketAddr::from(([127, 0, 0, 1], ADMIN)), path)
    }

    /// The value of a metric without labels, or of the first series whose labels these are.
    pub fn metric(&self, series: &str) -> anyhow::Result<f64> {
        let metrics = self.page("/metrics")?;
        let line = metrics
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        Ok(line.with_context(|| series.to_owned())?.trim().parse()?)
    }

    /// How often an instance was blamed for a failure.
    pub fn failures(&self) -> anyhow::Result<f64> {
        let metrics = self.page("/metrics")?;
        let lines = metrics.lines();
        let values = lines
            .filter(|line| line.starts_with("lb_instance_failures_total{"))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        Ok(values.sum())
    }

    /// Waits until a metric is as it should be.
    pub fn wait_metric(&self, series: &str, is_right: fn(f64) -> bool) -> anyhow::Result<()> {
        wait_for(series, PATIENCE, || {
            let value = self.metric(series)?;
            ensure!(is_right(value), "{value}");
            Ok(Some(()))
        })
    }

    /// What it says is wrong now.
    pub fn problems(&self) -> anyhow::Result<Vec<String>> {
        let services: Value = serde_json::from_str(&self.page("/v1/services")?)?;
        let warnings = services["warnings"].as_array().context("warnings")?;
        Ok(warnings
            .iter()
            .filter_map(Value::as_str)
            .filter(|warning| !warning.contains(CALMS_LATER))
            .map(str::to_owned)
            .collect())
    }

    /// Waits until it says that this is wrong.
    pub fn wait_problem(&self, words: &str) -> anyhow::Result<()> {
        wait_for(&format!("a warning with {words:?}"), PATIENCE, || {
            let problems = self.problems()?;
            let said = problems.iter().any(|problem| problem.contains(words));
            ensure!(said, "{problems:?}");
            Ok(Some(()))
        })
    }
}
