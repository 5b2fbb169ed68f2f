//! Requests over HTTP/1.1.

use std::io::Write as _;

use crate::support::{Client, Instance, Proxy, answer, get};

/// What a probe demands.
enum Demand {
    /// Refused with one of these statuses; no instance sees it.
    Refused(&'static [u16]),
    /// Forwarded, and the instance sees what this says; or refused.
    Either(fn(&str) -> bool),
    /// Forwarded, and the instance sees what this says.
    Forwarded(fn(&str) -> bool),
}
use Demand::{Either, Forwarded, Refused};

fn any(_: &str) -> bool {
    true
}

fn has(head: &str, line: &str) -> bool {
    head.to_ascii_lowercase().contains(line)
}

fn post(headers: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{headers}\r\n{body}")
}

fn with(line: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n")
}

#[test]
fn each_request_is_refused_or_forwarded_as_demanded() {
    const CHUNKS: &str = "3\r\nabc\r\n0\r\n\r\n";
    const BAD: &[u16] = &[400];
    let many = |count: usize| {
        let lines: String = (0..count).map(|n| format!("x-{n}: 1\r\n")).collect();
        with(lines.trim_end())
    };
    let rows: Vec<(&str, String, Demand)> = vec![
        (
            "length and coding",
            post(
                "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
                CHUNKS,
            ),
            Either(|head| !has(head, "content-length") && has(head, "transfer-encoding: chunked")),
        ),
        (
            "two equal lengths",
            post("Content-Length: 3\r\nContent-Length: 3\r\n", "abc"),
            Either(|head| head.to_ascii_lowercase().matches("content-length").count() == 1),
        ),
        (
            "two different lengths",
            post("Content-Length: 3\r\nContent-Length: 4\r\n", "abc"),
            Refused(BAD),
        ),
        (
            "a length of +3",
            post("Content-Length: +3\r\n", "abc"),
            Refused(BAD),
        ),
        (
            "a length of -1",
            post("Content-Length: -1\r\n", "abc"),
            Refused(BAD),
        ),
        (
            "a list of lengths",
            post("Content-Length: 3, 3\r\n", "abc"),
            Either(|head| has(head, "content-length: 3\r\n")),
        ),
        ("a folded line", with("x-a: 1\r\n 2"), Refused(BAD)),
        ("a space before the colon", with("x-a : 1"), Refused(BAD)),
        ("CR in a value", with("x-a: 1\r2"), Refused(BAD)),
        ("NUL in a value", with("x-a: 1\0"), Refused(BAD)),
        (
            "xchunked",
            post("Transfer-Encoding: xchunked\r\n", CHUNKS),
            Refused(&[400, 501]),
        ),
        (
            "chunked, identity",
            post("Transfer-Encoding: chunked, identity\r\n", CHUNKS),
            Refused(&[400, 501]),
        ),
        (
            "chunked twice",
            post(
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
                CHUNKS,
            ),
            Refused(&[400, 501]),
        ),
        (
            "chunked, chunked",
            post("Transfer-Encoding: chunked, chunked\r\n", CHUNKS),
            Refused(&[400, 501]),
        ),
        (
            "gzip, chunked",
            post("Transfer-Encoding: gzip, chunked\r\n", CHUNKS),
            Refused(&[501]),
        ),
        (
            "chunked in HTTP/1.0",
            format!("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{CHUNKS}"),
            Refused(BAD),
        ),
        (
            "lines that end with LF",
            "GET / HTTP/1.1\nHost: a\n\n".to_owned(),
            Either(any),
        ),
        (
            "a chunk size that is none",
            post("Transfer-Encoding: chunked\r\n", "zz\r\nabc\r\n0\r\n\r\n"),
            Refused(BAD),
        ),
        (
            "a chunk size that overflows",
            post(
                "Transfer-Encoding: chunked\r\n",
                "fffffffffffffffff\r\nabc\r\n0\r\n\r\n",
            ),
            Refused(BAD),
        ),
        (
            "LF in a chunk's extension",
            post(
                "Transfer-Encoding: chunked\r\n",
                "3;a\nb\r\nabc\r\n0\r\n\r\n",
            ),
            Refused(BAD),
        ),
        (
            "two hosts",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_owned(),
            Refused(BAD),
        ),
        (
            "two equal hosts",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n".to_owned(),
            Refused(BAD),
        ),
        ("no host", "GET / HTTP/1.1\r\n\r\n".to_owned(), Refused(BAD)),
        (
            "a host in the target",
            "GET http://evil/x HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
            Either(|head| head.starts_with("GET /x HTTP") && has(head, "host: evil\r\n")),
        ),
        (
            "Connection names Host",
            with("Connection: Host, X-A\r\nX-A: 1"),
            Forwarded(|head| has(head, "host: a\r\n") && !has(head, "x-a: 1")),
        ),
        (
            "a space in the path",
            "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
            Refused(BAD),
        ),
        (
            "a header of 64 KiB",
            with(&format!("x-a: {}", "a".repeat(64 << 10))),
            Refused(&[400, 431]),
        ),
        ("150 headers", many(150), Refused(&[431])),
        ("300 headers", many(300), Refused(&[431])),
        (
            "TRACE",
            "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
            Refused(&[405, 501]),
        ),
        (
            "CONNECT",
            "CONNECT b:80 HTTP/1.1\r\nHost: b:80\r\n\r\n".to_owned(),
            Refused(&[405, 501]),
        ),
        (
            "an unknown expectation",
            with("Expect: gold"),
            Refused(&[417]),
        ),
        (
            "user information in Host",
            "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n".to_owned(),
            Refused(BAD),
        ),
        (
            "a host with a slash",
            "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n".to_owned(),
            Refused(BAD),
        ),
        ("no version", "GET /\r\n\r\n".to_owned(), Refused(BAD)),
        (
            "HTTP/1.0 without a host",
            "GET / HTTP/1.0\r\n\r\n".to_owned(),
            Forwarded(|head| has(head, "http/1.1\r\n") && has(head, "host: 127.0.0.1:")),
        ),
        (
            "a path like a host",
            with("x: 1").replace("GET /", "GET //x/y"),
            Forwarded(|head| head.starts_with("GET //x/y HTTP/1.1")),
        ),
    ];
    for (name, request, demand) in rows {
        let instance = Instance::fine();
        let proxy = Proxy::to(&[instance.address], "", "");
        let mut client = proxy.client();
        // The proxy may close before everything is written.
        let _ = client.stream.get_mut().write_all(request.as_bytes());
        let status = client.answer(false).status;
        // An answer may be followed by bytes that were no part of the request, so only complete ones count.
        let heads: Vec<String> = instance
            .received()
            .into_iter()
            .map(|received| received.head)
            .collect();
        let is_forwarded =
            |sees: fn(&str) -> bool| status == 200 && heads.len() == 1 && sees(&heads[0]);
        let is_refused = (400..=501).contains(&status) && status != 500 && heads.is_empty();
        let is_right = match demand {
            Refused(statuses) => statuses.contains(&status) && heads.is_empty(),
            Either(sees) => is_refused || is_forwarded(sees),
            Forwarded(sees) => is_forwarded(sees),
        };
        assert!(is_right, "{name}: {status}, the instance saw {heads:#?}");
    }
}

#[test]
fn a_request_with_both_lengths_is_the_last_one() {
    let instance = Instance::fine();
    let proxy = Proxy::to(&[instance.address], "", "");
    let mut client = proxy.client();
    let both = post(
        "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        "3\r\nabc\r\n0\r\n\r\n",
    );
    assert_eq!(client.ask(&both).status, 200);
    client.closed();
}

#[test]
fn a_header_of_a_mebibyte_is_refused() {
    let instance = Instance::fine();
    let proxy = Proxy::to(&[instance.address], "", "");
    let mut client = proxy.client();
    let request = with(&format!("x-a: {}", "a".repeat(1 << 20)));
    // The proxy closes while this is written, and the system may drop its answer with the connection.
    let _ = client.stream.get_mut().write_all(request.as_bytes());
    let status = client.answer(false).status;
    assert!(matches!(status, 0 | 400 | 431), "{status}");
    assert_eq!(instance.count(), 0);
}

#[test]
fn requests_behind_one_another_are_all_answered() {
    let instance = Instance::fine();
    let proxy = Proxy::to(&[instance.address], "", "");
    let mut client = proxy.client();
    client.send(format!(
        "GET /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc{}",
        get("/2")
    ));
    assert_eq!(client.answer(false).status, 200);
    assert_eq!(client.answer(false).status, 200);
    let received = instance.received();
    assert_eq!(
        (received[0].path(), &*received[0].body),
        ("/1", &b"abc"[..])
    );
    assert_eq!(received[1].path(), "/2");
}

#[test]
fn bytes_behind_a_refused_upgrade_are_the_next_request() {
    let instance = Instance::fine();
    let proxy = Proxy::to(&[instance.address], "", "");
    let mut client = proxy.client();
    client.send(format!(
        "GET /1 HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n{}",
        get("/2")
    ));
    assert_eq!(client.answer(false).status, 200);
    assert_eq!(client.answer(false).status, 200);
    assert_eq!(instance.count(), 2);
}

#[test]
fn a_client_that_waits_for_100_gets_it() {
    let instance = Instance::fine();
    let proxy = Proxy::to(&[instance.address], "", "");
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n");
    assert_eq!(client.answer(false).status, 100);
    client.send("abc");
    assert_eq!(client.answer(false).status, 200);
    assert_eq!(instance.received()[0].body, b"abc");
}

#[test]
fn an_early_answer_is_passed_on() {
    let too_large = || answer("413 Content Too Large", "Connection: close\r\n", "no");
    let instance = Instance::start_early(move |_| Some(too_large()), |_| answer("200 OK", "", ""));
    let proxy = Proxy::to(&[instance.address], "", "");
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nabc");
    let early = client.answer(false);
    assert_eq!((early.status, early.text().as_str()), (413, "no"));
}

#[test]
fn options_of_the_server_are_answered_by_the_proxy() {
    let instance = Instance::fine();
    let proxy = Proxy::to(&[instance.address], "", "");
    let answer = proxy.ask("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(answer.status, 200);
    assert!(answer.header("allow").unwrap().contains("GET"));
    assert_eq!(instance.count(), 0);
}

#[test]
fn a_body_above_the_limit_is_refused() {
    let instance = Instance::fine();
    let proxy = Proxy::to(&[instance.address], "", "max_body = 10");
    let long = "a".repeat(11);
    assert_eq!(
        proxy
            .ask(&post("Content-Length: 10\r\n", &long[1..]))
            .status,
        200
    );
    assert_eq!(
        proxy.ask(&post("Content-Length: 11\r\n", &long)).status,
        413
    );
    let chunked = format!("b\r\n{long}\r\n0\r\n\r\n");
    assert_eq!(
        proxy
            .ask(&post("Transfer-Encoding: chunked\r\n", &chunked))
            .status,
        413
    );
}

#[test]
fn headers_are_cleaned_named_and_edited() {
    let instance = Instance::start(|_| {
        answer(
            "200 OK",
            "X-Internal: 1\r\nConnection: x-hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\n",
            "",
        )
    });
    let text = format!(
        r#"
trusted_proxies = ["10.9.9.9"]
[[listener]]
address = "127.0.0.1:0"
[[route]]
service = "s"
host = "a.test"
set_request_headers = {{ X-Tenant = "7" }}
remove_request_headers = ["X-Debug"]
set_response_headers = {{ X-Served-By = "lb" }}
remove_response_headers = ["X-Internal"]
[[service]]
name = "s"
[[service.member]]
address = "{}"
"#,
        instance.address
    );
    let proxy = Proxy::start(&text);
    let mut client = Client::connect(proxy.address);
    let answer = client.ask(
        "GET /x?y HTTP/1.1\r\nHost: A.test:80\r\nX-Debug: 1\r\nX-Tenant: 6\r\nX-Forwarded-For: 6.6.6.6\r\n\
         Keep-Alive: 3\r\nProxy-Connection: x\r\nTE: gzip\r\nConnection: keep-alive\r\n\r\n",
    );
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("x-served-by"), Some("lb"));
    for gone in ["x-internal", "x-hop", "keep-alive"] {
        assert_eq!(answer.header(gone), None, "{gone}");
    }
    let received = &instance.received()[0];
    assert_eq!(received.path(), "/x?y");
    for (name, value) in [
        ("host", Some("a.test:80")),
        ("x-tenant", Some("7")),
        ("x-forwarded-for", Some("127.0.0.1")),
        ("x-forwarded-proto", Some("http")),
        ("x-forwarded-host", Some("a.test:80")),
        (
            "forwarded",
            Some("for=127.0.0.1;host=\"a.test:80\";proto=http"),
        ),
        ("x-debug", None),
        ("keep-alive", None),
        ("proxy-connection", None),
        ("te", None),
    ] {
        assert_eq!(received.header(name), value, "{name}");
    }
    assert_eq!(
        client.ask("GET / HTTP/1.1\r\nHost: b.test\r\n\r\n").status,
        404
    );
}

#[test]
fn https_is_where_a_redirect_leads() {
    let instance = Instance::fine();
    let proxy = Proxy::to(&[instance.address], "", "redirect_https = 8443");
    let answer = proxy.ask("GET /x?y HTTP/1.1\r\nHost: a.test:80\r\n\r\n");
    assert_eq!(answer.status, 308);
    assert_eq!(answer.header("location"), Some("https://a.test:8443/x?y"));
    assert_eq!(instance.count(), 0);
}
