//! A copy of the store as text, and back: for a controller that runs, one that does not, and from one kind of store to another.
//!
//! It has the form of [`CopyForm`].

use std::collections::BTreeMap;

use lb_store::{CopyError, CopyForm, Records, Revision, Store, StoreError};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{SCHEMA, writer::read_all};
use crate::{
    pool::PoolRecord,
    records::{Mirror, NAMES, Record as _, Stored, Unreadable},
};

const FORM: CopyForm = CopyForm {
    program: "controller",
    format: "lb-controller backup 1",
    schema: SCHEMA,
};

/// Why a copy cannot be restored. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// It is none, was changed, or is of another version.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// A record of it cannot be read.
    #[error(transparent)]
    Record(#[from] Unreadable),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    revision: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    table: String,
    key: String,
    record: Value,
}

/// A copy of a store.
#[derive(Clone, Debug, PartialEq)]
pub struct Backup {
    /// Where they come from.
    location: String,
    revision: u64,
    records: Mirror,
}

impl Backup {
    pub(super) fn of(location: String, records: &Mirror, revision: Revision) -> Self {
        Backup {
            location,
            revision: revision.0,
            records: records.clone(),
        }
    }

    /// Copies a store.
    ///
    /// # Errors
    /// A record cannot be read.
    pub fn take(store: &dyn Store) -> Result<Self, StoreError> {
        Ok(Backup::of(
            store.location(),
            &read_all(store)?,
            store.revision(),
        ))
    }

    /// How many pools it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.get(PoolRecord::TABLE).map_or(0, BTreeMap::len)
    }

    /// Whether it has no pool.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is in it.
    ///
    /// # Errors
    /// A record cannot be read.
    pub fn stored(&self) -> Result<Stored, Unreadable> {
        Stored::checked(self.location.clone(), self.records.clone())
    }

    /// The text of the copy.
    #[must_use]
    pub fn write(&self) -> String {
        let header = Header {
            revision: self.revision,
        };
        let records = self.records.iter().flat_map(|(table, records)| {
            records.iter().map(|(key, bytes)| Line {
                table: (*table).to_owned(),
                key: key.clone(),
                // They were written as JSON.
                record: serde_json::from_slice(bytes).unwrap_or_default(),
            })
        });
        FORM.write(&header, records).concat()
    }

    /// Reads a copy, with all its records.
    ///
    /// # Errors
    /// [`BackupError`]: it is none, was changed, or is of another version.
    pub fn read(text: &str) -> Result<Self, BackupError> {
        let (header, lines): (Header, Vec<Line>) = FORM.read(text)?;
        let mut records: Mirror = NAMES
            .iter()
            .map(|table| (*table, BTreeMap::new()))
            .collect();
        for (at, line) in lines.into_iter().enumerate() {
            let table = records.get_mut(line.table.as_str()).ok_or_else(|| {
                CopyError::record(at, format!("there is no table {}", line.table))
            })?;
            table.insert(line.key, line.record.to_string().into_bytes());
        }
        let backup = Backup {
            location: "the backup".to_owned(),
            revision: header.revision,
            records,
        };
        backup.stored()?;
        Ok(backup)
    }

    /// Puts the copy in the place of everything that a store has.
    ///
    /// # Errors
    /// It cannot be written; the store is as it was then.
    pub fn restore(&self, store: &mut dyn Store) -> Result<Revision, StoreError> {
        let tables: Vec<(&str, Records)> = self
            .records
            .iter()
            .map(|(table, records)| (*table, records.clone().into_iter().collect()))
            .collect();
        store.rewrite(&tables)
    }
}

#[cfg(test)]
mod tests {
    use lb_store::MemoryStore;
    use serde_json::json;

    use super::*;

    fn backup() -> Backup {
        let record = json!({
            "spec": {
                "driver": { "kind": "process" },
                "network": { "port": 8000 },
                "template": { "program": "/bin/true" },
            },
            "generation": 3,
        });
        let web = BTreeMap::from([("web".to_owned(), record.to_string().into_bytes())]);
        let mut records: Mirror = NAMES
            .iter()
            .map(|table| (*table, BTreeMap::new()))
            .collect();
        records.insert(PoolRecord::TABLE, web);
        Backup {
            location: "a store".to_owned(),
            revision: 7,
            records,
        }
    }

    #[test]
    fn what_was_copied_from_one_store_is_in_the_other() {
        let mut store = MemoryStore::default();
        backup().restore(&mut store).unwrap();
        let text = Backup::take(&store).unwrap().write();
        let read = Backup::read(&text).unwrap();
        assert_eq!(read.records, backup().records);
        assert_eq!(read.len(), 1);
        let mut other = MemoryStore::default();
        read.restore(&mut other).unwrap();
        assert_eq!(Backup::take(&other).unwrap().records, backup().records);
    }

    #[test]
    fn a_copy_of_pools_that_was_changed_or_cut_off_is_refused() {
        let text = backup().write();
        Backup::read(&text).unwrap();
        for end in 0..text.len() - 1 {
            Backup::read(&text[..end]).unwrap_err();
        }
        for (from, to) in [
            ("8000", "8001"),
            ("\"schema\":1", "\"schema\":2"),
            ("backup 1", "backup 2"),
            ("\"pools\"", "\"ponds\""),
        ] {
            let changed = text.replace(from, to);
            assert_ne!(changed, text, "{from}");
            Backup::read(&changed).unwrap_err();
        }
    }
}
