//! The history of load: as a table, as lines with commas, and as a picture.

use lb_history::{Point, Quantity, query::csv};
use lb_proto::controller::v1;
use serde::Serialize;

use super::{
    Human,
    table::{Column, layout},
};

/// Rows of a table at most: the newest.
const ROWS: usize = 60;

/// What an object carried.
#[derive(Debug, Serialize)]
pub struct History {
    /// What it is of.
    #[serde(skip)]
    pub name: String,
    /// Seconds of a point.
    pub step: u64,
    /// By time.
    pub points: Vec<Point>,
}

impl History {
    /// What the controller answers.
    #[must_use]
    pub fn new(name: &str, answer: &v1::GetHistoryResponse) -> Self {
        let point = |point: &v1::HistoryPoint| {
            let figures = Quantity::ALL.map(|quantity| {
                let figure = point.figures.get(quantity.name())?;
                Some((figure.mean, figure.highest))
            });
            Point::new(point.time, figures)
        };
        History {
            name: name.to_owned(),
            step: answer.step,
            points: answer.points.iter().map(point).collect(),
        }
    }

    /// As lines with commas.
    #[must_use]
    pub fn csv(&self) -> String {
        csv(&self.points)
    }

    /// The quantities of which something is known.
    pub fn known(&self) -> impl Iterator<Item = Quantity> {
        let is_known = |quantity: &Quantity| {
            self.points
                .iter()
                .any(|point| point.get(*quantity).is_some())
        };
        Quantity::ALL.into_iter().filter(is_known)
    }
}

/// The head of a column.
const fn head(quantity: Quantity) -> &'static str {
    match quantity {
        Quantity::Rate => "RATE",
        Quantity::Connections => "CONNECTIONS",
        Quantity::Serving => "SERVING",
        Quantity::Utilisation => "UTILISATION",
        Quantity::Cpu => "CPU",
        Quantity::Memory => "MEMORY",
        Quantity::Network => "NETWORK",
        Quantity::Latency => "LATENCY",
    }
}

/// A figure in four digits.
#[must_use]
pub fn figure(quantity: Quantity, figure: f64) -> String {
    match quantity {
        Quantity::Utilisation | Quantity::Cpu | Quantity::Memory | Quantity::Network => {
            format!("{:.1} %", figure * 100.0)
        }
        Quantity::Latency => format!("{:.1} ms", figure * 1_000.0),
        _ if figure < 100.0 => format!("{figure:.1}"),
        _ => format!("{figure:.0}"),
    }
}

/// A time in UTC.
#[must_use]
pub fn time(seconds: u64) -> String {
    prost_types::Timestamp {
        seconds: i64::try_from(seconds).unwrap_or(i64::MAX),
        nanos: 0,
    }
    .to_string()
}

impl Human for History {
    fn human(&self) -> String {
        let known: Vec<Quantity> = self.known().collect();
        if known.is_empty() {
            return format!("nothing is known of {} in this time\n", self.name);
        }
        let mut columns: Vec<Column> = vec![("TIME", false)];
        columns.extend(known.iter().map(|quantity| (head(*quantity), true)));
        let first = self.points.len().saturating_sub(ROWS);
        let rows = self.points[first..].iter().map(|point| {
            let cell = |quantity: &Quantity| {
                let mean = point.get(*quantity).map(|(mean, _)| mean);
                mean.map_or_else(String::new, |mean| figure(*quantity, mean))
            };
            std::iter::once(time(point.time))
                .chain(known.iter().map(cell))
                .collect()
        });
        let mut text = layout(&columns, rows);
        if first > 0 {
            text.push_str(&format!(
                "{first} points before are not shown; --csv and -o json have all\n"
            ));
        }
        text
    }
}
