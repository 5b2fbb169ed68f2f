//! Messages of the API as JSON: fields have their names in the `.proto` file, those without presence are always there.

use std::{sync::OnceLock, time::SystemTime};

use lb_proto::settings::struct_to_map;
use prost::{Message, Name};
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor,
    ReflectMessage as _, Value as Field,
};
use serde_json::{Map, Value, json};

fn pool() -> &'static DescriptorPool {
    static POOL: OnceLock<DescriptorPool> = OnceLock::new();
    // The descriptors are part of the program.
    POOL.get_or_init(|| DescriptorPool::decode(lb_proto::DESCRIPTORS).unwrap_or_default())
}

/// The definition of a message.
pub fn descriptor<M: Name>() -> Option<MessageDescriptor> {
    pool().get_message_by_name(&M::full_name())
}

/// A message as JSON.
pub fn to_json<M: Message + Name>(message: &M) -> Value {
    let dynamic = descriptor::<M>().and_then(|descriptor| {
        DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice()).ok()
    });
    dynamic.map_or(Value::Null, |dynamic| object(&dynamic))
}

fn object(message: &DynamicMessage) -> Value {
    match message.descriptor().full_name() {
        "google.protobuf.Struct" => {
            let table = prost_types::Struct::decode(message.encode_to_vec().as_slice());
            return Value::Object(struct_to_map(table.unwrap_or_default()));
        }
        "google.protobuf.Timestamp" => {
            let time = prost_types::Timestamp::decode(message.encode_to_vec().as_slice());
            let seconds = time
                .ok()
                .and_then(|time| SystemTime::try_from(time).ok())
                .and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
            return seconds.map_or(Value::Null, |time| json!(time.as_secs_f64()));
        }
        _ => {}
    }
    let mut map = Map::new();
    for field in message.descriptor().fields() {
        if field.supports_presence() && !message.has_field(&field) {
            continue;
        }
        map.insert(
            field.name().to_owned(),
            value(&field, &message.get_field(&field)),
        );
    }
    Value::Object(map)
}

fn value(field: &FieldDescriptor, value: &Field) -> Value {
    match value {
        Field::Bool(value) => (*value).into(),
        Field::I32(value) => (*value).into(),
        Field::I64(value) => (*value).into(),
        Field::U32(value) => (*value).into(),
        Field::U64(value) => (*value).into(),
        Field::F32(value) => (*value).into(),
        Field::F64(value) => (*value).into(),
        Field::String(value) => value.clone().into(),
        Field::Bytes(value) => String::from_utf8_lossy(value).into(),
        Field::EnumNumber(number) => match field.kind() {
            Kind::Enum(kind) => {
                let name = kind.get_value(*number);
                let name = name.map(|name| name.name().to_owned()).unwrap_or_default();
                // INSTANCE_STATE_LU is LU.
                let short = name.rsplit('_').next().unwrap_or_default();
                short.to_owned().into()
            }
            _ => (*number).into(),
        },
        Field::Message(message) => object(message),
        Field::List(items) => items.iter().map(|item| self::value(field, item)).collect(),
        Field::Map(entries) => {
            let name = |key: &MapKey| match key {
                MapKey::String(text) => text.clone(),
                other => format!("{other:?}"),
            };
            Value::Object(
                entries
                    .iter()
                    .map(|(key, item)| (name(key), self::value(field, item)))
                    .collect(),
            )
        }
    }
}

/// The schema of a message for OpenAPI, and those of the messages in it.
pub fn schema(descriptor: &MessageDescriptor, schemas: &mut Map<String, Value>) {
    let name = descriptor.name().to_owned();
    if schemas.contains_key(&name) {
        return;
    }
    schemas.insert(name.clone(), Value::Null);
    let mut properties = Map::new();
    for field in descriptor.fields() {
        let kind = match field.kind() {
            Kind::Bool => json!({ "type": "boolean" }),
            Kind::Double | Kind::Float => json!({ "type": "number" }),
            Kind::String | Kind::Bytes => json!({ "type": "string" }),
            Kind::Enum(kind) => {
                let names: Vec<String> = kind
                    .values()
                    .filter(|value| value.number() != 0)
                    .filter_map(|value| value.name().rsplit('_').next().map(str::to_owned))
                    .collect();
                json!({ "type": "string", "enum": names })
            }
            Kind::Message(inner) => match inner.full_name() {
                "google.protobuf.Struct" => json!({ "type": "object" }),
                "google.protobuf.Timestamp" => {
                    json!({ "type": "number", "description": "seconds since 1970" })
                }
                _ if field.is_map() => json!({ "type": "object" }),
                _ => {
                    schema(&inner, schemas);
                    json!({ "$ref": format!("#/components/schemas/{}", inner.name()) })
                }
            },
            _ => json!({ "type": "integer" }),
        };
        let kind = if field.is_list() {
            json!({ "type": "array", "items": kind })
        } else {
            kind
        };
        properties.insert(field.name().to_owned(), kind);
    }
    schemas.insert(name, json!({ "type": "object", "properties": properties }));
}

#[cfg(test)]
mod tests {
    use lb_proto::controller::v1;

    use super::*;

    #[test]
    fn messages_have_the_names_of_their_fields() {
        let instance = v1::Instance {
            name: "web-1-1".to_owned(),
            number: 1,
            state: v1::InstanceState::Lu.into(),
            since: Some(prost_types::Timestamp {
                seconds: 5,
                nanos: 500_000_000,
            }),
            ..v1::Instance::default()
        };
        let pool = v1::Pool {
            name: "web".to_owned(),
            instances: vec![instance],
            desired: Some(2),
            ..v1::Pool::default()
        };
        let json = to_json(&pool);
        assert_eq!(json["name"], "web");
        assert_eq!(json["desired"], 2);
        assert_eq!(json["instances"][0]["state"], "LU");
        assert_eq!(json["instances"][0]["since"], 5.5);
        assert_eq!(json["troubles"], json!([]));
        assert!(json.get("settings").is_none());
        let mut schemas = Map::new();
        schema(&descriptor::<v1::Pool>().unwrap(), &mut schemas);
        assert!(schemas["Instance"]["properties"]["state"]["enum"][0] == "INIT");
    }
}
