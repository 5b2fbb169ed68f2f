//! The grace period of what packets under way may still use.

/// How long something that packets can no longer find is kept before it is used again, in ticks (100 ms):
/// much longer than a program runs.
pub(crate) const QUIESCENCE_TICKS: u32 = 6;

/// Whether the grace period of something that was unlinked at `since` is over.
#[must_use]
pub(crate) fn is_quiescent(since: u32, now: u32) -> bool {
    now.wrapping_sub(since) >= QUIESCENCE_TICKS
}

/// Unlinked items in their grace period.
///
/// Invariant: an item is given out only when its grace period is over, and once.
#[derive(Debug)]
pub(crate) struct Quiescing<T> {
    items: Vec<(T, u32)>,
}

impl<T> Default for Quiescing<T> {
    fn default() -> Quiescing<T> {
        Quiescing { items: Vec::new() }
    }
}

impl<T> Quiescing<T> {
    /// Adds an item that packets can no longer find since `now`.
    pub fn insert(&mut self, item: T, now: u32) {
        self.items.push((item, now));
    }

    /// Calls `release` with each item whose grace period is over. An item for which it returns `false` is
    /// still needed and is kept.
    pub fn release(&mut self, now: u32, mut release: impl FnMut(&T) -> bool) {
        self.items
            .retain(|(item, since)| !(is_quiescent(*since, now) && release(item)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_leave_once_after_the_grace_period() {
        let mut quiescing = Quiescing::default();
        quiescing.insert('a', 100);
        quiescing.insert('b', 101);
        let released = |quiescing: &mut Quiescing<char>, now, wanted: &str| {
            let mut released = String::new();
            quiescing.release(now, |item| {
                let take = wanted.contains(*item);
                if take {
                    released.push(*item);
                }
                take
            });
            released
        };
        assert_eq!(released(&mut quiescing, 105, "ab"), "");
        assert_eq!(released(&mut quiescing, 106, "b"), "", "a is still needed");
        assert_eq!(released(&mut quiescing, 107, "ab"), "ab");
        assert_eq!(released(&mut quiescing, 200, "ab"), "");
    }
}
