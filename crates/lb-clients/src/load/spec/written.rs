//! The flat form of a source: as it stands in the configuration file, in the store and on the wire. What a kind
//! does not use is refused and not passed over.

use std::{collections::BTreeMap, fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use super::{
    DEFAULT_INTERVAL, DEFAULT_SYS_INTERVAL, DEFAULT_TIMEOUT, DEFAULT_WEIGHT, MAX_INTERVAL,
    MAX_SOURCE_WEIGHT, MAX_TIMEOUT, MIN_INTERVAL, MIN_TIMEOUT, Reader, Source,
    kind::{Kind, Way},
};
use crate::load::reading::Quantity;
use crate::peer::{
    Tls,
    fields::{self, Fault, MAX_TEXT, NOT_SET, text, time},
    http::Authorization,
};
use lb_model::{
    duration,
    settings::{SettingType as _, Settings},
};

/// Docker's socket, if none is named.
const DOCKER_SOCKET: &str = "/var/run/docker.sock";

/// A source with every setting of every kind; none is the kind's default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a table, as { kind = \"mosquitto\" }"
)]
#[expect(missing_docs, reason = "as in `Source` and `Reader`")]
pub struct Written {
    pub kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_limit: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_limit: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<String>,
    // Tables come last, as TOML wants them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub values: BTreeMap<String, String>,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "tls_table"
    )]
    pub tls: Option<Tls>,
}

/// Names the settings inside of `tls` by their path.
fn tls_table<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Tls>, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    Option::from_json(&value).map_err(|error| D::Error::custom(error.within("tls")))
}

impl TryFrom<Written> for Source {
    type Error = Fault;

    fn try_from(mut written: Written) -> Result<Self, Fault> {
        let kind: Kind = written
            .kind
            .parse()
            .map_err(|advice: String| Fault::new("kind", &written.kind, advice))?;
        let way = kind.way();
        let name = match written.name.take() {
            Some(name) => text("name", name)?,
            None => kind.name().to_owned(),
        };
        let default = match kind {
            Kind::Mosquitto | Kind::FlashMq => DEFAULT_SYS_INTERVAL,
            _ => DEFAULT_INTERVAL,
        };
        let interval = time(
            "interval",
            written.interval.take(),
            default,
            MIN_INTERVAL,
            MAX_INTERVAL,
        )?;
        let timeout = time(
            "timeout",
            written.timeout.take(),
            DEFAULT_TIMEOUT.min(interval),
            MIN_TIMEOUT,
            MAX_TIMEOUT,
        )?;
        if timeout > interval {
            return Err(Fault::new(
                "timeout",
                duration::format(timeout),
                format!(
                    "longer than the interval, give at most {}",
                    duration::format(interval)
                ),
            ));
        }
        let weight = written.weight.take().unwrap_or(DEFAULT_WEIGHT);
        if !(weight > 0.0 && weight <= MAX_SOURCE_WEIGHT) {
            return Err(Fault::new(
                "weight",
                weight,
                format!("give more than 0 and at most {MAX_SOURCE_WEIGHT}"),
            ));
        }
        let tls = written.tls.take();
        if let Some(tls) = &tls {
            Settings::validate(tls).map_err(|error| error.within("tls"))?;
            crate::peer::tls::validate(Some(tls))?;
            if !matches!(way, Way::Mqtt | Way::Http | Way::Grpc) {
                return Err(Fault::new("tls", "set", format!("`{kind}` has no TLS")));
            }
        }
        let source = Source {
            name,
            interval,
            timeout,
            weight,
            port: port(kind, &mut written, tls.is_some())?,
            address: address(kind, &mut written)?,
            login: login(way, &mut written)?,
            connection_limit: positive("connection_limit", written.connection_limit.take())?,
            memory_limit: positive("memory_limit", written.memory_limit.take())?,
            reader: reader(kind, &mut written)?,
            tls,
        };
        match written.left() {
            Some((field, value)) => Err(Fault::new(
                field,
                value,
                format!("`{kind}` does not use it; leave it out"),
            )),
            None => Ok(source),
        }
    }
}

impl Written {
    /// A setting that nobody took.
    fn left(&self) -> Option<(&'static str, String)> {
        [
            ("username", &self.username),
            ("password", &self.password),
            ("token", &self.token),
            ("topic", &self.topic),
            ("path", &self.path),
            ("node", &self.node),
            ("send", &self.send),
            ("container", &self.container),
            ("socket", &self.socket),
        ]
        .into_iter()
        .find_map(|(field, value)| Some((field, value.clone()?)))
        .or_else(|| {
            let (quantity, _) = self.values.first_key_value()?;
            Some(("values", quantity.clone()))
        })
    }
}

fn wanted(field: &'static str, value: Option<String>, kind: Kind) -> Result<String, Fault> {
    match value {
        Some(value) => text(field, value),
        None => Err(Fault::new(field, NOT_SET, format!("`{kind}` needs it"))),
    }
}

fn positive(field: &str, value: Option<u64>) -> Result<Option<u64>, Fault> {
    match value {
        Some(0) => Err(Fault::new(
            field,
            0,
            "give more than 0, or leave it out if there is no limit",
        )),
        other => Ok(other),
    }
}

fn port(kind: Kind, written: &mut Written, tls: bool) -> Result<Option<u16>, Fault> {
    match written.port.take() {
        Some(port) if kind.way() == Way::Local => Err(Fault::new(
            "port",
            port,
            format!("`{kind}` does not use it; leave it out"),
        )),
        Some(port) => fields::port(port).map(Some),
        None if kind.way() != Way::Local && kind.port(tls) == 0 => Err(Fault::new(
            "port",
            NOT_SET,
            format!("`{kind}` has no port of its own; give one"),
        )),
        None => Ok(None),
    }
}

