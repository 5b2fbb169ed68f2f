//! The store: what is in it, and a thread that writes.
//!
//! All records are in memory, too. When the server of the store is away, pools go on, and changes of settings are refused;
//! when it is back and has lost something, everything is written again.
//!
//! A server that hangs holds up nobody for long: see [`Keeper::write`].

mod backup;
mod writer;

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    thread::JoinHandle,
    time::{Duration, Instant},
};

pub use backup::{Backup, BackupError};
use lb_model::duration;
use lb_store::{Format, RedbStore, RedisStore, Revision, Store, StoreError};
use tokio::sync::oneshot;

use self::writer::{Inner, read_all};
use crate::records::{NAMES, Record, Stored, Unreadable};

/// How long anybody waits for the store. A server answers in milliseconds; a disk that is busy may take longer.
pub const WAIT: Duration = Duration::from_secs(2);
/// How often the store is looked after while it does not work, ...
const LOOK: Duration = Duration::from_secs(1);
/// ... and in how many of these looks while it does.
const CHECK: u32 = 5;
/// The database in the controller's folder.
const FILE: &str = "controller.redb";
/// Version of the records.
const SCHEMA: u64 = 1;
/// Changes that are written together at most: whoever asks for the second while the first is written need not wait for a turn.
const TOGETHER: usize = 256;

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// The store failed.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// A record cannot be read.
    #[error(transparent)]
    Record(#[from] Unreadable),
    /// It does not work now.
    #[error("{0}")]
    Away(String),
    /// Its thread has ended.
    #[error("the store's thread has ended")]
    Ended,
    /// Its thread could not be started.
    #[error("starting a thread for the store: {0}")]
    Thread(std::io::Error),
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

impl Place {
    /// Opens the store that is there.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(&self, folder: &Path, name: &str) -> Result<Box<dyn Store>, StoreError> {
        Ok(match self {
            Place::Redb => Box::new(RedbStore::open(
                &folder.join(FILE),
                &Format {
                    schema: SCHEMA,
                    older: 0..=0,
                    tables: NAMES,
                },
                &mut |found, _, _, _| Err(format!("schema {found} was never written")),
            )?),
            Place::Redis(url) => Box::new(RedisStore::open(url, name, SCHEMA, NAMES)?),
        })
    }
}

/// A store that was opened.
#[derive(Debug)]
pub struct Opened {
    /// The store.
    pub keeper: Keeper,
    /// What is in it.
    pub stored: Stored,
    /// Its thread.
    pub thread: JoinHandle<()>,
}

/// What is known of the store without asking it.
#[derive(Debug)]
struct Shared {
    location: String,
    /// Never held while the store works.
    status: Mutex<Status>,
}

#[derive(Debug, Default)]
struct Status {
    /// Why it does not work, if it does not.
    trouble: Option<String>,
    /// Jobs that it was given and has not done.
    waiting: usize,
    /// Since when it works at the first of these, or is to.
    busy_since: Option<Instant>,
}

/// What the store's thread is to do.
#[derive(Debug)]
enum Job {
    /// To write; the answer goes to the sender. If nobody waits for it any more when its turn comes, nothing is written.
    Write(Changes, oneshot::Sender<Result<Revision, KeeperError>>),
    /// To write with the next changes that are written, whoever waits.
    Owe(Changes),
    /// To look whether everything is still there.
    Check,
    /// A copy of everything.
    Copy(oneshot::Sender<Backup>),
}

/// The store. Its thread does the work, so whoever asks waits no longer than [`WAIT`] for a server that hangs, and what is
/// known of the store is known without it.
#[derive(Clone, Debug)]
pub struct Keeper {
    shared: Arc<Shared>,
    jobs: mpsc::Sender<Job>,
}

