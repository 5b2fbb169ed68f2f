//! Signs of trouble, loans, trust, and the fallback to the operator's weights.

use super::pool::{Pool, SAMPLED, USUAL_LIFE as USUAL, fresh, seconds};
use crate::{Doubt, Fallback, LIFE_BUCKETS, LimitedBy, Safety, Sign, Signs};

/// Flows a second that each real takes at utilisation 1.
const CAPACITY: f64 = 1_000.0;

/// Plays a period, at the end of which `sign` adds to what clients of each real's new flows showed, and decides.
fn carry(
    pool: &mut Pool,
    capacities: &[f64],
    mut sign: impl FnMut(usize, u64, &mut Signs),
    change: impl FnOnce(&mut Pool),
) {
    let before: Vec<_> = pool
        .reals
        .iter()
        .map(|real| (real.opened, real.signs.unwrap_or_default()))
        .collect();
    pool.load(capacities);
    for (number, (opened, before)) in before.into_iter().enumerate() {
        let new = (pool.reals[number].opened - opened) / SAMPLED;
        let signs = pool.reals[number].signs.insert(before);
        signs.opened += new;
        sign(number, new, signs);
    }
    change(pool);
    pool.period();
}

/// All flows live as long as usual.
fn usual(_: usize, new: u64, signs: &mut Signs) {
    signs.lives[USUAL] += new;
}

/// Four equal reals at half their capacity, which have served for two minutes.
fn settled(controller: &str) -> Pool {
    let mut pool = Pool::of(controller, &[100; 4]);
    pool.step();
    for _ in 0..24 {
        carry(&mut pool, &[CAPACITY; 4], usual, |_| {});
    }
    pool
}

fn sign_of(pool: &Pool, number: usize) -> Sign {
    match pool.limited_by(number) {
        LimitedBy::Sign(sign, _) => sign,
        other => panic!("{other:?}, decisions {:?}", pool.decisions),
    }
}

/// Asserts that the real has at most the operator's share, but for the steps of the ring.
fn assert_at_most_due(pool: &Pool, number: usize) {
    let share = pool.shares()[number];
    assert!(share <= 0.25 * 1.01, "{share}, {:?}", pool.decisions);
}

#[test]
fn a_real_whose_flows_end_too_soon_gets_no_more_than_its_share() {
    for controller in ["capacity", "least-connections", "proportional"] {
        let mut pool = settled(controller);
        for _ in 0..20 {
            // It fails at a tenth of the work, so it looks ten times as capable.
            let capacities = [10.0 * CAPACITY, CAPACITY, CAPACITY, CAPACITY];
            carry(
                &mut pool,
                &capacities,
                |number, new, signs| signs.lives[if number == 0 { 1 } else { USUAL }] += new,
                |_| {},
            );
            assert_at_most_due(&pool, 0);
        }
        let Sign::EndsSooner { times } = sign_of(&pool, 0) else {
            panic!("{:?}", pool.decisions);
        };
        assert!((6.0..32.0).contains(&times), "{controller}: {times}");
    }
}

#[test]
fn a_larger_real_is_no_suspect_while_the_others_are_saturated() {
    let capacities = [400.0, 400.0, 2_000.0, 2_000.0];
    let mut pool = Pool::of("capacity", &[100; 4]);
    pool.step();
    for _ in 0..24 {
        let full: Vec<bool> = pool
            .shares()
            .iter()
            .map(|share| share * 2_000.0 > 390.0)
            .collect();
        carry(
            &mut pool,
            &capacities,
            |number, new, signs| {
                let waits = number < 2 && full[number];
                signs.lives[if waits { 11 } else { USUAL }] += new;
                signs.repeated += if waits { new / 2 } else { 0 };
            },
            |_| {},
        );
    }
    let shares = pool.shares();
    assert!(shares[2] > 0.35 && shares[3] > 0.35, "{shares:?}");
}

