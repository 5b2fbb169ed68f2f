//! When a pool grows, and by how much.

use lb_model::scaling::Scaling;

use super::pool::{Pool, fresh, seconds};
use crate::scaling::{DecidedBy, Limit, Offered, Phase, ScalingPolicy};

fn pool(count: u32, rate: f64) -> Pool {
    let settings = Scaling {
        max: 100,
        ..Scaling::default()
    };
    Pool::new(settings, count, rate)
}

const BY_UTILISATION: DecidedBy = DecidedBy::Policy(ScalingPolicy::Utilisation);

#[test]
fn what_suffices_is_left_alone() {
    let mut pool = pool(5, 350.0);
    pool.play(1_000);
    assert_eq!((pool.actions, pool.count(Phase::Serving)), (0, 5));
}

#[test]
fn a_slow_rise_is_followed_above_the_dead_band() {
    let mut pool = pool(5, 350.0);
    pool.play(100);
    pool.rate = 365.0;
    pool.play(200);
    assert_eq!(pool.actions, 0);
    pool.rate = 375.0;
    pool.play(100);
    assert_eq!((pool.actions, pool.count(Phase::Serving)), (1, 6));
}

#[test]
fn a_surge_is_answered_at_once() {
    let mut pool = pool(5, 350.0);
    pool.play(107);
    pool.rate *= 3.6;
    let first = (1..).find(|_| pool.play(1).is_action()).unwrap();
    assert!(first <= 3, "after {first} s");
    let last = pool.play(10);
    assert_eq!(pool.count(Phase::Starting), 5);
    assert_eq!(last.why.decided_by, BY_UTILISATION);
    assert!(last.why.limits.contains(&Limit::StartUps(5)), "{last}");
    assert!(last.to_string().contains("surge"), "{last}");
    // Those that start are not ordered again, and at most as many as serve start at a time.
    pool.play(60);
    assert_eq!(pool.count(Phase::Serving), 18);
    pool.play(100);
    assert_eq!(
        (pool.count(Phase::Serving), pool.count(Phase::Starting)),
        (18, 0)
    );
}

#[test]
fn unequal_instances_count_by_what_they_carry() {
    let mut pool = pool(4, 0.0);
    pool.obeys = false;
    let capacities = [50.0, 50.0, 100.0, 200.0];
    for second in 0..60 {
        pool.clock.now += seconds(1);
        pool.readings.offered = Some(Offered::Flows(400.0));
        for (one, capacity) in pool.readings.instances.iter_mut().zip(capacities) {
            one.capacity = Some(capacity);
            one.utilisation = fresh(0.99);
        }
        let decision = pool.decide();
        if second == 45 {
            // 571 are required and 400 are there; a new one is worth 100: (571 / 1.05 − 400) / 100.
            assert_eq!((decision.start, decision.desired), (2, 6));
        }
    }
}

#[test]
fn drained_instances_are_taken_back_before_others_start() {
    let mut pool = pool(5, 350.0);
    pool.play(100);
    for (number, connections) in [(0, 5.0), (1, 50.0), (2, 20.0)] {
        let one = &mut pool.readings.instances[number];
        one.phase = Phase::Draining;
        one.connections = fresh(connections);
    }
    pool.readings.instances[3].phase = Phase::Draining;
    pool.readings.instances[3].is_flapping = true;
    pool.settings.policies = vec![ScalingPolicy::Utilisation];
    pool.rate = 200.0;
    let decision = pool.play(30);
    let serving: Vec<&str> = pool
        .readings
        .instances
        .iter()
        .filter(|one| one.phase == Phase::Serving)
        .map(|one| one.name.as_str())
        .collect();
    // The flapping one is left; those with most connections come first.
    assert_eq!(serving, ["i-1", "i-2", "i-3", "i-5", "i-6"], "{decision}");
    assert_eq!(pool.actions, 1);
}

#[test]
fn warm_instances_are_resumed_and_replaced() {
    let mut pool = pool(5, 350.0);
    pool.settings.spare = 2;
    pool.play(100);
    assert_eq!(pool.count(Phase::Spare), 2);
    pool.rate = 350.0 * 4.0;
    pool.play(4);
    // Two were warm; as many start as serve then.
    assert_eq!(
        (pool.count(Phase::Serving), pool.count(Phase::Spare)),
        (7, 0)
    );
    pool.play(120);
    assert_eq!(
        (pool.count(Phase::Serving), pool.count(Phase::Spare)),
        (20, 2)
    );
    pool.settings.spare = 1;
    let decision = pool.play(1);
    assert_eq!(decision.remove_spares.len(), 1);
}

#[test]
fn the_driver_may_have_no_room() {
    let mut pool = pool(5, 350.0);
    pool.play(100);
    pool.readings.room = Some(1);
    pool.rate = 1_000.0;
    pool.obeys = false;
    let decision = pool.play(5);
    assert_eq!((decision.start, decision.desired), (1, 6));
    assert!(decision.why.limits.contains(&Limit::Room(1)), "{decision}");
}

