//! A full flow table: the oldest entry of a flow's two buckets is evicted.

use lb_common::tables::ring::Previous;
use lb_tests::model::{
    flows::{Entry, FlowTable},
    generator::Generator,
    random_testbed::{REALS_PER_SERVICE, RING_SLOTS, WINDOW, random_testbed},
};

use crate::arena::{Arena, now};

const BUCKETS: u32 = 4;
const SYN: u8 = 0x02;
/// Ticks between the ages of two entries: seconds, so that the time of reading the clock does not matter.
const APART: u32 = 500;

pub fn a_full_flow_table_gives_up_the_oldest() {
    let (mut testbed, targets) = random_testbed(2);
    // Every flow is remembered.
    for (slot, (current, previous)) in testbed.slots.iter_mut().enumerate() {
        let service = slot / RING_SLOTS as usize;
        *current = 1 + (service * REALS_PER_SERVICE) as u16;
        *previous = Previous::Real(*current + 1);
    }
    let mut arena = Arena::new(testbed, BUCKETS);
    let generator = Generator::new(2, targets.clone());
    for round in 0..200_u32 {
        let now = now();
        let mut flows = FlowTable::new(BUCKETS);
        let entries = flows.buckets.iter_mut().flatten();
        for (number, entry) in (0..).zip(entries) {
            // All ages are different: 7 and 16 have no common divisor.
            let age = 100 + (number * 7 + round * 5) % 16 * APART;
            assert!(age < WINDOW);
            *entry = Some(Entry {
                tag: 0xF000_0000_0000 | u64::from(number),
                real: 1,
                closing: false,
                ring_bits: number as u16,
                stamp: now.wrapping_sub(age),
            });
        }
        arena.set_flows(&flows);
        let before = arena.kernel.flow_counters();
        arena.frame(&generator.flow_frame(targets[0], round, SYN));
        arena.compare();
        let gone: Vec<Entry> = {
            let left: Vec<u64> = arena
                .model
                .flows
                .buckets
                .iter()
                .flatten()
                .flatten()
                .map(|entry| entry.tag)
                .collect();
            flows
                .buckets
                .iter()
                .flatten()
                .flatten()
                .filter(|entry| !left.contains(&entry.tag))
                .copied()
                .collect()
        };
        assert_eq!(
            gone.len(),
            1,
            "round {round}: one entry gives mode, and only one"
        );
        let counted = arena.kernel.flow_counters();
        assert_eq!(
            (counted.inserted, counted.evicted),
            (before.inserted + 1, before.evicted + 1)
        );
    }
    arena.finish(2);
}
