//! A TOML document as settings, with the line of each, and a configuration file that is one.

use std::path::{Path, PathBuf};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::settings::{FieldError, Map, Value, plain};

/// Why a configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("reading {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// It is not TOML.
    #[error("{path}: {source}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Line, column and cause.
        source: Box<toml::de::Error>,
    },
    /// A setting or an object is refused.
    #[error("{path}:{line}: {fault}")]
    Refused {
        /// The file.
        path: PathBuf,
        /// The line.
        line: usize,
        /// The object, the setting, its value and what would be right.
        fault: String,
    },
}

/// A setting or an object that is refused.
#[derive(Debug)]
pub struct Fault {
    /// Path in the document.
    pub path: String,
    /// Object and error in words.
    pub text: String,
}

impl Fault {
    /// The error of a setting of the object at this path. The document itself has no words for an object.
    #[must_use]
    pub fn new(path: String, object: &str, error: FieldError) -> Self {
        let text = match object {
            "" => error.to_string(),
            object => format!("{object}: {error}"),
        };
        let path = if path.is_empty() {
            error.field
        } else {
            format!("{path}.{}", error.field)
        };
        Fault { path, text }
    }
}

/// Reads a configuration file.
///
/// # Errors
/// It cannot be read.
pub fn read(path: &Path) -> Result<String, FileError> {
    std::fs::read_to_string(path).map_err(|source| FileError::Read {
        path: path.to_owned(),
        source,
    })
}

/// Makes a configuration of the text of a file, which errors call `path`.
///
/// # Errors
/// The text is not TOML, or `from_settings` refuses something, which is named with its line.
pub fn parse<T>(
    text: &str,
    path: &Path,
    from_settings: impl FnOnce(Map<String, Value>) -> Result<T, Fault>,
) -> Result<T, FileError> {
    let document = Document::parse(text).map_err(|source| FileError::Parse {
        path: path.to_owned(),
        source: Box::new(source),
    })?;
    from_settings(document.settings()).map_err(|fault| FileError::Refused {
        path: path.to_owned(),
        line: document.line(&fault.path),
        fault: fault.text,
    })
}

/// Takes a list of tables out of a table.
///
/// # Errors
/// What has this name is something else.
pub fn take_tables(
    table: &mut Map<String, Value>,
    name: &'static str,
) -> Result<Vec<Map<String, Value>>, FieldError> {
    let items = match table.remove(name) {
        None => return Ok(Vec::new()),
        Some(Value::Array(items)) => items,
        Some(other) => {
            let advice = format!("write [[{name}]]: each is a table of its own");
            return Err(FieldError::new(name, plain(&other), advice));
        }
    };
    let items = items.into_iter().map(|item| match item {
        Value::Object(table) => Ok(table),
        other => Err(FieldError::new(
            name,
            plain(&other),
            "write a table for each",
        )),
    });
    items.collect()
}

/// A document that was parsed.
#[derive(Debug)]
pub struct Document<'t> {
    text: &'t str,
    root: Spanned<DeTable<'t>>,
}

impl<'t> Document<'t> {
    /// Parses a text.
    ///
    /// # Errors
    /// The text is not TOML; names line and column.
    pub fn parse(text: &'t str) -> Result<Self, toml::de::Error> {
        let root = DeTable::parse(text)?;
        Ok(Document { text, root })
    }

    /// Its settings.
    #[must_use]
    pub fn settings(&self) -> Map<String, Value> {
        table(self.root.get_ref())
    }

