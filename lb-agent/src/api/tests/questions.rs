//! What is asked without changing anything: rings and frames.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_ring_of_katrans_has_its_slots() {
    let mut agent = Agent::start().await;
    agent.with_reals(&["10.0.0.101", "10.0.0.102"]).await;
    let spec = v1::VipSpec {
        ring: Some(v1::RingAlgorithm::MaglevKatran.into()),
        ..Default::default()
    };
    agent
        .client
        .update_vip(v1::UpdateVipRequest {
            id: id(),
            spec: Some(spec),
            update_mask: Some(prost_types::FieldMask {
                paths: vec!["ring".to_owned()],
            }),
            ..Default::default()
        })
        .await
        .unwrap();
    let mut client = agent.client.clone();
    let mut ring = async |what_if: Vec<v1::WhatIf>| {
        let request = v1::GetRingRequest { id: id(), what_if };
        client.get_ring(request).await.unwrap().into_inner()
    };
    let now = ring(vec![]).await;
    assert_eq!(now.algorithm(), v1::RingAlgorithm::MaglevKatran);
    assert_eq!((now.slots, now.reals.len()), (65_537, 2));
    // From one half of the flows to two thirds.
    let other = ring(vec![v1::WhatIf {
        address: "10.0.0.101".into(),
        weight: 200,
    }])
    .await;
    assert_eq!(other.slots, 65_537);
    assert!((0.16..0.4).contains(&other.moved), "{}", other.moved);
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ring_is_shown_and_previewed() {
    let mut agent = Agent::start().await;
    agent.with_reals(&["10.1.0.2", "10.1.0.3"]).await;
    let what_if = |address: &str, weight| v1::WhatIf {
        address: address.into(),
        weight,
    };
    let mut client = agent.client.clone();
    let mut ring = async |what_if: Vec<v1::WhatIf>| {
        client
            .get_ring(v1::GetRingRequest { id: id(), what_if })
            .await
            .map(Response::into_inner)
    };
    let now = ring(vec![]).await.unwrap();
    assert_eq!((now.slots, now.moved, now.reals.len()), (4_096, 0.0, 2));
    let same = ring(vec![what_if("10.1.0.2", 100)]).await.unwrap();
    assert_eq!((same.moved, &same.checksum), (0.0, &now.checksum));
    let other = ring(vec![what_if("10.1.0.2", 50)]).await.unwrap();
    assert!(other.moved > 0.1 && other.moved < 0.25, "{}", other.moved);
    assert_ne!(other.checksum, now.checksum);
    let gone = ring(vec![what_if("10.1.0.3", 0)]).await.unwrap();
    assert!((gone.moved - now.reals[1].share).abs() < 1e-9);
    let new = ring(vec![what_if("10.1.0.4", 100)]).await.unwrap();
    assert!(new.reals.len() == 3 && new.reals[2].share > 0.3);
    assert_eq!(ring(vec![]).await.unwrap(), now, "nothing was done");
    for (asked, expected) in [
        (vec![what_if("10.1.0.2", 65_536)], "what_if[0].weight"),
        (vec![what_if("0.0.0.0", 1)], "what_if[0].address"),
        (
            vec![what_if("10.1.0.2", 1), what_if("10.1.0.2", 2)],
            "what_if[1].address",
        ),
    ] {
        assert_eq!(field(&ring(asked).await.unwrap_err()), expected);
    }
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_are_simulated() {
    let mut agent = Agent::start().await;
    let frame = |length, interface: &str| v1::SimulateRequest {
        packet: vec![0; length],
        interface: interface.into(),
    };
    let answer = agent
        .client
        .simulate(frame(60, ""))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (
            answer.verdict.as_str(),
            answer.reason.as_str(),
            answer.chosen_by.as_str()
        ),
        ("pass", "not_ip", "nothing")
    );
    assert_eq!((answer.vip, answer.packet.len()), (None, 60));
    assert_eq!(
        field_in_details(&agent.client.simulate(frame(60, "eth8")).await.unwrap_err()),
        "interface"
    );
    assert_eq!(
        field_in_details(&agent.client.simulate(frame(13, "")).await.unwrap_err()),
        "packet"
    );
    agent.end().await;
}

fn field_in_details(status: &Status) -> String {
    assert_eq!(status.code(), Code::InvalidArgument);
    status.get_details_bad_request().unwrap().field_violations[0]
        .field
        .clone()
}
