//! What several sources tell of one real → one load.
//!
//! Where several fresh sources tell a quantity, it is their mean by weight; of guards (memory, file
//! descriptors, network, errors, what waits) the greatest; of limits and of what agents ask for the least.
//! Connections and what comes and goes with them are of the source that counts clients itself, else of the
//! weightiest. A stale source counts only where no fresh one tells the quantity; its age is told.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    reading::{Ignored, Missing, Order, Quantity, Reading, Report, Trouble},
    spec::{Reader, Source},
};

/// Intervals without news after which a source is stale.
const STALE_INTERVALS: u32 = 3;
/// And so much more, for a late answer.
const STALE_GRACE: Duration = Duration::from_secs(2);

/// How long a source's readings are fresh: three of its intervals and two seconds.
#[must_use]
pub fn fresh_for(interval: Duration) -> Duration {
    interval * STALE_INTERVALS + STALE_GRACE
}

/// A value with its age.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dated {
    /// In the quantity's unit.
    pub value: f64,
    /// When it was true; of several, the newest.
    pub at: Instant,
}

/// What is known of a real's load.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Load {
    values: BTreeMap<Quantity, Dated>,
    /// What its agents ordered last: of several, what takes more away.
    pub order: Option<Order>,
}

impl Load {
    /// A quantity; none where no source told it.
    #[must_use]
    pub fn get(&self, quantity: Quantity) -> Option<Dated> {
        self.values.get(&quantity).copied()
    }

    /// Connections as a fraction of the limit, where both are known.
    #[must_use]
    pub fn connection_fraction(&self) -> Option<Dated> {
        let connections = self.get(Quantity::Connections)?;
        let limit = self.get(Quantity::ConnectionLimit)?;
        (limit.value > 0.0).then(|| Dated {
            value: connections.value / limit.value,
            at: connections.at,
        })
    }
}

/// The last of one source.
#[derive(Clone, Debug)]
pub struct Last {
    /// Its name.
    pub name: Arc<str>,
    weight: f64,
    fresh: Duration,
    counts_clients: bool,
    readings: BTreeMap<Quantity, Reading>,
    order: Option<Order>,
    /// What was not believed in the last answer.
    pub ignored: Vec<Ignored>,
    /// What was missing in the last answer.
    pub missing: Vec<Missing>,
    /// Why the last question was not answered; none if it was.
    pub trouble: Option<Trouble>,
    /// When it reported last; none: not yet.
    pub reported: Option<Instant>,
}

impl Last {
    fn new(source: &Source) -> Self {
        Last {
            name: source.name.as_str().into(),
            weight: source.weight,
            fresh: fresh_for(source.interval),
            // A host's reporter counts every connection of the host.
            counts_clients: !matches!(
                source.reader,
                Reader::Grpc | Reader::Docker { .. } | Reader::NodeExporter
            ),
            readings: BTreeMap::new(),
            order: None,
            ignored: Vec::new(),
            missing: Vec::new(),
            trouble: None,
            reported: None,
        }
    }

    /// The last reading of each quantity.
    pub fn readings(&self) -> impl Iterator<Item = &Reading> {
        self.readings.values()
    }

    fn observe(&mut self, report: &Report) {
        self.reported = Some(report.at);
        match &report.outcome {
            Ok(readings) => {
                self.trouble = None;
                self.ignored.clone_from(&readings.ignored);
                self.missing.clone_from(&readings.missing);
                for reading in &readings.readings {
                    self.readings.insert(reading.quantity, reading.clone());
                }
                self.order = readings.order.or(self.order);
            }
            Err(trouble) => {
                self.trouble = Some(trouble.clone());
                // They were of an answer that is not the last one any more.
                self.ignored.clear();
                self.missing.clear();
            }
        }
    }
}

/// The sources of one real.
#[derive(Clone, Debug)]
pub struct Board(Vec<Last>);

impl Board {
    /// Of these sources, of which nothing is known yet.
    #[must_use]
    pub fn new(sources: &[Source]) -> Self {
        Board(sources.iter().map(Last::new).collect())
    }

    /// Takes a report; one of a source that is not on the board is passed over.
    pub fn observe(&mut self, report: &Report) {
        if let Some(last) = self.0.iter_mut().find(|last| last.name == report.source) {
            last.observe(report);
        }
    }

    /// The last of each source.
    #[must_use]
    pub fn sources(&self) -> &[Last] {
        &self.0
    }

    /// What they tell together.
    #[must_use]
    pub fn load(&self, now: Instant) -> Load {
        let mut told: BTreeMap<Quantity, Vec<Told>> = BTreeMap::new();
        for last in &self.0 {
            for reading in last.readings.values() {
                told.entry(reading.quantity).or_default().push(Told {
                    value: reading.value,
                    at: reading.at,
                    weight: last.weight,
                    counts_clients: last.counts_clients,
                    fresh: now.saturating_duration_since(reading.at) <= last.fresh,
                });
            }
        }
        Load {
            values: told
                .into_iter()
                .filter_map(|(quantity, told)| Some((quantity, combine(quantity, told)?)))
                .collect(),
            order: self.order(),
        }
    }

