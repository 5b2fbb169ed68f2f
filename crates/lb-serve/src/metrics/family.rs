//! The definition of a metric.

/// Names and values of a sample's labels.
pub type Labels<'a> = &'a [(&'static str, &'a str)];

/// A metric: its name, kind, unit, labels and help text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family {
    /// The name of its samples, with unit and suffix: `lb_vip_bytes_total`. Samples of a histogram also have the suffixes
    /// `_bucket`, `_sum` and `_count`.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// Its unit, which is part of the name.
    pub unit: Option<Unit>,
    /// Names of its labels, without `le` for a histogram.
    pub labels: &'static [&'static str],
    /// Its help: a line that ends with a full stop.
    pub help: &'static str,
}

/// The kind of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A number that only grows until the program restarts.
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
    /// Returns its name in OpenMetrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
            Kind::Info => "info",
        }
    }

    /// Returns the suffix of names of this kind.
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
    /// Returns its name within a metric's name.
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
    /// Returns the name without the suffix of its kind, which OpenMetrics calls the name of the metric family.
    #[must_use]
    pub fn base(&self) -> &'static str {
        self.name
            .strip_suffix(self.kind.suffix())
            .unwrap_or(self.name)
    }

    /// Returns the name without suffix and unit.
    #[must_use]
    pub fn stem(&self) -> &'static str {
        let base = self.base();
        self.unit
            .and_then(|unit| base.strip_suffix(unit.name())?.strip_suffix('_'))
            .unwrap_or(base)
    }
}