#[test]
fn a_raised_real_that_queues_gives_its_loan_back() {
    let mut pool = settled("capacity");
    let mut most: f64 = 0.0;
    let mut signs_seen = 0;
    for _ in 0..40 {
        // Its disk is the bottleneck, and utilisation is that of its idle processors.
        let share = pool.shares()[0];
        most = most.max(share);
        carry(
            &mut pool,
            &[4.0 * CAPACITY, CAPACITY, CAPACITY, CAPACITY],
            |number, new, signs| {
                let queues = number == 0 && share > 0.27;
                signs.lives[if queues { 9 } else { USUAL }] += new;
            },
            |_| {},
        );
        if let LimitedBy::Sign(Sign::LastsLonger { .. }, left) = pool.limited_by(0) {
            signs_seen += 1;
            assert_at_most_due(&pool, 0);
            assert!(left <= seconds(1_800));
        }
    }
    assert!(signs_seen > 10 && most < 0.36, "{signs_seen}, {most}");
}

#[test]
fn a_real_whose_flows_have_always_waited_is_lent_nothing() {
    // From the first flow on, and with few or many of them.
    for flows in [100.0, 200.0] {
        let mut pool = Pool::of("capacity", &[100; 4]);
        pool.flows = flows;
        let capacity = flows / 5.0 / 2.0;
        pool.step();
        for _ in 0..20 {
            carry(
                &mut pool,
                &[4.0 * capacity, capacity, capacity, capacity],
                |number, new, signs| signs.lives[if number == 0 { 9 } else { USUAL }] += new,
                |_| {},
            );
            let share = pool.shares()[0];
            assert!(
                share <= 0.25 * 1.015,
                "{flows}: {share}, {:?}",
                pool.decisions
            );
        }
        let Sign::LastsLonger { times } = sign_of(&pool, 0) else {
            panic!("{:?}", pool.decisions);
        };
        assert!((12.0..20.0).contains(&times), "{flows}: {times}");
    }
}

#[test]
fn repeated_syns_resets_and_errors_are_signs() {
    type Add = fn(u64, &mut Signs);
    let cases: [(&str, Add); 2] = [
        ("repeated_syns", |new, signs| signs.repeated += new / 10),
        ("resets", |new, signs| signs.resets += new / 5),
    ];
    for (name, add) in cases {
        let mut pool = settled("capacity");
        for _ in 0..4 {
            carry(
                &mut pool,
                &[CAPACITY; 4],
                |number, new, signs| {
                    usual(number, new, signs);
                    if number == 1 {
                        add(new, signs);
                    }
                },
                |_| {},
            );
        }
        assert_eq!(sign_of(&pool, 1).name(), name);
        assert_at_most_due(&pool, 1);
    }
    let mut pool = settled("capacity");
    for _ in 0..4 {
        carry(&mut pool, &[CAPACITY; 4], usual, |pool| {
            pool.reals[1].load.error_rate = fresh(0.5);
        });
    }
    assert_eq!(sign_of(&pool, 1).name(), "errors");
}

#[test]
fn what_happens_to_all_is_no_sign() {
    let mut pool = settled("capacity");
    for _ in 0..20 {
        carry(
            &mut pool,
            &[CAPACITY; 4],
            |_, new, signs| {
                signs.lives[1] += new;
                signs.repeated += new / 20;
                signs.resets += new / 5;
            },
            |_| {},
        );
        for number in 0..4 {
            let limit = pool.limited_by(number);
            assert!(!matches!(limit, LimitedBy::Sign(..)), "{limit:?}");
        }
    }
}

#[test]
fn a_hold_becomes_longer_each_time() {
    let mut pool = settled("capacity");
    let mut holds = Vec::new();
    for period in 0..200 {
        let bad = period % 40 < 2;
        carry(
            &mut pool,
            &[CAPACITY; 4],
            |number, new, signs| {
                usual(number, new, signs);
                if bad && number == 2 {
                    signs.repeated += new / 4;
                }
            },
            |_| {},
        );
        if let LimitedBy::Sign(_, left) = pool.limited_by(2)
            && period % 40 == 0
        {
            holds.push(left);
        }
    }
    assert!(holds.len() >= 3, "{holds:?}");
    assert!(holds[1] > holds[0] && holds[2] > holds[1], "{holds:?}");
}

