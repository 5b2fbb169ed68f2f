//! CPU time and memory of an agent that supervises 1,000 reals. Each has a probe and a reader of load every 5 s, and
//! the readings change, so controllers and rings are at work as well.

use std::{
    collections::HashSet,
    fs, thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use lb_bench::process::{processor_time, resident};
use lb_tests::{Agent, AgentOptions, Namespace, cable};
use serde::Serialize;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

/// Cost of supervising reals.
#[derive(Debug, Serialize)]
pub struct SupervisedFigure {
    /// VIPs.
    pub vips: u32,
    /// Reals of all VIPs.
    pub reals: u32,
    /// Seconds of the measurement.
    pub seconds: f64,
    /// CPU time of all threads of the agent, in percent of one core.
    pub percent: f64,
    /// The agent's resident set in KiB, without the tables in the kernel.
    pub kib: u64,
    /// Reals that were active and had readings in the end.
    pub healthy: usize,
}

const VIPS: u32 = 10;
/// Reals of each VIP.
const REALS: u32 = 100;
/// Time until all reals are healthy and slow start is over.
const SETTLE: Duration = Duration::from_secs(20);
const WATCH: Duration = Duration::from_secs(30);
const PORT: u16 = 9_100;

/// Starts an agent and one server that answers for all reals, and measures what the agent uses.
pub fn measure() -> anyhow::Result<SupervisedFigure> {
    let near = Namespace::new("bench-supervised")?;
    let far = Namespace::new("bench-supervised-far")?;
    cable(
        (&far, "far0", &["10.30.0.1/24".to_owned()]),
        // The agent is on the right end.
        (&near, "eth0", &["10.30.0.254/24".to_owned()]),
    )?;
    // All reals are addresses of one host behind one router: 1,000 neighbours would fill the kernel's table.
    far.sh("ip route add local 10.31.0.0/16 dev lo")?;
    near.sh("ip route add 10.31.0.0/16 via 10.30.0.1")?;
    // The thread ends with the process; it waits for connections in a namespace that nothing else uses.
    let _server = far.thread(|| {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?
            .block_on(serve())
    });
    let agent = Agent::start(&near, AgentOptions::default())?;
    let file = tempfile::NamedTempFile::new().context("making a script for lbctl")?;
    fs::write(file.path(), script())?;
    agent.ctl(&format!("apply {}", file.path().display()))?;
    thread::sleep(SETTLE);
    let pid = agent.id()?;
    let before = processor_time(pid)?;
    let start = Instant::now();
    thread::sleep(WATCH);
    let seconds = start.elapsed().as_secs_f64();
    let percent = (processor_time(pid)? - before) / seconds * 100.0;
    let kib = resident(pid)?;
    let healthy = healthy(&agent)?;
    let reals = VIPS * REALS;
    println!(
        "\n{reals} reals of {VIPS} VIPs, each with a probe and a reader every 5 s: the agent used {percent:.1} % of a \
         core and {kib} KiB; {healthy} reals were active with readings"
    );
    ensure!(
        healthy == reals as usize,
        "only {healthy} of {reals} reals were active with readings, so the figure is not valid"
    );
    Ok(SupervisedFigure {
        vips: VIPS,
        reals,
        seconds,
        percent,
        kib,
        healthy,
    })
}

fn script() -> String {
    let mut script = String::new();
    for vip in 1..=VIPS {
        script += &format!(
            "add-vip 10.202.0.{vip}:80/tcp --check 'http path=/healthz port={PORT} interval=5s' \
             --load 'http-json path=/load port={PORT} interval=5s utilisation=/cpu'\n"
        );
        for real in 1..=REALS {
            script += &format!("add-real 10.202.0.{vip}:80/tcp 10.31.{vip}.{real}\n");
        }
    }
    script
}

/// Returns how many reals are active and have a known load.
fn healthy(agent: &Agent) -> anyhow::Result<usize> {
    let vips = agent.ctl_json("list")?;
    let up: HashSet<String> = vips
        .as_array()
        .context("`lbctl list` prints no VIPs")?
        .iter()
        .filter_map(|vip| vip["reals"].as_array())
        .flatten()
        .filter(|real| real["state"] == "active")
        .map(|real| real["address"].to_string())
        .collect();
    let read = agent.ctl_json("load")?;
    let known = |real: &&serde_json::Value| {
        let readings = real["readings"].as_array();
        up.contains(&real["address"].to_string())
            && readings.is_some_and(|all| all.iter().any(|reading| reading["value"].is_number()))
    };
    Ok(read
        .as_array()
        .context("`lbctl load` prints no reals")?
        .iter()
        .filter(known)
        .count())
}

/// Answers every request, with another load each time.
async fn serve() -> anyhow::Result<()> {
    let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
    loop {
        let (mut stream, _) = listener.accept().await?;
        let cpu = 0.4 + fastrand::f64() / 10.0;
        let body = format!("{{\"cpu\": {cpu:.3}}}");
        let response = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        tokio::spawn(async move {
            // A client that disconnects needs no answer.
            let _ = stream.read(&mut [0; 4_096]).await;
            let _ = stream.write_all(response.as_bytes()).await;
        });
    }
}
