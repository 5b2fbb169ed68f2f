//! HTTP/2 without TLS, with frames made by hand, and gRPC's way of using it.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::support::{Instance, PATIENCE, Proxy, answer};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const DATA: u8 = 0;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

struct Frames(TcpStream);

impl Frames {
    fn connect(proxy: &Proxy) -> Self {
        let stream = TcpStream::connect(proxy.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let mut frames = Frames(stream);
        frames.0.write_all(PREFACE).unwrap();
        frames.send(SETTINGS, 0, 0, &[]).unwrap();
        frames
    }

    fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> std::io::Result<()> {
        let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        self.0.write_all(&frame)
    }

    fn request(&mut self, stream: u32, fields: &[(&str, &str)], flags: u8) -> std::io::Result<()> {
        self.send(HEADERS, flags, stream, &block(fields))
    }

    /// The next frame: kind, flags, stream and payload. `None` at the end of the connection.
    fn next(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        self.0.read_exact(&mut payload).ok()?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Some((head[3], head[4], stream, payload))
    }

    /// What becomes of a stream: its status, or that it or the connection was reset.
    fn outcome(&mut self, stream: u32) -> Outcome {
        loop {
            match self.next() {
                None => return Outcome::Closed,
                Some((GOAWAY, _, _, payload)) if payload[4..8] != [0; 4] => return Outcome::GoAway,
                Some((RST_STREAM, _, of, _)) if of == stream => return Outcome::Reset,
                Some((HEADERS, _, of, payload)) if of == stream => {
                    return Outcome::Status(status(&payload));
                }
                Some(_) => {}
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Status(u16),
    Reset,
    GoAway,
    Closed,
}

/// Header fields as literals without names of the table and without Huffman codes (RFC 7541 section 6.2.2).
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            assert!(text.len() < 127);
            block.push(text.len() as u8);
            block.extend(text.as_bytes());
        }
    }
    block
}

/// The status at the beginning of an answer's header block: of the static table, or a literal.
fn status(block: &[u8]) -> u16 {
    // Updates of the table's size come first.
    let block = &block[block
        .iter()
        .take_while(|byte| **byte & 0xe0 == 0x20)
        .count()..];
    match block[0] {
        indexed @ 0x88..=0x8e => [200, 204, 206, 304, 400, 404, 500][usize::from(indexed - 0x88)],
        _ if block[1] & 0x80 == 0 => std::str::from_utf8(&block[2..5]).unwrap().parse().unwrap(),
        _ => {
            // Digits are 5 or 6 bits in the Huffman code (RFC 7541 appendix B).
            let mut bits = block[2..2 + usize::from(block[1] & 0x7f)]
                .iter()
                .flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1));
            let mut number = 0;
            for _ in 0..3 {
                let mut code =
                    (0..5).fold(0, |code, _| code << 1 | u16::from(bits.next().unwrap()));
                let digit = if code < 3 {
                    code
                } else {
                    code = code << 1 | u16::from(bits.next().unwrap());
                    code - 0x19 + 3
                };
                number = number * 10 + digit;
            }
            number
        }
    }
}

const REQUEST: [(&str, &str); 4] = [
    (":method", "GET"),
    (":scheme", "http"),
    (":authority", "a.test"),
    (":path", "/"),
];

fn with(more: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
    REQUEST.iter().chain(more).copied().collect()
}

