//! A store in a redb file, for one process.

use std::{
    fs,
    io::ErrorKind,
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

use redb::{ReadableDatabase as _, ReadableTable as _, TableError};
use tokio::sync::watch;

use crate::{
    Change, Compacted, Condition, Entry, Records, Revision, Store, StoreError, Transaction,
    envelope,
    history::History,
    new_identity,
    redb_file::{
        FileIdentity, Header, IDENTITY, META, OpenDatabase, REVISION, SCHEMA, create, guarded,
        open, records, refuse_existing, write_copy,
    },
};

/// Turns the records of an older schema into those of the current one. It gets the schema that was found, the table, the
/// key and the value, and returns the new value, `None` to leave the record out, or what is wrong with it.
pub type Upgrade<'a> = &'a mut dyn FnMut(u64, &str, &str, &[u8]) -> Result<Option<Vec<u8>>, String>;

/// What a file holds.
#[derive(Clone, Debug)]
pub struct Format {
    /// Version of the records that are written.
    pub schema: u64,
    /// Older versions that can be upgraded. Their records have no envelope.
    pub older: RangeInclusive<u64>,
    /// Tables whose records are upgraded.
    pub tables: &'static [&'static str],
}

/// A store in a redb file.
#[derive(Debug)]
pub struct RedbStore {
    path: PathBuf,
    schema: u64,
    identity: u64,
    /// `None` after a failed commit: redb wants the file to be opened again.
    database: Option<OpenDatabase>,
    /// The file as it was after the last commit.
    file: FileIdentity,
    history: History,
}

impl RedbStore {
    /// Opens the file; creates it and its directory if they do not exist. An older schema is upgraded, all records or
    /// none.
    ///
    /// # Errors
    /// [`StoreError`]: in use, of an unknown schema, damaged, or not readable.
    pub fn open(path: &Path, format: &Format, upgrade: Upgrade<'_>) -> Result<Self, StoreError> {
        let directory = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(directory).map_err(|source| StoreError::Directory {
            path: directory.to_owned(),
            source,
        })?;
        if !path.exists() {
            create(path, format.schema)?;
        }
        let database = open(path)?;
        let mut store = RedbStore {
            path: path.to_owned(),
            schema: format.schema,
            identity: 0,
            file: FileIdentity::of(path)?,
            database: Some(database),
            history: History::new(Revision::default()),
        };
        let found = store.check_schema(format)?;
        if found != format.schema {
            store.upgrade(found, format, upgrade)?;
        }
        store.identity = match store.read_meta(IDENTITY)? {
            Some(identity) => identity,
            None => {
                let identity = new_identity();
                store.write(|transaction| {
                    transaction.open_table(META)?.insert(IDENTITY, identity)?;
                    Ok(())
                })?;
                identity
            }
        };
        store.history = History::new(store.read_revision()?);
        Ok(store)
    }

    /// Creates a file with this identity, and with these records at this revision.
    ///
    /// # Errors
    /// [`StoreError`] if the file exists or cannot be written.
    pub fn create(
        path: &Path,
        format: &Format,
        identity: u64,
        revision: Revision,
        tables: &[(&str, Records)],
    ) -> Result<(), StoreError> {
        refuse_existing(path)?;
        let header = Header {
            schema: format.schema,
            identity,
            revision,
        };
        write_copy(path, header, tables)
    }

