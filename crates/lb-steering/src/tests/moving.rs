//! What moves first, and how far.

use super::pool::{Pool, fresh, seconds};
use crate::{
    law::{Holding, deficit},
    movement::{Move, movement},
    spec::{Kind, Steering},
};

/// One that has `has` and is to have `wanted`.
fn to(has: f64, wanted: f64, strain: f64) -> Move {
    Move {
        has,
        wanted,
        deadband: 0.03,
        strain,
        lasting: 0.0,
    }
}

fn shares(moves: &[Move], steps: (f64, f64), most: f64) -> Vec<f64> {
    let moved = movement(moves, steps, most);
    let sum: f64 = moved.iter().map(|one| one.share).sum();
    assert!((sum - 1.0).abs() < 1e-9);
    moved.iter().map(|one| one.share).collect()
}

#[test]
fn the_most_strained_is_relieved_first() {
    let moves = [
        to(25.0, 0.05, 4.0),
        to(25.0, 0.15, 1.5),
        to(25.0, 0.30, 0.6),
        to(25.0, 0.50, 0.4),
    ];
    let after = shares(&moves, (2.0, f64::INFINITY), 0.10);
    assert!(0.25 - after[0] > 0.09, "{after:?}");
    assert!(0.25 - after[1] < 0.01, "{after:?}");
    // Those that gain do so in proportion to what they lack.
    let gains = (after[2] - 0.25) / (after[3] - 0.25);
    assert!((gains - 0.05 / 0.25).abs() < 0.02, "{after:?}");
    let moved: f64 = after.iter().map(|share| (share - 0.25).abs()).sum::<f64>() / 2.0;
    assert!(moved <= 0.10 + 1e-9, "{moved}");
    // With room for all of it everyone gets its share.
    let after = shares(&moves, (2.0, f64::INFINITY), 1.0);
    for (after, one) in after.iter().zip(&moves) {
        assert!((after - one.wanted).abs() < 1e-9);
    }
}

#[test]
fn nobody_loses_what_nobody_may_take() {
    // All are too full but a joiner, and that takes half as much again at most.
    let mut moves = vec![to(24.0, 0.01, 1.2); 4];
    moves.push(to(4.0, 0.96, 0.1));
    let after = shares(&moves, (1.5, f64::INFINITY), 0.10);
    for share in &after[..4] {
        assert!((share - 0.235).abs() < 0.001, "{after:?}");
    }
    assert!((after[4] - 0.06).abs() < 0.001, "{after:?}");
}

#[test]
fn what_is_only_reckoned_is_evened_out_with_care() {
    let multiple = |connections: f64, reckoned| {
        let holding = Holding {
            share: 0.5,
            connections,
            uncertainty: 0.0,
            evening: false,
            reckoned,
        };
        deficit(&Steering::default(), holding, 20_000.0, 3_600.0).0
    };
    let least = Steering::default().deficit_least;
    assert_eq!(
        (multiple(15_000.0, false), multiple(15_000.0, true)),
        (least, 0.5)
    );
    assert_eq!(
        (multiple(5_000.0, false), multiple(5_000.0, true)),
        (3.0, 1.5)
    );
    assert_eq!(
        (multiple(10_000.0, false), multiple(10_000.0, true)),
        (1.0, 1.0)
    );
}

#[test]
fn closes_that_nobody_saw_starve_nobody() {
    // Of short flows one of ten seems to stay for ever. After hours a real's capacity becomes half of what it was.
    let mut pool = Pool::of(Kind::Capacity, &[100; 4]);
    let mut capacities = [1_000.0; 4];
    pool.step();
    let period = |pool: &mut Pool, capacities: &[f64]| {
        let shares = pool.shares();
        for ((real, share), capacity) in pool.reals.iter_mut().zip(shares).zip(capacities) {
            let flows = share * 10_000.0;
            real.opened += flows as u64;
            real.closed += (flows * 0.9) as u64;
            real.load.utilisation = fresh((flows / 5.0 / capacity).min(1.0));
        }
        pool.period();
    };
    for _ in 0..2_000 {
        period(&mut pool, &capacities);
    }
    assert!(pool.controller.life() > Some(seconds(600)));
    capacities[0] = 500.0;
    for _ in 0..60 {
        period(&mut pool, &capacities);
        assert!(pool.shares()[0] > 0.05, "{:?}", pool.shares());
    }
}

#[test]
fn what_was_taken_to_even_out_comes_back_at_once() {
    let back = |lasting: f64| {
        let mut moves = [to(0.5, 0.10, 1.0), to(99.5, 0.90, 1.0)];
        moves[0].lasting = lasting;
        shares(&moves, (1.5, f64::INFINITY), 0.10)[0]
    };
    assert!((back(0.0) - 0.0075).abs() < 1e-6);
    assert!((back(0.10) - 0.10).abs() < 1e-6);
}

#[test]
fn short_flows_fall_in_steps() {
    let moves = [to(50.0, 0.10, 2.0), to(50.0, 0.90, 0.5)];
    let after = shares(&moves, (1.5, 1.5), 1.0);
    assert!((after[0] - 0.5 / 1.5).abs() < 0.1, "{after:?}");
}
