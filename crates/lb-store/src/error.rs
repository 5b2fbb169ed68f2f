//! What can go wrong with a store.

use std::{io::ErrorKind, path::PathBuf};

use crate::Revision;

/// Why a store cannot be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Its directory cannot be made.
    #[error("creating the directory {path}: {source}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// Another process has it open.
    #[error("{path} is in use by another process")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// It was written by a version that this one does not know.
    #[error("{path} has schema {found}, this program knows {known}")]
    Schema {
        /// The file.
        path: PathBuf,
        /// The version that was found; `unknown` if the file names none.
        found: String,
        /// The newest version that this program knows.
        known: u64,
    },
    /// A record cannot be read.
    #[error("{location}: the record {key} of table {table} cannot be read: {cause}")]
    Record {
        /// The file or address.
        location: String,
        /// The table.
        table: String,
        /// The record's key.
        key: String,
        /// The cause.
        cause: String,
    },
    /// A record is not as the writer last saw it; nothing was written.
    #[error(
        "the record {key} of table {table} is at revision {}, not at {}: somebody else changed it; read it again",
        revision(*found), revision(*expected)
    )]
    Conflict {
        /// The table.
        table: String,
        /// The record's key.
        key: String,
        /// The revision that the writer saw.
        expected: Option<Revision>,
        /// The revision that it has.
        found: Option<Revision>,
    },
    /// The file is damaged.
    #[error("{path} is damaged ({cause})")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the database says of it.
        cause: String,
    },
    /// The file was removed or truncated while it was open. What is in memory is all there is.
    #[error("{path} was {what} while it was open")]
    Lost {
        /// The file.
        path: PathBuf,
        /// What happened to it.
        what: &'static str,
    },
    /// A server could not be reached, or did not do what it was asked for.
    #[error("{operation} {location}: {cause}")]
    Remote {
        /// What was tried.
        operation: &'static str,
        /// The server and the store.
        location: String,
        /// The cause.
        cause: String,
    },
    /// The file could not be read or written.
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

impl StoreError {
    /// Whether a file cannot be written, because of its file system or its permissions.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        let StoreError::Database { source, .. } = self else {
            return false;
        };
        let kind = match &**source {
            redb::Error::Io(error) => error.kind(),
            _ => return false,
        };
        matches!(
            kind,
            ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied
        )
    }
}

/// A revision in words.
fn revision(revision: Option<Revision>) -> String {
    revision.map_or_else(
        || "none (it does not exist)".to_owned(),
        |at| at.to_string(),
    )
}
