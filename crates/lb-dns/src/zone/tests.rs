//! The zone: what is set is what is looked up.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

pub(crate) fn spec() -> DnsSpec {
    let map = serde_json::json!({
        "zone": "lb.example.com",
        "listen": ["192.0.2.1:53"],
        "name_servers": {
            "ns1.lb.example.com": ["192.0.2.53", "2001:db8::53"],
            "ns.example.net": [],
        },
    });
    lb_model::settings::from_map(map.as_object().unwrap()).unwrap()
}

pub(crate) fn record(name: &str) -> RecordName {
    name.parse().unwrap()
}

pub(crate) fn addresses(texts: &[&str]) -> Addresses {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn zone() -> Zone {
    Zone::new(&spec(), Serial::new(7))
}

fn ask(zone: &Zone, name: &str, kind: RecordType) -> Lookup {
    zone.lookup(&Name::from_ascii(name).unwrap(), kind)
}

/// The data of the records of a name, as text.
fn found(zone: &Zone, name: &str, kind: RecordType) -> Vec<String> {
    match ask(zone, name, kind) {
        Lookup::Records { answers, .. } => answers.iter().map(|one| one.data.to_string()).collect(),
        other => panic!("{name} {kind}: {other:?}"),
    }
}

fn soa_of(lookup: Lookup) -> (bool, Record) {
    match lookup {
        Lookup::NoData(soa) => (true, soa),
        Lookup::NoName(soa) => (false, soa),
        other => panic!("{other:?}"),
    }
}

#[test]
fn names_have_the_addresses_that_are_set() {
    let mut zone = zone();
    let name = record("web.shop");
    assert!(
        zone.set(
            &name,
            &addresses(&["192.0.2.1", "2001:db8::1", "192.0.2.2"])
        )
        .unwrap()
    );
    let full = "web.shop.lb.example.com.";
    assert_eq!(
        found(&zone, full, RecordType::A),
        ["192.0.2.1", "192.0.2.2"]
    );
    assert_eq!(found(&zone, full, RecordType::AAAA), ["2001:db8::1"]);
    // One set of records for a query for anything.
    assert_eq!(
        found(&zone, full, RecordType::ANY),
        ["192.0.2.1", "192.0.2.2"]
    );
    let (exists, soa) = soa_of(ask(&zone, full, RecordType::MX));
    assert!(exists);
    assert_eq!(soa.ttl, 10, "RFC 2308 section 3: the lower of both");
    assert!(zone.set(&name, &addresses(&["2001:db8::1"])).unwrap());
    assert!(soa_of(ask(&zone, full, RecordType::A)).0, "no data");
    assert!(zone.remove(&name));
    assert!(!soa_of(ask(&zone, full, RecordType::A)).0, "no name");
    assert!(!zone.remove(&name));
}

#[test]
fn a_name_exists_if_something_is_at_it_or_below() {
    let mut zone = zone();
    zone.set(&record("web.shop"), &addresses(&["192.0.2.1"]))
        .unwrap();
    for (name, exists) in [
        ("shop.lb.example.com.", true),
        ("SHOP.lb.example.com.", true),
        ("other.lb.example.com.", false),
        ("api.shop.lb.example.com.", false),
        ("a.web.shop.lb.example.com.", false),
        ("_lb-owner.web.shop.lb.example.com.", false),
        ("a.b.c.d.e.lb.example.com.", false),
        ("*.shop.lb.example.com.", false),
    ] {
        assert_eq!(soa_of(ask(&zone, name, RecordType::A)).0, exists, "{name}");
    }
    for odd in [&b"\0"[..], b"\xff", b"web\0", b"a.b", b" "] {
        let labels = [odd, b"shop", b"lb", b"example", b"com"];
        let name = Name::from_labels(labels).unwrap();
        assert!(!soa_of(zone.lookup(&name, RecordType::A)).0, "{name}");
    }
    for name in [
        "example.com.",
        "com.",
        ".",
        "xlb.example.com.",
        "lb.example.org.",
    ] {
        assert_eq!(ask(&zone, name, RecordType::A), Lookup::Foreign, "{name}");
    }
    zone.remove(&record("web.shop"));
    assert!(!soa_of(ask(&zone, "shop.lb.example.com.", RecordType::A)).0);
}

#[test]
fn the_zone_has_its_own_records() {
    let zone = zone();
    let apex = "lb.example.com.";
    assert_eq!(
        found(&zone, apex, RecordType::SOA),
        ["ns.example.net. hostmaster.lb.example.com. 7 60 30 604800 10"]
    );
    assert_eq!(
        found(&zone, apex, RecordType::NS),
        ["ns.example.net.", "ns1.lb.example.com."]
    );
    let Lookup::Records { additionals, .. } = ask(&zone, apex, RecordType::NS) else {
        panic!("no name servers");
    };
    let glue: Vec<_> = additionals
        .iter()
        .map(|one| (one.name.to_ascii(), one.data.to_string()))
        .collect();
    let server = "ns1.lb.example.com.";
    assert_eq!(
        glue,
        [
            (server.to_owned(), "192.0.2.53".to_owned()),
            (server.to_owned(), "2001:db8::53".to_owned())
        ]
    );
    assert_eq!(found(&zone, server, RecordType::A), ["192.0.2.53"]);
    assert!(soa_of(ask(&zone, apex, RecordType::A)).0);
    assert!(soa_of(ask(&zone, apex, RecordType::DS)).0);
}

#[test]
fn a_name_server_and_a_project_may_share_a_name() {
    let mut zone = zone();
    zone.set(&record("web.ns1"), &addresses(&["192.0.2.1"]))
        .unwrap();
    assert_eq!(
        found(&zone, "ns1.lb.example.com.", RecordType::A),
        ["192.0.2.53"]
    );
    assert_eq!(
        found(&zone, "web.ns1.lb.example.com.", RecordType::A),
        ["192.0.2.1"]
    );
}

#[test]
fn records_have_the_name_as_it_was_asked_for() {
    let mut zone = zone();
    zone.set(&record("web.shop"), &addresses(&["192.0.2.1"]))
        .unwrap();
    let asked = Name::from_ascii("wEb.ShOp.Lb.eXample.com.").unwrap();
    let Lookup::Records { answers, .. } = zone.lookup(&asked, RecordType::A) else {
        panic!("no records");
    };
    assert!(answers[0].name.eq_case(&asked), "{}", answers[0].name);
    assert_eq!(answers[0].ttl, 30);
}

#[test]
fn the_serial_moves_when_something_changes_and_only_then() {
    let mut zone = Zone::new(&spec(), Serial::new(u32::MAX - 1));
    let name = record("web.shop");
    let one = addresses(&["192.0.2.1"]);
    assert!(zone.set(&name, &one).unwrap());
    assert_eq!(zone.serial().get(), u32::MAX);
    assert!(!zone.set(&name, &one).unwrap());
    assert!(!zone.remove(&record("api.shop")));
    assert_eq!(zone.serial().get(), u32::MAX);
    assert!(zone.set(&name, &addresses(&["192.0.2.2"])).unwrap());
    assert_eq!(zone.serial().get(), 1, "it skips 0");
    let error = zone.set(&name, &addresses(&["224.0.0.1"])).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("web.shop.addresses: 224.0.0.1"),
        "{error}"
    );
    assert_eq!(zone.serial().get(), 1);
    assert!(!zone.configure(&spec()));
    let mut other = spec();
    other.ttl = Duration::from_secs(5);
    assert!(zone.configure(&other));
    assert_eq!(zone.serial().get(), 2);
    assert!(!zone.advance(Serial::new(2)));
    assert!(!zone.advance(Serial::new(u32::MAX)), "it is earlier");
    assert!(zone.advance(Serial::new(1_000)));
    assert_eq!(zone.serial().get(), 1_000);
}

