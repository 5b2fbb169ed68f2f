//! A full flow table: of the entries in a flow's two buckets an old one that is not confirmed gives way, if there
//! is one.

use lb_common::tables::ring::Previous;
use lb_tests::model::{
    flows::{Entry, FlowTable},
    generator::Generator,
    random_testbed::{REALS_PER_SERVICE, RING_SLOTS, WINDOW, random_testbed},
};

use crate::arena::{Arena, now};

const BUCKETS: u32 = 4;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
/// Ticks between the ages of two entries: seconds, so that it does not matter when the clock is read.
const APART: u32 = 500;

/// What an entry of the full table is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Confirmed,
    Opening,
    Running,
    Closing,
}

/// All mixtures of states, those of one or two states among them.
fn state(number: u32, round: u32) -> State {
    use State::{Closing, Confirmed, Opening, Running};
    let mixed = number.wrapping_mul(0x9E37_79B1).rotate_left(round % 32) >> 7;
    let among: &[State] = match round % 8 {
        0 => &[Confirmed],
        1 => &[Opening, Running],
        2 => &[Confirmed, Opening],
        3 => &[Confirmed, Closing],
        4 => &[Confirmed, Confirmed, Confirmed, Running],
        _ => &[Confirmed, Opening, Running, Closing],
    };
    among[mixed as usize % among.len()]
}

pub fn in_a_full_flow_table_an_old_entry_that_is_not_confirmed_gives_way() {
    let (mut testbed, targets) = random_testbed(2);
    // Every flow is remembered.
    for (slot, (current, previous)) in testbed.slots.iter_mut().enumerate() {
        let service = slot / RING_SLOTS as usize;
        *current = 1 + (service * REALS_PER_SERVICE) as u16;
        *previous = Previous::Real(*current + 1);
    }
    let mut arena = Arena::new(testbed, BUCKETS);
    let generator = Generator::new(2, targets.clone());
    let mut refused = 0;
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
                closing: state(number, round) == State::Closing,
                provisional: matches!(state(number, round), State::Opening | State::Running),
                opening: state(number, round) == State::Opening,
                half_open: state(number, round) == State::Opening && number % 2 == 0,
                ring_bits: number,
                stamp: now.wrapping_sub(age),
            });
        }
        arena.set_flows(&flows);
        let before = (arena.kernel.flow_counters(), arena.kernel.evictions());
        let flags = if round / 8 % 2 == 0 { SYN } else { ACK };
        arena.frame(&generator.flow_frame(targets[0], round, flags));
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
        let counted = arena.kernel.flow_counters();
        let evictions = arena.kernel.evictions();
        if gone.is_empty() {
            refused += 1;
            assert_eq!(counted.inserted, before.0.inserted, "round {round}");
            assert_eq!(evictions.refused, before.1.refused + 1, "round {round}");
            continue;
        }
        assert_eq!(gone.len(), 1, "round {round}: one entry, and only one");
        assert!(gone[0].is_expendable(), "round {round}");
        // That of a flow that has ended, or whose time is over, is no loss.
        let in_time = gone[0].in_time(&arena.model.testbed, now);
        let lost = u64::from(in_time && !gone[0].closing);
        assert_eq!(
            (counted.inserted, counted.evicted),
            (before.0.inserted + 1, before.0.evicted + lost),
            "round {round}"
        );
        assert_eq!(
            evictions.opening + evictions.running,
            before.1.opening + before.1.running + lost,
            "round {round}"
        );
    }
    arena.finish(2);
    assert!((20..150).contains(&refused), "{refused} refused");
}
