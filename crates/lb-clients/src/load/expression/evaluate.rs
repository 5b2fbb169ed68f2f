//! Evaluates an expression on a scrape.

use std::{collections::HashMap, time::Instant};

use super::{Condition, Expression, Fold, Matcher, Node, Operator, Vector};
use crate::load::{counter, exposition::Series};

/// Counters that a reader remembers for `rate` at most. A node_exporter has 8 per processor.
pub const MAX_COUNTERS: usize = 16_384;

/// The series of one answer of an exporter.
#[derive(Clone, Copy, Debug)]
pub struct Scrape<'a> {
    /// When the answer arrived.
    pub at: Instant,
    /// The series.
    pub series: &'a [Series<'a>],
    /// The counters of the previous scrape.
    pub previous: &'a History,
}

/// The counters of a scrape, which `rate` needs in the next one.
#[derive(Debug, Default)]
pub struct History {
    at: Option<Instant>,
    counters: HashMap<String, f64>,
}

/// Why an expression has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoValue {
    /// A later scrape will have a value: there is no previous scrape, or a counter was reset.
    #[error("{0}")]
    NotYet(String),
    /// The series do not fit the expression.
    #[error("{0}")]
    Mismatch(String),
}

impl History {
    /// Remembers the counters whose rate these expressions need, and forgets those of the previous scrape.
    ///
    /// # Errors
    /// When there are more than 16,384; no counter is remembered then.
    pub fn remember<'a>(
        &mut self,
        at: Instant,
        series: &[Series<'_>],
        expressions: impl Iterator<Item = &'a Expression> + Clone,
    ) -> Result<(), String> {
        self.at = Some(at);
        self.counters.clear();
        for series in series {
            let is_needed = expressions
                .clone()
                .any(|expression| takes_rate_of(&expression.root, series.name));
            if !is_needed {
                continue;
            }
            if self.counters.len() == MAX_COUNTERS {
                *self = History::default();
                return Err(format!(
                    "more than {MAX_COUNTERS} counters to take the rate of"
                ));
            }
            // What cannot be read now is compared with nothing later.
            if !series.value.is_nan() {
                self.counters.insert(key(series), series.value);
            }
        }
        Ok(())
    }
}

fn takes_rate_of(node: &Node, name: &str) -> bool {
    match node {
        Node::Number(_) => false,
        Node::Negative(inner) => takes_rate_of(inner, name),
        Node::Binary(_, left, right) => takes_rate_of(left, name) || takes_rate_of(right, name),
        Node::Vector(_, vector) => vector.rate && vector.name == name,
    }
}

fn key(series: &Series<'_>) -> String {
    format!("{}{{{}", series.name, series.identity)
}

impl Expression {
    /// Evaluates the expression.
    ///
    /// # Errors
    /// Why there is no value. A division by zero has no value.
    pub fn evaluate(&self, scrape: &Scrape<'_>) -> Result<f64, NoValue> {
        scrape.node(&self.root)
    }
}

