//! The agent's own trouble is no evidence about a real: too few files, too little CPU, a stop.

use std::{process::Command, thread::sleep, time::Duration};

use lb_tests::{Cgroup, Limits, wait_for};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::fixture::{HTTP, PATIENCE, Testbed, new_testbed};

const CHECK: &str = "http interval=200ms fast_interval=200ms timeout=200ms";
/// Many intervals and thresholds. Nothing may happen in them, so there is nothing to wait for.
const LONG: Duration = Duration::from_secs(5);
/// Period of a CPU limit that leaves little of it.
const STARVED: Duration = Duration::from_millis(100);
const ENDED: &str = "a probe says nothing";

/// Two web servers that are probed five times a second, and are up.
fn probed() -> Testbed {
    let testbed = new_testbed(2, &[HTTP]);
    let reals: Vec<_> = testbed.backends.iter().collect();
    testbed
        .add_service(HTTP, &["--check", CHECK], &reals)
        .unwrap();
    for real in &reals {
        testbed.wait_healthy(HTTP, &real.address()).unwrap();
    }
    testbed
}

fn warnings(testbed: &Testbed) -> String {
    let status = testbed.agent.ctl_json("status").unwrap();
    status["warnings"].to_string()
}

/// No real went down, and one that dies now does.
fn assert_only_the_dead_go_down(testbed: &mut Testbed) {
    let said = testbed.agent.output();
    assert!(!said.contains(": down: "), "{said}");
    let address = testbed.backends[0].address();
    testbed.backends[0].server.nginx = None;
    testbed.wait_state(HTTP, &address, "down").unwrap();
    let living = testbed.backends[1].address();
    testbed.wait_serving(HTTP, &living).unwrap();
}

fn limit_files(agent: u32, soft: &str) {
    let status = Command::new("prlimit")
        .args(["--pid", &agent.to_string(), &format!("--nofile={soft}:")])
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
}

pub fn an_agent_without_files_keeps_the_state_of_its_reals() {
    let mut testbed = probed();
    let agent = testbed.agent.id().unwrap();
    // No descriptor is so low: even those in reserve are of no use.
    limit_files(agent, "3");
    wait_for("the agent to say that it lacks files", PATIENCE, || {
        let said = testbed.agent.output();
        Ok((said.contains(ENDED) && said.contains("Too many open files")).then_some(()))
    })
    .unwrap();
    sleep(LONG);
    limit_files(agent, "1024");
    let warnings = warnings(&testbed);
    assert!(warnings.contains("Too many open files"), "{warnings}");
    assert!(warnings.contains("whose states are kept"), "{warnings}");
    assert_eq!(
        testbed.agent.output().matches("more such probes").count(),
        1,
        "it is said once"
    );
    assert_only_the_dead_go_down(&mut testbed);
}

pub fn files_are_kept_for_probes_when_others_have_used_them_up() {
    let mut testbed = probed();
    let agent = testbed.agent.id().unwrap();
    // Every descriptor below the limit is in use, save for those that are given up for probes.
    let highest = std::fs::read_dir(format!("/proc/{agent}/fd"))
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse::<u32>().ok())
        .max()
        .unwrap();
    limit_files(agent, &highest.to_string());
    let connections: Vec<_> = (0..64)
        .filter_map(|_| std::os::unix::net::UnixStream::connect(socket(&testbed)).ok())
        .collect();
    assert!(!connections.is_empty());
    sleep(LONG);
    let address = testbed.backends[0].address();
    testbed.backends[0].server.nginx = None;
    wait_for("the death of a real to be found", PATIENCE, || {
        let said = testbed.agent.output();
        Ok(said.contains(&format!("{address}: down: ")).then_some(()))
    })
    .unwrap();
    let said = testbed.agent.output();
    assert!(!said.contains(ENDED), "{said}");
    drop(connections);
    limit_files(agent, "1024");
    testbed
        .wait_serving(HTTP, &testbed.backends[1].address())
        .unwrap();
    testbed.agent.check().unwrap();
}

fn socket(testbed: &Testbed) -> String {
    testbed
        .agent
        .endpoint()
        .trim_start_matches("unix:")
        .to_owned()
}

/// Some hundred probes at a time wake up late.
pub fn an_agent_that_gets_little_cpu_kills_no_real() {
    let cgroup = Cgroup::new(Limits {
        cores: Some(1.0),
        memory: None,
    })
    .unwrap();
    let mut testbed = probed();
    let reals: Vec<_> = testbed.backends.iter().collect();
    for port in 8_000..8_060 {
        let vip = format!("192.0.2.10:{port}/tcp");
        let check = format!("{CHECK} port=80");
        testbed
            .add_service(&vip, &["--check", &check], &reals)
            .unwrap();
    }
    cgroup.add(testbed.agent.id().unwrap()).unwrap();
    let before = cgroup.throttled_periods().unwrap();
    cgroup.set_quota(0.03, STARVED).unwrap();
    sleep(LONG * 3);
    cgroup.set_cores(1.0).unwrap();
    // Probes were under way all the time, and most of the time nobody looked after them.
    let throttled = cgroup.throttled_periods().unwrap() - before;
    println!("{throttled} periods without CPU time");
    let all = (LONG * 3).as_millis() / STARVED.as_millis();
    assert!(u128::from(throttled) > all / 2, "{throttled} of {all}");
    assert_only_the_dead_go_down(&mut testbed);
}

pub fn an_agent_that_was_stopped_kills_no_real() {
    let mut testbed = probed();
    let agent = Pid::from_raw(i32::try_from(testbed.agent.id().unwrap()).unwrap());
    for _ in 0..3 {
        kill(agent, Signal::SIGSTOP).unwrap();
        // Longer than a time-out and its tolerance.
        sleep(Duration::from_secs(1));
        kill(agent, Signal::SIGCONT).unwrap();
        testbed
            .wait_healthy(HTTP, &testbed.backends[0].address())
            .unwrap();
    }
    assert_only_the_dead_go_down(&mut testbed);
}
