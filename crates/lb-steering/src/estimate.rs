//! The capacity of a real, estimated from what it carries and how utilised it is.

use std::{collections::VecDeque, time::Duration};

use super::{Steering, drift::Drift};

/// Relative standard deviation of readings that is assumed at first.
const INITIAL_DEVIATION: f64 = 0.05;
/// Lowest relative standard deviation of readings that is assumed.
const MIN_DEVIATION: f64 = 0.005;
/// Lowest gain with which the deviation is learned.
const DEVIATION_GAIN: f64 = 0.05;
/// From this utilisation on, a reading does not follow what is carried.
pub const SATURATED: f64 = 0.97;
/// From this utilisation on, a real without an estimate may be saturated, as noise may have lowered the reading.
/// Then carried load over utilisation is only an upper bound of its capacity.
pub const MAYBE_SATURATED: f64 = 0.90;
/// Down to this utilisation, the reading after a saturated one is ignored until the next one confirms it.
const DOUBTFUL: f64 = 0.85;
/// A saturated real is assumed to have this fraction of the upper bound: its capacity is below the bound, and
/// unknown while the real is saturated.
const SATURATED_FACTOR: f64 = 0.7;
/// A real has more load than the others from this multiple of the mean utilisation on.
const ABOVE_MEAN: f64 = 1.1;
/// Evidence (logarithm of a likelihood ratio) from which on a real counts as saturated, ...
const MAX_EVIDENCE: f64 = 7.0;
/// ... of which a single reading, which may be wrong, contributes at most this much.
const MAX_EVIDENCE_PER_READING: f64 = 4.0;
/// All of that evidence is needed once the estimate rests on this many readings, ...
const CONFIRMED_READINGS: f64 = 20.0;
/// ... to which these are added.
const PRIOR_READINGS: f64 = 4.0;
/// A reading that is below 1 by more than this many deviations is not one of a saturated real.
const SATURATION_DEVIATIONS: f64 = 3.0;
/// If the second reading is off by this multiple of what makes a surprise, one of the two is wrong.
const CONTRADICTION: f64 = 1.5;
/// From this many readings on, an estimate that restarts is a jump, which something else must confirm.
const SETTLED_READINGS: f64 = 8.0;
/// Periods by which an estimate is taken back when a storm begins: it was learned while the storm rose.
const TAKEN_BACK: usize = 4;
/// The largest disbelief (natural logarithm).
const MOST_DISBELIEF: f64 = 7.0;
/// A change of an estimate by at least this (natural logarithm) is no noise, and undoes a jump.
const UNDONE: f64 = 0.1;
/// For this long a capacity that jumped up is not believed at all.
const UNBELIEVED: Duration = Duration::from_secs(60);
/// A lower capacity that was believed without proof is a fact after this time.
const PROVEN_AFTER: Duration = Duration::from_secs(1_800);
/// A capacity up to this multiple of another one is the same.
const SAME: f64 = 1.1;
/// A factor on the estimate this close to 1 is 1.
const BELIEVED: f64 = 0.02;
/// The gain of the estimate is at least this, however noisy readings are.
const MIN_GAIN: f64 = 0.02;

const _: () = assert!(MAX_EVIDENCE_PER_READING < MAX_EVIDENCE);

/// A reading of a real.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// The time it describes.
    pub at: Duration,
    /// What the real carried then.
    pub carried: f64,
    /// The real's utilisation.
    pub utilisation: f64,
    /// Mean utilisation of the pool.
    pub mean: f64,
    /// Relative standard deviation of the pool's readings.
    pub noise: f64,
    /// Whether the estimate may rise: not while the real is in trouble.
    pub may_rise: bool,
    /// What it served of that, if known: what a saturated real carries is more.
    pub served: Option<f64>,
}

