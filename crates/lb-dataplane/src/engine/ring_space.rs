//! The ring table: which stretches of its slots belong to a ring.

use std::collections::BTreeMap;

use lb_common::limits::SLOTS_PER_CHUNK;

use super::quiescence::Quiescing;

/// Hands out stretches of the ring table.
///
/// Invariant: the stretches in use are whole chunks and do not overlap, and one that was retired stays in use until packets that
/// may still read it are done.
#[derive(Debug, Default)]
pub(crate) struct RingSpace {
    /// Stretches in use: first slot → number of slots.
    used: BTreeMap<u32, u32>,
    /// First slots of retired stretches; they are in `used` as well.
    quiescing: Quiescing<u32>,
}

/// The slots of whole chunks that a ring of `slots` slots takes.
fn whole(slots: u32) -> u32 {
    slots.next_multiple_of(SLOTS_PER_CHUNK)
}

impl RingSpace {
    /// First slot of the first gap of `slots` slots; it may end past the table.
    fn gap(&self, slots: u32) -> u32 {
        let mut at = 0;
        for (&first, &length) in &self.used {
            if first - at >= slots {
                break;
            }
            at = first + length;
        }
        at
    }

    /// Slots that the table needs to have room for `slots` further slots in one stretch.
    #[must_use]
    pub fn table_size(&self, slots: u32) -> u32 {
        let end = self
            .used
            .last_key_value()
            .map_or(0, |(first, length)| first + length);
        let slots = whole(slots);
        end.max(self.gap(slots) + slots)
    }

    /// Takes the first gap of `slots` slots and returns its first slot. The table has this room:
    /// see [`RingSpace::table_size`].
    pub fn allocate(&mut self, slots: u32) -> u32 {
        let slots = whole(slots);
        let first = self.gap(slots);
        self.used.insert(first, slots);
        first
    }

    /// Marks a stretch that an adopted table uses as in use; false if it overlaps another one.
    pub fn reserve(&mut self, first: u32, slots: u32) -> bool {
        let slots = whole(slots);
        let free = self
            .used
            .range(..first + slots)
            .next_back()
            .is_none_or(|(&f, &length)| f + length <= first);
        if free {
            self.used.insert(first, slots);
        }
        free
    }

    /// Gives up the stretch that begins at `first`; no service points to it any more.
    pub fn retire(&mut self, first: u32, now: u32) {
        self.quiescing.insert(first, now);
    }

    /// Frees retired stretches whose grace period is over.
    pub fn release_quiescent(&mut self, now: u32) {
        let used = &mut self.used;
        self.quiescing.release(now, |first| {
            used.remove(first);
            true
        });
    }

    /// Slots in use.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.used.values().map(|&slots| u64::from(slots)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_used_again_after_the_grace_period() {
        let mut space = RingSpace::default();
        let firsts = [256, 512, 1024].map(|slots| space.allocate(slots));
        assert_eq!(firsts, [0, 256, 768]);
        assert_eq!(space.table_size(256), 256 + 512 + 1024 + 256);
        space.retire(256, 100);
        space.release_quiescent(105);
        assert_eq!((space.gap(256), space.used()), (1792, 1792));
        space.release_quiescent(106);
        assert_eq!(
            (space.gap(256), space.gap(512), space.gap(1024)),
            (256, 256, 1792)
        );
        assert_eq!(space.table_size(512), 1792);
        assert_eq!(space.table_size(1024), 1792 + 1024);
    }

    #[test]
    fn a_ring_that_is_no_multiple_of_a_chunk_takes_whole_ones() {
        let mut space = RingSpace::default();
        assert_eq!(space.table_size(65_537), 65_552);
        assert_eq!(
            [65_537, 256].map(|slots| space.allocate(slots)),
            [0, 65_552]
        );
        let mut adopted = RingSpace::default();
        assert!(adopted.reserve(0, 65_537) && !adopted.reserve(65_536, 16));
        assert!(adopted.reserve(65_552, 256));
    }

    #[test]
    fn adopted_stretches_do_not_overlap() {
        let mut space = RingSpace::default();
        assert!(space.reserve(0, 256) && space.reserve(768, 1024));
        assert!(!space.reserve(0, 16) && !space.reserve(512, 512) && !space.reserve(1024, 16));
        assert!(space.reserve(256, 512));
    }
}