    /// The line of the setting at this path (`vip[0].check.interval`), or of the innermost table on the way to it that
    /// exists. The first line is 1.
    #[must_use]
    pub fn line(&self, path: &str) -> usize {
        let mut start = 0;
        let mut here: Option<&DeValue<'_>> = None;
        for step in steps(path) {
            let next = match (here, step) {
                (None, Step::Key(key)) => entry(self.root.get_ref(), key),
                (Some(DeValue::Table(table)), Step::Key(key)) => entry(table, key),
                (Some(DeValue::Array(items)), Step::Item(position)) => items
                    .get(position)
                    .map(|item| (item.span().start, item.get_ref())),
                _ => None,
            };
            let Some((offset, value)) = next else {
                break;
            };
            start = offset;
            here = Some(value);
        }
        let before = self.text.get(..start).unwrap_or(self.text);
        1 + before.bytes().filter(|byte| *byte == b'\n').count()
    }
}

/// Where a key stands, and its value.
fn entry<'a, 't>(table: &'a DeTable<'t>, key: &str) -> Option<(usize, &'a DeValue<'t>)> {
    let (key, value) = table.iter().find(|(name, _)| name.get_ref() == key)?;
    // A list of tables stands where its items do.
    let list = matches!(value.get_ref(), DeValue::Array(_));
    let span = if list { value.span() } else { key.span() };
    Some((span.start, value.get_ref()))
}

enum Step<'p> {
    Key(&'p str),
    Item(usize),
}

fn steps(path: &str) -> impl Iterator<Item = Step<'_>> {
    path.split(['.', '['])
        .filter(|part| !part.is_empty())
        .map(|part| match part.strip_suffix(']') {
            Some(position) => position.parse().map_or(Step::Key(part), Step::Item),
            None => Step::Key(part),
        })
}

fn table(table: &DeTable<'_>) -> Map<String, Value> {
    table
        .iter()
        .map(|(key, item)| (key.get_ref().to_string(), value(item.get_ref())))
        .collect()
}

fn value(item: &DeValue<'_>) -> Value {
    match item {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Boolean(value) => Value::Bool(*value),
        DeValue::Integer(number) => {
            match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => Value::from(number),
                // A setting refuses it as it is written.
                Err(_) => Value::String(number.to_string()),
            }
        }
        DeValue::Float(number) => number
            .as_str()
            .parse()
            .ok()
            .and_then(serde_json::Number::from_f64)
            .map_or_else(|| Value::String(number.to_string()), Value::Number),
        DeValue::Datetime(time) => Value::String(time.to_string()),
        DeValue::Array(items) => items.iter().map(|item| value(item.get_ref())).collect(),
        DeValue::Table(inner) => Value::Object(table(inner)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TEXT: &str = r#"interfaces = ["eth0"]
ring_seed = 0x10

[[vip]]
address = "10.0.0.1:80/tcp"
[vip.check]
interval = "1s"
weight = 1.5

[[vip]]
load = [
    { kind = "a" },
    { kind = "b" },
]
[[vip.real]]
drained = true
"#;

    #[test]
    fn values_are_read() {
        let document = Document::parse(TEXT).unwrap();
        assert_eq!(
            Value::Object(document.settings()),
            json!({
                "interfaces": ["eth0"], "ring_seed": 16,
                "vip": [
                    { "address": "10.0.0.1:80/tcp", "check": { "interval": "1s", "weight": 1.5 } },
                    { "load": [{ "kind": "a" }, { "kind": "b" }], "real": [{ "drained": true }] },
                ],
            })
        );
        assert!(
            Document::parse("a = ")
                .unwrap_err()
                .to_string()
                .contains("line 1")
        );
    }

    #[test]
    fn lines_are_found() {
        let document = Document::parse(TEXT).unwrap();
        for (path, line) in [
            ("", 1),
            ("ring_seed", 2),
            ("vip[0].address", 5),
            ("vip[0].check.interval", 7),
            ("vip[0].check.missing", 6),
            ("vip[1].load[1].kind", 13),
            ("vip[1].load[0].missing.deeper", 12),
            ("vip[1].real[0].drained", 16),
            ("vip[1].real[0].weight", 15),
        ] {
            assert_eq!(document.line(path), line, "{path}");
        }
    }
}
