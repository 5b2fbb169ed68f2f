//! Combines the readings of several sources of one real into one load.
//!
//! If several fresh sources report a quantity, utilisation and latency are the mean by weight. Guards (memory, file
//! descriptors, network, errors, drift, run queue) are the greatest value. Limits and the weights that agents ask for
//! are the least. Connections and rates come from the source that counts clients itself, or else from the one with
//! the greatest weight. A stale source counts only if no fresh one reports the quantity; each value carries its age.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use lb_model::load::LoadSource;

use super::{
    reader,
    reading::{AgentCommand, Ignored, Missing, Quantity, ReadError, Reading, Report, Unreadable},
};

/// Intervals without an answer after which a source is stale.
const STALE_INTERVALS: u32 = 3;
/// Extra time for a late answer.
const STALE_GRACE: Duration = Duration::from_secs(2);

/// Returns how long a source's readings stay fresh: three of its intervals and two seconds.
#[must_use]
pub fn fresh_for(interval: Duration) -> Duration {
    interval * STALE_INTERVALS + STALE_GRACE
}

/// A value with the time at which it was read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TimedValue {
    /// The value in the quantity's unit.
    pub value: f64,
    /// When the value was read; of several sources, the newest.
    pub at: Instant,
}

/// The load of a real.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Load {
    values: BTreeMap<Quantity, TimedValue>,
    /// The last command of the real's agents; of several agents, the most severe one.
    pub command: Option<AgentCommand>,
}

impl Load {
    /// Returns a quantity; `None` if no source reported it.
    #[must_use]
    pub fn get(&self, quantity: Quantity) -> Option<TimedValue> {
        self.values.get(&quantity).copied()
    }

    /// Returns the connections as a fraction of the limit, if both are known.
    #[must_use]
    pub fn connection_fraction(&self) -> Option<TimedValue> {
        let connections = self.get(Quantity::Connections)?;
        let limit = self.get(Quantity::ConnectionLimit)?;
        (limit.value > 0.0).then(|| TimedValue {
            value: connections.value / limit.value,
            at: connections.at,
        })
    }
}

/// The last report of one source.
#[derive(Clone, Debug)]
pub struct SourceState {
    /// The source's name.
    pub name: Arc<str>,
    weight: f64,
    fresh_for: Duration,
    counts_clients: bool,
    readings: BTreeMap<Quantity, Reading>,
    command: Option<AgentCommand>,
    /// The implausible values of the last answer.
    pub ignored: Vec<Ignored>,
    /// The quantities that the last answer lacked.
    pub missing: Vec<Missing>,
    /// What of the last answer cannot be read.
    pub unreadable: Unreadable,
    /// Why the last attempt to read failed; `None` if it succeeded.
    pub error: Option<ReadError>,
    /// When the source reported last; `None` before the first report.
    pub reported_at: Option<Instant>,
}

impl SourceState {
    fn new(source: &LoadSource) -> Self {
        SourceState {
            name: source.name().into(),
            weight: source.weight,
            fresh_for: fresh_for(reader::interval(source)),
            counts_clients: reader::counts_clients(source),
            readings: BTreeMap::new(),
            command: None,
            ignored: Vec::new(),
            missing: Vec::new(),
            unreadable: Unreadable::default(),
            error: None,
            reported_at: None,
        }
    }

    /// Iterates over the last reading of each quantity.
    pub fn readings(&self) -> impl Iterator<Item = &Reading> {
        self.readings.values()
    }

    fn observe(&mut self, report: &Report) {
        self.reported_at = Some(report.at);
        match &report.outcome {
            Ok(readings) => {
                self.error = None;
                self.ignored.clone_from(&readings.ignored);
                self.missing.clone_from(&readings.missing);
                self.unreadable.clone_from(&readings.unreadable);
                for reading in &readings.readings {
                    self.readings.insert(reading.quantity, reading.clone());
                }
                // A command applies until the agent gives another one.
                self.command = readings.command.or(self.command);
            }
            Err(error) => {
                self.error = Some(error.clone());
                // They belong to an earlier answer.
                self.ignored.clear();
                self.missing.clear();
                self.unreadable = Unreadable::default();
            }
        }
    }
}

/// The state of every source of one real.
#[derive(Clone, Debug)]
pub struct SourceStates(Vec<SourceState>);

