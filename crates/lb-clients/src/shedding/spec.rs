//! What an operator can say.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::peer::{
    Tls,
    fields::{self, Fault, NOT_SET},
    http::Authorization,
};
use lb_model::duration;

/// How long one request may take, if nothing is said.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(2);
/// The shortest time-out.
pub const MIN_TIMEOUT: Duration = Duration::from_millis(10);
/// The longest time-out.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(60);
/// EMQX's HTTP API, and the same over TLS.
const EMQX_PORTS: (u16, u16) = (18_083, 18_084);

/// Who ends connections.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub enum ShedBy {
    /// The data plane resets flows.
    #[default]
    Reset,
    /// Somebody is told over HTTP how many to end.
    Webhook {
        /// Who is asked.
        asked: Asked,
        /// The path.
        path: String,
    },
    /// EMQX evacuates a real that is drained by hand; of others flows are reset.
    Emqx {
        /// Who is asked.
        asked: Asked,
        /// The node's name; may hold `{address}` and `{real}`.
        node: String,
    },
}

/// Who is asked over HTTP, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// The port.
    pub port: u16,
    /// The address; none: the real's.
    pub address: Option<IpAddr>,
    /// TLS; none: plain.
    pub tls: Option<Tls>,
    /// Who asks.
    pub login: Option<Authorization>,
    /// How long one request may take, [`MIN_TIMEOUT`] to [`MAX_TIMEOUT`].
    pub timeout: Duration,
}

impl Asked {
    /// Where it is asked for this real.
    #[must_use]
    pub fn target(&self, real: IpAddr) -> SocketAddr {
        SocketAddr::new(self.address.unwrap_or(real), self.port)
    }

    /// A text for one real: `{address}` and `{real}` are filled in.
    #[must_use]
    pub fn fill(&self, text: &str, real: IpAddr) -> String {
        fields::fill(text, self.address, real)
    }
}

/// The flat form: as it is stored and on the wire. What is not used is refused and not passed over.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table, as { by = \"reset\" }")]
#[expect(missing_docs, reason = "as in `ShedBy` and `Asked`")]
pub struct Written {
    pub by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

const RESET: &str = "reset";
const WEBHOOK: &str = "webhook";
const EMQX: &str = "emqx";

impl TryFrom<Written> for ShedBy {
    type Error = Fault;

