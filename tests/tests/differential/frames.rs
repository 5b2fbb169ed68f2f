//! Random frames, while the tables change.

use lb_common::reason::Reason;
use lb_common::tables::signs::Signs;
use lb_tests::model::{
    generator::Generator,
    random::Random,
    random_testbed::{RING_SLOTS, WINDOW, random_testbed, set_slot},
};

use crate::{arena::Arena, setting};

/// Frames between two changes of the tables.
const BATCH: u64 = 1_000;
/// Number of buckets, large enough that no flow is evicted.
const BUCKETS: u32 = 8_192;

pub fn kernel_memory_and_model_agree_on_random_frames() {
    let seed = setting("LB_DIFFERENTIAL_SEED", 0x6C62_2D61_6765_6E74);
    let frames = setting("LB_DIFFERENTIAL_FRAMES", 20_000);
    let (testbed, targets) = random_testbed(seed);
    let mut arena = Arena::new(testbed, BUCKETS);
    let mut generator = Generator::new(seed, targets);
    let mut random = Random::new(!seed);
    for batch in 0..frames.div_ceil(BATCH) {
        for _ in 0..BATCH.min(frames - batch * BATCH) {
            arena.frame(&generator.frame());
        }
        arena.compare();
        change(&mut arena, &mut random);
    }
    let (reasons, ended) = (arena.model.reasons.clone(), arena.model.ended);
    let signs = arena.kernel.signs();
    let named = arena
        .model
        .server_ids
        .iter()
        .fold([0, 0], |[known, unknown], of| {
            [known + of.known, unknown + of.unknown]
        });
    let counted = |count: fn(&Signs) -> u64| signs.iter().map(count).sum::<u64>();
    let signs = [
        counted(|signs| signs.opened),
        counted(|signs| signs.repeated),
        counted(|signs| signs.resets),
        counted(Signs::ended),
    ];
    arena.finish(seed);
    println!(
        "seed {seed}, {frames} frames, reasons {reasons:?}, {ended} flows shed, signs {signs:?}, named {named:?}"
    );
    // Agreement means something only if the generator reaches this code.
    assert!(ended > 0);
    assert!(named.iter().all(|count| *count > 100), "{named:?}");
    assert!(signs.iter().all(|count| *count > 0), "{signs:?}");
    for reason in Reason::ALL {
        // No tunnel ends at these balancers, which translate nothing and limit nothing.
        let reachable = !matches!(
            reason,
            Reason::NoHeadroom
                | Reason::Congestion
                | Reason::NatAnswerTx
                | Reason::NatAnswerRedirect
                | Reason::NatNoPort
                | Reason::NatTableFull
                | Reason::NatNoSource
                | Reason::NatUntranslatable
                | Reason::FlowLimited
                | Reason::FlowLimitedReset
        );
        assert_eq!(
            reasons[*reason as usize] > 0,
            reachable,
            "{} of {reasons:?}",
            reason.name()
        );
    }
}

/// Changes slots, kills and revives reals, changes next hops and ages entries.
fn change(arena: &mut Arena, random: &mut Random) {
    let testbed = &mut arena.model.testbed;
    for service in 1..testbed.services.len() as u32 {
        for _ in 0..random.below(RING_SLOTS as usize / 2) {
            let slot = random.below(RING_SLOTS as usize) as u32;
            set_slot(testbed, random, service, slot);
        }
    }
    for service in &mut testbed.services[1..] {
        service.slots = if random.chance(5) { 0 } else { RING_SLOTS };
    }
    for real in testbed.reals.iter_mut().flatten() {
        real.down = random.chance(8);
        real.reset = random.chance(8);
        real.shed = random.chance(20).then(|| random.below(6) as i64 - 1);
        if random.chance(10) {
            real.next_hop = random.below(4) as u32;
        }
    }
    (testbed.any_port_v4, testbed.any_port_v6) = (!random.chance(10), !random.chance(10));
    arena.write();
    let salt = random.number();
    arena.age(
        |flow| match (flow.tag ^ salt).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 60 {
            // Entries are older than every window, older than the life of a closed flow, or due to be stamped again.
            0 | 1 => Some(2 * WINDOW),
            2..=4 => Some(WINDOW / 4),
            5 if !flow.closing => Some(WINDOW / 2),
            _ => None,
        },
    );
}
