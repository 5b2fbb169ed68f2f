//! Who writes the intent, and to whom its objects belong.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Longest name of a controller, in bytes.
pub const MAX_CONTROLLER_NAME: usize = 63;

/// The writer to whom a VIP or a real belongs: the one that added it, or that last took it over.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Owner {
    /// The agent's configuration file. A reload makes its objects what the file says.
    File,
    /// Callers of the API, `lbctl` among them.
    #[default]
    Api,
    /// The controller of this name.
    Controller(ControllerName),
}

/// The name of a controller: 1 to 63 of `a`-`z`, `0`-`9`, `-`, `_` and `.`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ControllerName(String);

/// Why a text is no owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "write an owner as file, api or controller:NAME, the name of 1 to {MAX_CONTROLLER_NAME} of a-z, 0-9, -, _ and ."
)]
pub struct OwnerError;

impl FromStr for Owner {
    type Err = OwnerError;

    fn from_str(text: &str) -> Result<Self, OwnerError> {
        match text {
            "file" => Ok(Owner::File),
            "api" => Ok(Owner::Api),
            _ => {
                let name = text.strip_prefix("controller:").ok_or(OwnerError)?;
                let fits = (1..=MAX_CONTROLLER_NAME).contains(&name.len())
                    && name.bytes().all(|byte| {
                        byte.is_ascii_lowercase()
                            || byte.is_ascii_digit()
                            || matches!(byte, b'-' | b'_' | b'.')
                    });
                if !fits {
                    return Err(OwnerError);
                }
                Ok(Owner::Controller(ControllerName(name.to_owned())))
            }
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Owner::File => f.write_str("file"),
            Owner::Api => f.write_str("api"),
            Owner::Controller(name) => write!(f, "controller:{}", name.0),
        }
    }
}

impl TryFrom<String> for Owner {
    type Error = OwnerError;

    fn try_from(text: String) -> Result<Self, OwnerError> {
        text.parse()
    }
}

impl From<Owner> for String {
    fn from(owner: Owner) -> Self {
        owner.to_string()
    }
}

/// The writer of a change, and on what it insists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Writer {
    /// To whom the objects belong that it adds or takes over.
    pub owner: Owner,
    /// Whether it takes over objects of another owner instead of being refused.
    pub force: bool,
    /// The revision that the VIP must have, 0 for any.
    pub expected_revision: u64,
}

impl Writer {
    /// A writer that insists on nothing.
    #[must_use]
    pub const fn of(owner: Owner) -> Self {
        Writer {
            owner,
            force: false,
            expected_revision: 0,
        }
    }

    /// Whether it may change an object of this owner.
    #[must_use]
    pub fn may_change(&self, owner: &Owner) -> bool {
        self.force || self.owner == *owner
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_read_and_written_alike() {
        for text in ["file", "api", "controller:web-1.a_b"] {
            assert_eq!(text.parse::<Owner>().unwrap().to_string(), text);
            let json = serde_json::to_string(&text).unwrap();
            assert_eq!(
                serde_json::to_string(&serde_json::from_str::<Owner>(&json).unwrap()).unwrap(),
                json
            );
        }
        let long = format!("controller:{}", "a".repeat(64));
        for text in [
            "",
            "File",
            "controller",
            "controller:",
            "controller:A",
            "controller:a b",
            &long,
        ] {
            assert_eq!(text.parse::<Owner>(), Err(OwnerError), "{text}");
        }
    }

    #[test]
    fn objects_of_others_need_force() {
        let mut writer = Writer::of(Owner::Api);
        assert!(writer.may_change(&Owner::Api));
        assert!(!writer.may_change(&Owner::File));
        writer.force = true;
        assert!(writer.may_change(&Owner::File));
    }
}
