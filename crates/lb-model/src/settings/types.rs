//! Types that a setting can have: how a value is read from JSON, written, bounded and described.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    path::PathBuf,
    time::Duration,
};

use serde_json::{Map, Number, Value};

use super::{Field, FieldError, Settings};
use crate::duration;

/// Bytes of a text at most.
pub const MAX_TEXT: usize = 1_024;
/// Entries of a list or a map at most.
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
    /// The type in a reference table.
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

    /// How it is described.
    fn describe() -> Type;

    /// Reads it from JSON.
    ///
    /// # Errors
    /// The path inside the value, the value, and what would be right.
    fn from_json(value: &Value) -> Result<Self, FieldError>;

    /// Writes it to JSON.
    fn to_json(&self) -> Value;

    /// Whether it lies in the range; NaN lies in none.
    fn is_within(&self, range: &RangeInclusive<Self::Bound>) -> bool;

    /// An end of its range as text.
    fn bound_text(bound: &Self::Bound) -> String;

    /// Whether it is absent, so that it need not be written.
    fn is_absent(&self) -> bool {
        false
    }
}

/// Refuses a value of the wrong type.
pub(super) fn wrong_type(value: &Value, advice: impl Into<String>) -> FieldError {
    FieldError::new("", plain(value), advice)
}

/// A value as an operator writes it.
#[must_use]
pub fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

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

impl SettingType for bool {
    without_order!();

    fn describe() -> Type {
        Type::Boolean
    }

    fn from_json(value: &Value) -> Result<Self, FieldError> {
        value
            .as_bool()
            .ok_or_else(|| wrong_type(value, "give true or false"))
    }

    fn to_json(&self) -> Value {
        Value::Bool(*self)
    }
}

macro_rules! integers {
    ($($type:ty),*) => {$(
        impl SettingType for $type {
            ordered!(ToString::to_string);

            fn describe() -> Type {
                Type::Integer
            }

            fn from_json(value: &Value) -> Result<Self, FieldError> {
                // A number that came through a format of floating-point numbers only (protobuf's Struct).
                let whole = value.as_f64().filter(|number| number.fract() == 0.0);
                let number = value.as_i128_lossless().or_else(|| whole.map(|number| number as i128));
                number
                    .and_then(|number| <$type>::try_from(number).ok())
                    .ok_or_else(|| wrong_type(value, format!("give a whole number from {} to {}", <$type>::MIN, <$type>::MAX)))
            }

            fn to_json(&self) -> Value {
                Value::Number(Number::from(*self))
            }
        }
    )*};
}

/// Integers of a JSON value without loss.
trait Lossless {
    fn as_i128_lossless(&self) -> Option<i128>;
}

impl Lossless for Value {
    fn as_i128_lossless(&self) -> Option<i128> {
        self.as_u64()
            .map(i128::from)
            .or_else(|| self.as_i64().map(i128::from))
    }
}

integers!(u16, u32, u64);

impl SettingType for f64 {
    ordered!(ToString::to_string);

    fn describe() -> Type {
        Type::Number
    }

    fn from_json(value: &Value) -> Result<Self, FieldError> {
        value
            .as_f64()
            .ok_or_else(|| wrong_type(value, "give a number"))
    }

    fn to_json(&self) -> Value {
        Number::from_f64(*self).map_or(Value::Null, Value::Number)
    }
}

impl SettingType for Duration {
    ordered!(|bound: &Duration| duration::format(*bound));

    fn describe() -> Type {
        Type::Duration
    }

    fn from_json(value: &Value) -> Result<Self, FieldError> {
        let advice = "give a number with a unit, such as 500ms, 90s, 2m, 1h or 30d";
        value
            .as_str()
            .and_then(|text| duration::parse(text).ok())
            .ok_or_else(|| wrong_type(value, advice))
    }

    fn to_json(&self) -> Value {
        Value::String(duration::format(*self))
    }
}

impl SettingType for String {
    without_order!();

    fn describe() -> Type {
        Type::Text("text")
    }

    fn from_json(value: &Value) -> Result<Self, FieldError> {
        let text = value
            .as_str()
            .ok_or_else(|| wrong_type(value, "give a text, in quotation marks"))?;
        if text.len() > MAX_TEXT {
            return Err(FieldError::new(
                "",
                format!("{} bytes", text.len()),
                format!("too long, give {MAX_TEXT} bytes at most"),
            ));
        }
        Ok(text.to_owned())
    }

    fn to_json(&self) -> Value {
        Value::String(self.clone())
    }
}

