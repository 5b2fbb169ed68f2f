//! How soon an instance serves that a pool has decided to start.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::Command,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, ensure};
use comfy_table::Table;
use lb_bench::statistics::{median, quantile};
use lb_tests::{
    Agent, AgentOptions, Controller, Network, client, server::DockerEngine, vip_target, wait_for,
};
use serde::Serialize;
use serde_json::Value;

/// How soon instances of a kind serve.
#[derive(Debug, Serialize)]
pub struct StartFigure {
    /// What is started, and where it serves.
    pub what: String,
    /// How often.
    pub starts: usize,
    /// Median of the seconds from the decision until its check had passed.
    pub healthy_median: f64,
    /// The 90th percentile of these.
    pub healthy_p90: f64,
    /// Median of the seconds from the decision until it had answered a client of the VIP, if it is behind one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answered_median: Option<f64>,
    /// The 90th percentile of these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answered_p90: Option<f64>,
}

const STARTS: usize = 20;
const PATIENCE: Duration = Duration::from_secs(60);
const VIP: &str = "192.0.2.10:80/tcp";
/// Each real gets its share of the flows at once, so that a client soon meets the new one.
const STEERING: &str = "static slow_start=0s flap_hold=0s";
/// Where the controller answers, in its namespace.
const HTTP: &str = "127.0.0.1:8080";
/// A web server that answers with its name. It takes a few hundredths of a second to listen.
const SERVER: &str = r#"
use IO::Socket::INET; $| = 1; $SIG{PIPE} = "IGNORE"; my $n = $ENV{LB_INSTANCE};
my $s = IO::Socket::INET->new(LocalPort => $ARGV[0], Listen => 128, ReuseAddr => 1) or die "listen: $!";
while (1) {
  my $c = $s->accept or next; while (<$c>) { last if /^\r?$/ }
  print $c "HTTP/1.1 200 OK\r\nx-real: $n\r\nContent-Length: ", length $n, "\r\nConnection: close\r\n\r\n$n"; close $c;
}
"#;

/// Measures and prints.
pub fn measure() -> anyhow::Result<Vec<StartFigure>> {
    let mut figures = Vec::new();
    for is_container in [false, true] {
        if is_container && Command::new("dockerd").arg("--version").output().is_err() {
            println!("\nthere is no Docker engine here, so no container is started");
            continue;
        }
        for has_vip in [false, true] {
            figures.push(start(is_container, has_vip)?);
        }
    }
    let mut table = Table::new();
    table.set_header([
        "instance",
        "starts",
        "check passed, s: median",
        "p90",
        "client answered, s: median",
        "p90",
    ]);
    let text = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.3}"));
    for figure in &figures {
        table.add_row([
            figure.what.clone(),
            figure.starts.to_string(),
            text(Some(figure.healthy_median)),
            text(Some(figure.healthy_p90)),
            text(figure.answered_median),
            text(figure.answered_p90),
        ]);
    }
    println!("\nFrom the decision to start an instance until it serves:\n{table}");
    Ok(figures)
}

/// The settings of a pool of one instance, as a file.
fn settings(folder: &Path, engine: Option<&DockerEngine>, has_vip: bool) -> anyhow::Result<String> {
    let file = folder.join("pool.toml");
    let (port, network) = if has_vip {
        let network = "bridge = \"br0\", range = \"10.10.60.11-10.10.60.30/16\"";
        (80, format!("port = 80, {network}"))
    } else {
        (8_000, "port = 8000".to_owned())
    };
    let vips = if has_vip {
        format!("vips = [\"{VIP}\"]")
    } else {
        String::new()
    };
    let (driver, more) = match engine {
        Some(engine) => (
            format!(
                "kind = \"docker\", socket = \"{}\", pull = \"never\"",
                engine.socket().display()
            ),
            "image = \"lb\"\nvolume = { source = \"/usr\", target = \"/usr\" }",
        ),
        None => ("kind = \"process\"".to_owned(), ""),
    };
    // Braces of arguments are for placeholders.
    let script = SERVER.replace('{', "{{").replace('}', "}}");
    let text = format!(
        r#"
driver = {{ {driver} }}
network = {{ {network} }}
{vips}
check = {{ kind = "http", interval = "1s", port = {port} }}
scaling = {{ min = 1, max = 1, drain_natural = "0ms", drain_deadline = "3s" }}

[template]
{more}
program = "/usr/bin/perl"
arguments = ["-e", '''{script}''', "{{port}}"]
stop_grace = "0ms"
"#
    );
    fs::write(&file, text)?;
    Ok(file.display().to_string())
}

