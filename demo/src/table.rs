//! Tables on the screen.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, Table, presets};

/// Creates a table whose first column and last `words` columns are text; the others are numbers.
pub fn table(header: &[&str], words: usize) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    let numbers = header.len().saturating_sub(1 + words);
    for column in table.column_iter_mut().skip(1).take(numbers) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// Formats a number in at most five characters and a unit.
pub fn short(number: f64) -> String {
    let mut text = String::new();
    let (divisor, unit) = match number {
        number if number >= 1e9 => (1e9, "G"),
        number if number >= 1e6 => (1e6, "M"),
        number if number >= 1e4 => (1e3, "k"),
        _ => (1.0, ""),
    };
    let digits = usize::from(divisor > 1.0);
    // Writing to a string does not fail.
    let _ = write!(text, "{:.digits$}{unit}", number / divisor);
    text
}

/// Formats a fraction of 1 in percent.
pub fn percent(fraction: f64) -> String {
    format!("{:.1} %", fraction * 100.0)
}
