//! What is written together.

use crate::Revision;

/// Writes that are made together, and what they depend on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    pub(crate) conditions: Vec<Condition>,
    pub(crate) writes: Vec<Write>,
}

/// A record that must be as the writer last saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// The table.
    pub table: String,
    /// The record's key.
    pub key: String,
    /// The revision that must have written it last; `None` if it must not exist.
    pub revision: Option<Revision>,
}

/// A record to write, or to remove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The table.
    pub table: String,
    /// The record's key.
    pub key: String,
    /// The new value; `None` removes the record.
    pub value: Option<Vec<u8>>,
}

impl Transaction {
    /// Demands that a record was last written at this revision; with `None`, that it does not exist.
    pub fn expect(&mut self, table: &str, key: impl Into<String>, revision: Option<Revision>) {
        self.conditions.push(Condition {
            table: table.to_owned(),
            key: key.into(),
            revision,
        });
    }

    /// Writes a record.
    pub fn put(&mut self, table: &str, key: impl Into<String>, value: Vec<u8>) {
        self.writes.push(Write {
            table: table.to_owned(),
            key: key.into(),
            value: Some(value),
        });
    }

    /// Removes a record; one that does not exist is no error.
    pub fn remove(&mut self, table: &str, key: impl Into<String>) {
        self.writes.push(Write {
            table: table.to_owned(),
            key: key.into(),
            value: None,
        });
    }

    /// Whether it writes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }
}
