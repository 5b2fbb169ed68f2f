//! What a type of settings provides: reading from JSON, writing, bounds and a description.

use std::ops::RangeInclusive;

use serde_json::Value;

use super::{Field, FieldError, Settings};

/// The most bytes that a text may have.
pub const MAX_TEXT: usize = 1_024;
/// The most entries that a list or a map may have.
pub const MAX_ENTRIES: usize = 64;

/// The type of a setting, for documentation, completion and the command line.
#[derive(Clone, Debug, PartialEq)]
pub enum Type {
    /// `true` or `false`.
    Boolean,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// A time with its unit, such as `500ms` or `1h30m`.
    Duration,
    /// A text; the words describe its form.
    Text(&'static str),
    /// One of these names, each with its help.
    Choice(&'static [(&'static str, &'static str)]),
    /// Several values of one type.
    List(Box<Type>),
    /// Values by name.
    Map(Box<Type>),
    /// A table of settings.
    Table(Vec<Field>),
    /// Any JSON value.
    Json,
    /// A table whose `key` names a kind of a registry, with the settings of both.
    Component {
        /// The setting that names the kind.
        key: &'static str,
        /// Settings that every kind has.
        common: Vec<Field>,
    },
}

impl Type {
    /// Describes the type in a reference table.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Type::Boolean => "boolean".to_owned(),
            Type::Integer => "integer".to_owned(),
            Type::Number => "number".to_owned(),
            Type::Duration => "duration".to_owned(),
            Type::Text(form) => (*form).to_owned(),
            Type::Choice(choices) => {
                let names: Vec<_> = choices
                    .iter()
                    .map(|(name, _)| format!("`{name}`"))
                    .collect();
                names.join(", ")
            }
            Type::List(item) => format!("list of {}", item.describe()),
            Type::Map(value) => format!("table of {}", value.describe()),
            Type::Table(_) | Type::Component { .. } => "table".to_owned(),
            Type::Json => "any value".to_owned(),
        }
    }
}

/// A type that a setting can have.
pub trait SettingType: Sized {
    /// The type of the ends of its range; `()` if it has no order.
    type Bound;

    /// Describes the type.
    fn describe() -> Type;

    /// Reads a value from JSON.
    ///
    /// # Errors
    /// Returns the path inside the value, the value, and a valid form.
    fn from_json(value: &Value) -> Result<Self, FieldError>;

    /// Writes the value to JSON.
    fn to_json(&self) -> Value;

    /// Returns whether the value is in the range. NaN is in no range.
    fn is_within(&self, range: &RangeInclusive<Self::Bound>) -> bool;

    /// Returns an end of a range as text.
    fn bound_text(bound: &Self::Bound) -> String;

    /// Returns whether the value is absent, so that it is not written.
    fn is_absent(&self) -> bool {
        false
    }
}

/// Returns the error for a value of the wrong type.
pub(super) fn wrong_type(value: &Value, advice: impl Into<String>) -> FieldError {
    FieldError::new("", plain(value), advice)
}

/// Returns a value as an operator writes it.
#[must_use]
pub fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The part of [`SettingType`] that concerns ranges, for a type without an order.
macro_rules! without_order {
    () => {
        type Bound = ();

        fn is_within(&self, _range: &RangeInclusive<()>) -> bool {
            true
        }

        fn bound_text((): &()) -> String {
            String::new()
        }
    };
}

/// The part of [`SettingType`] that concerns ranges, for a type with an order. `$text` writes an end of a range.
macro_rules! ordered {
    ($text:expr) => {
        type Bound = Self;

        fn is_within(&self, range: &RangeInclusive<Self>) -> bool {
            range.contains(self)
        }

        fn bound_text(bound: &Self) -> String {
            $text(bound)
        }
    };
}

pub(super) use {ordered, without_order};

/// Reads a table of settings that is the value of a setting.
///
/// # Errors
/// Fails if the value is not a table, or as [`super::from_map`].
pub fn table_from_json<T: Settings + SettingType>(value: &Value) -> Result<T, FieldError> {
    let Some(map) = value.as_object() else {
        let advice = match T::describe() {
            Type::Component { key, .. } => {
                let example = value.as_str().unwrap_or("KIND");
                format!("give a table of settings, such as {{ {key} = {example:?} }}")
            }
            _ => "give a table of settings, {} for the defaults".to_owned(),
        };
        return Err(wrong_type(value, advice));
    };
    let mut map = map.clone();
    let read = T::take(&mut map)?;
    super::nothing_left(&map, &T::fields())?;
    Ok(read)
}
