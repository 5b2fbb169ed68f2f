//! `memory`: used memory, against a fraction of the instances' limits. What an idle instance uses does not count: another
//! instance would not take it over.

use lb_model::scaling::ScalingPolicy;

use super::{Context, Measured, Requirement, Unit};

/// At least this fraction of the memory must be left to work with above what an idle instance uses.
const LEAST_ROOM: f64 = 0.05;

pub fn measure(context: &Context<'_>) -> Measured {
    let known: Vec<f64> = context
        .serving()
        .filter_map(|one| context.fresh(one.memory))
        .collect();
    let missing = context.without(|one| one.memory);
    if known.is_empty() {
        let awaited = context.state.is_awaited(ScalingPolicy::Memory);
        return match missing.filter(|_| awaited) {
            Some(missing) => Measured::Missing(missing),
            None => Measured::Off,
        };
    }
    let idle = context.state.idle_memory.unwrap_or(0.0);
    let room = (context.settings.memory - idle).max(LEAST_ROOM);
    let used = known.iter().map(|used| (used.min(1.0) - idle).max(0.0));
    let mean = used.sum::<f64>() / known.len() as f64;
    let required = mean * context.serving().count() as f64 / room;
    let mut requirement = Requirement::new(context, Unit::Instances, (required, 1.0), |_| 1.0);
    requirement.missing = missing;
    Measured::Known(requirement)
}
