//! What is refused, by field and by name.

use super::*;

#[test]
fn what_cannot_be_is_refused_by_field() {
    let update_vip = |vip: &str, patch| Change::UpdateVip {
        vip: name(vip),
        patch,
    };
    let update_real = |real: &str, patch| Change::UpdateReal {
        vip: name(V4),
        real: real.parse().unwrap(),
        patch,
    };
    let cases: Vec<(&str, Change, &str, &str)> = vec![
        (
            "unspecified VIP",
            add_vip(raw("0.0.0.0"), VipPatch::default()),
            "id.address",
            "0.0.0.0",
        ),
        (
            "loopback VIP",
            add_vip(raw("127.0.0.1"), VipPatch::default()),
            "id.address",
            "127.0.0.1",
        ),
        (
            "multicast VIP",
            add_vip(raw("224.0.0.1"), VipPatch::default()),
            "id.address",
            "224.0.0.1",
        ),
        (
            "broadcast VIP",
            add_vip(raw("255.255.255.255"), VipPatch::default()),
            "id.address",
            "255.255.255.255",
        ),
        (
            "multicast v6 VIP",
            add_vip(raw("ff02::1"), VipPatch::default()),
            "id.address",
            "ff02::1",
        ),
        (
            "link-local v6 VIP",
            add_vip(raw("fe80::1"), VipPatch::default()),
            "id.address",
            "fe80::1",
        ),
        (
            "mapped VIP",
            add_vip(raw("::ffff:10.0.0.9"), VipPatch::default()),
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
            update_vip(
                V6,
                VipPatch {
                    steering: Some(Set::To(Steering {
                        shed_rate: 1.0,
                        ..Steering::default()
                    })),
                    ..VipPatch::default()
                },
            ),
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
            Change::AddReal {
                vip: name(V4),
                real: "10.1.0.9".parse().unwrap(),
                patch: weighted(65_536),
            },
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
            add_vip(raw("10.0.0.9"), window(Duration::from_millis(999))),
            "spec.window",
            "999ms",
        ),
        (
            "window too long",
            update_vip(V4, window(Duration::from_secs(2_592_001))),
            "spec.window",
            "2592001s",
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
    ];
    for (case, change, field, value) in cases {
        let before = intent();
        match change.apply(&before) {
            Err(Refusal::Invalid {
                field: f,
                value: v,
                advice,
            }) => {
                assert_eq!((&*f, v.as_str()), (field, value), "{case}");
                assert!(!advice.is_empty(), "{case}");
            }
            other => panic!("{case}: {other:?}"),
        }
    }
}

#[test]
fn objects_are_refused_by_name() {
    let real: IpAddr = "10.1.0.2".parse().unwrap();
    let other: IpAddr = "10.1.0.9".parse().unwrap();
    let unknown = name("10.0.0.9:80/tcp");
    let (vip, patch) = (name(V4), weighted(1));
    for (change, refusal) in [
        (add_vip(vip, VipPatch::default()), Refusal::VipExists(vip)),
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
        assert_eq!(change.apply(&intent()), Err(refusal));
    }
}
