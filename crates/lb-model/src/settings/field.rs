//! What is known of one setting.

use serde_json::Value;

use super::Type;

/// One setting of a table.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// Its name in TOML, JSON, the API and on the command line (there with `-` for `_` in options).
    pub name: &'static str,
    /// Its help; the first line is the short one.
    pub help: &'static str,
    /// Its type.
    pub kind: Type,
    /// Its default; `None` if it must be given, `null` if it is absent by default.
    pub default: Option<Value>,
    /// The least and the greatest value as text.
    pub range: Option<(String, String)>,
    /// For whom it is.
    pub level: Level,
}

/// For whom a setting is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Operators need it; it stands in the first table of the reference.
    Operator,
    /// Experts tune it; the default suits nearly everybody.
    Expert,
}

impl Field {
    /// The help without line breaks.
    #[must_use]
    pub fn help_line(&self) -> String {
        self.help
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect::<Vec<_>>()
            .join(" ")
    }
}
