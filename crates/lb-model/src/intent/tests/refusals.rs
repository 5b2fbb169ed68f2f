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
