//! Whether readings went away from what is expected of them, or chance made them differ: a sum of what they are
//! off by (Page's test, CUSUM). Two that are far off tell as surely as many that are off a little.

/// Readings are no chance once they are off to one side by so many deviations in sum, ...
const TOO_FAR: f64 = 8.0;
/// ... beyond so many each, ...
const SLACK: f64 = 0.75;
/// ... of which a single one, that may be wrong, counts no more.
const MOST: f64 = 5.0;

/// Two that are wrong make no drift of what one cannot.
const _: () = assert!(MOST - SLACK < TOO_FAR);

/// Readings in a row that are off to one side.
#[derive(Debug, Default)]
pub struct Drift {
    /// What they are off by in sum; negative: they are too low.
    sum: f64,
    readings: f64,
    /// Sum of the logarithms of what they measured.
    measured: f64,
}

impl Drift {
    /// Notes a reading: by how many deviations it is off, and what it measured. Once the last ones are no
    /// chance: what they measured in the mean, and how many they are.
    pub fn observe(&mut self, off: f64, measured: f64) -> Option<(f64, f64)> {
        let off = off.clamp(-MOST, MOST);
        let side = off.signum();
        if self.sum * side < 0.0 && self.sum.abs() <= off.abs() + SLACK {
            *self = Drift::default();
        }
        let side = if self.readings > 0.0 {
            self.sum.signum()
        } else {
            side
        };
        let sum = (self.sum + off) * side - SLACK;
        if sum <= 0.0 {
            *self = Drift::default();
            return None;
        }
        self.sum = sum * side;
        self.readings += 1.0;
        self.measured += measured.ln();
        if sum < TOO_FAR {
            return None;
        }
        let Drift {
            readings, measured, ..
        } = std::mem::take(self);
        Some(((measured / readings).exp(), readings))
    }
}
