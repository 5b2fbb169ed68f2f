//! What is asked for, and how rows become points.

use std::{fmt::Write as _, io};

use serde::Serialize;

use crate::{
    quantity::{COUNT, Quantity},
    ring::RINGS,
    series::Series,
};

/// Points of an answer at most.
pub const MOST_POINTS: u64 = 13_000;
/// Points of an answer whose step is not given, about.
const USUAL_POINTS: u64 = 400;

/// A question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query {
    /// From when, seconds since 1970.
    pub from: u64,
    /// Until when, seconds since 1970; not included.
    pub to: u64,
    /// Seconds of a point.
    pub step: u64,
    ring: usize,
}

/// Why a question cannot be answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// It ends before it begins.
    #[error("from: give a time before `to`")]
    Empty,
    /// The step is none.
    #[error("step: give a multiple of {0} s for this time; there is nothing finer that far back")]
    Step(u64),
    /// There would be too many points.
    #[error(
        "step: these would be {0} points, and {MOST_POINTS} are the most; give a larger step, or a shorter time"
    )]
    Points(u64),
}

impl Query {
    /// A question at a time. Without `from` it is about the last hour; without `to`, until now; without `step`, it has some
    /// hundred points.
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn new(
        from: Option<u64>,
        to: Option<u64>,
        step: Option<u64>,
        now: u64,
    ) -> Result<Self, QueryError> {
        let to = to.unwrap_or(now).min(now);
        let from = from.unwrap_or_else(|| to.saturating_sub(RINGS[0].span()));
        if from >= to {
            return Err(QueryError::Empty);
        }
        let age = now.saturating_sub(from);
        let last = RINGS.len() - 1;
        let reaches = RINGS.iter().position(|ring| ring.span() >= age);
        let finest = reaches.unwrap_or(last);
        let step = step.unwrap_or_else(|| {
            let base = RINGS[finest].step;
            ((to - from) / USUAL_POINTS)
                .next_multiple_of(base)
                .max(base)
        });
        if step == 0 || !step.is_multiple_of(RINGS[finest].step) {
            return Err(QueryError::Step(RINGS[finest].step));
        }
        // The coarsest ring that fits has the fewest rows to read.
        let fits = |ring: &usize| step.is_multiple_of(RINGS[*ring].step);
        let ring = (finest..RINGS.len()).rev().find(fits).unwrap_or(finest);
        // What has not ended is not in a longer ring yet.
        let ring = if age <= RINGS[0].span() { finest } else { ring };
        let from = from / step * step;
        let points = (to - from).div_ceil(step);
        if points > MOST_POINTS {
            return Err(QueryError::Points(points));
        }
        Ok(Query {
            from,
            to,
            step,
            ring,
        })
    }

    /// The times of the points.
    fn times(&self) -> impl Iterator<Item = u64> {
        let step = usize::try_from(self.step).unwrap_or(usize::MAX);
        (self.from..self.to).step_by(step)
    }

    /// The answer of a series.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn answer(&self, series: &Series) -> io::Result<Vec<Point>> {
        let mut points = Vec::new();
        for time in self.times() {
            let gathered = series.gather(self.ring, time, self.step)?;
            if gathered.is_empty() {
                continue;
            }
            let figures = Quantity::ALL.map(|quantity| gathered.get(quantity));
            points.push(Point { time, figures });
        }
        Ok(points)
    }
}

/// The figures of a step.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// When it began, seconds since 1970.
    pub time: u64,
    figures: [Option<(f64, f64)>; COUNT],
}

impl Point {
    /// A point of these figures: mean and highest.
    #[must_use]
    pub const fn new(time: u64, figures: [Option<(f64, f64)>; COUNT]) -> Self {
        Point { time, figures }
    }

    /// Mean and highest of a quantity.
    #[must_use]
    pub const fn get(&self, quantity: Quantity) -> Option<(f64, f64)> {
        self.figures[quantity as usize]
    }
}

