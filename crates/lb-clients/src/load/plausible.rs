//! Is it true what a source says? What is not is marked and ignored; missing is not zero.

use std::time::{Duration, Instant};

use super::reading::{Answer, Ignored, Quantity, Sample, Unit};

/// The greatest fraction that is believed: what is measured over a short time overshoots a little.
const MAX_FRACTION: f64 = 1.5;
/// The greatest weight an agent may ask for, of the operator's.
const MAX_AGENT_WEIGHT: f64 = 10.0;
/// The greatest count and rate.
const MAX_COUNT: f64 = 1e9;
/// The longest time, seconds: nothing is waited for for an hour.
const MAX_SECONDS: f64 = 3_600.0;
/// The most memory: 1 PiB.
const MAX_BYTES: f64 = 1_125_899_906_842_624.0;
/// Answers in which a pulse may stand still, and for how long; both must be passed. Brokers publish what does
/// not change every 10 s or so, so that fast pollers see the same for a while.
const FROZEN_ANSWERS: u32 = 4;
const FROZEN_TIME: Duration = Duration::from_secs(30);
/// Answers with the same utilisation, to the bit, while other things moved.
const FROZEN_SAMPLES: u32 = 10;

/// What is remembered of a source to see that it lives.
#[derive(Debug, Default)]
pub struct Plausible {
    pulse: Option<(f64, Instant, u32)>,
    utilisation: Option<(u64, u32)>,
    activity: Option<u64>,
}

/// An answer without what is not believed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sifted {
    /// What is believed.
    pub samples: Vec<Sample>,
    /// What is not, and why.
    pub ignored: Vec<Ignored>,
}

impl Plausible {
    /// Sifts an answer that came at this moment. `opened` is how many flows the real has taken in all, as the
    /// balancer counts: while it grows, a utilisation does not stand still.
    pub fn sift(&mut self, answer: &Answer, opened: u64, at: Instant) -> Sifted {
        let mut sifted = Sifted::default();
        let stopped = self.stopped(answer.pulse, at);
        let stuck = self.stuck(answer, opened);
        for sample in &answer.samples {
            let reason = range(sample).or_else(|| stopped.clone()).or_else(|| {
                stuck
                    .clone()
                    .filter(|_| sample.quantity == Quantity::Utilisation)
            });
            match reason {
                None => sifted.samples.push(*sample),
                Some(reason) => sifted.ignored.push(Ignored {
                    quantity: sample.quantity,
                    value: sample.value,
                    reason,
                }),
            }
        }
        sifted
    }

    /// Why the whole source is not believed.
    fn stopped(&mut self, pulse: Option<f64>, at: Instant) -> Option<String> {
        let pulse = pulse?;
        let (since, answers) = match self.pulse {
            Some((before, since, answers)) if before.to_bits() == pulse.to_bits() => {
                (since, answers.saturating_add(1))
            }
            _ => (at, 0),
        };
        self.pulse = Some((pulse, since, answers));
        let still = at.saturating_duration_since(since);
        (answers >= FROZEN_ANSWERS && still >= FROZEN_TIME).then(|| {
            format!(
                "frozen: the source's uptime or counter stands at {pulse} for {} s",
                still.as_secs()
            )
        })
    }

    /// Why the utilisation is not believed.
    fn stuck(&mut self, answer: &Answer, opened: u64) -> Option<String> {
        let value = answer.get(Quantity::Utilisation)?;
        let activity = activity(answer, opened);
        let moved = self.activity.replace(activity) != Some(activity);
        let same = match self.utilisation {
            Some((bits, same)) if bits == value.to_bits() => same + u32::from(moved),
            _ => 1,
        };
        self.utilisation = Some((value.to_bits(), same.min(FROZEN_SAMPLES)));
        // Whole percents are what coarse sources say again and again, and 0 and 1 are bounds.
        let percent = value * 100.0;
        let coarse = (percent - percent.round()).abs() < 1e-9;
        (same >= FROZEN_SAMPLES && !coarse).then(|| {
            format!("frozen: {value} in {FROZEN_SAMPLES} answers while other things moved")
        })
    }
}

