//! The id of a database: pinned tables bear it, so that an agent with another database does not take them for its own.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};

use redb::ReadableTable as _;

use super::{META, Store, StoreError};

const KEY: &str = "id";

impl Store {
    /// The database's id, which is not 0. It is chosen when it is first asked for; copies of the database have the same.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn identity(&mut self) -> Result<u64, StoreError> {
        let mut id = 0;
        self.transact(|transaction| {
            let mut meta = transaction.open_table(META)?;
            let found = meta.get(KEY)?.map(|value| value.value());
            id = match found {
                Some(found) => found,
                None => {
                    let new = random();
                    meta.insert(KEY, new)?;
                    new
                }
            };
            Ok(())
        })?;
        Ok(id)
    }

    /// Gives the database the id of another one, in whose place it stands.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn set_identity(&mut self, id: u64) -> Result<(), StoreError> {
        self.transact(|transaction| {
            transaction.open_table(META)?.insert(KEY, id)?;
            Ok(())
        })
    }
}

/// A random number, not 0: the standard library seeds each `RandomState` of a process from the system's random numbers.
fn random() -> u64 {
    RandomState::new().build_hasher().finish() | 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_keeps_its_id() {
        let directory = tempfile::tempdir().unwrap();
        let id = Store::open(directory.path()).unwrap().identity().unwrap();
        assert_ne!(id, 0);
        let mut store = Store::open(directory.path()).unwrap();
        assert_eq!(store.identity().unwrap(), id);
        assert_eq!(store.identity().unwrap(), id);
        let other = tempfile::tempdir().unwrap();
        let other = Store::open(other.path()).unwrap().identity().unwrap();
        assert_ne!(other, id);
    }
}
