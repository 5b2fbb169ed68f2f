//! A setting that is measured unless it is given.

use std::ops::RangeInclusive;

use serde_json::Value;

use super::{FieldError, SettingType, Type};

const AUTO: &str = "auto";

/// `auto`, or a value. It is always written, so that an operator sees that the value is measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Auto<T>(pub Option<T>);

impl<T: SettingType> SettingType for Auto<T> {
    type Bound = T::Bound;

    fn describe() -> Type {
        T::describe()
    }

    fn from_json(value: &Value) -> Result<Self, FieldError> {
        if value.is_null() || value == AUTO {
            return Ok(Auto(None));
        }
        T::from_json(value)
            .map(|value| Auto(Some(value)))
            .map_err(|error| FieldError {
                advice: format!("{}; or {AUTO}", error.advice),
                ..error
            })
    }

    fn to_json(&self) -> Value {
        self.0.as_ref().map_or_else(|| AUTO.into(), T::to_json)
    }

    fn is_within(&self, range: &RangeInclusive<T::Bound>) -> bool {
        self.0.as_ref().is_none_or(|value| value.is_within(range))
    }

    fn bound_text(bound: &T::Bound) -> String {
        T::bound_text(bound)
    }
}
