//! What is stored: a table for each kind of record. A new kind is one implementation of [`Record`] beside its type, and a line
//! in `TABLES`.

use std::collections::BTreeMap;

use lb_commands::{command::Command, environment::Environment};
use lb_model::dns::Addresses;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    access,
    hosts::{self, HostRecord},
    pool::{InstanceRecord, Learned, PoolRecord},
    registry::{BalancerRecord, ProjectRecord, SubnetRecord},
};

/// All records: of each table, by key, as they are stored.
pub type Mirror = BTreeMap<&'static str, BTreeMap<String, Vec<u8>>>;

/// A kind of record.
pub trait Record: Serialize + DeserializeOwned {
    /// The name of its table.
    const TABLE: &'static str;
    /// What it is of, in words.
    const WHAT: &'static str;
    /// Whether a record that cannot be read counts as none.
    const CAN_BE_LOST: bool = false;

    /// Checks what its type does not, once for each that is taken up.
    ///
    /// # Errors
    /// What is wrong, in words.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

/// A table of the store.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    name: &'static str,
    check: fn(&Stored) -> Result<(), Unreadable>,
}

impl Table {
    const fn of<R: Record>() -> Self {
        Table {
            name: R::TABLE,
            check: |stored| {
                for (key, record) in stored.all::<R>()? {
                    let checked = record.check();
                    checked.map_err(|cause| stored.unreadable::<R>(&key, cause))?;
                }
                Ok(())
            },
        }
    }
}

/// The tables.
const TABLES: &[Table] = &[
    Table::of::<PoolRecord>(),
    Table::of::<InstanceRecord>(),
    Table::of::<Learned>(),
    Table::of::<ProjectRecord>(),
    Table::of::<BalancerRecord>(),
    Table::of::<SubnetRecord>(),
    Table::of::<Counter>(),
    Table::of::<Addresses>(),
    Table::of::<HostRecord>(),
    Table::of::<hosts::TokenRecord>(),
    Table::of::<Command>(),
    Table::of::<Environment>(),
    Table::of::<access::UserRecord>(),
    Table::of::<access::TokenRecord>(),
];

/// Their names.
pub const NAMES: &[&str] = &{
    let mut names = [""; TABLES.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = TABLES[at].name;
        at += 1;
    }
    names
};

/// A number that only grows. Key: what it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Counter(pub u64);

impl Counter {
    /// The key of the ids that were given out.
    pub const LAST_ID: &'static str = "last_id";
    /// The key of the changes of the zone.
    pub const SERIAL: &'static str = "dns_serial";
    /// The key of the numbers that were given to environments.
    pub const LAST_ENVIRONMENT: &'static str = "last_environment";
}

impl Record for Counter {
    const TABLE: &'static str = "counters";
    const WHAT: &'static str = "counter";
}

/// The addresses of a load balancer in DNS. Key: `LB.PROJECT`.
impl Record for Addresses {
    const TABLE: &'static str = "names";
    const WHAT: &'static str = "name";
}

/// A command. Key: its number.
impl Record for Command {
    const TABLE: &'static str = "commands";
    const WHAT: &'static str = "command";
}

/// An environment. Key: its number.
impl Record for Environment {
    const TABLE: &'static str = "environments";
    const WHAT: &'static str = "environment";
}

/// A record that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{location}: the {what} {key} cannot be read: {cause}")]
pub struct Unreadable {
    /// The store.
    pub location: String,
    /// What the record is of.
    pub what: &'static str,
    /// Its key.
    pub key: String,
    /// The cause.
    pub cause: String,
}

/// Everything that is stored, or was.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    location: String,
    records: Mirror,
}

impl Stored {
    /// These records of this store.
    ///
    /// # Errors
    /// One of them cannot be read.
    pub fn checked(location: String, records: Mirror) -> Result<Self, Unreadable> {
        let stored = Stored { location, records };
        for table in TABLES {
            (table.check)(&stored)?;
        }
        Ok(stored)
    }

    /// The records of a kind, with their keys and in the order of these.
    ///
    /// # Errors
    /// One cannot be read.
    pub fn all<R: Record>(&self) -> Result<Vec<(String, R)>, Unreadable> {
        let records = self.records.get(R::TABLE).into_iter().flatten();
        let mut all = Vec::new();
        for (key, bytes) in records {
            match serde_json::from_slice::<R>(bytes) {
                Ok(record) => all.push((key.clone(), record)),
                Err(_) if R::CAN_BE_LOST => {}
                Err(error) => return Err(self.unreadable::<R>(key, error.to_string())),
            }
        }
        Ok(all)
    }

    /// A record's key is not one, or its content is not.
    #[must_use]
    pub fn unreadable<R: Record>(&self, key: &str, cause: String) -> Unreadable {
        Unreadable {
            location: self.location.clone(),
            what: R::WHAT,
            key: key.to_owned(),
            cause,
        }
    }

    /// What was counted, if it was.
    ///
    /// # Errors
    /// A counter cannot be read.
    pub fn counter(&self, key: &str) -> Result<Option<u64>, Unreadable> {
        let counters = self.all::<Counter>()?;
        let found = counters.into_iter().find(|(name, _)| name == key);
        Ok(found.map(|(_, counter)| counter.0))
    }

    /// Whether both have the same records of all kinds but pools, instances and what was learned.
    #[must_use]
    pub fn is_same_besides_pools(&self, other: &Stored) -> bool {
        let of_pools = [PoolRecord::TABLE, InstanceRecord::TABLE, Learned::TABLE];
        let others = NAMES.iter().filter(|name| !of_pools.contains(name));
        others.copied().all(|name| {
            let records = |stored: &Stored| stored.records.get(name).cloned().unwrap_or_default();
            records(self) == records(other)
        })
    }
}
