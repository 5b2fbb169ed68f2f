//! Settings: an option is declared once.
//!
//! [`settings!`](crate::settings!) declares a table of settings, each with name, type, default, range and help. The struct,
//! the form in TOML, JSON and the stored record, `key=value` words on the command line, patches, validation and the
//! reference pages derive from that declaration.

mod auto;
mod choice;
mod collections;
mod error;
mod field;
mod reference;
mod scalars;
mod serde_by_json;
mod text;
mod types;
pub mod words;

pub use auto::Auto;
pub use choice::{one_of, trimmed};
pub use error::{FieldError, NOT_SET};
pub use field::{Field, Level};
#[cfg(test)]
pub(crate) use reference::keep_page;
pub use reference::reference_table;
pub use serde_by_json::deserialize;
pub use serde_json::{Map, Value};
pub use types::{MAX_ENTRIES, MAX_TEXT, SettingType, Type, plain, table_from_json};

/// A table of settings, declared with [`settings!`](crate::settings!).
pub trait Settings: Sized {
    /// Returns the definitions of the settings, in the order of their declaration.
    fn fields() -> Vec<Field>;

    /// Takes this table's settings out of a map that may contain other settings.
    ///
    /// # Errors
    /// Returns the first setting that is missing, has the wrong type, is out of range or contradicts another one.
    fn take(map: &mut Map<String, Value>) -> Result<Self, FieldError>;

    /// Returns all settings that are not absent, including those with their default.
    fn to_map(&self) -> Map<String, Value>;

    /// Checks ranges and relations between settings.
    ///
    /// # Errors
    /// Returns the first setting that is invalid.
    fn validate(&self) -> Result<(), FieldError>;
}

/// Reads a table of settings.
///
/// # Errors
/// Fails as [`Settings::take`] does, and on unknown settings.
pub fn from_map<T: Settings>(map: &Map<String, Value>) -> Result<T, FieldError> {
    let mut map = map.clone();
    let settings = T::take(&mut map)?;
    nothing_left(&map, &T::fields())?;
    Ok(settings)
}

/// Returns the table with the defaults of all settings.
///
/// # Panics
/// Panics if a setting has no default.
#[must_use]
pub fn defaults<T: Settings>() -> T {
    from_map(&Map::new()).unwrap_or_else(|error| panic!("a setting has no default: {error}"))
}

/// Rejects settings that remain in a map after all known ones were taken.
///
/// # Errors
/// Returns the first such setting, with the names of all settings.
pub fn nothing_left(map: &Map<String, Value>, fields: &[Field]) -> Result<(), FieldError> {
    let Some((name, value)) = map.iter().next() else {
        return Ok(());
    };
    let names: Vec<_> = fields.iter().map(|field| field.name).collect();
    let advice = if names.is_empty() {
        "there are no settings here; remove it".to_owned()
    } else {
        format!("there is no such setting; there are {}", names.join(", "))
    };
    // The value may be a misplaced secret.
    let value = match value {
        Value::String(_) if is_secret(name) => "hidden".to_owned(),
        value => plain(value),
    };
    Err(FieldError::new(name, value, advice))
}

/// Returns whether a setting with this name may contain a secret.
pub(crate) fn is_secret(name: &str) -> bool {
    ["password", "token", "secret"]
        .iter()
        .any(|word| name.contains(word))
}

/// Patches a table of settings. Each entry of `patch` replaces the setting with its name; `null` resets it to its default
/// (RFC 7396 on the first level: a table is replaced as a whole).
///
/// # Errors
/// Fails as [`from_map`] does.
pub fn patch<T: Settings>(settings: &T, patch: &Map<String, Value>) -> Result<T, FieldError> {
    let mut map = settings.to_map();
    for (name, value) in patch {
        if value.is_null() && T::fields().iter().any(|field| field.name == name) {
            map.remove(name);
        } else {
            map.insert(name.clone(), value.clone());
        }
    }
    from_map(&map)
}

