//! Health, drains and agents' commands, which take effect at once.

use super::pool::{Pool, fresh, kinds, real, seconds};
use crate::{AgentCommand, LimitedBy, Sample, Steering};

#[test]
fn without_readings_weights_are_the_operators() {
    for kind in kinds() {
        let mut pool = Pool::of(kind, &[100, 1, 65_535, 0]);
        for _ in 0..20 {
            pool.period();
            assert_eq!(pool.weights(), [100, 1, 65_535, 0], "{kind}");
        }
        assert_eq!(pool.limited_by(3), LimitedBy::WeightZero);
        assert_eq!(pool.limited_by(0), LimitedBy::Nothing);
        pool.reals[1].weight = 50;
        pool.step();
        assert_eq!(pool.weights(), [100, 50, 65_535, 0], "{kind}: at once");
    }
}

#[test]
fn drains_health_and_commands_take_effect_at_once() {
    for kind in kinds() {
        let mut pool = Pool::of(kind, &[100; 6]);
        for _ in 0..10 {
            pool.carry(&[2_000.0, 500.0, 1_000.0, 500.0, 500.0, 500.0]);
        }
        pool.reals[0].weight = 0;
        pool.reals[1].drained = true;
        pool.reals[2].up = false;
        pool.reals[3].wants_drain = true;
        pool.reals[4].load.command = Some(AgentCommand::Maintenance);
        pool.step();
        assert_eq!(pool.weights()[..5], [0; 5], "{kind}");
        assert!(pool.weights()[5] > 0);
        let limits: Vec<LimitedBy> = (0..5).map(|number| pool.limited_by(number)).collect();
        assert_eq!(
            limits,
            [
                LimitedBy::WeightZero,
                LimitedBy::Drained,
                LimitedBy::Down,
                LimitedBy::ProbeDrain,
                LimitedBy::AgentCommand
            ]
        );
        pool.reals[5].up = false;
        pool.step();
        assert_eq!(
            pool.weights(),
            [0; 6],
            "{kind}: no real is left, dead ones get nothing"
        );
    }
}

#[test]
fn a_death_keeps_the_ratios_of_the_others() {
    let mut pool = Pool::of("capacity", &[100; 4]);
    for _ in 0..30 {
        pool.carry(&[1_000.0, 2_000.0, 500.0, 1_500.0]);
    }
    let before = pool.weights();
    pool.reals[1].up = false;
    pool.step();
    let after = pool.weights();
    assert_eq!(after[1], 0);
    let ratio = f64::from(after[0]) / f64::from(before[0]);
    for number in [0, 2, 3] {
        let own = f64::from(after[number]) / f64::from(before[number]);
        assert!((own / ratio - 1.0).abs() < 1e-3, "{before:?} {after:?}");
    }
}

#[test]
fn a_real_that_comes_up_is_in_slow_start() {
    for kind in kinds() {
        let mut pool = Pool::of(kind, &[100, 100]);
        pool.period();
        pool.reals[1].up = false;
        pool.step();
        pool.wait(seconds(7));
        pool.reals[1].up = true;
        pool.reals[1].since_up = seconds(0);
        pool.step();
        let share = pool.shares()[1];
        assert!((share - 10.0 / 110.0).abs() < 0.001, "{kind} {share}");
        // It is reported at once, instead of what limited the real before it went down.
        assert!(
            matches!(pool.limited_by(1), LimitedBy::SlowStart(_)),
            "{kind}"
        );
        let mut last = share;
        for _ in 0..12 {
            assert!(
                matches!(
                    pool.limited_by(1),
                    LimitedBy::SlowStart(_) | LimitedBy::Nothing
                ),
                "{kind}"
            );
            pool.period();
            let share = pool.shares()[1];
            assert!(share >= last && share <= 0.5, "{kind}: {last} {share}");
            last = share;
        }
        pool.period();
        assert_eq!(pool.weights(), [100, 100], "{kind}");
    }
}

#[test]
fn a_new_pool_has_no_slow_start() {
    let mut pool = Pool::of("static", &[100, 300]);
    for real in &mut pool.reals {
        real.since_up = seconds(0);
    }
    pool.step();
    let shares = pool.shares();
    assert!((shares[0] - 0.25).abs() < 0.001, "{shares:?}");
}

#[test]
fn a_flapping_real_is_held_down_longer_each_time() {
    let mut pool = Pool::of("capacity", &[100, 100]);
    pool.step();
    let change = |pool: &mut Pool, up: bool| {
        pool.wait(seconds(2));
        pool.reals[1].up = up;
        pool.reals[1].since_up = seconds(0);
        pool.step();
    };
    let held = |pool: &mut Pool| {
        let mut time = 0;
        while matches!(pool.limited_by(1), LimitedBy::HeldDown(_)) {
            assert_eq!(pool.weights()[1], 0);
            pool.wait(seconds(1));
            pool.step();
            time += 1;
            assert!(time < 1_000);
        }
        assert!(pool.weights()[1] > 0);
        time
    };
    change(&mut pool, false);
    change(&mut pool, true);
    assert_eq!(held(&mut pool), 0, "two changes are not flapping");
    for expected in [30, 60, 120, 240, 300, 300] {
        change(&mut pool, false);
        assert_eq!(pool.limited_by(1), LimitedBy::Down);
        change(&mut pool, true);
        assert_eq!(held(&mut pool), expected);
    }
    // After a quiet time the hold starts with the shortest again.
    pool.wait(seconds(700));
    change(&mut pool, false);
    change(&mut pool, true);
    assert_eq!(held(&mut pool), 0);
    change(&mut pool, false);
    change(&mut pool, true);
    assert_eq!(held(&mut pool), 30);
}

