//! The connection to the agent or the controller, through a Unix socket or TCP.

use std::{
    fmt, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use lb_proto::{
    controller::v1::controller_client::ControllerClient, v1::balancer_client::BalancerClient,
};
use tokio::net::UnixStream;
use tonic::transport::{Channel, Uri};

use crate::failure::Failure;

/// The longest answer. A list of as many VIPs and reals as the tables have room for takes some megabytes.
const MAX_ANSWER: usize = 64 << 20;
/// The longest time for connecting to a host. A Unix socket connects at once or never.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The client of the agent's API.
pub type Client = BalancerClient<Channel>;
/// The client of the controller's API.
pub type Controller = ControllerClient<Channel>;

/// A program with an API.
#[derive(Clone, Copy, Debug)]
struct Server {
    /// What it is called.
    name: &'static str,
    /// How to start it, or to find it.
    start: &'static str,
}

const AGENT: Server = Server {
    name: "agent",
    start: "start the agent with `lb-agent run --iface IFACE`, or give its endpoint with --endpoint or LB_ENDPOINT",
};
const CONTROLLER: Server = Server {
    name: "controller",
    start: "start the controller with `lb-controller run`, or give its endpoint with --controller or LB_CONTROLLER",
};

/// Where the agent listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A Unix socket.
    Unix(PathBuf),
    /// HTTP/2 without TLS.
    Http(Uri),
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const FORM: &str = "write unix:PATH or http://HOST:PORT";
        if let Some(path) = text.strip_prefix("unix:") {
            // `unix:///run/x` has an empty host and the path `/run/x`.
            let path = path.strip_prefix("//").unwrap_or(path);
            if path.is_empty() {
                return Err(format!("there is no path of a socket; {FORM}"));
            }
            return Ok(Endpoint::Unix(PathBuf::from(path)));
        }
        if text.starts_with("http://") {
            let uri: Uri = text.parse().map_err(|error| format!("{error}; {FORM}"))?;
            if uri.port().is_none() {
                return Err(format!("there is no port; {FORM}"));
            }
            return Ok(Endpoint::Http(uri));
        }
        Err(FORM.to_owned())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Unix(path) => write!(f, "unix:{}", path.display()),
            Endpoint::Http(uri) => write!(f, "{uri}"),
        }
    }
}

/// Connects to the agent.
///
/// # Errors
/// Returns [`Failure::Unreachable`] with the endpoint and with advice.
pub async fn connect(endpoint: &Endpoint) -> Result<Client, Failure> {
    let channel = channel(endpoint, AGENT).await?;
    Ok(BalancerClient::new(channel).max_decoding_message_size(MAX_ANSWER))
}

/// Connects to the controller.
///
/// # Errors
/// Returns [`Failure::Unreachable`] with the endpoint and with advice.
pub async fn connect_controller(endpoint: &Endpoint) -> Result<Controller, Failure> {
    let channel = channel(endpoint, CONTROLLER).await?;
    Ok(ControllerClient::new(channel).max_decoding_message_size(MAX_ANSWER))
}

async fn channel(endpoint: &Endpoint, server: Server) -> Result<Channel, Failure> {
    match endpoint {
        Endpoint::Unix(path) => unix(endpoint, path, server).await,
        Endpoint::Http(uri) => Channel::builder(uri.clone())
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .connect()
            .await
            .map_err(|error| Failure::Unreachable {
                server: server.name,
                endpoint: endpoint.to_string(),
                reason: innermost(&error),
                advice: server.start.to_owned(),
            }),
    }
}

async fn unix(endpoint: &Endpoint, path: &Path, server: Server) -> Result<Channel, Failure> {
    let unreachable = |reason: String, advice: String| Failure::Unreachable {
        server: server.name,
        endpoint: endpoint.to_string(),
        reason,
        advice,
    };
    // The connection is made here because the transport would not report why it fails.
    let stream = UnixStream::connect(path)
        .await
        .map_err(|error| unreachable(error.to_string(), advice(path, &error, server)))?;
    let first = Arc::new(Mutex::new(Some(stream)));
    let again = path.to_owned();
    let connector = tower::service_fn(move |_: Uri| {
        let first = first.lock().unwrap_or_else(PoisonError::into_inner).take();
        let again = again.clone();
        async move {
            let stream = match first {
                Some(stream) => stream,
                None => UnixStream::connect(again).await?,
            };
            Ok::<_, io::Error>(TokioIo::new(stream))
        }
    });
    // The transport requires the name of a host and does not use it.
    Channel::from_static("http://lb-agent")
        .connect_with_connector(connector)
        .await
        .map_err(|error| {
            unreachable(
                innermost(&error),
                format!(
                    "the program that listens there does not speak gRPC; check that it is the {}'s socket",
                    server.name
                ),
            )
        })
}

/// Returns advice for an operator.
fn advice(path: &Path, error: &io::Error, server: Server) -> String {
    let Server { name, start } = server;
    match error.kind() {
        io::ErrorKind::NotFound => format!("there is no such socket: {start}"),
        io::ErrorKind::ConnectionRefused => {
            format!("the socket exists, but no {name} listens on it (it may have crashed): {start}")
        }
        io::ErrorKind::PermissionDenied => match group_of(path) {
            Some(group) => {
                format!("run it as root, or as a member of the socket's group `{group}`")
            }
            None => "run it as root, or as a member of the socket's group".to_owned(),
        },
        _ => start.to_owned(),
    }
}

/// Returns the name of the group that owns a file, or its number if it has no name.
fn group_of(path: &Path) -> Option<String> {
    let id = std::fs::metadata(path).ok()?.gid().to_string();
    let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
    let name = groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1) == Some(id.as_str())).then(|| name.to_owned())
    });
    Some(name.unwrap_or(id))
}

/// Returns the innermost cause: the message of the transport itself is only "transport error".
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_and_written() {
        for (text, written) in [
            ("unix:/run/lb-agent/api.sock", "unix:/run/lb-agent/api.sock"),
            (
                "unix:///run/lb-agent/api.sock",
                "unix:/run/lb-agent/api.sock",
            ),
            ("unix:api.sock", "unix:api.sock"),
            ("http://127.0.0.1:7000", "http://127.0.0.1:7000/"),
            ("http://[::1]:7000", "http://[::1]:7000/"),
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), written);
        }
    }

    #[test]
    fn what_is_no_endpoint_is_refused() {
        for text in [
            "",
            "unix:",
            "unix://",
            "/run/x",
            "https://host:1",
            "http://host",
            "http://",
            "http://a b:1",
        ] {
            assert!(
                text.parse::<Endpoint>()
                    .unwrap_err()
                    .contains("write unix:PATH"),
                "{text}"
            );
        }
    }
}
