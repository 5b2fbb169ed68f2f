//! `latency`: a guard. Response times are not linear in the number of instances, so they give no ratio: above the
//! objective, the pool grows by a step, and it does not shrink.

use lb_model::scaling::ScalingPolicy;

use super::{Context, Measured, MissingData};

pub fn measure(context: &Context<'_>) -> Measured {
    let Some(objective) = context.settings.latency else {
        return Measured::Off;
    };
    let Some(latency) = context.fresh(context.readings.latency) else {
        return if context.state.is_awaited(ScalingPolicy::Latency) {
            Measured::Missing(MissingData::Latency)
        } else {
            Measured::Off
        };
    };
    let busy: Vec<f64> = context
        .serving()
        .filter_map(|one| context.fresh(one.utilisation))
        .collect();
    let mean = busy.iter().sum::<f64>() / busy.len().max(1) as f64;
    // Idle instances that are slow wait for something else.
    let helps = busy.is_empty() || mean >= context.settings.guard_utilisation;
    Measured::Guard {
        trouble: latency > objective.as_secs_f64() && helps,
        missing: None,
    }
}
