//! Which shares move first and how far, and rebalancing of connections.

use super::pool::{Pool, fresh, seconds};
use crate::{
    Steering,
    movement::{Move, move_shares},
    rebalancing::{Holding, rebalancing_multiple},
};

/// A real with this weight and this wanted share.
fn to(weight: f64, wanted_share: f64, strain: f64) -> Move {
    Move {
        weight,
        wanted_share,
        dead_band: 0.03,
        strain,
        steady_share: 0.0,
    }
}

fn shares(moves: &[Move], steps: (f64, f64), most: f64) -> Vec<f64> {
    let moved = move_shares(moves, steps, most);
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
    // Gains are in proportion to what each lacks.
    let gains = (after[2] - 0.25) / (after[3] - 0.25);
    assert!((gains - 0.05 / 0.25).abs() < 0.02, "{after:?}");
    let moved: f64 = after.iter().map(|share| (share - 0.25).abs()).sum::<f64>() / 2.0;
    assert!(moved <= 0.10 + 1e-9, "{moved}");
    // With enough room each gets its share.
    let after = shares(&moves, (2.0, f64::INFINITY), 1.0);
    for (after, one) in after.iter().zip(&moves) {
        assert!((after - one.wanted_share).abs() < 1e-9);
    }
}

#[test]
fn no_more_is_lost_than_may_be_gained() {
    // All are too full but a new real, which may grow by half at most.
    let mut moves = vec![to(24.0, 0.01, 1.2); 4];
    moves.push(to(4.0, 0.96, 0.1));
    let after = shares(&moves, (1.5, f64::INFINITY), 0.10);
    for share in &after[..4] {
        assert!((share - 0.235).abs() < 0.001, "{after:?}");
    }
    assert!((after[4] - 0.06).abs() < 0.001, "{after:?}");
}

#[test]
fn inferred_connections_bound_rebalancing() {
    let multiple = |connections: f64, inferred| {
        let holding = Holding {
            share: 0.5,
            connections,
            uncertainty: 0.0,
            rebalancing: false,
            inferred,
        };
        rebalancing_multiple(&Steering::default(), holding, 20_000.0, 3_600.0).0
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
fn unseen_closes_starve_no_real() {
    // One of ten short flows seems never to close. After hours a real's capacity halves.
    let mut pool = Pool::of("capacity", &[100; 4]);
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
    assert!(pool.steering.life() > Some(seconds(600)));
    capacities[0] = 500.0;
    for _ in 0..60 {
        period(&mut pool, &capacities);
        assert!(pool.shares()[0] > 0.05, "{:?}", pool.shares());
    }
}

#[test]
fn a_share_returns_from_rebalancing_at_once() {
    let back = |steady_share: f64| {
        let mut moves = [to(0.5, 0.10, 1.0), to(99.5, 0.90, 1.0)];
        moves[0].steady_share = steady_share;
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
