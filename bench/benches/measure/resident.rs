//! Memory of an agent by what is configured: what a limit of its control group must leave room for.

use std::{fs, thread, time::Duration};

use anyhow::Context as _;
use comfy_table::Table;
use lb_bench::process::resident;
use lb_tests::{Agent, AgentOptions, Cgroup, Limits, Namespace, cable};
use serde::Serialize;

/// Memory of an agent in one state.
#[derive(Debug, Serialize)]
pub struct ResidentFigure {
    /// What is configured.
    pub state: &'static str,
    /// VIPs.
    pub vips: u32,
    /// Reals of all VIPs.
    pub reals: u32,
    /// Resident set of the process, in KiB; pages of tables that it has mapped are part of it.
    pub resident_kib: u64,
    /// What its control group accounts, tables in the kernel included, in KiB.
    pub group_kib: u64,
    /// The most that it accounted since the agent was started first.
    pub peak_kib: u64,
    /// The same since the agent was killed and started again.
    pub restart_kib: u64,
}

/// What is configured.
struct State {
    name: &'static str,
    vips: u32,
    /// Reals of each VIP.
    reals: u32,
    /// Further words of `add-vip`.
    options: &'static str,
}

const CHECK: &str = "--check 'tcp interval=5s timeout=1s'";
const SUPERVISED: &str = "--check 'tcp interval=5s timeout=1s' --load 'http-json path=/load port=9100 interval=5s utilisation=/cpu'";

const STATES: [State; 7] = [
    State {
        name: "nothing",
        vips: 0,
        reals: 0,
        options: "",
    },
    State {
        name: "VIPs without reals",
        vips: 1_000,
        reals: 0,
        options: "",
    },
    State {
        name: "reals",
        vips: 10,
        reals: 100,
        options: "",
    },
    State {
        name: "reals",
        vips: 100,
        reals: 100,
        options: "",
    },
    State {
        name: "reals with a check",
        vips: 10,
        reals: 100,
        options: CHECK,
    },
    State {
        name: "reals with a check and a load reader",
        vips: 10,
        reals: 100,
        options: SUPERVISED,
    },
    State {
        name: "reals with a check and a load reader",
        vips: 100,
        reals: 100,
        options: SUPERVISED,
    },
];

/// Time until each real was probed and read several times.
const SETTLE: Duration = Duration::from_secs(15);

/// Starts an agent for each state, configures it, and reads what it takes; then the same after a kill.
pub fn measure() -> anyhow::Result<Vec<ResidentFigure>> {
    let figures = STATES
        .iter()
        .map(figure)
        .collect::<anyhow::Result<Vec<_>>>()?;
    let mut table = Table::new();
    table.set_header([
        "configured",
        "VIPs",
        "reals",
        "resident MiB",
        "group MiB",
        "its peak",
        "peak of a restart",
    ]);
    for figure in &figures {
        table.add_row([
            figure.state.to_owned(),
            figure.vips.to_string(),
            figure.reals.to_string(),
            mebibytes(figure.resident_kib),
            mebibytes(figure.group_kib),
            mebibytes(figure.peak_kib),
            mebibytes(figure.restart_kib),
        ]);
    }
    println!("\nMemory of an agent\n{table}");
    Ok(figures)
}

fn mebibytes(kib: u64) -> String {
    format!("{:.1}", kib as f64 / 1_024.0)
}

fn figure(state: &State) -> anyhow::Result<ResidentFigure> {
    let near = Namespace::new("bench-resident")?;
    let far = Namespace::new("bench-resident-far")?;
    cable(
        (&far, "far0", &["10.30.0.1/24".to_owned()]),
        // The agent is on the right end.
        (&near, "eth0", &["10.30.0.254/24".to_owned()]),
    )?;
    // The reals are addresses of one host, whose kernel refuses their connections: a dead real takes no less than a live
    // one.
    far.sh("ip route add local 10.31.0.0/16 dev lo")?;
    near.sh("ip route add 10.31.0.0/16 via 10.30.0.1")?;
    let group = Cgroup::new(Limits::default())?;
    near.confine(group.clone());
    let mut agent = Agent::start(&near, AgentOptions::default())?;
    let file = tempfile::NamedTempFile::new().context("making a script for lbctl")?;
    fs::write(file.path(), script(state))?;
    agent.ctl(&format!("apply {}", file.path().display()))?;
    thread::sleep(SETTLE);
    let resident_kib = resident(agent.id()?)?;
    let group_kib = group.memory()? / 1_024;
    let peak_kib = group.peak_memory()? / 1_024;
    // The kernel keeps the tables and accounts them to the old group, also when a new one starts the agent.
    agent.kill()?;
    let restarted = Cgroup::new(Limits::default())?;
    near.confine(restarted.clone());
    agent.run()?;
    thread::sleep(SETTLE);
    let restart_kib = restarted.peak_memory()? / 1_024;
    Ok(ResidentFigure {
        state: state.name,
        vips: state.vips,
        reals: state.vips * state.reals,
        resident_kib,
        group_kib,
        peak_kib,
        restart_kib,
    })
}

fn script(state: &State) -> String {
    let mut script = String::new();
    for vip in 0..state.vips {
        let address = format!("10.202.{}.{}:80/tcp", vip / 250, vip % 250 + 1);
        script += &format!("add-vip {address} {}\n", state.options);
        for real in 1..=state.reals {
            script += &format!("add-real {address} 10.31.{}.{real}\n", vip % 250);
        }
    }
    script
}
