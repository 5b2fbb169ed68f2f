//! The flow table: buckets of four entries. The hash of a flow selects the two buckets that it may be in.

use lb_common::{
    hash::BucketPair,
    limits::{CLOSING_TICKS, FLOWS_PER_BUCKET},
};

use super::testbed::Testbed;

/// An entry of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The flow's tag: 48 bits.
    pub tag: u64,
    /// Its real.
    pub real: u16,
    /// Whether a FIN or RST has been received.
    pub closing: bool,
    /// No second packet has confirmed it.
    pub provisional: bool,
    /// A packet that opens a flow made it, if it is provisional.
    pub opening: bool,
    /// That packet was a SYN.
    pub half_open: bool,
    /// The high 20 bits of its ring hash.
    pub ring_bits: u32,
    /// Its last packet, in ticks.
    pub stamp: u32,
}

impl Entry {
    /// Returns the ticks since its last packet.
    #[must_use]
    pub fn age(&self, now: u32) -> u32 {
        now.wrapping_sub(self.stamp)
    }

    /// Returns whether it may give way to another flow.
    #[must_use]
    pub fn is_expendable(&self) -> bool {
        self.provisional || self.closing
    }

    /// Returns whether the entry is live: within the window of its service, or within the short time of a closed or
    /// half-open flow.
    #[must_use]
    pub fn in_time(&self, testbed: &Testbed, now: u32) -> bool {
        let Some(real) = testbed
            .reals
            .get(usize::from(self.real))
            .and_then(Option::as_ref)
        else {
            return false;
        };
        let limit = if self.closing || self.half_open {
            CLOSING_TICKS
        } else {
            testbed.services[real.service as usize].window
        };
        self.age(now) <= limit
    }
}

/// The table.
#[derive(Clone, Debug)]
pub struct FlowTable {
    /// The buckets. Their number is a power of two.
    pub buckets: Vec<[Option<Entry>; FLOWS_PER_BUCKET]>,
}

impl FlowTable {
    /// Creates an empty table.
    #[must_use]
    pub fn new(buckets: u32) -> FlowTable {
        FlowTable {
            buckets: vec![[None; FLOWS_PER_BUCKET]; buckets as usize],
        }
    }

    /// Returns the buckets that a flow may be in, which `lb_common::hash` defines.
    #[must_use]
    pub fn place(&self, hash: u64) -> BucketPair {
        BucketPair::new(hash, self.buckets.len() as u32 - 1)
    }

    /// Returns a flow's entry, live or not.
    pub fn find(&mut self, place: BucketPair) -> Option<&mut Entry> {
        let bucket = [place.first, place.second].into_iter().find(|bucket| {
            self.buckets[*bucket as usize]
                .iter()
                .flatten()
                .any(|entry| entry.tag == place.tag)
        })?;
        self.buckets[bucket as usize]
            .iter_mut()
            .flatten()
            .find(|entry| entry.tag == place.tag)
    }

    /// Returns how many entries of a bucket must stay, and how many are not empty.
    fn load(&self, bucket: u32) -> (usize, usize) {
        let entries = || self.buckets[bucket as usize].iter().flatten();
        let kept = entries().filter(|entry| !entry.is_expendable()).count();
        (kept, entries().count())
    }

    /// Remembers a flow: in its entry if it has one, else in a free one of the bucket that has fewer entries which
    /// must stay (then fewer at all, then the first), else in a free one of the other, else in place of one that may
    /// give way. Returns whether there was room.
    pub fn remember(
        &mut self,
        place: BucketPair,
        entry: Entry,
        testbed: &Testbed,
        now: u32,
    ) -> bool {
        if let Some(known) = self.find(place) {
            *known = entry;
            return true;
        }
        let mut buckets = [place.first, place.second];
        // The sort is stable, so buckets with equal loads stay in order.
        buckets.sort_by_key(|bucket| self.load(*bucket));
        let candidates: Vec<(u32, usize)> = buckets
            .into_iter()
            .flat_map(|bucket| (0..FLOWS_PER_BUCKET).map(move |at| (bucket, at)))
            .collect();
        let there = |(bucket, at): (u32, usize)| self.buckets[bucket as usize][at];
        let free = candidates
            .iter()
            .copied()
            .find(|candidate| there(*candidate).is_none_or(|entry| !entry.in_time(testbed, now)));
        let expendable = || {
            let [first, second] = buckets.map(|bucket| {
                (0..FLOWS_PER_BUCKET)
                    .map(|at| (bucket, at))
                    .filter(|candidate| there(*candidate).is_some_and(|e| e.is_expendable()))
                    .collect::<Vec<_>>()
            });
            let even = self.load(buckets[0]).0 == self.load(buckets[1]).0;
            let considered = if even {
                [first, second].concat()
            } else if first.is_empty() {
                second
            } else {
                first
            };
            let service = |real: u16| testbed.reals[usize::from(real)].map(|real| real.service);
            let is_own = |other: Entry| {
                entry.provisional
                    && other.provisional
                    && other.opening == entry.opening
                    && service(other.real) == service(entry.real)
            };
            let (own, others): (Vec<_>, Vec<_>) = considered
                .into_iter()
                .partition(|candidate| there(*candidate).is_some_and(is_own));
            let among = if own.len() >= others.len() {
                own
            } else {
                [own, others].concat()
            };
            among
                .into_iter()
                .max_by_key(|candidate| there(*candidate).map(|entry| entry.age(now)))
        };
        let Some((bucket, at)) = free.or_else(expendable) else {
            return false;
        };
        self.buckets[bucket as usize][at] = Some(entry);
        true
    }
}
