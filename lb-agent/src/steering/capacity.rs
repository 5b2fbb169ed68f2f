//! What a real can carry, estimated from what it measurably carries.

use std::time::Duration;

use super::spec::Steering;

/// Standard deviation of readings that is assumed at first, as a part.
const FIRST_DEVIATION: f64 = 0.05;
/// How fast the deviation is learned.
const DEVIATION_GAIN: f64 = 0.05;
/// From this utilisation on a real may be asked for more than it can carry: what it carries over its
/// utilisation is then only the most its capacity can be.
const FULL: f64 = 0.97;
/// The same as long as little is known: noise makes less of a full one's reading.
const MAYBE_FULL: f64 = 0.90;
/// Little is known before so many readings.
const KNOWN: f64 = 5.0;
/// What is made of that most if the real has more than the others: the truth is below it, and unknown until
/// the real is not full any more.
const FULL_PART: f64 = 0.7;
/// It has more than the others from this multiple of the mean utilisation on.
const ABOVE_MEAN: f64 = 1.1;

/// An estimate of what a real carries at utilisation 1.
#[derive(Debug)]
pub struct Capacity {
    value: Option<f64>,
    /// Readings since the last surprise, which is when the estimate began anew.
    readings: f64,
    deviation: f64,
    /// Readings that the deviation was learned from.
    seen: f64,
    /// Whether the last reading was a surprise, and to which side.
    surprise: f64,
    /// The last reading said that it is full.
    full: bool,
    /// When the last reading that was learned from was true.
    heard: Option<Duration>,
}

impl Default for Capacity {
    fn default() -> Self {
        Capacity {
            value: None,
            readings: 0.0,
            deviation: FIRST_DEVIATION,
            seen: 0.0,
            surprise: 0.0,
            full: false,
            heard: None,
        }
    }
}

impl Capacity {
    /// The estimate.
    pub const fn value(&self) -> Option<f64> {
        self.value
    }

    /// When the last reading was true.
    pub const fn heard(&self) -> Option<Duration> {
        self.heard
    }

    /// Learns from a reading that was true at a time later than the last one's: it carried this much at
    /// this utilisation, when the mean of all was that.
    pub fn learn(
        &mut self,
        spec: &Steering,
        at: Duration,
        carried: f64,
        utilisation: f64,
        mean: f64,
    ) {
        if self.heard.is_some_and(|heard| at <= heard) {
            return;
        }
        self.heard = Some(at);
        let measured = carried / utilisation;
        let full = utilisation
            >= if self.readings < KNOWN {
                MAYBE_FULL
            } else {
                FULL
            };
        let again = std::mem::replace(&mut self.full, full);
        if full {
            let part = if utilisation > mean * ABOVE_MEAN {
                FULL_PART
            } else {
                1.0
            };
            let most = measured * part;
            // Once may be noise. It is a guess: the next real reading replaces it.
            if self.value.is_none_or(|value| again && most < value) {
                self.value = Some(most);
                self.readings = 0.0;
            }
            return;
        }
        let Some(value) = self.value.filter(|_| self.readings > 0.0) else {
            self.value = Some(measured);
            self.readings = 1.0;
            return;
        };
        let error = (measured / value).ln();
        let limit = spec.surprise.max(spec.surprise_deviations * self.deviation);
        let surprise = if error.abs() > limit {
            error.signum()
        } else {
            0.0
        };
        if surprise != 0.0 && surprise == self.surprise {
            self.readings = 1.0;
        }
        self.surprise = surprise;
        let gain = (1.0 / (1.0 + self.readings)).max(spec.gain);
        self.readings += 1.0;
        self.value = Some(value * (gain * error).exp());
        let part = error.abs().min(limit);
        let square = self.deviation * self.deviation;
        let gain = DEVIATION_GAIN.max(1.0 / (self.seen + 2.0));
        self.seen += 1.0;
        self.deviation = (square + gain * (part * part - square)).sqrt();
    }

    /// The relative standard deviation of the estimate itself.
    pub fn uncertainty(&self, spec: &Steering) -> f64 {
        self.deviation * (spec.gain / (2.0 - spec.gain)).sqrt()
    }

    /// Nothing was heard for long: it fades to this value with the time constant of the specification.
    pub fn fade(&mut self, spec: &Steering, time: f64, towards: f64) {
        if let Some(value) = self.value {
            let gain = 1.0 - (-time / spec.fade.as_secs_f64()).exp();
            self.value = Some(value * (gain * (towards / value).ln()).exp());
        }
    }

    /// What is carried is counted in another unit now, of which there are so many per old one.
    pub fn convert(&mut self, factor: f64) {
        self.value = self.value.map(|value| value * factor);
        self.readings = self.readings.min(1.0);
    }
}
