//! Learning from readings: noise, drift, saturated reals, late readings, silence.

use std::time::Duration;

use super::pool::{Pool, USUAL_LIFE, fresh, seconds};
use crate::{
    Steering,
    drift::Drift,
    estimate::{CapacityEstimate, Reading},
    lag::Lag,
};

/// A reading of the period with this number.
fn reading(number: u64, carried: f64, utilisation: f64) -> Reading {
    Reading {
        at: seconds(5 * number),
        carried,
        utilisation,
        mean: 0.6,
        noise: 0.0,
        may_rise: true,
        served: None,
    }
}

/// An estimate after readings of these utilisations while 60 was carried.
fn learned(utilisations: impl IntoIterator<Item = f64>) -> CapacityEstimate {
    let mut capacity = CapacityEstimate::default();
    for (number, utilisation) in (1..).zip(utilisations) {
        capacity.learn(&Steering::default(), reading(number, 60.0, utilisation));
    }
    capacity
}

fn near(capacity: &CapacityEstimate, expected: f64, part: f64) {
    let value = capacity.value().unwrap();
    assert!((value / expected - 1.0).abs() < part, "{value}");
}

#[test]
fn a_drift_is_distinguished_from_noise() {
    let after = |readings: &[f64]| {
        let mut drift = Drift::default();
        readings.iter().find_map(|off| drift.observe(*off, 2.0))
    };
    for (readings, found) in [
        (&[9.0][..], None),
        (&[9.0, 9.0], Some(2.0)),
        (&[-9.0, -9.0], Some(2.0)),
        (&[9.0, -9.0, 9.0, -9.0], None),
        (&[9.0, 0.0, 0.0, 0.0, 0.0, 0.0], None),
        (&[3.0, 3.0, 3.0], None),
        (&[3.0, 3.0, 3.0, 3.0], Some(4.0)),
        (&[-1.75; 7], None),
        (&[-1.75; 8], Some(8.0)),
        (&[0.7; 1_000], None),
        // Earlier deviations to the other side do not count.
        (&[-4.0, 9.0, 9.0], Some(2.0)),
    ] {
        let found_here = after(readings);
        assert_eq!(found_here.map(|(_, count)| count), found, "{readings:?}");
        if let Some((measured, _)) = found_here {
            assert!((measured - 2.0).abs() < 1e-9);
        }
    }
}

#[test]
fn a_first_reading_that_the_next_contradicts_is_forgotten() {
    // The load had only just begun at the first reading.
    let capacity = learned([0.3, 0.6]);
    near(&capacity, 100.0, 0.001);
    // It does not count as noise, either.
    let quiet = learned([0.6, 0.6]);
    let deviations = [capacity, quiet].map(|capacity| capacity.deviation());
    assert_eq!(deviations[0], None);
    assert!(deviations[1].is_some());
    // Two readings are not forgotten for a third.
    let value = learned([0.6, 0.6, 0.3]).value().unwrap();
    assert!(value < 140.0, "{value}");
    // Readings that are close are averaged.
    near(
        &learned([0.55, 0.65]),
        60.0 / (0.55f64 * 0.65).sqrt(),
        0.001,
    );
}

#[test]
fn noisier_readings_count_less() {
    let shifted = |deviation: f64| {
        let alternating = (0..80).map(|number| {
            let sign = if number % 2 == 0 { 1.0 } else { -1.0 };
            0.6 * (1.0 + sign * deviation)
        });
        let before = learned(alternating.clone());
        let after = learned(alternating.chain([0.6 * 0.9]));
        assert!(!before.is_learning(&Steering::default()));
        (after.value().unwrap() / before.value().unwrap()).ln()
    };
    let (quiet, noisy) = (shifted(0.01), shifted(0.10));
    assert!(quiet > 0.008, "{quiet}");
    assert!(noisy > 0.0 && noisy < quiet / 2.0, "{noisy} {quiet}");
}

#[test]
fn a_quiet_real_in_a_noisy_pool_counts_as_noisy() {
    let jump = |noise: f64| {
        let mut capacity = learned([0.6; 30]);
        for number in 31..34 {
            let reading = Reading {
                noise,
                ..reading(number, 60.0, 0.6 * 1.3)
            };
            capacity.learn(&Steering::default(), reading);
        }
        capacity
    };
    near(&jump(0.03), 100.0 / 1.3, 0.01);
    near(&jump(0.20), 100.0, 0.06);
}

#[test]
fn a_change_is_adopted_when_it_comes_twice() {
    let capacity = learned([0.6; 30].into_iter().chain([0.3]));
    near(&capacity, 100.0, 0.10);
    let capacity = learned([0.6; 30].into_iter().chain([0.3, 0.3]));
    near(&capacity, 200.0, 0.001);
    let capacity = learned([0.6; 30].into_iter().chain([0.3, 0.6, 0.6, 0.6]));
    near(&capacity, 100.0, 0.08);
}

