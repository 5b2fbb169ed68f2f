//! `utilisation`: what clients offer, over what the instances can carry as steering has learned.
//!
//! Offered load does not saturate as utilisation does, so a step is seen in full at once. Readings of utilisation stand in
//! while no capacity is known, and while nothing counts what is offered; then the pool only grows.

use lb_model::scaling::ScalingPolicy;

use super::{Context, Measured, MissingData, Phase, Requirement, Unit};
use crate::scaling::readings::Offered;

/// The pool grows only if its load is above the threshold by this many standard deviations of its mean, ...
const NOISE_DEVIATIONS: f64 = 4.0;
/// ... but noise raises the threshold to this at most.
const MOST_ABOVE: f64 = 1.15;
/// A surge, or a rise, differs from the mean by more than this many standard deviations.
const SURGE_DEVIATIONS: f64 = 3.0;
/// The threshold where only readings of utilisation are known: they are single values.
const READINGS_ABOVE: f64 = 1.10;

pub fn measure(context: &Context<'_>) -> Measured {
    if let Some((unit, each)) = context.state.capacity
        && let Some(requirement) = by_capacity(context, unit, each)
    {
        return Measured::Known(requirement);
    }
    by_readings(context)
}

/// The unit in which load is counted.
pub const fn unit_of(offered: Offered) -> Unit {
    match offered {
        Offered::Flows(_) => Unit::Flows,
        Offered::Connections(_) => Unit::Connections,
    }
}

fn by_capacity(context: &Context<'_>, unit: Unit, each: f64) -> Option<Requirement> {
    let settings = context.settings;
    let load = &context.state.load;
    let short = load.mean(context.now, settings.surge_over)?;
    let long = load.mean(context.now, settings.load_over)?;
    let noise = |over| load.deviation(over);
    let surge = short > settings.surge * long
        && short - long > SURGE_DEVIATIONS * noise(settings.surge_over);
    // A rise is followed as far as it is certain.
    let rising = short - SURGE_DEVIATIONS * noise(settings.surge_over);
    let offered = if surge { short } else { long.max(rising) };
    let required = offered / settings.utilisation;
    let credibility = context.state.credibility();
    let each = each * credibility;
    let worth = |one: &super::InstanceReadings| {
        let own = context.state.capacity_of(&one.name);
        own.map_or(each, |own| own * credibility)
    };
    let mut requirement = Requirement::new(context, unit, (required, each), worth);
    requirement.surge = surge;
    if !surge && long > 0.0 {
        let above = 1.0 + NOISE_DEVIATIONS * noise(settings.load_over) / long;
        requirement.above = settings.out_above.max(above.min(MOST_ABOVE));
    }
    if context.state.is_awaited(ScalingPolicy::Utilisation) {
        requirement.missing = context.without(|one| one.utilisation);
    }
    if !load.is_current() {
        requirement.missing = Some(MissingData::Demand);
    }
    Some(requirement)
}

/// Utilisation times capacity, of the instances that serve; an instance without a reading counts as the others.
fn by_readings(context: &Context<'_>) -> Measured {
    let known = |one| context.fresh(one);
    let each = context.state.capacity;
    let worth = |one: &super::InstanceReadings| match each {
        Some((_, each)) => context.state.capacity_of(&one.name).unwrap_or(each),
        None => 1.0,
    };
    let (mut used, mut read, mut all) = (0.0, 0.0, 0.0);
    for one in context.serving() {
        all += worth(one);
        if let Some(utilisation) = known(one.utilisation) {
            used += utilisation.min(1.0) * worth(one);
            read += worth(one);
        }
    }
    let (unit, new) = each.unwrap_or((Unit::Instances, 1.0));
    let awaited = context.state.is_awaited(ScalingPolicy::Utilisation);
    let load = context
        .state
        .load
        .mean(context.now, context.settings.surge_over);
    if read == 0.0 {
        // The first instance is started for the first client.
        if context.count() == 0.0 && load.is_some_and(|load| load > 0.0) {
            let first = Requirement::new(context, Unit::Instances, (1.0, 1.0), |_| 1.0);
            return Measured::Known(first);
        }
        return if awaited {
            Measured::Missing(MissingData::Demand)
        } else {
            Measured::Off
        };
    }
    let required = used / read * all / context.settings.utilisation;
    let mut requirement = Requirement::new(context, unit, (required, new), worth);
    requirement.above = context.settings.out_above.max(READINGS_ABOVE);
    requirement.missing = context.without(|one| one.utilisation);
    // What was carried says less than what was offered: the pool may grow by it and not shrink.
    if requirement.missing.is_none() && (each.is_some() || starting(context)) {
        requirement.missing = Some(MissingData::Demand);
    }
    Measured::Known(requirement)
}

fn starting(context: &Context<'_>) -> bool {
    context.readings.count(|phase| phase == Phase::Starting) > 0
}