#[test]
fn all_names_can_be_replaced_at_once() {
    let mut zone = zone();
    zone.set(&record("web.shop"), &addresses(&["192.0.2.1"]))
        .unwrap();
    zone.set(&record("api.shop"), &addresses(&["192.0.2.2"]))
        .unwrap();
    let names = BTreeMap::from([
        (record("web.shop"), addresses(&["192.0.2.3"])),
        (record("web.other"), addresses(&["192.0.2.4"])),
        (record("none.other"), Addresses::new()),
    ]);
    let before = zone.serial();
    assert!(zone.replace(&names).unwrap());
    assert_eq!(zone.serial(), before.next(), "one step");
    let all: Vec<_> = zone.names().map(|(name, _)| name.to_string()).collect();
    assert_eq!(all, ["web.other", "web.shop"]);
    assert!(!zone.replace(&names).unwrap());
    let mut bad = names.clone();
    bad.insert(record("zzz.zzz"), addresses(&["0.0.0.0"]));
    bad.remove(&record("web.shop"));
    assert!(zone.replace(&bad).is_err());
    assert_eq!(zone.names().count(), 2, "nothing has changed");
}

#[test]
fn a_snapshot_does_not_change() {
    let mut zone = zone();
    zone.set(&record("web.shop"), &addresses(&["192.0.2.1"]))
        .unwrap();
    let snapshot = zone.clone();
    zone.set(&record("web.shop"), &addresses(&["192.0.2.2"]))
        .unwrap();
    zone.set(&record("api.shop"), &addresses(&["192.0.2.2"]))
        .unwrap();
    assert_eq!(
        found(&snapshot, "web.shop.lb.example.com.", RecordType::A),
        ["192.0.2.1"]
    );
    assert_eq!(snapshot.names().count(), 1);
}

