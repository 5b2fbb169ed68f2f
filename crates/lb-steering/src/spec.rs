//! What an operator can say of steering: the controller and its constants.

use std::{ops::RangeInclusive, time::Duration};

use serde::{Deserialize, Serialize};

/// What decides the shares of new flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Each real's capacity is estimated from what it measurably carries; new flows fill what is missing.
    /// A pool without any reading of load has the operator's weights.
    #[default]
    Capacity,
    /// The operator's weights.
    Static,
    /// The operator's weights times what the real's agent says.
    AgentCheck,
    /// More for those below the mean utilisation, less for those above; refused for long connections.
    Proportional,
    /// The operator's weights are shares of the connections; new flows fill what is missing.
    LeastConnections,
    /// The operator's weights, less for those that answer probes more slowly than the others.
    Latency,
}

impl Kind {
    /// All, in the order of the API.
    pub const ALL: [Kind; 6] = [
        Kind::Capacity,
        Kind::Static,
        Kind::AgentCheck,
        Kind::Proportional,
        Kind::LeastConnections,
        Kind::Latency,
    ];

    /// The name in files and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Capacity => "capacity",
            Kind::Static => "static",
            Kind::AgentCheck => "agent-check",
            Kind::Proportional => "proportional",
            Kind::LeastConnections => "least-connections",
            Kind::Latency => "latency",
        }
    }
}

/// What was refused: the field's path inside the specification, its value, and what would be right.
pub type Invalid = (String, String, String);

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
const HOUR: Duration = seconds(3_600);
const DAY: Duration = seconds(86_400);
/// Long enough for any connection: a year.
const YEAR: Duration = seconds(365 * 86_400);

/// A field's value as text, and whether it lies in its range (NaN lies in none).
trait Bounded: PartialOrd + Sized {
    fn text(&self) -> String;
    fn within(&self, range: &RangeInclusive<Self>) -> Option<String> {
        (!range.contains(self)).then(|| {
            format!(
                "out of range, give {} to {}",
                range.start().text(),
                range.end().text()
            )
        })
    }
}
impl Bounded for f64 {
    fn text(&self) -> String {
        self.to_string()
    }
}
impl Bounded for u32 {
    fn text(&self) -> String {
        self.to_string()
    }
}
impl Bounded for Duration {
    fn text(&self) -> String {
        lb_model::duration::format(*self)
    }
}

