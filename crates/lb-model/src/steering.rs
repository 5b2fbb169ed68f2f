//! How health and load become weights: the settings that every controller shares.

use std::time::Duration;

use crate::{
    component::Component,
    settings::{Auto, FieldError, SettingType},
};

/// The default controller.
pub const DEFAULT_CONTROLLER: &str = "capacity";

const HOUR: Duration = seconds(3_600);
const DAY: Duration = seconds(86_400);
/// Longer than any connection lives.
const YEAR: Duration = seconds(365 * 86_400);

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

crate::settings! {
    /// How health and load become weights. Fractions are relative to 1. `docs/steering.md` describes how to operate it.
    pub struct Steering {
        /// Time between two decisions, at least the interval of the VIP's fastest source of load.
        period: Duration = seconds(5), Duration::from_millis(100)..=HOUR;
        /// Mean life of a connection; `auto` measures it.
        life: Auto<Duration> = Auto(None), Duration::from_millis(1)..=YEAR;
        /// Time in which a real that comes up gets its full share.
        slow_start: Duration = seconds(60), Duration::ZERO..=DAY;
        /// Fraction of the ring that may move per period; deaths and drains are not bounded.
        moved: f64 = 0.02, 0.000_1..=1.0;
        /// A share that is off by less than this fraction of itself is left alone.
        deadband: f64 = 0.03, 0.0..=0.5;
        /// The highest share a real gets, as a multiple of the operator's share.
        most_share: f64 = 10.0, 1.0..=1_000.0;
        /// From this utilisation on, and above the others', a real's share is halved per period.
        overload: f64 = 0.90, 0.1..=1.0;
        /// With less than this fraction of the capacity eligible, drains by load are suspended.
        panic: f64 = 0.50, 0.0..=1.0;
        /// Connections a second that may be ended on reals over their share; 0: none.
        shed_rate: f64 = 0.0, 0.0..=1_000_000.0;

        /// Factor of its share with which slow start begins.
        @expert slow_start_from: f64 = 0.10, 0.001..=1.0;
        /// Periods above `overload` before the share is halved.
        @expert overload_periods: u32 = 3, 1..=10_000;
        /// From this utilisation on, and above the others', a real gets no new flows.
        @expert overload_drain: f64 = 0.97, 0.1..=1.0;
        /// Periods above `overload_drain` before a real gets no new flows.
        @expert overload_drain_periods: u32 = 6, 1..=10_000;
        /// Below this utilisation a drained real gets new flows again.
        @expert overload_back: f64 = 0.75, 0.01..=1.0;
        /// Periods below `overload_back` before a drained real gets new flows again.
        @expert overload_back_periods: u32 = 6, 1..=10_000;
        /// Fraction of the capacity that may be drained by load at a time.
        @expert max_drained: f64 = 0.30, 0.0..=1.0;
        /// This many changes of health within `flap_within` hold a real down.
        @expert flap_changes: u32 = 3, 2..=1_000;
        /// Time over which `flap_changes` counts changes of health.
        @expert flap_within: Duration = seconds(600), seconds(1)..=DAY;
        /// How long a flapping real is held down at first. The time doubles each time.
        @expert flap_hold: Duration = seconds(30), Duration::ZERO..=DAY;
        /// The longest time for which a flapping real is held down.
        @expert flap_hold_max: Duration = seconds(300), Duration::ZERO..=DAY;
        /// Periods after which a reading is stale. What was learned from it is kept.
        @expert stale_periods: u32 = 3, 1..=10_000;
        /// Time without a reading after which a learned capacity fades, if it is more than that of other reals.
        @expert fade_after: Duration = seconds(180), seconds(1)..=YEAR;
        /// Time constant with which a learned capacity fades to that of other reals, relative to their weights.
        @expert fade: Duration = seconds(60), seconds(1)..=YEAR;
        /// Replaces `moved` while a real is above `busy` or the pool is uneven.
        @expert moved_busy: f64 = 0.10, 0.000_1..=1.0;
        /// Utilisation above which `moved_busy` applies.
        @expert busy: f64 = 0.95, 0.1..=1.0;
        /// Factor by which a share may change per period; shares of long connections fall, and return, without this
        /// bound.
        @expert step: f64 = 1.5, 1.01..=100.0;
        /// The lowest share a real gets, as a multiple of the operator's share.
        @expert least_share: f64 = 0.1, 0.001..=1.0;
        /// The highest share, as a multiple of the operator's, that a real gets whose flows do not show how it serves
        /// them: UDP, and TCP without flows that end. Long connections that a source counts are not bound by it.
        @expert unproven_share: f64 = 1.01, 1.0..=1_000.0;
        /// Time in which new flows make up for connections that a real lacks.
        @expert horizon: Duration = seconds(300), seconds(1)..=DAY;
        /// Mean life of connections, in periods, from which on they count as long-lived.
        @expert long_lived_periods: u32 = 10, 1..=100_000;
        /// The lowest multiple of its share of new flows that a real gets while connections are rebalanced.
        @expert deficit_least: f64 = 0.02, 0.0..=1.0;
        /// The highest multiple of its share of new flows that a real gets while connections are rebalanced.
        @expert deficit_most: f64 = 3.0, 1.0..=100.0;
        /// Time over which the life of connections is measured.
        @expert life_over: Duration = seconds(600), seconds(1)..=DAY;
        /// Highest gain on an error of the capacity estimate in steady state.
        @expert gain: f64 = 0.10, 0.001..=1.0;
        /// Wanted relative standard deviation of an estimate: the noisier readings are, the lower the gain.
        @expert certainty: f64 = 0.015, 0.001..=0.5;
        /// The difference (natural logarithm of measured over estimated capacity) that counts as a surprise, unless
        /// `surprise_deviations` is more. Two or three surprises, or more smaller differences, restart the estimate.
        @expert surprise: f64 = 0.2, 0.01..=10.0;
        /// Like `surprise`, in standard deviations of readings: the real's own, or the pool's median if that is more.
        @expert surprise_deviations: f64 = 3.0, 1.0..=100.0;
        /// Cost of errors: with a fraction e of errors, the utilisation counts 1 + `error_penalty` · e times.
        @expert error_penalty: f64 = 5.0, 0.0..=1_000.0;
        /// Utilisation below which a reading is not used to estimate the capacity.
        @expert least_utilisation: f64 = 0.05, 0.001..=0.9;
        /// Mean utilisation below which no reading is used to estimate a capacity.
        @expert no_signal: f64 = 0.15, 0.0..=0.9;
        /// Time for which a real must have been healthy before its readings are used.
        @expert healthy_for: Duration = seconds(10), Duration::ZERO..=HOUR;
        /// Used fraction of memory, file descriptors or connections from which on a real gets a smaller share.
        @expert guard_from: f64 = 0.80, 0.0..=0.99;
        /// Used fraction at which a real gets the smallest share.
        @expert guard_full: f64 = 0.95, 0.01..=1.0;
        ..controller: "controller" = "capacity";
    }
    validate(steering) {
        let steering: &Steering = steering;
        not_below("overload_drain", &steering.overload_drain, "overload", &steering.overload)?;
        not_below("overload", &steering.overload, "overload_back", &steering.overload_back)?;
        not_below("moved_busy", &steering.moved_busy, "moved", &steering.moved)?;
        not_below("guard_full", &steering.guard_full, "guard_from", &steering.guard_from)?;
        not_below("flap_hold_max", &steering.flap_hold_max, "flap_hold", &steering.flap_hold)
    }
}

