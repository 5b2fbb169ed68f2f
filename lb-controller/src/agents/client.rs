//! The connection to an agent.

use std::{io, time::Duration};

use hyper_util::rt::TokioIo;
use lb_proto::{endpoint::Endpoint, v1::balancer_client::BalancerClient};
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
