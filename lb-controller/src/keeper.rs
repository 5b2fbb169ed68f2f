//! The store: what is in it, and a thread that writes.
//!
//! All records are in memory, too. When the server of the store is away, pools go on, and changes of settings are refused;
//! when it is back and has lost something, everything is written again.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use lb_model::{
    pool::{PoolName, PoolSpec},
    settings::FieldError,
};
use lb_store::{Format, Records, RedbStore, RedisStore, Revision, Store, StoreError, Transaction};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    KINDS,
    pool::{InstanceRecord, Learned, PoolRecord},
};

/// Version of the records.
const SCHEMA: u64 = 1;
/// Pools by name.
const POOLS: &str = "pools";
/// Instances by `POOL-NUMBER`.
const INSTANCES: &str = "instances";
/// What was learned of pools, by name.
const LEARNED: &str = "learned";
/// The tables.
const TABLES: &[&str] = &[POOLS, INSTANCES, LEARNED];

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// The store failed.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// A record cannot be read.
    #[error("{location}: the {what} {key} cannot be read: {cause}")]
    Record {
        /// The store.
        location: String,
        /// What the record is.
        what: &'static str,
        /// Its key.
        key: String,
        /// The cause.
        cause: String,
    },
    /// The place of the store is not one.
    #[error("{0}: give redb, or redis:URL such as redis://127.0.0.1:6379")]
    Place(String),
}

/// Where the store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A file in the controller's folder.
    Redb,
    /// A Redis server.
    Redis(String),
}

impl std::str::FromStr for Place {
    type Err = KeeperError;

    fn from_str(text: &str) -> Result<Self, KeeperError> {
        if text == "redb" {
            return Ok(Place::Redb);
        }
        if text.starts_with("redis://") || text.starts_with("redis+unix://") {
            return Ok(Place::Redis(text.to_owned()));
        }
        match text.strip_prefix("redis:") {
            Some(url) if !url.is_empty() => Ok(Place::Redis(url.to_owned())),
            _ => Err(KeeperError::Place(text.to_owned())),
        }
    }
}

/// A pool, as it was stored.
#[derive(Debug)]
pub struct StoredPool {
    /// Its name.
    pub name: PoolName,
    /// Its settings.
    pub spec: PoolSpec,
    /// The record.
    pub record: PoolRecord,
    /// Its instances.
    pub instances: Vec<InstanceRecord>,
    /// What was learned of it.
    pub learned: Learned,
}

/// Writes, and everything that was written.
#[derive(Debug)]
struct Inner {
    store: Box<dyn Store>,
    /// Every record, to write it again if the server loses it.
    mirror: BTreeMap<&'static str, BTreeMap<String, Vec<u8>>>,
    /// Why the store does not work, if it does not.
    trouble: Option<String>,
}

/// The store.
#[derive(Clone, Debug)]
pub struct Keeper(Arc<Mutex<Inner>>);

