//! The server over sockets, with hickory's client and with bytes.

#![expect(clippy::unwrap_used, reason = "a failure fails the test")]

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures::StreamExt as _;
use hickory_net::{
    client::{Client, ClientHandle as _},
    runtime::TokioRuntimeProvider,
    tcp::TcpClientStream,
    udp::UdpClientStream,
};
use hickory_proto::{
    op::ResponseCode,
    rr::{DNSClass, Name, RecordType},
};
use lb_dns::{
    Addresses, Counters, DnsSpec, RecordName, Serial, ServeError, Server, SharedZone, Zone,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
    sync::watch,
    task::JoinHandle,
    time::timeout,
};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);
const WEB: &str = "web.shop.lb.example.com.";

/// A server that runs.
struct Testbed {
    address: SocketAddr,
    zone: SharedZone,
    counters: Arc<Counters>,
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<(), ServeError>>,
}

fn spec(settings: &[(&str, serde_json::Value)]) -> DnsSpec {
    let mut map = serde_json::json!({
        "zone": "lb.example.com",
        "listen": ["127.0.0.1:53"],
        "name_servers": { "ns1.lb.example.com": ["192.0.2.53"] },
    });
    for (name, value) in settings {
        map[*name] = value.clone();
    }
    lb_model::settings::from_map(map.as_object().unwrap()).unwrap()
}

fn record(name: &str) -> RecordName {
    name.parse().unwrap()
}

