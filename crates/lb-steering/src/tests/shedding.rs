//! Shedding of connections.

use super::pool::{Pool, fresh, seconds};
use crate::{LimitedBy, Steering};
use lb_model::{component::Component, settings::Auto};

/// Connections live for an hour, and four a second may be ended.
fn long_lived() -> Steering {
    Steering {
        controller: Component::named("least-connections"),
        life: Auto(Some(seconds(3_600))),
        shed_rate: 4.0,
        ..Steering::default()
    }
}

#[test]
fn shedding_is_bounded_by_rate_room_and_gains() {
    let mut pool = Pool::new(long_lived(), &[100; 2]);
    let shed = |pool: &mut Pool, connections: [f64; 2]| {
        for (real, connections) in pool.reals.iter_mut().zip(connections) {
            real.load.connections = fresh(connections);
        }
        pool.period()
            .iter()
            .map(|decision| decision.shed.unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        shed(&mut pool, [3_000.0, 1_000.0]),
        [1, 0],
        "it starts with one"
    );
    assert_eq!(shed(&mut pool, [2_980.0, 1_020.0]), [20, 0], "the rate");
    assert_eq!(
        shed(&mut pool, [2_960.0, 1_020.0]),
        [1, 0],
        "the other real got no connection"
    );
    assert_eq!(
        shed(&mut pool, [2_150.0, 1_850.0]),
        [20, 0],
        "still over 1.05 times its share"
    );
    assert_eq!(shed(&mut pool, [2_050.0, 1_950.0]), [0, 0], "not needed");
    assert_eq!(
        shed(&mut pool, [2_150.0, 1_850.0]),
        [0, 0],
        "below 1.1 times its share"
    );
    shed(&mut pool, [60.0, 20.0]);
    assert_eq!(
        shed(&mut pool, [60.0, 40.0]),
        [10, 0],
        "the other lacks only 10"
    );
    // Between periods the last number applies, but nothing is shed of a real that may have no flows.
    pool.reals[0].drained = true;
    let shed: Vec<_> = pool.step().iter().map(|decision| decision.shed).collect();
    assert_eq!(shed, [Some(0), None]);
}

#[test]
fn connections_are_shed_for_a_real_without_any() {
    let mut pool = Pool::new(
        Steering {
            controller: Component::named("static"),
            shed_rate: 1.0,
            ..Steering::default()
        },
        &[100; 2],
    );
    // All were opened before the second joined, so the balancer has no count for it.
    pool.reals[0].opened = 50;
    pool.period();
    let decision = &pool.period()[0];
    assert_eq!(decision.shed, Some(1));
    assert_eq!(decision.limited_by, LimitedBy::Shedding(1));
}

#[test]
fn a_real_that_is_drained_by_load_is_shed_too() {
    let mut pool = Pool::new(long_lived(), &[100; 4]);
    for _ in 0..20 {
        for (number, real) in pool.reals.iter_mut().enumerate() {
            let first = number == 0;
            real.load.utilisation = fresh(if first { 0.99 } else { 0.4 });
            real.load.connections = fresh(if first { 3_000.0 } else { 1_000.0 });
        }
        pool.period();
    }
    assert_eq!(pool.limited_by(0), LimitedBy::OverloadDrain);
    // The others gain no connections.
    assert_eq!(pool.decisions[0].shed, Some(1));
    pool.reals[0].drained = true;
    pool.step();
    assert_eq!(pool.decisions[0].shed, Some(0), "drained by the operator");
}

#[test]
fn a_real_that_is_evacuated_gives_all_it_has_at_the_rate_of_the_vip() {
    let mut pool = Pool::new(long_lived(), &[100; 3]);
    let mut counts = [400.0, 400.0, 400.0];
    let mut shed_in_all = 0.0;
    for period in 0..60 {
        for (real, count) in pool.reals.iter_mut().zip(counts) {
            real.load.connections = fresh(count);
        }
        pool.period();
        let limit = pool.limited_by(0);
        if period == 4 {
            assert_eq!(limit, LimitedBy::Nothing);
            pool.reals[0].evacuated = true;
            pool.step();
            assert_eq!(pool.limited_by(0), LimitedBy::Nothing, "it is not drained");
            pool.reals[0].drained = true;
        } else if period > 4 {
            assert_eq!(limit, LimitedBy::Evacuated);
            let flows: Vec<f64> = pool
                .decisions
                .iter()
                .map(|decision| f64::from(decision.shed.unwrap()))
                .collect();
            // 4 a second for 5 s, and at first no more than the others are known to take.
            assert!(
                flows[0] <= if period == 5 { 1.0 } else { 20.0 },
                "{flows:?}"
            );
            assert_eq!(flows[1..], [0.0, 0.0]);
            shed_in_all += flows[0];
            counts[0] -= flows[0];
            counts[1] += flows[0] / 2.0;
            counts[2] += flows[0] / 2.0;
        }
    }
    assert_eq!((counts[0], shed_in_all), (0.0, 400.0));
    // One that is down or back has nothing to give.
    pool.reals[0].drained = false;
    pool.period();
    assert_ne!(pool.limited_by(0), LimitedBy::Evacuated);
}

#[test]
fn without_a_rate_nobody_is_evacuated() {
    let mut pool = Pool::new(Steering::default(), &[100; 2]);
    pool.reals[0].load.connections = fresh(100.0);
    (pool.reals[0].drained, pool.reals[0].evacuated) = (true, true);
    pool.period();
    pool.period();
    assert_eq!(pool.decisions[0].shed, Some(0));
    assert_eq!(pool.limited_by(0), LimitedBy::Drained);
}
