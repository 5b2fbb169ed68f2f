//! The embedded server, asked by `dig`, by a resolver and by a secondary server.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use anyhow::Context as _;
use lb_dns::{Addresses, DnsSpec, Serial, Server, SharedZone, Zone};
use lb_tests::{Namespace, server::NameServer, wait_for};
use serde_json::json;
use tokio::sync::watch;

use super::fixture::{ZONE, addresses, record, spec};

/// How long a change may take to be seen.
const PATIENCE: Duration = Duration::from_secs(30);
/// The address of the embedded server in its namespace.
const SERVER: &str = "192.0.2.53";

/// The embedded server in a namespace.
struct Testbed {
    namespace: Namespace,
    zone: SharedZone,
    stop: watch::Sender<bool>,
    thread: Option<std::thread::JoinHandle<anyhow::Result<()>>>,
}

fn served(settings: serde_json::Value) -> DnsSpec {
    let mut all = json!({
        "listen": [format!("{SERVER}:53")],
        "name_servers": { "ns1.lb.example.com": [SERVER] },
        "ttl": "1s",
        "negative_ttl": "1s",
    });
    for (name, value) in settings.as_object().unwrap() {
        all[name] = value.clone();
    }
    spec(all)
}

impl Testbed {
    fn start(settings: serde_json::Value) -> anyhow::Result<Self> {
        let namespace = Namespace::new("dns")?;
        for address in [SERVER, "192.0.2.9"] {
            namespace.sh(&format!("ip address add {address}/32 dev lo"))?;
        }
        let spec = served(settings);
        let mut zone = Zone::new(&spec, Serial::new(1));
        zone.set(
            &record("web.shop"),
            &addresses(&["198.51.100.1", "2001:db8::1"]),
        )?;
        let zone = SharedZone::new(zone);
        let (stop, stopping) = watch::channel(false);
        let shared = zone.clone();
        let inside = namespace.clone();
        let (ready, bound) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            inside.block_on(async move {
                let server = Server::bind(&spec, shared)?;
                ready.send(server.addresses())?;
                Ok(server.run(stopping).await?)
            })
        });
        let addresses: Vec<SocketAddr> = bound.recv().context("the server does not listen")?;
        assert_eq!(addresses, [format!("{SERVER}:53").parse()?]);
        Ok(Testbed {
            namespace,
            zone,
            stop,
            thread: Some(thread),
        })
    }

    fn set(&self, name: &str, texts: &[&str]) -> anyhow::Result<()> {
        let mut zone = (*self.zone.load()).clone();
        zone.set(&record(name), &addresses(texts))?;
        self.zone.publish(zone);
        Ok(())
    }

    fn dig(&self, server: &str, words: &str) -> anyhow::Result<String> {
        self.namespace.sh(&format!("dig @{server} {words}"))
    }

    /// Returns the addresses of `web.shop` by way of another server, without an error before it has some.
    fn addresses_at(&self, server: &str) -> anyhow::Result<BTreeSet<String>> {
        let text = self.dig(server, &format!("+short web.shop.{ZONE} A"))?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    fn wait_addresses(&self, server: &str, expected: &[&str]) -> anyhow::Result<()> {
        let expected: BTreeSet<String> = expected.iter().map(|text| (*text).to_owned()).collect();
        wait_for("the addresses", PATIENCE, || {
            let found = self.addresses_at(server)?;
            anyhow::ensure!(found == expected, "it has {found:?}");
            Ok(Some(()))
        })
    }

    fn stop(mut self) -> anyhow::Result<()> {
        self.stop.send(true)?;
        let thread = self.thread.take().context("it was stopped before")?;
        thread
            .join()
            .map_err(|_| anyhow::anyhow!("the server panicked"))?
    }
}

