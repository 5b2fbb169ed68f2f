//! What steering orders, and what is reported of it.

use std::time::Duration;

use super::*;
use crate::weights::{Steered, SteeredReal};
use lb_model::{intent::Refusal, options::Forward};

/// The steering that a supervisor would order: per real its weight and whether it lives.
async fn steer(owner: &Handle, vip: &str, reals: &[(&str, u32, bool)]) {
    let found = |(real, weight, up): &(&str, u32, bool)| {
        (
            real.parse().unwrap(),
            SteeredReal {
                weight: *weight,
                up: *up,
            },
        )
    };
    let update = WeightUpdate {
        vip: name(vip),
        steered: Some(Steered {
            reals: reals.iter().map(found).collect(),
        }),
        causes: Vec::new(),
        notice: None,
    };
    owner.apply_weights(vec![update]).await.unwrap();
}

fn set_vip(vip: &str, patch: Patch) -> Change {
    Change::UpdateVip {
        vip: name(vip),
        patch,
    }
}

/// An owner of the steered VIP [`A`] with a real, and of what these changes make.
async fn steered_with(changes: Vec<Change>) -> (tempfile::TempDir, (Handle, JoinHandle<()>)) {
    let directory = tempfile::tempdir().unwrap();
    let owner = begin(directory.path(), &Recorder::default());
    let steering = patch(json!({ "steering": {} }));
    let own = [add_vip(A), set_vip(A, steering), add_real(A, "10.1.0.2")];
    for asked in own.into_iter().chain(changes) {
        change(&owner.0, asked).await.unwrap();
    }
    (directory, owner)
}

#[tokio::test]
async fn a_vip_without_a_live_real_is_told_of_and_its_stand_in_stays() {
    const OTHER: &str = "10.0.0.2:80/tcp";
    let fallback = patch(json!({ "when_empty": OTHER }));
    let (_directory, owner) = steered_with(vec![
        add_vip(OTHER),
        add_real(OTHER, "10.1.0.3"),
        set_vip(A, fallback),
    ])
    .await;
    let delete = Change::DeleteVip { vip: name(OTHER) };
    let refused = change(&owner.0, delete.clone()).await.unwrap_err();
    assert!(matches!(refused, Refusal::StandsIn { .. }), "{refused}");

    steer(&owner.0, A, &[("10.1.0.2", 100, true)]).await;
    let mut watching = owner.0.watch(None, None).await.unwrap();
    assert!(owner.0.status().await.unwrap().warnings.is_empty());
    for (up, cause) in [
        (false, "those of 10.0.0.2:80/tcp stand in"),
        (true, "alive again"),
    ] {
        steer(&owner.0, A, &[("10.1.0.2", 100, up)]).await;
        let event = watching.events.recv().await.unwrap();
        assert!(event.cause.contains(cause), "{}", event.cause);
        assert!(matches!(event.what, What::VipChanged(_)), "{event:?}");
        let warnings = owner.0.status().await.unwrap().warnings;
        assert_eq!(warnings.len(), usize::from(!up), "{warnings:?}");
    }

    let drop = patch(json!({ "when_empty": null }));
    change(&owner.0, set_vip(A, drop)).await.unwrap();
    change(&owner.0, delete).await.unwrap();
    end(owner).await;
}

