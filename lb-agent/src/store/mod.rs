//! What the agent keeps in its state directory: the intent, and apart from it what this host has learned.
//!
//! The intent (`intent.redb`) has one record per VIP; a commit is durable when it returns. What steering made of the
//! weights (`learned.redb`) belongs to this host alone: it is saved now and then, and an agent without it starts from the
//! operator's weights. [`lb_store`] has the revisions, the checksums and the history of changes.

use std::path::{Path, PathBuf};

use lb_model::{
    intent::{Intent, Vip},
    vip::VipKey,
};
use lb_store::{Change, Compacted, Format, Records, RedbStore, Revision, Store, Transaction};
use serde::Serialize;

use self::record::VipRecord;
use crate::KINDS;

pub mod backup;
mod learned;
mod record;
#[cfg(test)]
mod tests;

pub use learned::LearnedStore;

/// Version of the intent's records; older ones are upgraded.
pub const SCHEMA: u64 = 3;
/// VIP as text → [`VipRecord`] as JSON.
const VIPS: &str = "vips";
/// Table of older versions; now in a file of its own.
const STEERED: &str = "steered";

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A store failed.
    #[error("{failure}{}", advice(failure))]
    Store {
        /// What failed.
        #[from]
        failure: lb_store::StoreError,
    },
    /// A record holds no VIP.
    #[error(
        "{location}: the record of VIP {vip} cannot be read: {cause}; restore a backup (lb-agent restore), or move the \
         file away to start without VIPs"
    )]
    Record {
        /// The file.
        location: String,
        /// Its key.
        vip: String,
        /// The cause.
        cause: String,
    },
    /// The owner's thread cannot be made.
    #[error("starting the thread that owns the store: {source}")]
    Thread {
        /// The cause.
        source: std::io::Error,
    },
}

impl StoreError {
    /// Whether another process has the file open.
    #[must_use]
    pub const fn is_in_use(&self) -> bool {
        matches!(
            self,
            StoreError::Store {
                failure: lb_store::StoreError::InUse { .. }
            }
        )
    }

    /// Whether the file was removed or truncated under the agent, so that [`IntentStore::rewrite`] helps.
    #[must_use]
    pub const fn is_loss(&self) -> bool {
        matches!(
            self,
            StoreError::Store {
                failure: lb_store::StoreError::Lost { .. }
            }
        )
    }
}

/// What to do about a failed store.
fn advice(error: &lb_store::StoreError) -> &'static str {
    use lb_store::StoreError::{
        Conflict, Damaged, Database, Directory, InUse, Lost, Record, Remote, Schema,
    };
    match error {
        Directory { .. } => "; give another one with --state",
        InUse { .. } => {
            " (another agent?); stop it, or give this one a directory of its own with --state"
        }
        Schema { .. } => {
            "; run the agent that wrote it, or move the file away to start without VIPs"
        }
        Damaged { .. } | Record { .. } => {
            "; restore a backup (lb-agent restore), or move the file away to start without VIPs"
        }
        Database { .. } if error.is_read_only() => {
            "; see that the state directory can be written, or give another one with --state"
        }
        Conflict { .. } | Database { .. } | Lost { .. } | Remote { .. } => "",
    }
}

/// The stores of a state directory.
#[derive(Debug)]
pub struct State {
    /// What is wanted.
    pub intent: IntentStore,
    /// What this host has learned.
    pub learned: LearnedStore,
}

impl State {
    /// Opens the stores in this directory; creates what does not exist.
    ///
    /// # Errors
    /// [`StoreError`]: in use, of another schema, damaged, or not readable. A damaged `learned.redb` is set aside with a
    /// warning.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let mut steered = Vec::new();
        let intent = IntentStore::open(directory, &mut steered)?;
        let mut learned = LearnedStore::open(directory)?;
        learned.import(steered);
        Ok(State { intent, learned })
    }
}

/// One VIP to write.
#[derive(Clone, Copy, Debug)]
pub struct Write<'a> {
    /// Its name.
    pub name: VipKey,
    /// As it is now; `None` if it is deleted.
    pub vip: Option<&'a Vip>,
    /// Its record as it is on disk.
    pub stored: Stored,
}

/// What is known of a record on disk. A commit writes nothing if it is otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// There is none.
    Absent,
    /// It was last written at this revision.
    At(Revision),
    /// Nothing is certain, since a commit failed.
    Unsure,
}

/// The intent on disk.
#[derive(Debug)]
pub struct IntentStore {
    store: Box<dyn Store>,
}

impl IntentStore {
    /// Name of the file in the state directory.
    pub const FILE: &'static str = "intent.redb";
    const FORMAT: Format = Format {
        schema: SCHEMA,
        older: 1..=2,
        tables: &[VIPS, STEERED],
    };

