//! Readers of load: one task per VIP, real and source, which sends reports; see [`start`].
//!
//! Each kind of reader is a file: its name and help, its settings with their validation, its defaults, and the code
//! that reads. [`READERS`] lists the kinds; API, command line, files and documentation derive from it. `shared`
//! has what several kinds use.
//!
//! A reader either polls a peer once an interval ([`Poll`]) or subscribes to topics that a broker publishes by itself
//! (`TopicReader`). The parsers are pure functions from bytes to an [`Answer`].

mod agent_check;
mod collectd;
pub mod docker;
mod emqx;
mod flashmq;
mod grpc;
mod hivemq;
mod http_json;
mod kind;
mod mosquitto;
mod mosquitto_http;
mod mqtt_topic;
mod nanomq;
mod node_exporter;
mod prometheus;
mod rabbitmq;
mod shared;
mod vernemq;

#[cfg(test)]
mod tests;

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::future::BoxFuture;
use lb_model::{
    load::{DEFAULT_INTERVAL, LoadSource, SourceOverride},
    settings::FieldError,
};
use tokio::{sync::mpsc, task::JoinHandle};

use super::reading::{Answer, Report, Subject};
use crate::peer::Deadline;
use kind::{Reader, ReaderKind, SourceTarget};
use shared::{subscribe, task};

crate::registry! {
    /// The kinds of reader, in the order of the documentation.
    pub static READERS: ReaderKind = "load reader" named by "kind";
    mosquitto, mosquitto_http, mqtt_topic, emqx, vernemq, nanomq, rabbitmq, hivemq, flashmq, prometheus, http_json, grpc, agent_check, docker, node_exporter, collectd,
}

fn find(name: &str) -> Result<&'static ReaderKind, FieldError> {
    let name = READERS.find(name)?.name;
    KINDS
        .iter()
        .copied()
        .find(|kind| kind.kind.name == name)
        .ok_or_else(|| unreachable!("the registry is made from the list of kinds"))
}

/// Checks the settings of a source with those of its kind, and fills in defaults.
///
/// # Errors
/// An unknown kind, or the first setting that cannot be used.
pub fn normalize(source: &LoadSource) -> Result<LoadSource, FieldError> {
    READERS.normalize(source)
}

/// Applies the settings that differ at one real. Returns `None` if the source is not read at this real.
///
/// # Errors
/// A setting that the source's kind does not have, or a value it cannot have.
pub fn apply_override(
    source: &LoadSource,
    change: &SourceOverride,
) -> Result<Option<LoadSource>, FieldError> {
    change
        .apply(source)?
        .map(|source| normalize(&source))
        .transpose()
}

/// Returns the time between two readings of a source: its own, or the default of its kind.
#[must_use]
pub fn interval(source: &LoadSource) -> Duration {
    let default = || find(&source.reader.kind).map_or(DEFAULT_INTERVAL, |kind| kind.interval);
    source.interval.unwrap_or_else(default)
}

/// Returns true if a source counts clients of the service, rather than every connection of the host.
#[must_use]
pub fn counts_clients(source: &LoadSource) -> bool {
    find(&source.reader.kind).is_ok_and(|kind| kind.counts_clients)
}

/// A way to poll a peer. It keeps what the next answer needs of the last one, such as counters for rates.
pub trait Poll: Send {
    /// Polls once. The poll ends by the deadline, reads an answer of bounded length, and does not panic on any input.
    /// Its error is text for operators. Dropping the future leaves nothing behind.
    ///
    /// Rates are computed between the moments at which the answers arrived: take [`std::time::Instant::now`] after the
    /// answer, not before the request.
    fn poll<'a>(&'a mut self, deadline: &'a Deadline) -> BoxFuture<'a, Result<Answer, String>>;
}

/// A running reader; dropping the handle ends it.
#[derive(Debug)]
pub struct Handle {
    task: JoinHandle<()>,
    opened: Arc<AtomicU64>,
}

impl Handle {
    /// Sets the number of flows that the balancer has ever opened to the real. While it grows, a source whose
    /// utilisation never changes counts as frozen.
    pub fn observe_opened(&self, flows: u64) {
        self.opened.store(flows, Ordering::Relaxed);
    }

    /// Whether the task has ended by itself: it panicked, which is a fault of this program.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.task.is_finished()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts to read a source of a real, until the handle is dropped or the receiver of the reports is closed. Each answer
/// and each failure is a report. A source that publishes nothing is reported as stale once an interval. A source that
/// [`normalize`] would refuse is reported as failed, with the reason.
///
/// Must be called inside a Tokio runtime.
#[must_use]
pub fn start(source: &LoadSource, subject: Subject, reports: mpsc::Sender<Report>) -> Handle {
    let opened = Arc::new(AtomicU64::new(0));
    let task = task::Task::new(source, subject, Arc::clone(&opened), reports);
    let task = match open(source, subject.real.address) {
        Ok((Reader::Poll(poll), _)) => tokio::spawn(task::poll(task, poll)),
        Ok((Reader::Subscribe(topics), target)) => {
            let broker = subscribe::BrokerEndpoint::new(&target);
            tokio::spawn(subscribe::run(task, broker, topics))
        }
        Err(error) => tokio::spawn(task::poll(task, Box::new(Unusable(error)))),
    };
    Handle { task, opened }
}

fn open(source: &LoadSource, real: IpAddr) -> Result<(Reader, SourceTarget<'_>), FieldError> {
    let kind = find(&source.reader.kind)?;
    let target = SourceTarget {
        source,
        real,
        address: (kind.address)(source, real),
    };
    Ok(((kind.open)(&target)?, target))
}

/// A source whose settings cannot be used.
struct Unusable(FieldError);

impl Poll for Unusable {
    fn poll<'a>(&'a mut self, _: &'a Deadline) -> BoxFuture<'a, Result<Answer, String>> {
        Box::pin(async { Err(format!("the source: {}", self.0)) })
    }
}
