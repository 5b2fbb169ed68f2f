//! What every store does, run against each of them, and what the one on disk does besides.

use std::{fs, path::Path};

use redb::{Database, TableDefinition};

use super::*;

const FORMAT: Format = Format {
    schema: 3,
    older: 1..=2,
    tables: &["things"],
};

fn no_upgrade(_: u64, _: &str, _: &str, _: &[u8]) -> Result<Option<Vec<u8>>, String> {
    Err("nothing to upgrade".to_owned())
}

fn open(path: &Path) -> RedbStore {
    RedbStore::open(path, &FORMAT, &mut no_upgrade).unwrap()
}

fn put(key: &str, value: &str) -> Transaction {
    let mut transaction = Transaction::default();
    transaction.put("things", key, value.into());
    transaction
}

#[test]
fn stores_in_memory_and_in_files_do_what_every_store_does() {
    conformance::run(&mut || Box::new(MemoryStore::default()));
    let directory = tempfile::tempdir().unwrap();
    let mut files = 0;
    conformance::run(&mut || {
        files += 1;
        Box::new(open(&directory.path().join(format!("{files}.redb"))))
    });
}

#[test]
fn old_changes_are_forgotten() {
    let mut store = MemoryStore::default();
    let mut many = Transaction::default();
    for key in 0..20_000 {
        many.put("things", key.to_string(), Vec::new());
    }
    store.commit(&many).unwrap();
    store.commit(&put("a", "1")).unwrap();
    assert_eq!(
        store.changes_since(Revision(0)),
        Err(Compacted {
            since: Revision(0),
            oldest: Revision(1)
        })
    );
    assert_eq!(store.changes_since(Revision(1)).unwrap().len(), 1);
}

#[test]
fn a_file_keeps_records_and_revision() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state/a.redb");
    let mut store = open(&path);
    store.commit(&put("a", "1")).unwrap();
    store.commit(&put("b", "2")).unwrap();
    drop(store);
    let store = open(&path);
    assert_eq!(store.revision(), Revision(2));
    assert_eq!(store.list("things").unwrap().len(), 2);
    // What happened before it was opened is not known.
    assert!(store.changes_since(Revision(1)).is_err());
    assert_eq!(store.changes_since(Revision(2)).unwrap(), []);
    let files = fs::read_dir(path.parent().unwrap()).unwrap();
    assert_eq!(files.count(), 1, "nothing else is left in the directory");
}

#[test]
fn a_file_in_use_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.redb");
    let _first = open(&path);
    assert!(matches!(
        RedbStore::open(&path, &FORMAT, &mut no_upgrade),
        Err(StoreError::InUse { .. })
    ));
}

#[test]
fn an_unknown_schema_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.redb");
    drop(open(&path));
    let newer = Format {
        schema: 9,
        older: 4..=8,
        ..FORMAT
    };
    let error = RedbStore::open(&path, &newer, &mut no_upgrade).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("has schema 3, this program knows 9"),
        "{error}"
    );
}

/// A file of an older schema with these records.
fn older(path: &Path, records: &[(&str, &str)]) {
    let database = Database::create(path).unwrap();
    let transaction = database.begin_write().unwrap();
    let meta: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
    transaction
        .open_table(meta)
        .unwrap()
        .insert("schema", 2)
        .unwrap();
    let table: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("things");
    for (key, value) in records {
        transaction
            .open_table(table)
            .unwrap()
            .insert(*key, value.as_bytes())
            .unwrap();
    }
    transaction.commit().unwrap();
}

#[test]
fn an_older_schema_is_upgraded_whole_or_not_at_all() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.redb");
    older(&path, &[("a", "1"), ("b", "bad"), ("c", "gone")]);
    let upgrade = |strict: bool| {
        RedbStore::open(&path, &FORMAT, &mut |found, table, _, value| {
            assert_eq!((found, table), (2, "things"));
            match value {
                b"bad" if strict => Err("it is bad".to_owned()),
                b"gone" => Ok(None),
                value => Ok(Some([b"new ", value].concat())),
            }
        })
    };
    let error = upgrade(true).unwrap_err().to_string();
    assert!(error.contains("record b of table things"), "{error}");
    let store = upgrade(false).unwrap();
    let values: Vec<_> = store.list("things").unwrap();
    let values: Vec<_> = values.iter().map(|entry| entry.value.as_slice()).collect();
    assert_eq!(values, [b"new 1".as_slice(), b"new bad"]);
    drop(store);
    // Once only.
    assert_eq!(open(&path).list("things").unwrap().len(), 2);
}

