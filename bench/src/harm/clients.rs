//! What clients wait for: SYNs to repeat and connections to make again, in the order of time.

use std::{cmp::Ordering, collections::BinaryHeap};

/// An attempt to open a flow.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    /// When it is made.
    pub at: f64,
    /// When its first SYN was sent.
    pub first: f64,
    /// The server that has the flow; `None` if it is chosen then.
    pub server: Option<usize>,
    /// How often the SYN was sent before.
    pub repeats: u8,
    /// Whether its data plane's sample includes it.
    pub sampled: bool,
    /// Whether its client tries until it succeeds.
    pub persists: bool,
}

impl PartialEq for Attempt {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Attempt {}

impl PartialOrd for Attempt {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Attempt {
    /// The earlier one is greater, as the heap yields the greatest.
    fn cmp(&self, other: &Self) -> Ordering {
        other.at.total_cmp(&self.at)
    }
}

/// Attempts that are yet to be made.
#[derive(Debug, Default)]
pub struct Waiting(BinaryHeap<Attempt>);

impl Waiting {
    /// Adds an attempt.
    pub fn add(&mut self, attempt: Attempt) {
        self.0.push(attempt);
    }

    /// Takes the first attempt before a time.
    pub fn take_before(&mut self, time: f64) -> Option<Attempt> {
        if self.0.peek()?.at < time {
            self.0.pop()
        } else {
            None
        }
    }
}