/// What is written together.
#[derive(Debug, Default)]
pub struct Changes(Vec<(&'static str, String, Option<Vec<u8>>)>);

impl Changes {
    /// Whether nothing is written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn put(&mut self, table: &'static str, key: String, value: &impl Serialize) {
        // Records are plain data.
        let bytes = serde_json::to_vec(value).unwrap_or_default();
        self.0.push((table, key, Some(bytes)));
    }

    /// Writes a pool.
    pub fn pool(&mut self, name: &PoolName, record: &PoolRecord) {
        self.put(POOLS, name.to_string(), record);
    }

    /// Removes a pool.
    pub fn remove_pool(&mut self, name: &PoolName) {
        self.0.push((POOLS, name.to_string(), None));
        self.0.push((LEARNED, name.to_string(), None));
    }

    /// Writes or removes an instance.
    pub fn instance(&mut self, pool: &PoolName, number: u32, record: Option<&InstanceRecord>) {
        let key = format!("{pool}-{number}");
        match record {
            Some(record) => self.put(INSTANCES, key, record),
            None => self.0.push((INSTANCES, key, None)),
        }
    }

    /// Writes what was learned.
    pub fn learned(&mut self, name: &PoolName, learned: &Learned) {
        self.put(LEARNED, name.to_string(), learned);
    }
}

impl Keeper {
    /// Opens the store.
    ///
    /// # Errors
    /// It cannot be opened, or a record of it cannot be read.
    pub fn open(
        place: &Place,
        folder: &Path,
        name: &str,
    ) -> Result<(Self, Vec<StoredPool>), KeeperError> {
        let store: Box<dyn Store> = match place {
            Place::Redb => Box::new(RedbStore::open(
                &folder.join("controller.redb"),
                &Format {
                    schema: SCHEMA,
                    older: 0..=0,
                    tables: TABLES,
                },
                &mut |found, _, _, _| Err(format!("schema {found} was never written")),
            )?),
            Place::Redis(url) => Box::new(RedisStore::open(url, name, SCHEMA, TABLES)?),
        };
        Self::of(store)
    }

    /// Reads a store.
    ///
    /// # Errors
    /// A record cannot be read.
    pub fn of(store: Box<dyn Store>) -> Result<(Self, Vec<StoredPool>), KeeperError> {
        let mut mirror = BTreeMap::new();
        for table in TABLES {
            let entries = store.list(table)?.into_iter();
            let records: BTreeMap<_, _> = entries.map(|entry| (entry.key, entry.value)).collect();
            mirror.insert(*table, records);
        }
        let inner = Inner {
            store,
            mirror,
            trouble: None,
        };
        let pools = inner.pools()?;
        Ok((Keeper(Arc::new(Mutex::new(inner))), pools))
    }

    /// Where it is.
    #[must_use]
    pub fn location(&self) -> String {
        self.lock().store.location()
    }

    /// Writes all or nothing, and returns when that is durable.
    ///
    /// # Errors
    /// It was not written, as far as is known.
    pub async fn write(&self, changes: Changes) -> Result<Revision, KeeperError> {
        let keeper = self.clone();
        let written = tokio::task::spawn_blocking(move || keeper.lock().write(&changes)).await;
        written.unwrap_or_else(|error| {
            Err(KeeperError::Store(StoreError::Remote {
                operation: "writing",
                location: "the store".to_owned(),
                cause: error.to_string(),
            }))
        })
    }

    /// Looks whether the server still has everything, and writes it again if not.
    pub async fn check(&self) {
        let keeper = self.clone();
        let checked = tokio::task::spawn_blocking(move || keeper.lock().check()).await;
        if let Err(error) = checked {
            tracing::error!("checking the store: {error}");
        }
    }

    /// Checks the store until the process ends.
    pub async fn watch(self, every: Duration) {
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.check().await;
        }
    }

    /// Why the store does not work; `None` if it does.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.lock().trouble.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn write(&mut self, changes: &Changes) -> Result<Revision, KeeperError> {
        let mut transaction = Transaction::default();
        for (table, key, value) in &changes.0 {
            match value {
                Some(value) => transaction.put(table, key.clone(), value.clone()),
                None => transaction.remove(table, key.clone()),
            }
        }
        let written = match self.store.commit(&transaction) {
            Err(StoreError::Lost { .. }) => {
                self.restore()?;
                self.store.commit(&transaction)
            }
            other => other,
        };
        match written {
            Ok(revision) => {
                self.note(None);
                for (table, key, value) in &changes.0 {
                    let records = self.mirror.entry(table).or_default();
                    match value {
                        Some(value) => records.insert(key.clone(), value.clone()),
                        None => records.remove(key),
                    };
                }
                Ok(revision)
            }
            Err(error) => {
                self.note(Some(error.to_string()));
                Err(error.into())
            }
        }
    }

    fn check(&mut self) {
        match self.store.check() {
            Ok(()) => self.note(None),
            Err(StoreError::Lost { .. }) => {
                if let Err(error) = self.restore() {
                    self.note(Some(error.to_string()));
                }
            }
            Err(error) => self.note(Some(error.to_string())),
        }
    }

    /// Writes everything again.
    fn restore(&mut self) -> Result<(), StoreError> {
        let tables: Vec<(&str, Records)> = self
            .mirror
            .iter()
            .map(|(table, records)| (*table, records.clone().into_iter().collect()))
            .collect();
        let revision = self.store.rewrite(&tables)?;
        tracing::warn!(
            "{} had lost records; everything was written again (revision {revision})",
            self.store.location()
        );
        self.note(None);
        Ok(())
    }

    /// Logs a trouble once, and its end.
    fn note(&mut self, trouble: Option<String>) {
        match (&self.trouble, &trouble) {
            (None, Some(text)) => {
                tracing::error!("{text}; pools go on, and no settings can be changed");
            }
            (Some(_), None) => tracing::info!("{} works again", self.store.location()),
            _ => {}
        }
        self.trouble = trouble;
    }

    fn read<T: DeserializeOwned>(
        &self,
        table: &'static str,
        what: &'static str,
    ) -> Result<Vec<(String, T)>, KeeperError> {
        let records = self.mirror.get(table).into_iter().flatten();
        records
            .map(|(key, bytes)| {
                let record = serde_json::from_slice(bytes)
                    .map_err(|error| self.unreadable(what, key, error.to_string()))?;
                Ok((key.clone(), record))
            })
            .collect()
    }

    fn unreadable(&self, what: &'static str, key: &str, cause: String) -> KeeperError {
        KeeperError::Record {
            location: self.store.location(),
            what,
            key: key.to_owned(),
            cause,
        }
    }

    fn pools(&self) -> Result<Vec<StoredPool>, KeeperError> {
        let instances: Vec<(String, InstanceRecord)> = self.read(INSTANCES, "instance")?;
        // What was learned can be lost.
        let learned: BTreeMap<String, Learned> = self
            .mirror
            .get(LEARNED)
            .into_iter()
            .flatten()
            .filter_map(|(key, bytes)| Some((key.clone(), serde_json::from_slice(bytes).ok()?)))
            .collect();
        let mut learned = learned;
        let mut pools = Vec::new();
        for (key, record) in self.read::<PoolRecord>(POOLS, "pool")? {
            let unreadable = |error: FieldError| self.unreadable("pool", &key, error.to_string());
            let name: PoolName = key.parse().map_err(|error: lb_model::pool::NameError| {
                self.unreadable("pool", &key, error.to_string())
            })?;
            let spec = PoolSpec::read(&record.spec, &KINDS).map_err(unreadable)?;
            pools.push(StoredPool {
                instances: instances
                    .iter()
                    .filter(|(_, instance)| instance.name.pool == name)
                    .map(|(_, instance)| instance.clone())
                    .collect(),
                learned: learned.remove(&key).unwrap_or_default(),
                name,
                spec,
                record,
            });
        }
        Ok(pools)
    }
}

