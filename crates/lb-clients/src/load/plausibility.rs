//! Drops implausible values of an answer: values out of range, and those of sources that are frozen. A dropped value
//! is unknown, which is not zero.

use std::time::{Duration, Instant};

use super::reading::{Answer, Ignored, Quantity, Sample, Unit};

/// The greatest plausible fraction. It exceeds 1 because measurements over a short time overshoot.
const MAX_FRACTION: f64 = 1.5;
/// The greatest negative value that counts as 0.
const MAX_ROUNDING: f64 = 1e-3;
/// The greatest weight that an agent may ask for, as a fraction of the operator's.
const MAX_AGENT_WEIGHT: f64 = 10.0;
/// The greatest plausible count and rate.
const MAX_COUNT: f64 = 1e9;
/// The longest plausible time, in seconds.
const MAX_SECONDS: f64 = 3_600.0;
/// The largest plausible memory: 1 PiB.
const MAX_BYTES: f64 = 1_125_899_906_842_624.0;
/// A source is frozen once its progress repeats in this many further answers and over this time. Both conditions are
/// needed: brokers update their counters every 10 s or so, and a fast poller reads the same value several times.
const FROZEN_ANSWERS: u32 = 4;
const FROZEN_TIME: Duration = Duration::from_secs(30);
/// Answers with the same utilisation, bit by bit, while other values changed.
const FROZEN_SAMPLES: u32 = 10;

/// Checks the answers of one source.
#[derive(Debug, Default)]
pub struct PlausibilityFilter {
    progress: Option<Unchanged>,
    /// Bits of the last utilisation, and the number of answers with it.
    utilisation: Option<(u64, u32)>,
    /// Hash of the other values of the last answer.
    activity: Option<u64>,
}

/// How long a source's progress has not changed.
#[derive(Clone, Copy, Debug)]
struct Unchanged {
    value: f64,
    since: Instant,
    /// Answers with this value after the first one.
    repeats: u32,
}

/// An answer, divided into plausible and implausible values.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filtered {
    /// Plausible values.
    pub samples: Vec<Sample>,
    /// Implausible values, each with the reason.
    pub ignored: Vec<Ignored>,
}

impl PlausibilityFilter {
    /// Checks an answer that arrived at `at`. `opened` is the number of flows that the balancer has ever opened to the
    /// real: while it grows, a live source's utilisation changes.
    pub fn filter(&mut self, answer: &Answer, opened: u64, at: Instant) -> Filtered {
        let mut filtered = Filtered::default();
        let source_frozen = self.source_frozen(answer.progress, at);
        let utilisation_frozen = self.utilisation_frozen(answer, opened);
        for sample in &answer.samples {
            let sample = &rounded(*sample);
            let reason = out_of_range(sample)
                .or_else(|| source_frozen.clone())
                .or_else(|| {
                    utilisation_frozen
                        .clone()
                        .filter(|_| sample.quantity == Quantity::Utilisation)
                });
            match reason {
                None => filtered.samples.push(*sample),
                Some(reason) => filtered.ignored.push(Ignored {
                    quantity: sample.quantity,
                    value: sample.value,
                    reason,
                }),
            }
        }
        filtered
    }

    /// Returns the reason if the source is frozen.
    fn source_frozen(&mut self, progress: Option<f64>, at: Instant) -> Option<String> {
        let value = progress?;
        let unchanged = match self.progress {
            Some(last) if last.value.to_bits() == value.to_bits() => Unchanged {
                repeats: last.repeats.saturating_add(1),
                ..last
            },
            _ => Unchanged {
                value,
                since: at,
                repeats: 0,
            },
        };
        self.progress = Some(unchanged);
        let duration = at.saturating_duration_since(unchanged.since);
        (unchanged.repeats >= FROZEN_ANSWERS && duration >= FROZEN_TIME).then(|| {
            format!(
                "frozen: the source's uptime or counter has been {value} for {} s",
                duration.as_secs()
            )
        })
    }

    /// Returns the reason if the utilisation is frozen.
    fn utilisation_frozen(&mut self, answer: &Answer, opened: u64) -> Option<String> {
        let value = answer.get(Quantity::Utilisation)?;
        let activity = activity(answer, opened);
        let active = self.activity.replace(activity) != Some(activity);
        let answers = match self.utilisation {
            Some((bits, answers)) if bits == value.to_bits() => answers + u32::from(active),
            _ => 1,
        };
        self.utilisation = Some((value.to_bits(), answers.min(FROZEN_SAMPLES)));
        // Coarse sources repeat whole percentages, and the bounds 0 and 1.
        let percent = value * 100.0;
        let coarse = (percent - percent.round()).abs() < 1e-9;
        (answers >= FROZEN_SAMPLES && !coarse).then(|| {
            format!("frozen: {value} in {FROZEN_SAMPLES} answers while other values changed")
        })
    }
}

/// A little less than nothing is nothing: differences of rounded values.
fn rounded(sample: Sample) -> Sample {
    let value = sample.value;
    let is_rounding = value < 0.0 && value > -MAX_ROUNDING;
    Sample {
        value: if is_rounding { 0.0 } else { value },
        ..sample
    }
}

