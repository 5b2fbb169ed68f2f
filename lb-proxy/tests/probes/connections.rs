//! TLS, the PROXY protocol, plain TCP, and the end of a proxy.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    path::Path,
    sync::{Arc, atomic::Ordering::SeqCst},
    thread,
    time::Duration,
};

use lb_proxy::{config::Config, trouble::Kind};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};

use crate::support::{Instance, PATIENCE, Proxy, answer, configuration, get, wait_until};

/// Writes a certificate for a name, and its key. Returns the settings that name them, and the certificate.
fn certificate(folder: &Path, file: &str, name: &str) -> (String, CertificateDer<'static>) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let (certificate, key) = (
        folder.join(format!("{file}.pem")),
        folder.join(format!("{file}.key")),
    );
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let settings = format!(
        "{{ certificate = \"{}\", key = \"{}\" }}",
        certificate.display(),
        key.display()
    );
    let der = CertificateDer::from_pem_slice(made.cert.pem().as_bytes()).unwrap();
    (settings, der)
}

struct Trust(Vec<CertificateDer<'static>>);

impl Trust {
    /// Shakes hands for a name. Returns the certificate that the proxy has shown, and the connection.
    fn connect(
        &self,
        proxy: &Proxy,
        name: &str,
        alpn: &[&str],
    ) -> std::io::Result<StreamOwned<ClientConnection, TcpStream>> {
        let mut roots = RootCertStore::empty();
        for certificate in &self.0 {
            roots.add(certificate.clone()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let connection = ClientConnection::new(Arc::new(config), name).unwrap();
        let stream = TcpStream::connect(proxy.address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut stream = StreamOwned::new(connection, stream);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(stream)
    }
}

fn ask(stream: &mut StreamOwned<ClientConnection, TcpStream>) -> String {
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

#[test]
fn each_name_has_its_certificate_and_a_reload_swaps_them() {
    let folder = tempfile::tempdir().unwrap();
    let instance = Instance::fine();
    let (first, first_der) = certificate(folder.path(), "a", "a.test");
    let (second, second_der) = certificate(folder.path(), "b", "b.test");
    let listener = format!("certificates = [{first}, {second}]");
    let text = configuration(&[instance.address], "", &listener);
    let proxy = Proxy::start(&text);
    let trust = Trust(vec![first_der.clone(), second_der.clone()]);
    for (name, expected) in [("a.test", &first_der), ("b.test", &second_der)] {
        let mut stream = trust.connect(&proxy, name, &["http/1.1"]).unwrap();
        assert_eq!(&stream.conn.peer_certificates().unwrap()[0], expected);
        assert!(ask(&mut stream).ends_with("fine"));
    }
    assert_eq!(
        instance.received()[0].header("x-forwarded-proto"),
        Some("https")
    );
    // HTTP/2 is agreed on if the client can.
    let stream = trust
        .connect(&proxy, "a.test", &["h2", "http/1.1"])
        .unwrap();
    assert_eq!(stream.conn.alpn_protocol(), Some(&b"h2"[..]));

    let mut open = trust.connect(&proxy, "a.test", &[]).unwrap();
    let (_, renewed_der) = certificate(folder.path(), "a", "a.test");
    let config = || Config::parse(&text, Path::new("test")).unwrap();
    proxy.server.reload(config()).unwrap();
    let renewed = Trust(vec![renewed_der]);
    assert!(renewed.connect(&proxy, "a.test", &[]).is_ok());
    assert!(trust.connect(&proxy, "a.test", &[]).is_err());
    assert!(
        ask(&mut open).ends_with("fine"),
        "an open connection goes on"
    );
    // A key that does not belong to the certificate changes nothing.
    std::fs::copy(folder.path().join("b.key"), folder.path().join("a.key")).unwrap();
    assert!(proxy.server.reload(config()).is_err());
    assert!(renewed.connect(&proxy, "a.test", &[]).is_ok());
}

#[test]
fn a_handshake_that_does_not_come_is_ended() {
    let folder = tempfile::tempdir().unwrap();
    let (first, _) = certificate(folder.path(), "a", "a.test");
    let listener = format!("certificates = [{first}]\nhead_timeout = \"200ms\"");
    let proxy = Proxy::to(&[], "", &listener);
    proxy.client().closed();
}

#[test]
fn instances_are_asked_over_tls() {
    let folder = tempfile::tempdir().unwrap();
    let (settings, _) = certificate(folder.path(), "a", "a.test");
    let instance = Instance::fine();
    // The instance with TLS is another proxy.
    let inner = Proxy::to(
        &[instance.address],
        "",
        &format!("certificates = [{settings}]"),
    );
    let ca = folder.path().join("a.pem");
    for (name, protocol, status) in [
        ("a.test", "http1", 200),
        ("a.test", "http2", 200),
        ("b.test", "http1", 502),
    ] {
        let service = format!(
            "protocol = \"{protocol}\"\ntls = {{ ca = \"{}\", server_name = \"{name}\" }}",
            ca.display()
        );
        let proxy = Proxy::to(&[inner.address], &service, "");
        assert_eq!(proxy.ask(&get("/")).status, status, "{name} {protocol}");
    }
}

#[test]
fn a_ca_file_that_cannot_be_read_is_no_fault_of_instances() {
    let folder = tempfile::tempdir().unwrap();
    let (settings, _) = certificate(folder.path(), "a", "a.test");
    let instance = Instance::fine();
    let listener = format!("certificates = [{settings}]");
    let inner = Proxy::to(&[instance.address], "", &listener);
    let (ca, away) = (folder.path().join("a.pem"), folder.path().join("away"));
    // Each request takes a connection of its own, and one failure would be enough.
    let service = format!(
        "max_idle = 0\neject_after = 1\ntls = {{ ca = \"{}\", server_name = \"a.test\" }}",
        ca.display()
    );
    let text = configuration(&[inner.address], &service, "");
    let proxy = Proxy::start(&text);
    let blamed = |proxy: &Proxy| {
        let entries = proxy.service("s").entries();
        let faults = entries
            .iter()
            .flat_map(|entry| &entry.instance.totals.faults);
        faults.map(|count| count.load(SeqCst)).sum::<u64>()
    };
    assert_eq!(proxy.ask(&get("/")).status, 200);
    assert_eq!(proxy.server.shared().warnings(), [""; 0]);

    // What was read before is used, also after a reload of other settings.
    std::fs::rename(&ca, &away).unwrap();
    assert_eq!(proxy.ask(&get("/")).status, 200);
    let warnings = proxy.server.shared().warnings();
    assert!(
        warnings.len() == 1 && warnings[0].contains(&ca.display().to_string()),
        "{warnings:?}"
    );
    let changed = text.replace("max_idle = 0", "max_idle = 0\nretries = 1");
    let config = Config::parse(&changed, Path::new("test")).unwrap();
    proxy.server.reload(config).unwrap();
    assert_eq!(proxy.ask(&get("/")).status, 200);
    assert_eq!(blamed(&proxy), 0);

    // Without anything read before, requests are not sent, until the file is there.
    let proxy = Proxy::start(&text);
    for _ in 0..3 {
        let answer = proxy.ask(&get("/"));
        assert_eq!(answer.status, 503);
        assert!(
            answer.text().contains("this proxy lacks"),
            "{}",
            answer.text()
        );
    }
    assert_eq!(blamed(&proxy), 0);
    assert_eq!(proxy.service("s").entries()[0].instance.latency(), None);
    assert!(proxy.server.shared().troubles.count(Kind::TlsFiles) >= 3);
    std::fs::rename(&away, &ca).unwrap();
    assert_eq!(proxy.ask(&get("/")).status, 200);
}

#[test]
fn the_client_is_who_the_proxy_header_names() {
    let instance = Instance::fine();
    let proxy = Proxy::to(
        &[instance.address],
        "",
        "proxy_protocol = true\nhead_timeout = \"300ms\"",
    );
    let mut client = proxy.client();
    client.send(lb_proxy::proxy_protocol::header(
        "192.0.2.7:4000".parse().unwrap(),
        "198.51.100.1:80".parse().unwrap(),
    ));
    assert_eq!(client.ask(&get("/")).status, 200);
    assert_eq!(
        instance.received()[0].header("x-forwarded-for"),
        Some("192.0.2.7")
    );
    // Without the header there is no answer.
    let mut client = proxy.client();
    client.send(get("/"));
    assert_eq!(client.answer(false).status, 0);
    proxy.client().closed();
    assert_eq!(instance.count(), 1);
}

#[test]
fn instances_get_the_proxy_header() {
    // The instance that reads the header is another proxy.
    let instance = Instance::fine();
    let inner = Proxy::to(&[instance.address], "", "proxy_protocol = true");
    let proxy = Proxy::to(
        &[inner.address],
        "send_proxy = true",
        "proxy_protocol = true",
    );
    for client in ["192.0.2.7:4000", "[2001:db8::7]:4001"] {
        let mut stream = proxy.client();
        let client: std::net::SocketAddr = client.parse().unwrap();
        stream.send(lb_proxy::proxy_protocol::header(client, proxy.address));
        assert_eq!(stream.ask(&get("/")).status, 200);
        let received = instance.received();
        let expected = client.ip().to_string();
        assert_eq!(
            received.last().unwrap().header("x-forwarded-for"),
            Some(expected.as_str())
        );
    }
}

#[test]
fn plain_tcp_passes_whatever_it_is() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut all = Vec::new();
            stream.read_to_end(&mut all).unwrap();
            all.reverse();
            stream.write_all(&all).unwrap();
        }
    });
    let refusing = {
        let gone = TcpListener::bind("127.0.0.1:0").unwrap();
        gone.local_addr().unwrap()
    };
    let text = configuration(
        &[refusing, address],
        "retry_budget = 100",
        "protocol = \"tcp\"\nservice = \"s\"",
    );
    let proxy = Proxy::start(&text);
    for _ in 0..4 {
        let mut stream = TcpStream::connect(proxy.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"\0abc").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut back = Vec::new();
        stream.read_to_end(&mut back).unwrap();
        assert_eq!(back, b"cba\0");
    }
}

#[test]
fn a_proxy_that_ends_answers_what_it_has() {
    let instance = Instance::start(|received| {
        if received.path() == "/slow" {
            thread::sleep(Duration::from_millis(500));
        }
        answer("200 OK", "", "fine")
    });
    let proxy = Proxy::to(&[instance.address], "", "");
    let mut idle = proxy.client();
    assert_eq!(idle.ask(&get("/")).status, 200);
    let mut busy = proxy.client();
    busy.send(get("/slow"));
    wait_until("the instance has it", || instance.count() == 2);
    let address = proxy.address;
    thread::scope(|scope| {
        let drained = scope.spawn(|| {
            proxy.server.begin_drain();
            wait_until("no connection is open", || proxy.server.open() == 0);
        });
        let answer = busy.answer(false);
        assert_eq!((answer.status, answer.text().as_str()), (200, "fine"));
        assert_eq!(answer.header("connection"), Some("close"));
        busy.closed();
        // A request on a connection that was idle is answered, too.
        let answer = idle.ask(&get("/"));
        assert_eq!(
            (answer.status, answer.header("connection")),
            (200, Some("close"))
        );
        drained.join().unwrap();
    });
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn connections_above_the_limit_wait() {
    let instance = Instance::fine();
    let text = format!(
        "max_connections = 2\n{}",
        configuration(&[instance.address], "", "")
    );
    let proxy = Proxy::start(&text);
    let mut first = proxy.client();
    let mut second = proxy.client();
    assert_eq!(first.ask(&get("/")).status, 200);
    assert_eq!(second.ask(&get("/")).status, 200);
    let mut third = proxy.client();
    third.send(get("/"));
    third
        .stream
        .get_mut()
        .set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    assert_eq!(third.answer(false).status, 0);
    third
        .stream
        .get_mut()
        .set_read_timeout(Some(PATIENCE))
        .unwrap();
    drop(first);
    assert_eq!(third.answer(false).status, 200);
}
