//! Peers that do right.

use tokio::{io::AsyncWriteExt as _, net::UdpSocket, sync::mpsc};
use tonic_health::ServingStatus;

use super::{
    peer::{goes_on, read_all, read_some, says, serve},
    *,
};
use crate::health::probe::mqtt::Expect;
use crate::peer::Secret;

#[tokio::test]
async fn an_http_request_is_what_was_said() {
    let (sender, mut requests) = mpsc::unbounded_channel();
    let address = serve(move |mut stream| {
        let sender = sender.clone();
        async move {
            let request = String::from_utf8(read_some(&mut stream).await).unwrap();
            let _ = sender.send(request);
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 15\r\n\r\n{\"status\":\"UP\"}")
                .await;
        }
    })
    .await;
    assert_outcome(&ask(with_json(), address).await, Verdict::Healthy, "200 OK");
    let request = requests.recv().await.unwrap().to_lowercase();
    assert!(request.starts_with("get / http/1.1\r\n"), "{request}");
    assert!(
        request.contains(&format!("\r\nhost: {address}\r\n")),
        "{request}"
    );
    assert!(request.contains("\r\nconnection: close\r\n"), "{request}");

    let head = Component::new(
        "http",
        &Http {
            method: "HEAD".to_owned(),
            path: "/healthz?a=b".to_owned(),
            host: Some("www.example".to_owned()),
            ..Http::default()
        },
    );
    assert_outcome(&ask(head, address).await, Verdict::Healthy, "200 OK");
    let request = requests.recv().await.unwrap().to_lowercase();
    assert!(
        request.starts_with("head /healthz?a=b http/1.1\r\n"),
        "{request}"
    );
    assert!(request.contains("\r\nhost: www.example\r\n"), "{request}");
}

/// What other HTTP clients read is no reason to take a server down.
#[tokio::test]
async fn a_sloppy_head_is_read() {
    for head in [
        &b"HTTP/1.1 200 OK\r\nServer : x\r\n\r\n"[..],
        b"HTTP/1.1 200 OK\r\nServer \t: x\r\nX:y\r\n\r\n",
        // Obsolete folding (RFC 9112 section 5.2).
        b"HTTP/1.1 200 OK\r\nX-Folded: one,\r\n\ttwo,\r\n  three\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon at all\r\nX: y\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nB\xe4d: x\r\nLatin1: caf\xe9\r\nb@d(name): x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\x01b\r\n\r\n",
        b"HTTP/1.1 200\r\n\r\n",
        b"HTTP/1.1 200 \r\n\r\n",
        b"HTTP/1.1 200 \xc4\xd6\r\n\r\n",
        b"HTTP/1.0 200 OK\nServer: lines end without a carriage return\n\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
    ] {
        let outcome = ask(http(), says(head).await).await;
        let text = String::from_utf8_lossy(head);
        assert_eq!(outcome.verdict, Verdict::Healthy, "{text:?}: {outcome:?}");
    }
    let mut long = b"HTTP/1.1 200 OK\r\n".to_vec();
    for number in 0..400 {
        long.extend(format!("X-{number}: {}\r\n", "y".repeat(100)).bytes());
    }
    long.extend(b"\r\n");
    let outcome = ask(http(), says(long.leak()).await).await;
    assert_outcome(&outcome, Verdict::Healthy, "200 OK");
}

