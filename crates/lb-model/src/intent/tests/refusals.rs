//! What is refused, by field and by name.

use super::*;

#[test]
fn what_cannot_be_is_refused_by_field() {
    let update_vip = |vip: &str, patch| update_vip(name(vip), patch);
    let update_real = |id: &str, patch| Change::UpdateReal {
        vip: name(V4),
        real: real(id),
        patch,
    };
    let cases: Vec<(&str, Change, &str, &str)> = vec![
        (
            "unspecified VIP",
            add_vip(raw("0.0.0.0"), Patch::new()),
            "id.address",
            "0.0.0.0",
        ),
        (
            "loopback VIP",
            add_vip(raw("127.0.0.1"), Patch::new()),
            "id.address",
            "127.0.0.1",
        ),
        (
            "multicast VIP",
            add_vip(raw("224.0.0.1"), Patch::new()),
            "id.address",
            "224.0.0.1",
        ),
        (
            "broadcast VIP",
            add_vip(raw("255.255.255.255"), Patch::new()),
            "id.address",
            "255.255.255.255",
        ),
        (
            "multicast v6 VIP",
            add_vip(raw("ff02::1"), Patch::new()),
            "id.address",
            "ff02::1",
        ),
        (
            "link-local v6 VIP",
            add_vip(raw("fe80::1"), Patch::new()),
            "id.address",
            "fe80::1",
        ),
        (
            "mapped VIP",
            add_vip(raw("::ffff:10.0.0.9"), Patch::new()),
            "id.address",
            "::ffff:10.0.0.9",
        ),
        (
            "multicast real",
            add_real(V4, "224.0.0.1"),
            "address",
            "224.0.0.1",
        ),
        (
            "shedding of UDP",
            update_vip(V6, patch(json!({ "steering": { "shed_rate": 1 } }))),
            "spec.steering.shed_rate",
            "1",
        ),
        ("unspecified real", add_real(V4, "::"), "address", "::"),
        (
            "mapped real",
            add_real(V4, "::ffff:10.1.0.9"),
            "address",
            "::ffff:10.1.0.9",
        ),
        (
            "the VIP as its own real",
            add_real(V4, "10.0.0.1"),
            "address",
            "10.0.0.1",
        ),
        (
            "real of another family with l2",
            add_real(V6, "10.1.0.2"),
            "address",
            "10.1.0.2",
        ),
        (
            "l2 with reals of another family",
            update_vip(V4, l2()),
            "spec.forward",
            "l2",
        ),
        (
            "weight too large, new real",
            add_real_with(V4, "10.1.0.9", weighted(65_536)),
            "spec.weight",
            "65536",
        ),
        (
            "weight too large, old real",
            update_real("10.1.0.2", weighted(u32::MAX)),
            "spec.weight",
            "4294967295",
        ),
        (
            "window too short",
            add_vip(raw("10.0.0.9"), window("999ms")),
            "spec.window",
            "999ms",
        ),
        (
            "window too long",
            update_vip(V4, window("2592001s")),
            "spec.window",
            "30d1s",
        ),
        (
            "too few slots",
            update_vip(V4, slots(128)),
            "spec.slots",
            "128",
        ),
        (
            "too many slots",
            update_vip(V4, slots(131_072)),
            "spec.slots",
            "131072",
        ),
        (
            "slots not a power of two",
            update_vip(V4, slots(1_000)),
            "spec.slots",
            "1000",
        ),
        (
            "a port that no mode can translate",
            add_real(V4, "10.1.0.9:8080"),
            "address",
            "10.1.0.9:8080",
        ),
        (
            "an unknown setting",
            update_vip(V4, patch(json!({ "weight": 1 }))),
            "spec.weight",
            "1",
        ),
        (
            "an unknown kind",
            update_vip(V4, patch(json!({ "check": { "kind": "icmp" } }))),
            "spec.check.kind",
            "icmp",
        ),
        (
            "a setting of a check",
            update_vip(
                V4,
                patch(json!({ "check": { "kind": "tcp", "interval": "1ms" } })),
            ),
            "spec.check.interval",
            "1ms",
        ),
        (
            "a setting of another kind",
            update_vip(
                V4,
                patch(json!({ "check": { "kind": "tcp", "path": "/" } })),
            ),
            "spec.check.path",
            "/",
        ),
        (
            "two sources of one name",
            update_vip(
                V4,
                patch(json!({ "load": [{ "kind": "docker" }, { "kind": "docker" }] })),
            ),
            "spec.load[1].name",
            "docker",
        ),
        (
            "shedding without a rate",
            update_vip(V4, patch(json!({ "shed": { "by": "webhook" } }))),
            "spec.shed",
            "webhook",
        ),
        (
            "a difference of a source that the VIP does not have",
            update_real("10.1.0.2", patch(json!({ "load": [{ "name": "docker" }] }))),
            "spec.load[0].name",
            "docker",
        ),
        (
            "a probe through the tunnel of an address of its own",
            update_real(
                "10.1.0.2",
                patch(json!({ "check": { "address": "10.9.0.1", "via": "tunnel" } })),
            ),
            "spec.check.via",
            "tunnel",
        ),
    ];
    for (case, change, field, value) in cases {
        let before = intent();
        match change.apply(&before, &Writer::default(), &KINDS) {
            Err(Refusal::Invalid(error)) => {
                assert_eq!((&*error.field, &*error.value), (field, value), "{case}");
                assert!(!error.advice.is_empty(), "{case}");
            }
            other => panic!("{case}: {other:?}"),
        }
    }
}

