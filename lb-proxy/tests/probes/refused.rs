//! Instances that speak HTTP/2 and do not process a request, as they say, and WebSockets on streams of HTTP/2.

use std::{
    io::Read as _,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use bytes::Bytes;
use h2::Reason;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::support::{Proxy, header};

const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";

/// What an instance does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Deed {
    /// It answers 200.
    Answer,
    /// It refuses each stream.
    Refuse,
    /// Its first connection ends with the first request, which it has not processed.
    Leave,
    /// The same, and it says that it may have processed it.
    LeaveAfter,
}

/// An instance, and the number of its connections.
async fn instance(deed: Deed) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let is_first = counted.fetch_add(1, SeqCst) == 0;
            match deed {
                Deed::Leave if is_first => drop(tokio::spawn(leave(stream, 0))),
                Deed::LeaveAfter if is_first => drop(tokio::spawn(leave(stream, 1))),
                _ => drop(tokio::spawn(serve(stream, deed))),
            }
        }
    });
    (address, connections)
}

async fn serve(stream: TcpStream, deed: Deed) {
    let mut connection = h2::server::handshake(stream).await.unwrap();
    while let Some(Ok((_, mut respond))) = connection.accept().await {
        if deed == Deed::Refuse {
            respond.send_reset(Reason::REFUSED_STREAM);
        } else {
            respond
                .send_response(http::Response::new(()), true)
                .unwrap();
        }
    }
}

/// Says GOAWAY when the first request comes, with the number of the last stream that may be processed, and closes.
async fn leave(mut stream: TcpStream, last: u8) {
    const HEADERS: u8 = 1;
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).await.unwrap();
    // Its settings: none.
    stream
        .write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0])
        .await
        .unwrap();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        stream
            .read_exact(&mut vec![0; length as usize])
            .await
            .unwrap();
        if head[3] == HEADERS {
            break;
        }
    }
    let go_away = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, last, 0, 0, 0, 0];
    stream.write_all(&go_away).await.unwrap();
    stream.shutdown().await.unwrap();
    let _ = stream.read_to_end(&mut Vec::new()).await;
}