fn address(kind: Kind, written: &mut Written) -> Result<Option<IpAddr>, Fault> {
    let Some(text) = written.address.take() else {
        return Ok(None);
    };
    if kind.way() == Way::Local {
        return Err(Fault::new(
            "address",
            text,
            format!("`{kind}` does not use it; leave it out"),
        ));
    }
    fields::address(&text).map(Some)
}

fn login(way: Way, written: &mut Written) -> Result<Option<Authorization>, Fault> {
    if !matches!(way, Way::Mqtt | Way::Http) {
        return Ok(None);
    }
    fields::login(
        written.username.take(),
        written.password.take(),
        written.token.take_if(|_| way == Way::Http),
    )
}

fn reader(kind: Kind, written: &mut Written) -> Result<Reader, Fault> {
    Ok(match kind {
        Kind::Mosquitto => Reader::Mosquitto,
        Kind::MosquittoHttp => Reader::MosquittoHttp,
        Kind::VerneMq => Reader::VerneMq,
        Kind::NanoMq => Reader::NanoMq,
        Kind::RabbitMq => Reader::RabbitMq,
        Kind::HiveMq => Reader::HiveMq,
        Kind::FlashMq => Reader::FlashMq,
        Kind::Grpc => Reader::Grpc,
        Kind::NodeExporter => Reader::NodeExporter,
        Kind::Emqx => Reader::Emqx {
            node: match written.node.take() {
                Some(node) => Some(text("node", node)?),
                None => None,
            },
        },
        Kind::MqttTopic => {
            let topic = wanted("topic", written.topic.take(), kind)?;
            if topic.contains(['+', '#']) {
                return Err(Fault::new(
                    "topic",
                    topic,
                    "give one topic, without the wildcards + and #",
                ));
            }
            Reader::MqttTopic {
                topic,
                values: values(kind, written)?,
            }
        }
        Kind::Prometheus => Reader::Prometheus {
            path: path(kind, written)?,
            values: values(kind, written)?,
        },
        Kind::HttpJson => Reader::HttpJson {
            path: path(kind, written)?,
            values: values(kind, written)?,
        },
        Kind::AgentCheck => Reader::AgentCheck {
            send: written
                .send
                .take()
                .filter(|send| send.len() <= MAX_TEXT)
                .unwrap_or_default(),
        },
        Kind::Docker => Reader::Docker {
            container: wanted("container", written.container.take(), kind)?,
            socket: match written.socket.take() {
                None => DOCKER_SOCKET.into(),
                Some(socket) if socket.starts_with('/') => text("socket", socket)?.into(),
                Some(socket) => {
                    return Err(Fault::new("socket", socket, "give an absolute path"));
                }
            },
        },
    })
}

fn path(kind: Kind, written: &mut Written) -> Result<String, Fault> {
    let path = written.path.take().or(kind.path().map(str::to_owned));
    fields::path(wanted("path", path, kind)?)
}

fn values<T: FromStr<Err: fmt::Display>>(
    kind: Kind,
    written: &mut Written,
) -> Result<BTreeMap<Quantity, T>, Fault> {
    if written.values.is_empty() {
        return Err(Fault::new(
            "values",
            NOT_SET,
            format!("`{kind}` needs to know what is where, as in utilisation = ..."),
        ));
    }
    std::mem::take(&mut written.values)
        .into_iter()
        .map(|(name, text)| {
            let quantity = name
                .parse()
                .map_err(|advice: String| Fault::new("values", &name, advice))?;
            let value = text
                .parse::<T>()
                .map_err(|error| Fault::new(format!("values.{name}"), &text, error.to_string()))?;
            Ok((quantity, value))
        })
        .collect()
}

impl From<Source> for Written {
    fn from(source: Source) -> Self {
        fn texts<T: fmt::Display>(values: &BTreeMap<Quantity, T>) -> BTreeMap<String, String> {
            values
                .iter()
                .map(|(quantity, value)| (quantity.to_string(), value.to_string()))
                .collect()
        }
        let (username, password, token) = fields::written_login(source.login);
        let mut written = Written {
            username,
            password,
            token,
            kind: source.reader.kind().to_string(),
            name: Some(source.name),
            interval: Some(duration::format(source.interval)),
            timeout: Some(duration::format(source.timeout)),
            weight: Some(source.weight),
            port: source.port.map(u32::from),
            address: source.address.map(|address| address.to_string()),
            connection_limit: source.connection_limit,
            memory_limit: source.memory_limit,
            tls: source.tls,
            ..Written::default()
        };
        match source.reader {
            Reader::MqttTopic { topic, values } => {
                written.topic = Some(topic);
                written.values = texts(&values);
            }
            Reader::Prometheus { path, values } => {
                written.path = Some(path);
                written.values = texts(&values);
            }
            Reader::HttpJson { path, values } => {
                written.path = Some(path);
                written.values = texts(&values);
            }
            Reader::Emqx { node } => written.node = node,
            Reader::AgentCheck { send } => written.send = (!send.is_empty()).then_some(send),
            Reader::Docker { container, socket } => {
                written.container = Some(container);
                written.socket = Some(socket.to_string_lossy().into_owned());
            }
            Reader::Mosquitto
            | Reader::MosquittoHttp
            | Reader::VerneMq
            | Reader::NanoMq
            | Reader::RabbitMq
            | Reader::HiveMq
            | Reader::FlashMq
            | Reader::Grpc
            | Reader::NodeExporter => {}
        }
        written
    }
}

#[cfg(test)]
mod tests;