#[test]
fn objects_are_refused_by_name() {
    let (real, other) = (real("10.1.0.2"), real("10.1.0.9"));
    let unknown = name("10.0.0.9:80/tcp");
    let (vip, patch) = (name(V4), weighted(1));
    for (change, refusal) in [
        (add_vip(vip, Patch::new()), Refusal::VipExists(vip)),
        (
            Change::UpdateVip {
                vip: unknown,
                patch: slots(256),
            },
            Refusal::VipUnknown(unknown),
        ),
        (
            Change::DeleteVip { vip: unknown },
            Refusal::VipUnknown(unknown),
        ),
        (add_real(V4, "10.1.0.2"), Refusal::RealExists { vip, real }),
        (
            Change::AddReal {
                vip: unknown,
                real,
                patch: patch.clone(),
            },
            Refusal::VipUnknown(unknown),
        ),
        (
            Change::UpdateReal {
                vip,
                real: other,
                patch,
            },
            Refusal::RealUnknown { vip, real: other },
        ),
        (
            Change::DeleteReal { vip, real: other },
            Refusal::RealUnknown { vip, real: other },
        ),
    ] {
        assert_eq!(
            change.apply(&intent(), &Writer::default(), &KINDS),
            Err(refusal)
        );
    }
}

/// A VIP of this mode with a real of the same family, one of the other, and one with a port.
fn mixed(vip: &str, forward: &str) -> Intent {
    let mut intent = Intent::default();
    let mode = |mode: &str| patch(json!({ "mode": mode }));
    for change in [
        add_vip(name(vip), patch(json!({ "forward": forward }))),
        add_real_with(vip, "10.1.0.2", mode("l2")),
        add_real_with(vip, "fd00::2", mode("gue")),
        add_real_with(vip, "10.1.0.2:8080", mode("nat")),
    ] {
        apply(&mut intent, &change).unwrap();
    }
    intent
}

