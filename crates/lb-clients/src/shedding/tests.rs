//! Servers that shed, asked on the loopback.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
};

use lb_model::settings::{SettingType as _, Settings as _};

use super::*;

/// For what must happen; not a measure of time.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server that answers these one after the other, the last for ever, and what it was asked.
struct Server {
    address: SocketAddr,
    asked: mpsc::UnboundedReceiver<String>,
}

impl Server {
    async fn start(answers: &'static [&'static str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, asked) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut answers = answers.iter();
            let mut answer = answers.next().unwrap();
            while let Ok((mut stream, _)) = listener.accept().await {
                let request = read_request(&mut stream).await;
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = sender.send(request);
                answer = answers.next().unwrap_or(answer);
            }
        });
        Server { address, asked }
    }

    async fn next(&mut self) -> String {
        timeout(PATIENCE, self.asked.recv())
            .await
            .expect("it is asked in time")
            .unwrap()
    }

    fn shedder(&self, text: &str) -> Shedder {
        let text = format!("{text}\nport = {}", self.address.port());
        Shedder::start(
            &read(&text).unwrap(),
            "10.0.0.1:1883/tcp".parse().unwrap(),
            self.address.ip().into(),
        )
        .unwrap()
    }
}

async fn read_request(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    loop {
        let mut piece = [0; 4_096];
        let read = stream.read(&mut piece).await.unwrap();
        bytes.extend_from_slice(&piece[..read]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let whole = text.split_once("\r\n\r\n").is_some_and(|(head, body)| {
            let length = head
                .to_ascii_lowercase()
                .lines()
                .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok())
                .unwrap_or(0);
            body.len() >= length
        });
        if whole || read == 0 {
            return text;
        }
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
const BROKEN: &str = "HTTP/1.1 500 Oh\r\ncontent-length: 4\r\n\r\noops";
const ALREADY: &str = "HTTP/1.1 400 Bad Request\r\ncontent-length: 15\r\n\r\nalready_started";

fn read(text: &str) -> Result<Shedding, FieldError> {
    let table: serde_json::Map<String, serde_json::Value> = toml::from_str(text).unwrap();
    normalize(&Shedding::from_json(&table.into())?)
}

fn request(flows: u32, is_drained: bool) -> ShedRequest {
    ShedRequest {
        flows,
        is_drained,
        rate: 50.0,
    }
}

#[tokio::test]
async fn a_web_hook_is_told_how_many_and_only_when_there_are_any() {
    let mut server = Server::start(&[BROKEN, OK]).await;
    let shedder = server.shedder("by = 'webhook'\npath = '/shed?of={real}'");
    assert!(shedder.shed(request(0, false)));
    // If it were told of none, that would be asked first.
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert!(shedder.shed(request(7, false)));
    let asked = server.next().await;
    assert!(
        asked.starts_with("POST /shed?of=127.0.0.1 HTTP/1.1\r\n"),
        "{asked}"
    );
    let body: serde_json::Value =
        serde_json::from_str(asked.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(
        body,
        serde_json::json!({ "vip": "10.0.0.1:1883/tcp", "real": "127.0.0.1", "flows": 7 })
    );
    // That it failed does not end it.
    assert!(shedder.shed(request(3, true)));
    assert!(
        server
            .next()
            .await
            .ends_with("\"vip\":\"10.0.0.1:1883/tcp\"}")
    );
}

#[tokio::test]
async fn emqx_evacuates_what_is_drained_and_stops_when_it_is_not() {
    let mut server = Server::start(&[BROKEN, ALREADY, OK]).await;
    let shedder = server.shedder("by = 'emqx'");
    let start = "POST /api/v5/load_rebalance/emqx@127.0.0.1/evacuation/start HTTP/1.1\r\n";
    // What is not drained is the data plane's.
    assert!(!shedder.shed(request(7, false)));
    assert!(shedder.shed(request(0, true)));
    assert!(server.next().await.starts_with(start));
    // It failed, so it is asked again; that it runs already is fine.
    assert!(shedder.shed(request(0, true)));
    let asked = server.next().await;
    assert!(asked.starts_with(start), "{asked}");
    assert!(asked.contains("\"conn_evict_rate\":50"), "{asked}");
    // Now it is known to run, and is ended once.
    assert!(!shedder.shed(request(0, false)));
    let asked = server.next().await;
    assert!(asked.contains("/evacuation/stop HTTP/1.1"), "{asked}");
}

#[tokio::test]
async fn the_data_plane_needs_nobody() {
    let vip = "10.0.0.1:1883/tcp".parse().unwrap();
    assert!(Shedder::start(&Shedding::default(), vip, "10.1.0.2".parse().unwrap()).is_none());
}

#[test]
fn what_is_written_is_read() {
    for text in [
        "by = 'reset'",
        "by = 'webhook'\nport = 8080",
        "by = 'webhook'\nport = 8080\npath = '/shed'\naddress = '10.0.0.9'\ntoken = 'env:T'\ntimeout = '5s'",
        "by = 'emqx'\nusername = 'key'\npassword = 'file:/etc/lb/key'\ntls = { ca = '/ca' }",
        "by = 'emqx'\nnode = 'emqx@{real}'\nport = 1",
    ] {
        let shedding = read(text).unwrap();
        let written = toml::to_string(&shedding).unwrap();
        assert_eq!(read(&written).as_ref(), Ok(&shedding), "{written}");
        let words = WAYS.write_words(&shedding.to_map(), &Shedding::fields());
        let map = WAYS.read_words(&words, &Shedding::fields()).unwrap();
        let again = normalize(&Shedding::from_json(&map.into()).unwrap());
        assert_eq!(again, Ok(shedding), "{words}");
    }
}

#[test]
fn what_is_left_out_has_its_default() {
    let real = "10.1.0.2".parse().unwrap();
    let plain = read("by = 'emqx'").unwrap();
    assert_eq!(plain.port, Some(18_083));
    let node = plain.way.read::<emqx::Emqx>().unwrap().node;
    assert_eq!(
        super::Server::new(&plain, real).fill(&node),
        "emqx@10.1.0.2"
    );
    assert_eq!(plain.timeout(), Duration::from_secs(2));
    assert_eq!(read("by = 'emqx'\ntls = {}").unwrap().port, Some(18_084));
    assert_eq!(read(""), Ok(Shedding::default()));
}

#[test]
fn what_cannot_be_is_named() {
    for (text, field) in [
        ("by = 'hammer'", "by"),
        ("by = 'reset'\nport = 1", "port"),
        ("by = 'webhook'", "port"),
        ("by = 'webhook'\nport = 70000", "port"),
        ("by = 'webhook'\nport = 1\nnode = 'x'", "node"),
        ("by = 'webhook'\nport = 1\npath = 'x'", "path"),
        ("by = 'webhook'\nport = 1\naddress = 'x'", "address"),
        ("by = 'webhook'\nport = 1\ntimeout = '1h'", "timeout"),
        ("by = 'webhook'\nport = 1\nusername = 'x'", "password"),
        ("by = 'webhook'\nport = 1\ntoken = 'hunter2'", "token"),
        ("by = 'reset'\ntoken = 'hunter2'", "token"),
        ("by = 'emqx'\npath = '/x'", "path"),
        ("by = 'emqx'\nnode = 'a/b'", "node"),
        ("by = 'emqx'\ntls = { ca = 'x' }", "tls.ca"),
        (
            "by = 'emqx'\ntls = { server_name = 'a b' }",
            "tls.server_name",
        ),
    ] {
        let error = read(text).expect_err(text);
        assert_eq!(error.field, field, "{text}: {error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}
