//! What asks. One task per VIP, real and source, which tells by message; see [`start`].
//!
//! Pollers ask once an interval; each is a [`Poll`] in a file of its own. What brokers tell by themselves is
//! subscribed to; each is a [`topics::Topics`]. The parsers are pure: bytes in, [`Answer`] out.

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
    reading::{Answer, Report, Subject},
    spec::{Reader, Source},
};
use crate::peer::Deadline;
use prometheus::{Metrics, Preset, Prometheus};

/// One way to ask a peer; it keeps what the next answer needs of this one (counters for rates).
pub trait Poll: Send {
    /// Asks once. It ends by the deadline, reads a bounded answer, and never panics whatever comes. When it
    /// fails it says why, in words for the operator. Dropped in the middle, it leaves nothing behind.
    ///
    /// Rates are between the moments at which answers came: [`std::time::Instant::now`] behind the answer.
    fn poll<'a>(&'a mut self, deadline: &'a Deadline) -> BoxFuture<'a, Result<Answer, String>>;
}

/// A reader at work; dropping it ends it.
#[derive(Debug)]
pub struct Handle {
    task: JoinHandle<()>,
    opened: Arc<AtomicU64>,
}

impl Handle {
    /// Tells how many flows the real has taken in all: while they come, a source whose utilisation stands
    /// still is not believed.
    pub fn observe_opened(&self, flows: u64) {
        self.opened.store(flows, Ordering::Relaxed);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Reads this source of this real until the handle is dropped, or nobody takes the reports any more. Each
/// answer and each failure is a report; while there is nothing to tell, one report an interval says why.
///
/// To be called inside a runtime.
#[must_use]
pub fn start(source: &Source, subject: Subject, reports: mpsc::Sender<Report>) -> Handle {
    let opened = Arc::new(AtomicU64::new(0));
    let task = task::Task::new(source, subject, Arc::clone(&opened), reports);
    let task = match way(source, subject.real) {
        Way::Poll(poll) => tokio::spawn(task::poll(task, poll)),
        Way::Subscribe(topics) => tokio::spawn(subscribe::run(
            task,
            subscribe::BrokerEndpoint::new(source, subject.real),
            topics,
        )),
    };
    Handle { task, opened }
}

enum Way {
    Poll(Box<dyn Poll>),
    Subscribe(Box<dyn topics::Topics>),
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
