//! What is written is read, and what is wrong is named.

use super::*;
use crate::peer::{Secret, Tls};

fn check(text: &str) -> Result<Check, String> {
    toml::from_str(text).map_err(|error| error.to_string())
}

use super::examples::every_kind;

#[test]
fn every_kind_is_written_and_read() {
    for check in every_kind() {
        check.validate().unwrap();
        let json = serde_json::to_string(&check).unwrap();
        assert_eq!(
            serde_json::from_str::<Check>(&json).unwrap(),
            check,
            "{json}"
        );
        let text = toml::to_string(&check).unwrap();
        assert_eq!(toml::from_str::<Check>(&text).unwrap(), check, "{text}");
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
    let Probe::Http(http) = &read.probe else {
        panic!("{read:?}");
    };
    assert_eq!(http.tls, Some(Tls::default()));
    assert_eq!(http.json.as_ref().unwrap().equals, 3);
    assert_eq!(read.interval, Duration::from_secs(1));
    // Times that were not said are fitted.
    assert_eq!(read.fast_interval, Duration::from_secs(1));
    assert_eq!(read.timeout, Duration::from_secs(1));
    assert_eq!((read.unhealthy_threshold, read.port), (5, Some(8443)));
    assert_eq!(read.via, Via::Tunnel);
    assert_eq!(check("kind = \"tcp\"").unwrap(), Check::new(Probe::Tcp {}));
}

#[test]
fn what_cannot_be_read_is_named() {
    for (text, names) in [
        ("interval = \"1s\"", "kind"),
        ("kind = \"icmp\"", "icmp"),
        ("kind = \"tcp\"\npath = \"/\"", "path"),
        ("kind = \"http\"\npth = \"/\"", "pth"),
        ("kind = \"tcp\"\ninterval = 5", "a time with its unit"),
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
    }
}

#[test]
fn what_is_out_of_range_is_named() {
    let faulty = |change: fn(&mut Check)| {
        let mut check = Check::new(Probe::Tcp {});
        change(&mut check);
        let (field, _, advice) = check.validate().unwrap_err();
        assert!(!advice.is_empty());
        field
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
        faulty(|c| c.fast_interval = c.interval * 2),
        "fast_interval"
    );
    assert_eq!(faulty(|c| c.timeout = c.interval * 2), "timeout");
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
        Probe::Http(http)
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
            Probe::Mqtt(Mqtt {
                password: Some(Secret::Environment("P".to_owned())),
                ..Mqtt::default()
            }),
            "username",
        ),
        (
            Probe::Exec(Exec {
                command: vec!["true".to_owned()],
            }),
            "command",
        ),
        (Probe::Exec(Exec { command: vec![] }), "command"),
    ] {
        let (named, _, _) = Check::new(probe).validate().unwrap_err();
        assert_eq!(named, field);
    }
    let mut exec = Check::new(Probe::Exec(Exec {
        command: vec!["/bin/true".to_owned()],
    }));
    exec.via = Via::Tunnel;
    assert_eq!(exec.validate().unwrap_err().0, "via");
}

#[test]
fn a_vip_of_any_port_needs_one() {
    let any: VipAddress = "10.0.0.1:0/tcp".parse().unwrap();
    let mut check = Check::new(Probe::Tcp {});
    assert_eq!(check.validate_for(&any).unwrap_err().0, "port");
    check.port = Some(80);
    check.validate_for(&any).unwrap();
}

#[test]
fn detection_is_bounded_by_the_times() {
    let mut check = Check::new(Probe::Tcp {});
    // 5 s + 2 × 2 s + 2 s.
    assert_eq!(check.detection(), Duration::from_secs(11));
    check.fast_interval = Duration::from_millis(500);
    check.timeout = Duration::from_secs(1);
    assert_eq!(check.detection(), Duration::from_secs(8));
    check.unhealthy_threshold = 1;
    assert_eq!(check.detection(), Duration::from_secs(6));
}

#[test]
fn a_real_is_probed_where_it_is_said() {
    let vip: VipAddress = "10.0.0.1:1883/tcp".parse().unwrap();
    let real = "10.1.0.2".parse().unwrap();
    let mut check = Check::new(Probe::Tcp {});
    let target = |check: &Check, other: &CheckOverride| {
        let target = other.target(check, &vip, real, 7);
        (target.address.to_string(), target.mark)
    };
    let none = CheckOverride::default();
    assert_eq!(target(&check, &none), ("10.1.0.2:1883".to_owned(), None));
    check.port = Some(8080);
    assert_eq!(target(&check, &none), ("10.1.0.2:8080".to_owned(), None));
    check.via = Via::Tunnel;
    assert_eq!(target(&check, &none), ("10.0.0.1:8080".to_owned(), Some(7)));
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
