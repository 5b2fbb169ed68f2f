//! Random observations: no panic, and the invariants on weights hold.

use std::time::Duration;

use lb_common::limits::MAX_WEIGHT;
use lb_model::{component::Component, settings::Auto};
use proptest::prelude::*;

use super::pool::{kinds, real, seconds};
use crate::{AgentCommand, Load, Observation, Sample, SourceReading, Steering, VipSteering};

fn sample() -> impl Strategy<Value = Option<Sample>> {
    let value = prop_oneof![
        4 => 0.0..1.5f64,
        2 => 0.0..1e6f64,
        1 => proptest::num::f64::ANY,
    ];
    let age = prop_oneof![4 => 0..20_000u64, 1 => any::<u64>()];
    proptest::option::of((value, age).prop_map(|(value, age)| Sample {
        value,
        age: Duration::from_millis(age),
    }))
}

fn sources() -> impl Strategy<Value = Vec<Option<SourceReading>>> {
    let source = (sample(), 0.01..100.0f64).prop_map(|(utilisation, weight)| {
        Some(SourceReading {
            weight,
            utilisation: utilisation?,
        })
    });
    proptest::collection::vec(source, 0..4)
}

fn load() -> impl Strategy<Value = Load> {
    let command = proptest::option::weighted(
        0.2,
        prop_oneof![
            Just(AgentCommand::Ready),
            Just(AgentCommand::Drain),
            Just(AgentCommand::Maintenance),
            Just(AgentCommand::Down)
        ],
    );
    (
        (sample(), sample(), sample(), sample()),
        (sample(), sample(), sample(), sample()),
        command,
        sources(),
    )
        .prop_map(|((a, b, c, d), (e, f, g, h), command, sources)| Load {
            utilisation: a,
            sources,
            memory: b,
            descriptors: c,
            connection_fraction: d,
            connections: e,
            error_rate: f,
            latency: g,
            agent_weight: h,
            command,
        })
}

prop_compose! {
    fn observation()(
        number in 0..12usize,
        weight in prop_oneof![3 => 1..200u32, 1 => Just(0), 1 => 0..=MAX_WEIGHT],
        drained in prop::bool::weighted(0.1),
        up in prop::bool::weighted(0.85),
        wants_drain in prop::bool::weighted(0.05),
        since_up in prop_oneof![Just(0u64), 0..100_000u64, any::<u64>()],
        load in load(),
        opened in prop_oneof![0..100_000u64, any::<u64>()],
        closed in prop_oneof![0..100_000u64, any::<u64>()],
        flows in proptest::option::of(prop_oneof![0.0..1e5f64, proptest::num::f64::ANY]),
        share in proptest::option::of(prop_oneof![0.0..1.0f64, proptest::num::f64::ANY]),
    ) -> Observation {
        Observation {
            drained,
            evacuated: false,
            up,
            wants_drain,
            since_up: Duration::from_millis(since_up),
            load,
            opened,
            closed,
            signs: None,
            flows,
            share,
            ..real(number, weight)
        }
    }
}

/// Whether it may have new flows, flapping and load aside.
fn may(observation: &Observation) -> bool {
    observation.weight > 0
        && !observation.drained
        && observation.up
        && !observation.wants_drain
        && observation
            .load
            .command
            .is_none_or(|command| command == AgentCommand::Ready)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn invariants_hold_for_random_observations(
        kind in proptest::sample::select(kinds()),
        shed_rate in prop_oneof![Just(0.0), Just(10.0)],
        life in proptest::option::of(1..100_000u64),
        steps in proptest::collection::vec(
            (0..12_000u64, proptest::collection::vec(observation(), 0..14)), 1..14),
    ) {
        let settings = Steering {
            controller: Component::named(kind),
            shed_rate,
            life: Auto(life.map(seconds)),
            ..Steering::default()
        };
        let mut steering = VipSteering::new(settings);
        let mut now = Duration::ZERO;
        for (wait, mut pool) in steps {
            now += Duration::from_millis(wait);
            let decisions = steering.step(now, &pool);
            prop_assert_eq!(decisions.len(), pool.len());
            for (decision, observation) in decisions.iter().zip(&pool) {
                prop_assert!(decision.weight <= MAX_WEIGHT);
                prop_assert!((0.0..=1.0).contains(&decision.wanted_share), "{decision:?}");
                prop_assert!(decision.capacity.is_none_or(|c| c.is_finite() && c > 0.0));
                prop_assert!(f64::from(decision.shed.unwrap_or(0)) <= shed_rate * 5.0 + 1.0);
                prop_assert!(!decision.limited_by.to_string().is_empty());
                if !may(observation) {
                    prop_assert_eq!(decision.weight, 0);
                    prop_assert_eq!(decision.shed.unwrap_or(0), 0);
                }
            }
            // If several have one address, the first counts.
            let mut seen = std::collections::BTreeSet::new();
            pool.retain(|observation| seen.insert(observation.address));
            let silenced = |observation: &Observation| kind == "agent-check"
                && observation.load.agent_weight.is_some_and(|sample| (0.0..0.001).contains(&sample.value));
            if pool.iter().any(|observation| may(observation) && !silenced(observation)) {
                let sum: u64 = decisions.iter().map(|decision| u64::from(decision.weight)).sum();
                prop_assert!(sum > 0, "{:?} {:?}", pool, decisions);
            }
        }
    }
}
