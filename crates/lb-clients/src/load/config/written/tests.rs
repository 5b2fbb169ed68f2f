//! The flat form, as TOML and as JSON.

use std::time::Duration;

use super::*;

fn read(text: &str) -> Result<Source, String> {
    toml::from_str(text).map_err(|error: toml::de::Error| error.message().to_owned())
}

#[test]
fn defaults_are_the_kinds() {
    let source = read("kind = 'mosquitto'").unwrap();
    assert_eq!(source.name, "mosquitto");
    assert_eq!(source.interval, DEFAULT_SYS_INTERVAL);
    assert_eq!(source.timeout, DEFAULT_TIMEOUT);
    let real = "10.0.0.1".parse().unwrap();
    assert_eq!(source.target(real), "10.0.0.1:1883".parse().unwrap());
    let source = read("kind = 'mosquitto'\ntls = {}\naddress = '10.9.0.1'").unwrap();
    assert_eq!(source.target(real), "10.9.0.1:8883".parse().unwrap());
    assert_eq!(source.fill("{address} {real}", real), "10.9.0.1 10.0.0.1");
    let source = read("kind = 'docker'\ncontainer = 'web-{real}'\ninterval = '1s'").unwrap();
    assert_eq!(source.timeout, Duration::from_secs(1));
}

#[test]
fn what_is_written_is_read() {
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
            serde_json::from_str::<Source>(&stored).unwrap(),
            source,
            "{stored}"
        );
        let stored = toml::to_string(&source).unwrap();
        assert_eq!(read(&stored).unwrap(), source, "{stored}");
        assert_eq!(source.validate(), Ok(()));
    }
}

#[test]
fn what_cannot_be_is_named() {
    for (text, part) in [
        ("kind = 'x'", "no reader is called so"),
        ("name = 'x'", "missing field `kind`"),
        ("kind = 'mosquitto'\nprot = 1", "unknown field `prot`"),
        (
            "kind = 'mosquitto'\npath = '/x'",
            "path: /x: `mosquitto` does not use it",
        ),
        (
            "kind = 'docker'\ncontainer = 'x'\nport = 1",
            "port: 1: `docker` does not",
        ),
        ("kind = 'docker'", "container: not set"),
        ("kind = 'docker'\ncontainer = 'x'\ntls = {}", "has no TLS"),
        ("kind = 'grpc'\nport = 70000", "port: 70000: out of range"),
        (
            "kind = 'grpc'\nport = 1\nusername = 'x'\npassword = 'env:X'",
            "username: x: `grpc`",
        ),
        (
            "kind = 'grpc'\nport = 1\ninterval = '1ms'",
            "interval: 1ms: out of range, give 500ms to 1h",
        ),
        ("kind = 'grpc'\nport = 1\ninterval = '5'", "is no time"),
        (
            "kind = 'grpc'\nport = 1\ntimeout = '6s'",
            "longer than the interval, give at most 5s",
        ),
        (
            "kind = 'grpc'\nport = 1\nweight = 0.0",
            "weight: 0: give more than 0",
        ),
        ("kind = 'grpc'\nport = 1\nweight = nan", "weight: NaN"),
        (
            "kind = 'grpc'\nport = 1\naddress = 'x'",
            "address: x: not an IPv4",
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
            "values: cpu: `cpu` is not a quantity",
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
