//! Redis: without and with a password, frozen and alive again.

use std::{fs, net::SocketAddr};

use lb_clients::health::{Verdict, probe::redis::Redis};
use lb_model::{component::Component, peer::Secret};
use lb_tests::{Namespace, Process, server::wait_accepting};
use nix::sys::signal::Signal;

use crate::{LONG, SHORT, ask, assert_outcome};

const PORT: u16 = 6_379;
const PASSWORD: &str = "correct horse";

fn start(namespace: &Namespace, settings: &[&str]) -> Process {
    let port = PORT.to_string();
    let words = [
        "--port",
        &port,
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--appendonly",
        "no",
    ];
    let words = words.iter().chain(settings);
    let mut redis = namespace.start("redis", "redis-server", words).unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], PORT));
    wait_accepting(namespace, address, &mut redis, LONG).unwrap();
    redis
}

fn probe(password: Option<Secret>) -> Component {
    let settings = Redis {
        password,
        ..Redis::default()
    };
    Component::new("redis", &settings)
}

pub fn a_frozen_redis_is_detected_though_tcp_connects() {
    let namespace = Namespace::new("redis").unwrap();
    let redis = start(&namespace, &[]);
    let outcome = ask(&namespace, probe(None), "127.0.0.1", PORT, LONG);
    assert_outcome(&outcome, Verdict::Healthy, "+PONG");
    redis.signal(Signal::SIGSTOP).unwrap();
    let outcome = ask(&namespace, probe(None), "127.0.0.1", PORT, SHORT);
    assert_outcome(&outcome, Verdict::Unhealthy, "timed out");
    redis.signal(Signal::SIGCONT).unwrap();
    let outcome = ask(&namespace, probe(None), "127.0.0.1", PORT, LONG);
    assert_outcome(&outcome, Verdict::Healthy, "+PONG");
}

pub fn a_redis_with_a_password_is_probed_with_and_without_it() {
    let namespace = Namespace::new("redis-login").unwrap();
    let _redis = start(&namespace, &["--requirepass", PASSWORD]);
    let folder = tempfile::tempdir().unwrap();
    let (right, wrong) = (folder.path().join("right"), folder.path().join("wrong"));
    fs::write(&right, PASSWORD).unwrap();
    fs::write(&wrong, "incorrect").unwrap();
    for (password, verdict, reason) in [
        (None, Verdict::Healthy, "NOAUTH"),
        (Some(Secret::File(right)), Verdict::Healthy, "+PONG"),
        (Some(Secret::File(wrong)), Verdict::Unhealthy, "WRONGPASS"),
    ] {
        let outcome = ask(&namespace, probe(password), "127.0.0.1", PORT, LONG);
        assert_outcome(&outcome, verdict, reason);
    }
}
