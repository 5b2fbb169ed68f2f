//! Checks for tests, here and where checks are converted.

use super::{Check, Exec, Expect, Grpc, Http, Json, Mqtt, Probe, Udp, Version};
use crate::peer::{Secret, Tls};

/// One of every kind, and of some two.
#[must_use]
pub fn every_kind() -> Vec<Check> {
    let tls = Tls {
        ca: Some("/etc/ca.pem".into()),
        server_name: Some("broker.example".to_owned()),
        ..Tls::default()
    };
    [
        Probe::Tcp {},
        Probe::Http(Http::default()),
        Probe::Http(Http {
            method: "POST".to_owned(),
            path: "/healthz?full=1".to_owned(),
            host: Some("www.example".to_owned()),
            statuses: "200,204".parse().expect("it is valid"),
            body: Some("all is well".to_owned()),
            json: Some(Json {
                pointer: "/status".to_owned(),
                equals: "UP".into(),
            }),
            tls: Some(tls.clone()),
        }),
        Probe::Mqtt(Mqtt::default()),
        Probe::Mqtt(Mqtt {
            version: Version::V5,
            tls: Some(tls.clone()),
            username: Some("prober".to_owned()),
            password: Some(Secret::Environment("PASSWORD".to_owned())),
            expect: Expect::Accepted,
        }),
        Probe::Grpc(Grpc {
            service: "shop.Cart".to_owned(),
            tls: Some(tls),
        }),
        Probe::Udp(Udp {
            payload: "hex:00ff".parse().expect("it is valid"),
            expect: "pong".parse().expect("it is valid"),
            silence_is_alive: false,
        }),
        Probe::Exec(Exec {
            command: vec![
                "/usr/bin/test".to_owned(),
                "-e".to_owned(),
                "/x y".to_owned(),
            ],
        }),
    ]
    .map(Check::new)
    .into()
}
