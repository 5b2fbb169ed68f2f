//! The definition of a metric.

/// Names and values of a sample's labels.
pub type Labels<'a> = &'a [(&'static str, &'a str)];

/// A metric: its name, kind, unit, labels and help text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family {
    /// The name of its samples, with unit and suffix: `lb_vip_bytes_total`. A histogram's samples have the suffixes
    /// `_bucket`, `_sum` and `_count` besides.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// Its unit, which is a part of the name.
    pub unit: Option<Unit>,
    /// Names of its labels; of a histogram without `le`.
    pub labels: &'static [&'static str],
    /// What it says: one line that ends with a full stop.
    pub help: &'static str,
}

/// The kind of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A number that only grows, except when the program starts anew.
    Counter,
    /// A number that goes up and down.
    Gauge,
    /// A distribution.
    Histogram,
    /// A fact in labels; its value is always 1.
    Info,
}

/// A base unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Seconds.
    Seconds,
    /// A fraction; 1 is the whole.
    Ratio,
}

impl Kind {
    /// Its name in OpenMetrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
            Kind::Info => "info",
        }
    }

    /// What names of this kind end with.
    #[must_use]
    pub const fn suffix(self) -> &'static str {
        match self {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge | Kind::Histogram => "",
        }
    }
}

impl Unit {
    /// Its name, as a part of a metric's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Unit::Bytes => "bytes",
            Unit::Seconds => "seconds",
            Unit::Ratio => "ratio",
        }
    }
}

impl Family {
    /// The name without the suffix of its kind: what OpenMetrics calls the name of the metric family.
    #[must_use]
    pub fn base(&self) -> &'static str {
        self.name
            .strip_suffix(self.kind.suffix())
            .unwrap_or(self.name)
    }

    /// The name without suffix and unit.
    #[must_use]
    pub fn stem(&self) -> &'static str {
        let base = self.base();
        self.unit
            .and_then(|unit| base.strip_suffix(unit.name())?.strip_suffix('_'))
            .unwrap_or(base)
    }
}
