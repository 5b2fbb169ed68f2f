//! Load moves shares and breaks nothing.

use std::time::Duration;

use lb_tests::{
    Cgroup, Limits, Namespace, Process, binary,
    client::{Connections, HttpPlan, http_load},
    wait_for,
};

use crate::fixture::{Behind, HTTP, PATIENCE, Stand, target};

/// Of a core, for each real's host.
const CORES: f64 = 0.2;
const STEERING: &str = "capacity period=500ms slow_start=1s healthy_for=1s";

/// A host with a limit of its own, and a reporter that tells how full it is.
struct Limited {
    _reporter: Process,
    namespace: Namespace,
    cgroup: Cgroup,
}

impl Limited {
    fn new(real: &Behind) -> Self {
        let cgroup = Cgroup::new(Limits {
            cores: Some(CORES),
            memory: None,
        })
        .unwrap();
        let listen = format!("http://{}:7946", real.host.v4);
        let mut reporter = real
            .host
            .start(
                "lb-agent report",
                binary("lb-agent").unwrap(),
                [
                    "report",
                    "--listen",
                    &listen,
                    "--interval",
                    "200ms",
                    "--cgroup",
                    &cgroup.path(),
                ],
            )
            .unwrap();
        reporter
            .wait_line("lb-agent report", "ready", PATIENCE)
            .unwrap();
        Limited {
            _reporter: reporter,
            namespace: real.host.namespace().clone(),
            cgroup,
        }
    }

    /// Something else runs there, and takes a part of its limit.
    fn load(&self, script: &str) -> Process {
        let mut command = self.namespace.command("sh");
        command.args(["-c", script]);
        self.cgroup.confine(&mut command).unwrap();
        Process::start("what loads a real", command).unwrap()
    }
}

/// Each real's share at one moment.
fn shares(stand: &Stand) -> Vec<f64> {
    let listed = stand.agent.ctl_json(&format!("list {HTTP}")).unwrap();
    stand
        .reals
        .iter()
        .map(|behind| {
            let reals = listed[0]["reals"].as_array().unwrap();
            let real = reals
                .iter()
                .find(|real| real["address"] == behind.address())
                .unwrap();
            real["share"].as_f64().unwrap()
        })
        .collect()
}

#[test]
fn a_loaded_real_gets_less_and_no_connection_breaks() {
    let mut stand = Stand::new(3, &[HTTP]);
    let limited: Vec<Limited> = stand.reals.iter().map(Limited::new).collect();
    let reals: Vec<_> = stand.reals.iter().collect();
    stand.serve(
        HTTP,
        &[
            "--load",
            "grpc port=7946 interval=500ms timeout=400ms",
            "--steering",
            STEERING,
        ],
        &reals,
    );
    let plan = |connections, workers, pause| HttpPlan {
        target: target(HTTP),
        workers,
        connections,
        pause: Duration::from_millis(pause),
        requests: None,
    };
    let kept = http_load(&stand.client, plan(Connections::Kept, 100, 100));
    let new = http_load(&stand.client, plan(Connections::New, 4, 10));
    // All have something to do, so that what they carry says something of what they can.
    let even = "while :; do i=0; while [ $i -lt 3000 ]; do i=$((i+1)); done; sleep 0.05; done";
    let _busy: Vec<Process> = limited.iter().map(|real| real.load(even)).collect();
    wait_for("readings of every real", PATIENCE, || {
        let read = (0..3)
            .all(|index| stand.why(HTTP, &stand.reals[index].address())["utilisation"].is_number());
        Ok(read.then_some(()))
    })
    .unwrap();

    let hog = limited[0].load("while :; do :; done");
    wait_for("the loaded real's share to shrink", PATIENCE, || {
        // The first reading after the start tells of a moment in part before it.
        let why = stand.why(HTTP, &stand.reals[0].address());
        let full = why["utilisation"].as_f64() > Some(0.8);
        let now = shares(&stand);
        Ok((full && now[0] < 0.6 * now[1].min(now[2])).then_some(()))
    })
    .unwrap();

    // The next agent goes on from there.
    stand.agent.stop().unwrap();
    stand.agent.run().unwrap();
    let now = shares(&stand);
    assert!(now[0] < 0.8 * now[1].min(now[2]), "{now:?}");
    drop(hog);

    // A weight of 0 wins over any controller, and so does what was asked for by hand before.
    let address = stand.reals[1].address();
    stand.ctl(&["set-real", HTTP, &address, "--weight", "0"]);
    assert_eq!(shares(&stand)[1], 0.0);
    kept.wait_requests(300, PATIENCE).unwrap();
    for load in [kept, new] {
        let report = load.stop().unwrap();
        assert_eq!(report.failed, 0, "{:?}", report.errors);
        assert!(report.requests > 0);
    }
}