/// An estimate of what a real carries at utilisation 1.
#[derive(Debug)]
pub struct CapacityEstimate {
    value: Option<f64>,
    /// Natural logarithm of the factor on `value` that undoes jumps of the sensor which nothing confirmed.
    disbelief: f64,
    /// When it jumped last.
    jumped_at: Duration,
    /// The value before a lower one was believed without proof, and when that was.
    before_drop: Option<(f64, Duration)>,
    /// The last values, the oldest first.
    past: VecDeque<Option<f64>>,
    /// Readings since the estimate was last restarted.
    readings: f64,
    deviation: f64,
    /// The deviation in use: `deviation`, but at least that of the pool.
    noise: f64,
    /// Readings from which the deviation was learned.
    deviation_readings: f64,
    drift: Drift,
    /// Evidence that the real is saturated, 0 to [`MAX_EVIDENCE`].
    saturation: f64,
    /// The value before it was taken for saturated, and the readings on which it rested.
    before_guess: Option<(f64, f64)>,
    /// The time that the last reading describes.
    last_reading: Option<Duration>,
}

impl Default for CapacityEstimate {
    fn default() -> Self {
        CapacityEstimate {
            value: None,
            disbelief: 0.0,
            jumped_at: Duration::ZERO,
            before_drop: None,
            past: VecDeque::new(),
            readings: 0.0,
            deviation: INITIAL_DEVIATION,
            noise: INITIAL_DEVIATION,
            deviation_readings: 0.0,
            drift: Drift::default(),
            saturation: 0.0,
            before_guess: None,
            last_reading: None,
        }
    }
}

impl CapacityEstimate {
    /// The estimate, or `None` before the first reading.
    pub fn value(&self) -> Option<f64> {
        self.value.map(|value| value * self.disbelief.exp())
    }

    /// The estimate if all that is read were believed.
    pub const fn believed(&self) -> Option<f64> {
        self.value
    }

    /// The factor by which the real's utilisation jumped, if that is not believed.
    pub fn disbelieved(&self) -> Option<f64> {
        (self.disbelief.abs() > BELIEVED).then(|| self.disbelief.exp())
    }

    /// Keeps the value that the estimate had before it changed by this factor.
    pub fn disbelieve(&mut self, now: Duration, change: f64) {
        self.jumped_at = now;
        self.disbelief = (self.disbelief - change.ln()).clamp(-MOST_DISBELIEF, MOST_DISBELIEF);
    }

    /// A jump that is undone is not believed the other way round either: what is not believed goes first.
    fn undo(&mut self, change: f64) {
        let change = change.ln();
        if change.abs() >= UNDONE && change * self.disbelief > 0.0 {
            let left = (self.disbelief.abs() - change.abs()).max(0.0);
            self.disbelief = left.copysign(self.disbelief);
        }
    }

    /// Believes what is read by this much (natural logarithm) more. Whether a higher capacity has effects shows after a
    /// while only.
    pub fn believe_slowly(&mut self, now: Duration, by: f64) {
        if self.disbelief > 0.0 || now.saturating_sub(self.jumped_at) >= UNBELIEVED {
            self.disbelief -= self.disbelief.clamp(-by, by);
        }
    }

    /// Believes what is read.
    pub const fn believe(&mut self) {
        self.disbelief = 0.0;
    }

    /// Believes a lower capacity that nothing proves.
    pub fn believe_unproven(&mut self, now: Duration) {
        let recent = self.recent_drop(now);
        self.before_drop = recent.or(self.value()).map(|before| (before, now));
        self.believe();
    }

    /// Whether a capacity that rose is the one from before a drop that nothing proved.
    pub fn is_back(&self, now: Duration) -> bool {
        self.recent_drop(now)
            .zip(self.value)
            .is_some_and(|(before, value)| value <= before * SAME)
    }

    /// The value before a drop that nothing proved, unless that has lasted.
    fn recent_drop(&self, now: Duration) -> Option<f64> {
        let (before, at) = self.before_drop?;
        (now.saturating_sub(at) <= PROVEN_AFTER).then_some(before)
    }

    /// Remembers the estimate at the end of a period.
    pub fn remember(&mut self) {
        if self.past.len() == TAKEN_BACK {
            self.past.pop_front();
        }
        self.past.push_back(self.value);
    }