#[cfg(test)]
mod tests {
    use lb_store::MemoryStore;
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn what_is_written_is_read() {
        let name: PoolName = "web".parse().unwrap();
        let spec = json!({
            "driver": { "kind": "process" },
            "network": { "port": 8000 },
            "template": { "program": "/bin/true" },
        });
        let pool = PoolRecord {
            spec: spec.as_object().unwrap().clone(),
            generation: 3,
            last_epoch: 9,
            is_deleted: false,
            owner: crate::pool::PoolOwner::File,
        };
        let instance = InstanceRecord {
            name: "web-1-9".parse().unwrap(),
            role: crate::pool::Role::Serving,
            since: Duration::from_secs(5),
            launched: Duration::from_secs(4),
            generation: 3,
            reason: "scaled out".to_owned(),
            is_update: false,
        };
        let folder = tempfile::tempdir().unwrap();
        let (keeper, pools) = Keeper::open(&Place::Redb, folder.path(), "main").unwrap();
        assert!(pools.is_empty());
        let mut changes = Changes::default();
        changes.pool(&name, &pool);
        changes.instance(&name, 1, Some(&instance));
        changes.instance(&name, 2, Some(&instance));
        changes.learned(&name, &Learned::default());
        keeper.write(changes).await.unwrap();
        let mut changes = Changes::default();
        changes.instance(&name, 2, None);
        keeper.write(changes).await.unwrap();
        assert_eq!(keeper.trouble(), None);
        drop(keeper);
        let (_, pools) = Keeper::open(&Place::Redb, folder.path(), "main").unwrap();
        assert_eq!(pools.len(), 1);
        assert_eq!((&pools[0].name, &pools[0].record), (&name, &pool));
        assert_eq!(pools[0].instances, [instance]);
    }

    #[test]
    fn a_record_that_cannot_be_read_is_named() {
        let mut store = MemoryStore::default();
        let mut transaction = Transaction::default();
        transaction.put(
            POOLS,
            "web",
            b"{\"spec\":{\"colour\":1},\"generation\":1}".to_vec(),
        );
        store.commit(&transaction).unwrap();
        let error = Keeper::of(Box::new(store)).unwrap_err().to_string();
        assert!(error.contains("the pool web cannot be read"), "{error}");
    }

    #[test]
    fn places_are_read() {
        let place = |text: &str| text.parse::<Place>().ok();
        assert_eq!(place("redb"), Some(Place::Redb));
        let redis = Some(Place::Redis("redis://h:1/2".to_owned()));
        assert_eq!(place("redis://h:1/2"), redis);
        assert_eq!(place("redis:redis://h:1/2"), redis);
        assert_eq!(place("etcd://h"), None);
    }
}
