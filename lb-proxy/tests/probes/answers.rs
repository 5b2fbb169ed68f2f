//! Answers of instances: broken ones, odd ones, and those that are only passed on.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener},
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    thread,
    time::Duration,
};

use crate::support::{Instance, PATIENCE, Proxy, Reply, answer, get, wait_until};

fn raw(text: &'static str) -> impl Fn(&crate::support::Received) -> Reply + Send + Sync {
    move |_| Reply::Write(text.as_bytes().to_vec())
}

fn raw_and_close(text: &'static str) -> impl Fn(&crate::support::Received) -> Reply + Send + Sync {
    move |_| Reply::WriteAndClose(text.as_bytes().to_vec())
}

#[test]
fn an_answer_that_is_cut_is_cut_for_the_client_too() {
    for text in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
    ] {
        let instance = Instance::start(raw_and_close(text));
        let proxy = Proxy::to(&[instance.address], "", "");
        let answer = proxy.ask(&get("/"));
        assert!(answer.is_cut || answer.status == 502, "{text}: {answer:?}");
        assert_eq!(instance.count(), 1);
    }
}

#[test]
fn an_instance_that_dies_before_the_head_is_tried_once() {
    for method in ["GET", "POST"] {
        let instance = Instance::start(raw_and_close(""));
        let proxy = Proxy::to(&[instance.address], "", "");
        let request = format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(proxy.ask(&request).status, 502);
        assert_eq!(instance.count(), 1, "{method}");
    }
}

#[test]
fn an_idle_connection_that_died_is_replaced() {
    // Each connection answers one request and closes with the next.
    let served = AtomicUsize::new(0);
    let instance = Instance::start(move |received| {
        if served.swap(received.connection + 1, SeqCst) == received.connection + 1 {
            Reply::WriteAndClose(Vec::new())
        } else {
            answer("200 OK", "", "fine")
        }
    });
    let proxy = Proxy::to(&[instance.address], "", "");
    let mut client = proxy.client();
    assert_eq!(client.ask(&get("/1")).status, 200);
    // This one may have reached the instance, but it can be repeated.
    assert_eq!(client.ask(&get("/2")).status, 200);
    assert_eq!(instance.connections(), 2);
    // This one cannot: it has a body.
    let post = "POST /3 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    assert_eq!(client.ask(post).status, 502);
    let posts = instance
        .received()
        .iter()
        .filter(|received| received.path() == "/3")
        .count();
    assert_eq!(posts, 1);
}

#[test]
fn a_coding_wins_over_a_length() {
    let instance = Instance::start(raw(
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    ));
    let proxy = Proxy::to(&[instance.address], "", "");
    let answer = proxy.ask(&get("/"));
    assert_eq!((answer.status, answer.text().as_str()), (200, "abc"));
    assert_eq!(answer.header("content-length"), None);
}

#[test]
fn an_answer_that_is_no_http_is_not_asked_for_again() {
    for text in [
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        "SSH-2.0-OpenSSH\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx y: 1\r\n\r\n",
    ] {
        let instance = Instance::start(raw_and_close(text));
        let other = Instance::start(raw_and_close(text));
        let proxy = Proxy::to(&[instance.address, other.address], "", "");
        assert_eq!(proxy.ask(&get("/")).status, 502, "{text}");
        assert_eq!(instance.count() + other.count(), 1, "{text}");
    }
}

#[test]
fn an_upgrade_that_nobody_asked_for_is_refused() {
    let instance = Instance::start(raw(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    ));
    let proxy = Proxy::to(&[instance.address], "", "");
    assert_eq!(proxy.ask(&get("/")).status, 502);
}

#[test]
fn trailers_pass_both_ways() {
    let instance = Instance::start(raw(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 7\r\n\r\n",
    ));
    let proxy = Proxy::to(&[instance.address], "", "");
    let answer = proxy.ask(
        "POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\nTrailer: x-own\r\n\r\n\
         3\r\nabc\r\n0\r\nx-own: 8\r\n\r\n",
    );
    assert_eq!(answer.trailers.trim(), "x-sum: 7");
    assert_eq!(instance.received()[0].trailers.trim(), "x-own: 8");
}

#[test]
fn answers_without_a_body_leave_the_connection_usable() {
    let instance = Instance::start(|received| {
        match received.path() {
        "/204" => Reply::Write(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()),
        "/304" => Reply::Write(b"HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n".to_vec()),
        "/head" => Reply::Write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n".to_vec()),
        "/early" => Reply::Write(
            b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec(),
        ),
        _ => answer("200 OK", "", "fine"),
    }
    });
    let proxy = Proxy::to(&[instance.address], "", "");
    let mut client = proxy.client();
    assert_eq!(client.ask(&get("/204")).status, 204);
    assert_eq!(client.ask(&get("/304")).status, 304);
    let head = client.ask("HEAD /head HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(
        (head.status, head.header("content-length")),
        (200, Some("5"))
    );
    assert_eq!(client.ask(&get("/early")).status, 200);
    assert_eq!(client.ask(&get("/")).text(), "fine");
    assert_eq!(instance.connections(), 1, "all came on one connection");
}

#[test]
fn a_connection_ends_when_the_client_leaves() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = Proxy::to(&[listener.local_addr().unwrap()], "", "");
    let mut client = proxy.client();
    client.send(get("/"));
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut byte = [0; 1024];
    assert!(stream.read(&mut byte).unwrap() > 0);
    client.stream.get_mut().shutdown(Shutdown::Both).unwrap();
    let mut rest = Vec::new();
    // The end, in order or by a reset.
    let _ = stream.read_to_end(&mut rest);
    let service = proxy.service("s");
    wait_until("the request is not counted any more", || {
        service.entries()[0].instance.pending() == 0
    });
}

#[test]
fn a_large_answer_passes_whole() {
    let body = "x".repeat(3 << 20);
    let expected = body.len();
    let instance = Instance::start(move |_| answer("200 OK", "", &body));
    let proxy = Proxy::to(&[instance.address], "", "");
    assert_eq!(proxy.ask(&get("/")).body.len(), expected);
}

#[test]
fn a_websocket_passes_and_its_end_too() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let echo = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        stream
            .write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\nhello")
            .unwrap();
        // Until the client has finished writing; the answer goes out after that.
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        stream.write_all(&all).unwrap();
        String::from_utf8(head).unwrap()
    });
    let proxy = Proxy::to(&[address], "", "");
    let mut client = proxy.client();
    client.send("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: y\r\n\r\n");
    let switched = client.answer(false);
    assert_eq!(switched.status, 101);
    assert_eq!(switched.header("upgrade"), Some("websocket"));
    assert_eq!(switched.header("sec-websocket-accept"), Some("x"));
    client.send("world");
    client.stream.get_mut().shutdown(Shutdown::Write).unwrap();
    let mut rest = String::new();
    client.stream.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "helloworld");
    let head = echo.join().unwrap().to_ascii_lowercase();
    assert!(head.contains("connection: upgrade\r\n") && head.contains("upgrade: websocket\r\n"));
    assert!(head.contains("sec-websocket-key: y\r\n"));
}

#[test]
fn an_instance_that_takes_too_long_is_given_up() {
    let instance = Instance::start(|_| {
        thread::sleep(Duration::from_millis(800));
        answer("200 OK", "", "late")
    });
    let proxy = Proxy::to(&[instance.address], "answer_timeout = \"100ms\"", "");
    assert_eq!(proxy.ask(&get("/")).status, 504);
}