impl Scrape<'_> {
    fn node(&self, node: &Node) -> Result<f64, NoValue> {
        Ok(match node {
            Node::Number(number) => *number,
            Node::Negative(inner) => -self.node(inner)?,
            Node::Binary(operator, left, right) => {
                let (left, right) = (self.node(left)?, self.node(right)?);
                match operator {
                    Operator::Plus => left + right,
                    Operator::Minus => left - right,
                    Operator::Times => left * right,
                    // A ratio of rates has no value while no counter changes; the next scrape may have one.
                    Operator::Over if right == 0.0 => {
                        return Err(NoValue::NotYet("divides by zero".to_owned()));
                    }
                    Operator::Over => left / right,
                }
            }
            Node::Vector(fold, vector) => self.fold(*fold, vector)?,
        })
    }

    fn fold(&self, fold: Fold, vector: &Vector) -> Result<f64, NoValue> {
        let values = self.values(vector)?;
        let name = &vector.name;
        if fold == Fold::Count {
            return Ok(values.len() as f64);
        }
        if values.is_empty() {
            return Err(NoValue::Mismatch(format!("no series of {name} matches")));
        }
        let sum: f64 = values.iter().sum();
        Ok(match fold {
            Fold::Single if values.len() > 1 => {
                return Err(NoValue::Mismatch(format!(
                    "{} series of {name} match; write sum(...), max(...) or more labels",
                    values.len()
                )));
            }
            Fold::Single | Fold::Sum => sum,
            Fold::Min => values.iter().copied().fold(f64::INFINITY, f64::min),
            Fold::Max => values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            Fold::Average => sum / values.len() as f64,
            Fold::Count => values.len() as f64,
        })
    }

    fn values(&self, vector: &Vector) -> Result<Vec<f64>, NoValue> {
        let matching = || self.series.iter().filter(|series| vector.matches(series));
        // A sum without one of its series would be wrong and look right.
        if let Some(fault) = matching().find_map(|series| series.fault.as_ref()) {
            return Err(NoValue::Mismatch(fault.reason.clone()));
        }
        if !vector.rate {
            return Ok(matching().map(|series| series.value).collect());
        }
        let not_yet = |reason: String| Err(NoValue::NotYet(reason));
        let Some(previous_at) = self.previous.at else {
            return not_yet("needs a second sample".to_owned());
        };
        let elapsed = self.at.saturating_duration_since(previous_at).as_secs_f64();
        if elapsed <= 0.0 {
            return not_yet("no time has passed since the last sample".to_owned());
        }
        let mut rates = Vec::new();
        let mut count = 0;
        for series in matching() {
            count += 1;
            // A new series has no rate yet, which does not affect the others.
            let Some(previous) = self.previous.counters.get(&key(series)) else {
                continue;
            };
            let Some(growth) = counter::growth(*previous, series.value) else {
                return not_yet(format!("{} was reset", vector.name));
            };
            rates.push(growth / elapsed);
        }
        if count > 0 && rates.is_empty() {
            return not_yet("needs a second sample".to_owned());
        }
        Ok(rates)
    }
}

impl Vector {
    fn matches(&self, series: &Series<'_>) -> bool {
        if series.name == self.name && series.fault.as_ref().is_some_and(|fault| fault.any_labels) {
            return true;
        }
        series.name == self.name
            && self.matchers.iter().all(|matcher| {
                let value = series
                    .labels
                    .iter()
                    .find(|(label, _)| *label == matcher.label)
                    // A missing label counts as empty, as in Prometheus.
                    .map_or("", |(_, value)| value.as_ref());
                matcher.matches(value)
            })
    }
}

