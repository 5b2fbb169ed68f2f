//! Reference pages, generated from the definitions.

use std::fmt::Write as _;

use serde_json::Value;

use super::{Field, Type, plain};

/// Returns a Markdown table of these settings and of those of nested tables, followed by the meaning of each choice.
#[must_use]
pub fn reference_table<'a>(fields: impl IntoIterator<Item = &'a Field>) -> String {
    let mut rows =
        String::from("| setting | type | default | range | meaning |\n|---|---|---|---|---|\n");
    let mut choices = String::new();
    for field in fields {
        row(&mut rows, &mut choices, "", field);
    }
    rows + &choices
}

fn row(rows: &mut String, choices: &mut String, prefix: &str, field: &Field) {
    let name = format!("{prefix}{}", field.name);
    let default = match &field.default {
        None => "required".to_owned(),
        Some(Value::Null) => "-".to_owned(),
        Some(value) if value.as_array().is_some_and(Vec::is_empty) => "-".to_owned(),
        Some(value) if value.is_object() => "-".to_owned(),
        Some(Value::Array(items)) => {
            let items: Vec<_> = items.iter().map(plain).collect();
            format!("`{}`", items.join("`, `"))
        }
        Some(value) => match plain(value).as_str() {
            "" => "empty".to_owned(),
            text => format!("`{text}`"),
        },
    };
    let range = match &field.range {
        None => "-".to_owned(),
        Some((least, most)) => format!("{least} to {most}"),
    };
    let _ = writeln!(
        rows,
        "| `{name}` | {} | {default} | {range} | {} |",
        escaped(&field.kind.describe()),
        escaped(&field.help_line()),
    );
    match &field.kind {
        Type::Table(inner) => {
            for field in inner {
                row(rows, choices, &format!("{name}."), field);
            }
        }
        Type::Choice(names) => {
            let _ = writeln!(choices, "\n`{name}`:\n");
            for (choice, help) in *names {
                let words: Vec<_> = help.split_whitespace().collect();
                let _ = writeln!(choices, "- `{choice}`: {}", words.join(" "));
            }
        }
        _ => {}
    }
}

/// Escapes text for a cell of a table.
fn escaped(text: &str) -> String {
    text.replace('|', "\\|")
}
