//! Signs of how reals serve their flows.

use std::vec::Vec;

use super::testbed::*;
use crate::{
    limits::{LIFE_BUCKETS, SAMPLE_PARTS, SAMPLE_TICKS, SAMPLES, SAMPLES_PER_PART, TICK_SHIFT},
    memory::{MemFrame, simulate},
    tables::{
        real::{DOWN, Real},
        ring::Previous,
        signs::{LIFE_UNIT, Signs, life_bucket, real_of},
    },
};

/// A service with two reals; all its slots are the first one's.
fn testbed() -> (Testbed, u32, [u16; 2]) {
    let mut testbed = Testbed::new();
    let service = testbed.service("10.0.0.1:80/tcp");
    let reals = ["10.1.0.1", "10.1.0.2"].map(|address| testbed.real(service, address, 1));
    testbed.slots(service, reals[0], Previous::Settled);
    (testbed, service, reals)
}

impl Testbed {
    fn signs(&self, real: u16) -> Signs {
        self.tables.signs[real as usize].record()
    }

    fn pass_nanoseconds(&mut self, nanoseconds: u64) {
        let since = self.tables.since_tick + nanoseconds;
        self.tables.now += (since >> TICK_SHIFT) as u32;
        self.tables.since_tick = since & ((1 << TICK_SHIFT) - 1);
    }

    fn send(&mut self, port: u16, flags: u8) {
        self.run(&tcp4(port, flags));
    }

    fn sampled(&self) -> usize {
        let samples = self.tables.samples.iter();
        samples.filter(|sample| sample.owner.load() != 0).count()
    }
}

#[test]
fn a_flow_counts_from_its_syn_to_its_fin() {
    let (mut testbed, _, [a, b]) = testbed();
    testbed.send(1, SYN);
    testbed.send(1, ACK);
    testbed.pass_nanoseconds(5 * LIFE_UNIT);
    testbed.send(1, ACK);
    testbed.send(1, FIN | ACK);
    // The first end counts, and only that.
    testbed.send(1, FIN | ACK);
    testbed.send(1, RST);
    let mut expected = Signs {
        opened: 1,
        ..Signs::default()
    };
    expected.lives[3] = 1;
    assert_eq!(testbed.signs(a), expected);
    assert_eq!(testbed.signs(b), Signs::default());
    assert_eq!(testbed.sampled(), 0);
}

#[test]
fn a_reset_is_an_end_and_a_sign() {
    let (mut testbed, _, [a, _]) = testbed();
    testbed.send(1, SYN);
    testbed.send(1, RST | ACK);
    // Nobody has seen these flows begin.
    testbed.send(2, RST);
    testbed.send(3, FIN | ACK);
    let signs = testbed.signs(a);
    assert_eq!((signs.opened, signs.resets, signs.lives[0]), (1, 1, 1));
    assert_eq!(signs.ended(), 1);
}

#[test]
fn a_repeated_syn_is_no_new_flow_until_its_time_is_over() {
    let (mut testbed, _, [a, _]) = testbed();
    for wait in [0, 1, 2, 4, 8] {
        testbed.pass_nanoseconds(wait * 1_000_000_000);
        testbed.send(1, SYN);
    }
    let signs = testbed.signs(a);
    assert_eq!((signs.opened, signs.repeated), (1, 4));
    // The life is from the first SYN on.
    testbed.send(1, FIN | ACK);
    assert_eq!(testbed.signs(a).lives[LIFE_BUCKETS - 2], 1);
    testbed.send(1, SYN);
    testbed.pass_nanoseconds(u64::from(SAMPLE_TICKS) << TICK_SHIFT);
    testbed.send(1, SYN);
    let signs = testbed.signs(a);
    assert_eq!((signs.opened, signs.repeated), (3, 4));
}

#[test]
fn a_syn_that_is_repeated_to_another_real_is_a_sign_of_the_first() {
    let (mut testbed, service, [a, b]) = testbed();
    testbed.send(1, SYN);
    testbed.tables.reals[a as usize].flags |= DOWN;
    testbed.slots(service, b, Previous::Settled);
    testbed.pass_nanoseconds(1_000_000_000);
    testbed.send(1, SYN);
    testbed.pass_nanoseconds(LIFE_UNIT);
    testbed.send(1, FIN | ACK);
    assert_eq!((testbed.signs(a).opened, testbed.signs(a).repeated), (1, 1));
    assert_eq!(testbed.signs(a).ended(), 0);
    assert_eq!((testbed.signs(b).opened, testbed.signs(b).repeated), (1, 0));
    assert_eq!(testbed.signs(b).lives[1], 1);
}

#[test]
fn an_end_counts_for_the_real_of_the_beginning() {
    let (mut testbed, service, [a, b]) = testbed();
    testbed.send(1, SYN);
    testbed.slots(service, b, Previous::Settled);
    testbed.send(1, RST);
    assert_eq!((testbed.signs(a).ended(), testbed.signs(a).resets), (1, 1));
    assert_eq!(testbed.signs(b), Signs::default());
}

