//! The quantities that an operator defines for a reader of any page or topic, each by an expression or a pointer.

use std::{collections::BTreeMap, ops::RangeInclusive};

use lb_model::settings::{Field, FieldError, Level, Map, SettingType, Type, Value, plain};

use super::reading::Quantity;

/// How each quantity is read; the type of the setting `values`.
#[derive(Clone, Debug, PartialEq)]
pub struct Values<T>(pub BTreeMap<Quantity, T>);

impl<T> Values<T> {
    /// Requires at least one quantity.
    ///
    /// # Errors
    /// `values` is missing.
    pub fn validate(&self, example: &str) -> Result<(), FieldError> {
        if self.0.is_empty() {
            let advice = format!("give at least one quantity, such as {example}");
            return Err(FieldError::missing("values", advice));
        }
        Ok(())
    }
}

impl<T: SettingType> SettingType for Values<T> {
    type Bound = ();

    fn describe() -> Type {
        let field = |(name, help): &(&'static str, &'static str)| Field {
            name,
            help,
            kind: T::describe(),
            default: Some(Value::Null),
            range: None,
            level: Level::Operator,
        };
        Type::Table(Quantity::NAMES.iter().map(field).collect())
    }

    fn from_json(value: &Value) -> Result<Self, FieldError> {
        let entries = value
            .as_object()
            .ok_or_else(|| FieldError::new("", plain(value), "give a table of quantities"))?;
        let read = |(name, value): (&String, &Value)| {
            let quantity = name
                .parse()
                .map_err(|advice: String| FieldError::new("", name, advice))?;
            let value = T::from_json(value).map_err(|error| error.within(name))?;
            Ok((quantity, value))
        };
        entries.iter().map(read).collect::<Result<_, _>>().map(Self)
    }

    fn to_json(&self) -> Value {
        let write = |(quantity, value): (&Quantity, &T)| (quantity.to_string(), value.to_json());
        Value::Object(self.0.iter().map(write).collect::<Map<_, _>>())
    }

    fn is_within(&self, _: &RangeInclusive<()>) -> bool {
        true
    }

    fn bound_text((): &()) -> String {
        String::new()
    }
}
