//! What steering made of each VIP's weights, so that an agent that starts continues where the last one ended.

use std::{collections::BTreeMap, fs, path::Path};

use lb_model::vip::VipKey;
use lb_store::{Format, RedbStore, Store as _, Transaction};

use super::{STEERED, StoreError, json};
use crate::weights::Steered;

/// What this host has learned, on disk.
#[derive(Debug)]
pub struct LearnedStore {
    store: RedbStore,
}

impl LearnedStore {
    /// Name of the file in the state directory.
    pub const FILE: &'static str = "learned.redb";
    const FORMAT: Format = Format {
        schema: 1,
        // There is no older version: this range is empty.
        #[expect(clippy::reversed_empty_ranges, reason = "an empty range")]
        older: 1..=0,
        tables: &[STEERED],
    };

    /// Opens the file in this directory. A file that is damaged is set aside: what it held can be learned again.
    pub(super) fn open(directory: &Path) -> Result<Self, StoreError> {
        let path = directory.join(Self::FILE);
        let open = || {
            let store = RedbStore::open(&path, &Self::FORMAT, &mut |_, _, _, _| Ok(None))?;
            // Damage shows when records are read.
            store.list(STEERED)?;
            Ok(store)
        };
        let store = match open() {
            Err(
                error @ (lb_store::StoreError::Damaged { .. }
                | lb_store::StoreError::Record { .. }
                | lb_store::StoreError::Schema { .. }),
            ) => {
                let aside = path.with_extension("damaged");
                tracing::warn!(
                    "{error}; it is kept as {}, and steering starts from the operator's weights",
                    aside.display()
                );
                fs::rename(&path, &aside).map_err(|source| lb_store::StoreError::Directory {
                    path: aside,
                    source,
                })?;
                open()?
            }
            opened => opened?,
        };
        Ok(LearnedStore { store })
    }

    /// Takes in what an older version kept beside the intent.
    pub(super) fn import(&mut self, records: Vec<(String, Vec<u8>)>) {
        if records.is_empty() {
            return;
        }
        let mut transaction = Transaction::default();
        for (key, value) in records {
            transaction.put(STEERED, key, value);
        }
        if let Err(error) = self.store.commit(&transaction) {
            tracing::warn!("the weights that steering found were not taken over: {error}");
        }
    }

    /// What steering last made of each VIP, as far as it was saved. A record that cannot be understood is skipped.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn load(&self) -> Result<BTreeMap<VipKey, Steered>, StoreError> {
        let entries = self.store.list(STEERED)?.into_iter();
        Ok(entries
            .filter_map(|entry| {
                let steered = serde_json::from_slice(&entry.value).ok()?;
                Some((entry.key.parse().ok()?, steered))
            })
            .collect())
    }

    /// Saves what steering made of all VIPs, in the place of what was saved before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn save(&mut self, all: &BTreeMap<VipKey, Steered>) -> Result<(), StoreError> {
        let records = all
            .iter()
            .map(|(vip, steered)| (vip.to_string(), json(steered)));
        self.store.rewrite(&[(STEERED, records.collect())])?;
        Ok(())
    }
}
