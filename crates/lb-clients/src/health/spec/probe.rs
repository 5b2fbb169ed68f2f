//! What is asked of a real, and what is a good answer.

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use super::{Fault, Octets, Statuses, range};
use crate::peer::{Secret, Tls, mqtt::Version};

/// The longest text of any setting, in bytes: paths, names, what a body must hold.
pub const MAX_TEXT: usize = 1_024;
/// The longest payload of a UDP probe, in bytes, so that it fits one packet on any network.
pub const MAX_PAYLOAD: usize = 1_200;
/// Words of a program's command at most.
const MAX_WORDS: usize = 64;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Probe {
    /// The handshake of TCP. A frozen process still completes it: ask for more where you can.
    Tcp {},
    /// An HTTP/1.1 request.
    Http(Http),
    /// An MQTT CONNECT.
    Mqtt(Mqtt),
    /// `grpc.health.v1.Health/Check`.
    Grpc(Grpc),
    /// A datagram.
    Udp(Udp),
    /// A program on the balancer.
    Exec(Exec),
}

/// An HTTP/1.1 request. Redirects are not followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    /// Default: GET.
    pub method: String,
    /// Path and query. Default: `/`.
    pub path: String,
    /// The `Host` field. Default: address and port that are asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Good statuses. Default: 200-299.
    pub statuses: Statuses,
    /// What the first 64 KiB of the body must hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// What a JSON body must say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub json: Option<Json>,
    /// TLS; none: plain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

impl Default for Http {
    fn default() -> Self {
        Http {
            method: "GET".to_owned(),
            path: "/".to_owned(),
            host: None,
            statuses: Statuses::default(),
            body: None,
            json: None,
            tls: None,
        }
    }
}

/// A place in a JSON document, and what must stand there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Json {
    /// RFC 6901: `/status`, `/checks/0/ok`.
    pub pointer: String,
    /// A text, number, boolean or anything else of JSON.
    pub equals: serde_json::Value,
}

/// An MQTT CONNECT. What is alive is written at [`crate::health::probe::mqtt`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mqtt {
    /// Default: 3.1.1.
    pub version: Version,
    /// TLS; none: plain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Default: none, anonymous.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Goes with `username`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// Default: any.
    pub expect: Expect,
}

/// Which answers of an MQTT broker make it alive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Expect {
    /// That it answers: one that wants a login is alive, too.
    #[default]
    Any,
    /// That it accepts.
    Accepted,
}

/// `grpc.health.v1.Health/Check`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Grpc {
    /// The service that is asked for. Default: empty, the server as a whole.
    pub service: String,
    /// TLS; none: plain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

/// A datagram.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Udp {
    /// What is sent.
    pub payload: Octets,
    /// What the answer must hold. Default: nothing, any answer is good.
    #[serde(default)]
    pub expect: Octets,
    /// For servers that never answer: no answer is good, only "port unreachable" is bad. Default: false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub silence_is_alive: bool,
}

/// A program on the balancer, run as the agent's user: exit status 0 is good. It finds the VIP, the real's
/// address and the port in `LB_VIP`, `LB_REAL` and `LB_PORT`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exec {
    /// An absolute path, and arguments. No shell reads them.
    #[serde(deserialize_with = "words")]
    pub command: Vec<String>,
}

fn words<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Vec::deserialize(deserializer).map_err(|error| {
        D::Error::custom(format!(
            "command: {error}; write the program and each argument as a text of its own, as \
             [\"/usr/lib/checks/queue\", \"--most\", \"100\"]"
        ))
    })
}

impl Probe {
    /// As an operator writes it.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Probe::Tcp {} => "tcp",
            Probe::Http(Http { tls: None, .. }) => "http",
            Probe::Http(_) => "https",
            Probe::Mqtt(_) => "mqtt",
            Probe::Grpc(_) => "grpc",
            Probe::Udp(_) => "udp",
            Probe::Exec(_) => "exec",
        }
    }

    /// Whether every value is in its range.
    ///
    /// # Errors
    /// The field, its value and what would be right.
    pub fn validate(&self) -> Result<(), Fault> {
        match self {
            Probe::Tcp {} => Ok(()),
            Probe::Http(http) => http.validate(),
            Probe::Mqtt(mqtt) => mqtt.validate(),
            Probe::Grpc(grpc) => {
                range::length("service", grpc.service.len(), MAX_TEXT)?;
                tls(grpc.tls.as_ref())
            }
            Probe::Udp(udp) => {
                range::length("payload", udp.payload.0.len(), MAX_PAYLOAD)?;
                range::length("expect", udp.expect.0.len(), MAX_PAYLOAD)
            }
            Probe::Exec(exec) => exec.validate(),
        }
    }
}

impl Http {
    fn validate(&self) -> Result<(), Fault> {
        if self.method.is_empty() || http::Method::from_bytes(self.method.as_bytes()).is_err() {
            return Err(range::fault(
                "method",
                &self.method,
                "no method, give one word, as GET or HEAD",
            ));
        }
        if self.method == "HEAD" && (self.body.is_some() || self.json.is_some()) {
            return Err(range::fault(
                "method",
                &self.method,
                "its answer has no body to look at, give GET",
            ));
        }
        range::length("path", self.path.len(), MAX_TEXT)?;
        if !self.path.starts_with('/') || self.path.parse::<http::uri::PathAndQuery>().is_err() {
            return Err(range::fault(
                "path",
                &self.path,
                "no path, begin with / and escape what is no URL character",
            ));
        }
        if let Some(host) = &self.host
            && (host.is_empty() || host.parse::<http::uri::Authority>().is_err())
        {
            return Err(range::fault(
                "host",
                host,
                "no host, give NAME or NAME:PORT",
            ));
        }
        if let Some(body) = &self.body {
            range::length("body", body.len(), MAX_TEXT)?;
        }
        if let Some(json) = &self.json {
            range::length("json.pointer", json.pointer.len(), MAX_TEXT)?;
            range::length("json.equals", json.equals.to_string().len(), MAX_TEXT)?;
            if !json.pointer.is_empty() && !json.pointer.starts_with('/') {
                return Err(range::fault(
                    "json.pointer",
                    &json.pointer,
                    "no JSON pointer, begin with / as in /status",
                ));
            }
        }
        tls(self.tls.as_ref())
    }
}

impl Mqtt {
    fn validate(&self) -> Result<(), Fault> {
        if let Some(username) = &self.username {
            range::length("username", username.len(), MAX_TEXT)?;
        } else if self.password.is_some() {
            return Err(range::fault(
                "username",
                "not set",
                "give who has the password",
            ));
        }
        tls(self.tls.as_ref())
    }
}

impl Exec {
    fn validate(&self) -> Result<(), Fault> {
        let program = self.command.first().map_or("", String::as_str);
        if !program.starts_with('/') {
            return Err(range::fault(
                "command",
                program,
                "give a program's absolute path and its arguments",
            ));
        }
        if self.command.len() > MAX_WORDS {
            return Err(range::fault(
                "command",
                format!("{} words", self.command.len()),
                format!("too long, give {MAX_WORDS} words at most"),
            ));
        }
        for word in &self.command {
            range::length("command", word.len(), MAX_TEXT)?;
            if word.contains('\0') {
                return Err(range::fault("command", word.escape_debug(), "holds a NUL"));
            }
        }
        Ok(())
    }
}

fn tls(tls: Option<&Tls>) -> Result<(), Fault> {
    tls.map_or(Ok(()), |tls| {
        tls.validate()
            .map_err(|(field, value, advice)| (format!("tls.{field}"), value, advice))
    })
}
