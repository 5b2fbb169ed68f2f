//! Optional values, lists and maps of other types.

use std::{collections::BTreeMap, fmt, ops::RangeInclusive};

use serde_json::{Map, Value};

use super::{
    FieldError,
    types::{MAX_ENTRIES, SettingType, Type, without_order, wrong_type},
};

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
