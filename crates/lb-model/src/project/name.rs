//! Names of projects and of what is in them.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The longest name, in bytes: that of a label of DNS (RFC 1035).
pub const MAX_OBJECT_NAME: usize = 63;

/// The name of a project or of something in it, which is a label of its name in DNS: 1 to 63 of `a`-`z`, `0`-`9` and `-`,
/// beginning with a letter and not ending with `-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ObjectName(String);

impl ObjectName {
    /// Returns the name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ObjectName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if is_label(text, MAX_OBJECT_NAME) {
            return Ok(ObjectName(text.to_owned()));
        }
        Err(format!(
            "not a name; give 1 to {MAX_OBJECT_NAME} of a-z, 0-9 and -, beginning with a letter and not ending with -"
        ))
    }
}

/// Whether a text is 1 to `most` of `a`-`z`, `0`-`9` and `-`, beginning with a letter and not ending with `-`.
pub(crate) fn is_label(text: &str, most: usize) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=most).contains(&text.len())
        && text.bytes().all(plain)
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && !text.ends_with('-')
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl TryFrom<String> for ObjectName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<ObjectName> for String {
    fn from(name: ObjectName) -> Self {
        name.0
    }
}

crate::text_setting!(ObjectName, "name");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_labels_of_dns() {
        let long = "a".repeat(MAX_OBJECT_NAME);
        for good in ["a", "shop-2", &long] {
            assert_eq!(good.parse::<ObjectName>().unwrap().as_str(), good);
        }
        let longer = "a".repeat(MAX_OBJECT_NAME + 1);
        for bad in ["", "-a", "a-", "2a", "A", "a.b", "a b", "a_b", &longer] {
            let error = bad.parse::<ObjectName>().unwrap_err();
            assert!(error.contains("beginning with a letter"), "{bad}");
        }
    }
}