#[test]
fn each_request_is_refused_or_forwarded_as_demanded() {
    let instance = Instance::fine();
    let proxy = Proxy::to(&[instance.address], "", "");
    let mut post = with(&[("content-length", "3")]);
    post[0].1 = "POST";
    for (name, fields, body, is_fine) in [
        ("a plain request", with(&[]), None, true),
        ("an equal host", with(&[("host", "A.TEST")]), None, true),
        ("another host", with(&[("host", "evil")]), None, false),
        (
            "CRLF in a value",
            with(&[("x-a", "1\r\nx-b: 2")]),
            None,
            false,
        ),
        ("connection", with(&[("connection", "close")]), None, false),
        (
            "transfer-encoding",
            with(&[("transfer-encoding", "chunked")]),
            None,
            false,
        ),
        ("te: gzip", with(&[("te", "gzip")]), None, false),
        ("upper case", with(&[("X-A", "1")]), None, false),
        ("a body as long as it says", post.clone(), Some("abc"), true),
        ("a body that is too short", post.clone(), Some("ab"), false),
        ("a body that is too long", post, Some("abcd"), false),
    ] {
        let before = instance.count();
        let mut frames = Frames::connect(&proxy);
        let end = if body.is_none() { END_STREAM } else { 0 };
        frames.request(1, &fields, END_HEADERS | end).unwrap();
        if let Some(body) = body {
            frames.send(DATA, END_STREAM, 1, body.as_bytes()).unwrap();
        }
        let outcome = frames.outcome(1);
        let seen = instance.count() - before;
        if is_fine {
            assert_eq!((outcome, seen), (Outcome::Status(200), 1), "{name}");
        } else {
            assert_ne!(outcome, Outcome::Status(200), "{name}");
            assert_eq!(seen, 0, "{name}");
        }
    }
    // Two cookies become one.
    let mut frames = Frames::connect(&proxy);
    let cookies = with(&[("cookie", "a=1"), ("cookie", "b=2")]);
    frames
        .request(1, &cookies, END_HEADERS | END_STREAM)
        .unwrap();
    assert_eq!(frames.outcome(1), Outcome::Status(200));
    let received = instance.received();
    assert_eq!(received.last().unwrap().header("cookie"), Some("a=1; b=2"));
    assert_eq!(received.last().unwrap().header("host"), Some("a.test"));
}

/// Sends until the proxy ends the connection, `most` times at most. Returns whether it did.
fn flood(
    proxy: &Proxy,
    most: u32,
    mut send: impl FnMut(&mut Frames, u32) -> std::io::Result<()>,
) -> bool {
    let mut frames = Frames::connect(proxy);
    for number in 0..most {
        if send(&mut frames, number).is_err() {
            return true;
        }
    }
    frames
        .0
        .set_read_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    loop {
        match frames.next() {
            None => return false,
            Some((GOAWAY, _, _, payload)) if payload[4..8] != [0; 4] => return true,
            Some(_) => {}
        }
    }
}

#[test]
fn floods_end_the_connection() {
    let instance = Instance::fine();
    let proxy = Proxy::to(&[instance.address], "", "");
    let request = block(&REQUEST);
    let stream = |number: u32| 2 * number + 1;
    let reset = flood(&proxy, 5_000, |frames, number| {
        frames.send(HEADERS, END_HEADERS | END_STREAM, stream(number), &request)?;
        frames.send(RST_STREAM, 0, stream(number), &8_u32.to_be_bytes())
    });
    assert!(reset, "streams that are reset at once");
    let reset = flood(&proxy, 5_000, |frames, number| {
        frames.send(HEADERS, END_HEADERS, stream(number), &request)?;
        frames.send(WINDOW_UPDATE, 0, stream(number), &[0; 4])
    });
    assert!(reset, "streams that the proxy has to reset");
    let reset = flood(&proxy, 20_000, |frames, number| match number {
        0 => frames.send(HEADERS, END_STREAM, 1, &request),
        _ => frames.send(CONTINUATION, 0, 1, &block(&[("x-a", "1")])),
    });
    assert!(reset, "continuations without an end");
    let reset = flood(&proxy, 20_000, |frames, number| match number {
        0 => frames.request(1, &with(&[]), END_HEADERS),
        _ => frames.send(DATA, 0, 1, &[]),
    });
    assert!(reset, "empty data");
    assert!(instance.count() < 200, "{}", instance.count());
}

#[test]
fn pings_and_settings_are_answered() {
    let instance = Instance::fine();
    let proxy = Proxy::to(&[instance.address], "", "");
    let mut frames = Frames::connect(&proxy);
    for _ in 0..100 {
        frames.send(PING, 0, 0, &[1; 8]).unwrap();
    }
    let mut pongs = 0;
    while pongs < 100 {
        let (kind, flags, ..) = frames.next().unwrap();
        pongs += u32::from(kind == PING && flags == 1);
    }
    frames
        .request(1, &REQUEST, END_HEADERS | END_STREAM)
        .unwrap();
    assert_eq!(frames.outcome(1), Outcome::Status(200));
}

