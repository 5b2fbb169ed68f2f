//! One owner's objects follow what it wants.

use super::{follow::LeftObject, *};

const ONE: &str = "10.0.0.1:80/tcp";
const TWO: &str = "10.0.0.2:80/tcp";
const THREE: &str = "10.0.0.3:80/tcp";

fn file() -> Writer {
    Writer::of(Owner::File)
}

/// The objects that these changes of a writer make.
fn made(writer: &Writer, changes: &[Change]) -> Intent {
    let mut intent = Intent::default();
    make(&mut intent, writer, changes);
    intent
}

fn make(intent: &mut Intent, writer: &Writer, changes: &[Change]) {
    for change in changes {
        let vip = change
            .apply(intent, writer, &KINDS)
            .unwrap_or_else(|refusal| panic!("{}: {refusal}", change.name()));
        intent.replace(*change.vip(), vip);
    }
}

fn vip(vip: &str, settings: serde_json::Value) -> Change {
    add_vip(name(vip), patch(settings))
}

fn stands_in(vip: &str, other: &str) -> Change {
    update_vip(name(vip), patch(json!({ "when_empty": other })))
}

fn mode(mode: &str) -> Patch {
    patch(json!({ "mode": mode }))
}

/// Files whose VIPs stand in for each other, change families, and have reals with settings of their own.
fn files() -> Vec<Vec<Change>> {
    let docker = json!([{ "kind": "docker", "name": "a" }]);
    vec![
        vec![],
        vec![vip(ONE, json!({})), add_real(ONE, "10.1.0.2")],
        vec![
            vip(ONE, json!({ "window": "1m" })),
            add_real_with(ONE, "10.1.0.2", weighted(7)),
            vip(TWO, json!({ "description": "two" })),
            stands_in(ONE, TWO),
            stands_in(TWO, ONE),
        ],
        vec![
            vip(TWO, json!({ "forward": "l2", "slots": 512 })),
            add_real(TWO, "10.1.0.9"),
            vip(THREE, json!({})),
            stands_in(THREE, TWO),
        ],
        vec![
            vip(
                ONE,
                json!({ "load": docker, "check": { "kind": "tcp", "port": 1 } }),
            ),
            add_real_with(
                ONE,
                "10.1.0.2",
                patch(
                    json!({ "load": [{ "name": "a", "off": true }], "check": { "disabled": true } }),
                ),
            ),
            add_real_with(ONE, "fd00::2", patch(json!({ "drained": true }))),
            vip(TWO, json!({ "when_empty": "reset" })),
        ],
        // Modes of reals that suit one mode of the VIP and not the other, by family and by port.
        vec![
            vip(ONE, json!({ "forward": "l2" })),
            add_real(ONE, "10.1.0.2"),
            add_real_with(ONE, "10.1.0.2:8080", mode("nat")),
            add_real_with(ONE, "fd00::2", mode("gue")),
        ],
        vec![
            vip(ONE, json!({ "forward": "nat" })),
            add_real_with(ONE, "10.1.0.2", mode("l2")),
            add_real(ONE, "10.1.0.2:8080"),
            add_real(ONE, "fd00::2"),
        ],
        vec![
            vip(ONE, json!({ "forward": "nat", "source": "client" })),
            add_real(ONE, "10.1.0.2"),
            add_real(ONE, "10.1.0.2:8080"),
            add_real_with(ONE, "fd00::2", mode("ipip")),
        ],
    ]
}

#[test]
fn each_file_can_follow_each_other() {
    let intents: Vec<Intent> = files()
        .iter()
        .map(|changes| made(&file(), changes))
        .collect();
    for (from, current) in intents.iter().enumerate() {
        for (to, wanted) in intents.iter().enumerate() {
            let plan = follow(current, wanted, &file());
            let mut after = current.clone();
            make(&mut after, &file(), &plan.changes);
            assert_eq!(after, *wanted, "from file {from} to file {to}");
            assert_eq!(plan.left, []);
            assert_eq!(plan.changes.is_empty(), from == to, "{:?}", plan.changes);
        }
    }
}

