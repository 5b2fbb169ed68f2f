//! The metrics, one row each.

mod agent;
mod real;
mod vip;

use std::fmt;

use lb_serve::metrics::{Family, Kind, Samples, Unit, Value};

use super::scrape::{RealScrape, Scrape, VipScrape};

/// All metrics, in groups with their titles.
pub(super) const GROUPS: &[(&str, &[Metric])] = &[
    ("VIPs", vip::METRICS),
    ("Reals", real::METRICS),
    ("Data plane", agent::DATA_PLANE),
    ("Agent", agent::AGENT),
];

/// A metric: its definition and its samples.
pub(super) struct Metric {
    pub family: Family,
    read: Read,
}

/// Where the samples of a metric are.
enum Read {
    /// One for the agent.
    Agent(fn(&Scrape) -> Value<'_>),
    /// One for each VIP that has it.
    Vip(fn(&VipScrape) -> Option<Value<'_>>),
    /// One for each real of each VIP that has it.
    Real(fn(&RealScrape) -> Option<Value<'_>>),
    /// Samples with labels of their own.
    Samples(fn(&Scrape, &mut Samples<'_>) -> fmt::Result),
}

impl Metric {
    /// Writes its samples.
    pub fn write(&self, scrape: &Scrape, samples: &mut Samples<'_>) -> fmt::Result {
        match self.read {
            Read::Agent(read) => samples.add(&[], read(scrape)),
            Read::Vip(read) => scrape.vips.iter().try_for_each(|vip| match read(vip) {
                Some(value) => samples.add(&[("vip", &vip.name)], value),
                None => Ok(()),
            }),
            Read::Real(read) => each_real(scrape, |vip, real| match read(real) {
                Some(value) => samples.add(&[("vip", &vip.name), ("real", &real.name)], value),
                None => Ok(()),
            }),
            Read::Samples(write) => write(scrape, samples),
        }
    }
}

fn each_real(
    scrape: &Scrape,
    mut write: impl FnMut(&VipScrape, &RealScrape) -> fmt::Result,
) -> fmt::Result {
    for vip in &scrape.vips {
        for real in &vip.reals {
            write(vip, real)?;
        }
    }
    Ok(())
}

const fn metric(
    name: &'static str,
    (kind, unit): (Kind, Option<Unit>),
    labels: &'static [&'static str],
    help: &'static str,
    read: Read,
) -> Metric {
    let family = Family {
        name,
        kind,
        unit,
        labels,
        help,
    };
    Metric { family, read }
}

const COUNTER: (Kind, Option<Unit>) = (Kind::Counter, None);
const GAUGE: (Kind, Option<Unit>) = (Kind::Gauge, None);
const BYTE_COUNTER: (Kind, Option<Unit>) = (Kind::Counter, Some(Unit::Bytes));
const SECONDS_COUNTER: (Kind, Option<Unit>) = (Kind::Counter, Some(Unit::Seconds));
const BYTES: (Kind, Option<Unit>) = (Kind::Gauge, Some(Unit::Bytes));
const RATIO: (Kind, Option<Unit>) = (Kind::Gauge, Some(Unit::Ratio));
const SECONDS: (Kind, Option<Unit>) = (Kind::Gauge, Some(Unit::Seconds));
const DURATIONS: (Kind, Option<Unit>) = (Kind::Histogram, Some(Unit::Seconds));
const INFO: (Kind, Option<Unit>) = (Kind::Info, None);

const fn count(number: usize) -> Value<'static> {
    Value::Count(number as u64)
}

const fn yes(is: bool) -> Value<'static> {
    Value::Count(is as u64)
}
