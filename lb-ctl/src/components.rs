//! Components as words of the command line: a check is `http path=/healthz interval=2s`, a load source is
//! `mosquitto port=1883`.

use lb_clients::KINDS;
use lb_model::{
    component::Registry,
    load::LoadSource,
    settings::{Field, Map, Settings as _, Type, Value, plain, words},
};

/// Returns the registry of the components of a VIP's setting, with an example.
fn registry(setting: &str) -> Option<(&'static Registry, &'static str)> {
    Some(match setting {
        "check" => (KINDS.probes, "http path=/healthz interval=2s"),
        "load" => (KINDS.readers, "mosquitto port=1883"),
        "steering" => (KINDS.controllers, "capacity period=5s"),
        "shed" => (KINDS.sheds, "webhook port=8080"),
        _ => return None,
    })
}

/// Returns an example of the words of a setting.
pub fn example(setting: &str) -> Option<&'static str> {
    match setting {
        "flow_limits" => Some("rate=20000 source_rate=50 burst=2s"),
        _ => registry(setting).map(|(_, example)| example),
    }
}

/// Reads a component.
///
/// # Errors
/// Returns what is wrong, and the valid form.
pub fn read(setting: &str, text: &str, common: &[Field]) -> Result<Value, String> {
    let (registry, _) = registry(setting).ok_or("there is no component here")?;
    registry
        .read_words(text, common)
        .map(Value::Object)
        .map_err(|error| error.to_string())
}

/// Reads the overrides of a real for a load source: the name of the source, then settings.
///
/// # Errors
/// Returns what is wrong, and the valid form.
pub fn read_override(text: &str) -> Result<Value, String> {
    words::read(text, "name", |_| Ok(override_fields()))
        .map(Value::Object)
        .map_err(|error| error.to_string())
}

/// Returns the settings that an override can have. The client does not know the kind of the source, so these are the
/// settings of all kinds; the agent rejects those that the kind of the source does not have.
fn override_fields() -> &'static [Field] {
    static FIELDS: std::sync::LazyLock<Vec<Field>> = std::sync::LazyLock::new(|| {
        let mut fields = vec![Field {
            name: "off",
            help: "The source is not read at this real.",
            kind: Type::Boolean,
            default: Some(Value::Bool(false)),
            range: None,
            level: lb_model::settings::Level::Operator,
        }];
        let own = KINDS.readers.kinds.iter().flat_map(|kind| (kind.fields)());
        for field in LoadSource::fields().into_iter().chain(own) {
            if field.name != "name" && !fields.iter().any(|known| known.name == field.name) {
                fields.push(field);
            }
        }
        fields
    });
    &FIELDS
}

/// Writes the value of a setting as an operator types it.
pub fn write(field: &Field, value: &Value) -> Value {
    let text = match (&field.kind, value) {
        (Type::Component { common, .. }, Value::Object(map)) => match registry(field.name) {
            Some((registry, _)) => registry.write_words(map, common),
            None => value.to_string(),
        },
        (Type::List(item), Value::Array(items)) => {
            let inner = Field {
                kind: item.as_ref().clone(),
                ..field.clone()
            };
            return items.iter().map(|item| write(&inner, item)).collect();
        }
        (Type::Table(fields), Value::Object(map)) => {
            let text = words::write("x", map, fields);
            text.strip_prefix("x")
                .unwrap_or(&text)
                .trim_start()
                .to_owned()
        }
        // The overrides of a load source.
        (_, Value::Object(map)) => {
            let mut map: Map<String, Value> = map.clone();
            let name = map.remove("name").as_ref().map(plain).unwrap_or_default();
            words::write(&name, &map, override_fields())
        }
        (_, value) => return value.clone(),
    };
    Value::String(text)
}
