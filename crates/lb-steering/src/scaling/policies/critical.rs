//! `critical`: a guard against capacities that were learned too high. If half of the capacity reads critically loaded and
//! the law still sees enough, the readings win. A single hot instance is a matter for steering.

use super::{Context, Measured};

/// The part of the capacity that must be critically loaded.
const PART: f64 = 0.5;

pub fn measure(context: &Context<'_>) -> Measured {
    let (mut critical, mut all) = (0.0, 0.0);
    for one in context.serving() {
        let Some(utilisation) = context.fresh(one.utilisation) else {
            continue;
        };
        let worth = one.known_capacity().unwrap_or(1.0);
        all += worth;
        if utilisation >= context.settings.critical {
            critical += worth;
        }
    }
    if all == 0.0 {
        return Measured::Off;
    }
    Measured::Guard {
        trouble: critical >= PART * all,
        missing: None,
    }
}
