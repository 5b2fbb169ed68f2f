//! Changes and their validation: helpers, and what is allowed.

mod following;
mod owners;
mod refusals;

use std::net::IpAddr;

use serde_json::json;

use super::{validate::MAX_VIPS, *};
use crate::{
    component::{Kind, NoSettings, Registry},
    options::{Forward, Track},
    vip::{Protocol, RealId, VipKey},
};
use std::time::Duration;

crate::settings! {
    /// Settings of a kind of every family.
    pub struct Own {
        /// Path that is asked for.
        path: String = "/".to_owned();
    }
}

static TCP: Kind = Kind::of::<NoSettings>("tcp", "Connects.");
static EXEC: Kind = Kind::of::<Own>("exec", "Runs a program.")
    .without_port()
    .running_program();
static DOCKER: Kind = Kind::of::<Own>("docker", "Asks Docker.");
static CAPACITY: Kind = Kind::of::<NoSettings>("capacity", "Learns.");
static RESETS: Kind = Kind::of::<NoSettings>("reset", "Resets.");
static WEBHOOK: Kind = Kind::of::<Own>("webhook", "Posts.");

static KINDS: Kinds = Kinds {
    probes: &Registry {
        family: "probe",
        key: "kind",
        kinds: &[&TCP, &EXEC],
    },
    readers: &Registry {
        family: "load reader",
        key: "kind",
        kinds: &[&DOCKER],
    },
    controllers: &Registry {
        family: "controller",
        key: "controller",
        kinds: &[&CAPACITY],
    },
    sheds: &Registry {
        family: "way of shedding",
        key: "by",
        kinds: &[&RESETS, &WEBHOOK],
    },
};

const V4: &str = "10.0.0.1:80/tcp";
const V6: &str = "[2001:db8::1]:443/udp";

fn name(text: &str) -> VipKey {
    text.parse().unwrap()
}

/// A name that the text form would refuse already.
fn raw(address: &str) -> VipKey {
    VipKey::new(address.parse().unwrap(), 80, Protocol::Tcp)
}

fn patch(json: serde_json::Value) -> Patch {
    json.as_object().unwrap().clone()
}

fn add_vip(vip: VipKey, patch: Patch) -> Change {
    Change::AddVip { vip, patch }
}

fn update_vip(vip: VipKey, patch: Patch) -> Change {
    Change::UpdateVip { vip, patch }
}

fn real(text: &str) -> RealId {
    text.parse().unwrap()
}

fn add_real_with(vip: &str, id: &str, patch: Patch) -> Change {
    Change::AddReal {
        vip: name(vip),
        real: real(id),
        patch,
    }
}

fn add_real(vip: &str, id: &str) -> Change {
    add_real_with(vip, id, Patch::new())
}

fn weighted(weight: u32) -> Patch {
    patch(json!({ "weight": weight }))
}

fn window(text: &str) -> Patch {
    patch(json!({ "window": text }))
}

fn slots(slots: u32) -> Patch {
    patch(json!({ "slots": slots }))
}

fn l2() -> Patch {
    patch(json!({ "forward": "l2" }))
}

fn apply(intent: &mut Intent, change: &Change) -> Result<(), Refusal> {
    let vip = change.apply(intent, &Writer::default(), &KINDS)?;
    intent.replace(*change.vip(), vip);
    Ok(())
}

/// Two VIPs; the first has reals of both families.
fn intent() -> Intent {
    let mut intent = Intent::default();
    for change in [
        add_vip(name(V4), Patch::new()),
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
        add_vip(name("10.0.0.1:0/tcp"), window("1s")),
        add_vip(name("10.0.0.2:80/tcp"), window("30d")),
        add_vip(name("10.0.0.3:65535/udp"), slots(256)),
        add_vip(name("10.0.0.4:80/tcp"), slots(65_536)),
        add_real_with(V4, "10.1.0.3", weighted(0)),
        add_real_with(V4, "10.1.0.4", weighted(65_535)),
    ] {
        apply(&mut intent, &change).unwrap();
    }
}

#[test]
fn defaults_depend_on_the_protocol_and_come_back() {
    let mut intent = intent();
    let spec = |intent: &Intent, vip: &str| intent.get(&name(vip)).unwrap().spec.clone();
    let window = |intent: &Intent, vip: &str| intent.get(&name(vip)).unwrap().window();
    assert_eq!(window(&intent, V4), Duration::from_secs(3_600));
    assert_eq!(window(&intent, V6), Duration::from_secs(120));

    let change = patch(json!({ "window": "5s", "track": "all" }));
    apply(&mut intent, &update_vip(name(V6), change)).unwrap();
    assert_eq!(
        (window(&intent, V6), spec(&intent, V6).track),
        (Duration::from_secs(5), Track::All)
    );
    assert_eq!(
        spec(&intent, V6).forward,
        Forward::L2,
        "what the patch does not name stays"
    );

    let change = patch(json!({ "window": null }));
    apply(&mut intent, &update_vip(name(V6), change)).unwrap();
    assert_eq!(
        (window(&intent, V6), spec(&intent, V6).track),
        (Duration::from_secs(120), Track::All)
    );
}

