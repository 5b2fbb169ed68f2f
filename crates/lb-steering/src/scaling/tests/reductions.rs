//! When a pool shrinks, and what keeps it from doing so.

use lb_model::scaling::Scaling;

use super::pool::{Pool, fresh, seconds};
use crate::{
    Sample,
    scaling::{Alarm, DecidedBy, Limit, Phase, ScalingPolicy},
};

fn pool(count: u32, rate: f64) -> Pool {
    let settings = Scaling {
        max: 100,
        ..Scaling::default()
    };
    Pool::new(settings, count, rate)
}

/// Seconds until the pool shrinks.
fn until_smaller(pool: &mut Pool, most: u64) -> Option<u64> {
    (1..=most).find(|_| !pool.play(1).drain.is_empty())
}

#[test]
fn a_pool_shrinks_after_the_window() {
    let mut pool = pool(10, 350.0);
    let after = until_smaller(&mut pool, 1_000).unwrap();
    assert!((300..=330).contains(&after), "{after}");
    let next = until_smaller(&mut pool, 1_000).unwrap();
    assert!((14..=16).contains(&next), "{next}");
    pool.play(2_000);
    // 5 × 0.98 = 4.9 < 5: six are kept, as their need is at the boundary.
    assert_eq!(pool.count(Phase::Serving), 6);
}

#[test]
fn many_go_in_steps_of_a_tenth() {
    let mut pool = pool(40, 350.0);
    pool.play(330);
    assert_eq!(pool.count(Phase::Serving), 36);
}

#[test]
fn it_does_not_shrink_within_the_window_after_it_grew() {
    let mut pool = pool(5, 350.0);
    pool.play(400);
    pool.rate = 700.0;
    pool.play(60);
    assert!(pool.count(Phase::Serving) >= 9);
    pool.rate = 100.0;
    let last_out = pool.clock.now;
    let after = until_smaller(&mut pool, 1_000).unwrap();
    assert!(after >= 240, "{after} s after {last_out:?}");
    let decision = pool.play(1);
    assert!(decision.why.since_out.unwrap() >= seconds(300));
}

#[test]
fn the_window_covers_start_up_and_drain() {
    let mut pool = pool(10, 350.0);
    pool.readings.life = Some(seconds(7_200));
    // 3 × (0 s + 300 s).
    let after = until_smaller(&mut pool, 2_000).unwrap();
    assert!((900..=930).contains(&after), "{after}");
}

#[test]
fn all_policies_must_agree() {
    let mut pool = pool(10, 350.0);
    pool.settings.requests = Some(1_200.0);
    pool.readings.requests = Some(99.0);
    assert_eq!(until_smaller(&mut pool, 600), None);
    let decision = pool.play(15);
    let needed = Limit::Needed(ScalingPolicy::Requests);
    let limits = &decision.why.limits;
    assert!(
        limits.contains(&needed) || matches!(limits[0], Limit::Period(_)),
        "{decision}"
    );
    pool.readings.requests = Some(40.0);
    assert!(until_smaller(&mut pool, 600).is_some());
}

#[test]
fn missing_data_keep_a_pool_as_it_is() {
    // Utilisation of one instance, requests, demand.
    for case in 0..3 {
        let mut pool = pool(10, 350.0);
        pool.settings.requests = Some(1_200.0);
        pool.readings.requests = Some(1.0);
        pool.play(100);
        for _ in 0..900 {
            pool.clock.now += seconds(1);
            pool.read(seconds(1));
            match case {
                0 => {
                    pool.readings.instances[3].utilisation = Some(Sample {
                        value: 0.2,
                        age: seconds(46),
                    });
                }
                1 => pool.readings.requests = None,
                _ => pool.readings.offered = None,
            }
            let decision = pool.decide();
            assert!(decision.desired >= 10, "{case}: {decision}");
        }
        // The whole window must be known again.
        pool.readings.requests = Some(1.0);
        let after = until_smaller(&mut pool, 1_000).unwrap();
        assert!((285..=330).contains(&after), "{case}: {after}");
    }
}

#[test]
fn a_capacity_that_is_missing_is_held() {
    let mut pool = pool(5, 350.0);
    pool.play(100);
    pool.rate = 1_260.0;
    for _ in 0..100 {
        pool.clock.now += seconds(1);
        pool.read(seconds(1));
        for one in &mut pool.readings.instances {
            (one.capacity, one.utilisation) = (None, None);
        }
        pool.decide();
    }
    assert_eq!(pool.count(Phase::Serving), 18);
}