impl Matcher {
    fn matches(&self, value: &str) -> bool {
        let matches = match &self.condition {
            Condition::Equals(text) => text == value,
            Condition::Matches(pattern) => pattern.is_match(value),
        };
        matches != self.negated
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::load::exposition;

    fn evaluate(expression: &str, text: &str) -> Result<f64, NoValue> {
        let expression: Expression = expression.parse().unwrap();
        let series = exposition::read(text, |name| expression.uses(name))
            .unwrap()
            .series;
        expression.evaluate(&Scrape {
            at: Instant::now(),
            series: &series,
            previous: &History::default(),
        })
    }

    const TEXT: &str = "used 30\nlimit 120\nzero 0\n\
        cpu{mode=\"idle\",cpu=\"0\"} 5\ncpu{mode=\"iowait\",cpu=\"0\"} 1\ncpu{mode=\"user\",cpu=\"0\"} 4\n";

    #[test]
    fn expressions_are_evaluated() {
        for (expression, value) in [
            ("1 + 2 * 3", 7.0),
            ("(1 + 2) * 3", 9.0),
            ("8 / 4 / 2", 1.0),
            ("1 - 2 - 3", -4.0),
            ("-2 * -(1 + 1)", 4.0),
            ("1.5e1 + .5", 15.5),
            ("used / limit", 0.25),
            ("sum(cpu)", 10.0),
            ("min(cpu)", 1.0),
            ("max(cpu)", 5.0),
            ("avg(cpu{mode!=\"idle\"})", 2.5),
            ("count(cpu)", 3.0),
            ("count(nothing)", 0.0),
            ("sum(cpu{mode=~\"idle|iowait\"}) / sum(cpu)", 0.6),
            ("sum(cpu{mode=~\"i.*\"})", 6.0),
            ("sum(cpu{mode=~\".*a.*t\"})", 1.0),
            ("sum(cpu{mode!~'i.*',cpu='0',})", 4.0),
            ("cpu{mode='user', other=''}", 4.0),
            ("sum(cpu{mode=~'[iu][a-z]+'})", 10.0),
            // The pattern must match the whole value.
            ("count(cpu{mode=~'id|ser'})", 0.0),
        ] {
            assert_eq!(evaluate(expression, TEXT), Ok(value), "{expression}");
        }
    }

    #[test]
    fn missing_values_have_a_reason() {
        for (expression, part) in [
            ("nothing", "no series of nothing"),
            ("cpu", "3 series of cpu match; write sum"),
            ("used / zero", "divides by zero"),
            ("rate(used)", "second sample"),
        ] {
            let error = evaluate(expression, TEXT).unwrap_err().to_string();
            assert!(error.contains(part), "{expression}: {error}");
        }
    }

    #[test]
    fn rates_compare_two_scrapes() {
        let expression: Expression = "sum(rate(total))".parse().unwrap();
        let mut history = History::default();
        let start = Instant::now();
        let mut at = start;
        let mut rates = Vec::new();
        for text in [
            "total{a=\"1\"} 100\ntotal{a=\"2\"} 7\n",
            // The counters grow by 10 and 5 in 5 s; a third series is new.
            "total{a=\"1\"} 110\ntotal{a=\"2\"} 12\ntotal{a=\"3\"} 1000\n",
            // One counter was reset.
            "total{a=\"1\"} 3\ntotal{a=\"2\"} 12\ntotal{a=\"3\"} 1000\n",
            "total{a=\"1\"} 8\ntotal{a=\"2\"} 12\ntotal{a=\"3\"} 1000\n",
        ] {
            at += Duration::from_secs(5);
            let series = exposition::read(text, |_| true).unwrap().series;
            rates.push(
                expression
                    .evaluate(&Scrape {
                        at,
                        series: &series,
                        previous: &history,
                    })
                    .ok(),
            );
            history
                .remember(at, &series, std::iter::once(&expression))
                .unwrap();
        }
        assert_eq!(rates, [None, Some(3.0), None, Some(1.0)]);
    }

    #[test]
    fn a_value_that_cannot_be_read_costs_only_what_needs_it() {
        let text = "cpu{mode=\"idle\"} 5\ncpu{mode=\"steal\"} undefined\nopen 3\nnone NaN\n";
        assert_eq!(evaluate("open", text), Ok(3.0));
        assert_eq!(evaluate("cpu{mode='idle'}", text), Ok(5.0));
        for expression in ["sum(cpu)", "count(cpu)", "sum(cpu{mode!='idle'}) + open"] {
            let error = evaluate(expression, text).unwrap_err().to_string();
            assert!(
                error.contains("line 2 cannot be read"),
                "{expression}: {error}"
            );
        }
        // The labels cannot be read either: it may be any series.
        let error = evaluate("cpu{mode='idle'}", "cpu{mode=\"idle\"} 5\ncpu{mode=} 1\n");
        assert!(error.is_err());
        assert!(evaluate("none", text).unwrap().is_nan());
    }

    #[test]
    fn a_counter_that_steps_back_by_rounding_was_not_reset() {
        let expression: Expression = "sum(rate(total))".parse().unwrap();
        let mut history = History::default();
        let mut at = Instant::now();
        let mut rates = Vec::new();
        for (first, second) in [
            ("100", "5.00"),
            ("110", "4.99"),
            ("120", "NaN"),
            ("130", "5.01"),
            ("140", "10.01"),
            ("150", "1"),
        ] {
            at += Duration::from_secs(5);
            let text = format!("total{{a=\"1\"}} {first}\ntotal{{a=\"2\"}} {second}\n");
            let series = exposition::read(&text, |_| true).unwrap().series;
            let scrape = Scrape {
                at,
                series: &series,
                previous: &history,
            };
            let rate = expression.evaluate(&scrape).ok();
            rates.push(rate.filter(|rate| !rate.is_nan()));
            history
                .remember(at, &series, std::iter::once(&expression))
                .unwrap();
        }
        // What is no number is missing once; the last one was reset.
        assert_eq!(rates, [None, Some(2.0), None, Some(2.0), Some(3.0), None]);
    }

    #[test]
    fn remembered_counters_are_bounded() {
        let expression: Expression = "rate(a)".parse().unwrap();
        let text: String = (0..=MAX_COUNTERS)
            .map(|number| format!("a{{n=\"{number}\"}} 1\n"))
            .collect();
        let series = exposition::read(&text, |_| true).unwrap().series;
        let mut history = History::default();
        let error = history
            .remember(Instant::now(), &series, std::iter::once(&expression))
            .unwrap_err();
        assert!(error.contains("more than"), "{error}");
        assert!(history.counters.is_empty());
    }
}