#[test]
fn what_counts_is_the_mode_of_the_real() {
    for forward in Forward::NAMES.iter().map(|(name, _)| *name) {
        let mut intent = mixed(V4, forward);
        // Each has its own mode, so any mode of the VIP will do.
        for other in ["l2", "ipip", "gue", "nat"] {
            apply(
                &mut intent,
                &update_vip(name(V4), patch(json!({ "forward": other }))),
            )
            .unwrap();
        }
        let vip = intent.get(&name(V4)).unwrap();
        let modes: Vec<Forward> = vip
            .reals
            .values()
            .map(|real| vip.mode_of(&real.spec))
            .collect();
        assert_eq!(modes, [Forward::L2, Forward::Nat, Forward::Gue]);
    }
}

#[test]
fn a_mode_that_does_not_suit_a_real_is_refused_with_what_would() {
    let update_real = |id: &str, mode: serde_json::Value| Change::UpdateReal {
        vip: name(V4),
        real: real(id),
        patch: patch(json!({ "mode": mode })),
    };
    let add = |id: &str, mode: &str| add_real_with(V4, id, patch(json!({ "mode": mode })));
    let client = || update_vip(name(V4), patch(json!({ "source": "client" })));
    let cases: Vec<(&str, Vec<Change>, &str, &str)> = vec![
        (
            "l2 to the other family",
            vec![update_real("fd00::2", json!("l2"))],
            "spec.mode",
            "use ipip",
        ),
        (
            "the VIP's mode again, which cannot reach it",
            vec![update_real("fd00::2", json!(null))],
            "spec.forward",
            "set that real's mode to ipip",
        ),
        (
            "a port without nat",
            vec![update_real("10.1.0.2:8080", json!("ipip"))],
            "spec.mode",
            "leave its mode at nat",
        ),
        (
            "a port with the VIP's mode",
            vec![update_real("10.1.0.2:8080", json!(null))],
            "spec.forward",
            "set that real's mode to nat",
        ),
        (
            "a new real with a port without nat",
            vec![add("10.1.0.9:8080", "gue")],
            "address",
            "give it the mode nat",
        ),
        (
            "a new real of the other family by l2",
            vec![add("fd00::9", "l2")],
            "address",
            "set the real's mode to ipip",
        ),
        (
            "the same real once more in another mode",
            vec![add("10.1.0.2", "ipip")],
            "already",
            "",
        ),
        (
            "no such mode",
            vec![update_real("10.1.0.2", json!("gre"))],
            "spec.mode",
            "l2",
        ),
        (
            "the client as the source to the other family",
            vec![client(), update_real("fd00::2", json!("nat"))],
            "spec.source",
            "use balancer",
        ),
        (
            "the other way round",
            vec![update_real("fd00::2", json!("nat")), client()],
            "spec.source",
            "set that real's mode to ipip",
        ),
        (
            "a new real of the other family with the client as the source",
            vec![client(), add("fd00::9", "nat")],
            "address",
            "nat with source client needs a real of the family",
        ),
    ];
    for (case, changes, field, advice) in cases {
        let mut intent = mixed(V4, "l2");
        let (last, first) = changes.split_last().unwrap();
        for change in first {
            apply(&mut intent, change).unwrap();
        }
        match apply(&mut intent, last) {
            Err(Refusal::Invalid(error)) => {
                assert_eq!(error.field, field, "{case}");
                assert!(error.advice.contains(advice), "{case}: {}", error.advice);
            }
            Err(Refusal::RealExists { .. }) => assert_eq!(field, "already", "{case}"),
            other => panic!("{case}: {other:?}"),
        }
    }
}

#[test]
fn sctp_is_not_translated() {
    const SCTP: &str = "10.0.0.5:2905/sctp";
    let mut intent = Intent::default();
    let nat = || patch(json!({ "mode": "nat" }));
    apply(&mut intent, &add_vip(name(SCTP), l2())).unwrap();
    apply(&mut intent, &add_real(SCTP, "10.1.0.2")).unwrap();
    let changes = [
        (add_real_with(SCTP, "10.1.0.3", nat()), "spec.mode"),
        (
            Change::UpdateReal {
                vip: name(SCTP),
                real: real("10.1.0.2"),
                patch: nat(),
            },
            "spec.mode",
        ),
        (
            update_vip(name(SCTP), patch(json!({ "forward": "nat" }))),
            "spec.forward",
        ),
    ];
    for (change, expected) in changes {
        match apply(&mut intent, &change) {
            Err(Refusal::Invalid(error)) => {
                assert_eq!(error.field, expected);
                assert!(
                    error.advice.contains("TCP and UDP only"),
                    "{}",
                    error.advice
                );
            }
            other => panic!("{other:?}"),
        }
    }
}

