use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader},
    net::IpAddr,
    process::{Command, Stdio},
};

use lb_model::intent::{Change, Owner, Real, RealSpec, VipSpec, Writer};
use lb_model::vip::RealId;

use super::*;
use crate::weights::{Steered, SteeredReal};

fn vip(text: &str, reals: u8) -> Vip {
    let address: VipKey = text.parse().unwrap();
    let real = |last: u8| {
        let spec = RealSpec {
            weight: u32::from(last),
            drained: last.is_multiple_of(2),
            ..RealSpec::default()
        };
        let owner = if last == 1 { Owner::File } else { Owner::Api };
        (IpAddr::from([10, 1, 0, last]).into(), Real { owner, spec })
    };
    let spec = VipSpec {
        slots: Some(512),
        ..VipSpec::default()
    };
    Vip {
        reals: (1..=reals).map(real).collect(),
        ..Vip::new(address, "controller:web".parse().unwrap(), spec)
    }
}

/// A write of a VIP whose record is stored like this.
fn write(vip: &Vip, stored: Stored) -> Write<'_> {
    Write {
        name: vip.address,
        vip: Some(vip),
        stored,
    }
}

/// The VIPs at these revisions.
fn at<const N: usize>(vips: [(&Vip, u64); N]) -> Intent {
    let vips = vips.into_iter().map(|(vip, revision)| Vip {
        revision,
        ..vip.clone()
    });
    vips.collect()
}

#[test]
fn what_was_stored_comes_back() {
    let directory = tempfile::tempdir().unwrap();
    let (one, two) = (vip("10.0.0.1:80/tcp", 3), vip("[2001:db8::1]:0/udp", 0));
    let mut state = State::open(directory.path()).unwrap();
    assert!(state.intent.load().unwrap().is_empty());
    let both = [write(&one, Stored::Absent), write(&two, Stored::Absent)];
    assert_eq!(state.intent.commit(both).unwrap(), Revision(1));
    drop(state);

    let mut state = State::open(directory.path()).unwrap();
    assert_eq!(state.intent.load().unwrap(), at([(&one, 1), (&two, 1)]));
    let deletion = Write {
        name: one.address,
        vip: None,
        stored: Stored::At(Revision(1)),
    };
    state.intent.commit([deletion]).unwrap();
    assert_eq!(
        state.intent.changed_since(Revision(1)).unwrap(),
        [one.address]
    );
    drop(state);
    let state = State::open(directory.path()).unwrap();
    assert_eq!(state.intent.load().unwrap(), at([(&two, 1)]));
    assert_eq!(state.intent.revision(), Revision(2));
    let files = fs::read_dir(directory.path()).unwrap();
    let mut files: Vec<_> = files.map(|file| file.unwrap().file_name()).collect();
    files.sort();
    assert_eq!(
        files,
        [IntentStore::FILE, LearnedStore::FILE],
        "nothing else is left in the directory"
    );
}

#[test]
fn a_record_that_changed_meanwhile_is_not_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    let one = vip("10.0.0.1:80/tcp", 1);
    let mut state = State::open(directory.path()).unwrap();
    state.intent.commit([write(&one, Stored::Absent)]).unwrap();
    for stored in [Stored::Absent, Stored::At(Revision(7))] {
        let error = state.intent.commit([write(&one, stored)]).unwrap_err();
        assert!(error.to_string().contains("revision 1"), "{error}");
    }
    state.intent.commit([write(&one, Stored::Unsure)]).unwrap();
    assert_eq!(state.intent.revision(), Revision(2));
}

#[test]
fn a_store_in_use_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let _first = State::open(directory.path()).unwrap();
    let error = State::open(directory.path()).unwrap_err().to_string();
    assert!(
        error.contains("in use by another process (another agent?); stop it"),
        "{error}"
    );
}

#[test]
fn a_file_that_is_no_database_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(
        directory.path().join(IntentStore::FILE),
        b"something else altogether",
    )
    .unwrap();
    let error = State::open(directory.path()).unwrap_err().to_string();
    assert!(error.contains(IntentStore::FILE), "{error}");
}

#[test]
fn a_record_that_cannot_be_read_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = IntentStore::path(directory.path());
    let mut store =
        RedbStore::open(&path, &IntentStore::FORMAT, &mut |_, _, _, _| Ok(None)).unwrap();
    let mut transaction = Transaction::default();
    transaction.put(VIPS, "10.0.0.1:80/tcp", b"{}".to_vec());
    store.commit(&transaction).unwrap();
    drop(store);
    let state = State::open(directory.path()).unwrap();
    let error = state.intent.load().unwrap_err().to_string();
    assert!(
        error.contains("10.0.0.1:80/tcp")
            && error.contains("missing field")
            && error.contains("lb-agent restore"),
        "{error}"
    );
}

#[test]
fn what_steering_learned_is_kept_apart() {
    let directory = tempfile::tempdir().unwrap();
    let name: VipKey = "10.0.0.1:80/tcp".parse().unwrap();
    let real = SteeredReal {
        weight: 7,
        up: true,
    };
    let steered = Steered {
        reals: [(RealId::from(IpAddr::from([10, 1, 0, 2])), real)].into(),
    };
    let all = BTreeMap::from([(name, steered)]);
    let mut state = State::open(directory.path()).unwrap();
    state.learned.save(&all).unwrap();
    assert_eq!(state.intent.revision(), Revision(0));
    drop(state);
    let mut state = State::open(directory.path()).unwrap();
    assert_eq!(state.learned.load().unwrap(), all);
    state.learned.save(&BTreeMap::new()).unwrap();
    assert!(state.learned.load().unwrap().is_empty());
    drop(state);
    // It can be learned again: damage does not keep the agent from starting.
    fs::write(directory.path().join(LearnedStore::FILE), b"damage").unwrap();
    let state = State::open(directory.path()).unwrap();
    assert!(state.learned.load().unwrap().is_empty());
    assert!(directory.path().join("learned.damaged").exists());
}

