//! The intent on disk: a redb database, one record per VIP.
//!
//! A commit is durable when it returns. The file is created under another name and then linked, so a crash never leaves
//! half of one. A database of the previous schema is converted when it is opened.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use lb_model::{
    intent::{Intent, Vip},
    vip::VipKey,
};
use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition, TableError};
use serde::Serialize;

use self::record::VipRecord;
use crate::{KINDS, weights::Steered};

mod identity;
mod record;

/// Version of the tables and records below.
pub const SCHEMA: u64 = 2;
/// The previous version, which is converted: [`record::from_schema_1`].
const PREVIOUS_SCHEMA: u64 = 1;

const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
const SCHEMA_KEY: &str = "schema";
/// VIP as text → [`VipRecord`] as JSON.
const VIPS: TableDefinition<&str, &[u8]> = TableDefinition::new("vips");
/// VIP as text → [`Steered`] as JSON: what steering last made of it. A record that cannot be read is skipped: steering
/// then starts from the operator's weights.
const STEERED: TableDefinition<&str, &[u8]> = TableDefinition::new("steered");

/// What can go wrong with the database.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The state directory cannot be made.
    #[error("making the state directory {path}: {source}; give another one with --state")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// Another agent has it open.
    #[error(
        "{path} is in use by another agent; stop it, or give this one a directory of its own with --state"
    )]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// It was written by another version.
    #[error(
        "{path} has schema {found}, this agent knows {SCHEMA}; run the agent that wrote it, or move the file away to \
         start without VIPs"
    )]
    Schema {
        /// The file.
        path: PathBuf,
        /// The version found; `unknown` if there is none.
        found: String,
    },
    /// A record cannot be read.
    #[error(
        "{path}: the record of VIP {vip} cannot be read: {cause}; restore the file from a copy, or move it away"
    )]
    Record {
        /// The file.
        path: PathBuf,
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
    /// The database failed.
    #[error("{operation} {path}: {source}")]
    Database {
        /// What was tried.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: Box<redb::Error>,
    },
}

/// One VIP to write: as it is now, or gone.
pub type Write<'a> = (VipKey, Option<&'a Vip>);

/// The open database.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    /// None after a failed commit: redb wants the file to be opened again.
    database: Option<Database>,
}

impl Store {
    /// Name of the database in the state directory.
    pub const FILE: &'static str = "intent.redb";

