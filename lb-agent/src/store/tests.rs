use std::{
    io::{BufRead as _, BufReader},
    net::IpAddr,
    process::{Command, Stdio},
};

use super::*;
use lb_model::intent::{Change, RealSpec, VipSpec};

fn vip(text: &str, reals: u8) -> Vip {
    let address: VipKey = text.parse().unwrap();
    Vip {
        address,
        spec: VipSpec {
            slots: Some(512),
            ..VipSpec::default()
        },
        reals: (1..=reals)
            .map(|last| {
                (
                    IpAddr::from([10, 1, 0, last]).into(),
                    RealSpec {
                        weight: u32::from(last),
                        drained: last % 2 == 0,
                        ..RealSpec::default()
                    },
                )
            })
            .collect(),
    }
}

#[test]
fn what_was_stored_comes_back() {
    let directory = tempfile::tempdir().unwrap();
    let (one, two) = (vip("10.0.0.1:80/tcp", 3), vip("[2001:db8::1]:0/udp", 0));
    let mut store = Store::open(directory.path()).unwrap();
    assert!(store.load().unwrap().is_empty());
    store
        .commit([(one.address, Some(&one)), (two.address, Some(&two))])
        .unwrap();
    drop(store);

    let mut store = Store::open(directory.path()).unwrap();
    assert_eq!(
        store.load().unwrap(),
        [one.clone(), two.clone()].into_iter().collect()
    );
    store.commit([(one.address, None)]).unwrap();
    drop(store);
    assert_eq!(
        Store::open(directory.path()).unwrap().load().unwrap(),
        [two].into_iter().collect()
    );
    let files: Vec<_> = fs::read_dir(directory.path())
        .unwrap()
        .map(|file| file.unwrap().file_name())
        .collect();
    assert_eq!(
        files,
        [Store::FILE],
        "nothing else is left in the directory"
    );
}

#[test]
fn a_store_in_use_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let _first = Store::open(directory.path()).unwrap();
    assert!(matches!(
        Store::open(directory.path()),
        Err(StoreError::InUse { .. })
    ));
}

#[test]
fn another_schema_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    drop(Store::open(directory.path()).unwrap());
    let path = directory.path().join(Store::FILE);
    let set = |schema: Option<u64>| {
        let database = Database::open(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        match schema {
            Some(schema) => drop(
                transaction
                    .open_table(META)
                    .unwrap()
                    .insert(SCHEMA_KEY, schema)
                    .unwrap(),
            ),
            None => assert!(transaction.delete_table(META).unwrap()),
        }
        transaction.commit().unwrap();
    };
    set(Some(SCHEMA + 1));
    let error = Store::open(directory.path()).unwrap_err().to_string();
    assert!(
        error.contains("has schema 3, this agent knows 2"),
        "{error}"
    );
    set(None);
    let error = Store::open(directory.path()).unwrap_err().to_string();
    assert!(error.contains("has schema unknown"), "{error}");
}

#[test]
fn a_file_that_is_no_database_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(
        directory.path().join(Store::FILE),
        b"something else altogether",
    )
    .unwrap();
    assert!(matches!(
        Store::open(directory.path()),
        Err(StoreError::Database {
            operation: "opening",
            ..
        })
    ));
}

#[test]
fn a_record_that_cannot_be_read_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let transaction = store.database.as_ref().unwrap().begin_write().unwrap();
    transaction
        .open_table(VIPS)
        .unwrap()
        .insert("10.0.0.1:80/tcp", b"{}".as_slice())
        .unwrap();
    transaction.commit().unwrap();
    let error = store.load().unwrap_err().to_string();
    assert!(
        error.contains("10.0.0.1:80/tcp") && error.contains("missing field"),
        "{error}"
    );
}

/// Set in the child of the test below: where its store is.
const CHILD: &str = "LB_STORE_TEST_CHILD";

/// Stores VIPs one after the other and says so after each commit, until it is killed.
#[test]
fn child_that_stores_until_it_is_killed() {
    let Some(directory) = std::env::var_os(CHILD) else {
        return;
    };
    let mut store = Store::open(Path::new(&directory)).unwrap();
    let mut intent = store.load().unwrap();
    for port in intent.len().. {
        let name: VipKey = format!("10.0.0.1:{port}/tcp").parse().unwrap();
        let vip = Change::AddVip {
            vip: name,
            patch: Default::default(),
        }
        .apply(&intent, &KINDS)
        .unwrap();
        store.commit([(name, vip.as_deref())]).unwrap();
        intent.replace(name, vip);
        println!("stored {port}");
    }
}

