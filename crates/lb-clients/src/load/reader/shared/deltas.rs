//! Rates of counters.

use std::{collections::HashMap, time::Instant};

use crate::load::counter::growth;

/// The last value of each counter.
#[derive(Debug, Default)]
pub struct Deltas(HashMap<&'static str, (Instant, f64)>);

impl Deltas {
    /// Returns the growth per second since the last call. Returns `None` on the first call, and if the counter was
    /// restarted.
    pub fn rate(&mut self, counter: &'static str, value: f64, at: Instant) -> Option<f64> {
        let (before_at, before) = self.0.insert(counter, (at, value))?;
        let elapsed = at.saturating_duration_since(before_at).as_secs_f64();
        let growth = growth(before, value)?;
        (elapsed > 0.0 && !growth.is_nan()).then(|| growth / elapsed)
    }

    /// Forgets a counter whose value cannot be read.
    pub fn forget(&mut self, counter: &'static str) {
        self.0.remove(counter);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_counter_that_falls_has_no_rate() {
        let start = Instant::now();
        let mut deltas = Deltas::default();
        let rates: Vec<_> = [10.0, 30.0, 5.0, 5.0]
            .into_iter()
            .zip(1..)
            .map(|(value, second)| {
                deltas.rate("messages", value, start + Duration::from_secs(2 * second))
            })
            .collect();
        assert_eq!(rates, [None, Some(10.0), None, Some(0.0)]);
    }
}
