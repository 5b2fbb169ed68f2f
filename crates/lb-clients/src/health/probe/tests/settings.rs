//! Settings of checks: what is written is read, and what cannot be is named.

use std::collections::BTreeSet;

use lb_model::{
    check::{CheckOverride, Via},
    options::Forward,
    settings::Settings as _,
};

use super::*;
use crate::health::{
    probe::{exec::Exec, mqtt::Expect, redis::Redis},
    probe_target,
};
use crate::peer::{Secret, Tls};

fn check(text: &str) -> Result<Check, String> {
    let check = toml::from_str(text).map_err(|error| error.to_string())?;
    normalize(&check).map_err(|error| error.to_string())
}

fn exec(command: &[&str]) -> Component {
    let settings = Exec {
        command: command.iter().map(|&word| word.to_owned()).collect(),
    };
    Component::new("exec", &settings)
}

/// One of every kind, and of some two.
fn every_kind() -> Vec<Component> {
    let tls = Tls {
        ca: Some("/etc/ca.pem".into()),
        server_name: Some("broker.example".to_owned()),
        ..Tls::default()
    };
    let full = Http {
        method: "POST".to_owned(),
        path: "/healthz?full=1".to_owned(),
        host: Some("www.example".to_owned()),
        statuses: "200,204".parse().unwrap(),
        body: Some("all is well".to_owned()),
        json: Some(Json {
            pointer: "/status".to_owned(),
            equals: "UP".into(),
        }),
        tls: Some(tls.clone()),
    };
    let login = Mqtt {
        version: Version::V5,
        tls: Some(tls.clone()),
        username: Some("prober".to_owned()),
        password: Some(Secret::Environment("PASSWORD".to_owned())),
        expect: Expect::Accepted,
    };
    let cart = Grpc {
        service: "shop.Cart".to_owned(),
        tls: Some(tls),
    };
    let redis = Redis {
        username: Some("prober".to_owned()),
        password: Some(Secret::Environment("PASSWORD".to_owned())),
        tls: None,
    };
    let bytes = Udp {
        payload: "hex:00ff".parse().unwrap(),
        expect: "pong".parse().unwrap(),
        silence_is_alive: false,
    };
    vec![
        tcp(),
        http(),
        Component::new("https", &full),
        mqtt(Version::V311),
        Component::new("mqtt", &login),
        Component::new("grpc", &cart),
        Component::new("redis", &redis),
        Component::new("udp", &bytes),
        exec(&["/usr/bin/test", "-e", "/x y"]),
    ]
}

#[test]
fn every_kind_is_written_and_read() {
    let mut kinds = BTreeSet::new();
    for probe in every_kind() {
        kinds.insert(probe.kind.clone());
        let check = normalize(&Check::new(probe)).unwrap();
        let json = serde_json::to_string(&check).unwrap();
        assert_eq!(
            serde_json::from_str::<Check>(&json).unwrap(),
            check,
            "{json}"
        );
        let text = toml::to_string(&check).unwrap();
        assert_eq!(toml::from_str::<Check>(&text).unwrap(), check, "{text}");
        let words = PROBES.write_words(&check.to_map(), &Check::fields());
        let map = PROBES.read_words(&words, &Check::fields()).unwrap();
        let read: Check = serde_json::from_value(map.into()).unwrap();
        assert_eq!(normalize(&read).unwrap(), check, "{words}");
        assert!(start(&check.probe).is_ok(), "{words}");
    }
    let registered = PROBES.kinds.iter().map(|kind| kind.name.to_owned());
    assert_eq!(kinds, registered.collect());
}

#[test]
fn every_kind_and_setting_is_explained() {
    for kind in PROBES.kinds {
        assert!(kind.help.ends_with('.'), "{}: {}", kind.name, kind.help);
        for field in (kind.fields)() {
            assert!(!field.help.is_empty(), "{}.{}", kind.name, field.name);
        }
    }
}

