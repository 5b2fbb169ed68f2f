//! The settings of sources, as TOML, JSON and words.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use lb_model::{
    load::DEFAULT_TIMEOUT,
    settings::{SettingType as _, Settings as _, Type},
};

use super::*;

fn read(text: &str) -> Result<LoadSource, String> {
    let source = toml::from_str(text).map_err(|error| error.message().to_owned())?;
    normalize(&source).map_err(|error| error.to_string())
}

fn address(source: &LoadSource, real: &str) -> SocketAddr {
    (find(&source.reader.kind).unwrap().address)(source, real.parse().unwrap())
}

#[test]
fn defaults_are_the_kinds() {
    let source = read("kind = 'mosquitto'").unwrap();
    assert_eq!(source.name(), "mosquitto");
    assert_eq!(interval(&source), Duration::from_secs(10));
    assert_eq!(source.timeout(interval(&source)), DEFAULT_TIMEOUT);
    let expected = "10.0.0.1:1883".parse().unwrap();
    assert_eq!(address(&source, "10.0.0.1"), expected);
    let source = read("kind = 'mosquitto'\ntls = {}\naddress = '10.9.0.1'").unwrap();
    let expected = "10.9.0.1:8883".parse().unwrap();
    assert_eq!(address(&source, "10.0.0.1"), expected);
    let target = SourceTarget {
        source: &source,
        real: "10.0.0.1".parse().unwrap(),
        address: expected,
    };
    assert_eq!(target.fill("{address} {real}"), "10.9.0.1 10.0.0.1");
    let source = read("kind = 'docker'\ncontainer = 'web-{real}'\ninterval = '1s'").unwrap();
    assert_eq!(source.timeout(interval(&source)), Duration::from_secs(1));
    assert_eq!(source.reader.settings["socket"], "/var/run/docker.sock");
    let source = read("kind = 'grpc'\nport = 1").unwrap();
    assert_eq!(interval(&source), DEFAULT_INTERVAL);
}

#[test]
fn written_sources_are_read() {
    for text in [
        "kind = 'mosquitto'\nusername = 'lb'\npassword = 'file:/etc/lb/password'",
        "kind = 'mqtt-topic'\ntopic = 'hosts/{real}/load'\nvalues = { utilisation = '/cpu * 0.01' }",
        "kind = 'emqx'\nnode = 'emqx@{address}'\nusername = 'key'\npassword = 'env:SECRET'",
        "kind = 'prometheus'\nport = 9100\nvalues = { utilisation = '1 - rate(idle)' }\nweight = 0.5",
        "kind = 'http-json'\nport = 80\npath = '/load'\nvalues = { memory = '/m' }\ntoken = 'env:TOKEN'",
        "kind = 'agent-check'\nport = 8080\nsend = 'state'",
        "kind = 'docker'\ncontainer = 'web'",
        "kind = 'grpc'\nport = 1\nconnection_limit = 1000\nmemory_limit = 1000000\ntls = { ca = '/ca.pem' }",
    ] {
        let source = read(text).unwrap();
        let stored = serde_json::to_string(&source).unwrap();
        assert_eq!(
            serde_json::from_str::<LoadSource>(&stored).unwrap(),
            source,
            "{stored}"
        );
        let stored = toml::to_string(&source).unwrap();
        assert_eq!(read(&stored).unwrap(), source, "{stored}");
        assert_eq!(normalize(&source).as_ref(), Ok(&source));
    }
}