impl SourceStates {
    /// Creates the states of these sources, without any report.
    #[must_use]
    pub fn new(sources: &[LoadSource]) -> Self {
        SourceStates(sources.iter().map(SourceState::new).collect())
    }

    /// Applies a report. A report of an unknown source is ignored.
    pub fn observe(&mut self, report: &Report) {
        if let Some(state) = self.0.iter_mut().find(|state| state.name == report.source) {
            state.observe(report);
        }
    }

    /// The state of each source.
    #[must_use]
    pub fn sources(&self) -> &[SourceState] {
        &self.0
    }

    /// Returns the utilisation that each source reports, with the source's weight; `None` for one that reports none, or is
    /// stale.
    pub fn utilisations(&self, now: Instant) -> impl Iterator<Item = Option<(f64, TimedValue)>> {
        self.0.iter().map(move |state| {
            let reading = state.readings.get(&Quantity::Utilisation)?;
            let fresh = now.saturating_duration_since(reading.at) <= state.fresh_for;
            let value = TimedValue {
                value: reading.value,
                at: reading.at,
            };
            fresh.then_some((state.weight, value))
        })
    }

    /// Combines the readings of all sources.
    #[must_use]
    pub fn load(&self, now: Instant) -> Load {
        let mut candidates: BTreeMap<Quantity, Vec<Candidate>> = BTreeMap::new();
        for state in &self.0 {
            for reading in state.readings.values() {
                candidates
                    .entry(reading.quantity)
                    .or_default()
                    .push(Candidate {
                        value: reading.value,
                        at: reading.at,
                        weight: state.weight,
                        counts_clients: state.counts_clients,
                        fresh: now.saturating_duration_since(reading.at) <= state.fresh_for,
                    });
            }
        }
        Load {
            values: candidates
                .into_iter()
                .filter_map(|(quantity, candidates)| {
                    Some((quantity, combine(quantity, candidates)?))
                })
                .collect(),
            command: self.command(),
        }
    }

    /// Returns the last command of the real's agents; of several agents, the most severe one.
    #[must_use]
    pub fn command(&self) -> Option<AgentCommand> {
        self.0
            .iter()
            .filter_map(|state| state.command)
            .max_by_key(|command| command.severity())
    }

    /// Takes over the state of each source of `previous` that still exists and for which `is_unchanged` returns true.
    pub fn keep_from(&mut self, previous: SourceStates, is_unchanged: impl Fn(&str) -> bool) {
        for state in previous.0 {
            if is_unchanged(&state.name)
                && let Some(own) = self.0.iter_mut().find(|own| own.name == state.name)
            {
                *own = state;
            }
        }
    }
}

/// A source's value of one quantity.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    value: f64,
    at: Instant,
    weight: f64,
    counts_clients: bool,
    fresh: bool,
}

