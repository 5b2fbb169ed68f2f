//! Objects with a revision: what the agent and the controller keep of what is wanted.
//!
//! A [`Store`] holds tables of records under text keys. Each commit has a [`Revision`], one higher than the last, and each
//! record knows the revision that last wrote it. A [`Transaction`] is written whole or not at all, and can depend on
//! records being as its writer last saw them (compare-and-set), so that two writers do not silently undo each other's
//! changes. [`Store::changes_since`] and [`Store::subscribe`] together are a watch.
//!
//! [`RedbStore`] is on disk and belongs to one process; a commit is durable when it returns. [`RedisStore`] is in a Redis server.
//! [`MemoryStore`] is for tests.

#![forbid(unsafe_code)]

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod copy;
mod envelope;
mod error;
mod history;
mod memory;
mod redb_file;
mod redb_store;
mod redis_store;
#[cfg(test)]
mod tests;
mod transaction;

use std::{
    fmt,
    hash::{BuildHasher as _, Hasher as _, RandomState},
};

use tokio::sync::watch;

pub use self::{
    copy::{CopyError, CopyForm},
    error::StoreError,
    history::Compacted,
    memory::MemoryStore,
    redb_store::{Format, RedbStore, Upgrade},
    redis_store::RedisStore,
    transaction::{Condition, Transaction, Write},
};

/// Number of a commit, counted from 1; 0 is an empty store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl Revision {
    /// The revision of the next commit.
    #[must_use]
    pub const fn next(self) -> Self {
        Revision(self.0 + 1)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its key in the table.
    pub key: String,
    /// What was written.
    pub value: Vec<u8>,
    /// The commit that wrote it.
    pub revision: Revision,
}

/// Keys and values of a table.
pub type Records = Vec<(String, Vec<u8>)>;

/// A record that a commit wrote or removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The commit.
    pub revision: Revision,
    /// The table.
    pub table: String,
    /// The record's key.
    pub key: String,
}

/// Tables of records, with the revision of each.
pub trait Store: fmt::Debug + Send {
    /// Where it is, for messages: a path or an address.
    fn location(&self) -> String;

    /// A random number that was chosen when the store was created, not 0. Copies of a store have the same.
    fn identity(&self) -> u64;

    /// The revision of the last commit.
    fn revision(&self) -> Revision;

    /// Returns one record; `None` if there is none with this key.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be read, or the record is damaged.
    fn get(&self, table: &str, key: &str) -> Result<Option<Entry>, StoreError>;

    /// Returns all records of a table, by key. A table that was never written is empty.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be read, or a record is damaged.
    fn list(&self, table: &str) -> Result<Vec<Entry>, StoreError>;

    /// Writes a transaction whole or not at all, and returns its revision. It is durable then.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if one of its conditions does not hold; nothing is written then. After any other error it
    /// is not certain whether it was written.
    fn commit(&mut self, transaction: &Transaction) -> Result<Revision, StoreError>;

    /// Checks that what was committed is still where it was written. This costs little and can be done often.
    ///
    /// # Errors
    /// [`StoreError::Lost`] if it was removed or truncated; [`Store::rewrite`] puts it back. [`StoreError::Damaged`] if
    /// something else is in its place.
    fn check(&self) -> Result<(), StoreError>;

    /// Puts these tables in the place of everything there is, as one commit, also where [`Store::check`] found nothing.
    ///
    /// # Errors
    /// [`StoreError`] if that cannot be written; the store is as it was then.
    fn rewrite(&mut self, tables: &[(&str, Records)]) -> Result<Revision, StoreError>;

    /// Returns what commits after `revision` wrote or removed, oldest first; a record that changed several times stands
    /// there once, at its last change.
    ///
    /// # Errors
    /// [`Compacted`] if the store no longer knows that far back; list the tables instead.
    fn changes_since(&self, revision: Revision) -> Result<Vec<Change>, Compacted>;

    /// Returns a receiver that holds the revision of the last commit and wakes up at each commit.
    fn subscribe(&self) -> watch::Receiver<Revision>;
}

/// A random number, not 0: the standard library seeds each `RandomState` of a process from the system's random numbers.
fn new_identity() -> u64 {
    RandomState::new().build_hasher().finish() | 1
}
