//! The store in Redis.

use anyhow::ensure;
use lb_store::{RedisStore, Revision, Store, StoreError, Transaction, conformance};
use lb_tests::server::Redis;

const TABLES: &[&str] = &[conformance::TABLE];

fn open(redis: &Redis, name: &str) -> Result<RedisStore, StoreError> {
    RedisStore::open(&redis.url(), name, 1, TABLES)
}

fn put(key: &str, value: &str) -> Transaction {
    let mut transaction = Transaction::default();
    transaction.put(conformance::TABLE, key, value.into());
    transaction
}

fn values(store: &dyn Store) -> anyhow::Result<Vec<(String, String)>> {
    let entries = store.list(conformance::TABLE)?.into_iter();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(entries
        .map(|entry| (entry.key, text(entry.value)))
        .collect())
}

fn records(pairs: &[(&str, &str)]) -> lb_store::Records {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), value.as_bytes().to_vec());
    pairs.iter().map(owned).collect()
}

pub fn does_what_every_store_does() -> anyhow::Result<()> {
    let redis = Redis::start(&[])?;
    let mut stores = 0;
    conformance::run(&mut || {
        stores += 1;
        Box::new(open(&redis, &format!("store-{stores}")).unwrap())
    });
    Ok(())
}

pub fn a_store_is_found_again() -> anyhow::Result<()> {
    let redis = Redis::start(&[])?;
    let mut store = open(&redis, "main")?;
    store.commit(&put("a", "1"))?;
    store.commit(&put("a", "2"))?;
    let identity = store.identity();
    drop(store);
    let mut store = open(&redis, "main")?;
    assert_eq!(
        (store.identity(), store.revision()),
        (identity, Revision(2))
    );
    assert_eq!(values(&store)?, [("a".to_owned(), "2".to_owned())]);
    // Another store on the same server has its own.
    let other = open(&redis, "other")?;
    assert_ne!(other.identity(), identity);
    assert_eq!(other.revision(), Revision(0));
    let mut next = put("a", "3");
    next.expect(conformance::TABLE, "a", Some(Revision(2)));
    store.commit(&next)?;
    Ok(())
}

pub fn a_server_that_is_away_is_an_error_and_no_loss() -> anyhow::Result<()> {
    let mut redis = Redis::start(&["--appendonly", "yes", "--appendfsync", "always"])?;
    let mut store = open(&redis, "main")?;
    store.commit(&put("a", "1"))?;
    redis.kill()?;
    let error = store.commit(&put("a", "2")).unwrap_err();
    ensure!(matches!(error, StoreError::Remote { .. }), "{error}");
    ensure!(matches!(store.check(), Err(StoreError::Remote { .. })));
    redis.run()?;
    // Each connection of before is dead; the next commit finds that out and connects again.
    store.commit(&put("a", "3"))?;
    store.check()?;
    assert_eq!(store.revision(), Revision(2));
    redis.kill()?;
    redis.run()?;
    store.commit(&put("b", "1"))?;
    assert_eq!(values(&store)?.len(), 2);
    Ok(())
}

pub fn a_server_that_restarts_empty_gets_everything_back() -> anyhow::Result<()> {
    let mut redis = Redis::start(&[])?;
    let mut store = open(&redis, "main")?;
    store.commit(&put("a", "1"))?;
    store.commit(&put("b", "1"))?;
    let identity = store.identity();
    redis.kill()?;
    redis.run()?;
    let error = store.check().unwrap_err();
    ensure!(error.to_string().contains("was emptied"), "{error}");
    let error = store.commit(&put("c", "1")).unwrap_err();
    ensure!(matches!(error, StoreError::Lost { .. }), "{error}");
    let all = records(&[("a", "1"), ("b", "1"), ("c", "1")]);
    assert_eq!(store.rewrite(&[(conformance::TABLE, all)])?, Revision(3));
    store.check()?;
    assert_eq!(values(&store)?.len(), 3);
    drop(store);
    let store = open(&redis, "main")?;
    assert_eq!(
        (store.identity(), store.revision()),
        (identity, Revision(3))
    );
    Ok(())
}

pub fn a_server_that_lost_its_last_writes_gets_them_back() -> anyhow::Result<()> {
    let mut redis = Redis::start(&["--dbfilename", "dump.rdb"])?;
    let mut store = open(&redis, "main")?;
    store.commit(&put("a", "1"))?;
    redis.command(&["SAVE"])?;
    store.commit(&put("a", "2"))?;
    store.commit(&put("b", "1"))?;
    redis.kill()?;
    redis.run()?;
    let error = store.check().unwrap_err();
    ensure!(error.to_string().contains("was set back"), "{error}");
    let error = store.commit(&put("c", "1")).unwrap_err();
    ensure!(matches!(error, StoreError::Lost { .. }), "{error}");
    // Nothing of it was written.
    assert_eq!(values(&store)?, [("a".to_owned(), "1".to_owned())]);
    store.rewrite(&[(conformance::TABLE, records(&[("a", "2"), ("b", "1")]))])?;
    store.check()?;
    assert_eq!(store.commit(&put("c", "1"))?, Revision(5));
    Ok(())
}

pub fn another_writer_is_noticed() -> anyhow::Result<()> {
    let redis = Redis::start(&[])?;
    let mut first = open(&redis, "main")?;
    let mut second = open(&redis, "main")?;
    first.commit(&put("a", "1"))?;
    let error = second.commit(&put("a", "2")).unwrap_err();
    ensure!(
        error.to_string().contains("another process writes to it"),
        "{error}"
    );
    ensure!(second.check().is_err());
    assert_eq!(values(&first)?, [("a".to_owned(), "1".to_owned())]);
    // Somebody has damaged a record.
    redis.command(&["HSET", "{lb:main}:table:things", "a", "rubbish"])?;
    let error = first.list(conformance::TABLE).unwrap_err();
    ensure!(
        error.to_string().contains("the record a of table things"),
        "{error}"
    );
    Ok(())
}

pub fn what_cannot_be_used_is_refused() -> anyhow::Result<()> {
    let redis = Redis::start(&[])?;
    for (url, name, words) in [
        ("http://:secret@host", "main", "the URL is wrong"),
        ("redis+unix:///there/is/none", "main", "/there/is/none"),
        (&*redis.url(), "no name", "no name of a store"),
    ] {
        let error = RedisStore::open(url, name, 1, TABLES)
            .unwrap_err()
            .to_string();
        ensure!(
            error.contains(words) && !error.contains("secret"),
            "{error}"
        );
    }
    drop(open(&redis, "main")?);
    let error = RedisStore::open(&redis.url(), "main", 2, TABLES).unwrap_err();
    ensure!(
        error
            .to_string()
            .contains("has schema 1, this program knows 2"),
        "{error}"
    );
    Ok(())
}