#[test]
fn requests_of_the_last_two_minutes_ask_for_instances() {
    let mut pool = pool(2, 0.0);
    // 1,200 requests in 120 s are 10 a second.
    pool.settings.requests = Some(1_200.0);
    for _ in 0..240 {
        pool.readings.requests = Some(45.0);
        pool.play(1);
    }
    assert_eq!(pool.count(Phase::Serving), 5);
}

#[test]
fn the_strictest_policy_decides() {
    let mut pool = pool(5, 350.0);
    pool.settings.requests = Some(1_200.0);
    pool.settings.connections = 0.5;
    pool.obeys = false;
    let mut last = None;
    for _ in 0..60 {
        pool.clock.now += seconds(1);
        pool.read(seconds(1));
        pool.readings.requests = Some(60.0);
        for one in &mut pool.readings.instances {
            one.connections = fresh(700.0);
            one.connection_limit = Some(1_000.0);
            one.memory = fresh(0.3);
        }
        let decision = pool.decide();
        if decision.start > 0 {
            last = Some(decision);
        }
    }
    let last = last.unwrap();
    assert_eq!(
        last.why.decided_by,
        DecidedBy::Policy(ScalingPolicy::Connections)
    );
    let asked = |policy| {
        let ask = last
            .why
            .asks
            .iter()
            .find(|ask| ask.policy == policy)
            .unwrap();
        ask.instances
    };
    // 3,500 connections of 1,000 × 0.5 each: 7 instances, less the dead band.
    assert_eq!(asked(ScalingPolicy::Connections), Some(7));
    assert_eq!(asked(ScalingPolicy::Requests), Some(6));
    assert_eq!(asked(ScalingPolicy::Utilisation), Some(5));
    assert_eq!(asked(ScalingPolicy::Memory), Some(5));
    assert_eq!((last.start, last.desired), (2, 7));
}

#[test]
fn slow_answers_add_a_step_and_no_ratio() {
    let mut pool = pool(20, 1_300.0);
    pool.settings.latency = Some(seconds(1));
    pool.readings.latency = fresh(30.0);
    pool.play(100);
    // Three periods, then 10 %; the next step waits for these to serve.
    let guard = DecidedBy::Policy(ScalingPolicy::Latency);
    assert!(pool.count(Phase::Serving) + pool.count(Phase::Starting) >= 22);
    assert!(pool.count(Phase::Serving) + pool.count(Phase::Starting) <= 24);
    let grown = (0..100).find_map(|_| Some(pool.play(1)).filter(|one| one.start > 0));
    assert_eq!(grown.unwrap().why.decided_by, guard);
    // Idle instances that are slow wait for something else.
    let mut idle = self::pool(20, 700.0);
    idle.settings.latency = Some(seconds(1));
    idle.readings.latency = fresh(30.0);
    idle.play(200);
    assert!(idle.count(Phase::Serving) <= 20);
}

#[test]
fn capacities_that_were_learned_too_high_are_noticed() {
    let mut pool = pool(4, 250.0);
    pool.play(60);
    pool.obeys = false;
    let mut found = None;
    for _ in 0..100 {
        pool.clock.now += seconds(1);
        pool.read(seconds(1));
        for one in &mut pool.readings.instances {
            one.utilisation = fresh(0.99);
        }
        found = found.or(Some(pool.decide()).filter(|one| one.start > 0));
    }
    let found = found.unwrap();
    assert_eq!(found.why.decided_by, BY_UTILISATION);
    assert_eq!(found.why.critical.len(), 4);
    assert!(found.start >= 1 && found.why.average_load.unwrap() > 0.98);
    // They carry 63 each: 250 / 0.7 / 63 = 5.7 instances, less the dead band.
    assert!((5..=6).contains(&found.desired), "{found}");
}

#[test]
fn without_a_known_capacity_readings_decide() {
    let mut pool = pool(2, 0.0);
    pool.start_up = seconds(100);
    for _ in 0..40 {
        pool.clock.now += seconds(1);
        pool.readings.offered = Some(Offered::Flows(500.0));
        for one in &mut pool.readings.instances {
            one.utilisation = fresh(1.0);
        }
        pool.decide();
    }
    // 2 / 0.7 = 2.9 instances.
    assert_eq!(pool.count(Phase::Serving) + pool.count(Phase::Starting), 3);
}

#[test]
fn the_first_client_starts_the_first_instance() {
    let mut pool = pool(0, 0.0);
    pool.settings.min = 0;
    pool.play(60);
    assert_eq!(pool.count(Phase::Starting), 0);
    pool.rate = 1.0;
    pool.play(30);
    assert_eq!(pool.count(Phase::Starting) + pool.count(Phase::Serving), 1);
}