/// What is written together.
#[derive(Debug, Default)]
pub struct Changes(Vec<(&'static str, String, Option<Vec<u8>>)>);

impl Changes {
    /// Whether nothing is written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Writes or removes a record.
    pub fn set<R: Record>(&mut self, key: impl ToString, record: Option<&R>) {
        // Records are plain data.
        let bytes = record.map(|record| serde_json::to_vec(record).unwrap_or_default());
        self.0.push((R::TABLE, key.to_string(), bytes));
    }

    /// Writes a record.
    pub fn put<R: Record>(&mut self, key: impl ToString, record: &R) {
        self.set(key, Some(record));
    }

    /// Removes a record.
    pub fn remove<R: Record>(&mut self, key: impl ToString) {
        self.set::<R>(key, None);
    }

    /// Adds further changes, which count more.
    fn extend(&mut self, further: Changes) {
        self.0.extend(further.0);
    }
}

impl Keeper {
    /// Opens the store, and starts its thread, which ends when the last keeper is dropped.
    ///
    /// # Errors
    /// It cannot be opened, or a record of it cannot be read.
    pub fn open(place: &Place, folder: &Path, name: &str) -> Result<Opened, KeeperError> {
        Self::of(place.open(folder, name)?)
    }

    /// Reads a store, and starts its thread.
    ///
    /// # Errors
    /// A record cannot be read.
    pub fn of(store: Box<dyn Store>) -> Result<Opened, KeeperError> {
        let shared = Arc::new(Shared {
            location: store.location(),
            status: Mutex::default(),
        });
        let mirror = read_all(&*store)?;
        let stored = Stored::checked(shared.location.clone(), mirror.clone())?;
        let inner = Inner {
            mirror,
            store,
            owed: Changes::default(),
            shared: Arc::clone(&shared),
        };
        let (jobs, receiver) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || inner.run(&receiver))
            .map_err(KeeperError::Thread)?;
        Ok(Opened {
            keeper: Keeper { shared, jobs },
            stored,
            thread,
        })
    }

    /// Where it is.
    #[must_use]
    pub fn location(&self) -> &str {
        &self.shared.location
    }

    /// Writes all or nothing, and returns when that is durable, or after [`WAIT`]. While the store does not work this returns
    /// at once.
    ///
    /// # Errors
    /// It was not written, as far as is known.
    pub async fn write(&self, changes: Changes) -> Result<Revision, KeeperError> {
        if let Some(trouble) = self.trouble() {
            return Err(KeeperError::Away(trouble));
        }
        let (reply, answer) = oneshot::channel();
        self.send(Job::Write(changes, reply))?;
        match tokio::time::timeout(WAIT, answer).await {
            Ok(answer) => answer.unwrap_or(Err(KeeperError::Ended)),
            Err(_) => Err(KeeperError::Away(silent(&self.shared.location, WAIT))),
        }
    }

    /// Has this written before anything else, as soon as the store works: it undoes what a caller was told was not written.
    pub fn owe(&self, changes: Changes) {
        // Without its thread the store takes nothing, and the process ends.
        let _ = self.send(Job::Owe(changes));
    }

    /// A copy of everything that is stored.
    ///
    /// # Errors
    /// The store does not answer in time.
    pub async fn copy(&self) -> Result<Backup, KeeperError> {
        let (reply, answer) = oneshot::channel();
        self.send(Job::Copy(reply))?;
        match tokio::time::timeout(WAIT, answer).await {
            Ok(answer) => answer.map_err(|_| KeeperError::Ended),
            Err(_) => Err(KeeperError::Away(silent(&self.shared.location, WAIT))),
        }
    }

    fn send(&self, job: Job) -> Result<(), KeeperError> {
        {
            // Noted here, since a thread that hangs may not even begin.
            let mut status = self.shared.status();
            status.waiting += 1;
            status.busy_since.get_or_insert_with(Instant::now);
        }
        self.jobs.send(job).map_err(|_| KeeperError::Ended)
    }

    /// Has the store looked after until the process ends: whether the server still has everything, and whether one that was
    /// away is back.
    pub async fn watch(self) {
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for tick in 0_u32.. {
            ticks.tick().await;
            let status = self.shared.status();
            let is_due = tick.is_multiple_of(CHECK) || status.trouble.is_some();
            let is_free = status.busy_since.is_none();
            drop(status);
            if is_free && is_due && self.send(Job::Check).is_err() {
                return;
            }
        }
    }

    /// Why the store does not work; `None` if it does. This does not ask the store.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        let status = self.shared.status();
        if status.trouble.is_some() {
            return status.trouble.clone();
        }
        let busy = status.busy_since?.elapsed();
        (busy > WAIT).then(|| silent(&self.shared.location, busy))
    }
}

