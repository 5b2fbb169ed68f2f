//! The connection to the agent or the controller, through a Unix socket or TCP.

use std::{
    io,
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hyper_util::rt::TokioIo;
pub use lb_proto::endpoint::Endpoint;
use lb_proto::{
    controller::v1::controller_client::ControllerClient, endpoint::innermost,
    v1::balancer_client::BalancerClient,
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
async fn connect_controller(endpoint: &Endpoint) -> Result<Controller, Failure> {
    let channel = channel(endpoint, CONTROLLER).await?;
    Ok(ControllerClient::new(channel).max_decoding_message_size(MAX_ANSWER))
}

/// Where the controller is, for verbs that ask it.
#[derive(Debug, clap::Args)]
pub struct AtController {
    /// Where the controller listens: unix:PATH or http://HOST:PORT
    #[arg(
        long,
        env = "LB_CONTROLLER",
        value_name = "URI",
        global = true,
        default_value = "unix:/run/lb-controller/api.sock"
    )]
    controller: Endpoint,
}

impl AtController {
    /// Connects to it.
    ///
    /// # Errors
    /// See [`Failure::Unreachable`].
    pub async fn connect(&self) -> Result<Controller, Failure> {
        connect_controller(&self.controller).await
    }
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