#[test]
fn utilisation_that_does_not_follow_has_no_vote() {
    let mut pool = settled("capacity");
    let frozen = pool.reals[3].load.utilisation;
    let mut doubted = false;
    for period in 0..60 {
        // Waves of load, so that there is something to follow.
        pool.flows = if (period / 4_usize).is_multiple_of(2) {
            7_000.0
        } else {
            13_000.0
        };
        carry(&mut pool, &[CAPACITY; 4], usual, |pool| {
            pool.reals[3].load.utilisation = frozen;
        });
        let trust = pool.decisions[3].trust.unwrap();
        if trust.level == 0.0 {
            doubted = true;
            assert_eq!(trust.doubt, Some(Doubt::Frozen));
            assert_at_most_due(&pool, 3);
        }
        assert_eq!(pool.decisions[0].trust.unwrap().level, 1.0, "{period}");
    }
    assert!(doubted);
}

/// Plays periods in which the first real reads this multiple of its utilisation.
fn misread(pool: &mut Pool, periods: usize, factor: f64) {
    for _ in 0..periods {
        carry(pool, &[CAPACITY; 4], usual, |pool| {
            let utilisation = &mut pool.reals[0].load.utilisation;
            *utilisation = utilisation.and_then(|sample| fresh((sample.value * factor).min(1.0)));
        });
    }
}

#[test]
fn a_sensor_that_jumps_is_not_believed_where_that_may_do_harm() {
    // A sensor that doubles while the others have no room is one, and so is one that halves.
    for (flows, factor) in [(10_000.0, 0.5), (15_600.0, 1.24)] {
        let mut pool = Pool::of("capacity", &[100; 4]);
        pool.flows = flows;
        pool.step();
        for _ in 0..24 {
            carry(&mut pool, &[CAPACITY; 4], usual, |_| {});
        }
        // It is believed by a tenth a minute.
        misread(&mut pool, 48, factor);
        for share in pool.shares() {
            assert!(
                (0.18..0.34).contains(&share),
                "{factor}: {:?}",
                pool.shares()
            );
        }
    }
}

#[test]
fn a_capacity_that_jumps_up_is_not_believed_for_a_minute() {
    let mut pool = settled("capacity");
    let before = pool.shares()[0];
    for period in 0..24 {
        misread(&mut pool, 1, 0.5);
        let share = pool.shares()[0];
        if period < 12 {
            assert!((share / before - 1.0).abs() < 0.02, "{period}: {share}");
        }
    }
    let doubt = pool.decisions[0].trust.unwrap().doubt;
    assert!(matches!(doubt, Some(Doubt::Jumped { .. })), "{doubt:?}");
}

#[test]
fn a_real_whose_capacity_halves_is_believed_where_the_others_have_room() {
    let mut pool = settled("capacity");
    misread(&mut pool, 12, 2.0);
    let share = pool.shares()[0];
    assert!(
        (1.0 / 7.0 / share - 1.0).abs() < 0.06,
        "{:?}",
        pool.shares()
    );
    assert_eq!(pool.decisions[0].trust.unwrap().level, 1.0);
}

#[test]
fn sensors_that_double_together_are_believed_as_far_as_there_is_room() {
    let mut pool = settled("capacity");
    for _ in 0..12 {
        carry(&mut pool, &[CAPACITY; 4], usual, |pool| {
            for real in &mut pool.reals {
                let utilisation = &mut real.load.utilisation;
                *utilisation = utilisation.and_then(|sample| fresh((sample.value * 2.0).min(1.0)));
            }
        });
        // The pool is used to a half, so the real ones must not be used to more than 0.85.
        for share in pool.shares() {
            assert!(share * pool.flows / 5.0 / CAPACITY < 0.87, "{share}");
        }
    }
}

#[test]
fn a_pool_that_cannot_be_trusted_falls_back_and_comes_back() {
    let mut pool = settled("capacity");
    assert_eq!(pool.steering.safety(), Safety::Normal);
    let frozen: Vec<_> = pool
        .reals
        .iter()
        .map(|real| real.load.utilisation)
        .collect();
    let wave = |pool: &mut Pool, period: usize| {
        pool.flows = if (period / 4_usize).is_multiple_of(2) {
            7_000.0
        } else {
            13_000.0
        };
    };
    for period in 0..60 {
        wave(&mut pool, period);
        carry(&mut pool, &[CAPACITY; 4], usual, |pool| {
            for (real, frozen) in pool.reals.iter_mut().zip(&frozen) {
                real.load.utilisation = *frozen;
            }
        });
    }
    let safety = pool.steering.safety();
    let Safety::OperatorWeights {
        reason: Fallback::Untrusted { reals: 4 },
        ..
    } = safety
    else {
        panic!("{safety:?}");
    };
    assert!(matches!(pool.limited_by(0), LimitedBy::OperatorWeights(_)));
    for number in 0..4 {
        assert_at_most_due(&pool, number);
    }
    for period in 0..200 {
        wave(&mut pool, period);
        carry(&mut pool, &[CAPACITY; 4], usual, |_| {});
    }
    assert_eq!(pool.steering.safety(), Safety::Normal);
}

