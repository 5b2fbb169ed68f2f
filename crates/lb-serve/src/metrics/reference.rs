//! The reference of a program's metrics, for its documentation.

use std::fmt::Write as _;

use super::{Family, Kind};

/// Returns families as a table in Markdown, in their order.
#[must_use]
pub fn table<'a>(families: impl IntoIterator<Item = &'a Family>) -> String {
    let mut text = "| metric | kind | labels | meaning |\n|---|---|---|---|\n".to_owned();
    for family in families {
        let mut labels: Vec<String> = family
            .labels
            .iter()
            .map(|label| format!("`{label}`"))
            .collect();
        if family.kind == Kind::Histogram {
            labels.push("`le`".to_owned());
        }
        // Writing to a string never fails.
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {} |",
            family.name,
            family.kind.name(),
            labels.join(", "),
            family.help
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Unit;

    #[test]
    fn a_family_is_a_row() {
        let family = Family {
            name: "lb_probe_duration_seconds",
            kind: Kind::Histogram,
            unit: Some(Unit::Seconds),
            labels: &["vip"],
            help: "Time.",
        };
        let text = table([&family]);
        let row = "| `lb_probe_duration_seconds` | histogram | `vip`, `le` | Time. |";
        assert_eq!(text.lines().last(), Some(row));
    }
}
