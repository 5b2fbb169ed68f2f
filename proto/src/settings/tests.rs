//! Conversion of messages to settings and back.

use std::collections::BTreeSet;

use lb_model::{
    intent::{RealSpec, VipSpec},
    options::{Forward, Hash, OnDown, Track},
    ring::Algorithm,
    server_id::ServerIdMethod,
    settings::Settings,
};
use serde_json::json;

use super::*;

fn map(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

/// Returns settings that use every type of field.
fn full_vip() -> Map<String, Value> {
    map(json!({
        "forward": "l2", "ring": "maglev", "track": "all", "window": "1m", "slots": 512,
        "check": { "kind": "http", "interval": "2s", "tls": { "verify": false }, "json": { "equals": 3 } },
        "on_down": "keep", "when_empty": "10.0.0.2:80/tcp",
        "load": [{ "kind": "docker", "weight": 0.5, "memory_limit": 1_u64 << 40 }, { "kind": "grpc" }],
        "steering": { "controller": "capacity", "life": "auto", "moved": 0.02 },
        "shed": { "by": "webhook", "headers": ["a", "b"] },
    }))
}

#[test]
fn every_setting_has_a_field_of_its_name_and_no_other_field_exists() {
    fn check<M: Name, T: Settings>() {
        let fields: BTreeSet<_> = field_names::<M>().into_iter().collect();
        let settings: BTreeSet<_> = T::fields()
            .iter()
            .map(|field| field.name.to_owned())
            .collect();
        assert_eq!(fields, settings, "{}", M::full_name());
    }
    check::<v1::VipSpec, VipSpec>();
    check::<v1::RealSpec, RealSpec>();
}

#[test]
fn every_choice_is_a_value_of_its_enumeration() {
    for (field, names) in [
        ("forward", Forward::NAMES),
        ("ring", Algorithm::NAMES),
        ("hash", Hash::NAMES),
        ("track", Track::NAMES),
        ("on_down", OnDown::NAMES),
    ] {
        for (name, _) in names {
            let settings = map(json!({ field: name }));
            let message: v1::VipSpec = from_map(&settings, &VipSpec::fields()).unwrap();
            assert_eq!(to_map(&message, &VipSpec::fields()), Ok(settings));
        }
    }
    for (name, _) in Forward::NAMES {
        let settings = map(json!({ "mode": name }));
        let message: v1::RealSpec = from_map(&settings, &RealSpec::fields()).unwrap();
        assert_eq!(to_map(&message, &RealSpec::fields()), Ok(settings));
    }
    for (name, _) in ServerIdMethod::NAMES {
        let settings = map(json!({ "server_ids": [name] }));
        let message: v1::VipSpec = from_map(&settings, &VipSpec::fields()).unwrap();
        assert_eq!(to_map(&message, &VipSpec::fields()), Ok(settings));
    }
}

#[test]
fn settings_become_messages_and_back() {
    let message: v1::VipSpec = from_map(&full_vip(), &VipSpec::fields()).unwrap();
    assert_eq!(message.forward, Some(v1::Forward::L2.into()));
    assert_eq!(message.window.unwrap().seconds, 60);
    assert_eq!(message.steering.as_ref().unwrap().kind, "capacity");
    assert_eq!(message.shed.as_ref().unwrap().kind, "webhook");
    assert_eq!(to_map(&message, &VipSpec::fields()), Ok(full_vip()));

    let real = map(json!({
        "weight": 7, "drained": true, "check": { "disabled": true },
        "load": [{ "name": "docker", "off": true }],
    }));
    let message: v1::RealSpec = from_map(&real, &RealSpec::fields()).unwrap();
    assert_eq!((message.weight, message.drained), (Some(7), Some(true)));
    assert_eq!(to_map(&message, &RealSpec::fields()), Ok(real));
}

#[test]
fn what_is_not_set_is_left_out() {
    let message = v1::VipSpec {
        forward: Some(v1::Forward::Unspecified.into()),
        ..Default::default()
    };
    assert_eq!(to_map(&message, &VipSpec::fields()), Ok(Map::new()));
    let null = map(json!({ "window": null }));
    let message: v1::VipSpec = from_map(&null, &VipSpec::fields()).unwrap();
    assert_eq!(message, v1::VipSpec::default());
}

#[test]
fn what_no_setting_can_be_is_refused_by_name() {
    let negative = v1::VipSpec {
        window: Some(Duration {
            seconds: -1,
            nanos: 0,
        }),
        ..Default::default()
    };
    let unknown = v1::VipSpec {
        on_down: Some(9),
        ..Default::default()
    };
    for (message, text) in [
        (negative, "window: -1 s 0 ns: not a positive time"),
        (
            unknown,
            "on_down: 9: unknown, give ON_DOWN_REHASH or ON_DOWN_RESET or ON_DOWN_KEEP",
        ),
    ] {
        let error = to_map(&message, &VipSpec::fields()).unwrap_err();
        assert_eq!(error.to_string(), text);
    }
    for (settings, field) in [
        (json!({ "windw": "1s" }), "windw"),
        (json!({ "window": 90 }), "window"),
        (json!({ "slots": -1 }), "slots"),
        (json!({ "forward": "carrier-pigeon" }), "forward"),
        (json!({ "check": true }), "check"),
        (json!({ "load": [{}, 1] }), "load[1]"),
    ] {
        let error = from_map::<v1::VipSpec>(&map(settings), &VipSpec::fields()).unwrap_err();
        assert_eq!(error.field, field);
    }
}
