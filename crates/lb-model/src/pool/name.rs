//! Names of pools and of their instances.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::project::is_label;

/// The longest name of a pool, in bytes. With number and epoch it still is a name of a container, a control group and a
/// host (63 bytes).
pub const MAX_POOL_NAME: usize = 40;

/// The name of a pool: 1 to 40 of `a`-`z`, `0`-`9` and `-`, beginning with a letter and not ending with `-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PoolName(String);

/// Why a text is no name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not the name of a pool.
    #[error(
        "not the name of a pool; give 1 to {MAX_POOL_NAME} of a-z, 0-9 and -, beginning with a letter and not ending with -"
    )]
    Pool,
    /// Not the name of an instance.
    #[error("not the name of an instance; it is POOL-NUMBER-EPOCH, such as web-1-1")]
    Instance,
}

impl PoolName {
    /// Returns the name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PoolName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let fits = is_label(text, MAX_POOL_NAME);
        if fits {
            Ok(PoolName(text.to_owned()))
        } else {
            Err(NameError::Pool)
        }
    }
}

impl fmt::Display for PoolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl TryFrom<String> for PoolName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<PoolName> for String {
    fn from(name: PoolName) -> Self {
        name.0
    }
}

crate::text_setting!(PoolName, "name of a pool");

/// The name of an instance: `POOL-NUMBER-EPOCH`.
///
/// The number is the instance's place in the pool and decides its address and port. The epoch counts the instances that
/// the pool has had: a relaunched instance has the number of the one it replaces and a new epoch. So a step that is
/// repeated after a crash finds what it made, and an old instance is never taken for its successor.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InstanceName {
    /// The pool.
    pub pool: PoolName,
    /// The place in the pool, from 1.
    pub number: u32,
    /// How many instances the pool had when it was launched, from 1: no two have the same.
    pub epoch: u64,
}

impl FromStr for InstanceName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let mut parts = text.rsplitn(3, '-');
        let (epoch, number, pool) = (parts.next(), parts.next(), parts.next());
        let (Some(epoch), Some(number), Some(pool)) = (epoch, number, pool) else {
            return Err(NameError::Instance);
        };
        let name = InstanceName {
            pool: pool.parse().map_err(|_| NameError::Instance)?,
            number: number.parse().map_err(|_| NameError::Instance)?,
            epoch: epoch.parse().map_err(|_| NameError::Instance)?,
        };
        // One text for each name: no leading zeros and no signs.
        if name.number == 0 || name.epoch == 0 || name.to_string() != text {
            return Err(NameError::Instance);
        }
        Ok(name)
    }
}

impl fmt::Display for InstanceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}-{}-{}", self.pool, self.number, self.epoch))
    }
}

impl TryFrom<String> for InstanceName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<InstanceName> for String {
    fn from(name: InstanceName) -> Self {
        name.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_have_names_that_are_names_of_containers_too() {
        for good in ["web", "a", "web-2", "mqtt-eu-1"] {
            assert_eq!(good.parse::<PoolName>().unwrap().as_str(), good);
        }
        let long = "a".repeat(MAX_POOL_NAME + 1);
        for bad in [
            "", "1web", "-web", "web-", "Web", "we b", "web/x", "wéb", &long,
        ] {
            assert_eq!(bad.parse::<PoolName>(), Err(NameError::Pool), "{bad}");
        }
    }

    #[test]
    fn an_instance_has_one_name() {
        let name: InstanceName = "web-2-3-14".parse().unwrap();
        assert_eq!(
            (name.pool.as_str(), name.number, name.epoch),
            ("web-2", 3, 14)
        );
        assert_eq!(name.to_string(), "web-2-3-14");
        for bad in [
            "web",
            "web-1",
            "web-0-1",
            "web-1-0",
            "web-01-1",
            "web-1-+1",
            "web--1-1",
            "-1-1",
            "web-1-1-",
            "web-x-1",
            "web-1-18446744073709551616",
        ] {
            assert!(bad.parse::<InstanceName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_longest_name_is_that_of_a_host() {
        let pool = "a".repeat(MAX_POOL_NAME);
        let name = format!("{pool}-1000-{}", 1_000_000_000_000_u64);
        assert!(name.parse::<InstanceName>().is_ok());
        assert!(name.len() <= 63, "{}", name.len());
    }
}
