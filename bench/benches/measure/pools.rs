//! CPU time and memory of a controller whose pools have nothing to do.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use lb_bench::process::{processor_time, resident};
use lb_tests::{Namespace, Process, binary, wait_for};
use serde::Serialize;

/// Cost of idle pools.
#[derive(Debug, Serialize)]
pub struct PoolsFigure {
    /// Pools.
    pub pools: u32,
    /// Instances of all pools.
    pub instances: u32,
    /// Seconds from the start of the controller until all instances ran.
    pub started: f64,
    /// Seconds of the measurement.
    pub seconds: f64,
    /// CPU time of all threads of the controller, in percent of one core.
    pub percent: f64,
    /// The controller's resident set in KiB.
    pub kib: u64,
}

const POOLS: u32 = 100;
/// Instances of each pool.
const INSTANCES: u32 = 20;
/// How long it may take until all run.
const PATIENCE: Duration = Duration::from_secs(600);
/// Time until what was measured first is stored.
const SETTLE: Duration = Duration::from_secs(30);
const WATCH: Duration = Duration::from_secs(60);
/// The controller's name, and so that of its control groups.
const NAME: &str = "bench-pools";

/// The number of instances that have a process.
fn running() -> usize {
    let has_process = |entry: &fs::DirEntry| {
        fs::read_to_string(entry.path().join("cgroup.procs")).is_ok_and(|text| !text.is_empty())
    };
    ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"]
        .iter()
        .filter_map(|root| fs::read_dir(format!("{root}/lb-process-{NAME}")).ok())
        .map(|entries| entries.flatten().filter(has_process).count())
        .sum()
}

/// Starts a controller with pools of programs that wait, and measures what it uses then.
pub fn measure() -> anyhow::Result<PoolsFigure> {
    let namespace = Namespace::new("bench-pools")?;
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name).display().to_string();
    let file = path("controller.toml");
    let pools = (0..POOLS).map(|number| {
        format!(
            r#"
[[pool]]
name = "pool-{number}"
driver = {{ kind = "process" }}
network = {{ port = {} }}
template = {{ program = "/bin/sleep", arguments = ["1000000"], stop_grace = "0ms" }}
scaling = {{ min = {INSTANCES}, max = {INSTANCES} }}
"#,
            10_000 + number * INSTANCES
        )
    });
    fs::write(&file, pools.collect::<String>())?;
    let begin = Instant::now();
    let start = || -> anyhow::Result<Process> {
        let mut process = namespace.start(
            "lb-controller",
            binary("lb-controller")?,
            [
                "run",
                "--name",
                NAME,
                "--state",
                &path("state"),
                "--listen",
                &format!("unix:{}", path("api.sock")),
                "--config",
                &file,
            ],
        )?;
        process.wait_line("lb-controller: ready", "", PATIENCE)?;
        Ok(process)
    };
    let mut process = start()?;
    let expected = (POOLS * INSTANCES) as usize;
    wait_for("all instances to run", PATIENCE, || {
        process.check()?;
        Ok((running() == expected).then_some(()))
    })?;
    let started = begin.elapsed().as_secs_f64();
    // What starting them took is not what idle pools take.
    process.stop()?;
    process = start()?;
    thread::sleep(SETTLE);
    let pid = process.id();
    let before = processor_time(pid)?;
    let begin = Instant::now();
    thread::sleep(WATCH);
    let seconds = begin.elapsed().as_secs_f64();
    let percent = (processor_time(pid)? - before) / seconds * 100.0;
    let kib = resident(pid)?;
    println!(
        "\n{POOLS} pools of {INSTANCES} instances ran after {started:.1} s; the idle controller used {percent:.2} % of a core \
         and {kib} KiB"
    );
    // The pools go as the file says.
    fs::write(&file, "").context("emptying the file")?;
    process.signal(nix::sys::signal::Signal::SIGHUP)?;
    wait_for("the end of all instances", PATIENCE, || {
        process.check()?;
        Ok((running() == 0).then_some(()))
    })?;
    process.stop()?;
    Ok(PoolsFigure {
        pools: POOLS,
        instances: POOLS * INSTANCES,
        started,
        seconds,
        percent,
        kib,
    })
}
