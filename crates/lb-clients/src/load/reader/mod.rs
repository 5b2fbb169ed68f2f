//! Readers of load: one task per VIP, real and source, which sends reports; see [`start`].
//!
//! A reader either polls a peer once an interval ([`Poll`]) or subscribes to topics that a broker publishes by itself
//! ([`topics::TopicReader`]). The parsers are pure functions from bytes to an [`Answer`].

mod agent_check;
mod deltas;
pub mod docker;
mod emqx;
mod fetch;
mod flashmq;
pub mod grpc;
mod hivemq;
mod json;
mod mosquitto;
mod mqtt_topic;
mod nanomq;
mod node_exporter;
mod prometheus;
mod rabbitmq;
mod subscribe;
mod task;
pub mod topics;
mod vernemq;

#[cfg(test)]
mod tests;

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use futures::future::BoxFuture;
use tokio::{sync::mpsc, task::JoinHandle};

use super::{
    config::{Reader, Source},
    reading::{Answer, Report, Subject},
};
use crate::peer::Deadline;
use prometheus::{Metrics, Preset, Prometheus};

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
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts to read a source of a real, until the handle is dropped or the receiver of the reports is closed. Each answer
/// and each failure is a report. A source that publishes nothing is reported as stale once an interval.
///
/// Must be called inside a Tokio runtime.
#[must_use]
pub fn start(source: &Source, subject: Subject, reports: mpsc::Sender<Report>) -> Handle {
    let opened = Arc::new(AtomicU64::new(0));
    let task = task::Task::new(source, subject, Arc::clone(&opened), reports);
    let task = match way(source, subject.real) {
        Way::Poll(poll) => tokio::spawn(task::poll(task, poll)),
        Way::Subscribe(topics) => tokio::spawn(subscribe::run(
            task,
            subscribe::Place::new(source, subject.real),
            topics,
        )),
    };
    Handle { task, opened }
}

enum Way {
    Poll(Box<dyn Poll>),
    Subscribe(Box<dyn topics::TopicReader>),
}

fn way(source: &Source, real: IpAddr) -> Way {
    let preset = |preset: &Preset| {
        let metrics = Metrics::preset(preset);
        Way::Poll(Box::new(Prometheus::new(
            source,
            real,
            preset.path,
            metrics,
        )))
    };
    match &source.reader {
        Reader::VerneMq => preset(&vernemq::PRESET),
        Reader::NanoMq => preset(&nanomq::PRESET),
        Reader::RabbitMq => preset(&rabbitmq::PRESET),
        Reader::HiveMq => preset(&hivemq::PRESET),
        Reader::NodeExporter => preset(&node_exporter::PRESET),
        Reader::Prometheus { path, values } => Way::Poll(Box::new(Prometheus::new(
            source,
            real,
            path,
            Metrics::new(values),
        ))),
        Reader::Emqx { node } => {
            Way::Poll(Box::new(emqx::Emqx::new(source, real, node.as_deref())))
        }
        Reader::HttpJson { path, values } => {
            Way::Poll(Box::new(json::HttpJson::new(source, real, path, values)))
        }
        Reader::AgentCheck { send } => {
            Way::Poll(Box::new(agent_check::AgentCheck::new(source, real, send)))
        }
        Reader::MosquittoHttp => Way::Poll(Box::new(mosquitto::MosquittoHttp::new(source, real))),
        Reader::Mosquitto => Way::Subscribe(Box::new(mosquitto::Systree::default())),
        Reader::FlashMq => Way::Subscribe(Box::new(flashmq::FlashMq::default())),
        Reader::MqttTopic { topic, values } => Way::Subscribe(Box::new(
            mqtt_topic::MqttTopic::new(source, real, topic, values),
        )),
        Reader::Grpc => Way::Poll(Box::new(grpc::Grpc::new(source, real))),
        Reader::Docker { container, socket } => Way::Poll(Box::new(docker::Docker::new(
            socket.clone(),
            source.fill(container, real),
        ))),
    }
}
