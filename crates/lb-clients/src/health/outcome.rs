//! The outcome of a probe.

use std::time::Duration;

/// Characters of a reason at most; the text of a peer is cut.
pub const MAX_REASON: usize = 300;

/// The outcome of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The state of the real.
    pub verdict: Verdict,
    /// The reason in words for the operator; one line of `MAX_REASON` characters at most.
    pub reason: String,
    /// How long the probe took.
    pub latency: Duration,
}

/// The state of a real as one probe sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It serves.
    Healthy,
    /// It serves and wants no new flows.
    Drain,
    /// It does not serve.
    Unhealthy,
    /// Nothing is known: this host could not ask, or slept through the answer.
    Inconclusive,
}

impl Verdict {
    /// Its name in the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Verdict::Healthy => "healthy",
            Verdict::Drain => "drain",
            Verdict::Unhealthy => "unhealthy",
            Verdict::Inconclusive => "inconclusive",
        }
    }

    /// Whether the real serves, as far as the probe knows.
    #[must_use]
    pub const fn is_alive(self) -> bool {
        matches!(self, Verdict::Healthy | Verdict::Drain)
    }
}

impl Outcome {
    /// An outcome with a reason that may quote a peer: it becomes one line of bounded length.
    #[must_use]
    pub fn new(verdict: Verdict, reason: &str, latency: Duration) -> Self {
        Outcome {
            verdict,
            reason: line(reason, MAX_REASON),
            latency,
        }
    }
}

/// The first characters of a text, on one line, without control characters that a terminal would interpret.
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
