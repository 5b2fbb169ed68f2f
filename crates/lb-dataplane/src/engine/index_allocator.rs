//! Indices into a table.

use std::collections::BTreeSet;

/// Hands out the indices of a table, from 1; index 0 is reserved in every table.
///
/// Invariant: an index is either in use, or free and below `end`, or at or above `end`; it is handed out
/// again only after it was released.
#[derive(Debug)]
pub(crate) struct IndexAllocator {
    /// One past the highest index that was ever handed out.
    end: u32,
    /// Released indices below `end`.
    free: BTreeSet<u32>,
}

impl IndexAllocator {
    /// An allocator with every index free.
    #[must_use]
    pub fn new() -> IndexAllocator {
        IndexAllocator {
            end: 1,
            free: BTreeSet::new(),
        }
    }

    /// Number of indices in use.
    #[must_use]
    pub fn used(&self) -> u32 {
        self.end - 1 - self.free.len() as u32
    }

    /// Entries that a table needs, index 0 included, to have room for `more` further indices.
    #[must_use]
    pub fn table_size(&self, more: u32) -> u32 {
        self.end + more.saturating_sub(self.free.len() as u32)
    }

    /// Takes the lowest free index, so that tables stay dense.
    pub fn allocate(&mut self) -> u32 {
        if let Some(index) = self.free.pop_first() {
            return index;
        }
        self.end += 1;
        self.end - 1
    }

    /// Marks an index that an adopted table uses as in use.
    pub fn reserve(&mut self, index: u32) {
        while self.end <= index {
            self.free.insert(self.end);
            self.end += 1;
        }
        self.free.remove(&index);
    }

    /// Frees an index. The caller has made sure that no slot, flow or packet names it.
    pub fn release(&mut self, index: u32) {
        debug_assert!(index != 0 && index < self.end && !self.free.contains(&index));
        self.free.insert(index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_are_dense_and_used_once() {
        let mut indices = IndexAllocator::new();
        let first = [(); 3].map(|()| indices.allocate());
        assert_eq!(first, [1, 2, 3]);
        indices.release(2);
        assert_eq!(indices.used(), 2);
        assert_eq!(indices.table_size(1), 4);
        assert_eq!(indices.table_size(2), 5);
        assert_eq!((indices.allocate(), indices.allocate()), (2, 4));
    }

    #[test]
    fn adopted_indices_are_not_handed_out() {
        let mut indices = IndexAllocator::new();
        indices.reserve(3);
        indices.reserve(1);
        assert_eq!(indices.used(), 2);
        assert_eq!((indices.allocate(), indices.allocate()), (2, 4));
    }
}
