//! A table of settings in all its forms.

use std::{collections::BTreeMap, time::Duration};

use serde_json::json;

use super::*;
use crate::component::{Component, Kind, Registry};

crate::choice! {
    /// How a packet reaches the real.
    pub enum Via = Direct {
        /// To the real's address.
        Direct = "direct",
        /// Encapsulated.
        Tunnel = "tunnel" | "encapsulated",
    }
}

crate::settings! {
    /// TLS with a peer.
    pub struct Tls {
        /// File of the certificate authorities.
        ca: Option<std::path::PathBuf> = None;
        /// Whether the certificate must be valid.
        verify: bool = true;
    }
}

crate::settings! {
    /// A value in a document.
    pub struct Match {
        /// Pointer to the value.
        pointer: String;
        /// The expected value.
        equals: Value = Value::Null;
    }
}

crate::settings! {
    /// Settings of one kind.
    pub struct Http {
        /// Path to request.
        path: String = "/".to_owned();
        /// Headers that are sent.
        headers: BTreeMap<String, String> = BTreeMap::new();
        /// Statuses that are good.
        statuses: Vec<u16> = vec![200];
        /// Expected value in a document.
        json: Option<Match> = None;
        /// TLS. The default is no encryption.
        tls: Option<Tls> = None;
    }
    validate(http) {
        if http.path.starts_with('/') {
            Ok(())
        } else {
            Err(FieldError::new("path", &http.path, "begin with /"))
        }
    }
}

crate::settings! {
    /// Settings of another kind.
    pub struct Exec {
        /// Program with its arguments.
        command: Vec<String>;
    }
}

crate::settings! {
    /// Settings of every kind.
    pub struct Check {
        /// Time between two probes.
        interval: Duration = Duration::from_secs(5), Duration::from_millis(100)..=Duration::from_secs(3_600);
        /// Port to probe.
        port: Option<u16> = None, 1..=65_535;
        /// How the probe reaches the real.
        via: Via = Via::Direct;
        /// How early a probe may be, as a fraction of the interval.
        @expert jitter: f64 = 0.1, 0.0..=0.5;
        ..probe: "kind";
    }
}

static HTTP: Kind = Kind::of::<Http>("http", "Asks over HTTP.");
static EXEC: Kind = Kind::of::<Exec>("exec", "Runs a program.").completed_by(|map| {
    crate::component::refuse_unused(map, "exec", &["port"])?;
    map.entry("via").or_insert_with(|| "direct".into());
    Ok(())
});
static PROBES: Registry = Registry {
    family: "probe",
    key: "kind",
    kinds: &[&HTTP, &EXEC],
};

fn read(value: Value) -> Result<Check, FieldError> {
    let check: Check = SettingType::from_json(&value)?;
    PROBES.normalize(&check)
}

#[test]
fn a_table_is_read_with_its_kind_and_its_defaults() {
    let check = read(json!({
        "kind": "http", "interval": "2s", "via": "encapsulated", "path": "/a",
        "json": { "pointer": "/n", "equals": 3 }, "tls": {},
    }))
    .unwrap();
    assert_eq!(check.interval, Duration::from_secs(2));
    assert_eq!(
        (check.port, check.via, check.jitter),
        (None, Via::Tunnel, 0.1)
    );
    let http: Http = check.probe.read().unwrap();
    assert_eq!((http.path.as_str(), &http.statuses[..]), ("/a", &[200][..]));
    assert_eq!(
        http.tls,
        Some(Tls {
            ca: None,
            verify: true
        })
    );
    assert_eq!(http.json.unwrap().equals, json!(3));
}

