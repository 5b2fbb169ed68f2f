//! Interpolated quantiles.

/// Returns the value below which this fraction (0 to 1) of the samples lies, interpolated; 0 if there are no samples.
pub fn quantile(samples: &[f64], part: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else {
        return 0.0;
    };
    let place = part.clamp(0.0, 1.0) * last as f64;
    let below = sorted[place.floor() as usize];
    let above = sorted[place.ceil() as usize];
    below + (above - below) * place.fract()
}

/// Returns the median; 0 if there are no samples.
pub fn median(samples: &[f64]) -> f64 {
    quantile(samples, 0.5)
}