#[test]
fn a_killed_process_loses_nothing_that_it_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let mut stored_before = 0;
    for round in 0..4u32 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "store::tests::child_that_stores_until_it_is_killed",
                "--nocapture",
            ])
            .env(CHILD, directory.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut last = None;
        // Killed in the middle of its work, at another place each round.
        let mut wanted = 5 + round * 7;
        for line in &mut lines {
            if let Some((_, port)) = line.unwrap().split_once("stored ") {
                last = Some(port.parse::<usize>().unwrap());
                wanted -= 1;
                if wanted == 0 {
                    break;
                }
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What it said before it died, too.
        for line in lines.map_while(Result::ok) {
            if let Some((_, port)) = line.split_once("stored ") {
                last = Some(port.parse().unwrap());
            }
        }
        let last = last.expect("the child stored something");
        let intent = Store::open(directory.path()).unwrap().load().unwrap();
        for port in 0..=last {
            assert!(
                intent
                    .get(&format!("10.0.0.1:{port}/tcp").parse().unwrap())
                    .is_some(),
                "VIP {port} is lost"
            );
        }
        assert!(last > stored_before);
        stored_before = last;
    }
}

/// Records that the last build with schema 1 wrote for the VIPs of `vips.toml`.
const RECORDS: &str = include_str!("schema_1/records.txt");

/// A store of schema 1 with these records, a key and a value on each line.
fn schema_1(directory: &Path, records: &str) {
    drop(Store::open(directory).unwrap());
    let database = Database::open(directory.join(Store::FILE)).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction
        .open_table(META)
        .unwrap()
        .insert(SCHEMA_KEY, PREVIOUS_SCHEMA)
        .unwrap();
    for record in records.lines() {
        let (vip, json) = record.split_once(' ').unwrap();
        transaction
            .open_table(VIPS)
            .unwrap()
            .insert(vip, json.as_bytes())
            .unwrap();
    }
    transaction.commit().unwrap();
}

#[test]
fn records_of_schema_1_are_converted() {
    let directory = tempfile::tempdir().unwrap();
    schema_1(directory.path(), RECORDS);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/schema_1/vips.toml");
    let mut intent = Intent::default();
    for change in crate::config::Config::read(&file).unwrap().changes() {
        let vip = change.apply(&intent, &KINDS).unwrap();
        intent.replace(*change.vip(), vip);
    }
    assert_eq!(intent.len(), RECORDS.lines().count());
    let loaded = Store::open(directory.path()).unwrap().load().unwrap();
    for (vip, loaded) in intent.vips().zip(loaded.vips()) {
        // Schema 1 stored defaults that depend on other settings.
        assert_eq!(vip.window(), loaded.window(), "{}", vip.address);
        let mut loaded = Vip::clone(loaded);
        loaded.spec.window = vip.spec.window;
        if let (Some(check), Some(stored)) = (&vip.spec.check, &mut loaded.spec.check) {
            assert_eq!(check.timeout(), stored.timeout());
            assert_eq!(check.fast_interval(), stored.fast_interval());
            (stored.timeout, stored.fast_interval) = (check.timeout, check.fast_interval);
        }
        for (source, stored) in vip.spec.load.iter().zip(&mut loaded.spec.load) {
            let interval = lb_clients::load::reader::interval;
            assert_eq!(source.name(), stored.name());
            assert_eq!(interval(source), interval(stored));
            assert_eq!(
                source.timeout(interval(source)),
                stored.timeout(interval(stored))
            );
            stored.name.clone_from(&source.name);
            (stored.interval, stored.timeout) = (source.interval, source.timeout);
        }
        assert_eq!(vip.spec.shed.timeout(), loaded.spec.shed.timeout());
        loaded.spec.shed.timeout = vip.spec.shed.timeout;
        assert_eq!(**vip, loaded);
    }
    // Once only: the next start finds this schema.
    let store = Store::open(directory.path()).unwrap();
    assert_eq!(store.check_schema().unwrap(), SCHEMA);
}

#[test]
fn a_record_of_schema_1_that_cannot_be_converted_is_named() {
    let directory = tempfile::tempdir().unwrap();
    schema_1(directory.path(), "10.0.0.1:80/tcp {\"forward\":\"ipip\"}");
    let error = Store::open(directory.path()).unwrap_err().to_string();
    assert!(
        error.contains("10.0.0.1:80/tcp") && error.contains("window_ms"),
        "{error}"
    );
}
