use std::{path::Path, sync::Arc, thread::JoinHandle};

use lb_model::vip::VipKey;

use super::{recorder::Recorder, *};
use crate::store::State;
use lb_dataplane::{Dataplane as _, ServiceSpec};
use lb_model::ring::NO_REAL;
use lb_model::{intent::Patch, settings::Value};
use serde_json::json;

mod broken_dataplane;
mod following;
mod guards;
mod order;
mod steering;

const A: &str = "10.0.0.1:80/tcp";
const B: &str = "[2001:db8::1]:443/udp";

fn name(text: &str) -> VipKey {
    text.parse().unwrap()
}

fn patch(json: Value) -> Patch {
    json.as_object().unwrap().clone()
}

fn add_vip(vip: &str) -> Change {
    Change::AddVip {
        vip: name(vip),
        patch: Patch::new(),
    }
}

fn add_real(vip: &str, real: &str) -> Change {
    Change::AddReal {
        vip: name(vip),
        real: real.parse().unwrap(),
        patch: Patch::new(),
    }
}

fn set_weight(vip: &str, real: &str, weight: u32) -> Change {
    let patch = patch(json!({ "weight": weight }));
    Change::UpdateReal {
        vip: name(vip),
        real: real.parse().unwrap(),
        patch,
    }
}

fn begin(directory: &Path, plane: &Recorder) -> (Handle, JoinHandle<()>) {
    start(
        State::open(directory).unwrap(),
        Box::new(plane.clone()),
        Options::default(),
    )
    .unwrap()
}

/// What a stopped owner has stored.
fn stored(directory: &Path) -> Intent {
    let state = State::open(directory).unwrap();
    state.intent.load().unwrap()
}

async fn end((handle, thread): (Handle, JoinHandle<()>)) {
    handle.stop().await;
    thread.join().unwrap();
}

async fn change(handle: &Handle, change: Change) -> Result<Option<VipView>, Refusal> {
    handle
        .change(ChangeRequest::new(change, Arc::from("test")))
        .await
}

/// Queues all of these before the first is answered.
async fn submit(handle: &Handle, changes: Vec<Change>) -> Vec<Result<Option<VipView>, Refusal>> {
    let mut waiting = Vec::new();
    for change in changes {
        waiting.push(
            handle
                .submit(ChangeRequest::new(change, Arc::from("test")), true)
                .await
                .unwrap(),
        );
    }
    let mut outcomes = Vec::new();
    for receiver in waiting {
        outcomes.push(receiver.await.unwrap());
    }
    outcomes
}

#[tokio::test]
async fn a_change_reaches_the_tables_before_it_is_acknowledged() {
    let (directory, plane) = (tempfile::tempdir().unwrap(), Recorder::default());
    let owner = begin(directory.path(), &plane);
    change(&owner.0, add_vip(A)).await.unwrap();
    change(&owner.0, add_real(A, "10.1.0.2")).await.unwrap();
    let view = change(&owner.0, add_real(A, "10.1.0.3"))
        .await
        .unwrap()
        .unwrap();
    let shares: f64 = view.reals.iter().map(|real| real.share).sum();
    assert!(
        (shares - 1.0).abs() < 1e-9 && view.reals.iter().all(|real| real.share > 0.4),
        "{view:?}"
    );

    let wanted: ServiceSpec = plane.tables().services[&name(A)].clone();
    assert_eq!(
        wanted.reals,
        [
            "10.1.0.2".parse::<RealId>().unwrap(),
            "10.1.0.3".parse().unwrap()
        ]
    );
    assert_eq!(wanted.ring.len(), 4_096);

    let drain = patch(json!({ "drained": true }));
    let drain = |real: &str| Change::UpdateReal {
        vip: name(A),
        real: real.parse().unwrap(),
        patch: drain.clone(),
    };
    let view = change(&owner.0, drain("10.1.0.2")).await.unwrap().unwrap();
    let real = &view.reals[0];
    assert_eq!(
        (
            real.spec.weight,
            real.effective_weight,
            real.state,
            real.share
        ),
        (100, 0, RealState::Draining, 0.0)
    );
    change(&owner.0, drain("10.1.0.3")).await.unwrap();
    let wanted: ServiceSpec = plane.tables().services[&name(A)].clone();
    assert_eq!(wanted.reals.len(), 2, "drained reals keep their flows");
    assert!(wanted.ring.len() == 4_096 && wanted.ring.iter().all(|slot| *slot == NO_REAL));
    end(owner).await;
}

