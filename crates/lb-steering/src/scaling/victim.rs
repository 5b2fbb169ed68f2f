//! Which instances go first when a pool shrinks.

use std::time::Duration;

use lb_model::scaling::Scaling;

use super::readings::{InstanceReadings, Phase, PoolReadings};
use crate::observation::Sample;

/// What it costs to end an instance. Dead and flapping instances cost nothing.
fn cost(settings: &Scaling, max_age: Duration, one: &InstanceReadings) -> f64 {
    let useless = one.is_flapping || matches!(one.phase, Phase::Dead(_));
    if useless {
        return -1.0;
    }
    if one.phase == Phase::Starting {
        return 0.0;
    }
    let connections = Sample::fresh(one.connections, max_age).unwrap_or(0.0);
    let each = if one.has_sessions {
        settings.session_cost
    } else {
        1.0
    };
    connections * each + one.moves.max(0.0)
}

/// The positions of the instances that serve or start, the one first that goes first: flapping ones, then those whose
/// going costs least, the newest first of those that cost the same.
pub fn order(settings: &Scaling, readings: &PoolReadings) -> Vec<usize> {
    let max_age = settings.stale_after;
    let costs: Vec<f64> = readings
        .instances
        .iter()
        .map(|one| cost(settings, max_age, one))
        .collect();
    let mut order: Vec<usize> = (0..costs.len())
        .filter(|index| {
            let phase = readings.instances[*index].phase;
            matches!(phase, Phase::Serving | Phase::Starting)
        })
        .collect();
    order.sort_by(|a, b| costs[*a].total_cmp(&costs[*b]).then(b.cmp(a)));
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &str, connections: f64) -> InstanceReadings {
        InstanceReadings {
            connections: Some(Sample {
                value: connections,
                age: Duration::ZERO,
            }),
            ..InstanceReadings::new(name, Phase::Serving)
        }
    }

    #[test]
    fn the_one_that_costs_least_goes_first() {
        let readings = PoolReadings {
            instances: vec![
                with("many", 500.0),
                InstanceReadings {
                    has_sessions: true,
                    ..with("sessions", 200.0)
                },
                InstanceReadings {
                    moves: 50.0,
                    ..with("moves", 500.0)
                },
                InstanceReadings {
                    is_flapping: true,
                    ..with("flapping", 900.0)
                },
                with("few", 10.0),
                with("as few, newer", 10.0),
                InstanceReadings::new("starting", Phase::Starting),
                InstanceReadings::new("dead", Phase::Dead(None)),
                InstanceReadings::new("draining", Phase::Draining),
                InstanceReadings::new("spare", Phase::Spare),
            ],
            ..PoolReadings::default()
        };
        let order = order(&Scaling::default(), &readings);
        let names: Vec<&str> = order
            .iter()
            .map(|index| readings.instances[*index].name.as_str())
            .collect();
        assert_eq!(
            names,
            [
                "flapping",
                "starting",
                "as few, newer",
                "few",
                "many",
                "moves",
                "sessions"
            ]
        );
    }
}