/// Starts a second instance of a pool, again and again.
fn start(is_container: bool, has_vip: bool) -> anyhow::Result<StartFigure> {
    let network = Network::new()?;
    let clients = network.client()?;
    let host = network.real()?;
    host.bridge()?;
    let agent = Agent::start(&network.balancer, AgentOptions::default())?;
    agent.lbctl([
        "add-vip",
        VIP,
        "--check",
        "http interval=1s",
        "--steering",
        STEERING,
    ])?;
    let engine = is_container
        .then(|| DockerEngine::start_in(host.namespace()))
        .transpose()?;
    let controller = Controller::start(
        Some(host.namespace()),
        "bench-starts",
        &["--agent", &agent.endpoint(), "--http", HTTP],
    )?;
    let file = settings(controller.folder(), engine.as_ref(), has_vip)?;
    controller.pool(&["add", "web", "-f", &file])?;
    let events = || {
        let answer = host
            .namespace()
            .enter(|| get(HTTP.parse()?, "/v1/pools/web/events"))??;
        let answer: Value = serde_json::from_str(&answer)?;
        let events = answer["events"].as_array().cloned();
        events.context("no events")
    };
    let time_of = |kind: &str, number: u32| -> anyhow::Result<Option<(String, f64)>> {
        let prefix = format!("web-{number}-");
        let of = |event: &&Value| {
            let instance = event["instance"].as_str().unwrap_or_default();
            event["kind"] == kind && instance.starts_with(&prefix)
        };
        let events = events()?;
        let Some(event) = events.iter().rev().find(of) else {
            return Ok(None);
        };
        let instance = event["instance"].as_str().unwrap_or_default().to_owned();
        let time = event["time"].as_f64().context("an event without time")?;
        Ok(Some((instance, time)))
    };
    wait_for("the first instance to be healthy", PATIENCE, || {
        time_of("healthy", 1)
    })?;
    let target = vip_target(VIP)?;
    let answer = || client::get(clients.namespace(), target, "/").map(|(name, _)| name);
    if has_vip {
        wait_for("the first instance to answer", PATIENCE, || {
            Ok(answer().is_ok().then_some(()))
        })?;
    }
    let (mut healthy, mut answered) = (Vec::new(), Vec::new());
    let mut last = String::new();
    for _ in 0..STARTS {
        controller.pool(&["scale", "web", "2"])?;
        let mut at_client = None;
        if has_vip {
            let end = SystemTime::now() + PATIENCE;
            while at_client.is_none() {
                ensure!(SystemTime::now() < end, "no second instance answers");
                let is_new = answer()?.starts_with("web-2-");
                at_client = is_new.then(SystemTime::now);
            }
        }
        let (instance, ready) = wait_for("the second instance to be healthy", PATIENCE, || {
            let healthy = time_of("healthy", 2)?;
            Ok(healthy.filter(|(name, _)| *name != last))
        })?;
        let (launched, begin) = time_of("launched", 2)?.context("no launch")?;
        ensure!(launched == instance, "{launched} is not {instance}");
        healthy.push(ready - begin);
        if let Some(at) = at_client {
            let at = at.duration_since(SystemTime::UNIX_EPOCH)?;
            answered.push(at.as_secs_f64() - begin);
        }
        controller.pool(&["scale", "web", "1"])?;
        wait_for("the end of the second instance", PATIENCE, || {
            let removed = time_of("removed", 2)?;
            let is_gone = removed.is_some_and(|(name, _)| name == instance);
            Ok(is_gone.then_some(()))
        })?;
        last = instance;
    }
    controller.pool(&["del", "web"])?;
    wait_for("the end of the pool", PATIENCE, || {
        let list = controller.pool(&["list"])?;
        Ok(list.contains("there are no pools").then_some(()))
    })?;
    let kind = if is_container { "container" } else { "process" };
    let place = if has_vip {
        "on a bridge, behind a VIP"
    } else {
        "on the host's network"
    };
    let of_clients = |part| (!answered.is_empty()).then(|| quantile(&answered, part));
    Ok(StartFigure {
        what: format!("{kind} {place}"),
        starts: healthy.len(),
        healthy_median: median(&healthy),
        healthy_p90: quantile(&healthy, 0.9),
        answered_median: of_clients(0.5),
        answered_p90: of_clients(0.9),
    })
}

/// Reads a page by HTTP.
fn get(address: SocketAddr, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").context("no answer")?;
    Ok(body.to_owned())
}