fn combine(quantity: Quantity, mut candidates: Vec<Candidate>) -> Option<TimedValue> {
    if candidates.iter().any(|candidate| candidate.fresh) {
        candidates.retain(|candidate| candidate.fresh);
    } else {
        // Of stale values, only the newest counts.
        let newest = candidates.iter().map(|candidate| candidate.at).max()?;
        candidates.retain(|candidate| candidate.at == newest);
    }
    let at = candidates.iter().map(|candidate| candidate.at).max()?;
    let values = || candidates.iter().map(|candidate| candidate.value);
    let value = match quantity {
        Quantity::Utilisation | Quantity::Latency => {
            let weights: f64 = candidates.iter().map(|candidate| candidate.weight).sum();
            candidates
                .iter()
                .map(|candidate| candidate.value * candidate.weight)
                .sum::<f64>()
                / weights
        }
        Quantity::Memory
        | Quantity::FileDescriptors
        | Quantity::Network
        | Quantity::ErrorRate
        | Quantity::Drift
        | Quantity::MemoryBytes
        | Quantity::RunQueue => values().reduce(f64::max)?,
        Quantity::AgentWeight | Quantity::ConnectionLimit => values().reduce(f64::min)?,
        Quantity::Connections | Quantity::Rate | Quantity::Messages | Quantity::Dropped => {
            let best = candidates.iter().max_by(|a, b| {
                (a.counts_clients.cmp(&b.counts_clients))
                    .then(a.weight.total_cmp(&b.weight))
                    .then(a.at.cmp(&b.at))
            })?;
            return Some(TimedValue {
                value: best.value,
                at: best.at,
            });
        }
    };
    Some(TimedValue { value, at })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::reading::{Readings, Subject};

    fn sources() -> Vec<LoadSource> {
        [
            "kind = 'mosquitto'",
            "kind = 'grpc'\nport = 1\nweight = 3.0",
            "kind = 'agent-check'\nport = 1",
        ]
        .map(|text| toml::from_str(text).unwrap())
        .into()
    }

    fn report(
        source: &str,
        at: Instant,
        command: Option<AgentCommand>,
        values: &[(Quantity, f64)],
    ) -> Report {
        Report {
            subject: Subject {
                vip: "192.0.2.1:80/tcp".parse().unwrap(),
                real: "10.0.0.1".parse().unwrap(),
            },
            source: source.into(),
            at,
            outcome: Ok(Readings {
                command,
                readings: values
                    .iter()
                    .map(|&(quantity, value)| Reading {
                        quantity,
                        value,
                        at,
                        source: source.into(),
                    })
                    .collect(),
                ..Readings::default()
            }),
        }
    }

    fn value(load: &Load, quantity: Quantity) -> Option<f64> {
        load.get(quantity).map(|timed| timed.value)
    }

    #[test]
    fn several_sources_make_one_load() {
        let now = Instant::now();
        let mut states = SourceStates::new(&sources());
        assert_eq!(states.load(now), Load::default());
        for report in [
            report(
                "mosquitto",
                now,
                None,
                &[
                    (Quantity::Connections, 100.0),
                    (Quantity::Utilisation, 0.25),
                    (Quantity::Memory, 0.9),
                ],
            ),
            report(
                "grpc",
                now,
                None,
                &[
                    (Quantity::Connections, 130.0),
                    (Quantity::Utilisation, 0.75),
                    (Quantity::Memory, 0.5),
                ],
            ),
            report(
                "agent-check",
                now,
                Some(AgentCommand::Drain),
                &[
                    (Quantity::AgentWeight, 0.5),
                    (Quantity::ConnectionLimit, 200.0),
                ],
            ),
            report("unknown", now, None, &[(Quantity::Rate, 1.0)]),
        ] {
            states.observe(&report);
        }
        let load = states.load(now);
        assert_eq!(value(&load, Quantity::Utilisation), Some(0.625));
        let by_source: Vec<Option<(f64, f64)>> = states
            .utilisations(now)
            .map(|reading| reading.map(|(weight, timed)| (weight, timed.value)))
            .collect();
        assert_eq!(by_source, [Some((1.0, 0.25)), Some((3.0, 0.75)), None]);
        assert_eq!(value(&load, Quantity::Memory), Some(0.9));
        // The broker counts its clients only, the host every connection.
        assert_eq!(value(&load, Quantity::Connections), Some(100.0));
        assert_eq!(load.connection_fraction().unwrap().value, 0.5);
        assert_eq!(value(&load, Quantity::AgentWeight), Some(0.5));
        assert_eq!(value(&load, Quantity::Rate), None);
        assert_eq!(load.command, Some(AgentCommand::Drain));
    }

    #[test]
    fn a_stale_source_counts_only_without_a_fresh_one() {
        let start = Instant::now();
        let mut states = SourceStates::new(&sources());
        states.observe(&report(
            "mosquitto",
            start,
            None,
            &[(Quantity::Utilisation, 0.2), (Quantity::Rate, 7.0)],
        ));
        let later = start + fresh_for(Duration::from_secs(10)) + Duration::from_secs(1);
        states.observe(&report(
            "grpc",
            later,
            None,
            &[(Quantity::Utilisation, 0.6)],
        ));
        let mut silent = report("mosquitto", later, None, &[]);
        silent.outcome = Err(ReadError::Stale("silent".to_owned()));
        states.observe(&silent);
        let load = states.load(later);
        assert!((value(&load, Quantity::Utilisation).unwrap() - 0.6).abs() < 1e-9);
        let fresh: Vec<bool> = states
            .utilisations(later)
            .map(|reading| reading.is_some())
            .collect();
        assert_eq!(fresh, [false, true, false]);
        // Stale, and dated as such.
        assert_eq!(
            load.get(Quantity::Rate),
            Some(TimedValue {
                value: 7.0,
                at: start
            })
        );
        let state = &states.sources()[0];
        assert_eq!(state.error.as_ref().unwrap().to_string(), "stale: silent");
        assert_eq!(state.readings().count(), 2);
    }
}
