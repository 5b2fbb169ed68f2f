//! The kinds of readers and what each takes.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::Reader;

/// A kind of reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "as in `Reader`")]
pub enum Kind {
    Mosquitto,
    MosquittoHttp,
    MqttTopic,
    Emqx,
    #[serde(rename = "vernemq")]
    VerneMq,
    #[serde(rename = "nanomq")]
    NanoMq,
    #[serde(rename = "rabbitmq")]
    RabbitMq,
    #[serde(rename = "hivemq")]
    HiveMq,
    #[serde(rename = "flashmq")]
    FlashMq,
    Prometheus,
    HttpJson,
    Grpc,
    AgentCheck,
    Docker,
    NodeExporter,
}

/// Every kind with its name.
const NAMES: [(Kind, &str); 15] = [
    (Kind::Mosquitto, "mosquitto"),
    (Kind::MosquittoHttp, "mosquitto-http"),
    (Kind::MqttTopic, "mqtt-topic"),
    (Kind::Emqx, "emqx"),
    (Kind::VerneMq, "vernemq"),
    (Kind::NanoMq, "nanomq"),
    (Kind::RabbitMq, "rabbitmq"),
    (Kind::HiveMq, "hivemq"),
    (Kind::FlashMq, "flashmq"),
    (Kind::Prometheus, "prometheus"),
    (Kind::HttpJson, "http-json"),
    (Kind::Grpc, "grpc"),
    (Kind::AgentCheck, "agent-check"),
    (Kind::Docker, "docker"),
    (Kind::NodeExporter, "node-exporter"),
];

/// How a kind of reader asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Mqtt,
    Http,
    Grpc,
    Tcp,
    /// A socket of this machine.
    Local,
}

impl Kind {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        NAMES
            .iter()
            .find(|(kind, _)| *kind == self)
            .map_or("", |(_, name)| name)
    }

    /// The port that is asked if none is given: the peer's own default; 0 where there is none, and one must
    /// be given. `docker` has no port.
    #[must_use]
    pub const fn port(self, tls: bool) -> u16 {
        match self {
            Kind::Mosquitto | Kind::MqttTopic | Kind::FlashMq => {
                if tls {
                    8883
                } else {
                    1883
                }
            }
            Kind::Emqx => 18083,
            Kind::VerneMq => 8888,
            Kind::NanoMq => 8081,
            Kind::RabbitMq => 15692,
            Kind::HiveMq => 9399,
            Kind::NodeExporter => 9100,
            Kind::MosquittoHttp
            | Kind::Grpc
            | Kind::Prometheus
            | Kind::HttpJson
            | Kind::AgentCheck
            | Kind::Docker => 0,
        }
    }

    /// The path that is asked if none is given; none where there is no path, or one must be given.
    #[must_use]
    pub const fn path(self) -> Option<&'static str> {
        match self {
            Kind::Prometheus => Some("/metrics"),
            _ => None,
        }
    }

    pub(super) const fn way(self) -> Way {
        match self {
            Kind::Mosquitto | Kind::MqttTopic | Kind::FlashMq => Way::Mqtt,
            Kind::Grpc => Way::Grpc,
            Kind::AgentCheck => Way::Tcp,
            Kind::Docker => Way::Local,
            _ => Way::Http,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        NAMES
            .iter()
            .find(|(_, name)| *name == text)
            .map(|(kind, _)| *kind)
            .ok_or_else(|| {
                let names: Vec<_> = NAMES.iter().map(|(_, name)| *name).collect();
                format!(
                    "no reader is called so; those there are: {}",
                    names.join(", ")
                )
            })
    }
}

impl Reader {
    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Reader::Mosquitto => Kind::Mosquitto,
            Reader::MosquittoHttp => Kind::MosquittoHttp,
            Reader::MqttTopic { .. } => Kind::MqttTopic,
            Reader::Emqx { .. } => Kind::Emqx,
            Reader::VerneMq => Kind::VerneMq,
            Reader::NanoMq => Kind::NanoMq,
            Reader::RabbitMq => Kind::RabbitMq,
            Reader::HiveMq => Kind::HiveMq,
            Reader::FlashMq => Kind::FlashMq,
            Reader::Prometheus { .. } => Kind::Prometheus,
            Reader::HttpJson { .. } => Kind::HttpJson,
            Reader::Grpc => Kind::Grpc,
            Reader::AgentCheck { .. } => Kind::AgentCheck,
            Reader::Docker { .. } => Kind::Docker,
            Reader::NodeExporter => Kind::NodeExporter,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_written() {
        for (kind, name) in NAMES {
            assert_eq!(kind.name(), name);
            assert_eq!(name.parse(), Ok(kind));
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("{name:?}"));
        }
        assert!("cpu".parse::<Kind>().unwrap_err().contains("mosquitto"));
    }
}
