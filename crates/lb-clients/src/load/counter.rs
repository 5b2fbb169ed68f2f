//! Counters that were restarted, and those that only step back a little.

/// The greatest step back that is no restart: node_exporter and the kernel correct the time that a CPU waits for disks by up
/// to some seconds, and sums of rounded values step back by a hundredth.
const LEAST_RESTART: f64 = 3.0;
/// The same, as a fraction of the counter.
const LEAST_RESTART_FRACTION: f64 = 0.01;

/// Returns the growth of a counter; `None` if it was restarted. A counter that steps back a little has not grown. NaN if one
/// of the values is.
#[must_use]
pub fn growth(before: f64, now: f64) -> Option<f64> {
    let growth = now - before;
    if growth >= 0.0 || growth.is_nan() {
        return Some(growth);
    }
    let is_small = -growth <= LEAST_RESTART.max(before * LEAST_RESTART_FRACTION);
    // A counter that restarts begins at 0.
    (is_small && now >= before / 2.0).then_some(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_is_told_from_rounding() {
        for (before, now, expected) in [
            (5.0, 7.0, Some(2.0)),
            (5.0, 5.0, Some(0.0)),
            (5.0, 4.99, Some(0.0)),
            (0.02, 0.01, Some(0.0)),
            (1.0, 0.0, None),
            (3.0, 1.0, None),
            (1e6, 999_990.0, Some(0.0)),
            (1e6, 5.0, None),
            (100.0, 60.0, None),
            (10.0, 5.0, None),
        ] {
            assert_eq!(growth(before, now), expected, "{before} to {now}");
        }
        assert!(growth(1.0, f64::NAN).unwrap().is_nan());
    }
}