#[tokio::test]
async fn a_change_to_what_is_there_touches_nothing() {
    let (directory, plane) = (tempfile::tempdir().unwrap(), Recorder::default());
    let owner = begin(directory.path(), &plane);
    change(&owner.0, add_vip(A)).await.unwrap();
    change(&owner.0, add_real(A, "10.1.0.2")).await.unwrap();
    let mut watching = owner.0.watch(None, None).await.unwrap();
    plane.tables().calls.clear();
    let view = change(&owner.0, set_weight(A, "10.1.0.2", 100))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(view.reals[0].spec.weight, 100);
    assert!(
        plane.tables().calls.is_empty(),
        "{:?}",
        plane.tables().calls
    );
    assert!(watching.events.try_recv().is_err());
    change(&owner.0, set_weight(A, "10.1.0.2", 99))
        .await
        .unwrap();
    assert_eq!(plane.tables().calls, [format!("set {A}")]);
    end(owner).await;
}

#[tokio::test]
async fn a_full_table_refuses_the_change_and_nothing_else_has_changed() {
    let (directory, plane) = (tempfile::tempdir().unwrap(), Recorder::default());
    plane.tables().capacity = Some(2);
    let owner = begin(directory.path(), &plane);
    change(&owner.0, add_vip(A)).await.unwrap();
    change(&owner.0, add_real(A, "10.1.0.2")).await.unwrap();
    change(&owner.0, add_real(A, "10.1.0.3")).await.unwrap();
    let before = owner.0.list(None).await.unwrap();
    let refusal = change(&owner.0, add_real(A, "10.1.0.4")).await.unwrap_err();
    assert!(
        matches!(
            refusal,
            Refusal::Full {
                table: "reals",
                capacity: 2,
                ..
            }
        ),
        "{refusal}"
    );
    // The record was written twice, so only its revision differs.
    let mut after = owner.0.list(None).await.unwrap();
    for (view, old) in after.iter_mut().zip(&before) {
        assert!(view.vip.revision > old.vip.revision);
        Arc::make_mut(&mut view.vip).revision = old.vip.revision;
    }
    assert_eq!(after, before);
    end(owner).await;
    let stored = stored(directory.path());
    assert_eq!(
        stored.get(&name(A)).unwrap().reals.len(),
        2,
        "the store was put back"
    );
}

#[tokio::test]
async fn of_changes_that_wait_together_only_those_without_room_are_refused() {
    let (directory, plane) = (tempfile::tempdir().unwrap(), Recorder::default());
    plane.tables().capacity = Some(3);
    let owner = begin(directory.path(), &plane);
    submit(&owner.0, vec![add_vip(B), add_real(B, "fd00::2")]).await;
    let outcomes = submit(
        &owner.0,
        vec![
            add_vip(A),
            add_real(A, "10.1.0.2"),
            set_weight(B, "fd00::2", 9),
            add_real(A, "10.1.0.3"),
            add_real(A, "10.1.0.3"),
            add_real(A, "10.1.0.4"),
            set_weight(A, "10.1.0.2", 7),
        ],
    )
    .await;
    let refused: Vec<usize> = (0..outcomes.len())
        .filter(|at| outcomes[*at].is_err())
        .collect();
    assert_eq!(refused, [4, 5], "{outcomes:?}");
    assert!(matches!(outcomes[4], Err(Refusal::RealExists { .. })));
    assert!(matches!(outcomes[5], Err(Refusal::Full { .. })));
    let listed = owner.0.list(None).await.unwrap();
    assert_eq!(
        listed
            .iter()
            .map(|view| view.reals.len())
            .collect::<Vec<_>>(),
        [2, 1]
    );
    assert_eq!(listed[0].reals[0].spec.weight, 7);
    end(owner).await;
    let stored = stored(directory.path());
    assert_eq!(stored.reals(), 3);
    assert_eq!(plane.tables().services[&name(A)].reals.len(), 2);
}

#[tokio::test]
async fn what_is_stored_is_restored_and_adopted_tables_are_repaired() {
    let (directory, plane) = (tempfile::tempdir().unwrap(), Recorder::default());
    let owner = begin(directory.path(), &plane);
    for asked in [
        add_vip(A),
        add_real(A, "10.1.0.2"),
        add_vip(B),
        add_real(B, "fd00::2"),
        set_weight(B, "fd00::2", 3),
    ] {
        change(&owner.0, asked).await.unwrap();
    }
    let before = owner.0.list(None).await.unwrap();
    end(owner).await;

    // The tables that the next agent finds: A is missing, B is other than wanted, one is not wanted.
    let wanted = plane.tables().services.clone();
    let mut other = wanted[&name(B)].clone();
    other.reals.clear();
    let mut unwanted = wanted[&name(A)].clone();
    unwanted.vip = name("10.0.0.9:80/tcp");
    let mut found = Recorder::default();
    found.set_service(&other).unwrap();
    found.set_service(&unwanted).unwrap();
    let owner = begin(directory.path(), &found);
    assert_eq!(
        found.tables().services,
        wanted,
        "in line when start returns"
    );
    let mut after = owner.0.list(None).await.unwrap();
    for (after, before) in after.iter_mut().zip(&before) {
        for (after, before) in after.reals.iter_mut().zip(&before.reals) {
            assert!(after.since >= before.since, "not before it started");
            after.since = before.since;
        }
    }
    assert_eq!(after, before);
    end(owner).await;
}

