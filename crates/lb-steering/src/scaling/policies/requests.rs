//! `requests`: HTTP requests over the last seconds, against a number per instance.

use lb_model::scaling::ScalingPolicy;

use super::{Context, Measured, MissingData, Requirement, Unit};

/// The pool grows only if requests are above the threshold by this many standard deviations of their mean.
const NOISE_DEVIATIONS: f64 = 4.0;
/// Noise raises the threshold to this at most.
const MOST_ABOVE: f64 = 1.15;

pub fn measure(context: &Context<'_>) -> Measured {
    let Some(target) = context.settings.requests else {
        return Measured::Off;
    };
    let over = context.settings.requests_over;
    let Some(mean) = context.state.requests.mean(context.now, over) else {
        return if context.state.is_awaited(ScalingPolicy::Requests) {
            Measured::Missing(MissingData::Requests)
        } else {
            Measured::Off
        };
    };
    let required = mean * over.as_secs_f64() / target;
    let mut requirement = Requirement::new(context, Unit::Instances, (required, 1.0), |_| 1.0);
    if mean > 0.0 {
        let above = 1.0 + NOISE_DEVIATIONS * context.state.requests.deviation(over) / mean;
        requirement.above = context.settings.out_above.max(above.min(MOST_ABOVE));
    }
    if !context.state.requests.is_current() {
        requirement.missing = Some(MissingData::Requests);
    }
    Measured::Known(requirement)
}