    /// Opens the file. What an older version stored of steering goes to `steered`.
    fn open(directory: &Path, steered: &mut Vec<(String, Vec<u8>)>) -> Result<Self, StoreError> {
        let path = Self::path(directory);
        let mut upgraded = 0;
        let store = RedbStore::open(&path, &Self::FORMAT, &mut |found, table, key, value| {
            if table == STEERED {
                steered.push((key.to_owned(), value.to_owned()));
                return Ok(None);
            }
            let record = record::upgrade(found, value)?;
            upgraded += 1;
            serde_json::to_vec(&record)
                .map(Some)
                .map_err(|error| error.to_string())
        })?;
        if upgraded > 0 {
            tracing::info!(
                "{}: upgraded {upgraded} records to schema {SCHEMA}",
                path.display()
            );
        }
        Ok(IntentStore {
            store: Box::new(store),
        })
    }

    /// Creates the file in a directory that has none.
    fn create(
        directory: &Path,
        identity: u64,
        revision: u64,
        intent: &Intent,
    ) -> Result<(), StoreError> {
        Ok(RedbStore::create(
            &Self::path(directory),
            &Self::FORMAT,
            identity,
            Revision(revision),
            &[(VIPS, records(intent))],
        )?)
    }

    /// The path of the file in a state directory.
    #[must_use]
    pub fn path(directory: &Path) -> PathBuf {
        directory.join(Self::FILE)
    }

    /// Where it is, for messages.
    #[must_use]
    pub fn location(&self) -> String {
        self.store.location()
    }

    /// The store's id, not 0: pinned tables bear it, so that an agent with another database does not take them for its own.
    #[must_use]
    pub fn identity(&self) -> u64 {
        self.store.identity()
    }

    /// The revision of the last commit.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.store.revision()
    }

    /// Everything that is stored.
    ///
    /// # Errors
    /// [`StoreError`]: a damaged record, or a file that cannot be read.
    pub fn load(&self) -> Result<Intent, StoreError> {
        let entries = self.store.list(VIPS)?.into_iter();
        entries
            .map(|entry| {
                let unreadable = |cause: String| StoreError::Record {
                    location: self.store.location(),
                    vip: entry.key.clone(),
                    cause,
                };
                let address: VipKey = entry
                    .key
                    .parse()
                    .map_err(|error| unreadable(format!("{error}")))?;
                let stored: VipRecord = serde_json::from_slice(&entry.value)
                    .map_err(|error| unreadable(error.to_string()))?;
                let mut vip = stored.into_vip(address, entry.revision.0);
                KINDS
                    .normalize_vip(&mut vip.spec)
                    .map_err(|refusal| unreadable(refusal.to_string()))?;
                Ok(vip)
            })
            .collect()
    }

    /// Writes all of these, or none, and returns the revision. When it returns without an error they are on disk; with one
    /// it is not certain that they are not.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn commit<'a>(
        &mut self,
        writes: impl IntoIterator<Item = Write<'a>>,
    ) -> Result<Revision, StoreError> {
        let mut transaction = Transaction::default();
        for write in writes {
            let key = write.name.to_string();
            match write.stored {
                Stored::Absent => transaction.expect(VIPS, key.as_str(), None),
                Stored::At(revision) => transaction.expect(VIPS, key.as_str(), Some(revision)),
                Stored::Unsure => {}
            }
            match write.vip {
                Some(vip) => transaction.put(VIPS, key, json(&VipRecord::json(vip))),
                None => transaction.remove(VIPS, key),
            }
        }
        Ok(self.store.commit(&transaction)?)
    }

    /// Checks that the file is still what was written.
    ///
    /// # Errors
    /// [`StoreError`]; see [`StoreError::is_loss`].
    pub fn check(&self) -> Result<(), StoreError> {
        Ok(self.store.check()?)
    }

    /// Writes the whole intent in the place of everything there is, and returns the revision that all VIPs then have.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn rewrite(&mut self, intent: &Intent) -> Result<Revision, StoreError> {
        Ok(self.store.rewrite(&[(VIPS, records(intent))])?)
    }

    /// The VIPs that commits after `revision` changed or deleted, oldest change first.
    ///
    /// # Errors
    /// [`Compacted`] if that is too long ago.
    pub fn changed_since(&self, revision: Revision) -> Result<Vec<VipKey>, Compacted> {
        let changes = self.store.changes_since(revision)?.into_iter();
        Ok(changes
            .filter(|change| change.table == VIPS)
            .filter_map(|change: Change| change.key.parse().ok())
            .collect())
    }
}

/// The records of all VIPs.
fn records(intent: &Intent) -> Records {
    let vips = intent.vips();
    vips.map(|vip| (vip.address.to_string(), json(&VipRecord::json(vip))))
        .collect()
}

/// The JSON text of a record. Records have text as keys and no number that JSON lacks, so this cannot fail.
fn json(record: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(record).unwrap_or_default()
}
