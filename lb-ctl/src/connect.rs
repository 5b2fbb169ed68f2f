//! The connection to the agent or the controller, through a Unix socket or TCP.

use std::{
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use lb_clients::peer::{Deadline, Tls, TlsClient};
pub use lb_proto::endpoint::Endpoint;
use lb_proto::{
    controller::v1::{
        access_client::AccessClient, controller_client::ControllerClient,
        history_client::HistoryClient,
    },
    endpoint::innermost,
    v1::balancer_client::BalancerClient,
};
use tokio::net::{TcpStream, UnixStream};
use tonic::{
    Request, Status,
    metadata::AsciiMetadataValue,
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Uri},
};

use crate::failure::Failure;

/// The longest answer. A list of as many VIPs and reals as the tables have room for takes some megabytes.
const MAX_ANSWER: usize = 64 << 20;
/// The longest time for connecting to a host. A Unix socket connects at once or never.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The client of the agent's API.
pub type Client = BalancerClient<Channel>;
/// The connection to the controller: with a token, if there is one.
pub type ControllerChannel = InterceptedService<Channel, Login>;
/// The client of the controller's API.
pub type Controller = ControllerClient<ControllerChannel>;
/// The client of its service of users, tokens and the audit log.
pub type Access = AccessClient<ControllerChannel>;
/// The client of its history of load.
pub type History = HistoryClient<ControllerChannel>;

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

/// Where the controller is, for verbs that ask it.
#[derive(Debug, clap::Args)]
pub struct AtController {
    /// Where the controller listens: unix:PATH, http://HOST:PORT or https://HOST:PORT
    #[arg(
        long,
        env = "LB_CONTROLLER",
        value_name = "URI",
        global = true,
        default_value = "unix:/run/lb-controller/api.sock"
    )]
    controller: At,
    /// File with a token of the controller; the variable LB_TOKEN has the token itself
    #[arg(long, env = "LB_TOKEN_FILE", value_name = "FILE", global = true)]
    token_file: Option<PathBuf>,
    /// File of the authorities that are trusted with the controller's certificate (PEM) [default: the system's]
    #[arg(long, env = "LB_CA", value_name = "FILE", global = true)]
    ca: Option<PathBuf>,
    /// File of a certificate by which the controller knows who calls (PEM)
    #[arg(long, env = "LB_CERTIFICATE", value_name = "FILE", global = true)]
    certificate: Option<PathBuf>,
    /// File of its private key (PEM)
    #[arg(long, env = "LB_KEY", value_name = "FILE", global = true)]
    key: Option<PathBuf>,
}

/// Where a controller listens.
#[derive(Clone, Debug, PartialEq, Eq)]
enum At {
    /// On this machine.
    Plain(Endpoint),
    /// By TLS.
    Secure(Uri),
}

impl std::str::FromStr for At {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const FORM: &str = "write unix:PATH, http://HOST:PORT or https://HOST:PORT";
        if !text.starts_with("https://") {
            return text.parse().map(At::Plain).map_err(|_| FORM.to_owned());
        }
        let uri: Uri = text.parse().map_err(|error| format!("{error}; {FORM}"))?;
        match (uri.host(), uri.port()) {
            (Some(_), Some(_)) => Ok(At::Secure(uri)),
            _ => Err(format!("there is no host or no port; {FORM}")),
        }
    }
}

/// Adds a token to calls.
#[derive(Clone, Debug, Default)]
pub struct Login(Option<AsciiMetadataValue>);

impl Login {
    fn new(token: &str) -> Result<Self, Failure> {
        let mut value: AsciiMetadataValue = format!("Bearer {}", token.trim())
            .parse()
            .map_err(|_| Failure::Usage("the token has characters that none has".to_owned()))?;
        value.set_sensitive(true);
        Ok(Login(Some(value)))
    }
}

impl Interceptor for Login {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request
                .metadata_mut()
                .insert("authorization", value.clone());
        }
        Ok(request)
    }
}