/// Refuses a description that is not one line of text.
///
/// # Errors
/// The description, and what would be right.
pub(crate) fn check_description(text: Option<&str>) -> Result<(), FieldError> {
    match text {
        Some(text) if text.contains(char::is_control) => {
            let advice = "give one line of text without control characters";
            Err(FieldError::new("description", format!("{text:?}"), advice))
        }
        _ => Ok(()),
    }
}

/// A table with a patch: each entry of `patch` replaces the setting with its name, tables are patched in turn, and `null` removes
/// (RFC 7396).
#[must_use]
pub fn merged(map: &Map<String, Value>, patch: &Map<String, Value>) -> Map<String, Value> {
    let mut map = map.clone();
    for (name, new) in patch {
        match new {
            Value::Null => {
                map.remove(name);
            }
            Value::Object(inner) => {
                let nothing = Map::new();
                let before = map.get(name).and_then(Value::as_object);
                let table = merged(before.unwrap_or(&nothing), inner);
                map.insert(name.clone(), Value::Object(table));
            }
            other => {
                map.insert(name.clone(), other.clone());
            }
        }
    }
    map
}

/// Takes a setting out of a map.
///
/// # Errors
/// Fails if the setting has the wrong type, or is missing and has no default.
pub fn take_field<T: SettingType>(
    map: &mut Map<String, Value>,
    name: &'static str,
    default: Option<T>,
) -> Result<T, FieldError> {
    match map.remove(name) {
        None | Some(Value::Null) => default.ok_or_else(|| {
            let advice = format!("give {name}, {}", T::describe().describe());
            FieldError::missing(name, advice)
        }),
        Some(value) => T::from_json(&value).map_err(|error| error.within(name)),
    }
}

/// Rejects a setting that is out of its range.
///
/// # Errors
/// Returns the setting, its value and the range.
pub fn check_range<T: SettingType>(
    name: &str,
    value: &T,
    range: &std::ops::RangeInclusive<T::Bound>,
) -> Result<(), FieldError> {
    if value.is_within(range) {
        return Ok(());
    }
    let (least, most) = (T::bound_text(range.start()), T::bound_text(range.end()));
    let advice = format!("out of range, give {least} to {most}");
    Err(FieldError::new(name, plain(&value.to_json()), advice))
}