#[test]
fn the_only_real_is_not_held_down() {
    let mut pool = Pool::of("static", &[100]);
    for up in [true, false, true, false, true] {
        pool.wait(seconds(2));
        pool.reals[0].up = up;
        pool.step();
        assert_eq!(pool.weights()[0] > 0, up);
    }
}

#[test]
fn agents_ask_for_multiples_of_weights() {
    let mut pool = Pool::of("agent-check", &[100, 100, 100]);
    pool.reals[0].load.agent_weight = fresh(0.5);
    pool.reals[1].load.agent_weight = fresh(0.0);
    pool.period();
    let shares = pool.shares();
    assert!((shares[0] - 1.0 / 3.0).abs() < 0.001, "{shares:?}");
    assert_eq!(pool.weights()[1], 0);
    // It is silent: its last value holds.
    pool.reals[0].load.agent_weight.as_mut().unwrap().age = seconds(900);
    pool.period();
    assert!((pool.shares()[0] - 1.0 / 3.0).abs() < 0.001);
}

#[test]
fn a_silent_real_is_not_drained_for_ever() {
    let mut pool = Pool::of("least-connections", &[100; 4]);
    pool.step();
    let load = |pool: &mut Pool, first: Option<Sample>| {
        for real in &mut pool.reals {
            real.load.utilisation = fresh(0.4);
        }
        pool.reals[0].load.utilisation = first;
        pool.period();
    };
    for _ in 0..10 {
        load(&mut pool, fresh(0.99));
    }
    assert_eq!(pool.limited_by(0), LimitedBy::OverloadDrain);
    // Its reader fails. For a while the drain holds.
    load(&mut pool, None);
    let mut old = fresh(0.99).unwrap();
    old.age = Steering::default().fade_after;
    load(&mut pool, Some(old));
    for _ in 0..20 {
        load(&mut pool, None);
    }
    assert!(pool.shares()[0] > 0.2, "{:?}", pool.shares());
}

#[test]
fn a_real_without_flows_does_not_disable_connection_counts() {
    let mut pool = Pool::of("least-connections", &[100, 100, 0]);
    for (real, open) in pool.reals.iter_mut().zip([3_000, 1_000, 0]) {
        real.opened = open;
    }
    pool.step();
    for _ in 0..10 {
        // Connections of both live as long.
        for (real, closed) in pool.reals.iter_mut().zip([15, 5]) {
            real.opened += 10;
            real.closed += closed;
        }
        pool.period();
    }
    assert!(pool.shares()[0] < 0.4, "{:?}", pool.shares());
}

#[test]
fn a_real_without_weight_waits_after_a_restart() {
    let mut pool = Pool::of("agent-check", &[100; 3]);
    let last: Vec<_> = pool
        .reals
        .iter()
        .zip([10, 100, 0])
        .map(|(real, had)| (real.address, 100, had))
        .collect();
    pool.steering.resume(pool.now, &last);
    pool.step();
    // No agent has reported yet.
    assert_eq!(pool.weights()[2], 0);
    assert!(
        (pool.shares()[0] - 10.0 / 110.0).abs() < 0.01,
        "{:?}",
        pool.shares()
    );
    for real in &mut pool.reals {
        real.load.agent_weight = fresh(0.5);
    }
    for _ in 0..16 {
        pool.period();
    }
    for share in pool.shares() {
        assert!((share - 1.0 / 3.0).abs() < 0.01);
    }
}

#[test]
fn a_real_that_joins_right_after_the_first_gets_as_much() {
    let mut pool = Pool::of("capacity", &[100]);
    pool.reals[0].since_up = seconds(0);
    pool.step();
    pool.wait(seconds(1));
    let mut second = real(1, 100);
    second.since_up = seconds(0);
    pool.reals.push(second);
    pool.step();
    // Both are in slow start, one of them for a second longer.
    assert!(pool.shares()[1] > 0.4, "{:?}", pool.shares());
}

#[test]
fn reals_that_come_up_one_after_another_are_one_start() {
    for kind in kinds() {
        let mut pool = Pool::of(kind, &[100]);
        pool.reals[0].since_up = seconds(0);
        pool.step();
        let join = |pool: &mut Pool, number: usize| {
            pool.wait(seconds(2));
            let mut real = real(number, 100 * (number as u32 + 1));
            real.since_up = seconds(0);
            pool.reals.push(real);
            pool.step();
        };
        join(&mut pool, 1);
        join(&mut pool, 2);
        // The ring does not move while all of them are in slow start, nor when it ends.
        for _ in 0..16 {
            assert_eq!(pool.weights(), [100, 200, 300], "{kind}");
            pool.period();
        }
        // The others are warm by now.
        join(&mut pool, 3);
        assert!(
            matches!(pool.limited_by(3), LimitedBy::SlowStart(_)),
            "{kind}: {:?}",
            pool.limited_by(3)
        );
        assert!(pool.shares()[3] < 0.1, "{kind}: {:?}", pool.shares());
    }
}

#[test]
fn a_real_without_a_check_is_not_held_down() {
    let mut pool = Pool::of("static", &[100, 100]);
    pool.step();
    for up in [false, true, false, true] {
        pool.wait(seconds(2));
        pool.reals[1].up = up;
        pool.step();
    }
    assert!(matches!(pool.limited_by(1), LimitedBy::HeldDown(_)));
    pool.steering.forget_health(pool.reals[1].address);
    pool.step();
    assert!(pool.weights()[1] > 0);
}
