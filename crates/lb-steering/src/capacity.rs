//! What a real can carry, estimated from what it measurably carries.

use std::time::Duration;

use super::{drift::Drift, spec::Steering};

/// Standard deviation of readings that is assumed at first, as a part.
const FIRST_DEVIATION: f64 = 0.05;
/// Readings are never taken for more exact than this.
const LEAST_DEVIATION: f64 = 0.005;
/// How fast the deviation is learned.
const DEVIATION_GAIN: f64 = 0.05;
/// From this utilisation on a reading does not follow what is carried.
pub const FULL: f64 = 0.97;
/// From here on a real of which nothing else is known may be asked for more than it can carry, noise making less of
/// it: what it carries over its utilisation is then only the most its capacity can be.
pub const MAYBE_FULL: f64 = 0.90;
/// From here on a reading of one that was full is believed only if the next one says so too.
const DOUBTFUL: f64 = 0.85;
/// What is made of that most: the truth is below it, and unknown until the real is not full any more.
const FULL_PART: f64 = 0.7;
/// It has more than the others from this multiple of the mean utilisation on.
const ABOVE_MEAN: f64 = 1.1;
/// This much evidence (natural logarithm of a ratio of likelihoods) makes a real a full one, ...
const EVIDENCE: f64 = 7.0;
/// ... of which a single reading, that may be wrong, gives no more than this.
const MOST_EVIDENCE: f64 = 4.0;
/// It takes all of it once the estimate is of so many readings, ...
const BELIEVED: f64 = 20.0;
/// ... to which these are added.
const DOUBTED: f64 = 4.0;
/// A reading that is below 1 by more than so many deviations is none of a full one.
const FULL_DEVIATIONS: f64 = 3.0;
/// A second reading that is off by more than so many times what makes a surprise shows that one of the two is wrong.
const WRONG: f64 = 1.5;
/// However noisy readings are, no less of an error is believed than this.
const LEAST_GAIN: f64 = 0.02;

const _: () = assert!(MOST_EVIDENCE < EVIDENCE);

/// A reading of a real.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// When it was true.
    pub at: Duration,
    /// What the real carried then.
    pub carried: f64,
    /// What it used of what it has.
    pub utilisation: f64,
    /// Mean utilisation of all.
    pub mean: f64,
    /// Relative standard deviation of the others' readings.
    pub noise: f64,
}

/// An estimate of what a real carries at utilisation 1.
#[derive(Debug)]
pub struct Capacity {
    value: Option<f64>,
    /// Readings since the last surprise, which is when the estimate began anew.
    readings: f64,
    deviation: f64,
    /// The deviation that is reckoned with: that, and no less than the others'.
    noise: f64,
    /// Readings that the deviation was learned from.
    seen: f64,
    drift: Drift,
    /// How much speaks for its being full, up to [`EVIDENCE`].
    full: f64,
    /// When the last reading that was learned from was true.
    heard: Option<Duration>,
}

impl Default for Capacity {
    fn default() -> Self {
        Capacity {
            value: None,
            readings: 0.0,
            deviation: FIRST_DEVIATION,
            noise: FIRST_DEVIATION,
            seen: 0.0,
            drift: Drift::default(),
            full: 0.0,
            heard: None,
        }
    }
}

impl Capacity {
    /// The estimate.
    pub const fn value(&self) -> Option<f64> {
        self.value
    }

    /// Relative standard deviation of its readings, once there were some to compare.
    pub fn deviation(&self) -> Option<f64> {
        (self.seen > 0.0).then_some(self.deviation)
    }

    /// When the last reading was true.
    pub const fn heard(&self) -> Option<Duration> {
        self.heard
    }

