//! Clients that are slow, or silent.

use std::{
    io::Write as _,
    sync::atomic::Ordering::SeqCst,
    thread,
    time::{Duration, Instant},
};

use crate::support::{Instance, Proxy, get, wait_until};

const QUICK: &str = "head_timeout = \"300ms\"\nbody_timeout = \"300ms\"\nidle_timeout = \"900ms\"";

#[test]
fn a_client_that_sends_nothing_is_closed() {
    let instance = Instance::fine();
    for http2 in ["", "http2 = false\n"] {
        let proxy = Proxy::to(&[instance.address], "", &format!("{http2}{QUICK}"));
        proxy.client().closed();
    }
}

#[test]
fn a_client_that_sends_a_part_of_a_preface_is_closed() {
    let instance = Instance::fine();
    let proxy = Proxy::to(&[instance.address], "", QUICK);
    let mut client = proxy.client();
    client.send("PR");
    client.closed();
    // All of it, and then nothing: the connection is idle.
    let mut client = proxy.client();
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    client.closed();
}

#[test]
fn a_head_that_drips_is_closed() {
    let instance = Instance::fine();
    let proxy = Proxy::to(&[instance.address], "", &QUICK.replace("900ms", "60s"));
    for is_second in [false, true] {
        let mut client = proxy.client();
        if is_second {
            assert_eq!(client.ask(&get("/")).status, 200);
        }
        let start = Instant::now();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n");
        while client.stream.get_mut().write_all(b"x: 1\r\n").is_ok() {
            assert!(
                start.elapsed() < Duration::from_secs(20),
                "it is never closed"
            );
            thread::sleep(Duration::from_millis(50));
        }
    }
    assert_eq!(instance.count(), 1);
    // Both are counted as answered with 408.
    let totals = &proxy.server.shared().totals;
    assert_eq!(totals.answers[3].load(SeqCst), 2);
}

#[test]
fn a_part_of_a_head_is_answered_in_time() {
    let instance = Instance::fine();
    for listener in [QUICK.to_owned(), format!("http2 = false\n{QUICK}")] {
        let proxy = Proxy::to(&[instance.address], "", &listener);
        for before in 0..3 {
            let mut client = proxy.client();
            for _ in 0..before {
                assert_eq!(client.ask(&get("/")).status, 200);
            }
            client.send("GET / HTTP/1.1\r\nHost");
            let answer = client.answer(false);
            assert_eq!(answer.status, 408);
            assert_eq!(answer.header("connection"), Some("close"));
            assert!(answer.text().contains("took too long") && !answer.is_cut);
            client.closed();
        }
        // One that is only idle is told nothing.
        let mut client = proxy.client();
        assert_eq!(client.ask(&get("/")).status, 200);
        assert_eq!(client.answer(false).status, 0);
    }
}

#[test]
fn a_body_that_pauses_is_the_clients_fault() {
    let instance = Instance::fine();
    let proxy = Proxy::to(&[instance.address], "", QUICK);
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc");
    assert_eq!(client.answer(false).status, 408);
    client.closed();
    let service = proxy.service("s");
    let totals = &service.entries()[0].instance.totals;
    let faults: u64 = totals.faults.iter().map(|count| count.load(SeqCst)).sum();
    assert_eq!(faults, 0, "the instance did nothing wrong");
}

#[test]
fn a_body_that_drips_is_taken_as_long_as_it_moves() {
    let instance = Instance::fine();
    let proxy = Proxy::to(&[instance.address], "answer_timeout = \"400ms\"", QUICK);
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n");
    for _ in 0..10 {
        thread::sleep(Duration::from_millis(100));
        client.send("x");
    }
    assert_eq!(client.answer(false).status, 200);
}

#[test]
fn a_connection_that_was_idle_for_long_goes_on() {
    let instance = Instance::fine();
    let limits = "head_timeout = \"300ms\"\nidle_timeout = \"3s\"";
    let proxy = Proxy::to(&[instance.address], "", limits);
    // It is parked after a second, also before its first request.
    let mut client = proxy.client();
    for _ in 0..3 {
        thread::sleep(Duration::from_millis(1_300));
        assert_eq!(client.ask(&get("/")).status, 200);
    }
    thread::sleep(Duration::from_millis(1_300));
    client.send("GET / HT");
    assert_eq!(client.answer(false).status, 408);
    // In the end it is closed, and one that the client closes is forgotten.
    let open = || {
        let totals = &proxy.server.shared().totals;
        totals.open_connections.load(SeqCst)
    };
    let mut client = proxy.client();
    assert_eq!(client.ask(&get("/")).status, 200);
    assert!(client.closed() > Duration::from_secs(2));
    let client = proxy.client();
    wait_until("it is open", || open() == 1);
    thread::sleep(Duration::from_millis(1_300));
    drop(client);
    wait_until("it is forgotten", || open() == 0);
}

#[test]
fn a_connection_that_is_idle_when_the_proxy_ends_is_answered_once_more() {
    let instance = Instance::fine();
    let proxy = Proxy::to(&[instance.address], "", "");
    let (mut asking, mut silent) = (proxy.client(), proxy.client());
    assert_eq!(asking.ask(&get("/")).status, 200);
    assert_eq!(silent.ask(&get("/")).status, 200);
    thread::sleep(Duration::from_millis(1_300));
    proxy.server.begin_drain();
    let answer = asking.ask(&get("/"));
    assert_eq!(
        (answer.status, answer.header("connection")),
        (200, Some("close"))
    );
    asking.closed();
    silent.closed();
}

#[test]
fn an_idle_connection_is_closed_and_a_busy_one_is_not() {
    let instance = Instance::fine();
    let proxy = Proxy::to(&[instance.address], "", QUICK);
    let mut client = proxy.client();
    for _ in 0..4 {
        assert_eq!(client.ask(&get("/")).status, 200);
        // Longer than a head may take, shorter than a connection may be idle.
        thread::sleep(Duration::from_millis(450));
    }
    client.closed();
}
