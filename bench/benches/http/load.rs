//! The load generators wrk and h2load.

use std::{fs, process::Command};

use anyhow::{Context as _, bail};
use lb_bench::statistics::quantile;
use serde::Serialize;
use tempfile::NamedTempFile;

use crate::proxies::{CACHED, Kind, PLAIN, Port, Proxies};

/// Which generator plays a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// HTTP/1.1, as fast as the proxy answers.
    Wrk,
    /// HTTP/2 over TLS, or HTTP/1.1 at a rate.
    H2load,
}

/// Requests that are sent to a proxy.
#[derive(Clone, Debug)]
pub struct Load {
    pub tool: Tool,
    pub port: Port,
    /// Whether what is asked for is cached.
    pub cached: bool,
    pub connections: u32,
    /// Concurrent requests on each connection.
    pub streams: u32,
    /// Whether each request has a connection of its own.
    pub close: bool,
    /// Requests a second of all connections; without it as many as are answered.
    pub rate: Option<f64>,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Loaded {
    /// Requests that were answered with 200.
    pub requests: u64,
    pub requests_per_second: f64,
    /// Response times in milliseconds; 0 where the generator does not tell them.
    pub p50: f64,
    pub p99: f64,
    /// CPU time of the proxy.
    pub cpu_seconds: f64,
}

impl Loaded {
    /// Requests for each second of CPU time.
    pub fn per_cpu_second(&self) -> f64 {
        self.requests as f64 / self.cpu_seconds
    }
}

impl Load {
    /// The same at this rate.
    pub fn at_rate(&self, requests_per_second: f64) -> Load {
        Load {
            rate: Some(requests_per_second),
            ..self.clone()
        }
    }

    /// Plays it; the CPU time of the proxy is not known here.
    pub fn run(&self, proxies: &Proxies, kind: Kind, seconds: u32) -> anyhow::Result<Loaded> {
        let scheme = if self.port.is_tls() { "https" } else { "http" };
        let path = if self.cached { CACHED } else { PLAIN };
        let port = proxies.port(kind, self.port);
        let url = format!("{scheme}://127.0.0.1:{port}{path}");
        match self.tool {
            Tool::Wrk => self.wrk(proxies, &url, seconds),
            Tool::H2load => self.h2load(proxies, &url, seconds),
        }
        .with_context(|| format!("loading {kind}"))
    }

    fn wrk(&self, proxies: &Proxies, url: &str, seconds: u32) -> anyhow::Result<Loaded> {
        let mut command = proxies.namespace.command("wrk");
        command
            .args(["--threads", "1", "--latency", "--timeout", "10s"])
            .args(["--connections", &self.connections.to_string()])
            .args(["--duration", &format!("{seconds}s")]);
        if self.close {
            command.args(["--header", "Connection: close"]);
        }
        let text = output(command.arg(url))?;
        if let Some(errors) = text.lines().find(|line| line.contains("Non-2xx")) {
            bail!("{}", errors.trim());
        }
        let after = |begin: &str| -> anyhow::Result<&str> {
            text.lines()
                .find_map(|line| line.trim().strip_prefix(begin))
                .map(str::trim)
                .with_context(|| format!("wrk wrote no {begin:?}: {text}"))
        };
        let requests = text
            .lines()
            .find_map(|line| line.trim().split_once(" requests in "))
            .with_context(|| format!("wrk wrote no number of requests: {text}"))?;
        Ok(Loaded {
            requests: requests.0.parse()?,
            requests_per_second: after("Requests/sec:")?.parse()?,
            p50: milliseconds(after("50%")?)?,
            p99: milliseconds(after("99%")?)?,
            cpu_seconds: 0.0,
        })
    }

    fn h2load(&self, proxies: &Proxies, url: &str, seconds: u32) -> anyhow::Result<Loaded> {
        let log = NamedTempFile::new()?;
        let mut command = proxies.namespace.command("h2load");
        command
            .args(["--threads=1", "--warm-up-time=0"])
            .arg(format!("--clients={}", self.connections))
            .arg(format!("--max-concurrent-streams={}", self.streams));
        if !self.port.is_tls() {
            command.arg("--h1");
        }
        match self.rate {
            // `--duration` and `--rps` exclude each other in some versions: a number of requests bounds it.
            Some(rate) => command
                .arg(format!("--rps={}", rate / f64::from(self.connections)))
                .arg(format!("--requests={}", (rate * f64::from(seconds)) as u64))
                .arg(format!("--log-file={}", log.path().display())),
            None => command.arg(format!("--duration={seconds}")),
        };
        let text = output(command.arg(url))?;
        let succeeded = text
            .lines()
            .find_map(|line| line.strip_prefix("status codes:"))
            .and_then(|rest| rest.trim().split_once(" 2xx, 0 3xx, 0 4xx, 0 5xx"))
            .with_context(|| format!("not all answers were 200: {text}"))?;
        let requests: u64 = succeeded.0.parse()?;
        let mut times = Vec::new();
        if self.rate.is_some() {
            for line in fs::read_to_string(log.path())?.lines() {
                // Start, status, response time in microseconds.
                let time = line.split('\t').nth(2).context("a line of h2load's log")?;
                times.push(time.parse::<f64>()? / 1e3);
            }
        }
        Ok(Loaded {
            requests,
            requests_per_second: requests as f64 / f64::from(seconds),
            p50: quantile(&times, 0.5),
            p99: quantile(&times, 0.99),
            cpu_seconds: 0.0,
        })
    }
}

fn output(command: &mut Command) -> anyhow::Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .with_context(|| format!("starting {program}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!("{program} ended with {}: {text}{errors}", output.status);
    }
    Ok(text)
}

/// A time as wrk writes it.
fn milliseconds(text: &str) -> anyhow::Result<f64> {
    let digits = text.trim_end_matches(char::is_alphabetic);
    let factor = match &text[digits.len()..] {
        "us" => 1e-3,
        "ms" => 1.0,
        "s" => 1e3,
        unit => bail!("wrk wrote the unit {unit:?}"),
    };
    Ok(digits.parse::<f64>()? * factor)
}