#[tokio::test]
async fn modes_of_reals_reach_the_tables_and_so_do_those_of_stand_ins() {
    const OTHER: &str = "10.0.0.2:80/tcp";
    let in_mode = |vip: &str, real: &str, mode: Value| Change::UpdateReal {
        vip: name(vip),
        real: real.parse().unwrap(),
        patch: patch(json!({ "mode": mode })),
    };
    let (directory, plane) = (tempfile::tempdir().unwrap(), Recorder::default());
    let owner = begin(directory.path(), &plane);
    for asked in [
        add_vip(A),
        set_vip(A, patch(json!({ "steering": {}, "forward": "l2" }))),
        add_real(A, "10.1.0.2"),
        add_vip(OTHER),
        add_real(OTHER, "10.1.0.3"),
        add_real(OTHER, "10.1.0.4"),
        in_mode(OTHER, "10.1.0.4", json!("gue")),
        set_vip(A, patch(json!({ "when_empty": OTHER }))),
    ] {
        change(&owner.0, asked).await.unwrap();
    }
    let modes = || -> Vec<(String, Forward)> {
        let wanted: ServiceSpec = plane.tables().services[&name(A)].clone();
        let reals = wanted.reals.iter();
        reals
            .map(|real| (real.to_string(), wanted.mode_of(*real)))
            .collect()
    };
    let mode = |real: &str, mode| (real.to_owned(), mode);
    steer(&owner.0, A, &[("10.1.0.2", 100, true)]).await;
    assert_eq!(modes(), [mode("10.1.0.2", Forward::L2)]);
    change(&owner.0, in_mode(A, "10.1.0.2", json!("nat")))
        .await
        .unwrap();
    assert_eq!(modes(), [mode("10.1.0.2", Forward::Nat)]);
    steer(&owner.0, A, &[("10.1.0.2", 100, false)]).await;
    assert_eq!(
        modes(),
        [
            mode("10.1.0.2", Forward::Nat),
            // The mode of its own VIP does not count here.
            mode("10.1.0.3", Forward::L2),
            mode("10.1.0.4", Forward::Gue),
        ]
    );
    // A change of the other VIP's real reaches the VIP for which it stands in.
    change(&owner.0, in_mode(OTHER, "10.1.0.4", json!("ipip")))
        .await
        .unwrap();
    change(&owner.0, in_mode(A, "10.1.0.2", Value::Null))
        .await
        .unwrap();
    assert_eq!(
        modes(),
        [
            mode("10.1.0.2", Forward::L2),
            mode("10.1.0.3", Forward::L2),
            mode("10.1.0.4", Forward::Ipip),
        ]
    );
    end(owner).await;
    // The next agent knows it.
    let stored = stored(directory.path());
    let real = &stored.get(&name(OTHER)).unwrap().reals[&"10.1.0.4".parse().unwrap()];
    assert_eq!(real.spec.mode, Some(Forward::Ipip));
}

#[tokio::test]
async fn who_gets_nothing_though_it_is_wanted_is_held() {
    let (_directory, owner) = steered_with(vec![add_real(A, "10.1.0.3")]).await;
    steer(&owner.0, A, &[("10.1.0.2", 0, true), ("10.1.0.3", 7, true)]).await;
    let states = async || -> Vec<RealState> {
        let vips = owner.0.list(None).await.unwrap();
        vips[0].reals.iter().map(|real| real.state).collect()
    };
    assert_eq!(states().await, [RealState::Held, RealState::Active]);
    change(&owner.0, set_weight(A, "10.1.0.2", 0))
        .await
        .unwrap();
    assert_eq!(states().await, [RealState::Draining, RealState::Active]);
    end(owner).await;
}

#[tokio::test]
async fn weights_that_cannot_be_saved_are_a_warning() {
    let (directory, owner) = steered_with(Vec::new()).await;
    let warnings = async || {
        owner.0.tick();
        owner.0.status().await.unwrap().warnings
    };
    steer(&owner.0, A, &[("10.1.0.2", 50, true)]).await;
    assert!(warnings().await.is_empty());
    // What is written beside the file has no place.
    let place = directory.path().join("learned.rewritten");
    std::fs::create_dir(&place).unwrap();
    steer(&owner.0, A, &[("10.1.0.2", 60, true)]).await;
    for _ in 0..2 {
        let said = warnings().await;
        assert!(
            said.len() == 1 && said[0].contains("cannot be saved"),
            "{said:?}"
        );
    }
    std::fs::remove_dir(&place).unwrap();
    assert!(warnings().await.is_empty());
    end(owner).await;
    let learned = State::open(directory.path()).unwrap().learned;
    let weights = learned.load().unwrap();
    assert_eq!(weights[&name(A)].reals.values().next().unwrap().weight, 60);
}

#[tokio::test]
async fn a_vip_that_carries_nothing_yet_is_settled_until_that_is_done() {
    let (directory, plane) = (tempfile::tempdir().unwrap(), Recorder::default());
    let owner = begin(directory.path(), &plane);
    let settled = || {
        let calls = &plane.tables().calls;
        calls.iter().filter(|call| *call == "settle").count()
    };
    // Its ticks settle nothing.
    let keep_time = async |times| {
        let settled = async {
            while settled() < times {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let kept = async {
            tokio::select! {
                never = owner.0.keep_time() => match never {},
                () = settled => {}
            }
        };
        let patience = Duration::from_secs(60);
        tokio::time::timeout(patience, kept).await.unwrap();
    };
    change(&owner.0, add_vip(A)).await.unwrap();
    plane.tables().settlings = 2;
    change(&owner.0, add_real(A, "10.1.0.2")).await.unwrap();
    keep_time(2).await;
    assert_eq!(plane.tables().settlings, 0);
    // Steering changes the ring likewise.
    plane.tables().settlings = 1;
    steer(&owner.0, A, &[("10.1.0.2", 7, true)]).await;
    keep_time(3).await;
    end(owner).await;
}