/// Hashes everything but the utilisation.
fn activity(answer: &Answer, opened: u64) -> u64 {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};

    let mut hasher = DefaultHasher::new();
    opened.hash(&mut hasher);
    for sample in &answer.samples {
        if sample.quantity != Quantity::Utilisation {
            sample.value.to_bits().hash(&mut hasher);
        }
    }
    hasher.finish()
}

/// Returns the reason if a value is out of the range of its quantity.
fn out_of_range(sample: &Sample) -> Option<String> {
    let value = sample.value;
    let most = match (sample.quantity, sample.quantity.unit()) {
        (Quantity::AgentWeight, _) => MAX_AGENT_WEIGHT,
        (_, Unit::Fraction) => MAX_FRACTION,
        (_, Unit::Count | Unit::PerSecond) => MAX_COUNT,
        (_, Unit::Seconds) => MAX_SECONDS,
        (_, Unit::Bytes) => MAX_BYTES,
    };
    if value.is_nan() {
        return Some("not a number".to_owned());
    }
    if value.is_infinite() {
        return Some("infinite".to_owned());
    }
    if value < 0.0 {
        return Some("negative".to_owned());
    }
    if value > most {
        let advice = if sample.quantity.unit() == Unit::Fraction {
            "; a percentage must be scaled with 0.01"
        } else {
            ""
        };
        return Some(format!("more than {most}{advice}"));
    }
    (sample.quantity == Quantity::ConnectionLimit && value == 0.0)
        .then(|| "a limit of 0".to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn filter(quantity: Quantity, value: f64) -> Filtered {
        PlausibilityFilter::default().filter(
            &Answer::from_samples(vec![Sample::new(quantity, value)]),
            0,
            Instant::now(),
        )
    }

    #[test]
    fn implausible_numbers_are_marked() {
        for (quantity, value, part) in [
            (Quantity::Utilisation, f64::NAN, "not a number"),
            (Quantity::Utilisation, f64::INFINITY, "infinite"),
            (Quantity::Utilisation, f64::NEG_INFINITY, "infinite"),
            (Quantity::Utilisation, -0.01, "negative"),
            (Quantity::Utilisation, 42.0, "scaled with 0.01"),
            (Quantity::Memory, 1.51, "more than 1.5"),
            (Quantity::AgentWeight, 11.0, "more than 10"),
            (Quantity::Connections, 2e9, "more than"),
            (Quantity::ConnectionLimit, 0.0, "a limit of 0"),
            (Quantity::Latency, 1e4, "more than 3600"),
            (Quantity::MemoryBytes, 1e16, "more than"),
        ] {
            let filtered = filter(quantity, value);
            assert_eq!(filtered.samples, []);
            assert!(filtered.ignored[0].reason.contains(part), "{filtered:?}");
        }
        for (quantity, value) in [
            (Quantity::Utilisation, 0.0),
            (Quantity::Utilisation, -2e-16),
            (Quantity::Utilisation, 1.02),
            (Quantity::Connections, 0.0),
            (Quantity::AgentWeight, 2.56),
        ] {
            assert_eq!(filter(quantity, value).ignored, []);
        }
    }

    #[test]
    fn progress_that_stops_is_detected() {
        let mut filter = PlausibilityFilter::default();
        let start = Instant::now();
        let accepted: Vec<bool> = (0..10)
            .map(|step| {
                let answer = Answer {
                    // Changes again in the last answer.
                    progress: Some(if step < 9 { 33.0 } else { 44.0 }),
                    ..Answer::from_samples(vec![Sample::new(Quantity::Connections, 1.0)])
                };
                let at = start + Duration::from_secs(5 * step);
                filter.filter(&answer, 0, at).ignored.is_empty()
            })
            .collect();
        let mut expected = [true; 10];
        // From 30 s on.
        expected[6..9].fill(false);
        assert_eq!(accepted, expected);
    }

    #[test]
    fn a_utilisation_that_stops_while_flows_open_is_detected() {
        let accepted = |value: f64, flows: bool| -> usize {
            let mut filter = PlausibilityFilter::default();
            (0..20)
                .filter(|step| {
                    let answer =
                        Answer::from_samples(vec![Sample::new(Quantity::Utilisation, value)]);
                    let opened = if flows { *step } else { 0 };
                    filter
                        .filter(&answer, opened, Instant::now())
                        .ignored
                        .is_empty()
                })
                .count()
        };
        assert_eq!(accepted(0.123_456, true), 9);
        assert_eq!(accepted(0.123_456, false), 20);
        assert_eq!(accepted(0.42, true), 20);
        assert_eq!(accepted(1.0, true), 20);
    }

    proptest! {
        #[test]
        fn accepted_values_are_finite(value in any::<f64>()) {
            for sample in filter(Quantity::Rate, value).samples {
                prop_assert!((0.0..=MAX_COUNT).contains(&sample.value));
            }
        }
    }
}
