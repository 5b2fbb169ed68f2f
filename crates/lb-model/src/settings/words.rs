//! Settings as words: `http path=/healthz interval=2s`.
//!
//! The first word names the kind. A word `key=value` sets a setting; `-` in a key means `_`. A setting of a nested table
//! is `table.key=value`, or `key=value` if no other setting has this key. `table=true` gives the table with its
//! defaults, and `table=value` sets the first required setting of the table. Commas separate the items of lists.

use serde_json::{Map, Value};

use super::{Field, FieldError, Type, plain};

/// Splits a text into words as a shell does. Quotation marks keep spaces.
///
/// # Errors
/// Fails if a quotation mark is not closed.
pub fn split(text: &str) -> Result<Vec<String>, String> {
    shlex::split(text)
        .ok_or_else(|| format!("{text}: a quotation mark or a \\ at the end is not closed"))
}

/// Quotes a word so that [`split`] reads it as one.
#[must_use]
pub fn quote(word: &str) -> String {
    let special =
        |character: char| character.is_whitespace() || matches!(character, '\'' | '"' | '\\');
    if !word.is_empty() && !word.starts_with('#') && !word.contains(special) {
        return word.to_owned();
    }
    shlex::try_quote(word).map_or_else(|_| word.replace('\0', ""), Into::into)
}

/// Reads words into settings. `key` is the name of the setting for the kind.
///
/// # Errors
/// Fails without a kind, on a word without the form `key=value`, on an unknown or repeated key, and on a value that
/// cannot be read.
pub fn read<'f>(
    text: &str,
    key: &'static str,
    fields: impl FnOnce(&str) -> Result<&'f [Field], FieldError>,
) -> Result<Map<String, Value>, FieldError> {
    let words = split(text).map_err(|advice| FieldError::new("", text, advice))?;
    let mut words = words.into_iter();
    let kind = words
        .next()
        .ok_or_else(|| FieldError::missing(key, "give a kind, then key=value words"))?;
    if kind.contains('=') {
        return Err(FieldError::new(
            key,
            kind,
            "begin with a kind, then key=value words",
        ));
    }
    let fields = fields(&kind)?;
    let mut map = Map::new();
    map.insert(key.to_owned(), Value::String(kind.clone()));
    for word in words {
        let (name, value) = word.split_once('=').ok_or_else(|| {
            FieldError::new("", &word, "the word does not have the form key=value")
        })?;
        let name = name.replace('-', "_");
        set(&mut map, fields, &name, value).map_err(|error| {
            if error.field.is_empty() {
                error.within(&name)
            } else {
                error
            }
        })?;
    }
    Ok(map)
}

/// Sets a setting from text.
///
/// # Errors
/// Fails on an unknown or repeated key, and on a value that cannot be read.
pub fn set(
    map: &mut Map<String, Value>,
    fields: &[Field],
    name: &str,
    text: &str,
) -> Result<(), FieldError> {
    let path = find(fields, name).ok_or_else(|| {
        let names = leaves(fields).join(", ");
        FieldError::new(
            name,
            text,
            format!("there is no such setting; there are {names}"),
        )
    })?;
    let (last, tables) = path
        .split_last()
        .unwrap_or_else(|| unreachable!("a path names a field"));
    let mut table = map;
    for field in tables {
        let entry = table
            .entry(field.name)
            .or_insert_with(|| Value::Object(Map::new()));
        table = entry.as_object_mut().ok_or_else(|| {
            FieldError::new(
                name,
                text,
                format!("{} was switched off before", field.name),
            )
        })?;
    }
    // The words may turn a table on before or after they set one of its settings.
    if let (Type::Table(_), Some(Value::Object(_)), Ok(true)) =
        (&last.kind, table.get(last.name), text.parse::<bool>())
    {
        return Ok(());
    }
    let Some(value) = value(&last.kind, text)? else {
        return Ok(());
    };
    if table.insert(last.name.to_owned(), value).is_some() {
        return Err(FieldError::new(
            name,
            text,
            "it is given twice; give it once",
        ));
    }
    Ok(())
}

/// Returns the path to the setting that a word names.
fn find<'f>(fields: &'f [Field], name: &str) -> Option<Vec<&'f Field>> {
    if let Some(field) = fields.iter().find(|field| field.name == name) {
        return match &field.kind {
            // `json=/status` sets the first required setting of the table.
            Type::Table(inner) => match inner.iter().find(|field| field.default.is_none()) {
                Some(first) => Some(vec![field, first]),
                None => Some(vec![field]),
            },
            _ => Some(vec![field]),
        };
    }
    let tables = fields.iter().filter_map(|field| match &field.kind {
        Type::Table(inner) => Some((field, inner)),
        _ => None,
    });
    if let Some((table, rest)) = name.split_once('.') {
        let (field, inner) = tables.into_iter().find(|(field, _)| field.name == table)?;
        let mut path = vec![field];
        path.extend(find(inner, rest)?);
        return Some(path);
    }
    let mut found = tables.filter_map(|(field, inner)| {
        let mut path = vec![field];
        path.extend(find(inner, name)?);
        Some(path)
    });
    let only = found.next()?;
    found.next().is_none().then_some(only)
}

