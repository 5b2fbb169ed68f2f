//! A pool as it was stored.

use std::collections::BTreeMap;

use lb_model::pool::{NameError, PoolName, PoolSpec};

use super::{InstanceRecord, Learned, PoolRecord};
use crate::{
    KINDS,
    records::{Stored, Unreadable},
};

/// A pool, as it was stored.
#[derive(Debug)]
pub struct StoredPool {
    /// Its name.
    pub name: PoolName,
    /// Its settings.
    pub spec: PoolSpec,
    /// The record.
    pub record: PoolRecord,
    /// Its instances.
    pub instances: Vec<InstanceRecord>,
    /// What was learned of it.
    pub learned: Learned,
}

impl StoredPool {
    /// The pools of a store, by name.
    ///
    /// # Errors
    /// A record cannot be read.
    pub fn read(stored: &Stored) -> Result<Vec<Self>, Unreadable> {
        let mut instances: BTreeMap<PoolName, Vec<InstanceRecord>> = BTreeMap::new();
        for (_, instance) in stored.all::<InstanceRecord>()? {
            let of_pool = instances.entry(instance.name.pool.clone());
            of_pool.or_default().push(instance);
        }
        let mut learned: BTreeMap<String, Learned> = stored.all()?.into_iter().collect();
        let mut pools = Vec::new();
        for (key, record) in stored.all::<PoolRecord>()? {
            let unreadable = |cause: String| stored.unreadable::<PoolRecord>(&key, cause);
            let name: PoolName = key
                .parse()
                .map_err(|error: NameError| unreadable(error.to_string()))?;
            let spec = PoolSpec::read(&record.spec, &KINDS)
                .map_err(|error| unreadable(error.to_string()))?;
            pools.push(StoredPool {
                instances: instances.remove(&name).unwrap_or_default(),
                learned: learned.remove(&key).unwrap_or_default(),
                name,
                spec,
                record,
            });
        }
        Ok(pools)
    }
}