    /// What its agents ordered last: of several, what takes more away.
    #[must_use]
    pub fn order(&self) -> Option<Order> {
        self.0
            .iter()
            .filter_map(|last| last.order)
            .max_by_key(|order| order.severity())
    }

    /// What is known of the sources that `other` has, too, and that are the same.
    pub fn keep(&mut self, other: Board, same: impl Fn(&str) -> bool) {
        for last in other.0 {
            if same(&last.name)
                && let Some(mine) = self.0.iter_mut().find(|mine| mine.name == last.name)
            {
                *mine = last;
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Told {
    value: f64,
    at: Instant,
    weight: f64,
    counts_clients: bool,
    fresh: bool,
}

fn combine(quantity: Quantity, mut told: Vec<Told>) -> Option<Dated> {
    if told.iter().any(|told| told.fresh) {
        told.retain(|told| told.fresh);
    } else {
        // Of what is old, only the newest means anything.
        let newest = told.iter().map(|told| told.at).max()?;
        told.retain(|told| told.at == newest);
    }
    let at = told.iter().map(|told| told.at).max()?;
    let values = || told.iter().map(|told| told.value);
    let value = match quantity {
        Quantity::Utilisation | Quantity::Latency => {
            let weights: f64 = told.iter().map(|told| told.weight).sum();
            told.iter()
                .map(|told| told.value * told.weight)
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
            let best = told.iter().max_by(|a, b| {
                (a.counts_clients.cmp(&b.counts_clients))
                    .then(a.weight.total_cmp(&b.weight))
                    .then(a.at.cmp(&b.at))
            })?;
            return Some(Dated {
                value: best.value,
                at: best.at,
            });
        }
    };
    Some(Dated { value, at })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::reading::{Readings, Subject};

    fn sources() -> Vec<Source> {
        [
            "kind = 'mosquitto'",
            "kind = 'grpc'\nport = 1\nweight = 3.0",
            "kind = 'agent-check'\nport = 1",
        ]
        .map(|text| toml::from_str(text).unwrap())
        .into()
    }

    fn report(source: &str, at: Instant, order: Option<Order>, said: &[(Quantity, f64)]) -> Report {
        Report {
            subject: Subject {
                vip: "192.0.2.1:80/tcp".parse().unwrap(),
                real: "10.0.0.1".parse().unwrap(),
            },
            source: source.into(),
            at,
            outcome: Ok(Readings {
                order,
                readings: said
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
        load.get(quantity).map(|dated| dated.value)
    }

    #[test]
    fn several_sources_make_one_load() {
        let now = Instant::now();
        let mut board = Board::new(&sources());
        assert_eq!(board.load(now), Load::default());
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
                Some(Order::Drain),
                &[
                    (Quantity::AgentWeight, 0.5),
                    (Quantity::ConnectionLimit, 200.0),
                ],
            ),
            report("unknown", now, None, &[(Quantity::Rate, 1.0)]),
        ] {
            board.observe(&report);
        }
        let load = board.load(now);
        assert_eq!(value(&load, Quantity::Utilisation), Some(0.625));
        assert_eq!(value(&load, Quantity::Memory), Some(0.9));
        // The broker counts its clients, the host everything.
        assert_eq!(value(&load, Quantity::Connections), Some(100.0));
        assert_eq!(load.connection_fraction().unwrap().value, 0.5);
        assert_eq!(value(&load, Quantity::AgentWeight), Some(0.5));
        assert_eq!(value(&load, Quantity::Rate), None);
        assert_eq!(load.order, Some(Order::Drain));
    }

    #[test]
    fn a_stale_source_counts_only_alone() {
        let start = Instant::now();
        let mut board = Board::new(&sources());
        board.observe(&report(
            "mosquitto",
            start,
            None,
            &[(Quantity::Utilisation, 0.2), (Quantity::Rate, 7.0)],
        ));
        let later = start + fresh_for(Duration::from_secs(10)) + Duration::from_secs(1);
        board.observe(&report(
            "grpc",
            later,
            None,
            &[(Quantity::Utilisation, 0.6)],
        ));
        let mut silent = report("mosquitto", later, None, &[]);
        silent.outcome = Err(Trouble::Stale("silent".to_owned()));
        board.observe(&silent);
        let load = board.load(later);
        assert!((value(&load, Quantity::Utilisation).unwrap() - 0.6).abs() < 1e-9);
        // Old, and said to be.
        assert_eq!(
            load.get(Quantity::Rate),
            Some(Dated {
                value: 7.0,
                at: start
            })
        );
        let last = &board.sources()[0];
        assert_eq!(last.trouble.as_ref().unwrap().to_string(), "stale: silent");
        assert_eq!(last.readings().count(), 2);
    }
}