#[test]
fn the_instance_that_costs_least_goes() {
    let mut pool = pool(4, 100.0);
    for (one, connections) in pool.readings.instances.iter_mut().zip([9.0, 4.0, 8.0, 8.0]) {
        one.connections = fresh(connections);
    }
    until_smaller(&mut pool, 400).unwrap();
    assert_eq!(pool.readings.instances[1].phase, Phase::Draining);
}

#[test]
fn a_large_instance_that_is_needed_stays() {
    let mut pool = pool(3, 0.0);
    pool.obeys = false;
    let mut drained = Vec::new();
    for _ in 0..400 {
        pool.clock.now += seconds(1);
        pool.rate = 250.0;
        pool.read(seconds(1));
        for (one, capacity) in pool
            .readings
            .instances
            .iter_mut()
            .zip([100.0, 400.0, 100.0])
        {
            one.capacity = Some(capacity);
            one.utilisation = fresh(250.0 / 600.0);
        }
        // The large one has the fewest connections.
        pool.readings.instances[0].connections = fresh(20.0);
        pool.readings.instances[1].connections = fresh(1.0);
        pool.readings.instances[2].connections = fresh(30.0);
        drained.extend(pool.decide().drain);
    }
    drained.dedup();
    assert_eq!(drained, ["i-1"]);
}

#[test]
fn memory_of_idle_instances_does_not_count() {
    let mut pool = pool(10, 100.0);
    pool.readings.instances[9].phase = Phase::Starting;
    for one in &mut pool.readings.instances {
        one.memory = fresh(0.60);
    }
    pool.play(1);
    pool.readings.instances[9].phase = Phase::Serving;
    pool.play(2_000);
    for one in &mut pool.readings.instances {
        one.memory = fresh(0.60);
    }
    assert!(
        pool.count(Phase::Serving) <= 4,
        "{}",
        pool.count(Phase::Serving)
    );
}

#[test]
fn many_dead_instances_stop_everything_but_growth() {
    let mut pool = pool(10, 200.0);
    pool.play(290);
    for one in &mut pool.readings.instances[..4] {
        one.phase = Phase::Dead(None);
    }
    for _ in 0..500 {
        let decision = pool.play(1);
        assert!(decision.drain.is_empty());
        assert_eq!(decision.alarm, Some(Alarm::MassFailure { dead: 4, of: 10 }));
    }
    pool.rate = 1_000.0;
    pool.play(60);
    assert!(pool.count(Phase::Serving) > 6);
    // Three of ten are not too many.
    let mut few = self::pool(10, 200.0);
    few.play(290);
    for one in &mut few.readings.instances[..3] {
        one.phase = Phase::Dead(None);
    }
    assert!(until_smaller(&mut few, 300).is_some());
}

#[test]
fn a_dead_instance_that_is_relaunched_soon_is_not_replaced() {
    let mut pool = pool(5, 350.0);
    pool.play(100);
    pool.readings.instances[2].phase = Phase::Dead(Some(seconds(1)));
    pool.play(60);
    assert_eq!((pool.actions, pool.count(Phase::Starting)), (0, 0));
    pool.readings.instances[2].phase = Phase::Dead(Some(seconds(40)));
    pool.play(60);
    assert_eq!(pool.count(Phase::Serving), 5);
}

#[test]
fn decisions_tell_what_they_rest_on() {
    let mut pool = pool(10, 350.0);
    let decision = pool.play(100);
    let why = &decision.why;
    assert_eq!(
        (why.active, why.starting, why.draining, why.dead),
        (10, 0, 0, 0)
    );
    assert!((why.average_load.unwrap() - 0.35).abs() < 1e-9);
    assert_eq!((why.floor, why.decided_by), (1, DecidedBy::Nothing));
    let figures = why.asks[0].figures.unwrap();
    assert!((figures.need() - 5.0).abs() < 1e-6 && (figures.available - 1_000.0).abs() < 1e-6);
    assert!(
        decision
            .to_string()
            .starts_with("10 active, 10 desired: nothing asks"),
        "{decision}"
    );
}