#[test]
fn a_running_flow_keeps_its_place_and_an_ended_or_old_one_gives_way() {
    let (mut testbed, _, [a, _]) = testbed();
    let flows = 4 * SAMPLES_PER_PART as u16;
    for port in 1..=flows {
        testbed.send(port, SYN);
    }
    let first = testbed.signs(a).opened;
    assert_eq!(testbed.sampled() as u64, first);
    // One in e^4 places is free.
    assert!(first > 950 && first <= SAMPLES_PER_PART.into(), "{first}");
    for port in 1..=flows {
        testbed.send(port, FIN | ACK);
    }
    assert_eq!(testbed.signs(a).ended(), first, "none was overwritten");
    for round in 1..=2 {
        for port in 1..=flows {
            testbed.send(port + 10_000 * round, SYN);
        }
        testbed.pass_nanoseconds(u64::from(SAMPLE_TICKS) << TICK_SHIFT);
    }
    let signs = testbed.signs(a);
    assert!(signs.opened > 2_850, "{}", signs.opened);
    assert_eq!(signs.repeated, 0);
}

/// A flood to one VIP takes no sample of another one.
#[test]
fn services_have_parts_of_their_own() {
    let mut testbed = Testbed::new();
    let (_, flooded) = testbed.served("10.0.0.1:80/tcp", "10.1.0.1", 1);
    let (_, other) = testbed.served("[2001:db8::1]:80/tcp", "fd00::2", 1);
    for port in 1..20_000 {
        testbed.send(port, SYN);
    }
    for port in 1..=50 {
        testbed.run(&tcp6(port, SYN));
        testbed.run(&tcp6(port, FIN | ACK));
    }
    assert!(testbed.signs(flooded).opened <= SAMPLES_PER_PART.into());
    let signs = testbed.signs(other);
    assert_eq!((signs.opened, signs.ended()), (50, 50));
    assert_eq!(SAMPLES, SAMPLE_PARTS * SAMPLES_PER_PART);
}

#[test]
fn datagrams_icmp_errors_and_simulated_packets_count_nothing() {
    let (mut testbed, service, [a, _]) = testbed();
    testbed.served("10.0.0.1:53/udp", "10.1.0.3", 1);
    testbed.slots(service, a, EXCEPTIONS);
    testbed.run(&udp4(1));
    testbed.run(&icmp_error4(3, 4, 1_400, &answer_to(&tcp4(1, SYN))));
    for flags in [SYN, ACK, FIN, RST] {
        simulate(&mut testbed.tables, &mut MemFrame::new(&tcp4(1, flags)));
    }
    // A packet that goes nowhere says nothing of its real.
    testbed.tables.reals[a as usize] = Real {
        next_hop: 0,
        ..testbed.tables.reals[a as usize]
    };
    testbed.send(1, SYN);
    let all: Vec<Signs> = testbed.tables.signs.iter().map(|of| of.record()).collect();
    assert!(
        all.iter().all(|signs| *signs == Signs::default()),
        "{all:?}"
    );
    assert_eq!(testbed.sampled(), 0);
}

#[test]
fn a_forgotten_real_has_no_samples_and_others_keep_theirs() {
    let (mut testbed, service, [a, b]) = testbed();
    for port in 1..=20 {
        testbed.send(port, SYN);
    }
    testbed.slots(service, b, Previous::Settled);
    for port in 21..=30 {
        testbed.send(port, SYN);
    }
    for sample in &testbed.tables.samples {
        sample.forget(a);
    }
    testbed.tables.signs[a as usize].clear();
    assert_eq!(testbed.signs(a), Signs::default());
    let kept = u64::try_from(testbed.sampled()).unwrap();
    assert_eq!(kept, testbed.signs(b).opened);
    let owners = testbed.tables.samples.iter().map(|of| of.owner.load());
    assert!(
        owners
            .filter(|owner| *owner != 0)
            .all(|owner| real_of(owner) == b)
    );
}

#[test]
fn lives_have_buckets_by_powers_of_two() {
    for (life, bucket) in [
        (0, 0),
        (LIFE_UNIT - 1, 0),
        (LIFE_UNIT, 1),
        (2 * LIFE_UNIT - 1, 1),
        (2 * LIFE_UNIT, 2),
        (3 * LIFE_UNIT, 2),
        (4 * LIFE_UNIT, 3),
        ((1 << 14) * LIFE_UNIT - 1, 14),
        ((1 << 14) * LIFE_UNIT, 15),
        ((1 << 40) * LIFE_UNIT, 15),
        (u64::MAX, 15),
    ] {
        assert_eq!(life_bucket(life), bucket, "{life}");
    }
}

#[test]
fn the_median_and_the_sum_of_lives_are_those_of_the_buckets() {
    let mut signs = Signs::default();
    assert_eq!((signs.median_life(), signs.ended()), (None, 0));
    assert_eq!(signs.lived().as_nanos(), 0);
    signs.lives[0] = 2;
    signs.lives[3] = 3;
    signs.lives[10] = 1;
    assert_eq!(signs.median_life().unwrap().as_nanos(), 6 << 20);
    let units = 2 * 2 + 3 * 4 * 6 + 4 * 768;
    assert_eq!(signs.lived().as_nanos(), u128::from(LIFE_UNIT) / 4 * units);
    signs.lives[0] = 5;
    assert_eq!(signs.median_life().unwrap().as_nanos(), 1 << 19);
}
