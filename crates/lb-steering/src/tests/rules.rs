//! The rules for load and movement.

use super::pool::{Pool, fresh, seconds};
use crate::{LimitedBy, Steering};
use lb_model::{component::Component, settings::Auto};

#[test]
fn shares_follow_capacities() {
    let capacities = [500.0, 1_000.0, 2_000.0, 500.0];
    let mut pool = Pool::of("capacity", &[100; 4]);
    pool.step();
    for _ in 0..40 {
        pool.carry(&capacities);
    }
    for (share, capacity) in pool.shares().iter().zip(capacities) {
        assert!(
            (share / (capacity / 4_000.0) - 1.0).abs() < 0.04,
            "{:?}",
            pool.shares()
        );
    }
    let capacity = pool.decisions[2].capacity.unwrap();
    assert!((capacity / 2_000.0 - 1.0).abs() < 0.01, "{capacity}");
}

#[test]
fn retransmitted_syns_are_not_carried_load() {
    // The load is 65 % of the capacity; the two smallest are saturated, and unanswered clients retry twice.
    let capacities = [200.0, 400.0, 800.0, 1_600.0];
    let mut pool = Pool::of("capacity", &[100; 4]);
    pool.flows = 0.65 * 3_000.0 * 5.0;
    let carry = |pool: &mut Pool| {
        let shares = pool.shares();
        for (number, share) in shares.iter().enumerate() {
            pool.reals[number].share = Some(*share);
            let lost = share * pool.flows - capacities[number] * 5.0;
            pool.reals[number].opened += (2.0 * lost.max(0.0)) as u64;
        }
        pool.carry(&capacities);
    };
    pool.step();
    carry(&mut pool);
    carry(&mut pool);
    let capacity = |pool: &Pool, number: usize| pool.decisions[number].capacity.unwrap();
    // No more than what it was offered, and not all of that.
    assert!(capacity(&pool, 0) < 0.25 * 1_950.0, "{:?}", pool.decisions);
    assert!(
        capacity(&pool, 0) < capacity(&pool, 2),
        "{:?}",
        pool.decisions
    );
    for _ in 0..20 {
        carry(&mut pool);
    }
    for (share, capacity) in pool.shares().iter().zip(capacities) {
        assert!(
            (share / (capacity / 3_000.0) - 1.0).abs() < 0.06,
            "{:?}",
            pool.shares()
        );
    }
}

#[test]
fn missing_readings_keep_a_share() {
    let capacities = [500.0, 1_500.0];
    let mut pool = Pool::of("capacity", &[100; 2]);
    pool.step();
    for _ in 0..40 {
        pool.carry(&capacities);
    }
    let before = pool.shares();
    // Its readings are missing; the probe still answers.
    for periods in 1..=30 {
        let last = pool.reals[1].load.utilisation;
        pool.load(&capacities);
        pool.reals[1].load.utilisation = last.map(|mut last| {
            last.age += seconds(5);
            last
        });
        pool.period();
        assert!(
            (pool.shares()[1] / before[1] - 1.0).abs() < 0.05,
            "{periods}"
        );
    }
}

#[test]
fn an_overloaded_real_is_halved_then_drained_then_recovers() {
    let spec = Steering {
        controller: Component::named("least-connections"),
        ..Steering::default()
    };
    let mut pool = Pool::new(spec, &[100; 5]);
    pool.step();
    let load = |pool: &mut Pool, utilisation: f64| {
        for real in &mut pool.reals {
            real.load.utilisation = fresh(0.5);
        }
        pool.reals[0].load.utilisation = fresh(utilisation);
        pool.period();
    };
    for _ in 0..2 {
        load(&mut pool, 0.93);
        assert_eq!(pool.limited_by(0), LimitedBy::Nothing);
    }
    for factor in [0.5, 0.25, 0.125, 0.1, 0.1] {
        load(&mut pool, 0.93);
        assert_eq!(pool.limited_by(0), LimitedBy::Overload(factor));
    }
    assert!(pool.shares()[0] > 0.0);
    for period in 1..=6 {
        load(&mut pool, 0.99);
        assert_eq!(
            pool.limited_by(0) == LimitedBy::OverloadDrain,
            period == 6,
            "{period}"
        );
    }
    assert_eq!(pool.weights()[0], 0);
    for _ in 0..5 {
        load(&mut pool, 0.80);
        assert_eq!(
            pool.limited_by(0),
            LimitedBy::OverloadDrain,
            "above overload_back"
        );
    }
    for period in 1..=6 {
        load(&mut pool, 0.70);
        assert_eq!(
            pool.limited_by(0) != LimitedBy::OverloadDrain,
            period == 6,
            "{period}"
        );
    }
    assert!(matches!(pool.limited_by(0), LimitedBy::SlowStart(_)));
}

