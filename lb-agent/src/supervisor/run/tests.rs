//! The supervisor with an owner whose data plane is a recorder.

use lb_model::{
    intent::{Change, Patch},
    vip::RealId,
};
use serde_json::json;

use super::*;
use crate::{
    control::{ChangeRequest, What, recorder::Recorder},
    store::State,
};

const VIP: &str = "10.0.0.1:80/tcp";
const REAL: &str = "10.1.0.2";

fn patch(json: serde_json::Value) -> Patch {
    json.as_object().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_and_a_load_reader_that_panic_are_started_again_and_reported() {
    let directory = tempfile::tempdir().unwrap();
    let options = control::Options {
        exec_checks: true,
        ..control::Options::default()
    };
    let changed = Arc::clone(&options.changed);
    let state = State::open(directory.path()).unwrap();
    let plane = Box::new(Recorder::default());
    let (owner, thread) = control::start(state, plane, options).unwrap();
    let vip: VipKey = VIP.parse().unwrap();
    let real: RealId = REAL.parse().unwrap();
    // Neither needs a network.
    let check = json!({
        "kind": "exec", "command": ["/bin/true"], "interval": "200ms", "timeout": "200ms"
    });
    let source = json!({
        "kind": "docker", "container": "none", "socket": directory.path().join("none"),
        "interval": "1s", "timeout": "200ms"
    });
    let settings = json!({ "check": check, "load": [source] });
    for change in [
        Change::AddVip {
            vip,
            patch: patch(settings),
        },
        Change::AddReal {
            vip,
            real,
            patch: Patch::new(),
        },
    ] {
        let request = ChangeRequest::new(change, Arc::from("test"));
        owner.change(request).await.unwrap();
    }
    let mut watching = owner.watch(None, None).await.unwrap();
    let wanted = changed.take().await.remove(&vip).flatten().unwrap();

    let (mut supervisor, inbox) = Supervisor::new(owner.clone());
    // A runtime without clock and sockets: the tasks panic as soon as they want to wait.
    let broken = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .unwrap();
    let vip_supervisor = {
        let _guard = broken.enter();
        VipSupervisor::new(
            wanted,
            None,
            supervisor.time(Instant::now()),
            &Marks::new(),
            &supervisor.tasks,
        )
    };
    supervisor.supervisors.insert(vip, vip_supervisor);
    // Watchers hear of a real once its weight is known.
    supervisor.step(vec![vip]).await;
    let (questions, received) = mpsc::channel(1);
    let handle = Handle {
        questions,
        pulse: Arc::clone(&supervisor.pulse),
    };
    let task = tokio::spawn(supervisor.run(changed, inbox, received));

    let mut restarted = std::collections::BTreeSet::new();
    while restarted.len() < 2 {
        let event = watching.events.recv().await.unwrap();
        if let What::RealChanged(_) = event.what
            && let Some((task, _)) = event.cause.split_once(" panicked")
        {
            restarted.insert(task.to_owned());
        }
    }
    let restarted: Vec<_> = restarted.into_iter().collect();
    assert!(
        restarted[0].starts_with("its load reader") && restarted[1] == "its probe",
        "{restarted:?}"
    );
    let warnings = handle.warnings().await;
    assert!(
        warnings
            .iter()
            .any(|text| text.starts_with("2 probes, load readers")),
        "{warnings:?}"
    );
    // Both work again.
    loop {
        let snapshots = handle.snapshots().await;
        let snapshot = &snapshots[&(vip, real)];
        let read = snapshot
            .readings
            .iter()
            .any(|reading| !reading.problem.is_empty());
        if snapshot.probe.is_some() && read {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    task.abort();
    broken.shutdown_background();
    owner.stop().await;
    thread.join().unwrap();
}