impl SettingType for Value {
    without_order!();

    fn describe() -> Type {
        Type::Json
    }

    fn from_json(value: &Value) -> Result<Self, FieldError> {
        Ok(value.clone())
    }

    fn to_json(&self) -> Value {
        self.clone()
    }
}

/// Makes a type with `FromStr` and `Display` the type of a setting: `text_setting!(IpAddr, "IP address")`. The
/// error of `FromStr` is the advice, unless an advice is given.
#[macro_export]
macro_rules! text_setting {
    ($type:ty, $form:literal) => {
        $crate::text_setting!(@impl $type, $form, |error| error.to_string());
    };
    ($type:ty, $form:literal, $advice:literal) => {
        $crate::text_setting!(@impl $type, $form, |_| $advice.to_owned());
    };
    (@impl $type:ty, $form:literal, $advice:expr) => {
        impl $crate::settings::SettingType for $type {
            type Bound = ();

            fn describe() -> $crate::settings::Type {
                $crate::settings::Type::Text($form)
            }

            fn from_json(
                value: &$crate::settings::Value,
            ) -> Result<Self, $crate::settings::FieldError> {
                let text = <String as $crate::settings::SettingType>::from_json(value)?;
                text.parse::<$type>().map_err(|error| {
                    let advice: fn(<$type as std::str::FromStr>::Err) -> String = $advice;
                    $crate::settings::FieldError::new("", &text, advice(error))
                })
            }

            fn to_json(&self) -> $crate::settings::Value {
                $crate::settings::Value::String(self.to_string())
            }

            fn is_within(&self, _range: &std::ops::RangeInclusive<()>) -> bool {
                true
            }

            fn bound_text((): &()) -> String {
                String::new()
            }
        }
    };
}

text_setting!(IpAddr, "IP address", "give an IPv4 or IPv6 address");
text_setting!(
    SocketAddr,
    "ADDRESS:PORT",
    "give ADDRESS:PORT, such as 127.0.0.1:9464"
);

impl SettingType for PathBuf {
    without_order!();

    fn describe() -> Type {
        Type::Text("path")
    }

    fn from_json(value: &Value) -> Result<Self, FieldError> {
        let text = String::from_json(value)?;
        let path = PathBuf::from(&text);
        if path.is_absolute() {
            Ok(path)
        } else {
            Err(FieldError::new("", text, "give an absolute path"))
        }
    }

    fn to_json(&self) -> Value {
        Value::String(self.to_string_lossy().into_owned())
    }
}

impl<T: SettingType> SettingType for Option<T> {
    type Bound = T::Bound;

    fn describe() -> Type {
        T::describe()
    }

    fn from_json(value: &Value) -> Result<Self, FieldError> {
        match value {
            Value::Null => Ok(None),
            value => T::from_json(value).map(Some),
        }
    }

    fn to_json(&self) -> Value {
        self.as_ref().map_or(Value::Null, T::to_json)
    }

    fn is_within(&self, range: &RangeInclusive<T::Bound>) -> bool {
        self.as_ref().is_none_or(|value| value.is_within(range))
    }

    fn bound_text(bound: &T::Bound) -> String {
        T::bound_text(bound)
    }

    fn is_absent(&self) -> bool {
        self.is_none()
    }
}

fn too_many(count: usize) -> FieldError {
    FieldError::new(
        "",
        format!("{count} entries"),
        format!("too many, give {MAX_ENTRIES} at most"),
    )
}

impl<T: SettingType> SettingType for Vec<T> {
    without_order!();

    fn describe() -> Type {
        Type::List(Box::new(T::describe()))
    }

    fn from_json(value: &Value) -> Result<Self, FieldError> {
        let items = value
            .as_array()
            .ok_or_else(|| wrong_type(value, "give a list, in square brackets"))?;
        if items.len() > MAX_ENTRIES {
            return Err(too_many(items.len()));
        }
        let read = |(position, item)| {
            T::from_json(item).map_err(|error: FieldError| error.within(format!("[{position}]")))
        };
        items.iter().enumerate().map(read).collect()
    }

