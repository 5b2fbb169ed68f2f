//! Why a setting is refused.

use std::fmt;

/// A setting that cannot have its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// Path of the setting, with dots between tables: `check.interval`.
    pub field: String,
    /// The offending value as text; `not set` if it is missing.
    pub value: String,
    /// What is wrong with it and what would be right.
    pub advice: String,
}

/// The value of a setting that is missing.
pub const NOT_SET: &str = "not set";

impl FieldError {
    /// Refuses a value of a setting.
    pub fn new(
        field: impl Into<String>,
        value: impl fmt::Display,
        advice: impl Into<String>,
    ) -> Self {
        FieldError {
            field: field.into(),
            value: value.to_string(),
            advice: advice.into(),
        }
    }

    /// Refuses a setting that is missing.
    pub fn missing(field: impl Into<String>, advice: impl Into<String>) -> Self {
        FieldError::new(field, NOT_SET, advice)
    }

    /// The same error, seen from the table that holds the setting's table.
    #[must_use]
    pub fn within(mut self, table: impl fmt::Display) -> Self {
        self.field = if self.field.is_empty() {
            table.to_string()
        } else {
            format!("{table}.{}", self.field)
        };
        self
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() {
            write!(f, "{}: {}", self.value, self.advice)
        } else {
            write!(f, "{}: {}: {}", self.field, self.value, self.advice)
        }
    }
}

impl std::error::Error for FieldError {}
