//! Trust in each of several sources that read the utilisation of one real: one that does not follow what the real carries has
//! no vote, and of sources that disagree those are believed that agree with what was learned.

use std::time::Duration;

use super::{
    observation::{Load, Sample, SourceReading},
    trust::{DELAYS, Following},
    verdict::{Doubt, Trust},
};

/// Sources disagree if their readings differ by more than this factor.
const DISAGREE: f64 = 1.5;

/// The sources of a real.
#[derive(Debug, Default)]
pub struct Sources(Vec<Source>);

/// What is known of a source.
#[derive(Debug, Default)]
struct Source {
    following: Following,
    /// The last reading that could be compared with what was carried: the time it describes, and its value.
    last: Option<(Duration, f64)>,
    /// The factor by which it differs from those that are believed.
    differs: Option<f64>,
}

impl Source {
    fn doubt(&self, number: usize) -> Option<Doubt> {
        let follows = self.following.doubt().is_none();
        (!follows || self.differs.is_some()).then_some(Doubt::Source {
            number,
            times: self.differs.filter(|_| follows),
        })
    }
}

impl Sources {
    /// Compares each source's reading with what was carried. `usable` returns the time that a reading describes and its
    /// value, if it tells something; `changes` how utilisation and what was carried changed between two of them.
    pub fn observe(
        &mut self,
        load: &Load,
        usable: impl Fn(Sample) -> Option<(Duration, f64)>,
        changes: impl Fn((Duration, f64), (Duration, f64)) -> Option<(f64, [f64; DELAYS])>,
    ) {
        for (source, reading) in self.0.iter_mut().zip(&load.sources) {
            let sample = reading.and_then(|reading| usable(reading.utilisation));
            if let Some((last, sample)) = source.last.zip(sample)
                && let Some((utilisation, carried)) = changes(last, sample)
            {
                source.following.observe(utilisation, carried);
            }
            source.last = sample;
        }
    }

    /// Judges each source at the end of a period. `noise` is the relative standard deviation of readings.
    pub fn judge(&mut self, now: Duration, noise: f64) {
        for source in &mut self.0 {
            source.following.judge(now, noise);
        }
    }

    /// The utilisation that the trusted sources report: their mean by weight. `expected` is what it should be by what was
    /// learned; without it, those are believed that were at the end of the period.
    pub fn combined(
        &mut self,
        load: &Load,
        max_age: Duration,
        expected: Option<f64>,
    ) -> Option<Sample> {
        if load.sources.len() < 2 {
            self.0.clear();
            return load.utilisation;
        }
        if self.0.len() != load.sources.len() {
            self.0.clear();
            self.0.resize_with(load.sources.len(), Source::default);
        }
        let mut trusted: Vec<(&mut Source, SourceReading)> = Vec::new();
        for (source, reading) in self.0.iter_mut().zip(&load.sources) {
            if expected.is_some() {
                source.differs = None;
            }
            if let Some(reading) = reading
                && Sample::fresh(Some(reading.utilisation), max_age).is_some()
                && source.doubt(0).is_none()
            {
                trusted.push((source, *reading));
            }
        }
        let value = |reading: &SourceReading| reading.utilisation.value.max(f64::MIN_POSITIVE);
        let distance = |one: f64, other: f64| (one / other).ln().abs();
        let nearest = expected.and_then(|expected| {
            let distances = |(_, reading): &(&mut Source, SourceReading)| {
                let value = value(reading);
                (distance(value, expected), value)
            };
            let nearest = trusted.iter().map(distances);
            nearest.min_by(|(a, _), (b, _)| a.total_cmp(b))
        });
        let (mut sum, mut weights, mut age) = (0.0, 0.0, None);
        for (source, reading) in trusted {
            if let Some((_, nearest)) = nearest
                && distance(value(&reading), nearest) > DISAGREE.ln()
            {
                source.differs = Some(value(&reading) / nearest);
                continue;
            }
            sum += reading.utilisation.value * reading.weight;
            weights += reading.weight;
            let own = reading.utilisation.age;
            age = Some(age.map_or(own, |age: Duration| age.min(own)));
        }
        match age {
            Some(age) if weights > 0.0 => Some(Sample {
                value: sum / weights,
                age,
            }),
            _ => load.utilisation,
        }
    }

    /// How far they are trusted, if one of them is not.
    pub fn trust(&self) -> Option<Trust> {
        let mut doubts = (1..)
            .zip(&self.0)
            .filter_map(|(number, source)| source.doubt(number));
        let first = doubts.next()?;
        let doubted = 1 + doubts.count();
        Some(Trust {
            level: 1.0 - doubted as f64 / self.0.len() as f64,
            doubt: Some(first),
        })
    }
}