#[test]
fn settings_stand_side_by_side() {
    let read = check(
        r#"
        kind = "https"
        path = "/healthz"
        json = { pointer = "/n", equals = 3 }
        interval = "1s"
        unhealthy_threshold = 5
        port = 8443
        via = "tunnel"
        "#,
    )
    .unwrap();
    assert_eq!(read.probe.kind, "https");
    let http: Http = read.probe.read().unwrap();
    assert_eq!(http.tls, Some(Tls::default()));
    assert_eq!(http.json.as_ref().unwrap().equals, 3);
    assert_eq!(read.interval, Duration::from_secs(1));
    // Times that were not said are fitted.
    assert_eq!(read.fast_interval(), Duration::from_secs(1));
    assert_eq!(read.timeout(), Duration::from_secs(1));
    assert_eq!((read.unhealthy_threshold, read.port), (5, Some(8443)));
    assert_eq!(read.via, Via::Tunnel);
    assert_eq!(check("kind = \"tcp\"").unwrap(), Check::new(tcp()));
}

#[test]
fn http_over_tls_is_https() {
    let read = check("kind = \"http\"\ntls = {}").unwrap();
    assert_eq!(read, check("kind = \"https\"").unwrap());
    assert_eq!(read.probe.kind, "https");
}

#[test]
fn what_cannot_be_read_is_named() {
    for (text, names) in [
        ("interval = \"1s\"", "kind"),
        ("kind = \"icmp\"", "icmp"),
        ("kind = \"tcp\"\npath = \"/\"", "path"),
        ("kind = \"http\"\npth = \"/\"", "pth"),
        ("kind = \"tcp\"\ninterval = 5", "number with a unit"),
        ("kind = \"tcp\"\ninterval = \"5\"", "number with a unit"),
        ("kind = \"tcp\"\nport = 65536", "65536"),
        ("kind = \"mqtt\"\nversion = \"4\"", "3.1.1"),
        (
            "kind = \"mqtt\"\npassword = \"hunter2\"",
            "file:/ABSOLUTE/PATH",
        ),
        ("kind = \"udp\"", "payload"),
        ("kind = \"https\"\ntls = { veryfy = false }", "veryfy"),
    ] {
        let error = check(text).expect_err(text);
        assert!(error.contains(names), "{text}: {error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn what_is_out_of_range_is_named() {
    let faulty = |change: fn(&mut Check)| {
        let mut check = Check::new(tcp());
        change(&mut check);
        let error = normalize(&check).unwrap_err();
        assert!(!error.advice.is_empty());
        error.field
    };
    assert_eq!(
        faulty(|c| c.interval = Duration::from_millis(99)),
        "interval"
    );
    assert_eq!(
        faulty(|c| c.interval = Duration::from_secs(3_601)),
        "interval"
    );
    assert_eq!(
        faulty(|c| c.fast_interval = Some(c.interval * 2)),
        "fast_interval"
    );
    assert_eq!(faulty(|c| c.timeout = Some(c.interval * 2)), "timeout");
    assert_eq!(faulty(|c| c.healthy_threshold = 0), "healthy_threshold");
    assert_eq!(
        faulty(|c| c.unhealthy_threshold = 101),
        "unhealthy_threshold"
    );
    assert_eq!(faulty(|c| c.jitter = 51), "jitter");
    assert_eq!(faulty(|c| c.port = Some(0)), "port");

    let http = |change: fn(&mut Http)| {
        let mut http = Http::default();
        change(&mut http);
        Component::new("http", &http)
    };
    for (probe, field) in [
        (http(|h| h.method = "G T".to_owned()), "method"),
        (http(|h| h.path = "healthz".to_owned()), "path"),
        (http(|h| h.path = "/a b".to_owned()), "path"),
        (http(|h| h.host = Some("a b".to_owned())), "host"),
        (http(|h| h.body = Some("x".repeat(2_000))), "body"),
        (
            http(|h| {
                h.json = Some(Json {
                    pointer: "status".to_owned(),
                    equals: 1.into(),
                });
            }),
            "json.pointer",
        ),
        (
            http(|h| {
                h.tls = Some(Tls {
                    ca: Some("ca.pem".into()),
                    ..Tls::default()
                });
            }),
            "tls.ca",
        ),
        (
            http(|h| {
                h.tls = Some(Tls {
                    server_name: Some("a b".to_owned()),
                    ..Tls::default()
                });
            }),
            "tls.server_name",
        ),
        (
            Component::new(
                "mqtt",
                &Mqtt {
                    password: Some(Secret::Environment("P".to_owned())),
                    ..Mqtt::default()
                },
            ),
            "username",
        ),
        (udp(&"x".repeat(1_201), false), "expect"),
        (exec(&["true"]), "command"),
        (exec(&[]), "command"),
    ] {
        let error = normalize(&Check::new(probe)).unwrap_err();
        assert_eq!(error.field, field, "{error}");
    }
    let mut program = Check::new(exec(&["/bin/true"]));
    assert!(runs_program(&program) && !runs_program(&Check::new(tcp())));
    program.via = Via::Tunnel;
    assert_eq!(normalize(&program).unwrap_err().field, "via");
}

#[test]
fn a_vip_of_any_port_needs_one() {
    let any: VipKey = "10.0.0.1:0/tcp".parse().unwrap();
    let mut check = Check::new(tcp());
    assert_eq!(validate_for(&check, &any).unwrap_err().field, "port");
    check.port = Some(80);
    validate_for(&check, &any).unwrap();
    validate_for(&Check::new(exec(&["/bin/true"])), &any).unwrap();
}

#[test]
fn detection_is_bounded_by_the_times() {
    let mut check = Check::new(tcp());
    // 5 s + 2 × 2 s + 2 s.
    assert_eq!(check.detection_time(), Duration::from_secs(11));
    check.fast_interval = Some(Duration::from_millis(500));
    check.timeout = Some(Duration::from_secs(1));
    assert_eq!(check.detection_time(), Duration::from_secs(8));
    check.unhealthy_threshold = 1;
    assert_eq!(check.detection_time(), Duration::from_secs(6));
}

#[test]
fn a_real_is_probed_where_it_is_said() {
    let vip: VipKey = "10.0.0.1:1883/tcp".parse().unwrap();
    let real = "10.1.0.2".parse().unwrap();
    let mut check = Check::new(tcp());
    let target_in = |mode, check: &Check, change: &CheckOverride| {
        let target = probe_target(check, change, &vip, (real, mode), 7);
        (target.address.to_string(), target.mark)
    };
    let target = |check: &Check, change: &CheckOverride| target_in(Forward::L2, check, change);
    let none = CheckOverride::default();
    assert_eq!(target(&check, &none), ("10.1.0.2:1883".to_owned(), None));
    check.port = Some(8080);
    assert_eq!(target(&check, &none), ("10.1.0.2:8080".to_owned(), None));
    check.via = Via::Tunnel;
    for mode in [Forward::L2, Forward::Ipip, Forward::Gue] {
        assert_eq!(
            target_in(mode, &check, &none),
            ("10.0.0.1:8080".to_owned(), Some(7))
        );
    }
    // Clients' packets go to the real's own address, too.
    assert_eq!(
        target_in(Forward::Nat, &check, &none),
        ("10.1.0.2:8080".to_owned(), None)
    );
    let other = CheckOverride {
        port: Some(9),
        address: Some("192.0.2.1".parse().unwrap()),
        ..none.clone()
    };
    other.validate().unwrap();
    assert_eq!(target(&check, &other), ("192.0.2.1:9".to_owned(), None));
    let direct = CheckOverride {
        via: Some(Via::Direct),
        ..none
    };
    assert_eq!(target(&check, &direct), ("10.1.0.2:8080".to_owned(), None));
}

/// The agent refuses such a check; if one is there all the same, the reason says why nothing is probed.
#[tokio::test]
async fn a_check_that_cannot_be_used_says_so() {
    let probe = Component {
        kind: "icmp".to_owned(),
        settings: serde_json::Map::new(),
    };
    let outcome = ask(probe, "127.0.0.1:1".parse().unwrap()).await;
    assert_outcome(&outcome, Verdict::Unhealthy, "there is no such probe");
}
