//! Reference pages, written from the definitions.

use std::fmt::Write as _;

use serde_json::Value;

use super::{Field, plain};

/// A Markdown table of these settings.
#[must_use]
pub fn reference_table<'a>(fields: impl IntoIterator<Item = &'a Field>) -> String {
    let mut page =
        String::from("| setting | type | default | range | meaning |\n|---|---|---|---|---|\n");
    for field in fields {
        let default = match &field.default {
            None => "required".to_owned(),
            Some(Value::Null) => "-".to_owned(),
            Some(value) if value.as_array().is_some_and(Vec::is_empty) => "-".to_owned(),
            Some(value) if value.as_object().is_some_and(serde_json::Map::is_empty) => {
                "-".to_owned()
            }
            Some(value) => format!("`{}`", plain(value)),
        };
        let range = match &field.range {
            None => "-".to_owned(),
            Some((least, most)) => format!("{least} to {most}"),
        };
        let _ = writeln!(
            page,
            "| `{}` | {} | {default} | {range} | {} |",
            field.name,
            escaped(&field.kind.describe()),
            escaped(&field.help_line()),
        );
    }
    page
}

/// Text for a cell of a table.
fn escaped(text: &str) -> String {
    text.replace('|', "\\|")
}
