//! Bad input: a probe ends, says why, and holds little.

use std::{sync::atomic::Ordering, time::Duration};

use super::{
    peer::{counts, goes_on, nobody, read_some, says, serve},
    *,
};

const PAUSE: Duration = Duration::from_millis(20);

#[tokio::test]
async fn nobody_listens() {
    for probe in talkers().into_iter().chain([tcp()]) {
        let outcome = ask(probe, nobody()).await;
        assert_outcome(&outcome, Verdict::Unhealthy, "connection refused");
    }
}

/// TCP does not go to a broadcast address: the kernel says so without sending anything, so no real is to blame.
#[tokio::test]
async fn no_way_leads_there() {
    let outcome = ask(tcp(), "255.255.255.255:80".parse().unwrap()).await;
    assert_outcome(
        &outcome,
        Verdict::Inconclusive,
        "this host: finding a route",
    );
}

/// A closed connection leaves no port behind: its peer sees a reset and not a goodbye.
#[tokio::test]
async fn a_connection_is_reset_at_its_end() {
    let (sender, mut ends) = tokio::sync::mpsc::unbounded_channel();
    let address = serve(move |mut stream| {
        let sender = sender.clone();
        async move {
            let end = tokio::io::AsyncReadExt::read(&mut stream, &mut [0]).await;
            let _ = sender.send(end.map_err(|error| error.kind()));
        }
    })
    .await;
    assert_outcome(&ask(tcp(), address).await, Verdict::Healthy, "connected");
    let end = tokio::time::timeout(NEVER, ends.recv()).await.unwrap();
    assert_eq!(end, Some(Err(std::io::ErrorKind::ConnectionReset)));
}

/// As a stopped process does.
#[tokio::test]
async fn accepted_and_silent() {
    for probe in talkers() {
        let address = serve(|stream| async move {
            tokio::time::sleep(NEVER).await;
            drop(stream);
        })
        .await;
        let tcp = ask(tcp(), address).await;
        assert_outcome(&tcp, Verdict::Healthy, "connected");
        let outcome = ask_within(probe, address, TIMEOUT).await;
        assert_outcome(&outcome, Verdict::Unhealthy, "timed out after 400ms");
        assert!(outcome.latency >= TIMEOUT, "{outcome:?}");
    }
}

#[tokio::test]
async fn closed_at_once() {
    for probe in talkers() {
        let address = serve(|mut stream| async move {
            read_some(&mut stream).await;
        })
        .await;
        let outcome = ask(probe, address).await;
        assert_outcome(&outcome, Verdict::Unhealthy, "the connection while");
    }
}

#[tokio::test]
async fn reset() {
    for probe in talkers() {
        let address = serve(|mut stream| async move {
            read_some(&mut stream).await;
            stream.set_zero_linger().unwrap();
        })
        .await;
        let outcome = ask(probe, address).await;
        assert_outcome(&outcome, Verdict::Unhealthy, "reset the connection while");
    }
}

#[tokio::test]
async fn byte_by_byte() {
    for (probe, start, then) in [
        (http(), &b"HTTP/1.1 200 OK\r\nX: "[..], &b"x"[..]),
        (with_body("never"), b"HTTP/1.1 200 OK\r\n\r\n", b"x"),
        (mqtt(Version::V311), b"\x20\xff\x7f", b"\0"),
        (mqtt(Version::V5), b"\x20\xff\x7f", b"\0"),
        // A SETTINGS frame of 16 KiB.
        (grpc(), b"\x00\x40\x00\x04\x00\x00\x00\x00\x00", b"\0"),
    ] {
        let address = goes_on(start, then, Some(PAUSE)).await;
        let outcome = ask_within(probe, address, TIMEOUT).await;
        assert_outcome(&outcome, Verdict::Unhealthy, "timed out after 400ms");
    }
}

#[tokio::test]
async fn endless() {
    const OK: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";
    const BLOCK: &[u8] = &[b'x'; 1 << 16];
    for (probe, start, then, says) in [
        (
            with_body("never"),
            OK,
            BLOCK,
            "first part of the body does not hold",
        ),
        (with_json(), OK, BLOCK, "longer than 65536 bytes"),
        (
            with_json(),
            b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n",
            BLOCK,
            "longer than 65536 bytes",
        ),
        (
            with_json(),
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            b"1\r\n[\r\n",
            "longer than 65536 bytes",
        ),
        (http(), b"HTTP/1.1 200 OK\r\nX: ", BLOCK, "head is longer"),
        (
            http(),
            b"HTTP/1.1 200 OK\r\n",
            b"X: y\r\n",
            "head is longer",
        ),
        (
            mqtt(Version::V311),
            b"\x20\xff\xff\xff\x7f",
            BLOCK,
            "malformed",
        ),
        (
            mqtt(Version::V5),
            b"\x20\xff\xff\xff\x7f",
            BLOCK,
            "malformed",
        ),
    ] {
        let address = goes_on(start, then, None).await;
        let outcome = ask(probe, address).await;
        assert_outcome(&outcome, Verdict::Unhealthy, says);
    }
    // Its head is all that is read of it.
    let address = goes_on(OK, BLOCK, None).await;
    assert_outcome(&ask(http(), address).await, Verdict::Healthy, "200 OK");
}

#[tokio::test]
async fn a_redirect_that_leads_to_itself_is_asked_once() {
    let (address, count) =
        counts(b"HTTP/1.1 302 Found\r\nlocation: /\r\ncontent-length: 0\r\n\r\n").await;
    let outcome = ask(http(), address).await;
    assert_outcome(
        &outcome,
        Verdict::Unhealthy,
        "302 Found to /, which is not followed",
    );
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn garbage_and_the_protocols_of_others() {
    const HTTP: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
    const SSH: &[u8] = b"SSH-2.0-OpenSSH_9.2\r\n";
    const MQTT: &[u8] = b"\x20\x02\x00\x00";
    const GARBAGE: &[u8] = b"\x01\x02\xff\xfe\0\0\r\n\r\n";
    for (probe, answer, says) in [
        (http(), SSH, "no HTTP/1.1 answer"),
        (http(), MQTT, "protocol: no HTTP"),
        (http(), GARBAGE, "no HTTP/1.1 answer"),
        (mqtt(Version::V311), HTTP, "begins with 0x48"),
        (mqtt(Version::V5), SSH, "begins with 0x53"),
        (mqtt(Version::V5), GARBAGE, "begins with 0x01"),
        (grpc(), HTTP, "no HTTP/2"),
        (grpc(), SSH, "no HTTP/2"),
        (grpc(), MQTT, ""),
        (grpc(), GARBAGE, "no HTTP/2"),
    ] {
        let address = serve_answer(answer).await;
        let outcome = if says.is_empty() {
            // A beginning of something longer: how it ends is not foreseen.
            ask_within(probe, address, TIMEOUT * 5).await
        } else {
            ask(probe, address).await
        };
        assert_outcome(&outcome, Verdict::Unhealthy, says);
    }
}

/// `says` is what the reason must hold there.
async fn serve_answer(answer: &'static [u8]) -> SocketAddr {
    says(answer).await
}

/// What a peer says reaches the operator's terminal: it must not obey it.
#[tokio::test]
async fn reasons_are_harmless() {
    let address = says(b"HTTP/1.1 302 Found\r\nlocation: /\x1b[2J\r\n\r\n").await;
    let outcome = ask(http(), address).await;
    assert_eq!(outcome.verdict, Verdict::Unhealthy);
    assert!(!outcome.reason.contains('\x1b'), "{outcome:?}");
}
