//! Utilisation relative to a process's own limit.

use std::time::{Duration, Instant};

use lb_tests::{Cgroup, Limits, Namespace, Process, binary, freeze_threads, wait_for};

use super::reporter::Reporter;

/// Limit for a report to show a change.
const PATIENCE: Duration = Duration::from_secs(60);
/// A CPU limit in cores, small compared with any machine.
const CORES: f64 = 0.2;
const MEMORY: u64 = 64 << 20;

fn confined(cgroup: &Cgroup, script: &str) -> anyhow::Result<Process> {
    let mut command = std::process::Command::new("sh");
    command.args(["-c", script]);
    cgroup.confine(&mut command)?;
    Process::start("a confined program", command)
}

/// Waits for a report that is as expected, and returns it.
fn wait_report(
    reporter: &Reporter,
    what: &str,
    is_expected: impl Fn(&serde_json::Value) -> bool,
) -> anyhow::Result<serde_json::Value> {
    let mut last = serde_json::Value::Null;
    wait_for(what, PATIENCE, || {
        last = reporter.load()?;
        Ok(is_expected(&last).then(|| last.clone()))
    })
    .map_err(|error| error.context(format!("the last report: {last}")))
}

pub fn a_reporter_whose_sampler_hangs_ends() -> anyhow::Result<()> {
    let namespace = Namespace::new("real")?;
    let mut reporter = Reporter::start(&namespace, &["--watchdog", "5s"])?;
    freeze_threads(reporter.process.id(), "sampler")?;
    let (status, output) = reporter.process.wait_end(PATIENCE)?;
    assert_eq!(status.code(), Some(1), "{output}");
    let reason = "the thread that takes samples hangs: it has made no progress for 5s500ms";
    assert!(output.contains(reason), "{output}");
    Ok(())
}

pub fn a_real_whose_upkeep_hangs_ends() -> anyhow::Result<()> {
    let namespace = Namespace::new("real")?;
    namespace.sh("ip link add eth0 type veth peer name eth1")?;
    namespace.sh("ip link set eth0 up")?;
    namespace.sh("ip link set eth1 up")?;
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (state, status) = (path("state"), path("status"));
    let arguments = [
        "real",
        "--iface",
        "eth0",
        "--vip",
        "192.0.2.10",
        "--xdp-mode",
        "generic",
        "--state",
        &state,
        "--status",
        &status,
        "--watchdog",
        "5s",
    ];
    let mut real = namespace.start("lb-agent real", binary("lb-agent")?, arguments)?;
    real.wait_line("lb-agent: real ready", "", PATIENCE)?;
    let told = |words: &str| {
        wait_for(words, PATIENCE, || {
            let text = std::fs::read_to_string(&status)?;
            anyhow::ensure!(text.contains(words), "{text}");
            Ok(Some(()))
        })
    };
    told("\nready\n")?;
    namespace.sh("ip link del eth0")?;
    told("eth0")?;
    // Its only thread besides the watchdog's.
    freeze_threads(real.id(), "lb-agent")?;
    let (status, output) = real.wait_end(PATIENCE)?;
    assert_eq!(status.code(), Some(1), "{output}");
    let reason = "the upkeep of this real hangs: it has made no progress for 5s; the process does not end in order either";
    assert!(output.contains(reason), "{output}");
    Ok(())
}

