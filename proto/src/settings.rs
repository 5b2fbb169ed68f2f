//! Converts messages to settings and back, by the descriptors: no field is named here.
//!
//! A message's field holds the setting of the same name. An enumeration is its value's name in lower case without the
//! type's prefix (`ON_DOWN_REHASH` is `rehash`), a duration is text (`90s`), a [`Component`](crate::v1::Component) is
//! the table of its settings with the setting that names its kind, and a `Struct` is a table.

use std::sync::LazyLock;

use lb_model::{
    duration,
    settings::{Field, FieldError, Map, NOT_SET, Type, Value, plain},
};
use prost::{Message, Name};
use prost_reflect::{
    DescriptorPool, DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor,
    ReflectMessage as _, Value as Reflected,
};
use prost_types::{Duration, Struct, value::Kind as Json};

use crate::v1;

/// The name of `prost_types::Struct`, which has no constant for it.
const STRUCT: &str = "google.protobuf.Struct";
/// The greatest integer up to which a `Struct` represents all integers exactly: 2^53.
const MAX_WHOLE: f64 = 9_007_199_254_740_992.0;

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(crate::DESCRIPTORS)
        .unwrap_or_else(|error| unreachable!("the descriptors were written at build time: {error}"))
});

/// Returns the descriptor of a message.
fn descriptor<M: Name>() -> MessageDescriptor {
    POOL.get_message_by_name(&M::full_name())
        .unwrap_or_else(|| unreachable!("{} is in the descriptors", M::full_name()))
}

/// Returns the names of a message's fields.
#[must_use]
pub fn field_names<M: Name>() -> Vec<String> {
    descriptor::<M>()
        .fields()
        .map(|field| field.name().to_owned())
        .collect()
}

/// Returns the settings that are set in a message. `fields` are the settings of the corresponding table, which define
/// the setting that names the kind of a component.
///
/// # Errors
/// Fails on an unknown number of an enumeration and on a negative duration.
pub fn to_map<M: Message + Name>(
    message: &M,
    fields: &[Field],
) -> Result<Map<String, Value>, FieldError> {
    let mut dynamic = DynamicMessage::new(descriptor::<M>());
    transcoded(dynamic.transcode_from(message));
    let mut map = Map::new();
    for (field, value) in dynamic.fields() {
        let key = component_key(fields, field.name());
        if let Some(value) =
            to_json(&field, value, key).map_err(|error| error.within(field.name()))?
        {
            map.insert(field.name().to_owned(), value);
        }
    }
    Ok(map)
}

/// Returns the message with these settings.
///
/// # Errors
/// Fails on a setting for which the message has no field, and on an invalid value.
pub fn from_map<M: Message + Name + Default>(
    map: &Map<String, Value>,
    fields: &[Field],
) -> Result<M, FieldError> {
    let descriptor = descriptor::<M>();
    let mut dynamic = DynamicMessage::new(descriptor.clone());
    for (name, value) in map {
        if value.is_null() {
            continue;
        }
        let field = descriptor.get_field_by_name(name).ok_or_else(|| {
            let names = field_names::<M>().join(", ");
            let advice = format!("there is no such setting; there are {names}");
            FieldError::new(name, plain(value), advice)
        })?;
        let key = component_key(fields, name);
        let value = from_json(&field, value, key).map_err(|error| error.within(name))?;
        dynamic.set_field(&field, value);
    }
    Ok(transcoded(dynamic.transcode_to()))
}

/// Unwraps a conversion between two forms of a message, which have the same descriptor and therefore never fails.
fn transcoded<T, E: std::fmt::Display>(outcome: Result<T, E>) -> T {
    outcome.unwrap_or_else(|error| unreachable!("the same descriptor on both sides: {error}"))
}

/// Returns the setting that names the kind of the component in this field, or `kind` if the field is not a component.
fn component_key(fields: &[Field], name: &str) -> &'static str {
    fn key(kind: &Type) -> Option<&'static str> {
        match kind {
            Type::Component { key, .. } => Some(key),
            Type::List(item) => key(item),
            _ => None,
        }
    }
    fields
        .iter()
        .find(|field| field.name == name)
        .and_then(|field| key(&field.kind))
        .unwrap_or("kind")
}

