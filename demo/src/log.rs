//! The last lines of what has happened, for the screen.

use std::{collections::VecDeque, time::Duration};

/// Lines that are kept.
pub const LINES: usize = 7;

/// The newest lines.
#[derive(Clone, Debug)]
pub struct Log {
    lines: VecDeque<String>,
    kept: usize,
}

impl Default for Log {
    fn default() -> Self {
        Self::with_lines(LINES)
    }
}

impl Log {
    /// Creates a log that keeps this many lines.
    pub fn with_lines(kept: usize) -> Self {
        Self {
            lines: VecDeque::new(),
            kept,
        }
    }

    /// Adds a line about something that happened at this time since the clients started.
    pub fn report(&mut self, at: Duration, about: &str, words: &str) {
        self.push(format!("{:>7}  {about}: {words}", seconds(at)));
    }

    /// Adds a line.
    pub fn push(&mut self, line: String) {
        if self.lines.len() == self.kept {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// Returns the lines, the newest last.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }
}

/// Formats a time to a tenth of a second.
pub fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