#[test]
fn settings_that_cannot_be_used_are_named() {
    for (text, part) in [
        (
            "kind = 'x'",
            "kind: x: there is no such load reader; there are mosquitto",
        ),
        ("name = 'x'", "kind: not set"),
        (
            "kind = 'mosquitto'\nprot = 1",
            "prot: 1: there is no such setting; there are name",
        ),
        (
            "kind = 'mosquitto'\npath = '/x'",
            "path: /x: there is no such setting; there are name",
        ),
        (
            "kind = 'docker'\ncontainer = 'x'\nport = 1",
            "port: 1: `docker` does not",
        ),
        ("kind = 'docker'", "container: not set"),
        (
            "kind = 'docker'\ncontainer = 'x'\ntls = {}",
            "`docker` does not use it",
        ),
        (
            "kind = 'grpc'\nport = 70000",
            "port: 70000: give a whole number from 0 to 65535",
        ),
        (
            "kind = 'grpc'\nport = 1\nusername = 'x'\npassword = 'env:X'",
            "username: x: `grpc`",
        ),
        (
            "kind = 'grpc'\nport = 1\ninterval = '1ms'",
            "interval: 1ms: out of range, give 500ms to 1h",
        ),
        (
            "kind = 'grpc'\nport = 1\ninterval = '5'",
            "interval: 5: give a number with a unit",
        ),
        (
            "kind = 'grpc'\nport = 1\ntimeout = '6s'",
            "longer than the interval, give at most 5s",
        ),
        (
            "kind = 'grpc'\nport = 1\nweight = 0.0",
            "weight: 0: give more than 0",
        ),
        (
            "kind = 'grpc'\nport = 1\naddress = 'x'",
            "address: x: give an IPv4 or IPv6 address",
        ),
        (
            "kind = 'grpc'\nport = 1\nname = ''",
            "name: \"\": give 1 to",
        ),
        (
            "kind = 'grpc'\nport = 1\nmemory_limit = 0",
            "memory_limit: 0",
        ),
        (
            "kind = 'grpc'\nport = 1\ntls = { ca = 'x' }",
            "tls.ca: x: give an absolute path",
        ),
        ("kind = 'emqx'\nusername = 'x'", "password: not set"),
        (
            "kind = 'emqx'\nusername = 'x'\npassword = 'geheim'",
            "password: hidden",
        ),
        ("kind = 'prometheus'\nport = 1", "values: not set"),
        (
            "kind = 'prometheus'\nvalues = { memory = '1' }",
            "port: not set",
        ),
        (
            "kind = 'prometheus'\nport = 1\nvalues = { cpu = '1' }",
            "values: cpu: unknown, give utilisation",
        ),
        (
            "kind = 'prometheus'\nport = 1\nvalues = { memory = '1 +' }",
            "values.memory: 1 +: column 4",
        ),
        (
            "kind = 'prometheus'\nport = 1\npath = 'x'\nvalues = { memory = '1' }",
            "path: x: give a path",
        ),
        (
            "kind = 'mqtt-topic'\ntopic = 'a/#'\nvalues = { memory = '.' }",
            "without the wildcards",
        ),
    ] {
        let error = read(text).unwrap_err();
        assert!(error.contains(part), "{text}: {error}");
        assert!(!error.contains("geheim"), "{error}");
    }
}

#[test]
fn a_real_may_differ() {
    let change = |text: &str| toml::from_str::<SourceOverride>(text).unwrap();
    let source = read("kind = 'docker'\ncontainer = 'web'\nweight = 2.0").unwrap();
    let other = change("name = 'docker'\ncontainer = 'other'");
    let changed = apply_override(&source, &other).unwrap().unwrap();
    assert_eq!(changed.reader.kind, source.reader.kind);
    assert_eq!(changed.reader.settings["container"], "other");
    assert_eq!(changed.weight, 2.0);
    let off = change("name = 'docker'\noff = true");
    assert_eq!(apply_override(&source, &off), Ok(None));
    for (text, field) in [
        ("name = 'docker'\ntopic = 'x'", "topic"),
        ("name = 'docker'\nport = 1", "port"),
        ("name = 'docker'\nkind = 'grpc'", "kind"),
    ] {
        let error = apply_override(&source, &change(text)).unwrap_err();
        assert_eq!(error.field, field, "{error}");
    }
}

#[test]
fn words_are_read_and_written_alike() {
    let common = LoadSource::fields();
    for words in [
        "mosquitto username=lb password=file:/etc/lb/password",
        "node-exporter weight=2.0",
        "mqtt-topic topic=hosts/{real}/load utilisation='/cpu * 0.01' memory=/mem",
        "prometheus port=9090 utilisation='1 - rate(idle_seconds_total) / 4'",
        "agent-check port=8080 connection_limit=20000 send=state",
        "emqx username=key password=env:EMQX_SECRET",
        "docker container=web interval=1s",
        "grpc port=1 ca=/ca.pem",
    ] {
        let map = READERS.read_words(words, &common).expect(words);
        let source = LoadSource::from_json(&map.into()).expect(words);
        let source = normalize(&source).expect(words);
        let written = READERS.write_words(&source.to_map(), &common);
        let sorted = |words: &str| -> BTreeSet<String> {
            let words = lb_model::settings::words::split(words).unwrap();
            words.into_iter().collect()
        };
        assert_eq!(sorted(&written), sorted(words), "{written}");
    }
}

#[test]
fn every_kind_has_help_and_distinct_settings() {
    let common: BTreeSet<_> = LoadSource::fields()
        .iter()
        .map(|field| field.name)
        .collect();
    let mut names = BTreeSet::new();
    for kind in READERS.kinds {
        assert!(names.insert(kind.name), "{} is listed twice", kind.name);
        assert!(kind.help.ends_with('.'), "{}: {}", kind.name, kind.help);
        for field in (kind.fields)() {
            assert!(!field.help.is_empty(), "{}: {}", kind.name, field.name);
            assert!(
                !common.contains(field.name),
                "{}: {}",
                kind.name,
                field.name
            );
            if let Type::Table(inner) = &field.kind {
                assert_eq!(inner.len(), Quantity::ALL.len(), "{}", kind.name);
            }
        }
    }
}