#[test]
fn the_health_path_is_answered_over_http2() {
    let instance = Instance::fine();
    let proxy = Proxy::to(&[instance.address], "", "health_path = \"/health\"");
    let mut frames = Frames::connect(&proxy);
    let mut asked = REQUEST;
    asked[3].1 = "/health";
    let mut head = asked;
    head[0].1 = "HEAD";
    for (stream, request) in [(1, &asked), (3, &head), (5, &REQUEST)] {
        frames
            .request(stream, request, END_HEADERS | END_STREAM)
            .unwrap();
        assert_eq!(frames.outcome(stream), Outcome::Status(200));
    }
    assert_eq!(instance.count(), 1);
}

#[test]
fn streams_of_one_connection_run_at_once() {
    let instance = Instance::start(|received| {
        if received.path() == "/slow" {
            std::thread::sleep(Duration::from_millis(500));
        }
        answer("200 OK", "", "")
    });
    let proxy = Proxy::to(&[instance.address], "", "");
    let mut frames = Frames::connect(&proxy);
    let mut slow = REQUEST;
    slow[3].1 = "/slow";
    frames.request(1, &slow, END_HEADERS | END_STREAM).unwrap();
    frames
        .request(3, &REQUEST, END_HEADERS | END_STREAM)
        .unwrap();
    // The quick one is answered first.
    assert_eq!(frames.outcome(3), Outcome::Status(200));
    assert_eq!(frames.outcome(1), Outcome::Status(200));
}

/// An instance that speaks HTTP/2 without TLS, as a gRPC server does: it echoes bodies and ends with trailers.
async fn grpc_instance() -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service =
                hyper::service::service_fn(|request: http::Request<hyper::body::Incoming>| async {
                    assert_eq!(request.headers().get("te").unwrap(), "trailers");
                    assert_eq!(request.uri().authority().unwrap(), "grpc.test");
                    let path = request.uri().path().to_owned();
                    let mut trailers = http::HeaderMap::new();
                    let code = if path == "/failing" { "5" } else { "0" };
                    trailers.insert("grpc-status", code.parse().unwrap());
                    let echo = request.into_body().map_err(|error| error.to_string());
                    let body = echo.with_trailers(async move { Some(Ok(trailers)) });
                    Ok::<_, std::convert::Infallible>(
                        http::Response::builder()
                            .header("content-type", "application/grpc")
                            .body(body)
                            .unwrap(),
                    )
                });
            tokio::spawn(
                hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_passes_with_its_trailers_in_both_directions_at_once() {
    let address = grpc_instance().await;
    let proxy = Proxy::to(&[address], "protocol = \"http2\"", "");
    let stream = tokio::net::TcpStream::connect(proxy.address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let request = |path: &str| {
        http::Request::post(format!("http://grpc.test{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
    };
    // Unary, fine and failing.
    for (path, code) in [("/fine", "0"), ("/failing", "5")] {
        let body = Full::new(Bytes::from_static(b"question")).boxed();
        let answer = sender
            .send_request(request(path).body(body).unwrap())
            .await
            .unwrap();
        let collected = answer.into_body().collect().await.unwrap();
        assert_eq!(collected.trailers().unwrap()["grpc-status"], code);
        assert_eq!(collected.to_bytes(), "question");
    }
    // A stream both ways: each part comes back before the next is sent.
    let (parts, rest) = tokio::sync::mpsc::channel::<Bytes>(1);
    let rest = futures::stream::unfold(rest, |mut rest| async {
        let part = rest.recv().await?;
        Some((
            Ok::<_, std::convert::Infallible>(http_body::Frame::data(part)),
            rest,
        ))
    });
    let body = StreamBody::new(Box::pin(rest)).boxed();
    parts.send(Bytes::from_static(b"0")).await.unwrap();
    let answer = sender
        .send_request(request("/fine").body(body).unwrap())
        .await
        .unwrap();
    let mut echo = answer.into_body();
    for number in 1..20_u8 {
        let part = echo.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(part, [b'0' + number - 1].as_slice());
        parts.send(Bytes::from(vec![b'0' + number])).await.unwrap();
    }
    drop(parts);
    let end = echo.collect().await.unwrap();
    assert_eq!(end.trailers().unwrap()["grpc-status"], "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_clients_get_a_status_of_grpc() {
    let proxy = Proxy::to(&[], "protocol = \"http2\"", "");
    let stream = tokio::net::TcpStream::connect(proxy.address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let request = http::Request::post("http://grpc.test/x")
        .header("content-type", "application/grpc")
        .body(Full::new(Bytes::new()))
        .unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["grpc-status"], "14");
}
