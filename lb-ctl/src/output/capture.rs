//! What a capture has written, for `capture`.

use serde::Serialize;

use super::{Human, table};

/// What `capture` prints at its end.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// The file.
    pub file: String,
    /// Packets that were captured. Each is in the file as it came, and once more if it left.
    pub packets: u64,
    /// Packets that found no room in the kernel's buffers.
    pub lost: u64,
    /// Packets beyond `--rate`.
    pub over_budget: u64,
}

impl Human for Summary {
    fn human(&self) -> String {
        let packets = table::count(
            usize::try_from(self.packets).unwrap_or(usize::MAX),
            "packet",
        );
        let mut text = format!("{packets} in {}", self.file);
        if self.lost > 0 {
            text += &format!("; {} more found no room in the kernel's buffers", self.lost);
        }
        if self.over_budget > 0 {
            text += &format!("; {} more came faster than --rate allows", self.over_budget);
        }
        text + "\n"
    }
}