pub fn dig_gets_each_kind_of_answer() -> anyhow::Result<()> {
    let testbed = Testbed::start(json!({}))?;
    let name = format!("web.shop.{ZONE}");
    let cases = [
        (
            format!("{name} A"),
            &[
                "status: NOERROR",
                "flags: qr aa rd;",
                "ANSWER: 1",
                "198.51.100.1",
            ][..],
        ),
        (
            format!("+tcp {name} AAAA"),
            &["status: NOERROR", "2001:db8::1", "(TCP)"],
        ),
        (
            format!("{name} MX"),
            &["status: NOERROR", "ANSWER: 0", "AUTHORITY: 1", "SOA"],
        ),
        (
            format!("shop.{ZONE} A"),
            &["status: NOERROR", "ANSWER: 0", "SOA"],
        ),
        (format!("none.{ZONE} A"), &["status: NXDOMAIN", "SOA"]),
        (
            format!("{ZONE} SOA"),
            &["ns1.lb.example.com. hostmaster.lb.example.com. 2 60 30 604800 1"],
        ),
        (
            format!("{ZONE} NS"),
            &["IN\tNS\tns1.lb.example.com.", "ADDITIONAL: 2", SERVER],
        ),
        (
            "example.com A".to_owned(),
            &["status: REFUSED", "flags: qr rd;"],
        ),
        (format!("{ZONE} AXFR"), &["Transfer failed."]),
        ("version.bind CH TXT".to_owned(), &["status: REFUSED"]),
        (format!("+opcode=update {name} A"), &["status: NOTIMP"]),
        (
            format!("+noedns {name} A"),
            &["ADDITIONAL: 0", "status: NOERROR"],
        ),
        (
            format!("+edns=1 +noednsnegotiation {name} A"),
            &["status: BADVERS", "EDNS: version: 0"],
        ),
        (
            format!("+dnssec {name} A"),
            &["flags: do; udp: 1232", "198.51.100.1"],
        ),
        (
            "WeB.sHoP.lB.eXaMpLe.CoM A".to_owned(),
            &["WeB.sHoP.lB.eXaMpLe.CoM. 1\tIN\tA\t198.51.100.1"],
        ),
    ];
    for (words, expected) in cases {
        let text = testbed.dig(SERVER, &words)?;
        for part in expected {
            anyhow::ensure!(text.contains(part), "dig {words}: no {part:?} in {text}");
        }
        // What dig says of an answer that it does not like.
        for bad in ["malformed", "mismatch", "Warning"] {
            anyhow::ensure!(!text.contains(bad), "dig {words}: {text}");
        }
    }
    testbed.stop()
}

pub fn a_truncated_answer_is_asked_for_again_by_tcp() -> anyhow::Result<()> {
    let testbed = Testbed::start(json!({}))?;
    let many: Addresses = (1..=150_u8)
        .map(|last| [203, 0, 113, last].into())
        .collect();
    let mut zone = (*testbed.zone.load()).clone();
    zone.set(&record("many.shop"), &many)?;
    testbed.zone.publish(zone);
    let text = testbed.dig(SERVER, &format!("many.shop.{ZONE} A"))?;
    assert!(text.contains("Truncated, retrying in TCP mode"), "{text}");
    assert!(text.contains("ANSWER: 150"), "{text}");
    testbed.stop()
}

pub fn a_resolver_follows_a_delegation_and_changes() -> anyhow::Result<()> {
    let testbed = Testbed::start(json!({}))?;
    let resolver = NameServer::start_bind_with(
        &testbed.namespace,
        "zone \"example.com\" { type primary; file \"zone.db\"; };\n",
        &[(
            "zone.db",
            "$ORIGIN example.com.\n$TTL 300\n@ SOA ns hostmaster 1 3600 600 86400 5\n@ NS ns\nns A 192.0.2.9\n\
             lb NS ns1.lb\nns1.lb A 192.0.2.53\n",
        )],
    )?;
    testbed.wait_addresses("127.0.0.1", &["198.51.100.1"])?;
    testbed.set("web.shop", &["198.51.100.7", "198.51.100.8"])?;
    testbed.wait_addresses("127.0.0.1", &["198.51.100.7", "198.51.100.8"])?;
    // A name that did not exist is found once the negative answer is too old.
    let text = testbed.dig("127.0.0.1", &format!("api.shop.{ZONE} A"))?;
    assert!(text.contains("NXDOMAIN"), "{text}");
    testbed.set("api.shop", &["198.51.100.9"])?;
    wait_for("the new name", PATIENCE, || {
        let text = testbed.dig("127.0.0.1", &format!("+short api.shop.{ZONE} A"))?;
        Ok((text.trim() == "198.51.100.9").then_some(()))
    })?;
    drop(resolver);
    testbed.stop()
}

pub fn a_secondary_follows_the_zone() -> anyhow::Result<()> {
    let testbed =
        Testbed::start(json!({ "transfer": ["192.0.2.9"], "refresh": "1s", "retry": "1s" }))?;
    let secondary = NameServer::start_bind_with(
        &testbed.namespace,
        "zone \"lb.example.com\" { type secondary; file \"copy.db\"; primaries { 192.0.2.53; }; \
         transfer-source 192.0.2.9; min-refresh-time 1; min-retry-time 1; max-refresh-time 1; };\n",
        &[],
    )?;
    testbed.wait_addresses("127.0.0.1", &["198.51.100.1"])?;
    testbed.set("web.shop", &["198.51.100.7"])?;
    testbed.wait_addresses("127.0.0.1", &["198.51.100.7"])?;
    testbed.set("web.shop", &[])?;
    testbed.wait_addresses("127.0.0.1", &[])?;
    drop(secondary);
    testbed.stop()
}
