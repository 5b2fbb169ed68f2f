//! The error of a setting.

use std::fmt;

/// A setting with an invalid value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// Path of the setting, with dots between tables: `check.interval`.
    pub field: String,
    /// The offending value as text; `not set` if it is missing.
    pub value: String,
    /// What is wrong with the value, and the valid values.
    pub advice: String,
}

/// The text in place of the value of a missing setting.
pub const NOT_SET: &str = "not set";

impl FieldError {
    /// Creates the error for a value of a setting.
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

    /// Creates the error for a missing setting.
    pub fn missing(field: impl Into<String>, advice: impl Into<String>) -> Self {
        FieldError::new(field, NOT_SET, advice)
    }

    /// Returns the same error with the path from the surrounding table (`name`) or list (`[0]`).
    #[must_use]
    pub fn within(mut self, table: impl fmt::Display) -> Self {
        self.field = if self.field.is_empty() || self.field.starts_with('[') {
            format!("{table}{}", self.field)
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
