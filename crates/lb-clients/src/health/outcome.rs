//! What a probe found.

use std::time::Duration;

/// Characters of a reason at most; what a peer says is cut to it.
pub const MAX_REASON: usize = 300;

/// What a probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How the real is.
    pub verdict: Verdict,
    /// Why, in words for the operator; one line of [`MAX_REASON`] characters at most.
    pub reason: String,
    /// How long the answer, or its absence, took.
    pub latency: Duration,
}

/// How a real is, as one probe sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It does its work.
    Healthy,
    /// It does its work and wants no new flows.
    Drain,
    /// It does not do its work.
    Unhealthy,
}

impl Verdict {
    /// Its name in the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Verdict::Healthy => "healthy",
            Verdict::Drain => "drain",
            Verdict::Unhealthy => "unhealthy",
        }
    }

    /// Whether the real lives.
    #[must_use]
    pub const fn is_alive(self) -> bool {
        !matches!(self, Verdict::Unhealthy)
    }
}

impl Outcome {
    /// With a reason that may hold what a peer said: it becomes one line of bounded length.
    #[must_use]
    pub fn new(verdict: Verdict, reason: &str, latency: Duration) -> Self {
        Outcome {
            verdict,
            reason: line(reason, MAX_REASON),
            latency,
        }
    }
}

/// The first characters of a text, on one line, with nothing that a terminal would obey.
pub fn line(text: &str, most: usize) -> String {
    let mut line: String = text
        .trim()
        .chars()
        .map(|character| {
            if character.is_control() {
                ' '
            } else {
                character
            }
        })
        .take(most + 1)
        .collect();
    if let Some((end, _)) = line.char_indices().nth(most) {
        line.truncate(end);
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_short_lines() {
        assert_eq!(line(" a\nb\u{1b}[2Jc ", 100), "a b [2Jc");
        assert_eq!(line("äöü", 3), "äöü");
        assert_eq!(line("äöüß", 3), "äöü…");
    }
}
