//! A store in memory, for tests.

use std::collections::BTreeMap;

use tokio::sync::watch;

use crate::{
    Change, Compacted, Entry, Records, Revision, Store, StoreError, Transaction, history::History,
    new_identity,
};

/// A store in memory.
#[derive(Debug)]
pub struct MemoryStore {
    tables: BTreeMap<String, BTreeMap<String, (Revision, Vec<u8>)>>,
    history: History,
    identity: u64,
}

impl Default for MemoryStore {
    fn default() -> Self {
        MemoryStore {
            tables: BTreeMap::new(),
            history: History::new(Revision::default()),
            identity: new_identity(),
        }
    }
}

impl MemoryStore {
    fn revision_of(&self, table: &str, key: &str) -> Option<Revision> {
        Some(self.tables.get(table)?.get(key)?.0)
    }
}

impl Store for MemoryStore {
    fn location(&self) -> String {
        "memory".to_owned()
    }

    fn identity(&self) -> u64 {
        self.identity
    }

    fn revision(&self) -> Revision {
        self.history.last()
    }

    fn get(&self, table: &str, key: &str) -> Result<Option<Entry>, StoreError> {
        let record = self.tables.get(table).and_then(|table| table.get(key));
        Ok(record.map(|(revision, value)| Entry {
            key: key.to_owned(),
            value: value.clone(),
            revision: *revision,
        }))
    }

    fn list(&self, table: &str) -> Result<Vec<Entry>, StoreError> {
        let records = self.tables.get(table).into_iter().flatten();
        Ok(records
            .map(|(key, (revision, value))| Entry {
                key: key.clone(),
                value: value.clone(),
                revision: *revision,
            })
            .collect())
    }

    fn commit(&mut self, transaction: &Transaction) -> Result<Revision, StoreError> {
        for condition in &transaction.conditions {
            let found = self.revision_of(&condition.table, &condition.key);
            if condition.revision != found {
                return Err(StoreError::Conflict {
                    table: condition.table.clone(),
                    key: condition.key.clone(),
                    expected: condition.revision,
                    found,
                });
            }
        }
        let revision = self.revision().next();
        for write in &transaction.writes {
            let table = self.tables.entry(write.table.clone()).or_default();
            match &write.value {
                Some(value) => {
                    table.insert(write.key.clone(), (revision, value.clone()));
                }
                None => {
                    table.remove(&write.key);
                }
            }
        }
        self.history.note(revision, transaction);
        Ok(revision)
    }

    fn check(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn rewrite(&mut self, tables: &[(&str, Records)]) -> Result<Revision, StoreError> {
        let revision = self.revision().next();
        self.tables.clear();
        for (table, records) in tables {
            let records = records.iter().cloned();
            let records = records.map(|(key, value)| (key, (revision, value)));
            self.tables.insert((*table).to_owned(), records.collect());
        }
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