#[test]
fn a_change_names_only_what_differs() {
    let current = made(
        &file(),
        &[
            vip(ONE, json!({ "window": "1m", "description": "one" })),
            add_real(ONE, "10.1.0.2"),
        ],
    );
    let wanted = made(
        &file(),
        &[
            vip(ONE, json!({ "window": "2m" })),
            add_real_with(ONE, "10.1.0.2", weighted(5)),
        ],
    );
    let plan = follow(&current, &wanted, &file());
    let expected = [
        update_vip(
            name(ONE),
            patch(json!({ "description": null, "window": "2m" })),
        ),
        Change::UpdateReal {
            vip: name(ONE),
            real: real("10.1.0.2"),
            patch: weighted(5),
        },
    ];
    assert_eq!(plan.changes, expected);
}

#[test]
fn objects_of_others_are_left_alone() {
    let mut current = made(
        &file(),
        &[
            vip(ONE, json!({})),
            add_real(ONE, "10.1.0.2"),
            vip(TWO, json!({})),
        ],
    );
    make(
        &mut current,
        &Writer::default(),
        &[
            add_real(ONE, "10.1.0.3"),
            add_real(TWO, "10.1.0.3"),
            vip(THREE, json!({})),
        ],
    );
    // The file wants the API's real and VIP otherwise, and two of its own objects no more.
    let wanted = made(
        &file(),
        &[
            vip(ONE, json!({})),
            add_real_with(ONE, "10.1.0.3", weighted(1)),
            vip(THREE, json!({ "window": "1m" })),
            add_real(THREE, "10.1.0.4"),
        ],
    );
    let plan = follow(&current, &wanted, &file());
    let left = |vip: &str, id: Option<&str>| LeftObject {
        vip: name(vip),
        real: id.map(real),
        owner: Owner::Api,
    };
    assert_eq!(
        plan.left,
        [
            left(TWO, Some("10.1.0.3")),
            left(ONE, Some("10.1.0.3")),
            left(THREE, None),
        ]
    );
    let differs = |current: &Intent| {
        let left = plan.left.iter();
        let differs = left.map(|object| object.differs(current, &wanted));
        differs.collect::<Vec<_>>()
    };
    assert_eq!(differs(&current), [true; 3]);
    // The API makes them as the file wants them, or removes them.
    let mut alike = current.clone();
    make(
        &mut alike,
        &Writer::default(),
        &[
            Change::DeleteReal {
                vip: name(TWO),
                real: real("10.1.0.3"),
            },
            Change::UpdateReal {
                vip: name(ONE),
                real: real("10.1.0.3"),
                patch: weighted(1),
            },
            update_vip(name(THREE), patch(json!({ "window": "1m" }))),
        ],
    );
    assert_eq!(differs(&alike), [false; 3]);
    make(
        &mut alike,
        &Writer::default(),
        &[Change::DeleteVip { vip: name(THREE) }],
    );
    assert_eq!(differs(&alike), [false, false, true]);
    assert_eq!(
        plan.changes,
        [
            Change::DeleteReal {
                vip: name(ONE),
                real: real("10.1.0.2")
            },
            Change::AddReal {
                vip: name(THREE),
                real: real("10.1.0.4"),
                patch: Patch::new()
            },
        ]
    );

    let forcing = Writer {
        force: true,
        ..file()
    };
    let plan = follow(&current, &wanted, &forcing);
    assert_eq!(plan.left, []);
    make(&mut current, &forcing, &plan.changes);
    assert_eq!(current, wanted);
}

#[test]
fn force_does_not_delete_what_the_owner_never_had() {
    let current = made(
        &Writer::default(),
        &[vip(ONE, json!({})), add_real(ONE, "10.1.0.2")],
    );
    let forcing = Writer {
        force: true,
        ..file()
    };
    let plan = follow(&current, &Intent::default(), &forcing);
    assert_eq!(plan, Plan::default());
}
