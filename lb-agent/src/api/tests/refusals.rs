//! What is refused, and what the refusal names.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn errors_name_the_field() {
    let mut agent = Agent::start().await;
    agent.with_reals(&[]).await;
    let other = |change: &dyn Fn(&mut v1::VipId)| {
        let mut id = vip_id("10.0.0.2");
        change(&mut id);
        Some(id)
    };
    let spec = |spec: v1::VipSpec| v1::AddVipRequest {
        id: other(&|_| {}),
        spec: Some(spec),
        ..Default::default()
    };
    let bare = |id| v1::AddVipRequest {
        id,
        spec: None,
        ..Default::default()
    };
    let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    for (request, expected) in [
        (bare(None), "id"),
        (bare(other(&|id| id.address = String::new())), "id.address"),
        (
            bare(other(&|id| id.address = "10.0.0".into())),
            "id.address",
        ),
        (
            bare(other(&|id| id.address = "224.0.0.1".into())),
            "id.address",
        ),
        (bare(other(&|id| id.port = 65_536)), "id.port"),
        (bare(other(&|id| id.protocol = 0)), "id.protocol"),
        (bare(other(&|id| id.protocol = 9)), "id.protocol"),
        (
            spec(v1::VipSpec {
                forward: Some(9),
                ..Default::default()
            }),
            "spec.forward",
        ),
        (
            spec(v1::VipSpec {
                ring: Some(9),
                ..Default::default()
            }),
            "spec.ring",
        ),
        (
            spec(v1::VipSpec {
                track: Some(-1),
                ..Default::default()
            }),
            "spec.track",
        ),
        (
            spec(v1::VipSpec {
                slots: Some(1),
                ..Default::default()
            }),
            "spec.slots",
        ),
        (
            spec(v1::VipSpec {
                window: seconds(0),
                ..Default::default()
            }),
            "spec.window",
        ),
        (
            spec(v1::VipSpec {
                window: seconds(-5),
                ..Default::default()
            }),
            "spec.window",
        ),
        (
            spec(v1::VipSpec {
                window: seconds(i64::MAX),
                ..Default::default()
            }),
            "spec.window",
        ),
    ] {
        let status = agent.client.add_vip(request).await.unwrap_err();
        assert_eq!(field(&status), expected);
    }
    for (request, expected) in [
        (
            v1::AddRealRequest {
                vip: None,
                ..add_real("10.1.0.2", None)
            },
            "vip",
        ),
        (
            v1::AddRealRequest {
                vip: Some(vip_id("x")),
                ..add_real("10.1.0.2", None)
            },
            "vip.address",
        ),
        (add_real("", None), "address"),
        (add_real("ff02::1", None), "address"),
        (add_real("10.1.0.2", Some(65_536)), "spec.weight"),
    ] {
        let status = agent.client.add_real(request).await.unwrap_err();
        assert_eq!(field(&status), expected);
    }
    let vips = agent
        .client
        .list_vips(v1::ListVipsRequest { id: None })
        .await
        .unwrap()
        .into_inner()
        .vips;
    assert!(
        vips.len() == 1 && vips[0].reals.is_empty(),
        "nothing has changed"
    );
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_name_the_object_and_the_table() {
    let mut agent = Agent::start().await;
    agent.with_reals(&["10.1.0.2"]).await;
    let resource = |status: Status, code: Code| {
        assert_eq!(status.code(), code, "{status}");
        let bad = status.get_details_bad_request().expect("a BadRequest");
        let field = &bad.field_violations[0].field;
        assert!(
            status.message().starts_with(&format!("{field}: ")),
            "{status}"
        );
        let info = status.get_details_resource_info().expect("a ResourceInfo");
        (field.clone(), info.resource_type, info.resource_name)
    };
    let named =
        |field: &str, kind: &str, name: &str| (field.to_owned(), kind.to_owned(), name.to_owned());
    let vip = |field, name| named(field, error::VIP_TYPE, name);
    let real = |address: &str| {
        named(
            "address",
            error::REAL_TYPE,
            &format!("10.0.0.1:80/tcp {address}"),
        )
    };
    let status = agent
        .client
        .add_vip(v1::AddVipRequest {
            id: id(),
            spec: None,
            ..Default::default()
        })
        .await
        .unwrap_err();
    assert_eq!(
        resource(status, Code::AlreadyExists),
        vip("id", "10.0.0.1:80/tcp")
    );
    let status = agent
        .client
        .add_real(add_real("10.1.0.2", None))
        .await
        .unwrap_err();
    assert_eq!(resource(status, Code::AlreadyExists), real("10.1.0.2"));
    let status = agent
        .client
        .update_real(update_real("10.1.0.9", Some(1), None, &[]))
        .await
        .unwrap_err();
    assert_eq!(resource(status, Code::NotFound), real("10.1.0.9"));
    let missing = Some(vip_id("10.0.0.9"));
    let status = agent
        .client
        .add_real(v1::AddRealRequest {
            vip: missing.clone(),
            ..add_real("10.1.0.3", None)
        })
        .await
        .unwrap_err();
    assert_eq!(
        resource(status, Code::NotFound),
        vip("vip", "10.0.0.9:80/tcp")
    );
    let status = agent
        .client
        .list_vips(v1::ListVipsRequest {
            id: missing.clone(),
        })
        .await
        .unwrap_err();
    assert_eq!(
        resource(status, Code::NotFound),
        vip("id", "10.0.0.9:80/tcp")
    );
    let status = agent
        .client
        .watch(v1::WatchRequest {
            id: missing,
            ..Default::default()
        })
        .await
        .unwrap_err();
    assert_eq!(
        resource(status, Code::NotFound),
        vip("id", "10.0.0.9:80/tcp")
    );

    agent.plane.tables().capacity = Some(1);
    let status = agent
        .client
        .add_real(add_real("10.1.0.3", None))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(
        status.get_details_quota_failure().unwrap().violations[0].subject,
        "table reals"
    );
    let bad = status.get_details_bad_request().unwrap();
    assert_eq!(bad.field_violations[0].field, "address");
    assert!(status.message().starts_with("address: "), "{status}");
    agent.end().await;
}