#[test]
fn what_is_written_is_read() {
    let check = read(json!({ "kind": "http", "tls": { "verify": false }, "port": 81 })).unwrap();
    let text = toml::to_string(&check).unwrap();
    assert_eq!(toml::from_str::<Check>(&text).unwrap(), check, "{text}");
    let text = serde_json::to_string(&check).unwrap();
    assert_eq!(
        serde_json::from_str::<Check>(&text).unwrap(),
        check,
        "{text}"
    );
    // Whole numbers survive a format that has floating-point numbers only.
    let check = read(json!({ "kind": "http", "port": 81.0, "statuses": [200.0] })).unwrap();
    assert_eq!(check.port, Some(81));
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    for (value, field, advice) in [
        (json!({}), "kind", "give kind"),
        (
            json!({ "kind": "icmp" }),
            "kind",
            "there is no such probe; there are http, exec",
        ),
        (
            json!({ "kind": "http", "pth": "/" }),
            "pth",
            "there are interval, port, via, jitter, path, headers",
        ),
        (
            json!({ "kind": "http", "path": "a" }),
            "path",
            "begin with /",
        ),
        (json!({ "kind": "http", "path": 1 }), "path", "give a text"),
        (
            json!({ "kind": "http", "interval": 5 }),
            "interval",
            "a number with a unit",
        ),
        (
            json!({ "kind": "http", "interval": "10ms" }),
            "interval",
            "out of range, give 100ms to 1h",
        ),
        (
            json!({ "kind": "http", "port": 70_000 }),
            "port",
            "give a whole number from 0 to 65535",
        ),
        (
            json!({ "kind": "http", "port": 0 }),
            "port",
            "out of range, give 1 to 65535",
        ),
        (
            json!({ "kind": "http", "jitter": 2 }),
            "jitter",
            "out of range, give 0 to 0.5",
        ),
        (
            json!({ "kind": "http", "via": "air" }),
            "via",
            "unknown, give direct or tunnel",
        ),
        (
            json!({ "kind": "http", "tls": { "ca": "x" } }),
            "tls.ca",
            "absolute path",
        ),
        (
            json!({ "kind": "http", "tls": { "veryfy": true } }),
            "tls.veryfy",
            "there are ca, verify",
        ),
        (
            json!({ "kind": "http", "json": {} }),
            "json.pointer",
            "give pointer",
        ),
        (
            json!({ "kind": "http", "statuses": [200, "x"] }),
            "statuses[1]",
            "whole number",
        ),
    ] {
        let error = read(value.clone()).expect_err(&value.to_string());
        assert_eq!(error.field, field, "{value}: {error}");
        assert!(error.advice.contains(advice), "{value}: {error}");
    }
}

#[test]
fn every_choice_is_read_by_its_name() {
    for via in Via::ALL {
        assert_eq!(via.name().parse(), Ok(*via));
    }
    assert_eq!(Via::NAMES[0], ("direct", "To the real's address."));
}

#[test]
fn a_patch_replaces_and_resets() {
    let check = read(json!({ "kind": "http", "port": 81, "interval": "2s" })).unwrap();
    let change = json!({ "port": null, "interval": "3s" });
    let changed = patch(&check, change.as_object().unwrap()).unwrap();
    assert_eq!(
        (changed.port, changed.interval),
        (None, Duration::from_secs(3))
    );
    let refused = patch(&check, json!({ "interval": "1ms" }).as_object().unwrap()).unwrap_err();
    assert_eq!(refused.field, "interval");
}

#[test]
fn words_are_read_and_written_alike() {
    let common = Check::fields();
    for words in [
        "http",
        "http interval=2s port=81 via=tunnel path=/a",
        "http path='/a b' statuses=200,204",
        "http json=/status equals=UP",
        "http json=/n equals='\"3\"'",
        "http tls=true",
        "http ca=/etc/ca.pem verify=false",
        "http headers=a:b,c:d",
    ] {
        let map = PROBES.read_words(words, &common).expect(words);
        let check = read(Value::Object(map)).expect(words);
        assert_eq!(PROBES.write_words(&check.to_map(), &common), words);
    }
    for (words, same) in [
        (
            "http json=/n equals=3",
            "http json.pointer=/n json.equals=3",
        ),
        ("http tls=true ca=/c", "http ca=/c tls=true"),
        ("http tls.ca=/c", "http ca=/c"),
        ("http tls=false", "http"),
    ] {
        let read_words = |words| PROBES.read_words(words, &common).unwrap();
        assert_eq!(read_words(words), read_words(same), "{words}");
    }
}

#[test]
fn words_that_cannot_be_read_are_named() {
    let common = Check::fields();
    for (words, names) in [
        ("", "give a kind"),
        ("port=1", "begin with a kind"),
        ("icmp", "there is no such probe"),
        ("http port", "does not have the form key=value"),
        ("http port=1 port=2", "given twice"),
        ("http port=many", "port: many: give a whole number"),
        ("http prot=1", "there are interval, port"),
        ("http 'path=/", "not closed"),
    ] {
        let error = PROBES
            .read_words(words, &common)
            .expect_err(words)
            .to_string();
        assert!(error.contains(names), "{words}: {error}");
    }
}

#[test]
fn the_reference_has_every_setting() {
    let page = reference_table(&Check::fields());
    assert!(
        page.contains("| `interval` | duration | `5s` | 100ms to 1h | Time between two probes. |"),
        "{page}"
    );
    assert!(
        page.contains("| `via` | `direct`, `tunnel` | `direct` | - |"),
        "{page}"
    );
    let component = Component::new("http", &from_map::<Http>(&Map::new()).unwrap());
    assert_eq!(component.settings["path"], "/");
}

#[test]
fn a_number_that_json_does_not_have_is_refused() {
    let error = |text: &str| toml::from_str::<Check>(text).unwrap_err().to_string();
    for number in ["nan", "-nan", "inf", "-inf"] {
        let text = format!("kind = \"http\"\njitter = {number}");
        assert!(error(&text).contains("give a finite number"), "{text}");
        let text = format!("kind = \"http\"\nstatuses = [200, {number}]");
        assert!(error(&text).contains("give a finite number"), "{text}");
    }
}