    /// Takes back what the last periods changed.
    pub fn take_back(&mut self) {
        if let Some(value) = self.past.front().copied().flatten() {
            self.value = Some(value);
            self.drift = Drift::default();
            self.saturation = 0.0;
        }
    }

    /// Relative standard deviation of the real's readings, once two could be compared.
    pub fn deviation(&self) -> Option<f64> {
        (self.deviation_readings > 0.0).then_some(self.deviation)
    }

    /// The time that the last reading describes.
    pub const fn last_reading(&self) -> Option<Duration> {
        self.last_reading
    }

    /// Takes note of a reading that is not learned from: the real is not silent.
    pub fn pass_over(&mut self, at: Duration) {
        self.last_reading = self.last_reading.map(|last| last.max(at));
    }

    /// Learns from a reading if it describes a later time than the last one. Returns the factor by which the estimate
    /// jumped.
    pub fn learn(&mut self, settings: &Steering, reading: Reading) -> Option<f64> {
        let (before, readings) = (self.value, self.readings);
        self.take(settings, reading);
        let restarted = self.readings < readings;
        let change = self.value? / before?;
        if restarted && readings >= SETTLED_READINGS {
            return Some(change);
        }
        self.undo(change);
        None
    }

    fn take(&mut self, settings: &Steering, reading: Reading) {
        let Reading {
            at,
            carried,
            utilisation,
            ..
        } = reading;
        if self.last_reading.is_some_and(|last| at <= last) {
            return;
        }
        self.last_reading = Some(at);
        self.noise = self.deviation.max(reading.noise).max(MIN_DEVIATION);
        let measured = carried / utilisation;
        if !reading.may_rise && self.value.is_some_and(|value| measured > value) {
            return;
        }
        let known = self.value.filter(|_| self.readings > 0.0);
        let above = utilisation > reading.mean * ABOVE_MEAN;
        let expected = known.map(|value| carried / value);
        if !self.weigh_saturation(utilisation, expected, above) {
            return;
        }
        if self.saturation >= MAX_EVIDENCE {
            let guess = reading
                .served
                .filter(|served| *served > 0.0)
                .map_or(measured * SATURATED_FACTOR, |served| {
                    served.min(measured) / utilisation
                });
            // The next reading below saturation replaces the guess.
            if let Some(value) = known {
                self.before_guess = Some((value, self.readings));
            }
            if self.value.is_none_or(|value| guess < value) {
                self.value = Some(guess);
            }
            self.readings = 0.0;
            return;
        }
        let Some(value) = known else {
            // What was known before is right after all if the reading agrees with it.
            let (value, readings) = self
                .before_guess
                .take()
                .filter(|(value, _)| (measured / value).ln().abs() <= settings.surprise)
                .unwrap_or((measured, 1.0));
            self.value = Some(value);
            self.readings = readings;
            return;
        };
        let error = (measured / value).ln();
        // The estimate has a variance of its own.
        let certainty = self.readings / (self.readings + 1.0);
        let limit = settings
            .surprise
            .max(settings.surprise_deviations * self.noise / certainty.sqrt());
        let deviations = error / limit * settings.surprise_deviations;
        if self.readings <= 1.0 && error.abs() > CONTRADICTION * limit {
            // The first reading may describe a time when the load had only just begun, or when the real was
            // saturated for a part of it. Their mean would be wrong for long, and their difference is not noise,
            // so the later reading is taken.
            self.value = Some(measured);
            self.readings = 1.0;
            return;
        }
        if let Some((value, readings)) = self.drift.observe(deviations, measured) {
            self.value = Some(value);
            self.readings = readings;
        } else {
            let gain = (1.0 / (1.0 + self.readings)).max(self.gain(settings));
            // A single surprise is no reason to move.
            self.value = Some(value * (gain * error.clamp(-limit, limit)).exp());
            self.readings += 1.0;
        }
        let bounded_error = error.abs().min(limit);
        let variance = bounded_error * bounded_error * certainty;
        let square = self.deviation * self.deviation;
        let gain = DEVIATION_GAIN.max(1.0 / (self.deviation_readings + 2.0));
        self.deviation_readings += 1.0;
        self.deviation = (square + gain * (variance - square)).sqrt();
    }