impl AtController {
    /// Connects to it.
    ///
    /// # Errors
    /// See [`Failure::Unreachable`].
    pub async fn connect(&self) -> Result<Controller, Failure> {
        let (channel, login) = self.channel().await?;
        let client = ControllerClient::with_interceptor(channel, login);
        Ok(client.max_decoding_message_size(MAX_ANSWER))
    }

    /// Connects to its service of users, tokens and the audit log.
    ///
    /// # Errors
    /// See [`Failure::Unreachable`].
    pub async fn access(&self) -> Result<Access, Failure> {
        let (channel, login) = self.channel().await?;
        let client = AccessClient::with_interceptor(channel, login);
        Ok(client.max_decoding_message_size(MAX_ANSWER))
    }

    /// Connects to its history of load.
    ///
    /// # Errors
    /// See [`Failure::Unreachable`].
    pub async fn history(&self) -> Result<History, Failure> {
        let (channel, login) = self.channel().await?;
        let client = HistoryClient::with_interceptor(channel, login);
        Ok(client.max_decoding_message_size(MAX_ANSWER))
    }

    async fn channel(&self) -> Result<(Channel, Login), Failure> {
        let login = self.login()?;
        let channel = match &self.controller {
            At::Plain(endpoint) => channel(endpoint, CONTROLLER).await?,
            At::Secure(uri) => self.secure(uri).await?,
        };
        Ok((channel, login))
    }

    /// The token, of the file or of the environment.
    fn login(&self) -> Result<Login, Failure> {
        if let Some(path) = &self.token_file {
            let token = std::fs::read_to_string(path).map_err(|error| Failure::File {
                attempt: format!("read the token in {}", path.display()),
                error,
            })?;
            return Login::new(&token);
        }
        match std::env::var("LB_TOKEN") {
            Ok(token) if !token.is_empty() => Login::new(&token),
            _ => Ok(Login::default()),
        }
    }

    async fn secure(&self, uri: &Uri) -> Result<Channel, Failure> {
        let host = uri.host().unwrap_or_default();
        let host = host.trim_matches(['[', ']']).to_owned();
        let port = uri.port_u16().unwrap_or(443);
        let unreachable = |reason: String| {
            Failure::Unreachable {
            server: CONTROLLER.name,
            endpoint: uri.to_string(),
            reason,
            advice: "see access.tls of the controller's configuration, and --ca, --certificate and --key here"
                .to_owned(),
        }
        };
        let settings = Tls {
            ca: self.ca.clone(),
            server_name: Some(host.clone()),
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            ..Tls::default()
        };
        let mut tls = TlsClient::new(settings, &["h2"]);
        tls.refresh(&Deadline::after(CONNECT_TIMEOUT))
            .await
            .map_err(|error| unreachable(error.to_string()))?;
        let connect = async {
            let stream = TcpStream::connect((host.as_str(), port)).await?;
            stream.set_nodelay(true)?;
            let address = stream.peer_addr()?.ip();
            let (connector, name) = tls.connector(address).map_err(io::Error::other)?;
            connector.connect(name, stream).await
        };
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, connect)
            .await
            .map_err(|_| unreachable(format!("it took longer than {CONNECT_TIMEOUT:?}")))?
            .map_err(|error| unreachable(error.to_string()))?;
        // A verb needs one connection.
        let first = Arc::new(Mutex::new(Some(stream)));
        let connector = tower::service_fn(move |_: Uri| {
            let first = first.lock().unwrap_or_else(PoisonError::into_inner).take();
            std::future::ready(match first {
                Some(stream) => Ok(TokioIo::new(stream)),
                None => Err(io::Error::from(io::ErrorKind::NotConnected)),
            })
        });
        // The connection is encrypted already: the transport need not know.
        Channel::from_static("http://lb-controller")
            .connect_with_connector(connector)
            .await
            .map_err(|error| unreachable(innermost(&error)))
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