fn blamed(proxy: &Proxy) -> u64 {
    let entries = proxy.service("s").entries();
    let faults = entries
        .iter()
        .flat_map(|entry| &entry.instance.totals.faults);
    faults.map(|count| count.load(SeqCst)).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_refused_goes_to_another_instance() {
    let (refusing, _) = instance(Deed::Refuse).await;
    let (fine, _) = instance(Deed::Answer).await;
    let settings =
        "protocol = \"http2\"\nchoice = \"round-robin\"\nretry_budget = 100\neject_after = 1";
    let proxy = Proxy::to(&[refusing, fine], settings, "");
    let mut client = proxy.client();
    for _ in 0..10 {
        assert_eq!(client.ask(POST).status, 200);
    }
    assert_eq!(blamed(&proxy), 0);
    assert!(proxy.service("s").retries.load(SeqCst) >= 5);
    // With nobody else the client learns of it.
    let proxy = Proxy::to(&[refusing], settings, "");
    assert_eq!(proxy.ask(POST).status, 503);
    assert_eq!(blamed(&proxy), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_ends_is_replaced_for_what_it_has_not_processed() {
    let settings = "protocol = \"http2\"";
    let (leaving, connections) = instance(Deed::Leave).await;
    let proxy = Proxy::to(&[leaving], settings, "");
    let mut client = proxy.client();
    for _ in 0..3 {
        assert_eq!(client.ask(POST).status, 200);
    }
    assert_eq!(connections.load(SeqCst), 2);
    assert_eq!(blamed(&proxy), 0);
    // What it may have processed is not sent again, unless that does no harm.
    for (request, status) in [(POST.to_owned(), 502), (crate::support::get("/"), 200)] {
        let (leaving, _) = instance(Deed::LeaveAfter).await;
        let proxy = Proxy::to(&[leaving], settings, "");
        let mut client = proxy.client();
        assert_eq!(client.ask(&request).status, status);
        assert_eq!(client.ask(POST).status, 200);
    }
}

/// An instance of HTTP/1.1 that takes WebSockets and echoes; `key` makes what it answers to a key.
async fn web_socket_instance(
    answer: impl Fn(&str) -> String + Send + Sync + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = Arc::clone(&answer);
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                let head = String::from_utf8(head).unwrap();
                if head.starts_with("GET / ") {
                    let answer = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";
                    return stream.write_all(answer).await.unwrap();
                }
                assert!(head.starts_with("GET /chat?x HTTP/1.1\r\n"), "{head}");
                for (name, value) in [
                    ("host", "a.test"),
                    ("connection", "upgrade"),
                    ("upgrade", "websocket"),
                    ("sec-websocket-version", "13"),
                    ("sec-websocket-protocol", "chat"),
                    ("x-forwarded-for", "127.0.0.1"),
                ] {
                    assert_eq!(header(&head, name), Some(value), "{head}");
                }
                let key = header(&head, "sec-websocket-key").unwrap();
                stream.write_all(answer(key).as_bytes()).await.unwrap();
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    address
}

fn switch(accept: &str) -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    )
}

/// A stream that a client of HTTP/2 opens for a WebSocket, and its answer.
async fn open(
    proxy: &Proxy,
    protocol: &'static str,
) -> (http::Response<h2::RecvStream>, h2::SendStream<Bytes>) {
    let stream = TcpStream::connect(proxy.address).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut sender = sender.ready().await.unwrap();
    // The proxy's settings come with the first answer at the latest.
    let request = http::Request::get("http://a.test/").body(()).unwrap();
    let (answer, _) = sender.send_request(request, true).unwrap();
    let _ = answer.await;
    assert!(sender.is_extended_connect_protocol_enabled());
    let mut request = http::Request::builder()
        .method("CONNECT")
        .uri("http://a.test/chat?x")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-protocol", "chat")
        .body(())
        .unwrap();
    request
        .extensions_mut()
        .insert(h2::ext::Protocol::from_static(protocol));
    let mut sender = sender.ready().await.unwrap();
    let (answer, stream) = sender.send_request(request, false).unwrap();
    (answer.await.unwrap(), stream)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_web_socket_runs_on_a_stream_of_http2() {
    let good = web_socket_instance(|key| switch(&derive_accept_key(key.as_bytes()))).await;
    let listener = "idle_timeout = \"300ms\"\nhead_timeout = \"300ms\"";
    let proxy = Proxy::to(&[good], "", listener);
    let (answer, mut stream) = open(&proxy, "websocket").await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["sec-websocket-protocol"], "chat");
    for gone in ["sec-websocket-accept", "connection", "upgrade"] {
        assert!(!answer.headers().contains_key(gone), "{gone}");
    }
    let mut echo = answer.into_body();
    for part in ["first", "second"] {
        stream.send_data(Bytes::from(part), false).unwrap();
        assert_eq!(echo.data().await.unwrap().unwrap(), part);
        // It is no idle connection, however long it is silent.
        tokio::time::sleep(std::time::Duration::from_millis(1_000)).await;
    }
    assert_eq!(proxy.service("s").entries()[0].instance.pending(), 1);
    stream.send_data(Bytes::new(), true).unwrap();
    while let Some(part) = echo.data().await {
        assert_eq!(part.unwrap(), "");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_web_socket_may_be_silent_for_longer_than_a_head_may_take() {
    let good = web_socket_instance(|key| switch(&derive_accept_key(key.as_bytes()))).await;
    let listener = "idle_timeout = \"300ms\"\nhead_timeout = \"300ms\"";
    let proxy = Proxy::to(&[good], "", listener);
    let mut client = proxy.client();
    let request = "GET /chat?x HTTP/1.1\r\nHost: a.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                   Sec-WebSocket-Protocol: chat\r\n\r\n";
    assert_eq!(client.ask(request).status, 101);
    for _ in 0..3 {
        client.send("frame");
        let mut echo = [0; 5];
        client.stream.read_exact(&mut echo).unwrap();
        assert_eq!(&echo, b"frame");
        tokio::time::sleep(std::time::Duration::from_millis(1_000)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_web_socket_opens_no_stream() {
    // Another key, no switch, a refusal.
    let plain = |status: &'static str| {
        move |_: &str| format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n")
    };
    for (instance, status) in [
        (web_socket_instance(|_| switch("nonsense")).await, 502),
        (web_socket_instance(plain("200 OK")).await, 502),
        (web_socket_instance(plain("403 Forbidden")).await, 403),
    ] {
        let proxy = Proxy::to(&[instance], "", "");
        let (answer, _) = open(&proxy, "websocket").await;
        assert_eq!(answer.status(), status);
    }
    let proxy = Proxy::to(&["127.0.0.1:9".parse().unwrap()], "", "");
    assert_eq!(open(&proxy, "connect-udp").await.0.status(), 405);
    let proxy = Proxy::to(
        &["127.0.0.1:9".parse().unwrap()],
        "protocol = \"http2\"",
        "",
    );
    assert_eq!(open(&proxy, "websocket").await.0.status(), 501);
}
