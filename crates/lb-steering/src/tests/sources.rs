//! Several sources that read the utilisation of one real.

use super::pool::{Pool, fresh};
use crate::{Doubt, Load, Sample, SourceReading};

/// Flows a second that each real takes at utilisation 1.
const CAPACITIES: [f64; 4] = [1_000.0; 4];

/// The load that two sources of equal weight report.
fn reported(first: Sample, second: f64) -> Load {
    let source = |utilisation| {
        Some(SourceReading {
            weight: 1.0,
            utilisation,
        })
    };
    let second = Sample {
        value: second,
        ..first
    };
    Load {
        utilisation: fresh(f64::midpoint(first.value, second.value)),
        sources: vec![source(first), source(second)],
        ..Load::default()
    }
}

/// Plays periods in which the first real has two sources; `second` tells what the second one reads when the first one reads
/// this.
fn play(pool: &mut Pool, periods: usize, second: impl Fn(f64) -> f64) {
    for period in 0..periods {
        // Waves of load, so that there is something to follow.
        pool.flows = if period % 8 < 4 { 9_000.0 } else { 11_000.0 };
        pool.load(&CAPACITIES);
        let first = pool.reals[0].load.utilisation.unwrap();
        pool.reals[0].load = reported(first, second(first.value));
        pool.period();
    }
}

fn settled() -> Pool {
    let mut pool = Pool::of("capacity", &[100; 4]);
    pool.step();
    play(&mut pool, 30, |first| first);
    assert_eq!(pool.decisions[0].trust.unwrap().level, 1.0);
    pool
}

fn assert_unmoved(pool: &Pool) {
    for share in pool.shares() {
        assert!((share / 0.25 - 1.0).abs() < 0.03, "{:?}", pool.shares());
    }
}

#[test]
fn sources_that_agree_are_believed_by_weight() {
    let mut pool = settled();
    // Both show that half of the capacity is gone, one a little more than the other.
    for _ in 0..12 {
        pool.load(&CAPACITIES);
        let first = pool.reals[0].load.utilisation.unwrap();
        let doubled = Sample {
            value: first.value * 1.9,
            ..first
        };
        pool.reals[0].load = reported(doubled, first.value * 2.1);
        pool.period();
    }
    let share = pool.shares()[0];
    assert!((share * 7.0 - 1.0).abs() < 0.06, "{:?}", pool.shares());
}

/// The factor by which the second source differs, by the trust that is shown.
fn differs(pool: &Pool) -> f64 {
    let trust = pool.decisions[0].trust.unwrap();
    let Some(Doubt::Source {
        number: 2,
        times: Some(times),
    }) = trust.doubt
    else {
        panic!("{trust:?}");
    };
    assert_eq!(trust.level, 0.5);
    times
}

#[test]
fn a_source_that_suddenly_reads_less_has_no_vote() {
    let mut pool = settled();
    play(&mut pool, 30, |first| first * 0.5);
    assert_unmoved(&pool);
    let times = differs(&pool);
    assert!((times / 0.5 - 1.0).abs() < 0.1, "{times}");
    // It has its vote again as soon as it agrees.
    play(&mut pool, 2, |first| first);
    assert_eq!(pool.decisions[0].trust.unwrap().level, 1.0);
}

#[test]
fn a_source_that_suddenly_reads_more_counts() {
    let mut pool = settled();
    play(&mut pool, 8, |first| (first * 2.0).min(1.0));
    let share = pool.shares()[0];
    // The mean is 1.5 × what it was, and the others have room.
    assert!((share / (2.0 / 11.0) - 1.0).abs() < 0.1, "{share}");
}

#[test]
fn sources_may_measure_different_things() {
    let mut pool = Pool::of("capacity", &[100; 4]);
    pool.step();
    play(&mut pool, 40, |first| first / 4.0);
    assert_eq!(pool.decisions[0].trust.unwrap().level, 1.0);
    // Their mean is 0.625 × the utilisation.
    let capacity = pool.decisions[0].capacity.unwrap();
    assert!(
        (capacity * 0.625 / 1_000.0 - 1.0).abs() < 0.05,
        "{capacity}"
    );
    // The mean by the other one alone is the same.
    play(&mut pool, 16, |first| first / 12.0);
    let capacity = pool.decisions[0].capacity.unwrap();
    assert!(
        (capacity * 0.625 / 1_000.0 - 1.0).abs() < 0.08,
        "{capacity}"
    );
    assert!(differs(&pool) < 0.5);
}

#[test]
fn a_source_that_does_not_follow_has_no_vote() {
    let mut pool = settled();
    play(&mut pool, 60, |_| 0.5);
    assert_unmoved(&pool);
    let trust = pool.decisions[0].trust.unwrap();
    let doubt = Doubt::Source {
        number: 2,
        times: None,
    };
    assert_eq!(trust.doubt, Some(doubt));
    assert_eq!(
        doubt.to_string(),
        "the utilisation that its source 2 reads does not follow what it carries"
    );
}

#[test]
fn a_source_that_falls_silent_leaves_the_others() {
    let mut pool = settled();
    play(&mut pool, 30, |first| (first * 2.0).min(1.0));
    for _ in 0..6 {
        pool.load(&CAPACITIES);
        let first = pool.reals[0].load.utilisation.unwrap();
        pool.reals[0].load = reported(first, 1.0);
        pool.reals[0].load.sources[0] = None;
        pool.period();
    }
    // What is left may be wrong, and is all that there is: it is a jump.
    assert!(pool.decisions.iter().all(|decision| decision.weight > 0));
}
