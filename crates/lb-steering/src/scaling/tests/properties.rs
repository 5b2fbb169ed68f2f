//! Properties that hold for random pools.

use std::time::Duration;

use lb_model::scaling::{Scaling, ScheduleWindow};
use proptest::prelude::*;

use super::pool::{MONDAY, seconds};
use crate::{
    Sample,
    scaling::{
        Clock, DecidedBy, InstanceReadings, Offered, Phase, PoolReadings, ScalingDecision,
        ScalingState, scale,
    },
};

fn sample() -> impl Strategy<Value = Option<Sample>> {
    let value = prop_oneof![5 => 0.0..1.2f64, 1 => 0.0..1e6f64, 1 => proptest::num::f64::ANY];
    let age = prop_oneof![5 => 0..20_000u64, 1 => any::<u64>()];
    proptest::option::weighted(
        0.8,
        (value, age).prop_map(|(value, age)| Sample {
            value,
            age: Duration::from_millis(age),
        }),
    )
}

fn number() -> impl Strategy<Value = Option<f64>> {
    proptest::option::weighted(
        0.8,
        prop_oneof![8 => 1.0..1_000.0f64, 1 => proptest::num::f64::ANY],
    )
}

fn phase() -> impl Strategy<Value = Phase> {
    prop_oneof![
        8 => Just(Phase::Serving),
        2 => Just(Phase::Starting),
        2 => Just(Phase::Draining),
        1 => Just(Phase::Spare),
        1 => proptest::option::of(0..100u64).prop_map(|wait| Phase::Dead(wait.map(seconds))),
    ]
}

prop_compose! {
    fn instance()(
        phase in phase(),
        (capacity, connection_limit) in (number(), number()),
        (utilisation, connections, memory) in (sample(), sample(), sample()),
        has_sessions in any::<bool>(),
        is_flapping in prop::bool::weighted(0.1),
    ) -> InstanceReadings {
        InstanceReadings {
            capacity,
            utilisation,
            connections,
            connection_limit,
            memory,
            has_sessions,
            is_flapping,
            ..InstanceReadings::new("", phase)
        }
    }
}

fn offered() -> impl Strategy<Value = Option<Offered>> {
    let count = prop_oneof![8 => 0.0..5_000.0f64, 1 => proptest::num::f64::ANY];
    proptest::option::weighted(
        0.9,
        (count, prop::bool::weighted(0.1)).prop_map(|(count, connections)| {
            if connections {
                Offered::Connections(count)
            } else {
                Offered::Flows(count)
            }
        }),
    )
}

prop_compose! {
    fn readings()(
        offered in offered(),
        requests in number(),
        latency in sample(),
        life in proptest::option::of(0..10_000u64),
        room in proptest::option::weighted(0.2, 0..20u32),
        instances in proptest::collection::vec(instance(), 0..14),
    ) -> PoolReadings {
        let mut readings = PoolReadings { offered, requests, latency, life: life.map(seconds), room, instances };
        for (number, one) in readings.instances.iter_mut().enumerate() {
            one.name = format!("i-{number}");
        }
        readings
    }
}

prop_compose! {
    fn settings()(
        min in 0..5u32,
        more in 0..20u32,
        spare in 0..3u32,
        requests in proptest::option::of(10.0..10_000.0f64),
        latency in proptest::option::of(1..2_000u64),
        sized in any::<bool>(),
        scheduled in any::<bool>(),
    ) -> Scaling {
        let max = min + more;
        Scaling {
            min,
            max,
            spare,
            requests,
            latency: latency.map(Duration::from_millis),
            sizes: if sized { (min..=max).step_by(3).collect() } else { Vec::new() },
            schedule: if scheduled && max > 0 {
                vec![ScheduleWindow {
                    days: Vec::new(),
                    from: "00:01".parse().unwrap(),
                    to: "00:10".parse().unwrap(),
                    min: max.div_ceil(2).max(1),
                }]
            } else {
                Vec::new()
            },
            ..Scaling::default()
        }
    }
}

type Steps = Vec<(u64, PoolReadings)>;

fn steps() -> impl Strategy<Value = Steps> {
    proptest::collection::vec((0..40_000u64, readings()), 1..12)
}

fn count(readings: &PoolReadings) -> u32 {
    let counted = readings.instances.iter().filter(|one| match one.phase {
        Phase::Serving | Phase::Starting => true,
        Phase::Dead(Some(wait)) => wait <= seconds(10),
        _ => false,
    });
    counted.count() as u32
}

fn play(
    settings: &Scaling,
    steps: &Steps,
    mut each: impl FnMut(&mut ScalingState, &PoolReadings, ScalingDecision),
) {
    let mut state = ScalingState::default();
    let mut clock = Clock {
        now: MONDAY,
        utc_offset: 0,
    };
    for (wait, readings) in steps {
        clock.now += Duration::from_millis(*wait);
        let decision = scale(settings, &mut state, readings, clock);
        each(&mut state, readings, decision);
    }
}