/// Writes the specification, its defaults and its ranges from one list.
macro_rules! specification {
    ($( $(#[$attribute:meta])* $name:ident: $type:ty = $default:expr, $range:expr; )*) => {
        /// How load and health become weights. Each field has a default: reference and measurements are in
        /// `docs/steering.md`. Fractions are of 1.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(
            deny_unknown_fields,
            default,
            expecting = "a table, as { controller = \"capacity\" }"
        )]
        pub struct Steering {
            /// What decides the shares of new flows.
            pub controller: Kind,
            /// Mean life of a connection, 1 ms to 1 year; none: measured, as live flows over new flows a
            /// second.
            #[serde(with = "life")]
            pub life: Option<Duration>,
            $( $(#[$attribute])* pub $name: $type, )*
        }

        impl Default for Steering {
            fn default() -> Self {
                Steering { controller: Kind::default(), life: None, $( $name: $default, )* }
            }
        }

        impl Steering {
            fn ranges(&self) -> Result<(), Invalid> {
                $(
                    let range: RangeInclusive<$type> = $range;
                    if let Some(advice) = self.$name.within(&range) {
                        return Err((stringify!($name).to_owned(), self.$name.text(), advice));
                    }
                )*
                Ok(())
            }
        }
    };
}

specification! {
    /// Time between two decisions, never below the interval of the load's fastest source.
    #[serde(with = "lb_model::duration")]
    period: Duration = seconds(5), Duration::from_millis(100)..=HOUR;

    /// How long a real that comes (back) takes to get its full share.
    #[serde(with = "lb_model::duration")]
    slow_start: Duration = seconds(60), Duration::ZERO..=DAY;
    /// The part of its share that it begins with.
    slow_start_from: f64 = 0.10, 0.001..=1.0;

    /// A real above this utilisation, and above the others, is overloaded: its share is halved per period.
    overload: f64 = 0.90, 0.1..=1.0;
    /// For so many periods before that begins.
    overload_periods: u32 = 3, 1..=10_000;
    /// A real above this utilisation, and above the others, gets no new flows.
    overload_drain: f64 = 0.97, 0.1..=1.0;
    /// For so many periods before that begins.
    overload_drain_periods: u32 = 6, 1..=10_000;
    /// Below this utilisation it gets new flows again.
    overload_back: f64 = 0.75, 0.01..=1.0;
    /// For so many periods before that.
    overload_back_periods: u32 = 6, 1..=10_000;
    /// Part of the capacity that may be drained by load at a time.
    max_drained: f64 = 0.30, 0.0..=1.0;

    /// So many changes of health within `flap_within` and a real is held down.
    flap_changes: u32 = 3, 2..=1_000;
    /// See `flap_changes`.
    #[serde(with = "lb_model::duration")]
    flap_within: Duration = seconds(600), seconds(1)..=DAY;
    /// How long it is held down at first; it doubles each time.
    #[serde(with = "lb_model::duration")]
    flap_hold: Duration = seconds(30), Duration::ZERO..=DAY;
    /// How long at most.
    #[serde(with = "lb_model::duration")]
    flap_hold_max: Duration = seconds(300), Duration::ZERO..=DAY;

    /// With less than this part of the capacity eligible, drains by load are suspended.
    panic: f64 = 0.50, 0.0..=1.0;

    /// A reading is stale after so many periods: what was learned from it is held.
    stale_periods: u32 = 3, 1..=10_000;
    /// After this long without a reading, what was learned fades, if it is more than the others have.
    #[serde(with = "lb_model::duration")]
    fade_after: Duration = seconds(180), seconds(1)..=YEAR;
    /// The time constant with which it fades to what the others have for their weight.
    #[serde(with = "lb_model::duration")]
    fade: Duration = seconds(60), seconds(1)..=YEAR;

    /// Part of the ring that may move per period.
    moved: f64 = 0.02, 0.000_1..=1.0;
    /// The same while a real is above `busy`.
    moved_busy: f64 = 0.10, 0.000_1..=1.0;
    /// See `moved_busy`.
    busy: f64 = 0.95, 0.1..=1.0;
    /// A real's share changes by this factor per period at most; that of long connections falls, and comes back,
    /// without this bound.
    step: f64 = 1.5, 1.01..=100.0;
    /// A share that is off by less than this part of itself is left alone.
    deadband: f64 = 0.03, 0.0..=0.5;
    /// The least and the most a real gets, as a multiple of the operator's share.
    least_share: f64 = 0.1, 0.001..=1.0;
    /// See `least_share`.
    most_share: f64 = 10.0, 1.0..=1_000.0;

    /// Time in which new flows are to fill what a real lacks in connections.
    #[serde(with = "lb_model::duration")]
    horizon: Duration = seconds(300), seconds(1)..=DAY;
    /// Connections are long-lived from this many periods on.
    long_lived_periods: u32 = 10, 1..=100_000;
    /// The least and the most of its share of new flows a real gets while connections are evened out.
    deficit_least: f64 = 0.02, 0.0..=1.0;
    /// See `deficit_least`.
    deficit_most: f64 = 3.0, 1.0..=100.0;
    /// The time over which the life of connections is measured.
    #[serde(with = "lb_model::duration")]
    life_over: Duration = seconds(600), seconds(1)..=DAY;

    /// How much of a surprise is believed when nothing changes.
    gain: f64 = 0.10, 0.001..=1.0;
    /// The relative standard deviation an estimate is to have: the noisier readings are, the less of each is believed.
    certainty: f64 = 0.015, 0.001..=0.5;
    /// A surprise is a change from this on (natural logarithm of measured over estimated), or from
    /// `surprise_deviations`, whichever is more; two or three make the estimate begin anew, and so do more of less.
    surprise: f64 = 0.2, 0.01..=10.0;
    /// See `surprise`; standard deviations of readings: the real's own, or the pool's median if that is more.
    surprise_deviations: f64 = 3.0, 1.0..=100.0;
    /// How much an error costs: with this, 10 % errors make a real look 1 + 0.1 × this slower.
    error_penalty: f64 = 5.0, 0.0..=1_000.0;
    /// Below this utilisation a real's reading says nothing of its capacity.
    least_utilisation: f64 = 0.05, 0.001..=0.9;
    /// Below this mean utilisation no reading does.
    no_signal: f64 = 0.15, 0.0..=0.9;
    /// A real that is healthy for less says nothing yet.
    #[serde(with = "lb_model::duration")]
    healthy_for: Duration = seconds(10), Duration::ZERO..=HOUR;
    /// From this part of its memory, file descriptors or connections on, a real gets less.
    guard_from: f64 = 0.80, 0.0..=0.99;
    /// At this part it gets the least.
    guard_full: f64 = 0.95, 0.01..=1.0;

    /// Flows a second that may be reset on reals over their share; 0: none.
    shed_rate: f64 = 0.0, 0.0..=1_000_000.0;

    /// `proportional`: the power of mean over own utilisation.
    exponent: f64 = 0.3, 0.01..=1.0;
    /// `proportional` and `latency`: a share changes by this factor per period at most.
    small_step: f64 = 1.25, 1.01..=10.0;
    /// `latency`: the time in which a peak is forgotten.
    #[serde(with = "lb_model::duration")]
    latency_decay: Duration = seconds(30), seconds(1)..=HOUR;
}

/// Equal to itself as long as no field is NaN, and [`Steering::validate`] refuses NaN.
impl Eq for Steering {}

impl Steering {
    /// A reading that is older is stale.
    #[must_use]
    pub fn stale_after(&self) -> Duration {
        self.period * self.stale_periods
    }

    /// Whether every field can have its value.
    ///
    /// # Errors
    /// The first field that cannot.
    pub fn validate(&self) -> Result<(), Invalid> {
        self.ranges()?;
        let invalid =
            |field: &str, value: String, advice: String| Err((field.to_owned(), value, advice));
        if let Some(life) = self.life
            && !(Duration::from_millis(1)..=YEAR).contains(&life)
        {
            return invalid(
                "life",
                life.text(),
                "out of range, give auto, or 1ms to 365d".into(),
            );
        }
        for (more, value, less, least) in [
            (
                "overload_drain",
                self.overload_drain,
                "overload",
                self.overload,
            ),
            (
                "overload",
                self.overload,
                "overload_back",
                self.overload_back,
            ),
            ("moved_busy", self.moved_busy, "moved", self.moved),
            ("guard_full", self.guard_full, "guard_from", self.guard_from),
        ] {
            no_less((more, value), (less, least))?;
        }
        no_less(
            ("flap_hold_max", self.flap_hold_max),
            ("flap_hold", self.flap_hold),
        )
    }
}

/// A setting must not be below another one.
fn no_less<T: Bounded>((more, value): (&str, T), (less, least): (&str, T)) -> Result<(), Invalid> {
    if value >= least {
        return Ok(());
    }
    let advice = format!("below {less}, give {} or more", least.text());
    Err((more.to_owned(), value.text(), advice))
}

/// `life`: `"auto"` or a time.
mod life {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    const AUTO: &str = "auto";

    pub fn serialize<S: Serializer>(
        life: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match life {
            None => serializer.serialize_str(AUTO),
            Some(life) => lb_model::duration::serialize(life, serializer),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == AUTO {
            return Ok(None);
        }
        lb_model::duration::parse(&text)
            .map(Some)
            .map_err(|error| D::Error::custom(format!("{error}; or auto")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_survive_being_written() {
        let steering = Steering::default();
        assert_eq!(steering.validate(), Ok(()));
        let text = toml::to_string(&steering).unwrap();
        assert!(text.contains("life = \"auto\""), "{text}");
        assert_eq!(toml::from_str::<Steering>(&text).unwrap(), steering);
        assert_eq!(toml::from_str::<Steering>("").unwrap(), steering);
    }

    #[test]
    fn what_is_said_is_read() {
        let steering: Steering = toml::from_str(
            "controller = \"least-connections\"\nlife = \"1h\"\nperiod = \"2s\"\nshed_rate = 5.0",
        )
        .unwrap();
        assert_eq!(steering.controller, Kind::LeastConnections);
        assert_eq!(steering.life, Some(HOUR));
        assert_eq!(steering.period, seconds(2));
        assert_eq!(steering.shed_rate, 5.0);
        for kind in Kind::ALL {
            let text = format!("controller = \"{}\"", kind.name());
            assert_eq!(toml::from_str::<Steering>(&text).unwrap().controller, kind);
        }
        for text in [
            "perod = \"1s\"",
            "controller = \"magic\"",
            "life = \"long\"",
        ] {
            toml::from_str::<Steering>(text).expect_err(text);
        }
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        for (field, change) in [
            (
                "period",
                (|s| s.period = Duration::ZERO) as fn(&mut Steering),
            ),
            ("moved", |s| s.moved = f64::NAN),
            ("slow_start_from", |s| s.slow_start_from = 0.0),
            ("panic", |s| s.panic = -0.1),
            ("most_share", |s| s.most_share = f64::INFINITY),
            ("overload", |s| s.overload = 0.5),
            ("overload_drain", |s| s.overload_drain = 0.85),
            ("moved_busy", |s| s.moved_busy = 0.01),
            ("guard_full", |s| s.guard_full = 0.7),
            ("flap_hold_max", |s| s.flap_hold_max = seconds(1)),
            ("flap_changes", |s| s.flap_changes = 0),
            ("life", |s| s.life = Some(Duration::ZERO)),
        ] {
            let mut steering = Steering::default();
            change(&mut steering);
            let (named, value, advice) = steering.validate().expect_err(field);
            assert_eq!(named, field);
            assert!(
                !value.is_empty() && advice.contains("give"),
                "{value}: {advice}"
            );
        }
    }
}