#[test]
fn nothing_is_learned_beyond_the_pools_capacity() {
    let mut pool = settled("capacity");
    let known: Vec<_> = pool
        .decisions
        .iter()
        .map(|one| one.capacity.unwrap())
        .collect();
    pool.flows *= 10.0;
    for _ in 0..12 {
        carry(&mut pool, &[CAPACITY; 4], usual, |_| {});
    }
    for (decision, known) in pool.decisions.iter().zip(known) {
        let capacity = decision.capacity.unwrap();
        assert!((capacity / known - 1.0).abs() < 0.05, "{capacity}, {known}");
    }
}

#[test]
fn signs_that_start_over_do_no_harm() {
    let mut pool = settled("capacity");
    pool.reals[0].signs = Some(Signs {
        lives: [0; LIFE_BUCKETS],
        ..Signs::default()
    });
    for _ in 0..6 {
        carry(&mut pool, &[CAPACITY; 4], usual, |_| {});
        assert!(!matches!(pool.limited_by(0), LimitedBy::Sign(..)));
    }
}

#[test]
fn without_signs_a_share_stays_near_the_operators() {
    let capacities = [10.0 * CAPACITY, CAPACITY, CAPACITY, CAPACITY];
    let play = |most: f64| {
        let settings = crate::Steering {
            unproven_share: most,
            ..crate::Steering::default()
        };
        let mut pool = Pool::new(settings, &[100; 4]);
        pool.step();
        for _ in 0..40 {
            pool.load(&capacities);
            for real in &mut pool.reals {
                real.signs = None;
            }
            pool.period();
        }
        pool.shares()[0]
    };
    assert!(play(1.02) <= 0.25 * 1.03);
    assert!(play(2.0) > 0.25 * 1.8);
}

#[test]
fn a_sensor_that_doubles_for_a_while_gets_no_more_than_before_afterwards() {
    let mut pool = settled("capacity");
    for period in 0..80 {
        carry(&mut pool, &[CAPACITY; 4], usual, |pool| {
            let utilisation = &mut pool.reals[0].load.utilisation;
            let factor = if period < 36 { 2.0 } else { 1.0 };
            *utilisation = utilisation.and_then(|sample| fresh((sample.value * factor).min(1.0)));
        });
        let share = pool.shares()[0];
        assert!((0.13..0.27).contains(&share), "{period}: {share}");
    }
    // What was believed without proof is taken back as soon as it is over.
    let share = pool.shares()[0];
    assert!((share - 0.25).abs() < 0.01, "{share}");
}

#[test]
fn readings_that_stay_exactly_the_same_are_none() {
    let mut pool = settled("capacity");
    let frozen = pool.reals[3].load.utilisation;
    for _ in 0..8 {
        pool.flows *= 1.03;
        carry(&mut pool, &[CAPACITY; 4], usual, |pool| {
            pool.reals[3].load.utilisation = frozen;
        });
    }
    let doubt = pool.decisions[3].trust.unwrap().doubt;
    assert_eq!(doubt, Some(Doubt::Frozen));
    for decision in &pool.decisions[..3] {
        assert_eq!(decision.trust.unwrap().level, 1.0);
    }
}

#[test]
fn a_real_that_is_full_keeps_its_vote() {
    let capacities = [250.0, CAPACITY, CAPACITY, CAPACITY];
    let mut pool = settled("capacity");
    for period in 0..60 {
        // It is offered more or less of what is too much, and reads full all the time.
        pool.flows = if period % 8 < 4 { 8_000.0 } else { 12_000.0 };
        let full = pool.shares()[0] * pool.flows / 5.0 > capacities[0];
        carry(
            &mut pool,
            &capacities,
            |number, new, signs| {
                signs.lives[if full && number == 0 { 11 } else { USUAL }] += new;
                signs.repeated += if full && number == 0 { new / 2 } else { 0 };
            },
            |_| {},
        );
        let doubt = pool.decisions[0].trust.unwrap().doubt;
        let lost = matches!(doubt, Some(Doubt::Unresponsive { .. } | Doubt::Frozen));
        assert!(!lost, "{period}: {doubt:?}");
    }
    assert!(pool.shares()[0] < 0.12, "{:?}", pool.shares());
}

