//! Names as members: a server of names whose answers change.

use std::{
    net::{IpAddr, SocketAddr, TcpListener, UdpSocket},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use lb_proxy::service::Service;

use crate::support::{Control, Instance, Proxy, get, wait_until};

const A: u16 = 1;
const AAAA: u16 = 28;

/// What a server says of a name.
#[derive(Clone, Debug)]
enum Says {
    /// These addresses, for so many seconds.
    Addresses(Vec<IpAddr>, u32),
    /// There is no such name.
    Nothing,
    /// It does not know.
    Fails,
    /// No answer.
    Silence,
}

/// A server of one name over UDP.
struct NameServer {
    address: SocketAddr,
    says: Arc<Mutex<Says>>,
    questions: Arc<AtomicUsize>,
    stopped: Arc<AtomicBool>,
}

impl NameServer {
    fn start(says: Says) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(100)))
            .unwrap();
        let server = NameServer {
            address: socket.local_addr().unwrap(),
            says: Arc::new(Mutex::new(says)),
            questions: Arc::default(),
            stopped: Arc::default(),
        };
        let (says, questions, stopped) = (
            Arc::clone(&server.says),
            Arc::clone(&server.questions),
            Arc::clone(&server.stopped),
        );
        thread::spawn(move || {
            let mut buffer = [0; 1_500];
            while !stopped.load(SeqCst) {
                let Ok((length, peer)) = socket.recv_from(&mut buffer) else {
                    continue;
                };
                questions.fetch_add(1, SeqCst);
                let says = says.lock().unwrap_or_else(PoisonError::into_inner).clone();
                if let Some(answer) = answer(&buffer[..length], &says) {
                    let _ = socket.send_to(&answer, peer);
                }
            }
        });
        server
    }

    fn says(&self, says: Says) {
        *self.says.lock().unwrap_or_else(PoisonError::into_inner) = says;
    }

    fn questions(&self) -> usize {
        self.questions.load(SeqCst)
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.stopped.store(true, SeqCst);
    }
}

