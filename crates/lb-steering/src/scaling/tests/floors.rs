//! `min`, `max`, the schedule and allowed sizes.

use lb_model::scaling::{Scaling, ScheduleWindow, Weekday};

use super::pool::{MONDAY, Pool, seconds};
use crate::scaling::{DecidedBy, Limit, Phase};

#[test]
fn a_pool_starts_with_its_minimum() {
    let settings = Scaling {
        min: 8,
        ..Scaling::default()
    };
    let mut pool = Pool::new(settings, 0, 0.0);
    let decision = pool.wait(seconds(1));
    assert_eq!(
        (decision.start, decision.why.decided_by),
        (8, DecidedBy::Minimum)
    );
    pool.play(1_000);
    assert_eq!(pool.count(Phase::Serving), 8);
}

#[test]
fn the_maximum_bounds_growth_and_what_is_above_goes_at_once() {
    let settings = Scaling {
        max: 7,
        ..Scaling::default()
    };
    let mut pool = Pool::new(settings, 5, 350.0);
    pool.play(100);
    pool.rate = 2_000.0;
    pool.obeys = false;
    let decision = pool.play(5);
    assert_eq!((decision.start, decision.desired), (2, 7));
    assert!(decision.why.limits.contains(&Limit::Maximum), "{decision}");
    pool.obeys = true;
    pool.settings.max = 3;
    let decision = pool.play(1);
    assert_eq!((decision.drain.len(), decision.desired), (2, 3));
    assert_eq!(decision.why.decided_by, DecidedBy::Maximum);
}

#[test]
fn a_schedule_raises_the_floor() {
    let settings = Scaling {
        schedule: vec![ScheduleWindow {
            days: vec![Weekday::Monday],
            from: "08:00".parse().unwrap(),
            to: "18:00".parse().unwrap(),
            min: 6,
        }],
        ..Scaling::default()
    };
    let mut pool = Pool::new(settings, 2, 50.0);
    // An hour ahead of UTC.
    pool.clock.utc_offset = 3_600;
    pool.clock.now = MONDAY + seconds(7 * 3_600 - 100);
    assert_eq!(pool.play(99).desired, 2);
    let decision = pool.play(2);
    assert_eq!((decision.desired, decision.why.floor), (6, 6));
    pool.play(1_000);
    assert_eq!(pool.count(Phase::Serving), 6);
    pool.clock.now = MONDAY + seconds(17 * 3_600);
    pool.play(1_000);
    assert!(pool.count(Phase::Serving) < 6);
}

#[test]
fn only_allowed_sizes_are_used() {
    let settings = Scaling {
        min: 3,
        max: 20,
        sizes: vec![3, 5, 9, 15],
        ..Scaling::default()
    };
    let mut pool = Pool::new(settings, 3, 210.0);
    pool.play(100);
    pool.rate = 260.0;
    pool.play(100);
    assert_eq!(pool.count(Phase::Serving), 5);
    pool.rate = 630.0;
    pool.play(200);
    assert_eq!(pool.count(Phase::Serving), 9);
    pool.rate = 100.0;
    let sizes: std::collections::BTreeSet<usize> = (0..2_000)
        .map(|_| {
            pool.play(1);
            pool.count(Phase::Serving)
        })
        .collect();
    assert_eq!(sizes, [3, 5, 9].into());
    // A number that is not allowed becomes one that is.
    let position = pool.add(Phase::Serving);
    assert_eq!(pool.play(1).desired, 5, "{position}");
}