/// Converts the value of a field to JSON. Returns `None` for an unspecified enumeration.
fn to_json(
    field: &FieldDescriptor,
    value: &Reflected,
    key: &'static str,
) -> Result<Option<Value>, FieldError> {
    Ok(Some(match value {
        Reflected::List(items) => {
            let mut list = Vec::with_capacity(items.len());
            for (position, item) in items.iter().enumerate() {
                let item = to_json(field, item, key).map_err(|error| at(error, position))?;
                list.extend(item);
            }
            Value::Array(list)
        }
        Reflected::Bool(value) => Value::Bool(*value),
        Reflected::U32(value) => Value::from(*value),
        Reflected::U64(value) => Value::from(*value),
        Reflected::F64(value) => number(*value),
        Reflected::String(value) => Value::String(value.clone()),
        Reflected::EnumNumber(0) => return Ok(None),
        Reflected::EnumNumber(value) => Value::String(enum_name(field, *value)?),
        Reflected::Message(message) => message_to_json(message, key)?,
        other => unreachable!("settings have no field of this type: {other:?}"),
    }))
}

fn message_to_json(message: &DynamicMessage, key: &'static str) -> Result<Value, FieldError> {
    let name = message.descriptor();
    let name = name.full_name();
    if name == Duration::full_name() {
        return duration_to_json(&transcoded(message.transcode_to()));
    }
    if name == v1::Component::full_name() {
        let component: v1::Component = transcoded(message.transcode_to());
        return Ok(Value::Object(component_to_map(component, key)));
    }
    if name == STRUCT {
        return Ok(Value::Object(struct_to_map(transcoded(
            message.transcode_to(),
        ))));
    }
    unreachable!("settings have no field of this message: {name}")
}

/// Converts JSON to the value of a field.
fn from_json(
    field: &FieldDescriptor,
    value: &Value,
    key: &'static str,
) -> Result<Reflected, FieldError> {
    if !field.is_list() {
        return item_from_json(field, value, key);
    }
    let items = value
        .as_array()
        .ok_or_else(|| refused(value, "give a list"))?;
    let read =
        |(position, item)| item_from_json(field, item, key).map_err(|error| at(error, position));
    let items = items.iter().enumerate().map(read);
    Ok(Reflected::List(items.collect::<Result<_, _>>()?))
}

fn item_from_json(
    field: &FieldDescriptor,
    value: &Value,
    key: &'static str,
) -> Result<Reflected, FieldError> {
    let whole = || {
        value
            .as_u64()
            .ok_or_else(|| refused(value, "give a whole number"))
    };
    Ok(match field.kind() {
        Kind::Bool => Reflected::Bool(
            value
                .as_bool()
                .ok_or_else(|| refused(value, "give true or false"))?,
        ),
        Kind::Uint32 => {
            Reflected::U32(u32::try_from(whole()?).map_err(|_| {
                refused(value, format!("give a whole number from 0 to {}", u32::MAX))
            })?)
        }
        Kind::Uint64 => Reflected::U64(whole()?),
        Kind::Double => Reflected::F64(
            value
                .as_f64()
                .ok_or_else(|| refused(value, "give a number"))?,
        ),
        Kind::String => Reflected::String(
            value
                .as_str()
                .ok_or_else(|| refused(value, "give a text"))?
                .to_owned(),
        ),
        Kind::Enum(of) => Reflected::EnumNumber(enum_number(&of, value)?),
        Kind::Message(of) => Reflected::Message(message_from_json(&of, value, key)?),
        other => unreachable!("settings have no field of this type: {other:?}"),
    })
}

fn message_from_json(
    of: &MessageDescriptor,
    value: &Value,
    key: &'static str,
) -> Result<DynamicMessage, FieldError> {
    let mut message = DynamicMessage::new(of.clone());
    let table = || {
        value
            .as_object()
            .cloned()
            .ok_or_else(|| refused(value, "give a table of settings"))
    };
    if of.full_name() == Duration::full_name() {
        transcoded(message.transcode_from(&duration_from_json(value)?));
    } else if of.full_name() == v1::Component::full_name() {
        transcoded(message.transcode_from(&component_from_map(table()?, key)));
    } else if of.full_name() == STRUCT {
        transcoded(message.transcode_from(&map_to_struct(table()?)));
    } else {
        unreachable!("settings have no field of this message: {}", of.full_name());
    }
    Ok(message)
}

/// Converts a component to a table. The setting `key` names its kind.
#[must_use]
pub fn component_to_map(component: v1::Component, key: &str) -> Map<String, Value> {
    let mut map = component.settings.map(struct_to_map).unwrap_or_default();
    if !component.kind.is_empty() {
        map.insert(key.to_owned(), Value::String(component.kind));
    }
    map
}

/// Converts a table to a component. The setting `key` names its kind.
#[must_use]
pub fn component_from_map(mut map: Map<String, Value>, key: &str) -> v1::Component {
    v1::Component {
        kind: map.remove(key).as_ref().map(plain).unwrap_or_default(),
        settings: Some(map_to_struct(map)),
    }
}