pub fn a_busy_program_is_at_its_own_limit_and_far_below_the_hosts() -> anyhow::Result<()> {
    let cgroup = Cgroup::new(Limits {
        cores: Some(CORES),
        memory: None,
    })?;
    let namespace = Namespace::new("real")?;
    let reporter = Reporter::start(&namespace, &["--cgroup", &cgroup.path()])?;
    let idle = wait_report(&reporter, "an idle group", |report| report["cpu"] == 0.0)?;
    assert_eq!(idle["cpu_limit"], CORES, "{idle}");

    let begin = Instant::now();
    let before = cgroup.cpu_time()?;
    let mut busy = confined(&cgroup, "while :; do :; done")?;
    let report = wait_report(&reporter, "a busy group", |report| {
        report["cpu"].as_f64().is_some_and(|cpu| cpu >= 0.9)
            && report["throttled"].as_f64().is_some_and(|part| part > 0.5)
    })?;
    let source = report["source"].as_str().unwrap();
    assert!(source.starts_with("cgroup_v"), "{report}");
    assert_eq!(report["cpu_limit"], CORES, "{report}");
    // The group is at its limit though it has used a small part of one core.
    let used = (cgroup.cpu_time()? - before).as_secs_f64() / begin.elapsed().as_secs_f64();
    assert!(used < 2.0 * CORES, "{used} cores");

    busy.kill()?;
    wait_report(&reporter, "an idle group again", |report| {
        report["cpu"] == 0.0
    })?;
    Ok(())
}

pub fn a_process_is_measured_by_its_own_group() -> anyhow::Result<()> {
    let cgroup = Cgroup::new(Limits {
        cores: Some(CORES),
        memory: Some(MEMORY),
    })?;
    // `tail` keeps everything in memory, because the input has no line end.
    let process = confined(
        &cgroup,
        "(head -c 25165824 /dev/zero; exec sleep 1000) | tail",
    )?;
    let namespace = Namespace::new("real")?;
    let reporter = Reporter::start(&namespace, &["--pid", &process.id().to_string()])?;
    let report = wait_report(&reporter, "three eighths of its memory", |report| {
        report["memory"].as_f64().is_some_and(|part| part >= 0.375)
    })?;
    assert_eq!(report["memory_limit"], MEMORY, "{report}");
    assert_eq!(report["cpu_limit"], CORES, "{report}");
    assert!(
        report["file_descriptors"]
            .as_f64()
            .is_some_and(|part| part > 0.0 && part < 1.0),
        "{report}"
    );

    drop(process);
    let gone = wait_report(&reporter, "that it is gone", |report| {
        report["cpu"].is_null()
    })?;
    assert!(gone["memory"].is_null(), "{gone}");
    assert!(!gone["notes"].as_array().unwrap().is_empty(), "{gone}");
    Ok(())
}

pub fn a_reporter_that_is_confined_measures_its_own_limit() -> anyhow::Result<()> {
    let cgroup = Cgroup::new(Limits {
        cores: Some(0.5),
        memory: None,
    })?;
    let namespace = Namespace::new("real")?;
    namespace.confine(cgroup.clone());
    let reporter = Reporter::start(&namespace, &[])?;
    let own = wait_report(&reporter, "its own group", |report| {
        !report["cpu"].is_null()
    })?;
    assert_eq!(own["cpu_limit"], 0.5, "{own}");
    drop(reporter);

    let reporter = Reporter::start(&namespace, &["--cgroup", "/"])?;
    let host = wait_report(&reporter, "the host", |report| !report["cpu"].is_null())?;
    assert_eq!(host["source"], "host", "{host}");
    assert!(host["cpu_limit"].as_f64().unwrap() >= 1.0, "{host}");
    Ok(())
}

pub fn a_group_is_removed_with_its_last_handle() -> anyhow::Result<()> {
    let cgroup = Cgroup::new(Limits {
        cores: Some(CORES),
        memory: None,
    })?;
    let path = cgroup.path();
    let mut process = confined(&cgroup, "sleep 1000")?;
    let joined = std::fs::read_to_string(format!("/proc/{}/cgroup", process.id()))?;
    assert!(joined.contains(&path), "{joined}");
    drop(cgroup);
    wait_for("the end of its process", PATIENCE, || {
        Ok(process.check().is_err().then_some(()))
    })?;
    let joined = std::fs::read_to_string("/proc/mounts")?
        .lines()
        .filter(|line| line.contains(" cgroup"))
        .filter_map(|line| line.split(' ').nth(1))
        .any(|point| std::path::Path::new(&format!("{point}{path}")).exists());
    assert!(!joined, "{path} is still there");
    Ok(())
}