#[test]
fn drains_by_load_are_bounded_and_suspended_in_panic() {
    let mut pool = Pool::of("least-connections", &[100; 10]);
    pool.step();
    for _ in 0..20 {
        for (number, real) in pool.reals.iter_mut().enumerate() {
            real.load.utilisation = fresh(if number < 5 { 0.99 } else { 0.02 });
        }
        pool.period();
    }
    let drained = |pool: &Pool| {
        (0..10)
            .filter(|number| pool.limited_by(*number) == LimitedBy::OverloadDrain)
            .count()
    };
    assert_eq!(drained(&pool), 3);
    for number in 6..9 {
        pool.reals[number].up = false;
    }
    pool.step();
    assert_eq!(
        drained(&pool),
        0,
        "4 of 10 are left: drains by load are suspended"
    );
    assert_eq!(pool.weights()[6..9], [0; 3], "dead reals get nothing");
    assert!((0..6).all(|number| pool.weights()[number] > 0));
}

#[test]
fn if_all_are_overloaded_none_is_drained() {
    let mut pool = Pool::of("capacity", &[100; 4]);
    pool.step();
    for _ in 0..20 {
        for real in &mut pool.reals {
            real.load.utilisation = fresh(1.0);
        }
        pool.period();
        assert!(
            pool.decisions
                .iter()
                .all(|decision| decision.limited_by == LimitedBy::Nothing)
        );
    }
}

#[test]
fn scarce_memory_reduces_a_share() {
    let mut pool = Pool::of("least-connections", &[100; 2]);
    pool.reals[0].load.memory = fresh(0.875);
    pool.step();
    for _ in 0..10 {
        pool.period();
    }
    assert!(
        matches!(pool.limited_by(0), LimitedBy::ScarceResource(factor) if (factor - 0.5).abs() < 1e-9)
    );
    assert!(
        (pool.shares()[0] - 1.0 / 3.0).abs() < 0.01,
        "{:?}",
        pool.shares()
    );
}

#[test]
fn movement_of_the_ring_is_bounded() {
    for (mean, most) in [(0.4, 0.1), (0.9, 0.1)] {
        let capacities = [400.0, 3_200.0, 400.0, 400.0];
        let mut pool = Pool::of("capacity", &[100; 4]);
        pool.flows = 4_400.0 * 5.0 * mean;
        pool.step();
        for _ in 0..60 {
            let before = pool.shares();
            pool.carry(&capacities);
            let moved: f64 = pool
                .shares()
                .iter()
                .zip(&before)
                .map(|(a, b)| (a - b).abs())
                .sum::<f64>()
                / 2.0;
            assert!(moved <= most + 1e-3, "{moved}");
            for (a, b) in pool.shares().iter().zip(&before) {
                assert!(a / b < 1.51 && b / a < 1.51, "{before:?}");
            }
        }
    }
}

