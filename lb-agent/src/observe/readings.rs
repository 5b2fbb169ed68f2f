//! What was last read of a real's load, as steering and operators want it.

use std::time::{Duration, Instant};

use super::{
    figures::ReaderFigures,
    found::{ReadingFound, time_of},
};
use lb_clients::health::Outcome;
use lb_clients::load::{
    combine::{Board, Dated, Last},
    reading::{self, Quantity, Report},
    spec::Source,
};
use lb_steering::{self, Load, Sample};

/// The last of each source, and the last probe's round trip.
pub(super) struct Readings {
    board: Board,
    sources: Vec<Source>,
    latency: Option<(Duration, Instant)>,
    /// Reports without an answer, since the real is supervised.
    failures: u64,
}

impl Readings {
    /// Of these sources, of which nothing is known yet.
    pub(super) fn new(sources: &[Source]) -> Self {
        Readings {
            board: Board::new(sources),
            sources: sources.to_vec(),
            latency: None,
            failures: 0,
        }
    }

    /// These are the sources from now on. What was read of those that are the same stays.
    pub(super) fn set_sources(&mut self, sources: &[Source]) {
        if sources != self.sources {
            let before = std::mem::replace(&mut self.board, Board::new(sources));
            let same = |name: &str| {
                let is = |source: &&Source| source.name == name;
                sources.iter().find(is) == self.sources.iter().find(is)
            };
            self.board.keep(before, same);
            self.sources = sources.to_vec();
        }
    }

    /// Notes how long a real took to answer a probe.
    pub(super) fn probed(&mut self, outcome: &Outcome, now: Instant) {
        if outcome.verdict.is_alive() {
            self.latency = Some((outcome.latency, now));
        }
    }

    /// Notes what a reader read; true if its agent orders something else than before.
    pub(super) fn take(&mut self, report: &Report) -> bool {
        self.failures += u64::from(report.outcome.is_err());
        let before = self.board.order();
        self.board.observe(report);
        self.board.order() != before
    }

    /// As steering wants it.
    pub(super) fn load(&self, now: Instant) -> Load {
        let load = self.board.load(now);
        let sample = |dated: Dated| Sample {
            value: dated.value,
            age: now.saturating_duration_since(dated.at),
        };
        let get = |quantity| load.get(quantity).map(sample);
        Load {
            utilisation: get(Quantity::Utilisation),
            memory: get(Quantity::Memory),
            descriptors: get(Quantity::FileDescriptors),
            connection_fraction: load.connection_fraction().map(sample),
            connections: get(Quantity::Connections),
            error_rate: get(Quantity::ErrorRate),
            latency: self
                .latency
                .map(|(latency, at)| Sample {
                    value: latency.as_secs_f64(),
                    age: now.saturating_duration_since(at),
                })
                .or_else(|| get(Quantity::Latency)),
            agent_weight: get(Quantity::AgentWeight),
            order: load.order.map(order),
        }
    }

    /// Figures of the readers; `None` if there is no source.
    pub(super) fn reader_figures(&self, now: Instant) -> Option<ReaderFigures> {
        (!self.sources.is_empty()).then(|| ReaderFigures::new(&self.board, self.failures, now))
    }

    /// What is known, for who asks.
    pub(super) fn found(&self) -> Vec<ReadingFound> {
        self.board.sources().iter().flat_map(found).collect()
    }
}

const fn order(order: reading::Order) -> lb_steering::Order {
    match order {
        reading::Order::Ready | reading::Order::Up => lb_steering::Order::Ready,
        reading::Order::Drain => lb_steering::Order::Drain,
        reading::Order::Maint => lb_steering::Order::Maintenance,
        reading::Order::Down => lb_steering::Order::Down,
    }
}

fn found(last: &Last) -> Vec<ReadingFound> {
    let told = time_of(last.reported.unwrap_or_else(Instant::now));
    let nothing = |quantity: &'static str, problem: String| ReadingFound {
        quantity,
        value: None,
        unit: String::new(),
        time: told,
        source: last.name.to_string(),
        problem,
    };
    let mut all: Vec<ReadingFound> = last
        .readings()
        .map(|reading| ReadingFound {
            quantity: reading.quantity.name(),
            value: Some(reading.value),
            unit: reading.unit().to_string(),
            time: time_of(reading.at),
            source: last.name.to_string(),
            problem: String::new(),
        })
        .collect();
    all.extend(last.ignored.iter().map(|ignored| ReadingFound {
        value: Some(ignored.value),
        unit: ignored.quantity.unit().to_string(),
        ..nothing(ignored.quantity.name(), ignored.reason.clone())
    }));
    all.extend(
        last.missing
            .iter()
            .map(|missing| nothing(missing.quantity.name(), missing.reason.clone())),
    );
    if let Some(trouble) = &last.trouble {
        all.push(nothing("", trouble.to_string()));
    }
    if last.reported.is_none() {
        all.push(nothing("", "nothing was read yet".to_owned()));
    }
    all
}
