//! Single values: numbers, durations, texts and paths.

use std::{ops::RangeInclusive, path::PathBuf, time::Duration};

use serde_json::{Number, Value};

use super::{
    FieldError,
    types::{MAX_TEXT, SettingType, Type, ordered, without_order, wrong_type},
};
use crate::duration;

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
                // Formats such as protobuf's Struct have floating-point numbers only.
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

/// Reads integers of a JSON value.
trait Lossless {
    /// Returns the value if it is an integer, without rounding.
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
