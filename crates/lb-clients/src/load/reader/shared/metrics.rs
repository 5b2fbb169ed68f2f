//! Metrics in Prometheus' text format, evaluated with the operator's expressions or with those of a preset.

use std::time::Instant;

use futures::future::BoxFuture;

use super::{
    super::{
        Poll,
        kind::{LoadReader, NoSettings, Reader, SourceTarget, Transport},
    },
    fetch::Fetch,
};
use crate::load::{
    exposition::{self, Page},
    expression::{Expression, History, NoValue, Scrape},
    reading::{Answer, Missing, Quantity, Sample},
    values::Values,
};
use crate::peer::Deadline;

/// The metrics of a well-known broker or exporter.
#[derive(Clone, Copy, Debug)]
pub struct Preset {
    /// Path of the metrics.
    pub path: &'static str,
    /// The [`Expression`] of each quantity.
    pub values: &'static [(Quantity, &'static str)],
    /// The [`Expression`] of a counter that changes as long as the source is alive.
    pub progress: Option<&'static str>,
}

/// Expressions with the counters of the last answer.
#[derive(Debug)]
pub struct Metrics {
    values: Vec<(Quantity, Expression)>,
    progress: Option<Expression>,
    history: History,
}

impl Metrics {
    /// Creates the metrics of the operator's expressions.
    #[must_use]
    pub fn new(values: Values<Expression>) -> Self {
        Metrics {
            values: values.0.into_iter().collect(),
            progress: None,
            history: History::default(),
        }
    }

    /// Creates the metrics of a preset. An expression that does not parse is left out; tests parse each one.
    #[must_use]
    pub fn preset(preset: &Preset) -> Self {
        Metrics {
            values: preset
                .values
                .iter()
                .filter_map(|(quantity, text)| Some((*quantity, text.parse().ok()?)))
                .collect(),
            progress: preset.progress.and_then(|text| text.parse().ok()),
            history: History::default(),
        }
    }

    /// Evaluates an answer that arrived at `at`.
    ///
    /// # Errors
    /// The body has no metrics, or no expression has a value and none will have one later.
    pub fn read(&mut self, body: &[u8], at: Instant) -> Result<Answer, String> {
        // Bytes that are no UTF-8 spoil the line they stand in, at most.
        let text = String::from_utf8_lossy(body);
        let expressions = || {
            self.values
                .iter()
                .map(|(_, expression)| expression)
                .chain(&self.progress)
        };
        let Page { series, unreadable } = exposition::read(&text, |name| {
            expressions().any(|expression| expression.uses(name))
        })?;
        let scrape = Scrape {
            at,
            series: &series,
            previous: &self.history,
        };
        let mut answer = Answer {
            progress: self
                .progress
                .as_ref()
                .and_then(|progress| progress.evaluate(&scrape).ok())
                // What is no number is no sign of a standstill.
                .filter(|progress| !progress.is_nan()),
            unreadable,
            ..Answer::default()
        };
        let mut needs_next_answer = false;
        for (quantity, expression) in &self.values {
            match expression.evaluate(&scrape) {
                Ok(value) => answer.samples.push(Sample::new(*quantity, value)),
                Err(no_value) => {
                    needs_next_answer |= matches!(no_value, NoValue::NotYet(_));
                    answer.missing.push(Missing {
                        quantity: *quantity,
                        reason: no_value.to_string(),
                    });
                }
            }
        }
        let mut history = std::mem::take(&mut self.history);
        let remembered = history.remember(
            at,
            &series,
            self.values.iter().map(|(_, expression)| expression),
        );
        self.history = history;
        remembered?;
        if needs_next_answer {
            Ok(answer)
        } else {
            answer.error_if_empty()
        }
    }
}

/// Polls a page of metrics.
#[derive(Debug)]
pub struct MetricsPage {
    page: Fetch,
    metrics: Metrics,
}

