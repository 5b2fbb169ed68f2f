//! CPU time of an idle agent.

use std::{fs, thread, time::Duration, time::Instant};

use anyhow::Context as _;
use lb_bench::process::processor_time;
use lb_tests::{Agent, AgentOptions, Namespace, cable};
use serde::Serialize;

/// CPU time while idle.
#[derive(Debug, Serialize)]
pub struct IdleFigure {
    /// VIPs configured.
    pub vips: u32,
    /// Seconds of the measurement.
    pub seconds: f64,
    /// Share of one core, percent.
    pub percent: f64,
}

const VIPS: u32 = 100;
const REALS: u32 = 10;
/// Time for the agent to finish what the configuration causes.
const SETTLE: Duration = Duration::from_secs(3);
const WATCH: Duration = Duration::from_secs(20);

/// Starts an agent, configures it, and measures the CPU time that it then uses without traffic.
pub fn measure() -> anyhow::Result<IdleFigure> {
    let near = Namespace::new("bench-agent")?;
    let far = Namespace::new("bench-agent-far")?;
    cable(
        (&far, "far0", &["10.30.0.1/24".to_owned()]),
        // The program under test is on the right end.
        (&near, "eth0", &["10.30.0.254/24".to_owned()]),
    )?;
    for real in 2..=REALS {
        far.sh(&format!("ip address add 10.30.0.{real}/24 dev far0"))?;
    }
    let agent = Agent::start(&near, AgentOptions::default())?;
    let mut script = String::new();
    for vip in 1..=VIPS {
        script += &format!("add-vip 10.202.0.{vip}:80/tcp\n");
        for real in 1..=REALS {
            script += &format!("add-real 10.202.0.{vip}:80/tcp 10.30.0.{real}\n");
        }
    }
    let file = tempfile::NamedTempFile::new().context("making a script for lbctl")?;
    fs::write(file.path(), script)?;
    let start = Instant::now();
    agent.ctl(&format!("apply {}", file.path().display()))?;
    println!(
        "\n{VIPS} VIPs with {REALS} reals each were configured in {:.2} s",
        start.elapsed().as_secs_f64()
    );
    thread::sleep(SETTLE);
    let pid = agent.id()?;
    let before = processor_time(pid)?;
    let start = Instant::now();
    thread::sleep(WATCH);
    let seconds = start.elapsed().as_secs_f64();
    let percent = (processor_time(pid)? - before) / seconds * 100.0;
    println!("The idle agent used {percent:.2} % of a core over {seconds:.0} s without traffic");
    Ok(IdleFigure {
        vips: VIPS,
        seconds,
        percent,
    })
}