#[test]
fn a_noisy_reading_keeps_its_vote() {
    let capacities = [400.0, CAPACITY, CAPACITY, 1_600.0];
    let mut pool = Pool::of("capacity", &[100; 4]);
    pool.step();
    let mut random = 1_u64;
    for period in 0..200 {
        carry(&mut pool, &capacities, usual, |pool| {
            for real in &mut pool.reals {
                // 20 % to either side, evenly: a relative deviation of 11 %.
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                let noise = 1.0 + 0.4 * ((random >> 40) as f64 / (1 << 24) as f64 - 0.5);
                let utilisation = &mut real.load.utilisation;
                *utilisation =
                    utilisation.and_then(|sample| fresh((sample.value * noise).min(1.0)));
            }
        });
        for decision in &pool.decisions {
            assert!(
                decision.trust.unwrap().level >= 0.5,
                "{period}: {decision:?}"
            );
        }
    }
    for (share, due) in pool.shares().into_iter().zip([0.1, 0.25, 0.25, 0.4]) {
        assert!((share / due - 1.0).abs() < 0.1, "{:?}", pool.shares());
    }
}

#[test]
fn a_storm_is_no_silence() {
    let capacities = [250.0, CAPACITY, CAPACITY, 1_750.0];
    let mut pool = Pool::of("capacity", &[100; 4]);
    pool.step();
    for _ in 0..40 {
        carry(&mut pool, &capacities, usual, |_| {});
    }
    let known = pool.decisions[0].capacity.unwrap();
    pool.flows = 22_000.0;
    for _ in 0..80 {
        carry(&mut pool, &capacities, usual, |_| {});
        let limit = pool.limited_by(3);
        assert!(!matches!(limit, LimitedBy::StaleReading(_)), "{limit:?}");
    }
    let capacity = pool.decisions[0].capacity.unwrap();
    assert!((capacity / known - 1.0).abs() < 0.05, "{capacity}, {known}");
}

#[test]
fn others_that_become_slow_make_no_suspect_of_a_real() {
    let mut pool = settled("capacity");
    for _ in 0..12 {
        carry(
            &mut pool,
            &[CAPACITY; 4],
            |number, new, signs| signs.lives[if number >= 2 { USUAL + 3 } else { USUAL }] += new,
            |_| {},
        );
        for number in 0..2 {
            let limit = pool.limited_by(number);
            assert!(!matches!(limit, LimitedBy::Sign(..)), "{limit:?}");
        }
    }
}

#[test]
fn long_connections_that_fail_are_noticed_by_their_number() {
    let settings = crate::Steering {
        life: lb_model::settings::Auto(Some(seconds(3_600))),
        ..crate::Steering::default()
    };
    let mut pool = Pool::new(settings, &[100; 4]);
    let mut connections = [20_000.0_f64; 4];
    for real in &mut pool.reals {
        real.load.connections = fresh(20_000.0);
        real.load.utilisation = fresh(0.5);
    }
    pool.step();
    for period in 0..60_u32 {
        let shares = pool.shares();
        for (number, real) in pool.reals.iter_mut().enumerate() {
            let open = &mut connections[number];
            let (opened, ended) = (112.0 * shares[number], *open * 5.0 / 3_600.0);
            // From period 10 on, whatever is given to the first one ends at once.
            let fails = number == 0 && period >= 10;
            *open += if fails { -ended } else { opened - ended };
            real.opened += opened.round() as u64;
            real.closed += (ended + if fails { opened } else { 0.0 }).round() as u64;
            real.load.connections = fresh(*open);
            real.load.utilisation = fresh(if fails { 0.05 } else { 0.5 });
        }
        pool.period();
        if period > 10 {
            assert!(
                pool.shares()[0] <= 0.25 * 1.3,
                "{period}: {:?}",
                pool.shares()
            );
        }
    }
    assert!(matches!(sign_of(&pool, 0), Sign::EndsSooner { .. }));
}
