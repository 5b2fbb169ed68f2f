//! What the pools of the nodes of load balancers and the task that keeps load balancers tell each other.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use lb_model::pool::PoolName;
use tokio::sync::Notify;

/// Files by name.
pub type Files = Arc<BTreeMap<String, String>>;

/// What is told; all clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Nodes(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// The files that instances of a pool are made with.
    files: Mutex<HashMap<PoolName, Files>>,
    /// Pools whose instances are seen otherwise than before.
    stirred: Mutex<BTreeSet<PoolName>>,
    changed: Notify,
}

impl Nodes {
    fn all_files(&self) -> MutexGuard<'_, HashMap<PoolName, Files>> {
        self.0.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says which files the instances of a pool are made with from now on; `None`: they need none.
    pub fn set_files(&self, pool: &PoolName, files: Option<BTreeMap<String, String>>) {
        let mut all = self.all_files();
        match files {
            Some(files) if all.get(pool).is_some_and(|before| **before == files) => {}
            Some(files) => drop(all.insert(pool.clone(), Arc::new(files))),
            None => drop(all.remove(pool)),
        }
    }

    /// The files that the instances of a pool are made with; `None` if that was not said yet.
    #[must_use]
    pub fn files(&self, pool: &PoolName) -> Option<Files> {
        self.all_files().get(pool).cloned()
    }

    /// The instances of a pool are seen otherwise than before.
    pub fn stir(&self, pool: &PoolName) {
        let mut stirred = self.stirred();
        stirred.insert(pool.clone());
        drop(stirred);
        self.0.changed.notify_one();
    }

    fn stirred(&self) -> MutexGuard<'_, BTreeSet<PoolName>> {
        self.0
            .stirred
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The pools whose instances are seen otherwise than at the last call.
    #[must_use]
    pub fn take_stirred(&self) -> BTreeSet<PoolName> {
        std::mem::take(&mut self.stirred())
    }

    /// Waits until there is one. For one task.
    pub async fn changed(&self) {
        self.0.changed.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_told_is_heard_once() {
        let nodes = Nodes::default();
        let pool: PoolName = "lb-1".parse().unwrap();
        assert_eq!(nodes.files(&pool), None);
        let files = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        nodes.set_files(&pool, Some(files.clone()));
        let before = nodes.files(&pool).unwrap();
        nodes.set_files(&pool, Some(files));
        assert!(Arc::ptr_eq(&before, &nodes.files(&pool).unwrap()));
        nodes.set_files(&pool, None);
        assert_eq!(nodes.files(&pool), None);
        nodes.stir(&pool);
        nodes.stir(&pool);
        nodes.changed().await;
        assert_eq!(nodes.take_stirred(), [pool].into());
        assert!(nodes.take_stirred().is_empty());
    }
}
