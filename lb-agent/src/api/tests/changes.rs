//! VIPs and reals: added, changed, listed, deleted.

use super::*;
use lb_model::options::Forward;

#[tokio::test(flavor = "multi_thread")]
async fn vips_and_reals_are_added_changed_listed_and_deleted() {
    let mut agent = Agent::start().await;
    assert_eq!(
        std::fs::metadata(&agent.socket)
            .unwrap()
            .permissions()
            .mode()
            & 0o777,
        0o660
    );

    let vip = agent
        .client
        .add_vip(v1::AddVipRequest {
            id: id(),
            spec: None,
            ..Default::default()
        })
        .await
        .unwrap()
        .into_inner();
    let spec = vip.spec.unwrap();
    assert_eq!(
        (vip.id, spec.slots, vip.reals.len()),
        (id(), Some(4_096), 0)
    );
    assert_eq!(spec.window.unwrap().seconds, 3_600);
    assert_eq!(spec.forward, Some(v1::Forward::Ipip.into()));

    let real = agent
        .client
        .add_real(add_real("10.1.0.2", None))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        real.spec.clone().unwrap(),
        v1::RealSpec {
            weight: Some(100),
            drained: Some(false),
            evacuated: Some(false),
            ..v1::RealSpec::default()
        }
    );
    assert_eq!(
        (real.effective_weight, real.share, real.state()),
        (100, 1.0, v1::RealState::Active)
    );
    agent
        .client
        .add_real(add_real("10.1.0.3", Some(0)))
        .await
        .unwrap();

    let request = v1::UpdateVipRequest {
        id: id(),
        spec: Some(v1::VipSpec {
            track: Some(v1::Track::All.into()),
            ..Default::default()
        }),
        ..Default::default()
    };
    let spec = agent
        .client
        .update_vip(request)
        .await
        .unwrap()
        .into_inner()
        .spec
        .unwrap();
    assert_eq!(
        (spec.track(), spec.window.unwrap().seconds),
        (v1::Track::All, 3_600)
    );

    let vips = agent
        .client
        .list_vips(v1::ListVipsRequest { id: None })
        .await
        .unwrap()
        .into_inner()
        .vips;
    let states: Vec<_> = vips[0]
        .reals
        .iter()
        .map(|real| (real.state(), real.flows, real.flows_exact))
        .collect();
    assert_eq!(
        states,
        [
            (v1::RealState::Active, 5, true),
            (v1::RealState::Draining, 5, true)
        ]
    );

    agent
        .client
        .delete_real(v1::DeleteRealRequest {
            vip: id(),
            address: "10.1.0.2".into(),
            ..Default::default()
        })
        .await
        .unwrap();
    let vips = agent
        .client
        .list_vips(v1::ListVipsRequest { id: id() })
        .await
        .unwrap()
        .into_inner()
        .vips;
    assert_eq!(vips[0].reals.len(), 1);
    agent
        .client
        .delete_vip(v1::DeleteVipRequest {
            id: id(),
            ..Default::default()
        })
        .await
        .unwrap();
    let vips = agent
        .client
        .list_vips(v1::ListVipsRequest { id: None })
        .await
        .unwrap()
        .into_inner()
        .vips;
    assert!(vips.is_empty());
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn masks_and_presence_say_what_changes() {
    let mut agent = Agent::start().await;
    agent.with_reals(&["10.1.0.2"]).await;
    for (weight, drained, mask, expected) in [
        (Some(7), None, &[][..], (7, false)),
        (None, Some(true), &[], (7, true)),
        (Some(9), Some(false), &["weight"], (9, true)),
        // Named and not set: back to the default.
        (None, None, &["weight"], (100, true)),
        (Some(0), None, &["*"], (0, false)),
    ] {
        let request = update_real("10.1.0.2", weight, drained, mask);
        let spec = agent
            .client
            .update_real(request)
            .await
            .unwrap()
            .into_inner()
            .spec
            .unwrap();
        assert_eq!(
            (spec.weight(), spec.drained()),
            expected,
            "{weight:?} {drained:?} {mask:?}"
        );
    }
    let nothing = agent
        .client
        .update_real(update_real("10.1.0.2", None, None, &[]))
        .await
        .unwrap_err();
    assert_eq!(field(&nothing), "spec");
    let unknown = agent
        .client
        .update_real(update_real("10.1.0.2", Some(1), None, &["wait"]))
        .await
        .unwrap_err();
    assert_eq!(field(&unknown), "update_mask");
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_has_a_mode_of_its_own_until_it_is_taken_back() {
    let mut agent = Agent::start().await;
    agent.with_reals(&["10.1.0.2"]).await;
    let in_mode = |address: &str, mode: Option<v1::Forward>| {
        let mut request = update_real(address, None, None, &["mode"]);
        request.spec.as_mut().unwrap().mode = mode.map(Into::into);
        request
    };
    for mode in [Some(v1::Forward::Gue), Some(v1::Forward::Nat), None] {
        let request = in_mode("10.1.0.2", mode);
        let real = agent
            .client
            .update_real(request)
            .await
            .unwrap()
            .into_inner();
        assert_eq!(real.spec.unwrap().mode, mode.map(Into::into));
        let wanted = agent
            .plane
            .tables()
            .services
            .values()
            .next()
            .unwrap()
            .clone();
        let expected = match mode {
            Some(v1::Forward::Gue) => Forward::Gue,
            Some(v1::Forward::Nat) => Forward::Nat,
            _ => Forward::Ipip,
        };
        assert_eq!(wanted.mode_of(wanted.reals[0]), expected);
    }
    // One of the other family, which only its own mode reaches once the VIP has another.
    let mut request = add_real("fd00::2", None);
    request.spec.as_mut().unwrap().mode = Some(v1::Forward::Ipip.into());
    agent.client.add_real(request).await.unwrap();
    let request = v1::UpdateVipRequest {
        id: id(),
        spec: Some(v1::VipSpec {
            forward: Some(v1::Forward::L2.into()),
            ..Default::default()
        }),
        ..Default::default()
    };
    agent.client.update_vip(request).await.unwrap();
    for (mode, expected) in [(Some(v1::Forward::L2), "spec.mode"), (None, "spec.forward")] {
        let refused = agent.client.update_real(in_mode("fd00::2", mode)).await;
        let refused = refused.unwrap_err();
        assert_eq!(field(&refused), expected);
        assert!(refused.message().contains("ipip"), "{refused}");
    }
    let mut unknown = in_mode("10.1.0.2", None);
    unknown.spec.as_mut().unwrap().mode = Some(9);
    let refused = agent.client.update_real(unknown).await.unwrap_err();
    assert_eq!(field(&refused), "spec.mode");
    agent.end().await;
}
