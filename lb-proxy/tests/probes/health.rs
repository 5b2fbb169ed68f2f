//! The path that the proxy itself answers.

use std::sync::atomic::Ordering::Relaxed;

use crate::support::{Client, Instance, Proxy, configuration, get, get_with, wait_until};

const HEALTH: &str = "health_path = \"/health\"";

#[test]
fn the_health_path_is_answered_and_counts_nowhere() {
    let instance = Instance::fine();
    let proxy = Proxy::to(&[instance.address], "", HEALTH);
    let service = proxy.service("s");
    let totals = &proxy.server.shared().totals;
    let mut client = proxy.client();
    for (request, status, body) in [
        (get("/health"), 200, "ok\n"),
        (get_with("/health?deep=1", "Accept: */*\r\n"), 200, "ok\n"),
        (
            "HEAD /health HTTP/1.1\r\nHost: a.test\r\n\r\n".to_owned(),
            200,
            "",
        ),
        // What probes send may be less than a request of a client.
        ("GET /health HTTP/1.1\r\n\r\n".to_owned(), 200, "ok\n"),
        (
            "POST /health HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\n\r\nhi".to_owned(),
            405,
            "",
        ),
    ] {
        let answer = client.ask(&request);
        assert_eq!(
            (answer.status, &answer.text()[..]),
            (status, body),
            "{request}"
        );
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    assert_eq!(totals.health_answers.load(Relaxed), 5);
    assert!(totals.answers.iter().all(|count| count.load(Relaxed) == 0));
    // Others are routed as before, on the same connection.
    for path in ["/healthy", "/health/", "/"] {
        assert_eq!(client.ask(&get(path)).text(), "fine", "{path}");
    }
    assert_eq!(instance.count(), 3);
    assert_eq!(totals.answers[1].load(Relaxed), 3);
    service.end_second();
    assert_eq!(service.counted(), 3);
}

#[test]
fn the_health_path_says_that_the_proxy_drains() {
    let proxy = Proxy::to(&[Instance::fine().address], "", HEALTH);
    let mut client = proxy.client();
    assert_eq!(client.ask(&get("/health")).status, 200);
    proxy.server.begin_drain();
    let answer = client.ask(&get("/health"));
    assert_eq!((answer.status, &answer.text()[..]), (503, "draining\n"));
    assert_eq!(answer.header("connection"), Some("close"));
    client.closed();
}

#[test]
fn a_proxy_that_knows_no_instances_yet_is_not_healthy() {
    let source = "pool = \"ws://127.0.0.1:1/v1/pools/web/stream\"";
    let proxy = Proxy::start(&configuration(&[], source, HEALTH));
    let service = proxy.service("s");
    let mut client = proxy.client();
    let mut ask = || client.ask(&get("/health"));
    // The source is away, and nothing is known of before.
    service.source.lost("refused");
    let answer = ask();
    assert_eq!(answer.status, 503);
    assert!(
        answer.text().starts_with("service s has not heard"),
        "{}",
        answer.text()
    );
    // A pool may have no instance: that is known then.
    service.source.followed(None);
    assert_eq!(ask().status, 200);
    // Whatever becomes of the source later, the last instances are kept.
    service.source.lost("cut off");
    assert_eq!(ask().status, 200);
}

#[test]
fn a_listener_may_have_a_health_path_alone() {
    let instance = Instance::fine();
    let text = configuration(&[instance.address], "", "");
    let extra =
        format!("[[listener]]\naddress = \"127.0.0.2:0\"\nroutes = false\n{HEALTH}\n{text}");
    let proxy = Proxy::start(&extra);
    let addresses = proxy.server.addresses();
    let at = |ip: &str| {
        let address = addresses.iter().find(|one| one.ip().to_string() == ip);
        Client::connect(*address.unwrap())
    };
    assert_eq!(at("127.0.0.2").ask(&get("/health")).text(), "ok\n");
    assert_eq!(at("127.0.0.2").ask(&get("/")).status, 404);
    assert_eq!(at("127.0.0.1").ask(&get("/health")).text(), "fine");
    assert_eq!(instance.count(), 1);
    // Without routes and services, too.
    let alone = format!("[[listener]]\naddress = \"127.0.0.1:0\"\n{HEALTH}\n");
    let proxy = Proxy::start(&alone);
    assert_eq!(proxy.ask(&get("/health")).text(), "ok\n");
    assert_eq!(proxy.ask(&get("/")).status, 404);
    // One connection after another is served and ends.
    let totals = &proxy.server.shared().totals;
    wait_until("they end", || totals.open_connections.load(Relaxed) == 0);
}