/// Returns all names that words can have.
#[must_use]
pub fn leaves(fields: &[Field]) -> Vec<String> {
    let mut names = Vec::new();
    for field in fields {
        names.push(field.name.to_owned());
        if let Type::Table(inner) = &field.kind {
            for leaf in leaves(inner) {
                if find(fields, &leaf).is_some() {
                    names.push(leaf);
                } else {
                    names.push(format!("{}.{leaf}", field.name));
                }
            }
        }
    }
    names
}

/// Reads a value of a type from text. Returns `None` for a table that is turned off.
fn value(kind: &Type, text: &str) -> Result<Option<Value>, FieldError> {
    let number = |advice: &str| {
        serde_json::from_str::<serde_json::Number>(text)
            .map(Value::Number)
            .map_err(|_| FieldError::new("", text, advice))
    };
    Ok(Some(match kind {
        Type::Boolean => match text {
            "true" | "yes" | "on" => Value::Bool(true),
            "false" | "no" | "off" => Value::Bool(false),
            _ => return Err(FieldError::new("", text, "give true or false")),
        },
        Type::Integer => number("give a whole number, such as 5")?,
        Type::Number => number("give a number, such as 0.5")?,
        Type::Duration | Type::Text(_) | Type::Choice(_) => Value::String(text.to_owned()),
        Type::List(item) => {
            // A list is words within a word (a command with its arguments) or values between commas.
            let parts = if text.contains(',') {
                text.split(',').map(|part| part.trim().to_owned()).collect()
            } else {
                split(text).map_err(|advice| FieldError::new("", text, advice))?
            };
            let mut items = Vec::with_capacity(parts.len());
            for part in parts {
                items.extend(value(item, &part)?);
            }
            Value::Array(items)
        }
        Type::Map(item) => {
            let mut entries = Map::new();
            for part in text.split(',') {
                let (name, part) = part.split_once([':', '=']).ok_or_else(|| {
                    FieldError::new("", part, "give NAME:VALUE, several with commas")
                })?;
                if let Some(entry) = value(item, part.trim())? {
                    entries.insert(name.trim().to_owned(), entry);
                }
            }
            Value::Object(entries)
        }
        Type::Json => serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned())),
        Type::Table(_) | Type::Component { .. } => match text {
            "true" => Value::Object(Map::new()),
            "false" => return Ok(None),
            _ => {
                return Err(FieldError::new(
                    "",
                    text,
                    "give true or false, or its settings",
                ));
            }
        },
    }))
}

/// Writes settings as words that [`read`] reads, without those that have their default.
#[must_use]
pub fn write(kind: &str, map: &Map<String, Value>, fields: &[Field]) -> String {
    let mut words = vec![quote(kind)];
    write_table(&mut words, map, fields, fields, "");
    words.join(" ")
}

fn write_table(
    words: &mut Vec<String>,
    map: &Map<String, Value>,
    fields: &[Field],
    top: &[Field],
    prefix: &str,
) {
    for field in fields {
        let Some(value) = map.get(field.name) else {
            continue;
        };
        if field.default.as_ref() == Some(value) {
            continue;
        }
        let path = format!("{prefix}{}", field.name);
        if let (Type::Table(inner), Value::Object(table)) = (&field.kind, value) {
            let before = words.len();
            write_table(words, table, inner, top, &format!("{path}."));
            if words.len() == before {
                words.push(format!("{path}=true"));
            }
            continue;
        }
        words.push(format!(
            "{}={}",
            short_name(top, &path),
            quote(&text(&field.kind, value))
        ));
    }
}

/// Returns the shortest name that is unique to the setting at this path.
fn short_name<'p>(top: &[Field], path: &'p str) -> &'p str {
    let names = |found: Option<Vec<&Field>>| -> Option<String> {
        let names: Vec<_> = found?.iter().map(|field| field.name).collect();
        Some(names.join("."))
    };
    let table = path.rsplit_once('.').map(|(table, _)| table);
    let leaf = path.rsplit('.').next();
    [table, leaf]
        .into_iter()
        .flatten()
        .find(|name| names(find(top, name)).as_deref() == Some(path))
        .unwrap_or(path)
}

/// Writes a value as a word has it.
fn text(kind: &Type, value: &Value) -> String {
    match (kind, value) {
        (Type::List(_), Value::Array(items)) => {
            let texts: Vec<_> = items.iter().map(plain).collect();
            if texts.iter().any(|text| text.contains([' ', ','])) || texts.len() == 1 {
                texts
                    .iter()
                    .map(|text| quote(text))
                    .collect::<Vec<_>>()
                    .join(" ")
            } else {
                texts.join(",")
            }
        }
        (Type::Map(_), Value::Object(entries)) => entries
            .iter()
            .map(|(name, value)| format!("{name}:{}", plain(value)))
            .collect::<Vec<_>>()
            .join(","),
        // A text that could be read as another JSON value keeps its quotation marks.
        (Type::Json, Value::String(text)) if serde_json::from_str::<Value>(text).is_ok() => {
            value.to_string()
        }
        (_, value) => plain(value),
    }
}