    /// Weighs the evidence that the real is saturated. `expected` is its utilisation if it is not; `above` says
    /// whether its utilisation is above the others': where all are saturated, it has no less capacity than they.
    /// Returns whether the reading may be used.
    fn weigh_saturation(&mut self, utilisation: f64, expected: Option<f64>, above: bool) -> bool {
        let Some(expected) = expected else {
            let before = self.saturation >= MAX_EVIDENCE;
            let saturated = above && utilisation >= MAYBE_SATURATED;
            self.saturation = if saturated { MAX_EVIDENCE } else { 0.0 };
            return saturated || !(before && above && utilisation >= DOUBTFUL);
        };
        let free = (1.0 - utilisation).max(0.0);
        let evidence = if above && free <= SATURATION_DEVIATIONS * self.noise {
            let variance = self.noise * self.noise * (1.0 + 1.0 / self.readings);
            let difference = utilisation / expected.min(1.0) - 1.0;
            (difference * difference - free * free) / (2.0 * variance)
        } else {
            -MAX_EVIDENCE_PER_READING
        };
        let evidence = evidence.clamp(-MAX_EVIDENCE_PER_READING, MAX_EVIDENCE_PER_READING);
        // An estimate from a few readings is overruled by less evidence.
        let needed =
            MAX_EVIDENCE * ((self.readings + PRIOR_READINGS) / CONFIRMED_READINGS).min(1.0);
        self.saturation = (self.saturation + evidence).clamp(0.0, MAX_EVIDENCE);
        if self.saturation >= needed {
            self.saturation = MAX_EVIDENCE;
        }
        true
    }

    /// The gain on an error in steady state, lower for noisier readings.
    fn gain(&self, settings: &Steering) -> f64 {
        let ratio = settings.certainty / self.noise;
        (2.0 * ratio * ratio).max(MIN_GAIN).min(settings.gain)
    }

    /// Whether the estimate still improves with every reading.
    pub fn is_learning(&self, settings: &Steering) -> bool {
        1.0 / (1.0 + self.readings) > self.gain(settings)
    }

    /// Relative standard deviation of the estimate itself.
    pub fn uncertainty(&self, settings: &Steering) -> f64 {
        let gain = self.gain(settings);
        self.noise * (gain / (2.0 - gain)).sqrt()
    }

    /// Without readings for long, the estimate fades towards `target` over `time` seconds with the time constant
    /// of the settings, but only downwards: silence must not give a real more.
    pub fn fade(&mut self, settings: &Steering, time: f64, target: f64) {
        if let Some(value) = self.value().filter(|value| target < *value) {
            let gain = 1.0 - (-time / settings.fade.as_secs_f64()).exp();
            self.value = Some(value * (gain * (target / value).ln()).exp());
            self.disbelief = 0.0;
        }
    }

    /// The load is counted in another unit now; `factor` is new units per old one.
    pub fn convert(&mut self, factor: f64) {
        self.before_guess = None;
        self.value = self.value.map(|value| value * factor);
        self.before_drop = self.before_drop.map(|(value, at)| (value * factor, at));
        self.past.clear();
        self.doubt();
    }

    /// Lets the estimate count no more than a single reading.
    pub fn doubt(&mut self) {
        self.readings = self.readings.min(1.0);
        self.drift = Drift::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_real_of_which_no_flow_ended_has_a_capacity() {
        let mut estimate = CapacityEstimate::default();
        estimate.learn(
            &Steering::default(),
            Reading {
                at: Duration::from_secs(5),
                carried: 100.0,
                utilisation: 1.0,
                mean: 0.5,
                noise: 0.0,
                may_rise: true,
                served: Some(0.0),
            },
        );
        assert_eq!(estimate.value(), Some(100.0 * SATURATED_FACTOR));
    }
}
