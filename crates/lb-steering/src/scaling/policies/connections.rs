//! `connections`: connections, against a fraction of what the instances accept.

use lb_model::scaling::ScalingPolicy;

use super::{Context, InstanceReadings, Measured, Phase, Requirement, Unit};

pub fn measure(context: &Context<'_>) -> Measured {
    let limits: Vec<f64> = context
        .serving()
        .filter_map(InstanceReadings::known_limit)
        .collect();
    let known: Vec<f64> = context
        .serving()
        .filter_map(|one| context.fresh(one.connections))
        .collect();
    if limits.is_empty() || known.is_empty() {
        let awaited = context.state.is_awaited(ScalingPolicy::Connections);
        return match context.without(|one| one.connections).filter(|_| awaited) {
            Some(missing) => Measured::Missing(missing),
            None => Measured::Off,
        };
    }
    let each = limits.iter().sum::<f64>() / limits.len() as f64;
    let mean = known.iter().sum::<f64>() / known.len() as f64;
    // The connections of drained instances come back to the others.
    let all: f64 = context
        .readings
        .instances
        .iter()
        .map(|one| match one.phase {
            Phase::Serving => context.fresh(one.connections).unwrap_or(mean),
            Phase::Draining => context.fresh(one.connections).unwrap_or(0.0),
            _ => 0.0,
        })
        .sum();
    let required = all / context.settings.connections;
    let worth = |one: &InstanceReadings| one.known_limit().unwrap_or(each);
    let mut requirement = Requirement::new(context, Unit::Connections, (required, each), worth);
    requirement.missing = context.without(|one| one.connections);
    Measured::Known(requirement)
}