#[test]
fn proportional_does_not_suit_long_connections() {
    let spec = Steering {
        controller: Component::named("proportional"),
        life: Auto(Some(seconds(3_600))),
        ..Steering::default()
    };
    let mut pool = Pool::new(spec, &[100, 200]);
    for _ in 0..5 {
        pool.carry(&[2_000.0, 5_000.0]);
    }
    assert_eq!(pool.weights(), [100, 200]);
    assert_eq!(pool.limited_by(0), LimitedBy::UnsuitableController);
    let mut pool = Pool::of("proportional", &[100, 200]);
    pool.step();
    for _ in 0..60 {
        pool.carry(&[2_000.0, 2_000.0]);
    }
    let shares = pool.shares();
    assert!((shares[0] - 0.5).abs() < 0.03, "{shares:?}");
}

#[test]
fn slow_answers_reduce_a_share_and_are_forgotten() {
    let mut pool = Pool::of("latency", &[100; 3]);
    pool.step();
    for real in &mut pool.reals {
        real.load.latency = fresh(0.010);
    }
    pool.reals[2].load.latency = fresh(0.040);
    for _ in 0..20 {
        pool.carry(&[2_000.0; 3]);
    }
    assert!((pool.shares()[2] - 0.2).abs() < 0.01, "{:?}", pool.shares());
    pool.reals[2].load.latency = fresh(0.010);
    for _ in 0..40 {
        pool.carry(&[2_000.0; 3]);
    }
    assert!(
        (pool.shares()[2] - 1.0 / 3.0).abs() < 0.015,
        "{:?}",
        pool.shares()
    );
}

#[test]
fn new_flows_go_where_connections_are_missing() {
    let mut pool = Pool::new(
        Steering {
            controller: Component::named("least-connections"),
            life: Auto(Some(seconds(3_600))),
            ..Steering::default()
        },
        &[100; 4],
    );
    for (real, connections) in pool
        .reals
        .iter_mut()
        .zip([30_000.0, 10_000.0, 10_000.0, 10_000.0])
    {
        real.load.connections = fresh(connections);
    }
    pool.step();
    for _ in 0..20 {
        pool.period();
    }
    let shares = pool.shares();
    assert!(shares[0] < 0.05, "{shares:?}");
    assert_eq!(pool.limited_by(0), LimitedBy::ConnectionSurplus);
    for real in &mut pool.reals {
        real.load.connections = fresh(15_000.0);
    }
    for _ in 0..20 {
        pool.period();
    }
    assert_eq!(pool.limited_by(0), LimitedBy::Nothing);
    assert!(
        (pool.shares()[0] - 0.25).abs() < 0.02,
        "{:?}",
        pool.shares()
    );
}

#[test]
fn quantisation_by_the_ring_is_corrected() {
    let mut pool = Pool::of("capacity", &[100; 2]);
    pool.step();
    for _ in 0..40 {
        pool.carry(&[1_500.0, 1_500.0]);
    }
    let before = pool.shares()[0];
    // The ring gives the first real 4 % less than its weight.
    let quantised = |pool: &mut Pool| {
        let share = pool.shares()[0] * 0.96;
        pool.reals[0].share = Some(share);
        pool.reals[1].share = Some(1.0 - share);
        pool.carry(&[1_500.0, 1_500.0]);
    };
    for _ in 0..5 {
        quantised(&mut pool);
    }
    let corrected = pool.shares()[0] * 0.96;
    assert!(
        (corrected / before - 1.0).abs() < 0.02,
        "{before} {corrected}"
    );
}

#[test]
fn steering_resumes_where_the_previous_agent_ended() {
    let mut pool = Pool::of("capacity", &[100; 2]);
    pool.steering.resume(
        pool.now,
        &[
            (pool.reals[0].address, 100, 150),
            (pool.reals[1].address, 100, 50),
        ],
    );
    for _ in 0..20 {
        pool.period();
        assert!(
            (pool.shares()[0] - 0.75).abs() < 0.01,
            "{:?}",
            pool.shares()
        );
    }
    // There was no reading for `fade_after`: the operator's weights apply again.
    pool.now += Steering::default().fade_after;
    for _ in 0..40 {
        pool.period();
    }
    assert!((pool.shares()[0] - 0.5).abs() < 0.01, "{:?}", pool.shares());
}
