//! Figures in a page of the documentation, between a line for each kind and the line that ends them.

use std::{fs, path::Path};

use anyhow::Context as _;

/// The line of a page before which figures end.
const END: &str = "<!-- end -->";

/// Replaces what the page has after the line `begin`.
///
/// # Errors
/// The page has no such place, or cannot be read or written.
pub fn replace(page: &Path, begin: &str, text: &str) -> anyhow::Result<()> {
    let old = fs::read_to_string(page).with_context(|| format!("reading {}", page.display()))?;
    let (before, rest) = old
        .split_once(begin)
        .with_context(|| format!("{} has no line {begin}", page.display()))?;
    let (_, after) = rest
        .split_once(END)
        .with_context(|| format!("{} has no line {END}", page.display()))?;
    fs::write(page, format!("{before}{begin}\n\n{text}{END}{after}"))
        .with_context(|| format!("writing {}", page.display()))
}
