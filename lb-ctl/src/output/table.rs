//! Plain tables: columns separated by blanks, without lines, for people and for awk.

use comfy_table::{CellAlignment, Table, presets};

/// The heading of a column, and whether it has numbers, which are aligned to the right.
pub type Column = (&'static str, bool);

/// Lays out rows. The text ends with a newline.
#[must_use]
pub fn layout(columns: &[Column], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_header(columns.iter().map(|(name, _)| *name));
    for row in rows {
        table.add_row(row);
    }
    for (column, (_, number)) in table.column_iter_mut().zip(columns) {
        column.set_padding((0, 2));
        if *number {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt() + "\n"
}

/// Formats a share as a percentage.
#[must_use]
pub fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

/// Formats a number of flows, with a mark if it is an estimate.
#[must_use]
pub fn flows(flows: u64, exact: bool) -> String {
    if exact {
        flows.to_string()
    } else {
        format!("~{flows}")
    }
}

/// Formats a number with a noun.
#[must_use]
pub fn count(number: usize, noun: &str) -> String {
    if number == 1 {
        format!("1 {noun}")
    } else {
        format!("{number} {noun}s")
    }
}

/// Formats a duration in the largest unit that fits at least twice.
#[must_use]
pub fn span(seconds: f64) -> String {
    const UNITS: [(&str, f64); 3] = [("d", 86_400.0), ("h", 3_600.0), ("min", 60.0)];
    let (unit, length) = UNITS
        .into_iter()
        .find(|(_, length)| seconds >= 2.0 * length)
        .unwrap_or(("s", 1.0));
    format!("{:.0} {unit}", (seconds / length).floor())
}

/// Formats bytes in the unit that leaves at most four digits before the point.
#[must_use]
pub fn bytes(bytes: u64) -> String {
    scaled(
        bytes as f64,
        &["B", "KiB", "MiB", "GiB", "TiB", "PiB"],
        1024.0,
    )
}

/// Formats a rate in thousands, millions and so on.
#[must_use]
pub fn rate(rate: f64) -> String {
    scaled(rate, &["", "k", "M", "G", "T"], 1000.0)
        .trim_end()
        .to_owned()
}

fn scaled(mut value: f64, units: &[&str], step: f64) -> String {
    let mut unit = 0;
    while value >= step && unit + 1 < units.len() {
        value /= step;
        unit += 1;
    }
    let digits = if unit == 0 { 0 } else { 1 };
    format!("{value:.digits$} {}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_have_plain_columns() {
        assert_eq!(
            layout(
                &[("REAL", false), ("WEIGHT", true)],
                [
                    vec!["10.1.0.2".to_owned(), "100".to_owned()],
                    vec!["10.1.0.13".to_owned(), "5".to_owned()]
                ],
            ),
            "REAL       WEIGHT\n10.1.0.2      100\n10.1.0.13       5\n"
        );
    }

    #[test]
    fn figures_are_short() {
        assert_eq!(percent(0.015_625), "1.56 %");
        assert_eq!(flows(12, true), "12");
        assert_eq!(flows(12, false), "~12");
        assert_eq!(count(1, "real"), "1 real");
        assert_eq!(count(0, "real"), "0 reals");
        assert_eq!(span(0.4), "0 s");
        assert_eq!(span(119.9), "119 s");
        assert_eq!(span(120.0), "2 min");
        assert_eq!(span(7_200.0), "2 h");
        assert_eq!(span(190_000.0), "2 d");
        assert_eq!(bytes(1_023), "1023 B");
        assert_eq!(bytes(1_572_864), "1.5 MiB");
        assert_eq!(rate(999.0), "999");
        assert_eq!(rate(1_500_000.0), "1.5 M");
    }
}
