//! What clients demand over time.

use std::{f64::consts::TAU, ops::Range};

/// Flows a second that an instance of the usual size carries.
pub const CAPACITY: f64 = 100.0;
/// The wanted utilisation.
pub const TARGET: f64 = 0.7;
/// Demand at first, flows a second.
const BASE: f64 = 250.0;
/// Seconds of constant demand before a trace, in which steering learns; they do not count.
pub const WARM: f64 = 600.0;

/// The course of demand.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    /// Always the same.
    Flat(f64),
    /// Times 3.6 after five minutes.
    Step,
    /// Times 5 for 90 s, after five minutes.
    Spike,
    /// Times 7 within five minutes.
    Ramp,
    /// A day in an hour, from 200 to 1,400.
    Day,
    /// Times 3.6 for two of four minutes.
    Square,
    /// Doubles while nothing is read, and falls to a quarter while nothing is read.
    Lost,
}

/// A trace.
#[derive(Clone, Debug)]
pub struct Trace {
    /// The name in tables.
    pub name: &'static str,
    /// The course of demand.
    pub shape: Shape,
    /// Its length, seconds.
    pub length: f64,
    /// Relative standard deviation of the demand of a second.
    pub noise: f64,
    /// Times in which no utilisation is read.
    pub silent: Vec<Range<f64>>,
    /// Times in which nothing counts what is offered.
    pub uncounted: Vec<Range<f64>>,
}

impl Trace {
    const fn new(name: &'static str, shape: Shape, length: f64) -> Self {
        Trace {
            name,
            shape,
            length,
            noise: 0.05,
            silent: Vec::new(),
            uncounted: Vec::new(),
        }
    }

    /// The traces that all laws are compared on.
    pub fn all() -> Vec<Trace> {
        let lost = Trace {
            silent: vec![480.0..1_080.0, 1_620.0..3_000.0],
            ..Trace::new("readings lost", Shape::Lost, 3_600.0)
        };
        let blind = Trace {
            name: "readings and counts lost",
            uncounted: lost.silent.clone(),
            ..lost.clone()
        };
        vec![
            Trace::new("flat at a boundary, 1 h", Shape::Flat(350.0), 3_600.0),
            Trace::new("step × 3.6", Shape::Step, 1_800.0),
            Trace::new("spike × 5, 90 s", Shape::Spike, 1_800.0),
            Trace::new("ramp × 7 in 5 min", Shape::Ramp, 1_800.0),
            Trace::new("day in an hour, 200–1,400", Shape::Day, 3_600.0),
            Trace::new("square, 2 min on/off", Shape::Square, 3_600.0),
            lost,
            blind,
        ]
    }

    /// The trace with this name.
    ///
    /// # Panics
    /// Panics if there is none.
    pub fn of(name: &str) -> Trace {
        let found = Trace::all()
            .into_iter()
            .find(|trace| trace.name.starts_with(name));
        found.unwrap_or_else(|| panic!("no trace is called {name}"))
    }

    /// Flat demand at a boundary for ten hours, with 10 % noise.
    pub fn calm() -> Trace {
        Trace {
            noise: 0.10,
            ..Trace::new(
                "flat at a boundary, 10 % noise, 10 h",
                Shape::Flat(350.0),
                36_000.0,
            )
        }
    }

    /// Demand at a time, flows a second; before the trace it is that of its begin.
    pub fn demand(&self, at: f64) -> f64 {
        let at = at.max(0.0);
        match self.shape {
            Shape::Flat(rate) => rate,
            Shape::Step => BASE * if at < 300.0 { 1.0 } else { 3.6 },
            Shape::Spike => {
                BASE * if (300.0..390.0).contains(&at) {
                    5.0
                } else {
                    1.0
                }
            }
            Shape::Ramp => BASE * (1.0 + 6.0 * ((at - 300.0) / 300.0).clamp(0.0, 1.0)),
            Shape::Day => 800.0 - 600.0 * (TAU * at / 3_600.0).cos(),
            Shape::Square => BASE * if at % 240.0 < 120.0 { 1.0 } else { 3.6 },
            Shape::Lost => {
                BASE * if at < 600.0 {
                    1.0
                } else if at < 1_800.0 {
                    2.0
                } else {
                    0.5
                }
            }
        }
    }

    /// Whether utilisation is read at a time.
    pub fn reads(&self, at: f64) -> bool {
        !self.silent.iter().any(|range| range.contains(&at))
    }

    /// Whether what is offered is counted at a time.
    pub fn counts(&self, at: f64) -> bool {
        !self.uncounted.iter().any(|range| range.contains(&at))
    }
}
