//! What every store does. Each kind of store is put through these.

#![allow(clippy::unwrap_used, reason = "a failure fails the test")]

use crate::{Change, Entry, Revision, Store, StoreError, Transaction};

/// The table that the tests use.
pub const TABLE: &str = "things";

/// Makes a new store.
type Make<'a> = &'a mut dyn FnMut() -> Box<dyn Store>;

/// Runs all tests, each on a store of its own.
///
/// # Panics
/// The store does not do what every store does.
pub fn run(make: Make<'_>) {
    records_have_the_revision_that_wrote_them(&mut *make());
    a_condition_that_does_not_hold_writes_nothing(&mut *make());
    changes_are_known_since_a_revision(&mut *make());
    a_store_is_replaced_whole(&mut *make());
    values_are_bytes(&mut *make());
}

fn put(key: &str, value: &str) -> Transaction {
    let mut transaction = Transaction::default();
    transaction.put(TABLE, key, value.into());
    transaction
}

fn records_have_the_revision_that_wrote_them(store: &mut dyn Store) {
    assert_eq!(store.revision(), Revision(0));
    assert_eq!(store.list(TABLE).unwrap(), []);
    assert_eq!(store.commit(&put("a", "1")).unwrap(), Revision(1));
    assert_eq!(store.commit(&put("b", "2")).unwrap(), Revision(2));
    let entry = |key: &str, value: &str, revision| Entry {
        key: key.to_owned(),
        value: value.into(),
        revision: Revision(revision),
    };
    assert_eq!(
        store.list(TABLE).unwrap(),
        [entry("a", "1", 1), entry("b", "2", 2)]
    );
    let mut removal = Transaction::default();
    removal.remove(TABLE, "a");
    removal.remove(TABLE, "never there");
    assert_eq!(store.commit(&removal).unwrap(), Revision(3));
    assert_eq!(store.get(TABLE, "a").unwrap(), None);
    assert_eq!(store.get(TABLE, "b").unwrap(), Some(entry("b", "2", 2)));
    assert_eq!(store.revision(), Revision(3));
}

fn a_condition_that_does_not_hold_writes_nothing(store: &mut dyn Store) {
    let mut first = put("a", "1");
    first.expect(TABLE, "a", None);
    store.commit(&first).unwrap();
    let refused = |store: &mut dyn Store, revision| {
        let mut transaction = put("b", "2");
        transaction.expect(TABLE, "a", revision);
        matches!(
            store.commit(&transaction),
            Err(StoreError::Conflict {
                found: Some(Revision(1)),
                ..
            })
        )
    };
    assert!(refused(store, None));
    assert!(refused(store, Some(Revision(2))));
    assert_eq!(store.get(TABLE, "b").unwrap(), None);
    assert_eq!(store.revision(), Revision(1));
    let mut second = put("b", "2");
    second.expect(TABLE, "a", Some(Revision(1)));
    store.commit(&second).unwrap();
}

fn changes_are_known_since_a_revision(store: &mut dyn Store) {
    let seen = store.subscribe();
    for (key, value) in [("a", "1"), ("b", "1"), ("a", "2")] {
        store.commit(&put(key, value)).unwrap();
    }
    let change = |key: &str, revision| Change {
        revision: Revision(revision),
        table: TABLE.to_owned(),
        key: key.to_owned(),
    };
    assert_eq!(
        store.changes_since(Revision(0)).unwrap(),
        [change("b", 2), change("a", 3)]
    );
    assert_eq!(store.changes_since(Revision(2)).unwrap(), [change("a", 3)]);
    assert_eq!(store.changes_since(Revision(3)).unwrap(), []);
    assert!(seen.has_changed().unwrap());
    assert_eq!(*seen.borrow(), Revision(3));
    // The revision of another store, perhaps of one before it was restored.
    assert!(store.changes_since(Revision(4)).is_err());
}

fn a_store_is_replaced_whole(store: &mut dyn Store) {
    store.commit(&put("a", "1")).unwrap();
    store.commit(&put("b", "1")).unwrap();
    store.check().unwrap();
    let identity = store.identity();
    assert_ne!(identity, 0);
    let records = vec![
        ("b".to_owned(), b"2".to_vec()),
        ("c".to_owned(), b"3".to_vec()),
    ];
    assert_eq!(store.rewrite(&[(TABLE, records)]).unwrap(), Revision(3));
    store.check().unwrap();
    let entries = store.list(TABLE).unwrap();
    let entries: Vec<_> = entries
        .iter()
        .map(|entry| (entry.key.as_str(), entry.value.as_slice(), entry.revision.0))
        .collect();
    assert_eq!(entries, [("b", b"2".as_slice(), 3), ("c", b"3", 3)]);
    assert_eq!(store.get(TABLE, "a").unwrap(), None);
    assert_eq!(store.identity(), identity);
    // Everything may have changed.
    assert!(store.changes_since(Revision(2)).is_err());
    let mut next = put("b", "3");
    next.expect(TABLE, "b", Some(Revision(3)));
    assert_eq!(store.commit(&next).unwrap(), Revision(4));
    assert_eq!(store.changes_since(Revision(3)).unwrap().len(), 1);
}

fn values_are_bytes(store: &mut dyn Store) {
    let every: Vec<u8> = (0..=255).collect();
    let mut transaction = Transaction::default();
    transaction.put(TABLE, "ä key with spaces: {} *", every.clone());
    transaction.put(TABLE, "empty", Vec::new());
    store.commit(&transaction).unwrap();
    let entries = store.list(TABLE).unwrap();
    assert_eq!(entries[0].value, Vec::<u8>::new());
    assert_eq!(entries[1].value, every);
    assert_eq!(
        store.get(TABLE, &entries[1].key).unwrap().unwrap(),
        entries[1]
    );
}