/// Converts a `Struct` to a table.
#[must_use]
pub fn struct_to_map(table: Struct) -> Map<String, Value> {
    let convert = |(name, value): (String, prost_types::Value)| (name, value_to_json(value));
    table.fields.into_iter().map(convert).collect()
}

/// Converts a table to a `Struct`.
#[must_use]
pub fn map_to_struct(map: Map<String, Value>) -> Struct {
    let convert = |(name, value)| (name, json_to_value(value));
    Struct {
        fields: map.into_iter().map(convert).collect(),
    }
}

fn value_to_json(value: prost_types::Value) -> Value {
    match value.kind {
        None | Some(Json::NullValue(_)) => Value::Null,
        Some(Json::BoolValue(value)) => Value::Bool(value),
        Some(Json::NumberValue(value)) => number(value),
        Some(Json::StringValue(value)) => Value::String(value),
        Some(Json::ListValue(list)) => list.values.into_iter().map(value_to_json).collect(),
        Some(Json::StructValue(table)) => Value::Object(struct_to_map(table)),
    }
}

fn json_to_value(value: Value) -> prost_types::Value {
    let kind = match value {
        Value::Null => Json::NullValue(0),
        Value::Bool(value) => Json::BoolValue(value),
        // Without the feature arbitrary_precision, every number of JSON has a value as f64.
        Value::Number(value) => Json::NumberValue(value.as_f64().unwrap_or(f64::NAN)),
        Value::String(value) => Json::StringValue(value),
        Value::Array(items) => Json::ListValue(prost_types::ListValue {
            values: items.into_iter().map(json_to_value).collect(),
        }),
        Value::Object(map) => Json::StructValue(map_to_struct(map)),
    };
    prost_types::Value { kind: Some(kind) }
}

/// Converts a number of a `Struct`, which has floating-point numbers only. Whole ones become integers.
fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() <= MAX_WHOLE {
        return Value::from(value as i64);
    }
    // NaN and infinity, which JSON does not have, become text, which no setting accepts as a number.
    serde_json::Number::from_f64(value)
        .map_or_else(|| Value::String(value.to_string()), Value::Number)
}

fn duration_to_json(time: &Duration) -> Result<Value, FieldError> {
    std::time::Duration::try_from(*time)
        .map(|time| Value::String(duration::format(time)))
        .map_err(|_| {
            let value = format!("{} s {} ns", time.seconds, time.nanos);
            FieldError::new("", value, "not a positive time")
        })
}

fn duration_from_json(value: &Value) -> Result<Duration, FieldError> {
    let advice = "give a number with a unit, such as 500ms, 90s, 2m, 1h or 30d";
    value
        .as_str()
        .and_then(|text| duration::parse(text).ok())
        .and_then(|time| Duration::try_from(time).ok())
        .ok_or_else(|| refused(value, advice))
}

/// Returns the prefix of an enumeration's values: `ON_DOWN_` for `OnDown`.
fn enum_prefix(of: &EnumDescriptor) -> String {
    let mut prefix = String::new();
    for character in of.name().chars() {
        if character.is_ascii_uppercase() && !prefix.is_empty() {
            prefix.push('_');
        }
        prefix.push(character.to_ascii_uppercase());
    }
    prefix.push('_');
    prefix
}

fn enum_name(field: &FieldDescriptor, number: i32) -> Result<String, FieldError> {
    let kind = field.kind();
    let of = kind
        .as_enum()
        .unwrap_or_else(|| unreachable!("a number of an enumeration"));
    let prefix = enum_prefix(of);
    of.get_value(number)
        .map(|value| {
            let name = value.name();
            name.strip_prefix(&prefix)
                .unwrap_or(name)
                .to_ascii_lowercase()
                .replace('_', "-")
        })
        .ok_or_else(|| {
            let names: Vec<_> = of.values().filter(|value| value.number() != 0).collect();
            let names: Vec<_> = names
                .iter()
                .map(prost_reflect::EnumValueDescriptor::name)
                .collect();
            FieldError::new("", number, format!("unknown, give {}", names.join(" or ")))
        })
}

fn enum_number(of: &EnumDescriptor, value: &Value) -> Result<i32, FieldError> {
    let text = value.as_str().unwrap_or(NOT_SET);
    let name = enum_prefix(of) + &text.to_ascii_uppercase().replace('-', "_");
    of.get_value_by_name(&name)
        .map(|value| value.number())
        .ok_or_else(|| refused(value, "this version of the API has no such value"))
}

fn refused(value: &Value, advice: impl Into<String>) -> FieldError {
    FieldError::new("", plain(value), advice)
}

/// Adds the position in a list to the error of an item.
fn at(error: FieldError, position: usize) -> FieldError {
    error.within(format!("[{position}]"))
}

#[cfg(test)]
mod tests;
