//! Files with the final figures.

use std::{fs, path::Path};

use anyhow::Context as _;
use serde::Serialize;

/// Writes figures to a file, as JSON.
pub fn write(figures: &impl Serialize, path: &Path) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(figures).context("writing figures as JSON")?;
    fs::write(path, text + "\n")
        .with_context(|| format!("writing the report to {}", path.display()))
}