/// Declares a table of settings.
///
/// ```
/// use std::time::Duration;
///
/// lb_model::settings! {
///     /// How a real is probed.
///     pub struct Probing {
///         /// Time between two probes.
///         interval: Duration = Duration::from_secs(5), Duration::from_millis(100)..=Duration::from_secs(3_600);
///         /// Port to probe.
///         port: Option<u16> = None, 1..=65_535;
///         /// Path to request. Without a default, the setting is required.
///         path: String;
///         /// How early a probe may be, in percent of the interval; for experts.
///         @expert jitter: u32 = 10, 0..=50;
///     }
///     validate(probing) {
///         if probing.path.starts_with('/') {
///             return Ok(());
///         }
///         Err(lb_model::settings::FieldError::new("path", &probing.path, "begin with /"))
///     }
/// }
/// let map = serde_json::json!({ "path": "/healthz", "interval": "2s" });
/// let probing: Probing = lb_model::settings::from_map(map.as_object().unwrap()).unwrap();
/// assert_eq!(probing.interval, Duration::from_secs(2));
/// ```
///
/// A table whose last line is `..probe: "kind";` also has the settings of a kind in a registry, which the setting `kind`
/// names. With `..probe: "kind" = "tcp";` the kind is optional. The type of the field is
/// [`Component`](crate::component::Component).
#[macro_export]
macro_rules! settings {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident {
            $(
                $(#[doc = $help:expr])*
                $(@$level:ident)? $field:ident : $type:ty $(= $default:expr $(, $range:expr)?)?;
            )*
            $( .. $rest:ident : $key:literal $(= $kind:literal)?; )?
        }
        $( validate($this:ident) $validate:block )?
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        $vis struct $name {
            $( $(#[doc = $help])* pub $field: $type, )*
            $(
                /// The kind, with the settings that only this kind has.
                pub $rest: $crate::component::Component,
            )?
        }

        impl $crate::settings::Settings for $name {
            fn fields() -> Vec<$crate::settings::Field> {
                vec![$(
                    $crate::settings::Field {
                        name: stringify!($field),
                        help: $crate::settings::trimmed(concat!($($help, "\n"),*)),
                        kind: <$type as $crate::settings::SettingType>::describe(),
                        default: $crate::settings!(@default $type $(, $default)?),
                        range: $crate::settings!(@range $type $($(, $range)?)?),
                        level: $crate::settings!(@level $($level)?),
                    }
                ),*]
            }

            fn take(
                map: &mut $crate::settings::Map<String, $crate::settings::Value>,
            ) -> Result<Self, $crate::settings::FieldError> {
                // A table may be empty.
                let _: &_ = map;
                let settings = $name {
                    $( $field: $crate::settings::take_field(
                        map,
                        stringify!($field),
                        $crate::settings!(@option $type $(, $default)?),
                    )?, )*
                    $( $rest: $crate::component::Component::take(
                        map,
                        $key,
                        $crate::settings!(@kind $($kind)?),
                    )?, )?
                };
                $crate::settings::Settings::validate(&settings)?;
                Ok(settings)
            }

            fn to_map(&self) -> $crate::settings::Map<String, $crate::settings::Value> {
                #[allow(unused_mut, reason = "a table may be empty")]
                let mut map = $crate::settings::Map::new();
                $(
                    if !$crate::settings::SettingType::is_absent(&self.$field) {
                        map.insert(
                            stringify!($field).to_owned(),
                            $crate::settings::SettingType::to_json(&self.$field),
                        );
                    }
                )*
                $( self.$rest.write($key, &mut map); )?
                map
            }

            fn validate(&self) -> Result<(), $crate::settings::FieldError> {
                $( $(
                    $(
                        $crate::settings::check_range::<$type>(
                            stringify!($field),
                            &self.$field,
                            &($range),
                        )?;
                    )?
                    let _ = stringify!($default);
                )? )*
                $crate::settings!(@validate self $(, $this $validate)?)
            }
        }

        impl $crate::settings::SettingType for $name {
            type Bound = ();

            fn describe() -> $crate::settings::Type {
                $crate::settings!(@describe $($key)?)
            }

            fn from_json(
                value: &$crate::settings::Value,
            ) -> Result<Self, $crate::settings::FieldError> {
                $crate::settings::table_from_json(value)
            }

            fn to_json(&self) -> $crate::settings::Value {
                $crate::settings::Value::Object($crate::settings::Settings::to_map(self))
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

    (@default $type:ty) => { None };
    (@default $type:ty, $default:expr) => {
        Some(<$type as $crate::settings::SettingType>::to_json(&{ let value: $type = $default; value }))
    };
    (@option $type:ty) => { None::<$type> };
    (@option $type:ty, $default:expr) => { Some({ let value: $type = $default; value }) };
    (@range $type:ty) => { None };
    (@range $type:ty, $range:expr) => {{
        let range: std::ops::RangeInclusive<<$type as $crate::settings::SettingType>::Bound> = $range;
        Some((
            <$type as $crate::settings::SettingType>::bound_text(range.start()),
            <$type as $crate::settings::SettingType>::bound_text(range.end()),
        ))
    }};
    (@level) => { $crate::settings::Level::Operator };
    (@level expert) => { $crate::settings::Level::Expert };
    (@kind) => { None };
    (@kind $kind:literal) => { Some($kind) };
    (@describe) => {
        $crate::settings::Type::Table(<Self as $crate::settings::Settings>::fields())
    };
    (@describe $key:literal) => {
        $crate::settings::Type::Component {
            key: $key,
            common: <Self as $crate::settings::Settings>::fields(),
        }
    };
    (@validate $self:ident) => { Ok(()) };
    (@validate $self:ident, $this:ident $validate:block) => {{
        let check = |$this: &Self| -> Result<(), $crate::settings::FieldError> { $validate };
        check($self)
    }};
}

#[cfg(test)]
mod tests;
