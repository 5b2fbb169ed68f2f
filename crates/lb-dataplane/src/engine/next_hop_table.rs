//! The next-hop table: which entry stands for which next hop.

use std::collections::{HashMap, HashSet};

use lb_common::tables::next_hop::NextHop;

use super::{index_allocator::IndexAllocator, quiescence::Quiescing};
use crate::{backend::TableBackend, error::DataplaneError};

/// Shares entries between the reals that are reached the same way.
///
/// Invariant: an entry is written before an index to it is given out, never changes while it has a user, and
/// is used again only after its last user's grace period. So a packet never reads half of one.
#[derive(Debug)]
pub(crate) struct NextHopTable {
    indices: IndexAllocator,
    /// Index and number of users of each next hop in use.
    users: HashMap<[u8; 16], (u32, u32)>,
    /// Entries without users that a packet may still be reading.
    quiescing: Quiescing<u32>,
}

/// The record as a map's key: `NextHop` of the shared tables has no hash.
fn key(hop: &NextHop) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..6].copy_from_slice(&hop.destination);
    bytes[6..12].copy_from_slice(&hop.source);
    bytes[12..].copy_from_slice(&hop.interface.to_ne_bytes());
    bytes
}

impl NextHopTable {
    /// A table with no entry in use.
    #[must_use]
    pub fn new() -> NextHopTable {
        NextHopTable {
            indices: IndexAllocator::new(),
            users: HashMap::new(),
            quiescing: Quiescing::default(),
        }
    }

    /// Entries in use, those in their grace period included.
    #[must_use]
    pub fn used(&self) -> u32 {
        self.indices.used()
    }

    /// Entries that the table needs if all of `hops` get users.
    #[must_use]
    pub fn table_size<'a>(&self, hops: impl IntoIterator<Item = &'a NextHop>) -> u32 {
        let distinct: HashSet<_> = hops.into_iter().map(key).collect();
        self.indices.table_size(distinct.len() as u32)
    }

    /// Adds a user of a next hop and returns the entry's index. A new entry is written first.
    pub fn acquire<B: TableBackend>(&mut self, backend: &mut B, hop: &NextHop) -> u32 {
        if let Some((index, users)) = self.users.get_mut(&key(hop)) {
            *users += 1;
            return *index;
        }
        let index = self.indices.allocate();
        backend.write_next_hop(index, *hop);
        self.users.insert(key(hop), (index, 1));
        index
    }

    /// Adds a user that an adopted table has. An entry that repeats another one stays in use until the next
    /// start.
    pub fn reserve(&mut self, index: u32, hop: &NextHop) {
        self.indices.reserve(index);
        let entry = self.users.entry(key(hop)).or_insert((index, 0));
        entry.1 += 1;
    }

    /// Removes a user of a next hop.
    pub fn release(&mut self, hop: &NextHop, now: u32) {
        let Some((index, users)) = self.users.get_mut(&key(hop)) else {
            return;
        };
        *users -= 1;
        if *users == 0 {
            self.quiescing.insert(*index, now);
            self.users.remove(&key(hop));
        }
    }

    /// Frees entries whose grace period is over.
    pub fn release_quiescent(&mut self, now: u32) {
        let indices = &mut self.indices;
        self.quiescing.release(now, |index| {
            indices.release(*index);
            true
        });
    }

    /// Makes the table in the backend large enough for `hops` as further entries.
    ///
    /// # Errors
    /// [`DataplaneError::Full`] or [`DataplaneError::System`] from growing it.
    pub fn make_room<'a, B: TableBackend>(
        &self,
        backend: &mut B,
        hops: impl IntoIterator<Item = &'a NextHop>,
    ) -> Result<(), DataplaneError> {
        match backend.sizes().grown(0, 0, self.table_size(hops), 0)? {
            Some(sizes) => backend.grow(sizes),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryBackend;

    #[test]
    fn equal_hops_share_an_entry_and_unused_ones_are_kept_for_the_grace_period() {
        let mut backend = MemoryBackend::for_tests();
        let mut table = NextHopTable::new();
        let one = NextHop {
            destination: [1; 6],
            source: [2; 6],
            interface: 3,
        };
        let other = NextHop {
            interface: 4,
            ..one
        };
        assert_eq!(table.table_size([&one, &one, &other]), 3);
        assert_eq!(table.acquire(&mut backend, &one), 1);
        assert_eq!(table.acquire(&mut backend, &one), 1);
        assert_eq!(table.acquire(&mut backend, &other), 2);
        assert_eq!((backend.next_hop(1), backend.next_hop(2)), (one, other));
        table.release(&one, 100);
        assert_eq!(table.acquire(&mut backend, &one), 1);
        table.release(&one, 100);
        table.release(&one, 100);
        assert_eq!(
            table.acquire(&mut backend, &one),
            3,
            "a packet may still read the old entry"
        );
        table.release_quiescent(105);
        assert_eq!(table.used(), 3);
        table.release_quiescent(106);
        assert_eq!(table.used(), 2);
    }
}
