//! Tells a lasting change of readings from noise: a cumulative sum of deviations (CUSUM, Page's test). Two
//! readings that are far off count as much as many that are slightly off.

/// A change is detected once the deviations to one side add up to this many standard deviations, ...
const THRESHOLD: f64 = 8.0;
/// ... after subtracting this many from each reading, ...
const SLACK: f64 = 0.75;
/// ... where a single reading, which may be wrong, counts for at most this many.
const MAX_DEVIATION: f64 = 5.0;

/// One wrong reading alone is never a change.
const _: () = assert!(MAX_DEVIATION - SLACK < THRESHOLD);

/// A run of readings that deviate to one side.
#[derive(Debug, Default)]
pub struct Drift {
    /// Sum of the deviations; negative if the readings are too low.
    sum: f64,
    readings: f64,
    /// Sum of the logarithms of the measured values.
    log_sum: f64,
}

impl Drift {
    /// Adds a reading: its deviation from the expected value in standard deviations, and the measured value. Once
    /// the run is no longer noise, returns the geometric mean of its measured values and their number, and starts
    /// over.
    pub fn observe(&mut self, deviation: f64, measured: f64) -> Option<(f64, f64)> {
        let deviation = deviation.clamp(-MAX_DEVIATION, MAX_DEVIATION);
        let side = deviation.signum();
        if self.sum * side < 0.0 && self.sum.abs() <= deviation.abs() + SLACK {
            *self = Drift::default();
        }
        let side = if self.readings > 0.0 {
            self.sum.signum()
        } else {
            side
        };
        let sum = (self.sum + deviation) * side - SLACK;
        if sum <= 0.0 {
            *self = Drift::default();
            return None;
        }
        self.sum = sum * side;
        self.readings += 1.0;
        self.log_sum += measured.ln();
        if sum < THRESHOLD {
            return None;
        }
        let Drift {
            readings, log_sum, ..
        } = std::mem::take(self);
        Some(((log_sum / readings).exp(), readings))
    }
}
