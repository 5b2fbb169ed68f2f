//! The last readings of a real's load, for steering and for operators.

use std::time::{Duration, Instant};

use super::{
    figures::ReaderFigures,
    snapshot::{ReadingSnapshot, time_of},
};
use lb_clients::health::Outcome;
use lb_clients::load::{
    combine::{SourceState, SourceStates, TimedValue},
    reading::{AgentCommand, Quantity, Report},
};
use lb_model::load::LoadSource;
use lb_steering::{Load, Sample, SourceReading};

/// The last readings of each source, and the round trip of the last probe.
pub(super) struct RealReadings {
    states: SourceStates,
    sources: Vec<LoadSource>,
    latency: Option<(Duration, Instant)>,
    /// Reports without an answer, since the real is supervised.
    failures: u64,
    /// Lines, topics, values and words of answers that could not be read.
    unreadable: u64,
}

impl RealReadings {
    /// For these sources, of which nothing is known yet.
    pub(super) fn new(sources: &[LoadSource]) -> Self {
        RealReadings {
            states: SourceStates::new(sources),
            sources: sources.to_vec(),
            latency: None,
            failures: 0,
            unreadable: 0,
        }
    }

    /// Changes the sources. Readings of those that stay the same are kept.
    pub(super) fn set_sources(&mut self, sources: &[LoadSource]) {
        if sources != self.sources {
            let before = std::mem::replace(&mut self.states, SourceStates::new(sources));
            let same = |name: &str| {
                let is = |source: &&LoadSource| source.name() == name;
                sources.iter().find(is) == self.sources.iter().find(is)
            };
            self.states.keep_from(before, same);
            self.sources = sources.to_vec();
        }
    }

    /// The sources that are read.
    pub(super) fn sources(&self) -> &[LoadSource] {
        &self.sources
    }

    /// Notes how long a real took to answer a probe.
    pub(super) fn probed(&mut self, outcome: &Outcome, now: Instant) {
        if outcome.verdict.is_alive() {
            self.latency = Some((outcome.latency, now));
        }
    }

    /// Notes a reader's report. Returns whether the agent's command changed.
    pub(super) fn take(&mut self, report: &Report) -> bool {
        match &report.outcome {
            Ok(readings) => self.unreadable += readings.unreadable.count,
            Err(_) => self.failures += 1,
        }
        let before = self.states.command();
        self.states.observe(report);
        self.states.command() != before
    }

    /// The load for steering.
    pub(super) fn load(&self, now: Instant) -> Load {
        let load = self.states.load(now);
        let sample = |timed: TimedValue| Sample {
            value: timed.value,
            age: now.saturating_duration_since(timed.at),
        };
        let get = |quantity| load.get(quantity).map(sample);
        let by_source = || {
            let readings = self.states.utilisations(now).map(|reading| {
                let (weight, timed) = reading?;
                Some(SourceReading {
                    weight,
                    utilisation: sample(timed),
                })
            });
            readings.collect()
        };
        let sources = if self.sources.len() > 1 {
            by_source()
        } else {
            Vec::new()
        };
        Load {
            utilisation: get(Quantity::Utilisation),
            sources,
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
            command: load.command.map(command),
        }
    }

    /// Figures of the readers; `None` if there is no source.
    pub(super) fn reader_figures(&self, now: Instant) -> Option<ReaderFigures> {
        (!self.sources.is_empty()).then(|| ReaderFigures {
            unreadable: self.unreadable,
            ..ReaderFigures::new(&self.states, self.failures, now)
        })
    }

    /// The last readings, and why others are missing.
    pub(super) fn snapshots(&self) -> Vec<ReadingSnapshot> {
        self.states.sources().iter().flat_map(snapshots).collect()
    }
}

const fn command(command: AgentCommand) -> lb_steering::AgentCommand {
    match command {
        AgentCommand::Ready | AgentCommand::Up => lb_steering::AgentCommand::Ready,
        AgentCommand::Drain => lb_steering::AgentCommand::Drain,
        AgentCommand::Maint => lb_steering::AgentCommand::Maintenance,
        AgentCommand::Down => lb_steering::AgentCommand::Down,
    }
}

fn snapshots(last: &SourceState) -> Vec<ReadingSnapshot> {
    let reported_at = time_of(last.reported_at.unwrap_or_else(Instant::now));
    let nothing = |quantity: &'static str, problem: String| ReadingSnapshot {
        quantity,
        value: None,
        unit: String::new(),
        time: reported_at,
        source: last.name.to_string(),
        problem,
    };
    let mut all: Vec<ReadingSnapshot> = last
        .readings()
        .map(|reading| ReadingSnapshot {
            quantity: reading.quantity.name(),
            value: Some(reading.value),
            unit: reading.unit().to_string(),
            time: time_of(reading.at),
            source: last.name.to_string(),
            problem: String::new(),
        })
        .collect();
    all.extend(last.ignored.iter().map(|ignored| ReadingSnapshot {
        value: Some(ignored.value),
        unit: ignored.quantity.unit().to_string(),
        ..nothing(ignored.quantity.name(), ignored.reason.clone())
    }));
    all.extend(
        last.missing
            .iter()
            .map(|missing| nothing(missing.quantity.name(), missing.reason.clone())),
    );
    // A problem of a quantity is said there.
    let is_said = |problem: &String| {
        let mut missing = last.missing.iter();
        missing.any(|missing| *problem == missing.reason)
    };
    all.extend(
        last.unreadable
            .problem()
            .filter(|problem| !is_said(problem))
            .map(|problem| nothing("", problem)),
    );
    if let Some(error) = &last.error {
        all.push(nothing("", error.to_string()));
    }
    if last.reported_at.is_none() {
        all.push(nothing("", "nothing was read yet".to_owned()));
    }
    all
}

#[cfg(test)]
mod tests {
    use lb_clients::load::reading::{Reading, Readings, Subject};

    use super::*;

    fn readings(kinds: &[&str], now: Instant) -> RealReadings {
        let sources: Vec<LoadSource> = kinds
            .iter()
            .map(|kind| toml::from_str(&format!("kind = '{kind}'\nport = 1")).unwrap())
            .collect();
        let mut all = RealReadings::new(&sources);
        for (kind, value) in kinds.iter().zip([0.25, 0.75]) {
            all.take(&Report {
                subject: Subject {
                    vip: "192.0.2.1:80/tcp".parse().unwrap(),
                    real: "10.0.0.1".parse().unwrap(),
                },
                source: (*kind).into(),
                at: now,
                outcome: Ok(Readings {
                    readings: vec![Reading {
                        quantity: Quantity::Utilisation,
                        value,
                        at: now,
                        source: (*kind).into(),
                    }],
                    ..Readings::default()
                }),
            });
        }
        all
    }

    #[test]
    fn steering_sees_each_of_several_sources() {
        let now = Instant::now();
        let load = readings(&["grpc", "agent-check"], now).load(now);
        assert_eq!(load.utilisation.unwrap().value, 0.5);
        let values: Vec<Option<f64>> = load
            .sources
            .iter()
            .map(|source| source.map(|source| source.utilisation.value))
            .collect();
        assert_eq!(values, [Some(0.25), Some(0.75)]);
        assert!(
            readings(&["grpc"], now).load(now).sources.is_empty(),
            "a single source is the utilisation"
        );
    }
}