#[test]
fn services_that_nobody_wants_are_found() {
    let found = [name(A), name("10.0.0.9:80/tcp")];
    let wanted = [name(A), name(B)].into();
    assert_eq!(
        restore::unwanted(&found, &wanted),
        [name("10.0.0.9:80/tcp")]
    );
    assert!(restore::unwanted(&[], &wanted).is_empty());
}

#[tokio::test]
async fn a_stored_vip_without_room_is_kept_said_and_tried_again() {
    let (directory, plane) = (tempfile::tempdir().unwrap(), Recorder::default());
    let owner = begin(directory.path(), &plane);
    change(&owner.0, add_vip(A)).await.unwrap();
    change(&owner.0, add_real(A, "10.1.0.2")).await.unwrap();
    end(owner).await;

    let small = Recorder::default();
    small.tables().capacity = Some(0);
    let owner = begin(directory.path(), &small);
    let warnings = owner.0.status().await.unwrap().warnings;
    assert!(
        warnings
            .iter()
            .any(|warning| warning.contains(A) && warning.contains("not served")),
        "{warnings:?}"
    );
    assert_eq!(
        owner.0.list(None).await.unwrap().len(),
        1,
        "it is still wanted"
    );
    small.tables().capacity = None;
    owner.0.tick();
    assert!(owner.0.status().await.unwrap().warnings.is_empty());
    assert!(small.tables().services.contains_key(&name(A)));
    end(owner).await;
}

#[tokio::test]
async fn checks_run_programs_only_where_that_is_on() {
    let (directory, plane) = (tempfile::tempdir().unwrap(), Recorder::default());
    let begin = |exec_checks| {
        let options = Options {
            exec_checks,
            ..Options::default()
        };
        let state = State::open(directory.path()).unwrap();
        start(state, Box::new(plane.clone()), options).unwrap()
    };
    let run = |program: &str| {
        let command = vec![program.to_owned()];
        Change::UpdateVip {
            vip: name(A),
            patch: patch(json!({ "check": { "kind": "exec", "command": command } })),
        }
    };
    let owner = begin(false);
    change(&owner.0, add_vip(A)).await.unwrap();
    let refusal = change(&owner.0, run("/bin/true")).await.unwrap_err();
    assert!(refusal.to_string().contains("--exec-checks"), "{refusal}");
    let kept = owner.0.list(None).await.unwrap();
    assert!(kept[0].vip.spec.check.is_none());
    end(owner).await;

    let owner = begin(true);
    change(&owner.0, run("/bin/true")).await.unwrap();
    end(owner).await;
    let stored = stored(directory.path());
    assert_eq!(running_programs(&stored), [name(A)]);
}

#[tokio::test]
async fn watchers_see_each_change_and_its_cause() {
    let (directory, plane) = (tempfile::tempdir().unwrap(), Recorder::default());
    let owner = begin(directory.path(), &plane);
    change(&owner.0, add_vip(A)).await.unwrap();
    let mut watching = owner.0.watch(None, None).await.unwrap();
    assert_eq!(watching.snapshot.len(), 1);
    submit(
        &owner.0,
        vec![
            add_real(A, "10.1.0.2"),
            set_weight(A, "10.1.0.2", 5),
            Change::DeleteReal {
                vip: name(A),
                real: "10.1.0.2".parse().unwrap(),
            },
            Change::DeleteVip { vip: name(A) },
            add_vip(B),
        ],
    )
    .await;
    let mut seen = Vec::new();
    while let Ok(event) = watching.events.try_recv() {
        assert_eq!(&*event.cause, "test");
        seen.push(match event.what {
            What::VipAdded(_) => "vip added",
            What::VipChanged(_) => "vip changed",
            What::VipDeleted => "vip deleted",
            What::RealAdded(_) => "real added",
            What::RealChanged(real) => {
                assert_eq!(real.spec.weight, 5);
                "real changed"
            }
            What::RealDeleted(real) => {
                assert_eq!(real.share, 0.0);
                "real deleted"
            }
            What::InterfaceChanged(_) | What::Notice => panic!("not of a VIP: {event:?}"),
        });
    }
    assert_eq!(
        seen,
        [
            "real added",
            "real changed",
            "real deleted",
            "vip deleted",
            "vip added"
        ]
    );

    change(&owner.0, add_real(B, "fd00::2")).await.unwrap();
    owner.0.list(None).await.unwrap();
    assert!(matches!(
        watching.events.recv().await.unwrap().what,
        What::RealAdded(_)
    ));
    plane.tables().unreachable.push("fd00::2".parse().unwrap());
    owner.0.refresh_next_hops().await;
    let event = watching.events.recv().await.unwrap();
    assert_eq!(&*event.cause, "next hop changed");
    let What::RealChanged(real) = event.what else {
        panic!("{event:?}")
    };
    assert_eq!(real.state, RealState::Unreachable);
    end(owner).await;
}