#[test]
fn full_tables_are_named_and_there_is_a_way_back() {
    let mut intent = Intent::default();
    for number in 0..MAX_VIPS {
        let mut vip = raw("10.0.0.1");
        vip.port = number as u16;
        apply(&mut intent, &add_vip(vip, slots(16_384))).unwrap();
    }
    let one_more = add_vip(raw("10.0.0.2"), slots(256));
    assert!(matches!(
        one_more.apply(&intent, &Writer::default(), &KINDS),
        Err(Refusal::Full {
            table: "services",
            capacity: 4_095,
            ..
        })
    ));
    // 4,095 rings of 16,384 slots leave 16,384.
    let mut vip = raw("10.0.0.1");
    vip.port = 1;
    let larger = update_vip(vip, slots(65_536));
    assert!(matches!(
        larger.apply(&intent, &Writer::default(), &KINDS),
        Err(Refusal::Full { table: "rings", .. })
    ));
    apply(&mut intent, &update_vip(vip, slots(32_768))).unwrap();
    apply(&mut intent, &update_vip(vip, slots(256))).unwrap();
    apply(&mut intent, &Change::DeleteVip { vip }).unwrap();
    apply(&mut intent, &one_more).unwrap();
}

#[test]
fn a_ring_has_a_slot_for_each_real() {
    let mut intent = Intent::default();
    apply(&mut intent, &add_vip(name(V4), slots(256))).unwrap();
    for number in 0..256u32 {
        let real = IpAddr::from((0x0A01_0000 + number).to_be_bytes()).into();
        apply(
            &mut intent,
            &Change::AddReal {
                vip: name(V4),
                real,
                patch: Patch::new(),
            },
        )
        .unwrap();
    }
    let refusal = add_real(V4, "10.9.0.1").apply(&intent, &Writer::default(), &KINDS);
    assert!(
        matches!(
            refusal,
            Err(Refusal::Invalid(ref error)) if error.field == "address"
        ),
        "{refusal:?}"
    );
    apply(&mut intent, &update_vip(name(V4), slots(512))).unwrap();
    apply(&mut intent, &add_real(V4, "10.9.0.1")).unwrap();
    let shrink = update_vip(name(V4), slots(256)).apply(&intent, &Writer::default(), &KINDS);
    assert!(
        matches!(
            shrink,
            Err(Refusal::Invalid(ref error)) if error.field == "spec.slots"
        ),
        "{shrink:?}"
    );
}

#[test]
fn components_are_completed_and_checked() {
    let mut intent = intent();
    let change = patch(json!({ "check": { "kind": "exec" }, "load": [{ "kind": "docker" }] }));
    apply(&mut intent, &update_vip(name(V4), change)).unwrap();
    let vip = intent.get(&name(V4)).unwrap();
    let check = vip.spec.check.as_ref().unwrap();
    assert_eq!(check.probe.settings["path"], "/");
    assert!(KINDS.runs_program(&vip.spec));
    // A VIP of any port has a port to probe only if the check names one, and a program needs none.
    let any = name("10.0.0.9:0/tcp");
    for (check, fits) in [
        (json!({ "kind": "exec" }), true),
        (json!({ "kind": "tcp", "port": 80 }), true),
        (json!({ "kind": "tcp" }), false),
    ] {
        let change = add_vip(any, patch(json!({ "check": check })));
        assert_eq!(
            change.apply(&intent, &Writer::default(), &KINDS).is_ok(),
            fits,
            "{check}"
        );
    }
}

#[test]
fn sources_of_a_real_may_differ() {
    let mut intent = intent();
    let sources = json!([{ "kind": "docker", "path": "/a" }, { "kind": "docker", "name": "b" }]);
    apply(
        &mut intent,
        &update_vip(name(V4), patch(json!({ "load": sources }))),
    )
    .unwrap();
    let change = Change::UpdateReal {
        vip: name(V4),
        real: real("10.1.0.2"),
        patch: patch(
            json!({ "load": [{ "name": "docker", "path": "/c" }, { "name": "b", "off": true }] }),
        ),
    };
    apply(&mut intent, &change).unwrap();
    let vip = intent.get(&name(V4)).unwrap();
    let paths = |id: &str| -> Vec<String> {
        KINDS
            .sources(vip, &vip.reals[&real(id)].spec)
            .iter()
            .map(|source| source.reader.settings["path"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(paths("10.1.0.2"), ["/c"]);
    assert_eq!(paths("fd00::2"), ["/a", "/"]);
}

#[test]
fn vips_that_another_one_stands_in_for_are_known() {
    let mut intent = intent();
    let dependents = |intent: &Intent, vip: &str| -> Vec<VipKey> {
        intent
            .dependents(&name(vip))
            .map(|vip| vip.address)
            .collect()
    };
    const OTHER: &str = "[2001:db8::2]:443/udp";
    let stands_in = |other: &str| patch(json!({ "when_empty": other }));
    apply(&mut intent, &add_vip(name(OTHER), stands_in(V6))).unwrap();
    assert_eq!(dependents(&intent, V6), [name(OTHER)]);
    assert_eq!(dependents(&intent, V4), []);
    let before = intent.clone();
    apply(
        &mut intent,
        &update_vip(name(OTHER), patch(json!({ "when_empty": null }))),
    )
    .unwrap();
    assert_eq!(dependents(&intent, V6), []);
    apply(&mut intent, &update_vip(name(OTHER), stands_in(V6))).unwrap();
    assert_eq!(intent, before);
    apply(&mut intent, &Change::DeleteVip { vip: name(OTHER) }).unwrap();
    assert_eq!(dependents(&intent, V6), []);
    apply(&mut intent, &Change::DeleteVip { vip: name(V6) }).unwrap();
}