/// A stream of events, a page that is held open, a server that never closes: the answer has come all the same.
#[tokio::test]
async fn a_body_that_never_ends_is_judged_by_what_has_come() {
    for (probe, start, verdict, says) in [
        (
            with_body("is well"),
            &b"HTTP/1.1 200 OK\r\n\r\nall is we"[..],
            Verdict::Healthy,
            "200 OK",
        ),
        (
            with_body("well"),
            b"HTTP/1.1 503 Service Unavailable\r\n\r\n",
            Verdict::Unhealthy,
            "answered 503",
        ),
        (
            with_json(),
            b"HTTP/1.1 200 OK\r\n\r\n{\"status\": \"UP\", \"more\": \"we",
            Verdict::Healthy,
            "200 OK",
        ),
        (
            with_json(),
            b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n{\"status\": \"DOWN\", \"more\": \"we",
            Verdict::Unhealthy,
            "/status = \"DOWN\"",
        ),
        (
            with_json(),
            b"HTTP/1.1 500 Oh\r\ncontent-length: 1000000\r\n\r\n",
            Verdict::Unhealthy,
            "answered 500",
        ),
    ] {
        let address = goes_on(start, b"ll\"} ", Some(Duration::from_millis(20))).await;
        let outcome = ask(probe, address).await;
        assert_outcome(&outcome, verdict, says);
        assert!(outcome.latency < NEVER / 4, "{outcome:?}");
    }
}

/// The session of a client, as the broker sees it.
#[tokio::test]
async fn an_mqtt_client_introduces_itself_and_says_goodbye() {
    for (version, level, connack, goodbye) in [
        (Version::V311, 4, &b"\x20\x02\0\0"[..], &b"\xe0\0"[..]),
        (Version::V5, 5, b"\x20\x03\0\0\0", b"\xe0\0"),
    ] {
        let (sender, mut sessions) = mpsc::unbounded_channel();
        let address = serve(move |mut stream| {
            let sender = sender.clone();
            async move {
                let connect = read_some(&mut stream).await;
                let _ = stream.write_all(connack).await;
                let _ = sender.send((connect, read_all(&mut stream).await));
            }
        })
        .await;
        let outcome = ask(mqtt(version), address).await;
        assert_outcome(&outcome, Verdict::Healthy, "accepted");
        let (connect, rest) = sessions.recv().await.unwrap();
        // Type, length, "MQTT", level, clean start and nothing else, keep-alive of 10 s.
        assert_eq!(connect[0], 0x10);
        assert_eq!(
            &connect[2..12],
            [b"\0\x04MQTT".as_slice(), &[level, 2, 0, 10]].concat()
        );
        assert_eq!(rest, goodbye);
    }
}

#[tokio::test]
async fn an_mqtt_login_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("password");
    std::fs::write(&path, "hunter2\n").unwrap();
    let (sender, mut connects) = mpsc::unbounded_channel();
    let address = serve(move |mut stream| {
        let sender = sender.clone();
        async move {
            let _ = sender.send(read_some(&mut stream).await);
            let _ = stream.write_all(b"\x20\x02\0\x05").await;
        }
    })
    .await;
    let login = |expect| {
        Component::new(
            "mqtt",
            &Mqtt {
                username: Some("prober".to_owned()),
                password: Some(Secret::File(path.clone())),
                expect,
                ..Mqtt::default()
            },
        )
    };
    let any = ask(login(Expect::Any), address).await;
    assert_outcome(&any, Verdict::Healthy, "refused: not authorized");
    let connect = connects.recv().await.unwrap();
    assert!(
        connect.ends_with(b"\0\x06prober\0\x07hunter2"),
        "{connect:?}"
    );
    let accepted = ask(login(Expect::Accepted), address).await;
    assert_outcome(&accepted, Verdict::Unhealthy, "refused: not authorized");

    std::fs::remove_file(&path).unwrap();
    let missing = ask(login(Expect::Any), address).await;
    assert_outcome(&missing, Verdict::Inconclusive, "password");
}

#[tokio::test]
async fn a_broker_that_wants_to_be_left_is_drained() {
    let outcome = ask(mqtt(Version::V311), says(b"\x20\x02\0\x03").await).await;
    assert_outcome(&outcome, Verdict::Drain, "service unavailable");
    let outcome = ask(mqtt(Version::V5), says(b"\x20\x03\0\x9c\0").await).await;
    assert_outcome(&outcome, Verdict::Drain, "use another server");
}

#[tokio::test]
async fn a_grpc_server_tells_its_services() {
    let (reporter, service) = tonic_health::server::health_reporter();
    reporter
        .set_service_status("shop.Cart", ServingStatus::NotServing)
        .await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener)),
    );
    let of = |service: &str| {
        Component::new(
            "grpc",
            &Grpc {
                service: service.to_owned(),
                tls: None,
            },
        )
    };
    assert_outcome(
        &ask(of(""), address).await,
        Verdict::Healthy,
        "answered SERVING",
    );
    assert_outcome(
        &ask(of("shop.Cart"), address).await,
        Verdict::Unhealthy,
        "answered NOT_SERVING",
    );
    assert_outcome(
        &ask(of("shop.Till"), address).await,
        Verdict::Unhealthy,
        "knows no service \"shop.Till\"",
    );
    server.abort();
}

#[tokio::test]
async fn a_datagram_is_answered_or_not() {
    let echo = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = echo.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let mut bytes = [0; 64];
        while let Ok((length, from)) = echo.recv_from(&mut bytes).await {
            let _ = echo.send_to(&bytes[..length], from).await;
        }
    });
    assert_outcome(
        &ask(udp("", false), address).await,
        Verdict::Healthy,
        "answered 4 bytes",
    );
    assert_outcome(
        &ask(udp("ping", false), address).await,
        Verdict::Healthy,
        "answered",
    );
    assert_outcome(
        &ask(udp("pong", false), address).await,
        Verdict::Unhealthy,
        "answered \"ping\", which does not hold \"pong\"",
    );
    server.abort();

    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    let outcome = ask_within(udp("", false), address, TIMEOUT).await;
    assert_outcome(&outcome, Verdict::Unhealthy, "timed out after 400ms");
    let outcome = ask_within(udp("", true), address, TIMEOUT).await;
    assert_outcome(
        &outcome,
        Verdict::Healthy,
        "nothing says that the port is closed",
    );
    drop(silent);
    for silence_is_alive in [false, true] {
        let outcome = ask(udp("", silence_is_alive), address).await;
        assert_outcome(&outcome, Verdict::Unhealthy, "connection refused");
    }
}
