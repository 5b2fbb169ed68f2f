//! Settings on the command line, `SETTING=VALUE`, and those of a file.

use std::{fs, path::PathBuf};

use lb_model::settings::{Map, Value};

use crate::failure::Failure;

/// Tables of texts of a template.
const TEXTS: [&str; 2] = ["environment", "labels"];

/// A setting with its path.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    path: Vec<String>,
    value: Value,
}

/// Reads `a.b=VALUE`: the value as in TOML, or else as text; nothing is `null`.
pub fn read(text: &str) -> Result<Setting, String> {
    let (path, value) = text
        .split_once('=')
        .ok_or("write SETTING=VALUE, such as scaling.max=20")?;
    let path: Vec<String> = path.split('.').map(str::to_owned).collect();
    if path.iter().any(String::is_empty) {
        return Err("write SETTING=VALUE, such as scaling.max=20".to_owned());
    }
    let is_text = matches!(path.as_slice(), [first, second, _] if first == "template" && TEXTS.contains(&second.as_str()));
    let value = match value {
        "" => Value::Null,
        // Whatever it looks like: VERSION=2.
        value if is_text && !value.starts_with(['"', '\'']) => Value::String(value.to_owned()),
        value => toml::from_str::<Map<String, Value>>(&format!("value = {value}"))
            .ok()
            .and_then(|mut map| map.remove("value"))
            .unwrap_or_else(|| Value::String(value.to_owned())),
    };
    Ok(Setting { path, value })
}

/// The settings of a file and of the command line.
pub fn collect(
    file: Option<&PathBuf>,
    settings: Vec<Setting>,
) -> Result<Map<String, Value>, Failure> {
    let mut map = match file {
        None => Map::new(),
        Some(path) => {
            let text = fs::read_to_string(path).map_err(|error| Failure::File {
                attempt: format!("read {}", path.display()),
                error,
            })?;
            toml::from_str(&text)
                .map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))?
        }
    };
    for Setting { path, value } in settings {
        put(&mut map, &path, value);
    }
    Ok(map)
}

/// Settings to change, of which there must be some.
pub fn some(patch: Map<String, Value>) -> Result<Map<String, Value>, Failure> {
    if patch.is_empty() {
        return Err(Failure::Usage(
            "there is nothing to change; give SETTING=VALUE or --file".to_owned(),
        ));
    }
    Ok(patch)
}

fn put(map: &mut Map<String, Value>, path: &[String], value: Value) {
    match path {
        [] => {}
        [name] => {
            map.insert(name.clone(), value);
        }
        [name, rest @ ..] => {
            let inner = map
                .entry(name.clone())
                .or_insert_with(|| Value::Object(Map::new()));
            if !inner.is_object() {
                *inner = Value::Object(Map::new());
            }
            if let Value::Object(inner) = inner {
                put(inner, rest, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn settings_are_read_by_path() {
        let all = |words: &[&str]| {
            let words = words.iter().map(|word| read(word).unwrap());
            Value::Object(collect(None, words.collect()).unwrap())
        };
        assert_eq!(
            all(&[
                "scaling.max=20",
                "template.image=web:1",
                "template.arguments=[\"-p\", \"{port}\"]",
                "check.interval=1s",
                "check.kind='http'",
                "description=",
                "template.environment.VERSION=2",
                "template.labels.quoted='1'",
            ]),
            json!({
                "scaling": { "max": 20 },
                "template": {
                    "image": "web:1",
                    "arguments": ["-p", "{port}"],
                    "environment": { "VERSION": "2" },
                    "labels": { "quoted": "1" },
                },
                "check": { "interval": "1s", "kind": "http" },
                "description": null,
            })
        );
        for bad in ["scaling.max", "=1", "a..b=1"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