impl Serialize for Point {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap as _;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("time", &self.time)?;
        for quantity in Quantity::ALL {
            if let Some((mean, highest)) = self.get(quantity) {
                map.serialize_entry(quantity.name(), &rounded(mean))?;
                map.serialize_entry(&format!("{}_max", quantity.name()), &rounded(highest))?;
            }
        }
        map.end()
    }
}

/// Digits that are not known are not shown.
fn rounded(figure: f64) -> f64 {
    if figure == 0.0 {
        return 0.0;
    }
    let digits = 5 - figure.abs().log10().ceil() as i32;
    let factor = 10_f64.powi(digits);
    (figure * factor).round() / factor
}

/// Points as lines of text with commas (RFC 4180), with a line of heads; what is unknown is empty.
#[must_use]
pub fn csv(points: &[Point]) -> String {
    let mut text = "time".to_owned();
    for quantity in Quantity::ALL {
        let name = quantity.name();
        let _ = write!(text, ",{name},{name}_max");
    }
    text.push_str("\r\n");
    for point in points {
        let _ = write!(text, "{}", point.time);
        for quantity in Quantity::ALL {
            match point.get(quantity) {
                Some((mean, highest)) => {
                    let _ = write!(text, ",{},{}", rounded(mean), rounded(highest));
                }
                None => text.push_str(",,"),
            }
        }
        text.push_str("\r\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantity::{Gathered, Sample};

    const NOW: u64 = 1_700_006_400;

    #[test]
    fn a_question_has_the_finest_ring_that_goes_back_far_enough() {
        let query = |from, to, step| Query::new(from, to, step, NOW);
        let hour = query(None, None, None).unwrap();
        assert_eq!(
            (hour.from, hour.to, hour.step, hour.ring),
            (NOW - 3_600, NOW, 10, 0)
        );
        let day = query(Some(NOW - 86_400), None, None).unwrap();
        assert_eq!((day.step, day.ring), (240, 1));
        let days = query(Some(NOW - 86_400 * 90), None, Some(600)).unwrap();
        assert_eq!((days.step, days.ring), (600, 2));
        assert_eq!(
            query(Some(NOW - 86_400), None, Some(10)),
            Err(QueryError::Step(60))
        );
        assert_eq!(query(Some(NOW), Some(NOW), None), Err(QueryError::Empty));
        assert_eq!(
            query(Some(NOW - 60), None, Some(0)),
            Err(QueryError::Step(10))
        );
        assert_eq!(query(Some(NOW + 5), None, None), Err(QueryError::Empty));
        let points = query(Some(0), None, Some(600));
        assert!(matches!(points, Err(QueryError::Points(_))), "{points:?}");
    }

    #[test]
    fn points_are_means_of_their_step_and_gaps_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let series = Series::open(&folder.path().join("series")).unwrap();
        let start = NOW - 600;
        for step in 0..60 {
            // Two minutes in which nobody wrote.
            if (12..24).contains(&step) {
                continue;
            }
            let mut gathered = Gathered::default();
            gathered.add(&Sample::default().with(Quantity::Rate, Some(step as f64)));
            series.write(start + step * 10, &gathered).unwrap();
        }
        let query = Query::new(Some(start), None, Some(60), NOW).unwrap();
        let points = query.answer(&series).unwrap();
        assert_eq!(points.len(), 8);
        assert_eq!(points[0].time, start);
        assert_eq!(points[0].get(Quantity::Rate), Some((2.5, 5.0)));
        assert_eq!(points[2].time, start + 240);
        assert_eq!(points[0].get(Quantity::Cpu), None);
        let text = csv(&points[..1]);
        let lines: Vec<&str> = text.split("\r\n").collect();
        assert!(lines[0].starts_with("time,rate,rate_max,connections"));
        assert_eq!(lines[1], format!("{start},2.5,5,,,,,,,,,,,,,,"));
    }
}