    /// Opens the database in this directory; makes both if they do not exist.
    ///
    /// # Errors
    /// [`StoreError`]: in use, of another schema, or not readable.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        fs::create_dir_all(directory).map_err(|source| StoreError::Directory {
            path: directory.to_owned(),
            source,
        })?;
        let path = directory.join(Self::FILE);
        if !path.exists() {
            create(&path)?;
        }
        let database = open(&path)?;
        let mut store = Store {
            path,
            database: Some(database),
        };
        if store.check_schema()? == PREVIOUS_SCHEMA {
            store.convert()?;
        }
        Ok(store)
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn error<E: Into<redb::Error>>(
        &self,
        operation: &'static str,
    ) -> impl Fn(E) -> StoreError + use<E> {
        let path = self.path.clone();
        move |source| StoreError::Database {
            operation,
            path: path.clone(),
            source: Box::new(source.into()),
        }
    }

    fn reader(&self) -> Result<redb::ReadTransaction, StoreError> {
        match &self.database {
            Some(database) => database.begin_read().map_err(self.error("reading")),
            None => open(&self.path)?
                .begin_read()
                .map_err(self.error("reading")),
        }
    }

    /// The schema that was found, this one or the previous one.
    fn check_schema(&self) -> Result<u64, StoreError> {
        let refuse = |found: String| {
            Err(StoreError::Schema {
                path: self.path.clone(),
                found,
            })
        };
        let transaction = self.reader()?;
        let meta = match transaction.open_table(META) {
            Ok(meta) => meta,
            Err(TableError::TableDoesNotExist(_) | TableError::TableTypeMismatch { .. }) => {
                return refuse("unknown".into());
            }
            Err(error) => return Err(self.error("reading")(error)),
        };
        match meta
            .get(SCHEMA_KEY)
            .map_err(self.error("reading"))?
            .map(|value| value.value())
        {
            Some(found @ (SCHEMA | PREVIOUS_SCHEMA)) => Ok(found),
            Some(found) => refuse(found.to_string()),
            None => refuse("unknown".into()),
        }
    }

    /// Converts the records of the previous schema, all or none.
    fn convert(&mut self) -> Result<(), StoreError> {
        let mut converted = Vec::new();
        for (vip, record) in self.records()? {
            let record =
                record::from_schema_1(&record).map_err(|cause| self.unreadable(&vip, cause))?;
            converted.push((vip, record));
        }
        self.transact(|transaction| {
            let mut table = transaction.open_table(VIPS)?;
            for (vip, record) in &converted {
                table.insert(vip.as_str(), json(record)?.as_slice())?;
            }
            transaction.open_table(META)?.insert(SCHEMA_KEY, SCHEMA)?;
            Ok(())
        })?;
        tracing::info!(
            "{}: converted {} records from schema {PREVIOUS_SCHEMA} to {SCHEMA}",
            self.path.display(),
            converted.len()
        );
        Ok(())
    }

    /// Every record with its key.
    fn records(&self) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let transaction = self.reader()?;
        let table = transaction
            .open_table(VIPS)
            .map_err(self.error("reading"))?;
        let mut records = Vec::new();
        for entry in table.iter().map_err(self.error("reading"))? {
            let (key, value) = entry.map_err(self.error("reading"))?;
            records.push((key.value().to_owned(), value.value().to_owned()));
        }
        Ok(records)
    }

    fn unreadable(&self, vip: &str, cause: impl ToString) -> StoreError {
        StoreError::Record {
            path: self.path.clone(),
            vip: vip.to_owned(),
            cause: cause.to_string(),
        }
    }

    /// Everything that is stored.
    ///
    /// # Errors
    /// [`StoreError::Record`] or [`StoreError::Database`].
    pub fn load(&self) -> Result<Intent, StoreError> {
        let mut vips = Vec::new();
        for (key, record) in self.records()? {
            let unreadable = |cause: String| self.unreadable(&key, cause);
            let address: VipKey = key
                .parse()
                .map_err(|error| unreadable(format!("{error}")))?;
            let stored: VipRecord =
                serde_json::from_slice(&record).map_err(|error| unreadable(error.to_string()))?;
            let mut vip = stored.into_vip(address);
            KINDS
                .normalize_vip(&mut vip.spec)
                .map_err(|refusal| unreadable(refusal.to_string()))?;
            vips.push(vip);
        }
        Ok(vips.into_iter().collect())
    }

    /// What steering last made of each VIP, as far as it was saved.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn load_steered(&self) -> Result<BTreeMap<VipKey, Steered>, StoreError> {
        let transaction = self.reader()?;
        let table = match transaction.open_table(STEERED) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(BTreeMap::new()),
            Err(error) => return Err(self.error("reading")(error)),
        };
        let mut all = BTreeMap::new();
        for entry in table.iter().map_err(self.error("reading"))? {
            let (key, value) = entry.map_err(self.error("reading"))?;
            if let (Ok(vip), Ok(steered)) =
                (key.value().parse(), serde_json::from_slice(value.value()))
            {
                all.insert(vip, steered);
            }
        }
        Ok(all)
    }

    /// Saves what steering made of all VIPs, in the place of what was saved before.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn save_steered(&mut self, all: &BTreeMap<VipKey, Steered>) -> Result<(), StoreError> {
        self.transact(|transaction| {
            transaction.delete_table(STEERED)?;
            let mut table = transaction.open_table(STEERED)?;
            for (vip, steered) in all {
                table.insert(vip.to_string().as_str(), json(steered)?.as_slice())?;
            }
            Ok(())
        })
    }

    /// Writes all of these, or none. When it returns without an error they are on disk; with one it is
    /// not certain that they are not.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn commit<'a>(
        &mut self,
        writes: impl IntoIterator<Item = Write<'a>>,
    ) -> Result<(), StoreError> {
        self.transact(|transaction| {
            let mut table = transaction.open_table(VIPS)?;
            for (name, vip) in writes {
                let key = name.to_string();
                match vip {
                    Some(vip) => {
                        table.insert(key.as_str(), json(&VipRecord::json(vip))?.as_slice())?;
                    }
                    None => {
                        table.remove(key.as_str())?;
                    }
                }
            }
            Ok(())
        })
    }

    fn transact(
        &mut self,
        write: impl FnOnce(&redb::WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), StoreError> {
        let database = match self.database.take() {
            Some(database) => database,
            None => open(&self.path)?,
        };
        let write = || -> Result<(), redb::Error> {
            let transaction = database.begin_write()?;
            write(&transaction)?;
            transaction.commit()?;
            Ok(())
        };
        write().map_err(self.error("writing"))?;
        // After an error it is dropped, to be opened again next time.
        self.database = Some(database);
        Ok(())
    }
}

fn json(record: &impl Serialize) -> Result<Vec<u8>, redb::Error> {
    serde_json::to_vec(record).map_err(|error| redb::Error::Io(std::io::Error::other(error)))
}

fn open(path: &Path) -> Result<Database, StoreError> {
    Database::open(path).map_err(|error| match error {
        redb::DatabaseError::DatabaseAlreadyOpen => StoreError::InUse {
            path: path.to_owned(),
        },
        other => StoreError::Database {
            operation: "opening",
            path: path.to_owned(),
            source: Box::new(other.into()),
        },
    })
}

fn create(path: &Path) -> Result<(), StoreError> {
    let failed = |source: redb::Error| StoreError::Database {
        operation: "making",
        path: path.to_owned(),
        source: Box::new(source),
    };
    // The process's number keeps two agents that start at once apart.
    let new = path.with_extension(format!("{}.new", std::process::id()));
    let make = || -> Result<(), redb::Error> {
        let database = Database::create(&new)?;
        let transaction = database.begin_write()?;
        transaction.open_table(META)?.insert(SCHEMA_KEY, SCHEMA)?;
        transaction.open_table(VIPS)?;
        transaction.commit()?;
        drop(database);
        // A hard link fails if another agent was faster; then theirs counts.
        match fs::hard_link(&new, path) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(redb::Error::Io(error));
            }
            _ => {}
        }
        fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()?;
        Ok(())
    };
    let made = make();
    // Whatever happened, this name is of no use any more.
    let _ = fs::remove_file(&new);
    made.map_err(failed)
}

#[cfg(test)]
mod tests;