    fn try_from(mut written: Written) -> Result<Self, Fault> {
        let by = written.by.clone();
        let read = match by.as_str() {
            RESET => ShedBy::Reset,
            WEBHOOK => ShedBy::Webhook {
                path: match written.path.take() {
                    Some(path) => fields::path(path)?,
                    None => "/".to_owned(),
                },
                asked: asked(&mut written, None)?,
            },
            EMQX => ShedBy::Emqx {
                node: match written.node.take() {
                    Some(node) => node_name(node)?,
                    // As EMQX names its nodes unless told otherwise.
                    None => "emqx@{address}".to_owned(),
                },
                asked: asked(&mut written, Some(EMQX_PORTS))?,
            },
            _ => {
                return Err(Fault::new(
                    "by",
                    format!("{by:?}"),
                    "unknown, give reset, webhook or emqx",
                ));
            }
        };
        match written.left() {
            Some((field, value)) => Err(Fault::new(
                field,
                value,
                format!("`{by}` does not use it; leave it out"),
            )),
            None => Ok(read),
        }
    }
}

impl Written {
    /// A setting that nobody took.
    fn left(&self) -> Option<(&'static str, String)> {
        let text = |text: &Option<String>| text.clone();
        [
            ("port", self.port.map(|port| port.to_string())),
            ("address", text(&self.address)),
            ("path", text(&self.path)),
            ("node", text(&self.node)),
            ("username", text(&self.username)),
            // What is no place of a secret may be the secret itself.
            ("password", self.password.as_ref().map(|_| "set".to_owned())),
            ("token", self.token.as_ref().map(|_| "set".to_owned())),
            ("timeout", text(&self.timeout)),
            ("tls", self.tls.as_ref().map(|_| "set".to_owned())),
        ]
        .into_iter()
        .find_map(|(field, value)| Some((field, value?)))
    }
}

/// A node's name stands in a path.
fn node_name(node: String) -> Result<String, Fault> {
    if node.contains(['/', '?', '#', ' ']) || !node.is_ascii() {
        return Err(Fault::new(
            "node",
            node,
            "not the name of a node, write it as `emqx ctl cluster status` does, as in emqx@10.0.0.1",
        ));
    }
    fields::text("node", node)
}

/// `ports`: without and with TLS; none: there is no port of its own.
fn asked(written: &mut Written, ports: Option<(u16, u16)>) -> Result<Asked, Fault> {
    let tls = written.tls.take();
    if let Some(tls) = &tls {
        tls.validate()
            .map_err(|(field, value, advice)| Fault::new(format!("tls.{field}"), value, advice))?;
    }
    let port = match (written.port.take(), ports) {
        (Some(port), _) => fields::port(port)?,
        (None, Some((plain, secure))) => {
            if tls.is_some() {
                secure
            } else {
                plain
            }
        }
        (None, None) => {
            let advice = format!("`{}` has no port of its own; give one", written.by);
            return Err(Fault::new("port", NOT_SET, advice));
        }
    };
    Ok(Asked {
        port,
        address: written
            .address
            .take()
            .map(|text| fields::address(&text))
            .transpose()?,
        login: fields::login(
            written.username.take(),
            written.password.take(),
            written.token.take(),
        )?,
        timeout: fields::time(
            "timeout",
            written.timeout.take(),
            DEFAULT_TIMEOUT,
            MIN_TIMEOUT,
            MAX_TIMEOUT,
        )?,
        tls,
    })
}

impl From<ShedBy> for Written {
    fn from(by: ShedBy) -> Self {
        match by {
            ShedBy::Reset => Written {
                by: RESET.to_owned(),
                ..Written::default()
            },
            ShedBy::Webhook { asked, path } => Written {
                by: WEBHOOK.to_owned(),
                path: Some(path),
                ..written(asked)
            },
            ShedBy::Emqx { asked, node } => Written {
                by: EMQX.to_owned(),
                node: Some(node),
                ..written(asked)
            },
        }
    }
}

fn written(asked: Asked) -> Written {
    let (username, password, token) = fields::written_login(asked.login);
    Written {
        port: Some(asked.port.into()),
        address: asked.address.map(|address| address.to_string()),
        timeout: Some(duration::format(asked.timeout)),
        tls: asked.tls,
        username,
        password,
        token,
        ..Written::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<ShedBy, Fault> {
        ShedBy::try_from(toml::from_str::<Written>(text).unwrap())
    }

    #[test]
    fn what_is_written_is_read() {
        for text in [
            "by = 'reset'",
            "by = 'webhook'\nport = 8080",
            "by = 'webhook'\nport = 8080\npath = '/shed'\naddress = '10.0.0.9'\ntoken = 'env:T'\ntimeout = '5s'",
            "by = 'emqx'\nusername = 'key'\npassword = 'file:/etc/lb/key'\ntls = { ca = '/ca' }",
            "by = 'emqx'\nnode = 'emqx@{real}'\nport = 1",
        ] {
            let by = read(text).unwrap();
            assert_eq!(
                ShedBy::try_from(Written::from(by.clone())),
                Ok(by),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let real = "10.1.0.2".parse().unwrap();
        let ShedBy::Emqx { asked, node } = read("by = 'emqx'").unwrap() else {
            panic!("another way");
        };
        assert_eq!(asked.target(real).to_string(), "10.1.0.2:18083");
        assert_eq!(asked.fill(&node, real), "emqx@10.1.0.2");
        assert_eq!(asked.timeout, DEFAULT_TIMEOUT);
        let ShedBy::Emqx { asked, .. } = read("by = 'emqx'\ntls = {}").unwrap() else {
            panic!("another way");
        };
        assert_eq!(asked.port, 18_084);
    }

    #[test]
    fn what_cannot_be_is_named() {
        for (text, field) in [
            ("by = 'hammer'", "by"),
            ("by = 'reset'\nport = 1", "port"),
            ("by = 'webhook'", "port"),
            ("by = 'webhook'\nport = 70000", "port"),
            ("by = 'webhook'\nport = 1\nnode = 'x'", "node"),
            ("by = 'webhook'\nport = 1\npath = 'x'", "path"),
            ("by = 'webhook'\nport = 1\naddress = 'x'", "address"),
            ("by = 'webhook'\nport = 1\ntimeout = '1h'", "timeout"),
            ("by = 'webhook'\nport = 1\nusername = 'x'", "password"),
            ("by = 'webhook'\nport = 1\ntoken = 'hunter2'", "token"),
            ("by = 'reset'\ntoken = 'hunter2'", "token"),
            ("by = 'emqx'\npath = '/x'", "path"),
            ("by = 'emqx'\nnode = 'a/b'", "node"),
            ("by = 'emqx'\ntls = { ca = 'x' }", "tls.ca"),
        ] {
            let fault = read(text).unwrap_err();
            assert_eq!(fault.field, field, "{text}: {fault}");
            assert!(!fault.to_string().contains("hunter2"), "{fault}");
        }
    }
}
