//! Trust in each of several sources that read the utilisation of one real. One that does not follow what the real carries has
//! no vote, nor has one that suddenly reads less while the others do not. One that reads more has: not to believe it may hide
//! an overload, and a lower share is believed with care anyway.

use std::time::Duration;

use super::{
    observation::{Load, Sample, SourceReading},
    trust::{DELAYS, Following},
    verdict::{Doubt, Trust},
};

/// A source disagrees if it reads this many times what is usual of it beside the utilisation that is expected, or less.
const DISAGREE: f64 = 1.5;
/// Gain with which that is learned, ...
const GAIN: f64 = 0.1;
/// ... and while it disagrees: what is usual changes over hours.
const UNUSUAL_GAIN: f64 = 0.001;
/// Readings below this count as this: their ratios tell nothing.
const LEAST: f64 = 0.02;

/// The sources of a real.
#[derive(Debug, Default)]
pub struct Sources(Vec<Source>);

/// What is known of a source.
#[derive(Debug, Default)]
struct Source {
    following: Following,
    /// The last reading that could be compared with what was carried: the time it describes, and its value.
    last: Option<(Duration, f64)>,
    /// What it usually reads over the utilisation that is expected (natural logarithm): sources may measure different things.
    usual: Option<f64>,
    /// The factor by which it differs from that, if the others do not.
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

    /// Whether its reading counts.
    fn has_vote(&self) -> bool {
        self.following.doubt().is_none() && self.differs.is_none_or(|times| times > 1.0)
    }

    /// Compares its reading with the utilisation that is expected. Returns by how much it is higher than usual (natural
    /// logarithm).
    fn compare(&mut self, value: f64, expected: f64) -> f64 {
        let ratio = (value.max(LEAST) / expected.max(LEAST)).ln();
        let usual = self.usual.get_or_insert(ratio);
        let higher = ratio - *usual;
        *usual += higher
            * if higher.abs() > DISAGREE.ln() {
                UNUSUAL_GAIN
            } else {
                GAIN
            };
        higher
    }

    /// What it usually reads over what is expected.
    fn scale(&self) -> f64 {
        self.usual.unwrap_or(0.0).exp()
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

    /// The utilisation by the sources that have a vote: the mean by weight of all, as far as these tell it. `expected` is what
    /// it should be by what was learned; without it, those are believed that were before.
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
        let mut fresh: Vec<(&mut Source, SourceReading)> = self
            .0
            .iter_mut()
            .zip(&load.sources)
            .filter_map(|(source, reading)| Some((source, (*reading)?)))
            .filter(|(_, reading)| Sample::fresh(Some(reading.utilisation), max_age).is_some())
            .collect();
        if let Some(expected) = expected {
            let mut agree = false;
            for (source, reading) in &mut fresh {
                let higher = source.compare(reading.utilisation.value, expected);
                let differs = higher.abs() > DISAGREE.ln();
                agree |= !differs && source.following.doubt().is_none();
                source.differs = differs.then(|| higher.exp());
            }
            if !agree {
                // The real has changed, or what is expected is wrong.
                for (source, _) in &mut fresh {
                    source.differs = None;
                }
            }
        }
        let (mut sum, mut weights, mut age) = (0.0, 0.0, None);
        let (mut all, mut all_weights, mut voting) = (0.0, 0.0, 0.0);
        for (source, reading) in fresh {
            all += source.scale() * reading.weight;
            all_weights += reading.weight;
            if source.has_vote() {
                voting += source.scale() * reading.weight;
                sum += reading.utilisation.value * reading.weight;
                weights += reading.weight;
                let own = reading.utilisation.age;
                age = Some(age.map_or(own, |age: Duration| age.min(own)));
            }
        }
        let Some(age) = age else {
            return load.utilisation;
        };
        // Without some of them, the others' mean is usually another one.
        let scale = (all / all_weights) / (voting / weights);
        Some(Sample {
            value: sum / weights * scale,
            age,
        })
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