    /// Learns from a reading, if it is of a later time than the last one.
    pub fn learn(&mut self, spec: &Steering, reading: Reading) {
        let Reading {
            at,
            carried,
            utilisation,
            ..
        } = reading;
        if self.heard.is_some_and(|heard| at <= heard) {
            return;
        }
        self.heard = Some(at);
        self.noise = self.deviation.max(reading.noise).max(LEAST_DEVIATION);
        let measured = carried / utilisation;
        let known = self.value.filter(|_| self.readings > 0.0);
        let above = utilisation > reading.mean * ABOVE_MEAN;
        let expected = known.map(|value| carried / value);
        if !self.weigh(utilisation, expected, above) {
            return;
        }
        if self.full >= EVIDENCE {
            let most = measured * FULL_PART;
            // It is a guess: the next real reading replaces it.
            if self.value.is_none_or(|value| most < value) {
                self.value = Some(most);
            }
            self.readings = 0.0;
            return;
        }
        let Some(value) = known else {
            self.value = Some(measured);
            self.readings = 1.0;
            return;
        };
        let error = (measured / value).ln();
        // The estimate is unsure too.
        let sure = self.readings / (self.readings + 1.0);
        let limit = spec
            .surprise
            .max(spec.surprise_deviations * self.noise / sure.sqrt());
        let off = error / limit * spec.surprise_deviations;
        if self.readings <= 1.0 && error.abs() > WRONG * limit {
            // Such as the first: of a time in which the load had only just begun, or of one that was full for a part
            // of it. Their mean would be wrong for long, and what they differ by is no noise. Take the later one.
            self.value = Some(measured);
            self.readings = 1.0;
            return;
        }
        if let Some((value, readings)) = self.drift.observe(off, measured) {
            self.value = Some(value);
            self.readings = readings;
        } else {
            let gain = (1.0 / (1.0 + self.readings)).max(self.gain(spec));
            self.value = Some(value * (gain * error).exp());
            self.readings += 1.0;
        }
        let part = error.abs().min(limit);
        let part = part * part * sure;
        let square = self.deviation * self.deviation;
        let gain = DEVIATION_GAIN.max(1.0 / (self.seen + 2.0));
        self.seen += 1.0;
        self.deviation = (square + gain * (part - square)).sqrt();
    }

    /// Weighs whether it is full, given what it would use if it is not, and whether that is more than the others
    /// do: where all are full, it has no less than they. False: the reading is not to be believed yet.
    fn weigh(&mut self, utilisation: f64, expected: Option<f64>, above: bool) -> bool {
        let Some(expected) = expected else {
            let was = self.full >= EVIDENCE;
            let full = above && utilisation >= MAYBE_FULL;
            self.full = if full { EVIDENCE } else { 0.0 };
            return full || !(was && above && utilisation >= DOUBTFUL);
        };
        let missing = (1.0 - utilisation).max(0.0);
        let news = if above && missing <= FULL_DEVIATIONS * self.noise {
            let variance = self.noise * self.noise * (1.0 + 1.0 / self.readings);
            let differs = utilisation / expected.min(1.0) - 1.0;
            (differs * differs - missing * missing) / (2.0 * variance)
        } else {
            -MOST_EVIDENCE
        };
        let news = news.clamp(-MOST_EVIDENCE, MOST_EVIDENCE);
        // Little has to speak against an estimate from a few readings.
        let needed = EVIDENCE * ((self.readings + DOUBTED) / BELIEVED).min(1.0);
        self.full = (self.full + news).clamp(0.0, EVIDENCE);
        if self.full >= needed {
            self.full = EVIDENCE;
        }
        true
    }

    /// How much of an error is believed when nothing changes: the less the noisier readings are.
    fn gain(&self, spec: &Steering) -> f64 {
        let ratio = spec.certainty / self.noise;
        (2.0 * ratio * ratio).max(LEAST_GAIN).min(spec.gain)
    }

    /// Whether the estimate still gets better with every reading.
    pub fn learning(&self, spec: &Steering) -> bool {
        1.0 / (1.0 + self.readings) > self.gain(spec)
    }

    /// The relative standard deviation of the estimate itself.
    pub fn uncertainty(&self, spec: &Steering) -> f64 {
        let gain = self.gain(spec);
        self.noise * (gain / (2.0 - gain)).sqrt()
    }

    /// Nothing was heard for long: it fades to this value with the time constant of the specification, if that is
    /// less. Silence is no reason to give more to a real.
    pub fn fade(&mut self, spec: &Steering, time: f64, towards: f64) {
        if let Some(value) = self.value.filter(|value| towards < *value) {
            let gain = 1.0 - (-time / spec.fade.as_secs_f64()).exp();
            self.value = Some(value * (gain * (towards / value).ln()).exp());
        }
    }

    /// What is carried is counted in another unit now, of which there are so many per old one.
    pub fn convert(&mut self, factor: f64) {
        self.value = self.value.map(|value| value * factor);
        self.doubt();
    }

    /// What was learned counts no more than one reading.
    pub fn doubt(&mut self) {
        self.readings = self.readings.min(1.0);
        self.drift = Drift::default();
    }
}