#[test]
fn learned_weights_are_written_anew_after_their_file_was_lost() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join(LearnedStore::FILE);
    let name: VipKey = "10.0.0.1:80/tcp".parse().unwrap();
    let weighing = |weight| {
        let real = SteeredReal { weight, up: true };
        let reals = [(RealId::from(IpAddr::from([10, 1, 0, 2])), real)].into();
        BTreeMap::from([(name, Steered { reals })])
    };
    let mut state = State::open(directory.path()).unwrap();
    type Loss<'a> = &'a dyn Fn() -> std::io::Result<()>;
    let losses: [Loss<'_>; 3] = [
        &|| fs::remove_file(&file),
        &|| fs::OpenOptions::new().write(true).open(&file)?.set_len(0),
        &|| fs::write(&file, b"something else"),
    ];
    for (weight, lose) in (1..).zip(losses) {
        state.learned.save(&weighing(weight)).unwrap();
        lose().unwrap();
        state.learned.save(&weighing(10 * weight)).unwrap();
        drop(state);
        state = State::open(directory.path()).unwrap();
        assert_eq!(state.learned.load().unwrap(), weighing(10 * weight));
    }
}

/// Set in the child of the test below: where its store is.
const CHILD: &str = "LB_STORE_TEST_CHILD";

/// Stores VIPs one after the other and says so after each commit, until it is killed.
#[test]
fn child_that_stores_until_it_is_killed() {
    let Some(directory) = std::env::var_os(CHILD) else {
        return;
    };
    let mut store = State::open(Path::new(&directory)).unwrap().intent;
    let mut intent = store.load().unwrap();
    for port in intent.len().. {
        let name: VipKey = format!("10.0.0.1:{port}/tcp").parse().unwrap();
        let vip = Change::AddVip {
            vip: name,
            patch: Default::default(),
        }
        .apply(&intent, &Writer::default(), &KINDS)
        .unwrap();
        let new = vip.as_deref().unwrap();
        store.commit([write(new, Stored::Absent)]).unwrap();
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
        let state = State::open(directory.path()).unwrap();
        let intent = state.intent.load().unwrap();
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
const RECORDS_1: &str = include_str!("schema_1/records.txt");
/// Records that the last build with schema 2 wrote for the same VIPs.
const RECORDS_2: &str = include_str!("schema_2/records.txt");

/// A store of an older schema with these records, a key and a value on each line.
fn older(directory: &Path, schema: u64, records: &str) {
    let database = redb::Database::create(IntentStore::path(directory)).unwrap();
    let transaction = database.begin_write().unwrap();
    let meta: redb::TableDefinition<'_, &str, u64> = redb::TableDefinition::new("meta");
    transaction
        .open_table(meta)
        .unwrap()
        .insert("schema", schema)
        .unwrap();
    let insert = |table, key: &str, value: &str| {
        let table: redb::TableDefinition<'_, &str, &[u8]> = redb::TableDefinition::new(table);
        transaction
            .open_table(table)
            .unwrap()
            .insert(key, value.as_bytes())
            .unwrap();
    };
    for record in records.lines() {
        let (vip, json) = record.split_once(' ').unwrap();
        insert(VIPS, vip, json);
    }
    insert(
        STEERED,
        "10.0.0.2:80/tcp",
        r#"{"reals":{"fd00::2":{"weight":9,"up":true}}}"#,
    );
    transaction.commit().unwrap();
}

/// The VIPs of `vips.toml`, as the API's callers would have added them.
fn expected() -> Intent {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/schema_1/vips.toml");
    let config = crate::config::Config::read(&file).unwrap();
    let vips = config.intent.vips().map(|vip| {
        let mut vip = Vip::clone(vip);
        vip.owner = Owner::Api;
        vip.revision = 1;
        for real in vip.reals.values_mut() {
            real.owner = Owner::Api;
        }
        vip
    });
    vips.collect()
}

#[test]
fn records_of_schema_2_are_upgraded() {
    let directory = tempfile::tempdir().unwrap();
    older(directory.path(), 2, RECORDS_2);
    let state = State::open(directory.path()).unwrap();
    assert_eq!(state.intent.load().unwrap(), expected());
    let steered = state.learned.load().unwrap();
    let real: RealId = "fd00::2".parse().unwrap();
    let vip: VipKey = "10.0.0.2:80/tcp".parse().unwrap();
    assert_eq!(steered[&vip].reals[&real].weight, 9);
    drop(state);
    // Once only: the next start finds this schema.
    let state = State::open(directory.path()).unwrap();
    assert_eq!(state.intent.load().unwrap(), expected());
    assert_eq!(state.learned.load().unwrap(), steered);
}

#[test]
fn records_of_schema_1_are_upgraded() {
    let directory = tempfile::tempdir().unwrap();
    older(directory.path(), 1, RECORDS_1);
    let intent = expected();
    assert_eq!(intent.len(), RECORDS_1.lines().count());
    let state = State::open(directory.path()).unwrap();
    let loaded = state.intent.load().unwrap();
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
}

#[test]
fn a_record_that_cannot_be_upgraded_is_named() {
    let directory = tempfile::tempdir().unwrap();
    older(
        directory.path(),
        1,
        "10.0.0.1:80/tcp {\"forward\":\"ipip\"}",
    );
    let error = State::open(directory.path()).unwrap_err().to_string();
    assert!(
        error.contains("10.0.0.1:80/tcp") && error.contains("window_ms"),
        "{error}"
    );
}