/// Rejects a setting that is below another one.
fn not_below<T: SettingType + PartialOrd>(
    name: &str,
    value: &T,
    other: &str,
    least: &T,
) -> Result<(), FieldError> {
    if value >= least {
        return Ok(());
    }
    let text = |value: &T| crate::settings::plain(&value.to_json());
    let advice = format!("below {other}, give {} or more", text(least));
    Err(FieldError::new(name, text(value), advice))
}

impl Default for Steering {
    fn default() -> Self {
        Steering::of(DEFAULT_CONTROLLER)
    }
}

impl Steering {
    /// Returns the defaults with this controller.
    #[must_use]
    pub fn of(controller: &str) -> Self {
        let mut steering = crate::settings::defaults::<Steering>();
        steering.controller = Component::named(controller);
        steering
    }

    /// Returns the age from which on a reading is stale.
    #[must_use]
    pub fn stale_after(&self) -> Duration {
        self.period * self.stale_periods
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::settings::{Level, Settings as _};

    #[test]
    fn operators_need_ten_settings() {
        let fields = Steering::fields();
        let plain = fields.iter().filter(|field| field.level == Level::Operator);
        // The controller is the tenth.
        assert_eq!(plain.count(), 9);
    }

    #[test]
    fn what_is_set_is_read() {
        let steering = Steering::from_json(
            &json!({ "controller": "least-connections", "life": "1h", "period": "2s", "shed_rate": 5.0 }),
        )
        .unwrap();
        assert_eq!(steering.controller.kind, "least-connections");
        assert_eq!(steering.life, Auto(Some(HOUR)));
        assert_eq!((steering.period, steering.shed_rate), (seconds(2), 5.0));
        let steering = Steering::from_json(&json!({ "life": "auto" })).unwrap();
        assert_eq!(steering, Steering::default());
        assert_eq!(steering.to_map()["life"], "auto");
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        for (field, value) in [
            ("period", json!("0ms")),
            ("moved", json!("many")),
            ("slow_start_from", json!(0)),
            ("panic", json!(-0.1)),
            ("most_share", json!(1e300)),
            ("overload", json!(0.5)),
            ("overload_drain", json!(0.85)),
            ("moved_busy", json!(0.01)),
            ("guard_full", json!(0.7)),
            ("flap_hold_max", json!("1s")),
            ("flap_changes", json!(0)),
            ("life", json!("0ms")),
            ("life", json!("long")),
        ] {
            let error = Steering::from_json(&json!({ field: value })).expect_err(field);
            assert_eq!(error.field, field);
            assert!(error.advice.contains("give"), "{error}");
        }
    }
}
