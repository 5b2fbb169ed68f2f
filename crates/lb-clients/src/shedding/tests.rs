//! Whoever sheds, asked on loopback.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
};

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
                let request = request(&mut stream).await;
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
        let by: ShedBy = toml::from_str(&text).unwrap();
        Shedder::start(&by, "10.0.0.1:1883/tcp".parse().unwrap(), self.address.ip()).unwrap()
    }
}

async fn request(stream: &mut TcpStream) -> String {
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

fn order(flows: u32, drained: bool) -> Order {
    Order {
        flows,
        drained,
        rate: 50.0,
    }
}

#[tokio::test]
async fn a_web_hook_is_told_how_many_and_only_when_there_are_any() {
    let mut server = Server::start(&[BROKEN, OK]).await;
    let shedder = server.shedder("by = 'webhook'\npath = '/shed?of={real}'");
    assert!(shedder.order(order(0, false)));
    // If it were told of none, that would be asked first.
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert!(shedder.order(order(7, false)));
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
    assert!(shedder.order(order(3, true)));
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
    assert!(!shedder.order(order(7, false)));
    assert!(shedder.order(order(0, true)));
    assert!(server.next().await.starts_with(start));
    // It failed, so it is asked again; that it runs already is fine.
    assert!(shedder.order(order(0, true)));
    let asked = server.next().await;
    assert!(asked.starts_with(start), "{asked}");
    assert!(asked.contains("\"conn_evict_rate\":50"), "{asked}");
    // Now it is known to run, and is ended once.
    assert!(!shedder.order(order(0, false)));
    let asked = server.next().await;
    assert!(asked.contains("/evacuation/stop HTTP/1.1"), "{asked}");
}

#[tokio::test]
async fn the_data_plane_needs_nobody() {
    let vip = "10.0.0.1:1883/tcp".parse().unwrap();
    assert!(Shedder::start(&ShedBy::Reset, vip, "10.1.0.2".parse().unwrap()).is_none());
}
