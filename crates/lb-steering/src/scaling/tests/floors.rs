//! `min`, `max`, the schedule and allowed sizes.

use lb_model::{
    scaling::{Scaling, ScheduleWindow, Weekday},
    time_zone::TimeZone,
};

use super::pool::{MONDAY, Pool, seconds};
use crate::scaling::{Clock, DecidedBy, Limit, Phase, PoolReadings, ScalingState, scale};

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

/// The times of a day, in minutes since midnight UTC, at which the floor of a window changes.
fn changes(zone: &str, date: u64, from: &str, to: &str) -> Vec<(u64, u32)> {
    let settings = Scaling {
        schedule: vec![ScheduleWindow {
            days: vec![Weekday::Sunday],
            from: from.parse().unwrap(),
            to: to.parse().unwrap(),
            min: 6,
        }],
        ..Scaling::default()
    };
    let zone: TimeZone = zone.parse().unwrap();
    let readings = PoolReadings::default();
    let mut last = settings.min;
    let mut changes = Vec::new();
    for minute in 0..24 * 60 {
        let now = seconds(date + minute * 60);
        let clock = Clock {
            now,
            utc_offset: zone.offset_at(now),
        };
        let mut state = ScalingState::default();
        let floor = scale(&settings, &mut state, &readings, clock).why.floor;
        if floor != last {
            changes.push((minute, floor));
            last = floor;
        }
    }
    changes
}

/// In spring the clocks of Berlin go from 02:00 to 03:00, at 01:00 UTC. In autumn they go from 03:00 back to 02:00, at 01:00
/// UTC, too. A window is open while the clocks show a time within it.
#[test]
fn a_schedule_follows_the_clocks_of_its_zone() {
    const SPRING: u64 = 1_774_742_400;
    const AUTUMN: u64 = 1_792_886_400;
    const SUMMER: u64 = SPRING + 14 * 7 * 86_400;
    let berlin = |date, from, to| changes("Europe/Berlin", date, from, to);
    assert_eq!(berlin(SUMMER, "02:15", "02:45"), [(15, 6), (45, 1)]);
    assert_eq!(berlin(SUMMER, "08:00", "18:00"), [(360, 6), (960, 1)]);
    // The hour from 02:00 does not exist: a window in it is not open, and one that begins in it is open from 03:00.
    assert_eq!(berlin(SPRING, "02:15", "02:45"), []);
    assert_eq!(berlin(SPRING, "02:30", "03:30"), [(60, 6), (90, 1)]);
    assert_eq!(berlin(SPRING, "01:30", "02:30"), [(30, 6), (60, 1)]);
    assert_eq!(berlin(SPRING, "08:00", "18:00"), [(360, 6), (960, 1)]);
    // The hour from 02:00 comes twice, and so does what is in it.
    let twice = [(15, 6), (45, 1), (75, 6), (105, 1)];
    assert_eq!(berlin(AUTUMN, "02:15", "02:45"), twice);
    assert_eq!(berlin(AUTUMN, "02:00", "03:00"), [(0, 6), (120, 1)]);
    let around = [(0, 6), (30, 1), (60, 6), (90, 1)];
    assert_eq!(berlin(AUTUMN, "01:30", "02:30"), around);
    assert_eq!(berlin(AUTUMN, "08:00", "18:00"), [(420, 6), (1_020, 1)]);
    // Sunday begins and ends elsewhere at another time.
    let auckland = changes("Pacific/Auckland", SUMMER, "00:00", "23:59");
    assert_eq!(auckland, [(0, 6), (719, 1)]);
    assert_eq!(
        changes("UTC", AUTUMN, "02:15", "02:45"),
        [(135, 6), (165, 1)]
    );
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
