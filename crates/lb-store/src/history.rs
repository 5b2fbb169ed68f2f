//! Which records the last commits changed, for those that watch.

use std::collections::{BTreeMap, HashSet, VecDeque};

use tokio::sync::watch;

use crate::{Change, Revision, Transaction};

/// Changes that are remembered. Who is further behind lists the tables.
const KEPT: usize = 16_384;

/// The store does not remember what changed so long ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "changes since revision {since} are no longer known, only those since {oldest}; read everything instead"
)]
pub struct Compacted {
    /// The revision that was asked for.
    pub since: Revision,
    /// The oldest one that can be asked for.
    pub oldest: Revision,
}

/// The changes of the last commits.
#[derive(Debug)]
pub(crate) struct History {
    /// Every change after this revision is in `changes`.
    complete_since: Revision,
    changes: VecDeque<Change>,
    last: watch::Sender<Revision>,
}

impl History {
    /// A history that begins after this revision.
    pub(crate) fn new(revision: Revision) -> Self {
        History {
            complete_since: revision,
            changes: VecDeque::new(),
            last: watch::Sender::new(revision),
        }
    }

    /// Forgets all changes: everything may have changed at this revision. Receivers stay.
    pub(crate) fn restart(&mut self, revision: Revision) {
        self.complete_since = revision;
        self.changes.clear();
        self.last.send_replace(revision);
    }

    pub(crate) fn last(&self) -> Revision {
        *self.last.borrow()
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Revision> {
        self.last.subscribe()
    }

    /// Notes a commit.
    pub(crate) fn note(&mut self, revision: Revision, transaction: &Transaction) {
        for write in &transaction.writes {
            self.changes.push_back(Change {
                revision,
                table: write.table.clone(),
                key: write.key.clone(),
            });
        }
        while self.changes.len() > KEPT
            && let Some(forgotten) = self.changes.pop_front()
        {
            self.complete_since = forgotten.revision;
        }
        self.last.send_replace(revision);
    }

    pub(crate) fn since(&self, since: Revision) -> Result<Vec<Change>, Compacted> {
        // A revision that is not reached yet belongs to another store, perhaps one that was restored.
        if since < self.complete_since || since > self.last() {
            return Err(Compacted {
                since,
                oldest: self.complete_since,
            });
        }
        let mut seen = HashSet::new();
        let mut latest = BTreeMap::new();
        for (at, change) in self.changes.iter().enumerate().rev() {
            if change.revision <= since {
                break;
            }
            if seen.insert((&change.table, &change.key)) {
                latest.insert(at, change.clone());
            }
        }
        Ok(latest.into_values().collect())
    }
}
