//! The commands of a controller, as text that a test can compare.

use std::fmt::Write as _;

use serde_json::Value;

/// A tree of commands: each with its words, and its state unless it is done.
#[must_use]
pub fn command_tree(tree: &Value) -> String {
    let mut text = String::new();
    for command in tree.as_array().into_iter().flatten() {
        let depth = command["depth"].as_u64().unwrap_or_default() as usize;
        let state = match command["state"].as_str() {
            Some("done") => "",
            state => state.unwrap_or("?"),
        };
        let about = command["about"].as_str().unwrap_or("?");
        let line = format!("{}{about} {state}", "  ".repeat(depth));
        // A text takes everything.
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}
