//! A pool's own sources of load, read by the readers of `lb-clients`.

use std::{collections::HashMap, net::SocketAddr, time::Instant};

use lb_clients::load::{
    combine::{SourceStates, TimedValue},
    reader::{self, Handle},
    reading::{Quantity, Report, Subject},
};
use lb_model::{
    load::LoadSource,
    pool::InstanceName,
    vip::{Protocol, VipKey},
};
use lb_steering::{Sample, scaling::InstanceReadings};
use tokio::{sync::mpsc, task::JoinHandle};

/// Reports that wait for a busy pool.
const REPORTS: usize = 64;

/// The readers of a pool's instances.
#[derive(Debug)]
pub struct Readers {
    reports: mpsc::Sender<(InstanceName, Report)>,
    sources: Vec<LoadSource>,
    running: HashMap<InstanceName, Reading>,
}

/// The readers of one instance.
#[derive(Debug)]
struct Reading {
    states: SourceStates,
    handles: Vec<Handle>,
    forwarding: JoinHandle<()>,
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.forwarding.abort();
    }
}

impl Readers {
    /// No readers, and where their reports come.
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<(InstanceName, Report)>) {
        let (reports, receiver) = mpsc::channel(REPORTS);
        let readers = Readers {
            reports,
            sources: Vec::new(),
            running: HashMap::new(),
        };
        (readers, receiver)
    }

    /// Drops the readers of instances of which one has ended by itself, which is a fault of this program, and names those
    /// instances. They are started again with the next [`Readers::set`].
    pub fn drop_ended(&mut self) -> Vec<InstanceName> {
        let mut ended = Vec::new();
        self.running.retain(|name, reading| {
            let has_ended =
                reading.handles.iter().any(Handle::has_ended) || reading.forwarding.is_finished();
            if has_ended {
                ended.push(name.clone());
            }
            !has_ended
        });
        ended
    }

    /// Reads these sources of exactly these instances. A source's port that is `first_port`, that of the pool's first
    /// instance, stands for the instance's own.
    pub fn set<'a>(
        &mut self,
        sources: &[LoadSource],
        first_port: u16,
        instances: impl Iterator<Item = (&'a InstanceName, SocketAddr)>,
    ) {
        if self.sources != sources {
            self.running.clear();
            self.sources = sources.to_vec();
        }
        if sources.is_empty() {
            return;
        }
        let wanted: HashMap<&InstanceName, SocketAddr> = instances.collect();
        self.running.retain(|name, _| wanted.contains_key(name));
        for (name, endpoint) in wanted {
            if !self.running.contains_key(name) {
                let reading = self.start(name, first_port, endpoint);
                self.running.insert(name.clone(), reading);
            }
        }
    }

    fn start(&self, name: &InstanceName, first_port: u16, endpoint: SocketAddr) -> Reading {
        let subject = Subject {
            vip: VipKey::new(endpoint.ip(), endpoint.port(), Protocol::Tcp),
            real: endpoint.ip().into(),
        };
        let (sender, mut results) = mpsc::channel(self.sources.len().max(1));
        let handles = self.sources.iter().map(|source| {
            let mut source = source.clone();
            if source.port == Some(first_port) {
                source.port = Some(endpoint.port());
            }
            reader::start(&source, subject, sender.clone())
        });
        let handles = handles.collect();
        let (name, reports) = (name.clone(), self.reports.clone());
        let forwarding = tokio::spawn(async move {
            while let Some(report) = results.recv().await {
                if reports.send((name.clone(), report)).await.is_err() {
                    return;
                }
            }
        });
        Reading {
            states: SourceStates::new(&self.sources),
            handles,
            forwarding,
        }
    }

    /// Takes a report; one of an instance that is no longer read is ignored.
    pub fn take(&mut self, name: &InstanceName, report: &Report) {
        if let Some(reading) = self.running.get_mut(name) {
            reading.states.observe(report);
        }
    }

    /// Completes what is known of an instance by what its sources say.
    pub fn complete(&self, name: &InstanceName, readings: &mut InstanceReadings) {
        let Some(reading) = self.running.get(name) else {
            return;
        };
        let now = Instant::now();
        let load = reading.states.load(now);
        let sample = |timed: TimedValue| Sample {
            value: timed.value,
            age: now.saturating_duration_since(timed.at),
        };
        let get = |quantity| load.get(quantity).map(sample);
        readings.utilisation = readings.utilisation.or(get(Quantity::Utilisation));
        readings.memory = readings.memory.or(get(Quantity::Memory));
        readings.network = readings.network.or(get(Quantity::Network));
        readings.connections = readings.connections.or(get(Quantity::Connections));
        let limit = load.get(Quantity::ConnectionLimit);
        readings.connection_limit = readings.connection_limit.or(limit.map(|limit| limit.value));
    }

    /// Why sources cannot be read, if some cannot.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        let mut troubles = Vec::new();
        for (name, reading) in &self.running {
            for source in reading.states.sources() {
                if let Some(error) = &source.error {
                    troubles.push(format!("{name}: load source {}: {error}", source.name));
                }
            }
        }
        troubles.sort();
        let more = match troubles.len().saturating_sub(TROUBLES) {
            0 => String::new(),
            more => format!("; and {more} more"),
        };
        troubles.truncate(TROUBLES);
        (!troubles.is_empty()).then(|| troubles.join("; ") + &more)
    }
}

/// Sources that are shown at most of those that cannot be read.
const TROUBLES: usize = 3;