    fn header(&self, revision: Revision) -> Header {
        Header {
            schema: self.schema,
            identity: self.identity,
            revision,
        }
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

    fn read<T>(
        &self,
        read: impl FnOnce(&redb::ReadTransaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        guarded(&self.path, || {
            let reopened;
            let database = match &self.database {
                Some(database) => database,
                None => {
                    reopened = open(&self.path)?;
                    &reopened
                }
            };
            let database = database.get().map_err(self.error("reading"))?;
            read(&database.begin_read().map_err(self.error("reading"))?)
        })
    }

    /// Returns the schema of the file if it is one of the format's.
    fn check_schema(&self, format: &Format) -> Result<u64, StoreError> {
        let refuse = |found: String| {
            Err(StoreError::Schema {
                path: self.path.clone(),
                found,
                known: format.schema,
            })
        };
        match self.read_meta(SCHEMA)? {
            Some(found) if found == format.schema || format.older.contains(&found) => Ok(found),
            Some(found) => refuse(found.to_string()),
            None => refuse("unknown".into()),
        }
    }

    fn read_revision(&self) -> Result<Revision, StoreError> {
        Ok(Revision(self.read_meta(REVISION)?.unwrap_or_default()))
    }

    fn read_meta(&self, name: &str) -> Result<Option<u64>, StoreError> {
        self.read(|transaction| {
            let meta = match transaction.open_table(META) {
                Ok(meta) => meta,
                Err(TableError::TableDoesNotExist(_) | TableError::TableTypeMismatch { .. }) => {
                    return Ok(None);
                }
                Err(error) => return Err(self.error("reading")(error)),
            };
            let value = meta.get(name).map_err(self.error("reading"))?;
            Ok(value.map(|value| value.value()))
        })
    }

    /// Every record of a table as it is on disk.
    fn raw(&self, table: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        self.read(|transaction| {
            let table = match transaction.open_table(records(table)) {
                Ok(table) => table,
                Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
                Err(error) => return Err(self.error("reading")(error)),
            };
            let mut all = Vec::new();
            for entry in table.iter().map_err(self.error("reading"))? {
                let (key, value) = entry.map_err(self.error("reading"))?;
                all.push((key.value().to_owned(), value.value().to_owned()));
            }
            Ok(all)
        })
    }

    fn upgrade(
        &mut self,
        found: u64,
        format: &Format,
        upgrade: Upgrade<'_>,
    ) -> Result<(), StoreError> {
        let revision = Revision(1);
        let mut upgraded = Vec::new();
        for table in format.tables {
            for (key, value) in self.raw(table)? {
                let value = upgrade(found, table, &key, &value)
                    .map_err(|cause| self.unreadable(table, &key, cause))?;
                upgraded.push((*table, key, value));
            }
        }
        self.write(|transaction| {
            for (table, key, value) in &upgraded {
                let mut table_now = transaction.open_table(records(table))?;
                match value {
                    Some(value) => {
                        let sealed = envelope::seal(table, key, revision, value);
                        table_now.insert(key.as_str(), sealed.as_slice())?;
                    }
                    None => {
                        table_now.remove(key.as_str())?;
                    }
                }
            }
            let mut meta = transaction.open_table(META)?;
            meta.insert(SCHEMA, format.schema)?;
            meta.insert(REVISION, revision.0)?;
            Ok(())
        })
    }

    fn unreadable(&self, table: &str, key: &str, cause: String) -> StoreError {
        StoreError::Record {
            location: self.location(),
            table: table.to_owned(),
            key: key.to_owned(),
            cause,
        }
    }

    fn open_entry(&self, table: &str, key: &str, bytes: &[u8]) -> Result<Entry, StoreError> {
        let (revision, value) = envelope::open(table, key, bytes)
            .map_err(|cause| self.unreadable(table, key, cause))?;
        Ok(Entry {
            key: key.to_owned(),
            value: value.to_owned(),
            revision,
        })
    }

    fn write(
        &mut self,
        write: impl FnOnce(&redb::WriteTransaction) -> Result<(), WriteError>,
    ) -> Result<(), StoreError> {
        self.file.check(&self.path)?;
        let database = match self.database.take() {
            Some(database) => database,
            None => open(&self.path)?,
        };
        // After a failure it is dropped, to be opened again next time.
        let (database, written) = guarded(&self.path, || {
            let write = || -> Result<(), WriteError> {
                let transaction = database.get()?.begin_write().map_err(redb::Error::from)?;
                write(&transaction)?;
                transaction.commit().map_err(redb::Error::from)?;
                Ok(())
            };
            match write() {
                Ok(()) => Ok((database, Ok(()))),
                // Nothing was written, and nothing failed.
                Err(WriteError::Refused(refusal)) => Ok((database, Err(refusal))),
                Err(WriteError::Failed(error)) => Err(self.error("writing")(error)),
            }
        })?;
        self.database = Some(database);
        self.file = FileIdentity::of(&self.path)?;
        written
    }
}

/// Why a transaction was not written.
enum WriteError {
    /// The database failed.
    Failed(redb::Error),
    /// A condition does not hold.
    Refused(StoreError),
}

impl<E: Into<redb::Error>> From<E> for WriteError {
    fn from(error: E) -> Self {
        WriteError::Failed(error.into())
    }
}

impl Store for RedbStore {
    fn location(&self) -> String {
        self.path.display().to_string()
    }

    fn identity(&self) -> u64 {
        self.identity
    }

    fn revision(&self) -> Revision {
        self.history.last()
    }

    fn get(&self, table: &str, key: &str) -> Result<Option<Entry>, StoreError> {
        let value = self.read(|transaction| {
            let table = match transaction.open_table(records(table)) {
                Ok(table) => table,
                Err(TableError::TableDoesNotExist(_)) => return Ok(None),
                Err(error) => return Err(self.error("reading")(error)),
            };
            let value = table.get(key).map_err(self.error("reading"))?;
            Ok(value.map(|value| value.value().to_owned()))
        })?;
        value
            .map(|bytes| self.open_entry(table, key, &bytes))
            .transpose()
    }

    fn list(&self, table: &str) -> Result<Vec<Entry>, StoreError> {
        let raw = self.raw(table)?.into_iter();
        raw.map(|(key, bytes)| self.open_entry(table, &key, &bytes))
            .collect()
    }

    fn commit(&mut self, transaction: &Transaction) -> Result<Revision, StoreError> {
        if self.database.is_none() {
            // The last commit failed, and it is not certain whether it was written.
            self.database = Some(open(&self.path)?);
            let revision = self.read_revision()?;
            if revision != self.revision() {
                self.history = History::new(revision);
            }
        }
        let revision = self.revision().next();
        let location = self.location();
        self.write(|on_disk| {
            for Condition {
                table,
                key,
                revision,
            } in &transaction.conditions
            {
                let records = on_disk.open_table(records(table))?;
                let found = records.get(key.as_str())?.map(|bytes| {
                    envelope::open(table, key, bytes.value()).map(|(revision, _)| revision)
                });
                let found = found.transpose().map_err(|cause| {
                    WriteError::Refused(StoreError::Record {
                        location: location.clone(),
                        table: table.clone(),
                        key: key.clone(),
                        cause,
                    })
                })?;
                if *revision != found {
                    return Err(WriteError::Refused(StoreError::Conflict {
                        table: table.clone(),
                        key: key.clone(),
                        expected: *revision,
                        found,
                    }));
                }
            }
            for write in &transaction.writes {
                let mut table = on_disk.open_table(records(&write.table))?;
                match &write.value {
                    Some(value) => {
                        let sealed = envelope::seal(&write.table, &write.key, revision, value);
                        table.insert(write.key.as_str(), sealed.as_slice())?;
                    }
                    None => {
                        table.remove(write.key.as_str())?;
                    }
                }
            }
            let mut meta = on_disk.open_table(META)?;
            meta.insert(REVISION, revision.0)?;
            Ok(())
        })?;
        self.history.note(revision, transaction);
        Ok(revision)
    }

    fn check(&self) -> Result<(), StoreError> {
        self.file.check(&self.path)
    }

    fn rewrite(&mut self, tables: &[(&str, Records)]) -> Result<Revision, StoreError> {
        let revision = self.revision().next();
        let new = self.path.with_extension("rewritten");
        let failed = |source| StoreError::Database {
            operation: "replacing",
            path: self.path.clone(),
            source: Box::new(redb::Error::Io(source)),
        };
        // One that an earlier attempt left is of no use.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        write_copy(&new, self.header(revision), tables)?;
        // The file that is open is closed before its name goes to the new one; what it would write is of no use.
        self.database = None;
        fs::rename(&new, &self.path).map_err(failed)?;
        self.database = Some(open(&self.path)?);
        self.file = FileIdentity::of(&self.path)?;
        self.history.restart(revision);
        Ok(revision)
    }

    fn changes_since(&self, revision: Revision) -> Result<Vec<Change>, Compacted> {
        self.history.since(revision)
    }

    fn subscribe(&self) -> watch::Receiver<Revision> {
        self.history.subscribe()
    }
}