/// What a store says that does not answer.
fn silent(location: &str, since: Duration) -> String {
    let since = duration::format(Duration::from_secs(since.as_secs()));
    format!("{location} has not answered for {since}")
}

impl Shared {
    fn status(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use lb_model::pool::PoolName;
    use lb_store::{MemoryStore, Records, Transaction};
    use serde_json::json;

    use super::*;
    use crate::pool::{InstanceRecord, Learned, PoolRecord, StoredPool};

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
            power: lb_commands::environment::Power::default(),
        };
        let instance = InstanceRecord {
            name: "web-1-9".parse().unwrap(),
            role: crate::pool::Role::Serving,
            since: Duration::from_secs(5),
            launched: Duration::from_secs(4),
            generation: 3,
            reason: "scaled out".to_owned(),
            is_update: false,
            was_healthy: false,
            host: Some("h1".parse().unwrap()),
            next: None,
            stands_for: None,
            cloned_from: None,
            claim: crate::hosts::placement::Claim::new(0.5, 1 << 20),
        };
        let folder = tempfile::tempdir().unwrap();
        let open = || Keeper::open(&Place::Redb, folder.path(), "main").unwrap();
        let Opened {
            keeper,
            stored,
            thread,
        } = open();
        assert!(StoredPool::read(&stored).unwrap().is_empty());
        let mut changes = Changes::default();
        changes.put(&name, &pool);
        changes.put(InstanceRecord::key(&name, 1), &instance);
        changes.put(InstanceRecord::key(&name, 2), &instance);
        changes.put(&name, &Learned::default());
        keeper.write(changes).await.unwrap();
        let mut changes = Changes::default();
        changes.remove::<InstanceRecord>(InstanceRecord::key(&name, 2));
        keeper.write(changes).await.unwrap();
        assert_eq!(keeper.trouble(), None);
        drop(keeper);
        thread.join().unwrap();
        let pools = StoredPool::read(&open().stored).unwrap();
        assert_eq!(pools.len(), 1);
        assert_eq!((&pools[0].name, &pools[0].record), (&name, &pool));
        assert_eq!(pools[0].instances, [instance]);
    }

    #[test]
    fn a_record_that_cannot_be_read_is_named() {
        let mut store = MemoryStore::default();
        let mut transaction = Transaction::default();
        transaction.put(
            PoolRecord::TABLE,
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

    /// A server that can be stopped: it answers when it is let to.
    #[derive(Debug)]
    struct Stopped {
        store: MemoryStore,
        is_stopped: Arc<AtomicBool>,
        /// It panics instead.
        panics: bool,
    }

    impl Store for Stopped {
        fn location(&self) -> String {
            "the server".to_owned()
        }

        fn identity(&self) -> u64 {
            self.store.identity()
        }

        fn revision(&self) -> Revision {
            self.store.revision()
        }

        fn get(&self, table: &str, key: &str) -> Result<Option<lb_store::Entry>, StoreError> {
            self.store.get(table, key)
        }

        fn list(&self, table: &str) -> Result<Vec<lb_store::Entry>, StoreError> {
            self.store.list(table)
        }

        fn commit(&mut self, transaction: &Transaction) -> Result<Revision, StoreError> {
            assert!(!self.panics, "the store panics");
            while self.is_stopped.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(5));
            }
            self.store.commit(transaction)
        }

        fn check(&self) -> Result<(), StoreError> {
            self.store.check()
        }

        fn rewrite(&mut self, tables: &[(&str, Records)]) -> Result<Revision, StoreError> {
            self.store.rewrite(tables)
        }

        fn changes_since(
            &self,
            revision: Revision,
        ) -> Result<Vec<lb_store::Change>, lb_store::Compacted> {
            self.store.changes_since(revision)
        }

        fn subscribe(&self) -> tokio::sync::watch::Receiver<Revision> {
            self.store.subscribe()
        }
    }

    #[tokio::test]
    async fn a_store_that_panics_ends_its_thread_and_is_told() {
        let opened = Keeper::of(Box::new(Stopped {
            store: MemoryStore::default(),
            is_stopped: Arc::default(),
            panics: true,
        }));
        let Opened { keeper, thread, .. } = opened.unwrap();
        let mut vital = lb_serve::vital::Vital::new();
        vital.thread("the store", thread).unwrap();
        let asked = Instant::now();
        let error = keeper.write(Changes::default()).await.unwrap_err();
        assert!(matches!(error, KeeperError::Ended), "{error}");
        assert!(asked.elapsed() < WAIT, "nobody waits for it");
        let end = vital.next_end().await.to_string();
        assert!(
            end.contains("the store") && end.contains("the store panics"),
            "{end}"
        );
        assert!(keeper.write(Changes::default()).await.is_err());
    }

    #[tokio::test]
    async fn a_thread_that_does_not_even_begin_is_noticed() {
        // Nobody takes the jobs.
        let (jobs, _receiver) = mpsc::channel();
        let shared = Arc::new(Shared {
            location: "the file".to_owned(),
            status: Mutex::default(),
        });
        let keeper = Keeper { shared, jobs };
        assert_eq!(keeper.trouble(), None);
        keeper.write(Changes::default()).await.unwrap_err();
        while keeper.trouble().is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let trouble = keeper.trouble().unwrap();
        assert!(
            trouble.starts_with("the file has not answered for "),
            "{trouble}"
        );
        // The next one is told at once.
        let asked = Instant::now();
        keeper.write(Changes::default()).await.unwrap_err();
        assert!(asked.elapsed() < WAIT);
    }

    #[tokio::test]
    async fn a_store_that_hangs_holds_up_nobody_and_takes_back_what_was_refused() {
        let is_stopped = Arc::new(AtomicBool::new(true));
        let opened = Keeper::of(Box::new(Stopped {
            store: MemoryStore::default(),
            is_stopped: Arc::clone(&is_stopped),
            panics: false,
        }));
        let Opened { keeper, thread, .. } = opened.unwrap();
        let record = PoolRecord {
            spec: serde_json::Map::new(),
            generation: 1,
            last_epoch: 0,
            is_deleted: false,
            owner: crate::pool::PoolOwner::Api,
            power: lb_commands::environment::Power::default(),
        };
        let (web, shop): (PoolName, PoolName) = ("web".parse().unwrap(), "shop".parse().unwrap());
        let add = |name: &PoolName| {
            let mut changes = Changes::default();
            changes.put(name, &record);
            keeper.write(changes)
        };
        let asked = Instant::now();
        add(&web).await.unwrap_err();
        assert!(asked.elapsed() < WAIT * 3);
        let mut undo = Changes::default();
        undo.remove::<PoolRecord>(&web);
        keeper.owe(undo);
        // From now on nobody waits at all, and what is known is known without the store.
        while keeper.trouble().is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let trouble = keeper.trouble().unwrap();
        assert!(
            trouble.starts_with("the server has not answered for "),
            "{trouble}"
        );
        let asked = Instant::now();
        add(&shop).await.unwrap_err();
        assert!(asked.elapsed() < WAIT);
        is_stopped.store(false, Ordering::Relaxed);
        while keeper.trouble().is_some() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // The first write came late, and is undone with the next.
        add(&shop).await.unwrap();
        let backup = keeper.copy().await.unwrap();
        assert!(
            backup.write().contains("\"shop\"") && !backup.write().contains("\"web\""),
            "{}",
            backup.write()
        );
        drop(keeper);
        thread.join().unwrap();
    }
}
