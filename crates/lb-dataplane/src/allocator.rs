//! Which indices and which stretches of ring space are in use.

use std::collections::{BTreeMap, BTreeSet};

/// Hands out indices from 1; 0 is reserved in every table.
#[derive(Debug, Default)]
pub struct Indices {
    /// One past the highest index ever handed out.
    end: u32,
    /// Freed ones below `end`.
    free: BTreeSet<u32>,
}

impl Indices {
    /// All indices are free.
    #[must_use]
    pub fn new() -> Indices {
        Indices {
            end: 1,
            free: BTreeSet::new(),
        }
    }

    /// Indices in use.
    #[must_use]
    pub fn used(&self) -> u32 {
        self.end - 1 - self.free.len() as u32
    }

    /// Size of the table that has room for `more` indices.
    #[must_use]
    pub fn table_size(&self, more: u32) -> u32 {
        self.end + more.saturating_sub(self.free.len() as u32)
    }

    /// Takes the lowest free index, so that tables stay dense.
    pub fn take(&mut self) -> u32 {
        if let Some(index) = self.free.pop_first() {
            return index;
        }
        self.end += 1;
        self.end - 1
    }

    /// Marks an index found in an adopted table as in use.
    pub fn claim(&mut self, index: u32) {
        while self.end <= index {
            self.free.insert(self.end);
            self.end += 1;
        }
        self.free.remove(&index);
    }

    /// Gives an index back. The caller has made sure that nothing names it.
    pub fn give(&mut self, index: u32) {
        debug_assert!(index != 0 && index < self.end && !self.free.contains(&index));
        self.free.insert(index);
    }
}

/// Hands out stretches of slots.
#[derive(Debug, Default)]
pub struct Extents {
    /// Stretches in use: first slot → number of slots.
    used: BTreeMap<u32, u32>,
}

impl Extents {
    /// First slot of the first gap of `slots` slots. It may end past the table: see [`Extents::end_with`].
    #[must_use]
    pub fn find(&self, slots: u32) -> u32 {
        let mut at = 0;
        for (&first, &length) in &self.used {
            if first - at >= slots {
                break;
            }
            at = first + length;
        }
        at
    }

    /// Size of the table that has room for `slots` more slots in one stretch.
    #[must_use]
    pub fn end_with(&self, slots: u32) -> u32 {
        let end = self
            .used
            .last_key_value()
            .map_or(0, |(first, length)| first + length);
        end.max(self.find(slots) + slots)
    }

    /// Takes the stretch.
    pub fn claim(&mut self, first: u32, slots: u32) {
        self.used.insert(first, slots);
    }

    /// Gives a stretch back.
    pub fn give(&mut self, first: u32) {
        self.used.remove(&first);
    }

    /// Slots in use.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.used.values().map(|&slots| u64::from(slots)).sum()
    }

    /// Whether the stretch lies in free space.
    #[must_use]
    pub fn is_free(&self, first: u32, slots: u32) -> bool {
        self.used
            .range(..first + slots)
            .next_back()
            .is_none_or(|(&f, &length)| f + length <= first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_are_dense_and_used_once() {
        let mut indices = Indices::new();
        assert_eq!((indices.take(), indices.take(), indices.take()), (1, 2, 3));
        indices.give(2);
        assert_eq!(indices.used(), 2);
        assert_eq!(indices.table_size(1), 4);
        assert_eq!(indices.table_size(2), 5);
        assert_eq!((indices.take(), indices.take()), (2, 4));
    }

    #[test]
    fn adopted_indices_are_not_handed_out() {
        let mut indices = Indices::new();
        indices.claim(3);
        indices.claim(1);
        assert_eq!(indices.used(), 2);
        assert_eq!((indices.take(), indices.take()), (2, 4));
    }

    #[test]
    fn gaps_are_used_again() {
        let mut extents = Extents::default();
        for slots in [256, 512, 1024] {
            let first = extents.find(slots);
            extents.claim(first, slots);
        }
        assert_eq!(extents.find(256), 256 + 512 + 1024);
        extents.give(256);
        assert_eq!(
            (extents.find(256), extents.find(512), extents.find(1024)),
            (256, 256, 1792)
        );
        assert_eq!(extents.end_with(512), 1792);
        assert_eq!(extents.end_with(1024), 1792 + 1024);
        assert!(extents.is_free(256, 512) && !extents.is_free(0, 1) && !extents.is_free(512, 512));
    }
}