impl MetricsPage {
    /// Creates a poller that evaluates `metrics` on each answer.
    #[must_use]
    pub const fn new(page: Fetch, metrics: Metrics) -> Self {
        MetricsPage { page, metrics }
    }
}

impl Poll for MetricsPage {
    fn poll<'a>(&'a mut self, deadline: &'a Deadline) -> BoxFuture<'a, Result<Answer, String>> {
        Box::pin(async {
            let body = self.page.get(deadline).await?;
            self.metrics.read(&body, Instant::now())
        })
    }
}

/// A kind of reader that evaluates a preset.
pub(in super::super) trait PresetReader: 'static {
    const NAME: &'static str;
    const HELP: &'static str;
    const PORT: u16;
    const COUNTS_CLIENTS: bool = true;
    const PRESET: Preset;
}

impl<P: PresetReader> LoadReader for P {
    const NAME: &'static str = P::NAME;
    const HELP: &'static str = P::HELP;
    const TRANSPORT: Transport = Transport::Http;
    const PORT: Option<u16> = Some(P::PORT);
    const COUNTS_CLIENTS: bool = P::COUNTS_CLIENTS;

    type Settings = NoSettings;

    fn open(_: NoSettings, target: &SourceTarget<'_>) -> Reader {
        let metrics = Metrics::preset(&P::PRESET);
        Reader::Poll(Box::new(MetricsPage::new(
            target.page(P::PRESET.path),
            metrics,
        )))
    }
}

/// Asserts that each expression of a preset parses, and that the text evaluates to these values.
#[cfg(test)]
pub(in super::super) fn assert_reads(preset: &Preset, text: &str, expected: &[(Quantity, f64)]) {
    for (_, expression) in preset.values {
        expression.parse::<Expression>().unwrap();
    }
    if let Some(progress) = preset.progress {
        progress.parse::<Expression>().unwrap();
    }
    let answer = Metrics::preset(preset)
        .read(text.as_bytes(), Instant::now())
        .unwrap();
    let values: Vec<_> = answer
        .samples
        .iter()
        .map(|sample| (sample.quantity, sample.value))
        .collect();
    assert_eq!(values, expected, "{:?}", answer.missing);
    assert_eq!(answer.progress.is_some(), preset.progress.is_some());
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use proptest::prelude::*;

    use super::*;

    fn metrics(utilisation: &str, memory: &str) -> Metrics {
        Metrics::new(Values(BTreeMap::from([
            (Quantity::Utilisation, utilisation.parse().unwrap()),
            (Quantity::Memory, memory.parse().unwrap()),
        ])))
    }

    #[test]
    fn a_missing_value_leaves_the_others() {
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
    fn a_line_that_cannot_be_read_costs_only_its_quantity() {
        let mut metrics = metrics("busy / 100", "memory");
        let page = b"busy undefined\nmemory 0.5\n\xff\xfe\n";
        let answer = metrics.read(page, Instant::now()).unwrap();
        assert_eq!(answer.get(Quantity::Memory), Some(0.5));
        assert_eq!(answer.get(Quantity::Utilisation), None);
        assert_eq!(
            answer.missing[0].reason,
            "line 1 cannot be read: \"busy undefined\""
        );
        assert_eq!(answer.unreadable.count, 2);
        let problem = answer.unreadable.problem().unwrap();
        assert!(problem.ends_with("busy undefined\"; 1 more"), "{problem}");
        let page = b"\xef\xbb\xbfbusy 50\nbusy 50\nmemory{x=\"caf\xe9\"} 0.5\n";
        let answer = metrics.read(page, Instant::now()).unwrap();
        assert_eq!(answer.get(Quantity::Utilisation), Some(0.5));
        assert_eq!(answer.get(Quantity::Memory), Some(0.5));
        assert_eq!(answer.unreadable.problem(), None);
    }

    #[test]
    fn a_rate_follows_with_the_second_answer() {
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
        assert!(second.missing[0].reason.contains("was reset"));
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = metrics("rate(a)", "sum(a) / b").read(&body, Instant::now());
        }
    }
}
