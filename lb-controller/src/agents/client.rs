//! The connection to an agent.

use std::{fmt, io, path::PathBuf, str::FromStr, time::Duration};

use hyper_util::rt::TokioIo;
use lb_proto::v1::balancer_client::BalancerClient;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Uri};

/// The longest answer: all VIPs and reals of an agent.
const MAX_ANSWER: usize = 64 << 20;
/// The longest time for connecting.
const CONNECT: Duration = Duration::from_secs(5);
/// The longest time for a call.
const CALL: Duration = Duration::from_secs(15);

/// The client of the API `lb.v1`.
pub type Client = BalancerClient<Channel>;

/// Where an agent listens: `unix:PATH` or `http://HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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
            let path = path.strip_prefix("//").unwrap_or(path);
            if path.is_empty() {
                return Err(format!("there is no path of a socket; {FORM}"));
            }
            return Ok(Endpoint::Unix(path.into()));
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

/// Makes a client. It connects when it is used, and again when the connection is lost.
pub fn client(endpoint: &Endpoint) -> Client {
    let channel = match endpoint {
        Endpoint::Unix(path) => {
            let path = path.clone();
            let connector = tower::service_fn(move |_: Uri| {
                let path = path.clone();
                async move {
                    let stream = UnixStream::connect(path).await?;
                    Ok::<_, io::Error>(TokioIo::new(stream))
                }
            });
            // The transport requires the name of a host and does not use it.
            Channel::from_static("http://lb-agent")
                .timeout(CALL)
                .connect_with_connector_lazy(connector)
        }
        Endpoint::Http(uri) => Channel::builder(uri.clone())
            .connect_timeout(CONNECT)
            .timeout(CALL)
            .tcp_nodelay(true)
            .connect_lazy(),
    };
    BalancerClient::new(channel).max_decoding_message_size(MAX_ANSWER)
}

/// A vip as a message.
pub fn vip_id(vip: &lb_model::vip::VipKey) -> lb_proto::v1::VipId {
    use lb_model::vip::Protocol;
    lb_proto::v1::VipId {
        address: vip.address.to_string(),
        port: vip.port.into(),
        protocol: match vip.protocol {
            Protocol::Tcp => lb_proto::v1::Protocol::Tcp,
            Protocol::Udp => lb_proto::v1::Protocol::Udp,
        }
        .into(),
    }
}

/// A VIP of a message; `None` if it is none.
pub fn vip_key(id: &lb_proto::v1::VipId) -> Option<lb_model::vip::VipKey> {
    use lb_model::vip::{Protocol, VipKey};
    Some(VipKey {
        address: id.address.parse().ok()?,
        port: id.port.try_into().ok()?,
        protocol: match id.protocol() {
            lb_proto::v1::Protocol::Tcp => Protocol::Tcp,
            lb_proto::v1::Protocol::Udp => Protocol::Udp,
            lb_proto::v1::Protocol::Unspecified => return None,
        },
    })
}
