//! HTTP.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

use lb_clients::load::exposition;

use super::reporter::{Reporter, command};

fn start(arguments: &[&str]) -> (Reporter, SocketAddr) {
    let mut all = vec!["--http", "127.0.0.1:0"];
    all.extend(arguments);
    let reporter = Reporter::start(&all);
    let address = reporter.ready[0]
        .strip_prefix("http://")
        .and_then(|ready| ready.strip_suffix("/load"))
        .unwrap()
        .parse()
        .unwrap();
    (reporter, address)
}

/// Sends a request and gives what comes back until the connection ends: head and body.
fn exchange(address: SocketAddr, request: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    // The other side may not want to hear all of it.
    let _ = stream.write_all(request.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    (head.to_owned(), body.to_owned())
}

fn get(address: SocketAddr, path: &str) -> (String, String) {
    exchange(
        address,
        &format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
    )
}

#[test]
fn the_report_is_json() {
    let (mut reporter, address) = start(&["--cgroup", "/"]);
    let (head, body) = get(address, "/load");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let report: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(report["subject"], "host", "{report}");
    for name in [
        "cpu",
        "memory",
        "host_cpu",
        "host_memory",
        "file_descriptors",
    ] {
        let part = report[name].as_f64();
        assert!(
            part.is_some_and(|part| (0.0..=1.0).contains(&part)),
            "{name}: {report}"
        );
    }
    assert!(report["cpu_limit"].as_f64().unwrap() >= 1.0, "{report}");
    assert!(reporter.stop().success());
}

#[test]
fn prometheus_can_read_it() {
    let (_reporter, address) = start(&["--cgroup", "/"]);
    let (head, body) = get(address, "/metrics");
    assert!(head.contains("text/plain; version=0.0.4"), "{head}");
    let samples = exposition::read(&body, |_| true).unwrap().series;
    let value = |name: &str| {
        samples
            .iter()
            .find(|sample| sample.name == name)
            .map(|sample| sample.value)
    };
    assert!(value("lb_report_cpu_ratio").is_some(), "{body}");
    assert!(value("lb_report_memory_limit_bytes").is_some_and(|bytes| bytes > 1e6));
    assert_eq!(value("lb_report_info"), Some(1.0));
}

#[test]
fn bad_requests_are_refused_and_the_next_is_answered() {
    let (_reporter, address) = start(&[]);
    for (request, status) in [
        (
            "POST /load HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_owned(),
            "405",
        ),
        (
            "GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_owned(),
            "404",
        ),
        ("\0\0garbage\r\n\r\n".to_owned(), "400"),
        // A head without an end.
        (
            format!("GET /load HTTP/1.1\r\nX: {}", "y".repeat(1 << 20)),
            "431",
        ),
    ] {
        let (head, _) = exchange(address, &request);
        // A connection that is cut while it is still written to may lose the answer.
        assert!(
            head.starts_with(&format!("HTTP/1.1 {status}")) || (status == "431" && head.is_empty()),
            "{head}"
        );
        assert!(get(address, "/load").0.starts_with("HTTP/1.1 200"));
    }
}

#[test]
fn each_report_is_a_new_one() {
    let (_reporter, address) = start(&["--interval", "100ms"]);
    let taken = || {
        let report: serde_json::Value = serde_json::from_str(&get(address, "/load").1).unwrap();
        report["taken_at"].as_f64().unwrap()
    };
    let first = taken();
    let changed = (0..3_000).any(|_| {
        std::thread::sleep(Duration::from_millis(20));
        taken() > first
    });
    assert!(changed, "the report stays that of {first}");
}

#[test]
fn what_makes_no_sense_is_refused_with_advice() {
    let taken = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (arguments, status, advice) in [
        (&["--interval", "1ms"][..], 2, "100ms to 1m"),
        (
            &["--mqtt", "mqtt://a:b@c", "--topic", "t"],
            2,
            "--password-file",
        ),
        (&["--mqtt", "mqtt://broker"], 2, "--topic"),
        (
            &["--mqtt", "mqtt://broker", "--topic", "a/#"],
            2,
            "wildcards",
        ),
        (&["--pid", "1", "--cgroup", "/"], 2, "cannot be used with"),
        (&["--listen", "0.0.0.0:1"], 2, "unix:PATH"),
        (&["--http", &taken], 1, "for HTTP"),
    ] {
        let output = command(arguments).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {said}");
        assert!(said.contains(advice), "{arguments:?}: {said}");
    }
}