/// The answer to a question (RFC 1035 section 4).
fn answer(question: &[u8], says: &Says) -> Option<Vec<u8>> {
    let mut end = 12;
    while question[end] != 0 {
        end += usize::from(question[end]) + 1;
    }
    let kind = u16::from_be_bytes([question[end + 1], question[end + 2]]);
    let end = end + 5;
    let (addresses, ttl, code): (&[IpAddr], u32, u8) = match says {
        Says::Addresses(addresses, ttl) => (addresses, *ttl, 0),
        Says::Nothing => (&[], 0, 3),
        Says::Fails => (&[], 0, 2),
        Says::Silence => return None,
    };
    let records: Vec<Vec<u8>> = addresses
        .iter()
        .filter_map(|address| match (address, kind) {
            (IpAddr::V4(address), A) => Some(address.octets().to_vec()),
            (IpAddr::V6(address), AAAA) => Some(address.octets().to_vec()),
            _ => None,
        })
        .collect();
    let mut answer = question[..2].to_vec();
    // A response with authority, to one question.
    answer.extend([0x85, 0x80 | code, 0, 1, 0, records.len() as u8, 0, 0, 0, 0]);
    answer.extend(&question[12..end]);
    for record in records {
        // The name is that of the question.
        answer.extend([0xc0, 12]);
        answer.extend(kind.to_be_bytes());
        answer.extend([0, 1]);
        answer.extend(ttl.to_be_bytes());
        answer.extend((record.len() as u16).to_be_bytes());
        answer.extend(record);
    }
    Some(answer)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Instances at the same port of two addresses of this host.
fn two_instances() -> (Instance, Instance, u16) {
    for _ in 0..100 {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let other = SocketAddr::from(([127, 0, 0, 2], port));
        if TcpListener::bind(other).is_ok() {
            let one = Instance::at(([127, 0, 0, 1], port).into(), "one");
            return (one, Instance::at(other, "two"), port);
        }
    }
    panic!("there is no port that is free at both addresses");
}

fn configuration(server: &NameServer, service: &str) -> String {
    format!(
        "resolvers = [\"{}\"]\n[[listener]]\naddress = \"127.0.0.1:0\"\n[[route]]\nservice = \"s\"\n[[service]]\nname = \"s\"\n\
         choice = \"round-robin\"\nslow_start = \"0s\"\n{service}\n",
        server.address
    )
}

fn addresses(service: &Service) -> Vec<String> {
    let entries = service.entries();
    let texts = entries
        .iter()
        .map(|entry| format!("{} {}", entry.instance.address.ip(), entry.member.weight));
    texts.collect()
}

#[test]
fn the_addresses_of_a_name_are_followed() {
    let (one, two, port) = two_instances();
    let server = NameServer::start(Says::Nothing);
    let member = format!("[[service.member]]\naddress = \"Backend.internal:{port}\"\nweight = 7");
    let proxy = Proxy::start(&configuration(&server, &member));
    let control = Control::over(&proxy);
    let service = proxy.service("s");
    let warnings = || proxy.server.shared().warnings();
    // A name that does not exist yet does not keep the proxy from starting.
    wait_until("that is said", || !warnings().is_empty());
    let text = warnings()[0].clone();
    assert!(
        text.contains("the name backend.internal cannot be resolved since")
            && text.contains("NXDOMAIN")
            && text.contains("it has no addresses"),
        "{text}"
    );
    assert_eq!(proxy.ask(&get("/")).status, 503);

    server.says(Says::Addresses(vec![ip("127.0.0.1")], 0));
    wait_until("it has an address", || {
        addresses(&service) == ["127.0.0.1 7"]
    });
    assert_eq!(warnings(), [""; 0]);
    assert_eq!(proxy.ask(&get("/")).text(), "one");
    let instance = Arc::clone(&service.entries()[0].instance);

    // Another one joins it; what nobody can connect to is left out.
    let both = vec![ip("0.0.0.0"), ip("127.0.0.2"), ip("127.0.0.1")];
    server.says(Says::Addresses(both, 0));
    wait_until("it has two", || {
        addresses(&service) == ["127.0.0.1 7", "127.0.0.2 7"]
    });
    assert!(Arc::ptr_eq(&instance, &service.entries()[0].instance));
    for _ in 0..10 {
        assert_eq!(proxy.ask(&get("/")).status, 200);
    }
    assert_eq!((one.count(), two.count()), (6, 5));

    // Whatever the server does then, the last ones are kept.
    for (says, words) in [
        (Says::Fails, "Server Failure"),
        (Says::Nothing, "NXDOMAIN"),
        (Says::Silence, "timed out"),
    ] {
        server.says(says.clone());
        let lost = || {
            let warnings = warnings();
            warnings
                .iter()
                .any(|text| text.to_lowercase().contains(&words.to_lowercase()))
        };
        wait_until(words, lost);
        assert!(
            warnings()[0].ends_with("its last 2 addresses are kept"),
            "{says:?}"
        );
        assert_eq!(addresses(&service).len(), 2, "{says:?}");
        assert_eq!(proxy.ask(&get("/")).status, 200);
    }

    // A reload keeps them, too, and asks another server.
    let other = NameServer::start(Says::Addresses(vec![ip("127.0.0.2")], 300));
    control.reload(&proxy, &configuration(&other, &member));
    assert!(Arc::ptr_eq(&instance, &service.entries()[0].instance));
    wait_until("one is gone", || addresses(&service) == ["127.0.0.2 7"]);
    assert_eq!(warnings(), [""; 0]);
    assert_eq!(proxy.ask(&get("/")).text(), "two");

    // What is fresh for long is not asked for again: two questions, perhaps repeated once.
    let asked = other.questions();
    control.reload(
        &proxy,
        &configuration(&other, &member).replace("weight = 7", "weight = 8"),
    );
    assert_eq!(addresses(&service), ["127.0.0.2 8"]);
    thread::sleep(Duration::from_millis(1_500));
    assert_eq!(other.questions(), asked);
    // A name that goes takes its addresses along.
    let fixed = format!("[[service.member]]\naddress = \"127.0.0.1:{port}\"");
    control.reload(&proxy, &configuration(&other, &fixed));
    assert_eq!(addresses(&service), ["127.0.0.1 100"]);
    assert_eq!(proxy.ask(&get("/")).text(), "one");
}

#[test]
fn names_of_a_file_of_members_are_followed_and_checked() {
    let (one, two, port) = two_instances();
    let both = vec![ip("127.0.0.1"), ip("127.0.0.2"), ip("127.0.0.3")];
    let server = NameServer::start(Says::Addresses(both, 1));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("s.members");
    std::fs::write(&file, "backend.internal 5\n").unwrap();
    let more = format!(
        "members_file = \"{}\"\nport = {port}\ncheck = {{ kind = \"tcp\", interval = \"100ms\" }}",
        file.display()
    );
    let proxy = Proxy::start(&configuration(&server, &more));
    let _control = Control::over(&proxy);
    let service = proxy.service("s");
    wait_until(
        "they have addresses, and nobody listens at one of these",
        || service.entries().len() == 3 && service.eligible() == 2,
    );
    for _ in 0..4 {
        assert_eq!(proxy.ask(&get("/")).status, 200);
    }
    assert!(one.count() >= 2 && two.count() >= 2);
    // The state of one that stays is kept when another one goes.
    server.says(Says::Addresses(vec![ip("127.0.0.1"), ip("127.0.0.3")], 1));
    wait_until("one is gone", || service.entries().len() == 2);
    assert_eq!(service.eligible(), 1);
    std::fs::write(&file, format!("127.0.0.2:{port}\n")).unwrap();
    wait_until("the file has another", || {
        addresses(&service) == ["127.0.0.2 100"]
    });
    assert!(service.names().is_empty());
}

#[test]
fn a_name_of_the_hosts_file_needs_no_server() {
    let instance = Instance::fine();
    let text = format!(
        "[[listener]]\naddress = \"127.0.0.1:0\"\n[[route]]\nservice = \"s\"\n[[service]]\nname = \"s\"\n\
         [[service.member]]\naddress = \"localhost:{}\"\n",
        instance.address.port()
    );
    let proxy = Proxy::start(&text);
    let _control = Control::over(&proxy);
    let service = proxy.service("s");
    wait_until("it has its address", || {
        let addresses = addresses(&service);
        addresses.contains(&"127.0.0.1 100".to_owned())
    });
    // It may have an address of IPv6 as well, at which nobody listens.
    assert_eq!(proxy.ask(&get("/")).text(), "fine");
}
