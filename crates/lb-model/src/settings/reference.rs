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

/// Writes what a page of `docs` has between its marks, or checks that the page has it. `UPDATE_REFERENCE=1 cargo test -p lb-model
/// FILTER` writes.
#[cfg(test)]
pub(crate) fn keep_page(page: &str, filter: &str, settings: &str) {
    const END: &str = "<!-- end: settings -->";
    let command = format!("UPDATE_REFERENCE=1 cargo test -p lb-model {filter}");
    let begin = format!("<!-- begin: settings, written by {command} -->\n");
    let path = format!("{}/../../{page}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text
        .split_once(&begin)
        .expect("the mark before the settings");
    let (_, after) = rest.split_once(END).expect("the mark after the settings");
    let expected = format!("{before}{begin}\n{settings}\n{END}{after}");
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        std::fs::write(path, expected).unwrap();
    } else {
        assert!(
            text == expected,
            "{page} differs from the settings; run {command}"
        );
    }
}
