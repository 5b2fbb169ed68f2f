//! Metrics in Prometheus' text format: the operator's expressions, or a broker's preset.

use std::{collections::BTreeMap, net::IpAddr, time::Instant};

use futures::future::BoxFuture;

use super::{Poll, fetch::Fetch};
use crate::load::{
    exposition,
    expression::{Expression, History, NoValue, Sampled},
    reading::{Answer, Missing, Quantity, Sample},
    spec::Source,
};
use crate::peer::Deadline;

/// What is read of a broker or host that everybody runs.
#[derive(Clone, Copy, Debug)]
pub struct Preset {
    /// Its path.
    pub path: &'static str,
    /// What is computed how; each is an [`Expression`].
    pub values: &'static [(Quantity, &'static str)],
    /// A counter that moves as long as it lives.
    pub pulse: Option<&'static str>,
}

/// Expressions with the counters of the last answer.
#[derive(Debug)]
pub struct Metrics {
    values: Vec<(Quantity, Expression)>,
    pulse: Option<Expression>,
    history: History,
}

impl Metrics {
    /// The operator's expressions.
    #[must_use]
    pub fn new(values: &BTreeMap<Quantity, Expression>) -> Self {
        Metrics {
            values: values
                .iter()
                .map(|(quantity, expression)| (*quantity, expression.clone()))
                .collect(),
            pulse: None,
            history: History::default(),
        }
    }

    /// A preset's expressions. One that does not parse is left out; tests parse each.
    #[must_use]
    pub fn preset(preset: &Preset) -> Self {
        Metrics {
            values: preset
                .values
                .iter()
                .filter_map(|(quantity, text)| Some((*quantity, text.parse().ok()?)))
                .collect(),
            pulse: preset.pulse.and_then(|text| text.parse().ok()),
            history: History::default(),
        }
    }

    /// Reads an answer that came at this moment.
    ///
    /// # Errors
    /// What came instead of metrics; or why no value is there and none will be.
    pub fn read(&mut self, body: &[u8], at: Instant) -> Result<Answer, String> {
        let text = std::str::from_utf8(body).map_err(|_| "no UTF-8 text".to_owned())?;
        let expressions = || {
            self.values
                .iter()
                .map(|(_, expression)| expression)
                .chain(&self.pulse)
        };
        let series = exposition::read(text, |name| {
            expressions().any(|expression| expression.wants(name))
        })?;
        let sampled = Sampled {
            at,
            series: &series,
            before: &self.history,
        };
        let mut answer = Answer {
            pulse: self
                .pulse
                .as_ref()
                .and_then(|pulse| pulse.evaluate(&sampled).ok()),
            ..Answer::default()
        };
        let mut waiting = false;
        for (quantity, expression) in &self.values {
            match expression.evaluate(&sampled) {
                Ok(value) => answer.samples.push(Sample::new(*quantity, value)),
                Err(no_value) => {
                    waiting |= matches!(no_value, NoValue::NotYet(_));
                    answer.missing.push(Missing {
                        quantity: *quantity,
                        reason: no_value.to_string(),
                    });
                }
            }
        }
        let mut history = std::mem::take(&mut self.history);
        let kept = history.keep(
            at,
            &series,
            self.values.iter().map(|(_, expression)| expression),
        );
        self.history = history;
        kept?;
        if waiting {
            Ok(answer)
        } else {
            answer.or_missing()
        }
    }
}

/// Polls an exporter.
#[derive(Debug)]
pub(super) struct Prometheus {
    fetch: Fetch,
    metrics: Metrics,
}

impl Prometheus {
    pub(super) fn new(source: &Source, real: IpAddr, path: &str, metrics: Metrics) -> Self {
        Prometheus {
            fetch: Fetch::new(source, real, path),
            metrics,
        }
    }
}

impl Poll for Prometheus {
    fn poll<'a>(&'a mut self, deadline: &'a Deadline) -> BoxFuture<'a, Result<Answer, String>> {
        Box::pin(async {
            let body = self.fetch.get(deadline).await?;
            self.metrics.read(&body, Instant::now())
        })
    }
}

/// For the tests of presets: each expression parses, and this is what the fixture says.
#[cfg(test)]
pub(super) fn assert_reads(preset: &Preset, text: &str, expected: &[(Quantity, f64)]) {
    for (_, expression) in preset.values {
        expression.parse::<Expression>().unwrap();
    }
    if let Some(pulse) = preset.pulse {
        pulse.parse::<Expression>().unwrap();
    }
    let answer = Metrics::preset(preset)
        .read(text.as_bytes(), Instant::now())
        .unwrap();
    let found: Vec<_> = answer
        .samples
        .iter()
        .map(|sample| (sample.quantity, sample.value))
        .collect();
    assert_eq!(found, expected, "{:?}", answer.missing);
    assert_eq!(answer.pulse.is_some(), preset.pulse.is_some());
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn metrics(utilisation: &str, memory: &str) -> Metrics {
        Metrics::new(&BTreeMap::from([
            (Quantity::Utilisation, utilisation.parse().unwrap()),
            (Quantity::Memory, memory.parse().unwrap()),
        ]))
    }

    #[test]
    fn a_value_that_cannot_be_had_leaves_the_others() {
        let mut metrics = metrics("busy / 100", "gone");
        let answer = metrics.read(b"busy 50\n", Instant::now()).unwrap();
        assert_eq!(answer.get(Quantity::Utilisation), Some(0.5));
        assert_eq!(answer.missing[0].quantity, Quantity::Memory);
        let error = metrics.read(b"other 1\n", Instant::now()).unwrap_err();
        assert!(error.contains("utilisation: no series of busy"), "{error}");
        let error = metrics.read(b"<html></html>", Instant::now()).unwrap_err();
        assert!(error.contains("line 1"), "{error}");
        assert!(metrics.read(b"\xff", Instant::now()).is_err());
    }

    #[test]
    fn a_rate_comes_with_the_second_answer() {
        let mut metrics = metrics("rate(busy)", "rate(other)");
        let start = Instant::now();
        let first = metrics.read(b"busy 1\nother 1\n", start).unwrap();
        assert_eq!(first.samples, []);
        assert_eq!(first.missing.len(), 2);
        let second = metrics
            .read(b"busy 3\nother 0\n", start + Duration::from_secs(4))
            .unwrap();
        assert_eq!(second.get(Quantity::Utilisation), Some(0.5));
        assert_eq!(second.get(Quantity::Memory), None);
        assert!(second.missing[0].reason.contains("began anew"));
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = metrics("rate(a)", "sum(a) / b").read(&body, Instant::now());
        }
    }
}