    fn to_json(&self) -> Value {
        self.iter().map(T::to_json).collect()
    }

    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

impl<K, T> SettingType for BTreeMap<K, T>
where
    K: Ord + std::str::FromStr<Err: fmt::Display> + fmt::Display,
    T: SettingType,
{
    without_order!();

    fn describe() -> Type {
        Type::Map(Box::new(T::describe()))
    }

    fn from_json(value: &Value) -> Result<Self, FieldError> {
        let entries = value
            .as_object()
            .ok_or_else(|| wrong_type(value, "give a table"))?;
        if entries.len() > MAX_ENTRIES {
            return Err(too_many(entries.len()));
        }
        let read = |(key, value): (&String, &Value)| {
            let name = key
                .parse()
                .map_err(|error: K::Err| FieldError::new(key.clone(), key, error.to_string()))?;
            Ok((
                name,
                T::from_json(value).map_err(|error| error.within(key))?,
            ))
        };
        entries.iter().map(read).collect()
    }

    fn to_json(&self) -> Value {
        let write = |(key, value): (&K, &T)| (key.to_string(), value.to_json());
        Value::Object(self.iter().map(write).collect::<Map<_, _>>())
    }

    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

/// Makes an enumeration the type of a setting: each variant has its name in text and its help; the default stands
/// behind the name.
///
/// ```
/// lb_model::choice! {
///     /// How a probe's packets reach a real.
///     pub enum Via = Direct {
///         /// To the real's own address.
///         Direct = "direct",
///         /// To the VIP's address, encapsulated as clients' packets are.
///         Tunnel = "tunnel",
///     }
/// }
/// assert_eq!("tunnel".parse(), Ok(Via::Tunnel));
/// ```
#[macro_export]
macro_rules! choice {
    (
        $(#[$meta:meta])*
        $vis:vis enum $name:ident = $default:ident {
            $( $(#[doc = $help:expr])* $variant:ident = $text:literal $(| $alias:literal)* , )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        $vis enum $name {
            $( $(#[doc = $help])* $variant, )*
        }

        impl Default for $name {
            fn default() -> Self {
                $name::$default
            }
        }

        impl $name {
            /// Every choice.
            pub const ALL: &'static [$name] = &[$($name::$variant),*];
            /// The name of every choice with its help.
            pub const NAMES: &'static [(&'static str, &'static str)] =
                &[$(($text, $crate::settings::trimmed(concat!($($help, " "),*)))),*];

            /// The name in files, in the API and on the command line.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $($name::$variant => $text,)* }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.name())
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($text $(| $alias)* => Ok($name::$variant),)*
                    _ => Err($crate::settings::one_of($name::NAMES)),
                }
            }
        }

        impl $crate::settings::SettingType for $name {
            type Bound = ();

            fn describe() -> $crate::settings::Type {
                $crate::settings::Type::Choice($name::NAMES)
            }

            fn from_json(value: &$crate::settings::Value) -> Result<Self, $crate::settings::FieldError> {
                let text = $crate::settings::plain(value);
                text.parse().map_err(|advice: String| $crate::settings::FieldError::new("", &text, advice))
            }

            fn to_json(&self) -> $crate::settings::Value {
                $crate::settings::Value::String(self.name().to_owned())
            }

            fn is_within(&self, _range: &std::ops::RangeInclusive<()>) -> bool {
                true
            }

            fn bound_text((): &()) -> String {
                String::new()
            }
        }

        $crate::serde_by_json!($name);
    };
}

/// The advice for a value that is none of the choices.
#[must_use]
pub fn one_of(choices: &[(&str, &str)]) -> String {
    let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
    match names.split_last() {
        None => "unknown".to_owned(),
        Some((last, [])) => format!("unknown, give {last}"),
        Some((last, rest)) => format!("unknown, give {} or {last}", rest.join(", ")),
    }
}

/// The text without the space before it and behind it.
#[must_use]
pub const fn trimmed(text: &'static str) -> &'static str {
    text.trim_ascii()
}

/// Implements serde's traits for the type of a setting by way of JSON, so that TOML, JSON and the stored form are
/// read by the same code.
#[macro_export]
macro_rules! serde_by_json {
    ($name:ident) => {
        impl $crate::serde::Serialize for $name {
            fn serialize<S: $crate::serde::Serializer>(
                &self,
                serializer: S,
            ) -> Result<S::Ok, S::Error> {
                $crate::serde::Serialize::serialize(
                    &$crate::settings::SettingType::to_json(self),
                    serializer,
                )
            }
        }

        impl<'de> $crate::serde::Deserialize<'de> for $name {
            fn deserialize<D: $crate::serde::Deserializer<'de>>(
                deserializer: D,
            ) -> Result<Self, D::Error> {
                let value = <$crate::settings::Value as $crate::serde::Deserialize>::deserialize(
                    deserializer,
                )?;
                $crate::settings::SettingType::from_json(&value)
                    .map_err($crate::serde::de::Error::custom)
            }
        }
    };
}

/// A table of settings as the type of a setting.
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
