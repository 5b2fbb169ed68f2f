//! Validation: helpers, and what is allowed.

mod refusals;

use std::time::Duration;

use super::*;
use crate::intent::{Change, RealPatch, VipPatch, change::Set};
use lb_model::options::{Forward, Track};
use lb_steering::spec::Steering;

const V4: &str = "10.0.0.1:80/tcp";
const V6: &str = "[2001:db8::1]:443/udp";

fn name(text: &str) -> VipKey {
    text.parse().unwrap()
}

/// A name that the text form would refuse already.
fn raw(address: &str) -> VipKey {
    VipKey {
        address: address.parse().unwrap(),
        port: 80,
        protocol: Protocol::Tcp,
    }
}

fn add_vip(vip: VipKey, patch: VipPatch) -> Change {
    Change::AddVip { vip, patch }
}

fn add_real(vip: &str, real: &str) -> Change {
    Change::AddReal {
        vip: name(vip),
        real: real.parse().unwrap(),
        patch: RealPatch::default(),
    }
}

fn weighted(weight: u32) -> RealPatch {
    RealPatch {
        weight: Some(Set::To(weight)),
        drained: None,
        ..RealPatch::default()
    }
}

fn window(seconds: Duration) -> VipPatch {
    VipPatch {
        window: Some(Set::To(seconds)),
        ..Default::default()
    }
}

fn slots(slots: u32) -> VipPatch {
    VipPatch {
        slots: Some(Set::To(slots)),
        ..Default::default()
    }
}

fn l2() -> VipPatch {
    VipPatch {
        forward: Some(Set::To(Forward::L2)),
        ..Default::default()
    }
}

fn apply(intent: &mut Intent, change: &Change) -> Result<(), Refusal> {
    let vip = change.apply(intent)?;
    intent.replace(*change.vip(), vip);
    Ok(())
}

/// Two VIPs; the first has reals of both families.
fn intent() -> Intent {
    let mut intent = Intent::default();
    for change in [
        add_vip(name(V4), VipPatch::default()),
        add_real(V4, "10.1.0.2"),
        add_real(V4, "fd00::2"),
        add_vip(name(V6), l2()),
        add_real(V6, "fd00::2"),
    ] {
        apply(&mut intent, &change).unwrap();
    }
    intent
}

#[test]
fn limits_themselves_are_allowed() {
    let mut intent = intent();
    for change in [
        add_vip(name("10.0.0.1:0/tcp"), window(Duration::from_secs(1))),
        add_vip(
            name("10.0.0.2:80/tcp"),
            window(Duration::from_secs(2_592_000)),
        ),
        add_vip(name("10.0.0.3:65535/udp"), slots(256)),
        add_vip(name("10.0.0.4:80/tcp"), slots(65_536)),
        Change::AddReal {
            vip: name(V4),
            real: "10.1.0.3".parse().unwrap(),
            patch: weighted(0),
        },
        Change::AddReal {
            vip: name(V4),
            real: "10.1.0.4".parse().unwrap(),
            patch: weighted(65_535),
        },
    ] {
        apply(&mut intent, &change).unwrap();
    }
}

#[test]
fn defaults_depend_on_the_protocol_and_come_back() {
    let mut intent = intent();
    let spec = |intent: &Intent, vip: &str| intent.get(&name(vip)).unwrap().spec.clone();
    assert_eq!(spec(&intent, V4).window, Duration::from_secs(3_600));
    assert_eq!(spec(&intent, V6).window, Duration::from_secs(120));

    let patch = VipPatch {
        window: Some(Set::To(Duration::from_secs(5))),
        track: Some(Set::To(Track::All)),
        ..Default::default()
    };
    apply(
        &mut intent,
        &Change::UpdateVip {
            vip: name(V6),
            patch,
        },
    )
    .unwrap();
    assert_eq!(
        (spec(&intent, V6).window, spec(&intent, V6).track),
        (Duration::from_secs(5), Track::All)
    );
    assert_eq!(
        spec(&intent, V6).forward,
        Forward::L2,
        "what the patch does not name stays"
    );

    let patch = VipPatch {
        window: Some(Set::Default),
        ..Default::default()
    };
    apply(
        &mut intent,
        &Change::UpdateVip {
            vip: name(V6),
            patch,
        },
    )
    .unwrap();
    assert_eq!(
        (spec(&intent, V6).window, spec(&intent, V6).track),
        (Duration::from_secs(120), Track::All)
    );
}

#[test]
fn full_tables_are_named_and_there_is_a_way_back() {
    let mut intent = Intent::default();
    for number in 0..MAX_VIPS {
        let vip = VipKey {
            port: number as u16,
            ..raw("10.0.0.1")
        };
        apply(&mut intent, &add_vip(vip, slots(16_384))).unwrap();
    }
    let one_more = add_vip(raw("10.0.0.2"), slots(256));
    assert!(matches!(
        one_more.apply(&intent),
        Err(Refusal::Full {
            table: "services",
            capacity: 4_095,
            ..
        })
    ));
    // 4,095 rings of 16,384 slots leave 16,384.
    let vip = VipKey {
        port: 1,
        ..raw("10.0.0.1")
    };
    let larger = Change::UpdateVip {
        vip,
        patch: slots(65_536),
    };
    assert!(matches!(
        larger.apply(&intent),
        Err(Refusal::Full { table: "rings", .. })
    ));
    apply(
        &mut intent,
        &Change::UpdateVip {
            vip,
            patch: slots(32_768),
        },
    )
    .unwrap();
    apply(
        &mut intent,
        &Change::UpdateVip {
            vip,
            patch: slots(256),
        },
    )
    .unwrap();
    apply(&mut intent, &Change::DeleteVip { vip }).unwrap();
    apply(&mut intent, &one_more).unwrap();
}

#[test]
fn a_ring_has_a_slot_for_each_real() {
    let mut intent = Intent::default();
    apply(&mut intent, &add_vip(name(V4), slots(256))).unwrap();
    for number in 0..256u32 {
        let real = IpAddr::from((0x0A01_0000 + number).to_be_bytes());
        apply(
            &mut intent,
            &Change::AddReal {
                vip: name(V4),
                real,
                patch: RealPatch::default(),
            },
        )
        .unwrap();
    }
    let refusal = add_real(V4, "10.9.0.1").apply(&intent);
    assert!(
        matches!(
            refusal,
            Err(Refusal::Invalid { ref field, .. }) if field == "address"
        ),
        "{refusal:?}"
    );
    apply(
        &mut intent,
        &Change::UpdateVip {
            vip: name(V4),
            patch: slots(512),
        },
    )
    .unwrap();
    apply(&mut intent, &add_real(V4, "10.9.0.1")).unwrap();
    let shrink = Change::UpdateVip {
        vip: name(V4),
        patch: slots(256),
    }
    .apply(&intent);
    assert!(
        matches!(
            shrink,
            Err(Refusal::Invalid { ref field, .. }) if field == "spec.slots"
        ),
        "{shrink:?}"
    );
}
