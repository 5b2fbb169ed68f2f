//! Names of hosts: machines that run instances.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::project::is_label;

/// The longest name of a host, in bytes.
const MAX: usize = 63;

/// The name of a host: 1 to 63 of `a`-`z`, `0`-`9` and `-`, beginning with a letter and not ending with `-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostName(String);

/// Why a text is not the name of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not the name of a host; give 1 to {MAX} of a-z, 0-9 and -, beginning with a letter and not ending with -"
)]
pub struct HostNameError;

impl HostName {
    /// The name of the controller's own host.
    pub const LOCAL: &str = "local";

    /// The controller's own host.
    #[must_use]
    pub fn local() -> Self {
        HostName(Self::LOCAL.to_owned())
    }

    /// Whether it is the controller's own.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.0 == Self::LOCAL
    }

    /// Returns the name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HostName {
    type Err = HostNameError;

    fn from_str(text: &str) -> Result<Self, HostNameError> {
        if is_label(text, MAX) {
            Ok(HostName(text.to_owned()))
        } else {
            Err(HostNameError)
        }
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl TryFrom<String> for HostName {
    type Error = HostNameError;

    fn try_from(text: String) -> Result<Self, HostNameError> {
        text.parse()
    }
}

impl From<HostName> for String {
    fn from(name: HostName) -> Self {
        name.0
    }
}

crate::text_setting!(HostName, "name of a host");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["a", "h1", "rack-2-host-7", HostName::LOCAL] {
            assert_eq!(good.parse::<HostName>().unwrap().as_str(), good);
        }
        for bad in ["", "1a", "-a", "a-", "H1", "a.b", "a b"] {
            bad.parse::<HostName>().expect_err(bad);
        }
        assert!(HostName::local().is_local());
    }
}
