//! The redb file of a store: opening it, creating it, and whether it is still there.
//!
//! The file is created under another name and then linked, so a crash never leaves half of one. redb panics on some kinds
//! of damage; such a panic is caught here and becomes an error, so that a damaged file does not end the process that
//! forwards packets.

use std::{
    fs,
    io::ErrorKind,
    os::unix::fs::MetadataExt as _,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use redb::{Database, TableDefinition};

use crate::{Records, Revision, StoreError, envelope};

pub(crate) const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
/// Version of the tables and of what their records hold.
pub(crate) const SCHEMA: &str = "schema";
/// Revision of the last commit.
pub(crate) const REVISION: &str = "revision";

/// Random number of the store.
pub(crate) const IDENTITY: &str = "id";

/// A table of records.
pub(crate) fn records(name: &str) -> TableDefinition<'_, &'static str, &'static [u8]> {
    TableDefinition::new(name)
}

/// An open database. redb writes when it is dropped, and panics then on some kinds of damage.
#[derive(Debug)]
pub(crate) struct OpenDatabase(Option<Database>);

impl OpenDatabase {
    pub(crate) fn get(&self) -> Result<&Database, redb::Error> {
        // It is taken out only when it is dropped.
        self.0.as_ref().ok_or(redb::Error::DatabaseAlreadyOpen)
    }
}

impl Drop for OpenDatabase {
    fn drop(&mut self) {
        let database = self.0.take();
        // Everything that was committed is on disk already; a panic has been reported by the panic hook.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(database)));
    }
}

/// Which file the database is in, and how long it is at least. A file that was removed, replaced or truncated while it
/// is open would take commits, and lose them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileIdentity {
    device: u64,
    inode: u64,
    length: u64,
}

impl FileIdentity {
    pub(crate) fn of(path: &Path) -> Result<Self, StoreError> {
        let metadata = fs::metadata(path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => StoreError::Lost {
                path: path.to_owned(),
                what: "removed",
            },
            _ => StoreError::Database {
                operation: "examining",
                path: path.to_owned(),
                source: Box::new(redb::Error::Io(error)),
            },
        })?;
        Ok(FileIdentity {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
        })
    }

    /// Compares with the file that has this path now.
    pub(crate) fn check(self, path: &Path) -> Result<(), StoreError> {
        let now = Self::of(path)?;
        if (now.device, now.inode) != (self.device, self.inode) {
            return Err(StoreError::Damaged {
                path: path.to_owned(),
                cause: "another file was put in its place while it was open".to_owned(),
            });
        }
        if now.length < self.length {
            return Err(StoreError::Lost {
                path: path.to_owned(),
                what: "truncated",
            });
        }
        Ok(())
    }
}

/// Turns a panic of the database into an error.
pub(crate) fn guarded<T>(
    path: &Path,
    access: impl FnOnce() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    // What a panic leaves behind is dropped by the callers.
    catch_unwind(AssertUnwindSafe(access)).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied());
        Err(StoreError::Damaged {
            path: path.to_owned(),
            cause: text.unwrap_or("the database panicked").to_owned(),
        })
    })
}

pub(crate) fn open(path: &Path) -> Result<OpenDatabase, StoreError> {
    guarded(path, || {
        let opened = Database::open(path).map(|database| OpenDatabase(Some(database)));
        opened.map_err(|error| match error {
            redb::DatabaseError::DatabaseAlreadyOpen => StoreError::InUse {
                path: path.to_owned(),
            },
            redb::DatabaseError::Storage(redb::StorageError::Corrupted(cause)) => {
                StoreError::Damaged {
                    path: path.to_owned(),
                    cause,
                }
            }
            redb::DatabaseError::Storage(redb::StorageError::Io(error))
                if matches!(
                    error.kind(),
                    ErrorKind::InvalidData | ErrorKind::UnexpectedEof
                ) =>
            {
                StoreError::Damaged {
                    path: path.to_owned(),
                    cause: error.to_string(),
                }
            }
            other => StoreError::Database {
                operation: "opening",
                path: path.to_owned(),
                source: Box::new(other.into()),
            },
        })
    })
}

/// What a file says of itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    pub schema: u64,
    pub identity: u64,
    pub revision: Revision,
}

pub(crate) fn refuse_existing(path: &Path) -> Result<(), StoreError> {
    if !path.exists() {
        return Ok(());
    }
    let source = std::io::Error::new(ErrorKind::AlreadyExists, "it exists; name a new file");
    Err(StoreError::Database {
        operation: "creating",
        path: path.to_owned(),
        source: Box::new(redb::Error::Io(source)),
    })
}

/// Creates a file with these records, all of them written at the header's revision.
pub(crate) fn write_copy(
    to: &Path,
    header: Header,
    tables: &[(&str, Records)],
) -> Result<(), StoreError> {
    write_new(to, |transaction| {
        let mut meta = transaction.open_table(META)?;
        meta.insert(SCHEMA, header.schema)?;
        meta.insert(REVISION, header.revision.0)?;
        meta.insert(IDENTITY, header.identity)?;
        for (table, content) in tables {
            let mut records = transaction.open_table(records(table))?;
            for (key, value) in content {
                let sealed = envelope::seal(table, key, header.revision, value);
                records.insert(key.as_str(), sealed.as_slice())?;
            }
        }
        Ok(())
    })
}

/// Creates a database that holds nothing but its schema.
pub(crate) fn create(path: &Path, schema: u64) -> Result<(), StoreError> {
    write_new(path, |transaction| {
        let mut meta = transaction.open_table(META)?;
        meta.insert(SCHEMA, schema)?;
        meta.insert(REVISION, 0)?;
        Ok(())
    })
}

/// Creates a database with this content; one that another process creates at the same time counts.
pub(crate) fn write_new(
    path: &Path,
    fill: impl FnOnce(&redb::WriteTransaction) -> Result<(), redb::Error>,
) -> Result<(), StoreError> {
    // The process's number keeps two that start at once apart.
    let new = path.with_extension(format!("{}.new", std::process::id()));
    let make = || -> Result<(), redb::Error> {
        let database = OpenDatabase(Some(Database::create(&new)?));
        let transaction = database.get()?.begin_write()?;
        fill(&transaction)?;
        transaction.commit()?;
        drop(database);
        // A hard link fails if another process was faster; then theirs counts.
        match fs::hard_link(&new, path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(redb::Error::Io(error));
            }
            _ => {}
        }
        fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()?;
        Ok(())
    };
    let made = guarded(path, || {
        make().map_err(|source| StoreError::Database {
            operation: "creating",
            path: path.to_owned(),
            source: Box::new(source),
        })
    });
    // Whatever happened, this name is of no use any more.
    let _ = fs::remove_file(&new);
    made
}
