//! Names are pushed to BIND and to Knot.

use std::{
    collections::BTreeMap,
    net::UdpSocket,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use lb_dns::{Addresses, Outcome, Push, PushError, RecordName, Report};
use lb_tests::{
    Namespace,
    server::{NameServer, NameServerKind},
};
use nix::sys::signal::Signal;
use serde_json::json;

use super::fixture::{ZONE, addresses, record, spec};

/// A DNS server in a namespace.
struct Testbed {
    // Dropped before its namespace.
    server: NameServer,
    namespace: Namespace,
}

/// Runs a test with each kind of server, whose zone has these records.
fn with_each(
    records: &str,
    mut test: impl FnMut(&mut Testbed) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    for kind in [NameServerKind::Bind, NameServerKind::Knot] {
        let mut testbed = Testbed::start(kind, ZONE, records, "hmac-sha256")?;
        test(&mut testbed).with_context(|| format!("with {kind:?}"))?;
    }
    Ok(())
}

impl Testbed {
    fn start(
        kind: NameServerKind,
        zone: &str,
        records: &str,
        algorithm: &str,
    ) -> anyhow::Result<Self> {
        let namespace = Namespace::new("dns")?;
        let server = NameServer::start(kind, &namespace, zone, records, algorithm)?;
        Ok(Testbed { server, namespace })
    }

    fn push(&self) -> Push {
        self.push_as("lb", &self.server.key_file("lbkey"), ZONE)
    }

    fn push_as(&self, owner: &str, key_file: &Path, zone: &str) -> Push {
        let spec = spec(json!({
            "zone": zone,
            "push": {
                "server": self.server.address().to_string(),
                "key_file": key_file,
                "owner": owner,
                "timeout": "10s",
            },
        }));
        Push::new(&spec, spec.push.as_ref().unwrap())
    }

    /// Runs a push inside the namespace.
    fn run<T: Send>(
        &self,
        future: impl Future<Output = Result<T, PushError>> + Send,
    ) -> anyhow::Result<T> {
        self.namespace.block_on(async { Ok(future.await?) })
    }

    /// Runs a push that fails.
    fn failure<T: Send>(
        &self,
        future: impl Future<Output = Result<T, PushError>> + Send,
    ) -> anyhow::Result<PushError> {
        self.namespace
            .block_on(async { future.await.err().context("it has not failed") })
    }

    fn set(&self, name: &str, texts: &[&str]) -> anyhow::Result<Outcome> {
        let push = self.push();
        self.run(push.set(&record(name), &addresses(texts)))
    }

    fn reconcile(&self, wanted: &BTreeMap<RecordName, Addresses>) -> anyhow::Result<Report> {
        let push = self.push();
        self.run(push.reconcile(wanted))
    }

    /// Returns the addresses that the server has at names of load balancers.
    fn names(&self) -> anyhow::Result<BTreeMap<RecordName, Addresses>> {
        let mut names: BTreeMap<RecordName, Addresses> = BTreeMap::new();
        for line in self.server.zone(ZONE)? {
            let words: Vec<_> = line.split(' ').collect();
            let [name, _, _, "A" | "AAAA", address] = words[..] else {
                continue;
            };
            let name = name.strip_suffix(".lb.example.com.").context("a name")?;
            if let Ok(name) = name.parse() {
                names.entry(name).or_default().insert(address.parse()?);
            }
        }
        Ok(names)
    }
}

pub fn names_are_made_changed_and_removed() -> anyhow::Result<()> {
    with_each("", |testbed| {
        let server = &testbed.server;
        let before = server.zone(ZONE)?;
        let outcome = testbed.set("web.shop", &["198.51.100.1", "2001:db8::1"])?;
        assert_eq!(outcome, Outcome::Written);
        let name = "web.shop.lb.example.com";
        assert_eq!(server.records(name, "A")?, ["198.51.100.1"]);
        assert_eq!(server.records(name, "AAAA")?, ["2001:db8::1"]);
        let mark = "_lb-owner.web.shop.lb.example.com";
        assert_eq!(server.records(mark, "TXT")?, ["\"lb-dns owner=lb\""]);
        ensure!(
            server
                .zone(ZONE)?
                .contains(&format!("{name}. 30 IN A 198.51.100.1")),
            "the time to live is not that of the settings"
        );
        // What is as it is to be is not written.
        let serial = server.serial(ZONE)?;
        let outcome = testbed.set("web.shop", &["198.51.100.1", "2001:db8::1"])?;
        assert_eq!(outcome, Outcome::Unchanged);
        assert_eq!(server.serial(ZONE)?, serial);
        let outcome = testbed.set("web.shop", &["198.51.100.2", "198.51.100.3"])?;
        assert_eq!(outcome, Outcome::Written);
        assert_eq!(server.records(name, "A")?, ["198.51.100.2", "198.51.100.3"]);
        assert!(server.records(name, "AAAA")?.is_empty());
        let push = testbed.push();
        let listed = testbed.run(push.listed())?;
        assert_eq!(listed, [record("web.shop")].into());
        // Other records at a name that is ours stay.
        server.update(&format!("add {name} 60 TXT hello"))?;
        assert_eq!(
            testbed.run(push.remove(&record("web.shop")))?,
            Outcome::Removed
        );
        assert_eq!(server.records(name, "TXT")?, ["\"hello\""]);
        server.update(&format!("delete {name} TXT"))?;
        assert_eq!(server.zone(ZONE)?, before, "something is left");
        assert_eq!(
            testbed.run(push.remove(&record("web.shop")))?,
            Outcome::Unchanged
        );
        Ok(())
    })
}

pub fn what_is_somebody_elses_is_left_alone() -> anyhow::Result<()> {
    let records = "web.shop A 203.0.113.1\nalias.shop CNAME ns\n_lb-owner.taken.shop TXT \"lb-dns owner=other\"\n\
                   taken.shop A 203.0.113.2\nmail.shop MX 10 ns\nsub NS ns.example.net.\n";
    with_each(records, |testbed| {
        let before = testbed.server.zone(ZONE)?;
        let push = testbed.push();
        let cases = [
            (
                "web.shop",
                "it has addresses that this controller has not made",
            ),
            ("alias.shop", "it is an alias (CNAME)"),
            ("taken.shop", "it is marked as \"lb-dns owner=other\""),
            ("web.sub", "it is delegated to other name servers"),
        ];
        let one = addresses(&["198.51.100.1"]);
        for (name, reason) in cases {
            let error = testbed.failure(push.set(&record(name), &one))?;
            ensure!(
                matches!(&error, PushError::Foreign { what, .. } if what == reason),
                "{name}: {error}"
            );
            ensure!(
                error.to_string().contains("remove these records"),
                "{error}"
            );
            assert_eq!(testbed.run(push.remove(&record(name)))?, Outcome::Unchanged);
        }
        assert_eq!(testbed.server.zone(ZONE)?, before);
        // The others are brought into their state nevertheless. A record of another kind is no obstacle.
        let mut wanted: BTreeMap<_, _> = cases
            .iter()
            .map(|(name, _)| (record(name), one.clone()))
            .collect();
        wanted.insert(record("api.shop"), one.clone());
        wanted.insert(record("mail.shop"), one.clone());
        let report = testbed.reconcile(&wanted)?;
        assert_eq!(
            report.written,
            [record("api.shop"), record("mail.shop")].into()
        );
        assert_eq!(report.failed.len(), cases.len());
        let report = testbed.reconcile(&BTreeMap::new())?;
        assert_eq!(
            report.removed,
            [record("api.shop"), record("mail.shop")].into()
        );
        assert!(report.failed.is_empty());
        assert_eq!(testbed.server.zone(ZONE)?, before);
        Ok(())
    })
}

pub fn of_two_owners_one_gets_a_name() -> anyhow::Result<()> {
    with_each("", |testbed| {
        let key = testbed.server.key_file("lbkey");
        let pushes = ["one", "two"].map(|owner| testbed.push_as(owner, &key, ZONE));
        for round in 0..20 {
            let name = record(&format!("web-{round}.shop"));
            let sets = [addresses(&["198.51.100.1"]), addresses(&["198.51.100.2"])];
            let (first, second) = testbed.namespace.block_on(async {
                Ok(tokio::join!(
                    pushes[0].set(&name, &sets[0]),
                    pushes[1].set(&name, &sets[1])
                ))
            })?;
            let (winner, loser) = match (first, second) {
                (Ok(Outcome::Written), Err(error)) => ("198.51.100.1", error),
                (Err(error), Ok(Outcome::Written)) => ("198.51.100.2", error),
                other => anyhow::bail!("round {round}: {other:?}"),
            };
            ensure!(matches!(loser, PushError::Foreign { .. }), "{loser}");
            let full = format!("{name}.{ZONE}");
            assert_eq!(testbed.server.records(&full, "A")?, [winner]);
        }
        Ok(())
    })
}

/// Asks by UDP for the addresses of `web.shop`, and returns how many there are.
fn count_addresses(socket: &UdpSocket, id: u16) -> anyhow::Result<u16> {
    let mut query = id.to_be_bytes().to_vec();
    query.extend([0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in ["web", "shop", "lb", "example", "com", ""] {
        query.push(u8::try_from(label.len())?);
        query.extend(label.bytes());
    }
    query.extend([0, 1, 0, 1]);
    socket.send(&query)?;
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer)?;
    ensure!(length > 12 && answer[..2] == query[..2], "another answer");
    Ok(u16::from_be_bytes([answer[6], answer[7]]))
}

pub fn a_name_always_has_its_addresses() -> anyhow::Result<()> {
    with_each("", |testbed| {
        testbed.set("web.shop", &["198.51.100.1"])?;
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let observer = testbed.namespace.thread(move || {
            let socket = UdpSocket::bind("127.0.0.1:0")?;
            socket.connect("127.0.0.1:53")?;
            socket.set_read_timeout(Some(Duration::from_secs(10)))?;
            let mut asked = 0_u16;
            while stopped.try_recv().is_err() {
                let count = count_addresses(&socket, asked)?;
                ensure!((1..=2).contains(&count), "{count} addresses");
                asked = asked.wrapping_add(1);
            }
            Ok(asked)
        });
        let push = testbed.push();
        testbed.run(async {
            let name = record("web.shop");
            for _ in 0..50 {
                push.set(&name, &addresses(&["198.51.100.2", "198.51.100.3"]))
                    .await?;
                push.set(&name, &addresses(&["198.51.100.1"])).await?;
            }
            Ok(())
        })?;
        stop.send(())?;
        let asked = observer
            .join()
            .map_err(|_| anyhow::anyhow!("the observer panicked"))??;
        ensure!(asked > 50, "only {asked} questions");
        Ok(())
    })
}

pub fn what_was_lost_or_changed_by_hand_is_brought_back() -> anyhow::Result<()> {
    with_each("", |testbed| {
        let server = &testbed.server;
        let wanted: BTreeMap<_, _> = (1..=12)
            .map(|number| {
                let address = format!("198.51.100.{number}");
                (
                    record(&format!("web-{number}.shop")),
                    addresses(&[&address]),
                )
            })
            .collect();
        let report = testbed.reconcile(&wanted)?;
        assert_eq!(report.written.len(), 12);
        let good = server.zone(ZONE)?;
        let full = |number: u32| format!("web-{number}.shop.{ZONE}");
        let listed = |number: u32| {
            let name = format!("{}.", full(number));
            let line = good
                .iter()
                .find(|line| line.contains(" PTR ") && line.ends_with(&name));
            line.and_then(|line| line.split(' ').next())
                .map(|part| format!("delete {part} PTR {name}"))
                .unwrap()
        };
        let damages = [
            format!("delete {} A", full(1)),
            format!("delete {n} A\nadd {n} 30 A 203.0.113.1", n = full(2)),
            format!("add {} 30 A 203.0.113.1", full(3)),
            format!("add {} 30 AAAA 2001:db8::9", full(4)),
            format!("delete {n} A\nadd {n} 77 A 198.51.100.5", n = full(5)),
            listed(6),
            format!(
                "delete {n} A\ndelete _lb-owner.{n}\n{l}",
                n = full(7),
                l = listed(7)
            ),
            format!("delete {n} A\ndelete _lb-owner.{n}", n = full(8)),
        ];
        for damage in &damages {
            server.update(damage)?;
        }
        let report = testbed.reconcile(&wanted)?;
        ensure!(report.failed.is_empty(), "{report:?}");
        assert_eq!(server.zone(ZONE)?, good);
        let serial = server.serial(ZONE)?;
        let report = testbed.reconcile(&wanted)?;
        assert_eq!((report.unchanged, report.written.len()), (12, 0));
        assert_eq!(server.serial(ZONE)?, serial, "nothing was to be written");
        // A controller that has forgotten what it pushed removes what it does not want any more.
        let fewer: BTreeMap<_, _> = wanted
            .iter()
            .take(3)
            .map(|(n, a)| (n.clone(), a.clone()))
            .collect();
        let report = testbed.reconcile(&fewer)?;
        assert_eq!(report.removed.len(), 9);
        assert_eq!(testbed.names()?, fewer);
        // A name whose mark is gone is not ours: it stays, and is not looked at again.
        let gone = format!("{}.{ZONE}", fewer.keys().next().unwrap());
        server.update(&format!("delete _lb-owner.{gone}"))?;
        let report = testbed.reconcile(&BTreeMap::new())?;
        assert_eq!((report.removed.len(), report.failed.len()), (2, 0));
        assert_eq!(testbed.names()?.len(), 1);
        let push = testbed.push();
        assert!(testbed.run(push.listed())?.is_empty());
        Ok(())
    })
}

pub fn random_histories_converge() -> anyhow::Result<()> {
    with_each("", |testbed| {
        let seed = fastrand::u64(..);
        let mut random = fastrand::Rng::with_seed(seed);
        for round in 0..15 {
            let context = format!("seed {seed}, round {round}");
            let mut wanted = BTreeMap::new();
            for number in 0..6 {
                let texts = ["198.51.100.1", "198.51.100.2", "2001:db8::1", "2001:db8::2"];
                let set: Vec<_> = texts.into_iter().filter(|_| random.bool()).collect();
                if !set.is_empty() {
                    wanted.insert(record(&format!("web-{number}.shop")), addresses(&set));
                }
            }
            // What is lost or edited by hand meanwhile. Addresses without a mark would be somebody else's.
            for _ in 0..random.usize(..4) {
                let name = format!("web-{}.shop.{ZONE}", random.usize(..6));
                let damage = match random.usize(..4) {
                    0 => format!("delete {name} A"),
                    1 => format!("delete {name} AAAA"),
                    2 => {
                        format!("prereq yxrrset _lb-owner.{name} TXT\nadd {name} 60 A 203.0.113.1")
                    }
                    _ => {
                        format!("delete {name} A\ndelete {name} AAAA\ndelete _lb-owner.{name} TXT")
                    }
                };
                // The prerequisite may fail.
                let _ = testbed.server.update(&damage);
            }
            let report = testbed.reconcile(&wanted).context(context.clone())?;
            ensure!(report.failed.is_empty(), "{context}: {report:?}");
            let names = testbed.names()?;
            ensure!(
                names == wanted,
                "{context}: {names:?} instead of {wanted:?}"
            );
            let report = testbed.reconcile(&wanted)?;
            ensure!(
                report.written.is_empty() && report.removed.is_empty(),
                "{context}: {report:?}"
            );
            let push = testbed.push();
            let listed = testbed.run(push.listed())?;
            ensure!(listed.iter().eq(wanted.keys()), "{context}: {listed:?}");
        }
        Ok(())
    })
}

pub fn a_server_that_was_away_gets_what_it_missed() -> anyhow::Result<()> {
    with_each("", |testbed| {
        let mut wanted = BTreeMap::from([
            (record("web.shop"), addresses(&["198.51.100.1"])),
            (record("api.shop"), addresses(&["198.51.100.2"])),
        ]);
        testbed.reconcile(&wanted)?;
        testbed.server.kill()?;
        let push = testbed.push();
        wanted.remove(&record("api.shop"));
        wanted.insert(record("web.shop"), addresses(&["198.51.100.3"]));
        let error = testbed.failure(push.reconcile(&wanted))?;
        ensure!(matches!(error, PushError::Connect { .. }), "{error}");
        testbed.server.run()?;
        // An acknowledged update survives.
        assert_eq!(testbed.names()?.len(), 2);
        testbed.reconcile(&wanted)?;
        assert_eq!(testbed.names()?, wanted);
        Ok(())
    })
}

pub fn names_in_a_larger_zone_are_pushed_to_it() -> anyhow::Result<()> {
    for kind in [NameServerKind::Bind, NameServerKind::Knot] {
        let testbed = Testbed::start(kind, "example.com", "www A 203.0.113.1", "hmac-sha256")?;
        let before = testbed.server.zone("example.com")?;
        assert_eq!(
            testbed.set("web.shop", &["198.51.100.1"])?,
            Outcome::Written
        );
        let name = "web.shop.lb.example.com";
        assert_eq!(testbed.server.records(name, "A")?, ["198.51.100.1"]);
        testbed.reconcile(&BTreeMap::new())?;
        assert_eq!(testbed.server.zone("example.com")?, before);
    }
    Ok(())
}

pub fn each_algorithm_works() -> anyhow::Result<()> {
    for kind in [NameServerKind::Bind, NameServerKind::Knot] {
        for algorithm in ["hmac-sha384", "hmac-sha512"] {
            let testbed = Testbed::start(kind, ZONE, "", algorithm)?;
            let outcome = testbed.set("web.shop", &["198.51.100.1"])?;
            assert_eq!(outcome, Outcome::Written, "{kind:?} {algorithm}");
        }
    }
    Ok(())
}

pub fn each_refusal_says_what_to_do() -> anyhow::Result<()> {
    with_each("", |testbed| {
        let before = testbed.server.zone(ZONE)?;
        let folder = tempfile::tempdir()?;
        let key = |name: &str, secret: &str| -> anyhow::Result<_> {
            let path = folder.path().join(name);
            let secret = secret.repeat(43);
            std::fs::write(&path, format!("hmac-sha256:{name}:{secret}=\n"))?;
            Ok(path)
        };
        let wrong = key("lbkey", "A")?;
        let unknown = key("nobody", "A")?;
        let good = testbed.server.key_file("lbkey");
        let cases = [
            (
                testbed.push_as("lb", &wrong, ZONE),
                "has another secret for the key lbkey (BADSIG)",
            ),
            (
                testbed.push_as("lb", &unknown, ZONE),
                "does not accept the key nobody (BADKEY)",
            ),
            (
                testbed.push_as("lb", &testbed.server.key_file("idle"), ZONE),
                "permit",
            ),
            (
                testbed.push_as("lb", &good, "lb.example.org"),
                "is not the primary server of lb.example.org",
            ),
            (
                testbed.push_as("lb", Path::new("/there/is/none"), ZONE),
                "the key file /there/is/none cannot be used",
            ),
        ];
        for (push, words) in &cases {
            let error =
                testbed.failure(push.set(&record("web.shop"), &addresses(&["198.51.100.1"])))?;
            ensure!(
                error.to_string().contains(words),
                "{words}: {error} {error:?}"
            );
        }
        // All names are refused: that is said once, and not tried for each. A key that may not update the zone gets REFUSED
        // of BIND and BADKEY of Knot.
        let wanted: BTreeMap<_, _> = (0..40)
            .map(|number| {
                (
                    record(&format!("web-{number}.shop")),
                    addresses(&["198.51.100.1"]),
                )
            })
            .collect();
        let error = testbed.failure(cases[2].0.reconcile(&wanted))?;
        ensure!(
            matches!(error, PushError::Refused { .. } | PushError::BadKey { .. }),
            "{error}"
        );
        assert_eq!(testbed.server.zone(ZONE)?, before);
        // A server that hangs.
        let spec = spec(json!({
            "push": { "server": "127.0.0.1:53", "key_file": good, "timeout": "300ms" },
        }));
        let push = Push::new(&spec, spec.push.as_ref().unwrap());
        testbed.server.signal(Signal::SIGSTOP)?;
        let begin = Instant::now();
        let error = testbed.failure(push.set(&record("web.shop"), &addresses(&["198.51.100.1"])));
        let waited = begin.elapsed();
        testbed.server.signal(Signal::SIGCONT)?;
        let error = error?;
        ensure!(matches!(error, PushError::Timeout { .. }), "{error}");
        ensure!(waited >= Duration::from_millis(300), "{waited:?}");
        Ok(())
    })
}

pub fn many_names_are_reconciled() -> anyhow::Result<()> {
    with_each("", |testbed| {
        let wanted: BTreeMap<_, _> = (0..400_u32)
            .map(|number| {
                let name = record(&format!("balancer-{number}.project-{}", number % 10));
                let v4 = format!("10.1.{}.{}", number / 200, number % 200 + 1);
                (name, addresses(&[&v4, "2001:db8::1"]))
            })
            .collect();
        let begin = Instant::now();
        let report = testbed.reconcile(&wanted)?;
        let written = begin.elapsed();
        ensure!(report.failed.is_empty(), "{:?}", report.failed);
        assert_eq!(report.written.len(), 400);
        assert_eq!(testbed.names()?, wanted);
        let begin = Instant::now();
        let report = testbed.reconcile(&wanted)?;
        assert_eq!(report.unchanged, 400);
        println!(
            "400 names written in {written:?}, compared in {:?}",
            begin.elapsed()
        );
        Ok(())
    })
}