#[test]
fn a_transfer_has_everything_between_two_records_of_the_zone() {
    let mut zone = zone();
    zone.set(
        &record("web.shop"),
        &addresses(&["192.0.2.1", "2001:db8::1"]),
    )
    .unwrap();
    let records: Vec<_> = zone.transfer().collect();
    let kinds: Vec<_> = records.iter().map(Record::record_type).collect();
    use RecordType as R;
    assert_eq!(
        kinds,
        [R::SOA, R::NS, R::NS, R::A, R::AAAA, R::A, R::AAAA, R::SOA]
    );
    assert_eq!(records.first(), records.last());
}

/// A step of a random history.
#[derive(Clone, Debug)]
enum Step {
    Set(RecordName, Addresses),
    Remove(RecordName),
}

fn any_name() -> impl Strategy<Value = RecordName> {
    // Few names, so that steps meet.
    let label = prop::sample::select(vec!["a", "b", "web", "x-1", "ns1"]);
    (label.clone(), label).prop_map(|(balancer, project)| record(&format!("{balancer}.{project}")))
}

fn any_addresses() -> impl Strategy<Value = Addresses> {
    let v4 = (1_u8..5).prop_map(|last| IpAddr::from([192, 0, 2, last]));
    let v6 = (1_u16..5).prop_map(|last| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last]));
    prop::collection::btree_set(prop_oneof![v4, v6], 0..5)
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (any_name(), any_addresses()).prop_map(|(name, set)| Step::Set(name, set)),
        1 => any_name().prop_map(Step::Remove),
    ]
}

proptest! {
    #[test]
    fn what_is_set_is_what_is_answered(steps in prop::collection::vec(any_step(), 0..40), start: u32) {
        let mut zone = Zone::new(&spec(), Serial::new(start));
        let mut model: BTreeMap<RecordName, Addresses> = BTreeMap::new();
        for step in steps {
            let before = (zone.serial(), model.clone());
            let changed = match step {
                Step::Set(name, addresses) => {
                    if addresses.is_empty() {
                        model.remove(&name);
                    } else {
                        model.insert(name.clone(), addresses.clone());
                    }
                    zone.set(&name, &addresses).unwrap()
                }
                Step::Remove(name) => {
                    model.remove(&name);
                    zone.remove(&name)
                }
            };
            prop_assert_eq!(changed, before.1 != model);
            if changed {
                prop_assert!(zone.serial().is_later_than(before.0));
            } else {
                prop_assert_eq!(zone.serial(), before.0);
            }
        }
        let names: BTreeMap<_, Addresses> =
            zone.names().map(|(name, set)| (name, set.iter().copied().collect())).collect();
        prop_assert_eq!(&names, &model);
        let projects: BTreeSet<_> = model.keys().map(|name| name.project.clone()).collect();
        let labels = ["a", "b", "web", "x-1", "ns1"];
        for project in labels {
            for balancer in labels {
                let name = record(&format!("{balancer}.{project}"));
                let full = name_of(&name.in_zone(zone.name()));
                let mut got = Addresses::new();
                for kind in [RecordType::A, RecordType::AAAA] {
                    match zone.lookup(&full, kind) {
                        Lookup::Records { answers, .. } => got.extend(answers.iter().map(|one| match &one.data {
                            RData::A(address) => IpAddr::from(address.0),
                            RData::AAAA(address) => IpAddr::from(address.0),
                            other => panic!("{other:?}"),
                        })),
                        Lookup::NoData(_) => prop_assert!(model.contains_key(&name)),
                        Lookup::NoName(_) => prop_assert!(!model.contains_key(&name)),
                        Lookup::Foreign => panic!("foreign"),
                    }
                }
                prop_assert_eq!(got, model.get(&name).cloned().unwrap_or_default());
            }
            let label: Label = project.parse().unwrap();
            let place = name_of(&format!("{project}.lb.example.com").parse().unwrap());
            let exists = !matches!(zone.lookup(&place, RecordType::TXT), Lookup::NoName(_));
            prop_assert_eq!(exists, projects.contains(&label) || project == "ns1");
        }
    }
}