#[test]
fn a_saturated_real_is_guessed_until_it_recovers() {
    // All that is known is that it is saturated: its capacity is less than what it carries.
    let mut capacity = learned([1.0]);
    near(&capacity, 0.7 * 60.0, 0.001);
    capacity.learn(&Steering::default(), reading(2, 42.0, 1.0));
    near(&capacity, 0.7 * 42.0, 0.001);
    // Noise may lower the reading of a saturated real, so one is not enough.
    capacity.learn(&Steering::default(), reading(3, 42.0, 0.87));
    near(&capacity, 0.7 * 42.0, 0.001);
    capacity.learn(&Steering::default(), reading(4, 30.0, 0.75));
    near(&capacity, 40.0, 0.001);
}

#[test]
fn one_reading_does_not_make_a_known_real_saturated() {
    let capacity = learned([0.6; 30].into_iter().chain([1.0]));
    near(&capacity, 100.0, 0.10);
    let capacity = learned([0.6; 30].into_iter().chain([1.0, 1.0]));
    near(&capacity, 0.7 * 60.0, 0.001);
    // A higher utilisation is not saturation: the capacity became smaller.
    let capacity = learned([0.6; 30].into_iter().chain([0.8, 0.8, 0.8]));
    near(&capacity, 75.0, 0.001);
    // If all are saturated, it has no less than they.
    let mut all = CapacityEstimate::default();
    for number in 1..20 {
        let reading = Reading {
            mean: 0.98,
            ..reading(number, 60.0, 0.99)
        };
        all.learn(&Steering::default(), reading);
    }
    near(&all, 60.0 / 0.99, 0.001);
}

#[test]
fn silence_raises_no_estimate() {
    let spec = Steering::default();
    for (target, expected) in [(300.0, 100.0), (50.0, 50.0)] {
        let mut capacity = learned([0.6; 5]);
        for _ in 0..200 {
            capacity.fade(&spec, 5.0, target);
        }
        near(&capacity, expected, 0.01);
    }
}

#[test]
fn the_delay_of_readings_is_detected() {
    let period = seconds(5);
    for delay in 0..4u32 {
        // The carried load goes up and down; utilisation follows after the delay.
        let carried = |at: f64| 100.0 * 1.3f64.powf((at * at * 0.37).sin());
        let mut lag = Lag::default();
        for now in 10..40 {
            let now = f64::from(now);
            let utilisation = |at: f64| carried(at - f64::from(delay));
            lag.observe(period, utilisation(now) / utilisation(now - 1.0), |late| {
                let late = late.as_secs_f64() / 5.0;
                Some(carried(now - late) / carried(now - 1.0 - late))
            });
            lag.end_period();
        }
        assert_eq!(lag.time(period), period * delay);
    }
    // Noise alone reveals no delay.
    let mut lag = Lag::default();
    for number in 0..100 {
        let noise = 1.0 + 0.03 * f64::from(number % 3 - 1);
        lag.observe(period, noise, |late| {
            Some(1.0 + 0.01 * f64::from((number + late.as_secs() as i32) % 5 - 2))
        });
        assert!(!lag.end_period());
    }
    assert_eq!(lag.time(period), Duration::ZERO);
}

#[test]
fn an_unreported_delay_does_not_make_shares_oscillate() {
    let capacities = [500.0, 1_000.0, 2_000.0, 500.0];
    let mut pool = Pool::of("capacity", &[100; 4]);
    let mut late = std::collections::VecDeque::new();
    pool.step();
    for period in 0..60 {
        let shares = pool.shares();
        late.push_back(shares.clone());
        for (real, share) in pool.reals.iter_mut().zip(&shares) {
            let new = (share * 10_000.0) as u64;
            real.opened += new;
            real.closed = real.opened;
            let signs = real.signs.get_or_insert_default();
            signs.opened += new;
            signs.lives[USUAL_LIFE] += new;
        }
        if late.len() > 2 {
            let then = late.pop_front().unwrap();
            for ((real, share), capacity) in pool.reals.iter_mut().zip(then).zip(capacities) {
                real.load.utilisation = fresh((share * 2_000.0 / capacity).min(1.0));
            }
        }
        pool.period();
        if period > 25 {
            for (share, capacity) in pool.shares().iter().zip(capacities) {
                let off = share / (capacity / 4_000.0);
                assert!((off - 1.0).abs() < 0.06, "{period}: {:?}", pool.shares());
            }
        }
    }
}