const QUIC: &str = "10.0.0.7:443/tcp+udp";

/// A VIP with these settings, and a real with this id.
fn named(settings: serde_json::Value, id: &str) -> Result<Intent, Refusal> {
    let mut intent = Intent::default();
    apply(&mut intent, &add_vip(name(QUIC), patch(settings)))?;
    let change = add_real_with(QUIC, "10.1.0.2", patch(json!({ "server_id": id })));
    apply(&mut intent, &change)?;
    Ok(intent)
}

#[test]
fn source_rules_suit_the_vip_and_each_other() {
    for (rules, field, advice) in [
        (json!(["10.0.0.0/8"]), "spec.source_rules[0]", "PREFIX=deny"),
        (
            json!(["10.0.0.0/8=deny", "10.1.2.3/16=allow"]),
            "spec.source_rules[1]",
            "give 10.1.0.0/16",
        ),
        (
            json!(["10.0.0.0/8=deny", "10.0.0.0/8=allow"]),
            "spec.source_rules[1]",
            "the same prefix",
        ),
        (
            json!(["2001:db8::/32=deny"]),
            "spec.source_rules[0]",
            "other address family",
        ),
    ] {
        let change = add_vip(
            name("10.0.0.1:80/tcp"),
            patch(json!({ "source_rules": rules })),
        );
        let error = apply(&mut Intent::default(), &change).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(field) && text.contains(advice), "{text}");
    }
    let rules = ["0.0.0.0/0=deny", "10.0.0.0/8=allow", "10.1.0.0/16=10.9.0.1"];
    let change = add_vip(
        name("10.0.0.1:80/tcp"),
        patch(json!({ "source_rules": rules })),
    );
    apply(&mut Intent::default(), &change).unwrap();
}

#[test]
fn server_ids_suit_methods_and_each_other() {
    let key = "0:4:12:8f95f09245765f80256934e50c66207f";
    for (settings, id) in [
        (
            json!({ "server_ids": ["quic-lb", "tcp-option"], "quic_lb": [key] }),
            "0xffffffff",
        ),
        (
            json!({ "server_ids": ["quic-lb"], "quic_lb": ["0:15:4", "6:15:4"] }),
            "0xffffffffffffffffffffffffffffff",
        ),
        (
            json!({ "server_ids": ["tcp-option", "quic-katran"] }),
            "4294967295",
        ),
        (json!({ "server_ids": ["udp-stable"] }), "0xffffff"),
    ] {
        let mut intent = named(settings.clone(), id).unwrap();
        let other = |id: &str| add_real_with(QUIC, "10.1.0.3", patch(json!({ "server_id": id })));
        // The same number in another base.
        let number = u128::from_str_radix(
            id.trim_start_matches("0x"),
            if id.starts_with("0x") { 16 } else { 10 },
        );
        let error = apply(&mut intent, &other(&number.unwrap().to_string())).unwrap_err();
        assert!(
            error.to_string().contains("10.1.0.2 and 10.1.0.3"),
            "{error}"
        );
        apply(&mut intent, &other("1")).unwrap();
    }
    let cases = [
        (json!({}), "1", "spec.server_id", "give it server_ids"),
        (
            json!({ "server_ids": ["quic-lb"] }),
            "1",
            "spec.quic_lb",
            "0:4:8",
        ),
        (
            json!({ "quic_lb": ["0:4:8"] }),
            "1",
            "spec.quic_lb[0]",
            "quic-lb",
        ),
        (
            json!({ "server_ids": ["quic-lb"], "quic_lb": ["0:4:8", "0:4:9"] }),
            "1",
            "spec.quic_lb[1]",
            "its own",
        ),
        (
            json!({ "server_ids": ["udp-stable", "quic-katran"] }),
            "1",
            "spec.server_ids[1]",
            "udp-stable",
        ),
        (
            json!({ "server_ids": ["udp-stable"] }),
            "0x1000000",
            "spec.server_id",
            "24 bits",
        ),
        (
            json!({ "server_ids": ["quic-katran"] }),
            "0x100000000",
            "spec.server_id",
            "32 bits",
        ),
        (
            json!({ "server_ids": ["quic-lb", "tcp-option"], "quic_lb": ["0:2:8", "1:4:8"] }),
            "0x10000",
            "spec.server_id",
            "quic-lb has ids of 16 bits",
        ),
    ];
    for (settings, id, field, advice) in cases {
        let error = named(settings, id).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(field) && text.contains(advice), "{text}");
    }
    for (vip, method) in [
        ("10.0.0.7:443/tcp", "quic-katran"),
        ("10.0.0.7:443/udp", "tcp-option"),
        ("10.0.0.7:443/sctp", "udp-stable"),
    ] {
        let change = add_vip(name(vip), patch(json!({ "server_ids": [method] })));
        let error = apply(&mut Intent::default(), &change).unwrap_err();
        assert!(error.to_string().contains("spec.server_ids[0]"), "{error}");
    }
}

