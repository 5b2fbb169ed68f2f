//! Load readings, for `load` and `why`.

use std::time::SystemTime;

use lb_proto::v1;
use serde::Serialize;

use super::{Human, table};
use crate::names;

/// One reading, or why there is none.
#[derive(Debug, PartialEq, Serialize)]
pub struct Reading {
    /// The quantity; empty if the source reported nothing.
    pub quantity: String,
    /// The value in `unit`; `None` if it is unknown.
    pub value: Option<f64>,
    /// fraction, count, 1/s, s or B.
    pub unit: String,
    /// Seconds since the value was measured.
    pub age: Option<f64>,
    /// Name of the source.
    pub source: String,
    /// Why the value is not used; empty if it is.
    pub problem: String,
}

impl From<&v1::Reading> for Reading {
    fn from(reading: &v1::Reading) -> Self {
        Reading {
            quantity: reading.quantity.clone(),
            value: reading.value,
            unit: reading.unit.clone(),
            age: reading.time.and_then(age),
            source: reading.source.clone(),
            problem: reading.problem.clone(),
        }
    }
}

/// Returns the seconds since a time, rounded to tenths.
pub fn age(time: prost_types::Timestamp) -> Option<f64> {
    let time = SystemTime::try_from(time).ok()?;
    let seconds = time.elapsed().unwrap_or_default().as_secs_f64();
    Some((seconds * 10.0).round() / 10.0)
}

impl Reading {
    /// Returns the value with its unit.
    pub fn value(&self) -> String {
        match (self.value, self.unit.as_str()) {
            (None, _) => "-".to_owned(),
            (Some(value), "fraction") => table::percent(value),
            (Some(value), "B") => table::bytes(value as u64),
            (Some(value), "count") => format!("{value}"),
            (Some(value), unit) => format!("{value:.3} {unit}"),
        }
    }

    /// Returns the age, or a dash.
    pub fn age(&self) -> String {
        self.age
            .map_or_else(|| "-".to_owned(), |age| format!("{age:.1} s"))
    }
}

/// Readings of a real.
#[derive(Debug, PartialEq, Serialize)]
pub struct RealReadings {
    /// The VIP's name.
    pub vip: String,
    /// The real's address.
    pub address: String,
    /// The readings, by source and quantity.
    pub readings: Vec<Reading>,
}

/// What `load` prints.
#[derive(Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Readings(pub Vec<RealReadings>);

impl From<&v1::ListReadingsResponse> for Readings {
    fn from(answer: &v1::ListReadingsResponse) -> Self {
        let real = |real: &v1::RealReadings| RealReadings {
            vip: names::vip(real.vip.as_ref()),
            address: real.address.clone(),
            readings: real.readings.iter().map(Reading::from).collect(),
        };
        Readings(answer.reals.iter().map(real).collect())
    }
}

impl Human for Readings {
    fn human(&self) -> String {
        if self.0.iter().all(|real| real.readings.is_empty()) {
            return "there are no readings; `lbctl set-vip VIP --load WORDS` adds a load source\n"
                .to_owned();
        }
        let rows = self.0.iter().flat_map(|real| {
            real.readings.iter().map(|reading| {
                vec![
                    real.vip.clone(),
                    real.address.clone(),
                    reading.source.clone(),
                    reading.quantity.clone(),
                    reading.value(),
                    reading.age(),
                    reading.problem.clone(),
                ]
            })
        });
        table::layout(
            &[
                ("VIP", false),
                ("REAL", false),
                ("SOURCE", false),
                ("QUANTITY", false),
                ("VALUE", true),
                ("AGE", true),
                ("PROBLEM", false),
            ],
            rows,
        )
    }
}
