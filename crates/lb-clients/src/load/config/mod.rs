//! What an operator can say: a source of load, of a VIP's reals or of one real.
//!
//! A source on a VIP is asked at each of its reals; texts may hold `{address}` (the address that is asked) and
//! `{real}` (the real's own). A real may say otherwise with a [`SourceOverride`].

mod change;
mod kind;
mod pointer;
mod written;

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use serde::{Deserialize, Serialize};

pub use change::SourceOverride;
pub use kind::Kind;
pub use pointer::Pointer;
pub use written::Written;

use super::{expression::Expression, reading::Quantity};
use crate::peer::{Tls, fields, http::Authorization};

/// Time between two questions, if nothing is said: the control period of the steering law.
pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(5);
/// For what brokers tell by themselves: `sys_interval` of Mosquitto is 10 s unless configured, and FlashMQ's
/// is 10 s.
pub const DEFAULT_SYS_INTERVAL: Duration = Duration::from_secs(10);
/// How long one question may take, if nothing is said.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(2);
/// Weight of a source, if nothing is said.
pub const DEFAULT_WEIGHT: f64 = 1.0;
/// The shortest interval.
pub const MIN_INTERVAL: Duration = Duration::from_millis(500);
/// The longest interval.
pub const MAX_INTERVAL: Duration = Duration::from_secs(3_600);
/// The shortest time-out.
pub const MIN_TIMEOUT: Duration = Duration::from_millis(10);
/// The longest time-out.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(60);
/// The greatest weight of a source.
pub const MAX_SOURCE_WEIGHT: f64 = 1_000.0;
/// Sources of one VIP or real.
pub const MAX_SOURCES: usize = 8;

/// Where load is read, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Source {
    /// Its name among the VIP's sources, shown with each reading.
    pub name: String,
    /// What is asked.
    pub reader: Reader,
    /// Time between two questions, [`MIN_INTERVAL`] to [`MAX_INTERVAL`]; for what brokers tell by
    /// themselves, how often they do.
    pub interval: Duration,
    /// How long one question may take, [`MIN_TIMEOUT`] to [`MAX_TIMEOUT`].
    pub timeout: Duration,
    /// How much it counts where several tell the same, more than 0 to [`MAX_SOURCE_WEIGHT`].
    pub weight: f64,
    /// The port; none: the reader's own.
    pub port: Option<u16>,
    /// The address; none: the real's.
    pub address: Option<IpAddr>,
    /// TLS; none: plain.
    pub tls: Option<Tls>,
    /// Who asks: over MQTT a user, over HTTP a user or a token.
    pub login: Option<Authorization>,
    /// Connections the real has room for, where the reader cannot know.
    pub connection_limit: Option<u64>,
    /// Bytes of memory the real has, where the reader cannot know.
    pub memory_limit: Option<u64>,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Reader {
    /// Mosquitto's `$SYS` topics.
    Mosquitto,
    /// The HTTP API of Mosquitto 2.1.
    MosquittoHttp,
    /// A topic on which a number or JSON is published.
    MqttTopic {
        /// The topic, without wildcards.
        topic: String,
        /// What is where in the payload.
        values: BTreeMap<Quantity, Pointer>,
    },
    /// EMQX's HTTP API.
    Emqx {
        /// Name of the node; none: the one of this address.
        node: Option<String>,
    },
    /// VerneMQ's metrics.
    VerneMq,
    /// NanoMQ's metrics.
    NanoMq,
    /// The metrics of RabbitMQ's Prometheus plugin.
    RabbitMq,
    /// The metrics of HiveMQ's Prometheus extension.
    HiveMq,
    /// FlashMQ's `$SYS` topics.
    FlashMq,
    /// Metrics in Prometheus' text format.
    Prometheus {
        /// The path.
        path: String,
        /// What is computed how.
        values: BTreeMap<Quantity, Expression>,
    },
    /// JSON over HTTP.
    HttpJson {
        /// The path.
        path: String,
        /// What is where in it.
        values: BTreeMap<Quantity, Pointer>,
    },
    /// The service `lb.v1.LoadReport`.
    Grpc,
    /// HAProxy's agent-check protocol.
    AgentCheck {
        /// What is sent after connecting, as `agent-send` of HAProxy; a line end is not added.
        send: String,
    },
    /// Statistics of a container.
    Docker {
        /// Its name or id.
        container: String,
        /// Docker's socket.
        socket: PathBuf,
    },
    /// Prometheus' node_exporter.
    NodeExporter,
}

impl Source {
    /// Where it is asked for this real.
    #[must_use]
    pub fn target(&self, real: IpAddr) -> SocketAddr {
        SocketAddr::new(
            self.address.unwrap_or(real),
            self.port
                .unwrap_or_else(|| self.reader.kind().port(self.tls.is_some())),
        )
    }

    /// A text of this source for one real: `{address}` and `{real}` are filled in.
    #[must_use]
    pub fn fill(&self, text: &str, real: IpAddr) -> String {
        fields::fill(text, self.address, real)
    }

    /// Whether it can be asked.
    ///
    /// # Errors
    /// The field, its value and what would be right.
    pub fn validate(&self) -> Result<(), (String, String, String)> {
        Source::try_from(Written::from(self.clone()))
            .map(drop)
            .map_err(|fault| (fault.field, fault.value, fault.advice))
    }
}
