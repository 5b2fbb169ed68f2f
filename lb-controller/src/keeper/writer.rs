//! The thread of the store. It alone reads and writes it, and has everything in memory, too.

use std::{
    collections::BTreeMap,
    sync::{Arc, mpsc},
    time::Instant,
};

use lb_store::{Records, Revision, Store, StoreError, Transaction};
use tokio::sync::oneshot;

use super::{Backup, Changes, Job, KeeperError, Shared, TOGETHER};
use crate::records::{Mirror, NAMES};

/// Changes, and who waits for them to be written.
type Write = (Changes, oneshot::Sender<Result<Revision, KeeperError>>);

/// Whoever gave up was told that nothing is written.
fn is_awaited((_, reply): &Write) -> bool {
    !reply.is_closed()
}

/// The store, and everything that was written. It belongs to a thread of its own.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) store: Box<dyn Store>,
    /// Every record, to write it again if the server loses it.
    pub(super) mirror: Mirror,
    /// What has to be written although nobody waits for it: it undoes what nobody knows whether it was written.
    pub(super) owed: Changes,
    pub(super) shared: Arc<Shared>,
}

/// All records of a store.
pub(super) fn read_all(store: &dyn Store) -> Result<Mirror, StoreError> {
    let mut mirror = BTreeMap::new();
    for table in NAMES {
        let entries = store.list(table)?.into_iter();
        let records: BTreeMap<_, _> = entries.map(|entry| (entry.key, entry.value)).collect();
        mirror.insert(*table, records);
    }
    Ok(mirror)
}

impl Inner {
    pub(super) fn run(mut self, jobs: &mpsc::Receiver<Job>) {
        let mut next = None;
        while let Some(job) = next.take().or_else(|| jobs.recv().ok()) {
            self.shared.status().busy_since = Some(Instant::now());
            let mut done = 1;
            match job {
                Job::Write(changes, reply) => {
                    let mut writes = vec![(changes, reply)];
                    while writes.len() < TOGETHER && next.is_none() {
                        match jobs.try_recv() {
                            Ok(Job::Write(changes, reply)) => writes.push((changes, reply)),
                            Ok(other) => next = Some(other),
                            Err(_) => break,
                        }
                    }
                    done = writes.len();
                    self.write(writes);
                }
                Job::Owe(changes) => self.owed.extend(changes),
                Job::Check => self.check(),
                Job::Copy(reply) => {
                    let _ = reply.send(self.copy());
                }
            }
            let mut status = self.shared.status();
            status.waiting = status.waiting.saturating_sub(done);
            status.busy_since = (status.waiting > 0).then(Instant::now);
        }
    }

    /// Writes these in one transaction if that works, and answers each.
    fn write(&mut self, writes: Vec<Write>) {
        let writes: Vec<Write> = writes.into_iter().filter(is_awaited).collect();
        if writes.len() > 1
            && let Ok(revision) = self.commit(writes.iter().map(|(changes, _)| changes))
        {
            self.note(None);
            for (_, reply) in writes {
                // Whoever asked may have given up meanwhile.
                let _ = reply.send(Ok(revision));
            }
            return;
        }
        // What the store refuses must not take others with it.
        for (changes, reply) in writes.into_iter().filter(is_awaited) {
            let written = self.commit([&changes]);
            self.note(written.as_ref().err().map(ToString::to_string));
            let _ = reply.send(written.map_err(KeeperError::from));
        }
    }

    /// Writes what is owed, and these changes.
    fn commit<'a>(
        &mut self,
        changes: impl IntoIterator<Item = &'a Changes>,
    ) -> Result<Revision, StoreError> {
        let mut all = self.owed.0.clone();
        for one in changes {
            all.extend(one.0.iter().cloned());
        }
        let mut transaction = Transaction::default();
        for (table, key, value) in &all {
            match value {
                Some(value) => transaction.put(table, key.clone(), value.clone()),
                None => transaction.remove(table, key.clone()),
            }
        }
        let revision = match self.store.commit(&transaction) {
            Err(StoreError::Lost { .. }) => {
                self.restore()?;
                self.store.commit(&transaction)?
            }
            other => other?,
        };
        for (table, key, value) in all {
            let records = self.mirror.entry(table).or_default();
            match value {
                Some(value) => records.insert(key, value),
                None => records.remove(&key),
            };
        }
        self.owed = Changes::default();
        Ok(revision)
    }

    fn check(&mut self) {
        let is_in_trouble = self.shared.status().trouble.is_some();
        let checked = match self.store.check() {
            Err(StoreError::Lost { .. }) => self.restore(),
            // One that could not be written, as on a full disk, is well again when it can.
            Ok(()) if is_in_trouble || !self.owed.is_empty() => self.commit([]).map(drop),
            other => other,
        };
        self.note(checked.err().map(|error| error.to_string()));
    }

    /// Writes everything again.
    fn restore(&mut self) -> Result<(), StoreError> {
        let tables: Vec<(&str, Records)> = self
            .mirror
            .iter()
            .map(|(table, records)| (*table, records.clone().into_iter().collect()))
            .collect();
        let revision = self.store.rewrite(&tables)?;
        tracing::warn!(
            "{} had lost records; everything was written again (revision {revision})",
            self.store.location()
        );
        Ok(())
    }

    fn copy(&self) -> Backup {
        Backup::of(
            self.shared.location.clone(),
            &self.mirror,
            self.store.revision(),
        )
    }

    /// Logs a trouble once, and its end.
    fn note(&self, trouble: Option<String>) {
        let mut status = self.shared.status();
        match (&status.trouble, &trouble) {
            (None, Some(text)) => {
                tracing::error!("{text}; instances run on, and no settings can be changed");
            }
            (Some(_), None) => tracing::info!("{} works again", self.shared.location),
            _ => {}
        }
        status.trouble = trouble;
    }
}