/// Differs when anything but the utilisation does.
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

/// Why the number cannot be.
fn range(sample: &Sample) -> Option<String> {
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
            "; a percentage is to be scaled with 0.01"
        } else {
            ""
        };
        return Some(format!("more than {most}{advice}"));
    }
    (sample.quantity == Quantity::ConnectionLimit && value == 0.0)
        .then(|| "a limit of nothing".to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sift(quantity: Quantity, value: f64) -> Sifted {
        Plausible::default().sift(
            &Answer::of(vec![Sample::new(quantity, value)]),
            0,
            Instant::now(),
        )
    }

    #[test]
    fn numbers_that_cannot_be_are_marked() {
        for (quantity, value, part) in [
            (Quantity::Utilisation, f64::NAN, "not a number"),
            (Quantity::Utilisation, f64::INFINITY, "infinite"),
            (Quantity::Utilisation, f64::NEG_INFINITY, "infinite"),
            (Quantity::Utilisation, -0.01, "negative"),
            (Quantity::Utilisation, 42.0, "scaled with 0.01"),
            (Quantity::Memory, 1.51, "more than 1.5"),
            (Quantity::AgentWeight, 11.0, "more than 10"),
            (Quantity::Connections, 2e9, "more than"),
            (Quantity::ConnectionLimit, 0.0, "a limit of nothing"),
            (Quantity::Latency, 1e4, "more than 3600"),
            (Quantity::MemoryBytes, 1e16, "more than"),
        ] {
            let sifted = sift(quantity, value);
            assert_eq!(sifted.samples, []);
            assert!(sifted.ignored[0].reason.contains(part), "{sifted:?}");
        }
        for (quantity, value) in [
            (Quantity::Utilisation, 0.0),
            (Quantity::Utilisation, 1.02),
            (Quantity::Connections, 0.0),
            (Quantity::AgentWeight, 2.56),
        ] {
            assert_eq!(sift(quantity, value).ignored, []);
        }
    }

    #[test]
    fn a_pulse_that_stands_still_is_found() {
        let mut plausible = Plausible::default();
        let start = Instant::now();
        let believed: Vec<bool> = (0..10)
            .map(|step| {
                let answer = Answer {
                    // Moves once more in the end.
                    pulse: Some(if step < 9 { 33.0 } else { 44.0 }),
                    ..Answer::of(vec![Sample::new(Quantity::Connections, 1.0)])
                };
                let at = start + Duration::from_secs(5 * step);
                plausible.sift(&answer, 0, at).ignored.is_empty()
            })
            .collect();
        let mut expected = [true; 10];
        // From 30 s on.
        expected[6..9].fill(false);
        assert_eq!(believed, expected);
    }

    #[test]
    fn a_utilisation_that_stands_still_while_flows_come_is_found() {
        let believed = |value: f64, flows: bool| -> usize {
            let mut plausible = Plausible::default();
            (0..20)
                .filter(|step| {
                    let answer = Answer::of(vec![Sample::new(Quantity::Utilisation, value)]);
                    let opened = if flows { *step } else { 0 };
                    plausible
                        .sift(&answer, opened, Instant::now())
                        .ignored
                        .is_empty()
                })
                .count()
        };
        assert_eq!(believed(0.123_456, true), 9);
        assert_eq!(believed(0.123_456, false), 20);
        assert_eq!(believed(0.42, true), 20);
        assert_eq!(believed(1.0, true), 20);
    }

    proptest! {
        #[test]
        fn what_is_believed_is_finite(value in any::<f64>()) {
            for sample in sift(Quantity::Rate, value).samples {
                prop_assert!((0.0..=MAX_COUNT).contains(&sample.value));
            }
        }
    }
}