/// Readings of a pool whose data are all there.
fn sound(instances: usize, capacity: f64, rate: f64) -> PoolReadings {
    let mut readings = PoolReadings {
        offered: Some(Offered::Flows(rate)),
        ..PoolReadings::default()
    };
    for number in 0..instances {
        readings.instances.push(InstanceReadings {
            capacity: Some(capacity),
            utilisation: Some(Sample {
                value: (rate / instances as f64 / capacity).min(1.0),
                age: Duration::ZERO,
            }),
            ..InstanceReadings::new(format!("i-{number}"), Phase::Serving)
        });
    }
    readings
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_number_stays_within_its_bounds(settings in settings(), steps in steps()) {
        lb_model::settings::Settings::validate(&settings).unwrap();
        play(&settings, &steps, |_, readings, decision| {
            let n = count(readings);
            assert!(decision.desired <= settings.max, "{decision}");
            // The driver may have no room, and only what can be drained is.
            let roomy = readings.room.is_none();
            assert!(!roomy || decision.desired >= settings.min.min(settings.max), "{decision}");
            assert!(!roomy || decision.desired >= decision.why.floor.min(n.max(settings.min)), "{decision}");
            if decision.start > 0 || !decision.resume.is_empty() || !decision.take_back.is_empty() {
                assert!(decision.drain.is_empty());
                assert!(n + decision.start + (decision.resume.len() + decision.take_back.len()) as u32 <= settings.max);
            }
            if let (Some(room), true) = (readings.room, true) {
                assert!(decision.start <= room, "{decision}");
            }
            // Names are those of instances in the right phase, and come once.
            let of = |names: &[String], phase: fn(Phase) -> bool| {
                names.iter().all(|name| readings.instances.iter().any(|one| one.name == *name && phase(one.phase)))
            };
            assert!(of(&decision.drain, |phase| matches!(phase, Phase::Serving | Phase::Starting)));
            assert!(of(&decision.take_back, |phase| phase == Phase::Draining));
            assert!(of(&decision.resume, |phase| phase == Phase::Spare));
            assert!(of(&decision.remove_spares, |phase| phase == Phase::Spare));
            let mut names: Vec<&String> = decision.drain.iter().chain(&decision.take_back).chain(&decision.resume)
                .chain(&decision.remove_spares).collect();
            let all = names.len();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), all);
            assert!(!decision.to_string().is_empty());
        });
    }

    #[test]
    fn nothing_goes_within_the_window_after_growth(settings in settings(), steps in steps()) {
        let mut last_growth: Option<Duration> = None;
        play(&settings, &steps, |state, _, decision| {
            let by_order = decision.why.decided_by == DecidedBy::Maximum;
            if let (Some(growth), false, false) = (last_growth, decision.drain.is_empty(), by_order) {
                let since = state.time.saturating_sub(growth);
                assert!(since >= decision.why.window, "{since:?} {decision}");
            }
            if decision.start > 0 || !decision.resume.is_empty() || !decision.take_back.is_empty() {
                last_growth = Some(state.time);
            }
        });
    }

    #[test]
    fn a_saved_state_changes_nothing(settings in settings(), steps in steps(), restart in 0..12usize) {
        let mut decisions = Vec::new();
        play(&settings, &steps, |_, _, decision| decisions.push(decision));
        let mut step = 0;
        play(&settings, &steps, |state, _, decision| {
            assert_eq!(decision, decisions[step]);
            if step == restart {
                let saved = serde_json::to_string(state).unwrap();
                *state = serde_json::from_str(&saved).unwrap();
            }
            step += 1;
        });
    }

    #[test]
    fn growth_is_monotone_in_demand(
        instances in 1..30usize,
        before in 10.0..2_000.0f64,
        rate in 10.0..4_000.0f64,
        more in 1.0..4.0f64,
    ) {
        let settings = Scaling { max: 200, ..Scaling::default() };
        let play = |rate: f64| {
            let mut steps: Steps = (0..70).map(|_| (1_000, sound(instances, 100.0, before))).collect();
            steps.extend((0..20).map(|_| (1_000, sound(instances, 100.0, rate))));
            let (mut most, mut last) = (0, 0);
            play(&settings, &steps, |_, _, decision| {
                last = decision.desired;
                most = most.max(last);
            });
            (most, last)
        };
        let (less, greater) = (play(rate), play(rate * more));
        prop_assert!(less.1 <= greater.1, "{less:?} for less demand, {greater:?} for more");
        // On the way the forecast of a surge that has just ended counts, which ends sooner where demand is higher.
        let most = f64::from(greater.0) * 1.2 + 1.0;
        prop_assert!(f64::from(less.0) <= most, "{less:?} for less demand, {greater:?} for more");
    }

    #[test]
    fn missing_data_never_lower_the_number(
        instances in 2..20usize,
        rate in 0.0..500.0f64,
        requests in proptest::option::of(0.0..50.0f64),
        missing in proptest::collection::vec(any::<bool>(), 20),
        what in 0..4u32,
    ) {
        let settings = Scaling { max: 50, requests: Some(1_200.0), latency: Some(seconds(1)), ..Scaling::default() };
        let complete = PoolReadings {
            requests,
            latency: Some(Sample { value: 0.1, age: Duration::ZERO }),
            ..sound(instances, 100.0, rate)
        };
        let mut steps: Steps = (0..60).map(|_| (5_000, complete.clone())).collect();
        // As many as are left when data go missing, and long enough for every window.
        let mut left = instances as u32;
        play(&settings, &steps, |_, _, decision| left = decision.desired);
        let mut lacking = complete;
        match what {
            0 => lacking.offered = None,
            1 => lacking.requests = None,
            2 => lacking.latency = None,
            _ => {
                for (one, missing) in lacking.instances.iter_mut().zip(&missing) {
                    if *missing || one.name == "i-0" {
                        one.utilisation = None;
                        one.capacity = None;
                    }
                }
            }
        }
        // Requests that were never there are not missed.
        prop_assume!(what != 1 || requests.is_some());
        let begin = steps.len();
        steps.extend((0..100).map(|_| (5_000, lacking.clone())));
        let mut step = 0;
        play(&settings, &steps, |_, readings, decision| {
            step += 1;
            assert!(step <= begin || decision.desired >= count(readings), "{decision}");
        });
    }
}
