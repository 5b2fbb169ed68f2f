//! Load changes shares without breaking connections.

use std::time::Duration;

use lb_tests::{
    Cgroup, Limits, Namespace, Process, binary,
    client::{Connections, HttpPlan, http_load},
    wait_for,
};

use crate::fixture::{Backend, HTTP, PATIENCE, Testbed, new_testbed, target};

/// CPU limit of each real's host, in cores.
const CORES: f64 = 0.2;
const STEERING: &str = "capacity period=500ms slow_start=1s healthy_for=1s";

/// A CPU limit on a host, and a reporter of its use.
struct Limited {
    _reporter: Process,
    namespace: Namespace,
    cgroup: Cgroup,
}

impl Limited {
    fn new(real: &Backend) -> Self {
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

    /// Runs another program within the limit.
    fn load(&self, script: &str) -> Process {
        let mut command = self.namespace.command("sh");
        command.args(["-c", script]);
        self.cgroup.confine(&mut command).unwrap();
        Process::start("the CPU hog", command).unwrap()
    }
}

/// Returns each real's current share.
fn shares(testbed: &Testbed) -> Vec<f64> {
    let listed = testbed.agent.ctl_json(&format!("list {HTTP}")).unwrap();
    testbed
        .backends
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

pub fn a_loaded_real_gets_less_and_no_connection_breaks() {
    let mut testbed = new_testbed(3, &[HTTP]);
    let limited: Vec<Limited> = testbed.backends.iter().map(Limited::new).collect();
    let reals: Vec<_> = testbed.backends.iter().collect();
    testbed
        .add_service(
            HTTP,
            &[
                "--load",
                "grpc port=7946 interval=500ms timeout=400ms",
                "--steering",
                STEERING,
            ],
            &reals,
        )
        .unwrap();
    let plan = |connections, workers, pause| HttpPlan {
        target: target(HTTP),
        workers,
        connections,
        pause: Duration::from_millis(pause),
        requests: None,
    };
    let kept = http_load(&testbed.client, plan(Connections::Kept, 100, 100));
    let new = http_load(&testbed.client, plan(Connections::New, 4, 10));
    // All reals have some load, from which the controller learns their capacity.
    let even = "while :; do i=0; while [ $i -lt 3000 ]; do i=$((i+1)); done; sleep 0.05; done";
    let _busy: Vec<Process> = limited.iter().map(|real| real.load(even)).collect();
    wait_for("readings of every real", PATIENCE, || {
        let read = (0..3).all(|index| {
            testbed
                .why(HTTP, &testbed.backends[index].address())
                .unwrap()["utilisation"]
                .is_number()
        });
        Ok(read.then_some(()))
    })
    .unwrap();

    let hog = limited[0].load("while :; do :; done");
    wait_for("a smaller share of the loaded real", PATIENCE, || {
        // The first reading covers some time before the load.
        let why = testbed.why(HTTP, &testbed.backends[0].address()).unwrap();
        let full = why["utilisation"].as_f64() > Some(0.8);
        let now = shares(&testbed);
        Ok((full && now[0] < 0.6 * now[1].min(now[2])).then_some(()))
    })
    .unwrap();

    // The next agent continues with these weights.
    testbed.agent.stop().unwrap();
    testbed.agent.run().unwrap();
    let now = shares(&testbed);
    assert!(now[0] < 0.8 * now[1].min(now[2]), "{now:?}");
    drop(hog);

    // The operator's weight of 0 overrides the controller.
    let address = testbed.backends[1].address();
    testbed
        .lbctl(&["set-real", HTTP, &address, "--weight", "0"])
        .unwrap();
    assert_eq!(shares(&testbed)[1], 0.0);
    kept.wait_requests(300, PATIENCE).unwrap();
    for load in [kept, new] {
        let report = load.stop().unwrap();
        assert_eq!(report.failed, 0, "{:?}", report.errors);
        assert!(report.requests > 0);
    }
}
