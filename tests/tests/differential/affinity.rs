//! A flow that sends a packet in each window stays on its real through all changes of the ring.

use std::collections::HashMap;

use lb_common::tables::ring::{Classes, Previous, class_of};
use lb_tests::model::{
    generator::Generator,
    random::Random,
    random_testbed::{REALS_PER_SERVICE, RING_SLOTS, random_testbed},
    testbed::Testbed,
};

use crate::{arena::Arena, setting};

const BUCKETS: u32 = 4_096;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
const FLOWS: u32 = 150;
const CHANGES: usize = 12;

pub fn flows_stay_on_their_reals_through_ring_changes() {
    let seed = setting("LB_DIFFERENTIAL_SEED", 3);
    let (mut testbed, targets) = random_testbed(seed);
    let mut random = Random::new(!seed);
    for (slot, (current, previous)) in testbed.slots.iter_mut().enumerate() {
        *current = a_real(&mut random, slot);
        *previous = Previous::Settled;
    }
    let generator = Generator::new(seed, targets.clone());
    let mut arena = Arena::new(testbed, BUCKETS);
    // There are three TCP and three UDP services, with and without tracking and any port.
    let targets = [&targets[..3], &targets[9..12]].concat();
    let mut serves: HashMap<(usize, u32), u16> = HashMap::new();
    for round in 0..CHANGES {
        for (number, target) in targets.iter().enumerate() {
            for flow in 0..FLOWS {
                let known = serves.get(&(number, flow)).copied();
                // Some flows exist from the beginning, some begin later, and some restart.
                let opens = if known.is_none() {
                    random.chance(40)
                } else {
                    random.chance(3)
                };
                if known.is_none() && !opens {
                    continue;
                }
                let fresh = opens && target.protocol == 6;
                let answer = arena.frame(&generator.flow_frame(
                    *target,
                    flow,
                    if fresh { SYN } else { ACK },
                ));
                if let Some(known) = known
                    && !fresh
                {
                    arena.check(answer.real == known, || {
                        format!(
                            "round {round}: flow {flow} of {target:?} was on real {known}, is on {} by {:?}",
                            answer.real, answer.chosen_by
                        )
                    });
                }
                serves.insert((number, flow), answer.real);
            }
        }
        arena.compare();
        if round % 3 == 2 {
            end_window(&mut arena);
        }
        let slots = arena.model.testbed.slots.len();
        for _ in 0..slots / 3 {
            let slot = random.below(slots);
            let real = a_real(&mut random, slot);
            change_slot(&mut arena.model.testbed, slot, real);
        }
        arena.write();
    }
    arena.finish(seed);
}

/// Returns a random real of the service whose ring has this slot.
fn a_real(random: &mut Random, slot: usize) -> u16 {
    let service = slot / RING_SLOTS as usize;
    (1 + service * REALS_PER_SERVICE + random.below(REALS_PER_SERVICE)) as u16
}

/// Gives a slot another real as the agent does: it keeps the real whose flows are not all remembered.
fn change_slot(testbed: &mut Testbed, slot: usize, real: u16) {
    let (current, previous) = testbed.slots[slot];
    if current == real {
        return;
    }
    testbed.slots[slot] = match previous {
        Previous::Real(first) => (real, Previous::Real(first)),
        Previous::Settled | Previous::Exceptions(_) => (real, Previous::Real(current)),
    };
}

/// Ends a window in which each flow sent a packet, as the agent does after a sweep: a slot without exceptions is settled,
/// and one with exceptions has their classes.
fn end_window(arena: &mut Arena) {
    let slots = &mut arena.model.testbed.slots;
    let mut found = vec![Classes::NONE; slots.len()];
    for entry in arena.model.flows.buckets.iter().flatten().flatten() {
        let service = (usize::from(entry.real) - 1) / REALS_PER_SERVICE;
        let in_ring = (u64::from(entry.ring_bits) * u64::from(RING_SLOTS)) >> 20;
        let slot = service * RING_SLOTS as usize + in_ring as usize;
        if slots[slot].0 != entry.real {
            let class = class_of(u64::from(entry.ring_bits) << 44);
            found[slot] = found[slot].or(Classes::only(class));
        }
    }
    for ((_, previous), found) in slots.iter_mut().zip(found) {
        if *previous != Previous::Settled {
            *previous = if found.is_empty() {
                Previous::Settled
            } else {
                Previous::Exceptions(found)
            };
        }
    }
    arena.write();
}