fn addresses(texts: &[&str]) -> Addresses {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

impl Testbed {
    fn start(settings: &[(&str, serde_json::Value)]) -> Self {
        Self::start_on("127.0.0.1:0", settings)
    }

    fn start_on(listen: &str, settings: &[(&str, serde_json::Value)]) -> Self {
        let spec = spec(settings);
        let mut zone = Zone::new(&spec, Serial::new(7));
        zone.set(&record("web.shop"), &addresses(&["192.0.2.1", "192.0.2.2"]))
            .unwrap();
        let many: Addresses = (0..100_u8)
            .map(|last| IpAddr::from([192, 0, 2, last]))
            .collect();
        zone.set(&record("many.shop"), &many).unwrap();
        let zone = SharedZone::new(zone);
        let server = Server::bind_to(&[listen.parse().unwrap()], &spec, zone.clone()).unwrap();
        let (stop, stopping) = watch::channel(false);
        Testbed {
            address: server.addresses()[0],
            zone,
            counters: server.counters(),
            stop,
            task: tokio::spawn(server.run(stopping)),
        }
    }

    async fn udp(&self) -> Client<TokioRuntimeProvider> {
        let stream =
            UdpClientStream::builder(self.address, TokioRuntimeProvider::default()).build();
        let (client, background) = Client::from_sender(stream);
        tokio::spawn(background);
        client
    }

    async fn tcp(&self) -> Client<TokioRuntimeProvider> {
        let provider = TokioRuntimeProvider::default();
        let (stream, sender) = TcpClientStream::new(self.address, None, Some(PATIENCE), provider);
        let (client, background) = Client::new(stream.await.unwrap(), sender);
        tokio::spawn(background);
        client
    }

    async fn stop(self) {
        self.stop.send(true).unwrap();
        timeout(PATIENCE, self.task)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
    }
}

async fn ask(
    client: &mut Client<TokioRuntimeProvider>,
    name: &str,
) -> hickory_proto::op::DnsResponse {
    let name = Name::from_ascii(name).unwrap();
    client
        .query(name, DNSClass::IN, RecordType::A)
        .await
        .unwrap()
}

/// A query as bytes, for connections that a client library would not make.
fn query() -> Vec<u8> {
    let mut message = hickory_proto::op::Message::query();
    message.add_query(hickory_proto::op::Query::query(
        Name::from_ascii(WEB).unwrap(),
        RecordType::A,
    ));
    message.to_vec().unwrap()
}

fn framed() -> Vec<u8> {
    let query = query();
    let mut bytes = u16::try_from(query.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend(query);
    bytes
}

async fn read_answer(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut bytes = vec![0; usize::from(length)];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

#[tokio::test]
async fn both_transports_answer_from_the_zone_as_it_is() {
    let testbed = Testbed::start(&[]);
    for mut client in [testbed.udp().await, testbed.tcp().await] {
        let answer = ask(&mut client, WEB).await;
        assert!(answer.metadata.authoritative && !answer.metadata.recursion_available);
        let found: BTreeSet<_> = answer
            .answers
            .iter()
            .map(|one| one.data.to_string())
            .collect();
        assert_eq!(found, ["192.0.2.1", "192.0.2.2"].map(str::to_owned).into());
        let answer = ask(&mut client, "none.shop.lb.example.com.").await;
        assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain);
        assert!(answer.soa().is_some());
        let answer = ask(&mut client, "example.org.").await;
        assert_eq!(answer.metadata.response_code, ResponseCode::Refused);
    }
    let mut zone = (*testbed.zone.load()).clone();
    zone.set(&record("web.shop"), &addresses(&["192.0.2.9"]))
        .unwrap();
    testbed.zone.publish(zone);
    let answer = ask(&mut testbed.udp().await, WEB).await;
    assert_eq!(answer.answers[0].data.to_string(), "192.0.2.9");
    let counts = testbed.counters.read();
    assert_eq!((counts.noerror, counts.nxdomain, counts.refused), (3, 2, 2));
    assert_eq!((counts.udp_messages, counts.tcp_messages), (4, 3));
    testbed.stop().await;
}

#[tokio::test]
async fn a_truncated_answer_is_whole_by_tcp() {
    let testbed = Testbed::start(&[]);
    let answer = ask(&mut testbed.udp().await, "many.shop.lb.example.com.").await;
    assert!(answer.metadata.truncation);
    let answer = ask(&mut testbed.tcp().await, "many.shop.lb.example.com.").await;
    assert!(!answer.metadata.truncation);
    assert_eq!(answer.answers.len(), 100);
    testbed.stop().await;
}

#[tokio::test]
async fn a_transfer_is_refused_unless_it_is_permitted() {
    let origin = Name::from_ascii("lb.example.com.").unwrap();
    let testbed = Testbed::start(&[]);
    let mut transfer = testbed.tcp().await.zone_transfer(origin.clone(), None);
    let first = transfer.next().await.unwrap();
    let refused = match first {
        Ok(answer) => answer.metadata.response_code == ResponseCode::Refused,
        Err(_) => true,
    };
    assert!(refused);
    assert_eq!(testbed.counters.read().refused, 1);
    testbed.stop().await;
    let testbed = Testbed::start(&[("transfer", serde_json::json!(["127.0.0.1"]))]);
    let mut transfer = testbed.tcp().await.zone_transfer(origin, None);
    let mut records = Vec::new();
    while let Some(answer) = transfer.next().await {
        records.extend(answer.unwrap().answers.clone());
    }
    assert_eq!(records, testbed.zone.load().transfer().collect::<Vec<_>>());
    testbed.stop().await;
}

#[tokio::test]
async fn a_socket_for_all_addresses_answers_from_the_one_that_was_asked() {
    for (listen, ask_at) in [
        ("0.0.0.0:0", "127.0.0.77"),
        ("0.0.0.0:0", "127.0.0.1"),
        ("[::]:0", "::1"),
    ] {
        let testbed = Testbed::start_on(listen, &[]);
        let server = SocketAddr::new(ask_at.parse().unwrap(), testbed.address.port());
        let client = UdpSocket::bind((server.ip(), 0)).await.unwrap();
        // A connected socket gets nothing that comes from another address.
        client.connect(server).await.unwrap();
        client.send(&query()).await.unwrap();
        let mut buffer = [0; 1_500];
        timeout(PATIENCE, client.recv(&mut buffer))
            .await
            .unwrap()
            .unwrap();
        testbed.stop().await;
    }
}

#[tokio::test]
async fn connections_have_limits() {
    // 16 in all, and 2 for one client.
    let limits = [("tcp_connections", serde_json::json!(16))];
    let testbed = Testbed::start(&limits);
    let connect = async || {
        let mut stream = TcpStream::connect(testbed.address).await.unwrap();
        // Whether it was accepted shows in an answer.
        let answer = match stream.write_all(&framed()).await {
            Ok(()) => timeout(PATIENCE, read_answer(&mut stream)).await.unwrap(),
            Err(error) => Err(error),
        };
        (stream, answer.is_ok())
    };
    let (first, served) = connect().await;
    assert!(served);
    let (_second, served) = connect().await;
    assert!(served);
    assert!(!connect().await.1);
    let counts = testbed.counters.read();
    assert_eq!((counts.tcp_connections, counts.tcp_refused), (2, 1));
    drop(first);
    let until = tokio::time::Instant::now() + PATIENCE;
    while !connect().await.1 {
        assert!(
            tokio::time::Instant::now() < until,
            "a place is not given back"
        );
    }
    testbed.stop().await;
}

#[tokio::test]
async fn a_silent_connection_is_closed_and_a_busy_one_is_not() {
    let testbed = Testbed::start(&[("tcp_idle", serde_json::json!("100ms"))]);
    let mut silent = TcpStream::connect(testbed.address).await.unwrap();
    assert!(timeout(PATIENCE, silent.read_u8()).await.unwrap().is_err());
    let mut stream = TcpStream::connect(testbed.address).await.unwrap();
    // Several questions at once are answered in their order.
    let questions = [framed(), framed(), framed()].concat();
    stream.write_all(&questions).await.unwrap();
    for _ in 0..3 {
        timeout(PATIENCE, read_answer(&mut stream))
            .await
            .unwrap()
            .unwrap();
    }
    // What is no question ends the connection.
    let mut stream = TcpStream::connect(testbed.address).await.unwrap();
    stream.write_all(&[0, 3, 1, 2, 3]).await.unwrap();
    assert!(timeout(PATIENCE, stream.read_u8()).await.unwrap().is_err());
    testbed.stop().await;
}

#[tokio::test]
async fn a_flood_is_answered_in_part_and_without_records() {
    let testbed = Testbed::start(&[("queries_per_second", serde_json::json!(10))]);
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    client.connect(testbed.address).await.unwrap();
    let mut buffer = [0; 1_500];
    let (mut whole, mut truncated) = (0, 0);
    for _ in 0..100 {
        client.send(&query()).await.unwrap();
        let before = testbed.counters.read();
        // Each query is answered or counted as ignored before the next one.
        loop {
            if let Ok(length) = client.try_recv(&mut buffer) {
                let answer = hickory_proto::op::Message::from_vec(&buffer[..length]).unwrap();
                if answer.metadata.truncation {
                    truncated += 1;
                } else {
                    whole += 1;
                }
            }
            if testbed.counters.read().udp_messages > before.udp_messages {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    let counts = testbed.counters.read();
    assert!(counts.limited > 0, "{counts:?}");
    assert!(whole >= 10 && truncated > 0, "{whole} {truncated}");
    assert_eq!(counts.limited + counts.noerror, 100, "{counts:?}");
    // By TCP, whose clients have shown their address, it is answered.
    assert!(!ask(&mut testbed.tcp().await, WEB).await.answers.is_empty());
    testbed.stop().await;
}

#[tokio::test]
async fn an_address_that_is_taken_is_an_error_that_says_so() {
    let testbed = Testbed::start(&[]);
    let zone = testbed.zone.clone();
    let error = Server::bind_to(&[testbed.address], &spec(&[]), zone)
        .unwrap_err()
        .to_string();
    let words = format!("listening on {} (TCP) for DNS failed", testbed.address);
    assert!(
        error.starts_with(&words) && error.contains("dns.listen"),
        "{error}"
    );
    testbed.stop().await;
}

#[tokio::test]
async fn the_end_frees_the_addresses_and_finishes_answers() {
    let testbed = Testbed::start(&[]);
    let (address, zone) = (testbed.address, testbed.zone.clone());
    let mut idle = TcpStream::connect(address).await.unwrap();
    idle.write_all(&framed()).await.unwrap();
    read_answer(&mut idle).await.unwrap();
    testbed.stop().await;
    assert!(timeout(PATIENCE, idle.read_u8()).await.unwrap().is_err());
    Server::bind_to(&[address], &spec(&[]), zone).unwrap();
}