#[test]
fn a_file_can_be_created_with_everything_that_another_one_had() {
    let directory = tempfile::tempdir().unwrap();
    let (path, copy) = (
        directory.path().join("a.redb"),
        directory.path().join("copy.redb"),
    );
    let mut store = open(&path);
    store.commit(&put("a", "1")).unwrap();
    let create = || {
        let records = vec![("a".to_owned(), b"1".to_vec())];
        RedbStore::create(
            &copy,
            &FORMAT,
            store.identity(),
            Revision(1),
            &[("things", records)],
        )
    };
    create().unwrap();
    let copied = open(&copy);
    assert_eq!(copied.identity(), store.identity());
    assert_ne!(
        copied.identity(),
        open(&directory.path().join("b.redb")).identity()
    );
    assert_eq!(copied.revision(), Revision(1));
    assert_eq!(copied.get("things", "a").unwrap().unwrap().value, b"1");
    let error = create().unwrap_err().to_string();
    assert!(error.contains("name a new file"), "{error}");
}

#[test]
fn damage_anywhere_is_an_error_and_never_a_panic_or_another_value() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.redb");
    let mut store = open(&path);
    for key in 0..50 {
        store
            .commit(&put(&format!("key {key}"), &"v".repeat(100)))
            .unwrap();
    }
    drop(store);
    let whole = fs::read(&path).unwrap();
    let damaged = directory.path().join("damaged.redb");
    let try_with = |bytes: &[u8]| {
        fs::write(&damaged, bytes).unwrap();
        let store = RedbStore::open(&damaged, &FORMAT, &mut no_upgrade)?;
        store.list("things")
    };
    let mut found = 0;
    for step in 0..200 {
        let mut bytes = whole.clone();
        let at = step * (bytes.len() / 200);
        for byte in &mut bytes[at..at + 64] {
            *byte ^= 0x55;
        }
        match try_with(&bytes) {
            Ok(entries) => assert!(
                entries
                    .iter()
                    .all(|entry| entry.value == "v".repeat(100).into_bytes())
            ),
            Err(_) => found += 1,
        }
    }
    assert!(found > 0, "the damage hit nothing");
    for length in [0, 1, 100, 4_096, whole.len() / 2, whole.len() - 1] {
        assert!(try_with(&whole[..length]).is_err(), "{length} bytes");
    }
}

#[test]
fn a_lost_file_can_be_rewritten() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.redb");
    let truncate = || {
        fs::File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(100)
            .unwrap();
    };
    for lose in [&truncate as &dyn Fn(), &|| fs::remove_file(&path).unwrap()] {
        let mut store = open(&path);
        store.commit(&put("a", "1")).unwrap();
        lose();
        assert!(matches!(store.check(), Err(StoreError::Lost { .. })));
        let records = vec![("a".to_owned(), b"1".to_vec())];
        store.rewrite(&[("things", records)]).unwrap();
        store.commit(&put("b", "2")).unwrap();
        drop(store);
        assert_eq!(open(&path).list("things").unwrap().len(), 2);
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn a_file_that_is_damaged_while_it_is_open_takes_no_commit() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.redb");
    let truncate = |path: &Path| fs::File::options().write(true).open(path)?.set_len(0);
    let replace = |path: &Path| {
        let copy = path.with_extension("copy");
        fs::copy(path, &copy)?;
        fs::rename(copy, path)
    };
    type Damage<'a> = &'a dyn Fn(&Path) -> std::io::Result<()>;
    let damages: [(&str, Damage<'_>); 3] = [
        ("truncated", &truncate),
        ("another file", &replace),
        ("removed", &|path| fs::remove_file(path)),
    ];
    for (cause, damage) in damages {
        let mut store = open(&path);
        store.commit(&put("a", "1")).unwrap();
        damage(&path).unwrap();
        let error = store.commit(&put("a", "2")).unwrap_err().to_string();
        assert!(error.contains(cause), "{error}");
        drop(store);
        let _ = fs::remove_file(&path);
    }
}
