//! Requests of the verbs that change something.

use lb_proto::v1::{self, apply_request::Change};
use prost_types::{Duration, FieldMask};

use crate::{
    agent::{Agent, Received},
    fixtures::vip_id,
    run::{run, words},
};

fn mask(paths: &[&str]) -> Option<FieldMask> {
    Some(FieldMask {
        paths: paths.iter().map(|path| (*path).to_owned()).collect(),
    })
}

/// A change of what a real is drained by.
fn drain(drained: bool, evacuated: bool) -> Change {
    let mut change = update(None, Some(drained), "drained");
    if let Change::UpdateReal(request) = &mut change {
        request.spec.as_mut().unwrap().evacuated = Some(evacuated);
        request.update_mask = mask(&["drained", "evacuated"]);
    }
    change
}

fn update(weight: Option<u32>, drained: Option<bool>, path: &str) -> Change {
    Change::UpdateReal(v1::UpdateRealRequest {
        vip: Some(vip_id()),
        address: "10.1.0.2".to_owned(),
        spec: Some(v1::RealSpec {
            weight,
            drained,
            ..v1::RealSpec::default()
        }),
        update_mask: mask(&[path]),
        ..Default::default()
    })
}

fn add_real(weight: Option<u32>) -> Change {
    Change::AddReal(v1::AddRealRequest {
        vip: Some(vip_id()),
        address: "10.1.0.2".to_owned(),
        spec: Some(v1::RealSpec {
            weight,
            ..v1::RealSpec::default()
        }),
        ..Default::default()
    })
}

/// The same change with a real's forwarding mode.
fn in_mode(mut change: Change, mode: Option<v1::Forward>) -> Change {
    let spec = match &mut change {
        Change::AddReal(request) => request.spec.as_mut(),
        Change::UpdateReal(request) => request.spec.as_mut(),
        other => panic!("{other:?}"),
    };
    spec.unwrap().mode = mode.map(Into::into);
    change
}

#[test]
fn each_verb_asks_for_what_was_typed_and_nothing_else() {
    let agent = Agent::start();
    let id = Some(vip_id());
    for (arguments, change) in [
        (
            "add-vip 10.0.0.1:80/tcp",
            Change::AddVip(v1::AddVipRequest {
                id: id.clone(),
                spec: Some(v1::VipSpec::default()),
                ..Default::default()
            }),
        ),
        (
            "add-vip 10.0.0.1:80/tcp --forward l2 --ring maglev --track all --window 1m30s --slots 512",
            Change::AddVip(v1::AddVipRequest {
                id: id.clone(),
                spec: Some(v1::VipSpec {
                    forward: Some(v1::Forward::L2.into()),
                    ring: Some(v1::RingAlgorithm::Maglev.into()),
                    track: Some(v1::Track::All.into()),
                    window: Some(Duration {
                        seconds: 90,
                        nanos: 0,
                    }),
                    slots: Some(512),
                    ..v1::VipSpec::default()
                }),
                ..Default::default()
            }),
        ),
        (
            "set-vip 10.0.0.1:80/tcp --on-down reset --when-empty 10.0.0.2:80/tcp --check none --load none",
            Change::UpdateVip(v1::UpdateVipRequest {
                id: id.clone(),
                spec: Some(v1::VipSpec {
                    on_down: Some(v1::OnDown::Reset.into()),
                    when_empty: Some("10.0.0.2:80/tcp".to_owned()),
                    ..v1::VipSpec::default()
                }),
                update_mask: Some(FieldMask {
                    paths: ["check", "on_down", "when_empty", "load"]
                        .map(str::to_owned)
                        .to_vec(),
                }),
                ..Default::default()
            }),
        ),
        (
            "set-vip 10.0.0.1:80/tcp --ring maglev-katran",
            Change::UpdateVip(v1::UpdateVipRequest {
                id: id.clone(),
                spec: Some(v1::VipSpec {
                    ring: Some(v1::RingAlgorithm::MaglevKatran.into()),
                    ..v1::VipSpec::default()
                }),
                update_mask: mask(&["ring"]),
                ..Default::default()
            }),
        ),
        (
            "set-vip 10.0.0.1:80/tcp --track exceptions --window 500ms",
            Change::UpdateVip(v1::UpdateVipRequest {
                id: id.clone(),
                spec: Some(v1::VipSpec {
                    track: Some(v1::Track::Exceptions.into()),
                    window: Some(Duration {
                        seconds: 0,
                        nanos: 500_000_000,
                    }),
                    ..v1::VipSpec::default()
                }),
                update_mask: mask(&["track", "window"]),
                ..Default::default()
            }),
        ),
        (
            "del-vip 10.0.0.1:80/tcp",
            Change::DeleteVip(v1::DeleteVipRequest {
                id: id.clone(),
                ..Default::default()
            }),
        ),
        ("add-real 10.0.0.1:80/tcp 10.1.0.2", add_real(None)),
        (
            "add-real 10.0.0.1:80/tcp 10.1.0.2 --weight 0",
            add_real(Some(0)),
        ),
        (
            "add-real 10.0.0.1:80/tcp 10.1.0.2 --mode gue",
            in_mode(add_real(None), Some(v1::Forward::Gue)),
        ),
        (
            "set-real 10.0.0.1:80/tcp 10.1.0.2 --mode nat",
            in_mode(update(None, None, "mode"), Some(v1::Forward::Nat)),
        ),
        (
            "set-real 10.0.0.1:80/tcp 10.1.0.2 --mode none",
            in_mode(update(None, None, "mode"), None),
        ),
        (
            "set-real 10.0.0.1:80/tcp 10.1.0.2 --weight 7",
            update(Some(7), None, "weight"),
        ),
        ("drain 10.0.0.1:80/tcp 10.1.0.2", drain(true, false)),
        (
            "drain 10.0.0.1:80/tcp 10.1.0.2 --evacuate",
            drain(true, true),
        ),
        ("undrain 10.0.0.1:80/tcp 10.1.0.2", drain(false, false)),
        (
            "del-real 10.0.0.1:80/tcp 10.1.0.2",
            Change::DeleteReal(v1::DeleteRealRequest {
                vip: id,
                address: "10.1.0.2".to_owned(),
                ..Default::default()
            }),
        ),
    ] {
        let run = run(&agent.endpoint, &words(arguments));
        assert_eq!(run.status, Some(0), "{arguments}: {run:?}");
        assert_eq!(run.stderr, "", "{arguments}");
        assert_eq!(agent.received(), [Received::Change(change)], "{arguments}");
    }
}

#[test]
fn what_was_changed_is_told() {
    let agent = Agent::start();
    for (arguments, text) in [
        (
            "add-vip 10.0.0.1:80/tcp",
            "VIP 10.0.0.1:80/tcp: ipip, rendezvous, tracks exceptions, window 1h30m, 0 reals\n",
        ),
        (
            "add-real 10.0.0.1:80/tcp 10.1.0.2",
            "real 10.1.0.2: weight 100, effective 100, active, 25.00 % of the ring\n",
        ),
        ("del-vip 10.0.0.1:80/tcp", "deleted VIP 10.0.0.1:80/tcp\n"),
        (
            "del-real 10.0.0.1:80/tcp 10.1.0.2",
            "deleted real 10.1.0.2 of VIP 10.0.0.1:80/tcp\n",
        ),
        (
            "del-vip 10.0.0.1:80/tcp -o json",
            "{\"deleted\":\"VIP 10.0.0.1:80/tcp\"}\n",
        ),
    ] {
        assert_eq!(
            run(&agent.endpoint, &words(arguments)).stdout,
            text,
            "{arguments}"
        );
    }
}