#[test]
fn a_ring_of_katrans_takes_what_katran_can_have() {
    let with = |vip: &str, settings: serde_json::Value| {
        let mut intent = Intent::default();
        apply(&mut intent, &add_vip(name(vip), patch(settings))).map(|_| intent)
    };
    const RING: &str = "maglev-katran";
    for slots in [json!(null), json!(65_537)] {
        let mut intent = with(V4, json!({ "ring": RING, "slots": slots })).unwrap();
        let vip = intent.get(&name(V4)).unwrap();
        assert_eq!((vip.slots(), intent.slots()), (65_537, 65_537));
        // Another ring has another number.
        let other = update_vip(name(V4), patch(json!({ "ring": "maglev" })));
        let result = apply(&mut intent, &other);
        assert_eq!(result.is_ok(), slots.is_null(), "{result:?}");
    }
    let mut intent = with(V4, json!({ "ring": RING, "forward": "nat" })).unwrap();
    let error = apply(&mut intent, &add_real(V4, "10.1.0.2:8080")).unwrap_err();
    assert!(error.to_string().contains("address alone"), "{error}");
    apply(&mut intent, &add_real(V4, "10.1.0.2")).unwrap();

    let mut nat = with(V4, json!({ "forward": "nat" })).unwrap();
    apply(&mut nat, &add_real(V4, "10.1.0.2:8080")).unwrap();
    let change = update_vip(name(V4), patch(json!({ "ring": RING })));
    let error = apply(&mut nat, &change).unwrap_err().to_string();
    assert!(
        error.contains("spec.ring") && error.contains("10.1.0.2:8080"),
        "{error}"
    );

    for (vip, settings, field, advice) in [
        (
            V4,
            json!({ "ring": RING, "slots": 65_536 }),
            "spec.slots",
            "65537",
        ),
        (V4, json!({ "slots": 65_537 }), "spec.slots", "power of two"),
        (
            V4,
            json!({ "ring": RING, "hash": "source" }),
            "spec.hash",
            "flow",
        ),
        (
            "10.0.0.7:80/sctp",
            json!({ "ring": RING }),
            "spec.ring",
            "SCTP",
        ),
    ] {
        let error = with(vip, settings).unwrap_err().to_string();
        assert!(error.contains(field) && error.contains(advice), "{error}");
    }
}
