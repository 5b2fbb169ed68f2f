//! The definition of a setting.

use serde_json::Value;

use super::Type;

/// One setting of a table.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// Its name in TOML, JSON, the API and on the command line, where options have `-` for `_`.
    pub name: &'static str,
    /// Its help. The first line is the short help.
    pub help: &'static str,
    /// Its type.
    pub kind: Type,
    /// Its default; `None` if the setting is required, `null` if it is absent by default.
    pub default: Option<Value>,
    /// The least and the greatest value as text.
    pub range: Option<(String, String)>,
    /// Who needs it.
    pub level: Level,
}

/// Who needs a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Operators need it. It is in the first table of the reference.
    Operator,
    /// Experts tune it. The default suits nearly all operators.
    Expert,
}

impl Field {
    /// Returns the help without line breaks.
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
