//! A copy of the store as text, and back: for a controller that runs, one that does not, and from one kind of store to another.
//!
//! Each line is a JSON object: first what the copy is of, then one record a line, last the CRC-32 of all lines before. A copy that
//! was cut off or changed is refused.

use std::collections::BTreeMap;

use lb_store::{Records, Revision, Store, StoreError};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{KeeperError, Mirror, POOLS, SCHEMA, StoredPool, TABLES, pools, read_all};

/// Name and version of the form.
const FORMAT: &str = "lb-controller backup 1";

/// Why a copy cannot be restored. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A line is wrong.
    #[error("line {line}: {cause}; the file is no backup, or was changed")]
    Line {
        /// Its number, from 1.
        line: usize,
        /// What is wrong with it.
        cause: String,
    },
    /// It ends too early, or was changed.
    #[error("the file is cut off or was changed: its last line is not the checksum of the others")]
    Checksum,
    /// A controller of another version made it.
    #[error(
        "the backup has schema {found}, this controller knows {SCHEMA}; restore it with the controller that made it"
    )]
    Schema {
        /// Its schema.
        found: u64,
    },
    /// A record of it cannot be read.
    #[error(transparent)]
    Record(#[from] KeeperError),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    format: String,
    schema: u64,
    revision: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    table: String,
    key: String,
    record: Value,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct End {
    crc32: u32,
}

/// A copy of a store.
#[derive(Clone, Debug, PartialEq)]
pub struct Backup {
    revision: u64,
    records: Mirror,
}

/// A record as a line. Records are plain data, so this cannot fail.
fn text(record: &impl Serialize) -> String {
    serde_json::to_string(record).unwrap_or_default() + "\n"
}

fn checksum<'a>(lines: impl Iterator<Item = &'a str>) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    lines.for_each(|line| hasher.update(line.as_bytes()));
    hasher.finalize()
}

impl Backup {
    pub(super) fn of(records: &Mirror, revision: Revision) -> Self {
        Backup {
            revision: revision.0,
            records: records.clone(),
        }
    }

    /// Copies a store.
    ///
    /// # Errors
    /// A record cannot be read.
    pub fn take(store: &dyn Store) -> Result<Self, StoreError> {
        Ok(Backup::of(&read_all(store)?, store.revision()))
    }

    /// How many pools it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.get(POOLS).map_or(0, BTreeMap::len)
    }

    /// Whether it has no pool.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The pools.
    ///
    /// # Errors
    /// A record cannot be read.
    pub fn pools(&self) -> Result<Vec<StoredPool>, KeeperError> {
        pools(&self.records, "the backup")
    }

    /// The text of the copy.
    #[must_use]
    pub fn write(&self) -> String {
        let header = Header {
            format: FORMAT.to_owned(),
            schema: SCHEMA,
            revision: self.revision,
        };
        let mut lines = vec![text(&header)];
        for (table, records) in &self.records {
            for (key, bytes) in records {
                lines.push(text(&Line {
                    table: (*table).to_owned(),
                    key: key.clone(),
                    // They were written as JSON.
                    record: serde_json::from_slice(bytes).unwrap_or_default(),
                }));
            }
        }
        let crc32 = checksum(lines.iter().map(String::as_str));
        lines.push(text(&End { crc32 }));
        lines.concat()
    }

    /// Reads a copy, with all its records.
    ///
    /// # Errors
    /// [`BackupError`]: it is none, was changed, or is of another version.
    pub fn read(text: &str) -> Result<Self, BackupError> {
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        let wrong = |line: usize, cause: String| BackupError::Line { line, cause };
        let (Some(first), Some(last)) = (lines.first(), lines.last()) else {
            return Err(BackupError::Checksum);
        };
        let header: Header =
            serde_json::from_str(first).map_err(|error| wrong(1, error.to_string()))?;
        if header.format != FORMAT {
            let cause = format!("the format is {:?}, not {FORMAT:?}", header.format);
            return Err(wrong(1, cause));
        }
        if header.schema != SCHEMA {
            return Err(BackupError::Schema {
                found: header.schema,
            });
        }
        let before = &lines[..lines.len() - 1];
        let end: End = serde_json::from_str(last).map_err(|_| BackupError::Checksum)?;
        if end.crc32 != checksum(before.iter().copied()) {
            return Err(BackupError::Checksum);
        }
        let mut records: Mirror = TABLES
            .iter()
            .map(|table| (*table, BTreeMap::new()))
            .collect();
        for (at, text) in before.iter().enumerate().skip(1) {
            let line: Line =
                serde_json::from_str(text).map_err(|error| wrong(at + 1, error.to_string()))?;
            let table = records
                .get_mut(line.table.as_str())
                .ok_or_else(|| wrong(at + 1, format!("there is no table {}", line.table)))?;
            table.insert(line.key, line.record.to_string().into_bytes());
        }
        let backup = Backup {
            revision: header.revision,
            records,
        };
        backup.pools()?;
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
        let mut records: Mirror = TABLES
            .iter()
            .map(|table| (*table, BTreeMap::new()))
            .collect();
        records.insert(POOLS, web);
        Backup {
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
