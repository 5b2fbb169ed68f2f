//! Serving the API on what is bound.

use std::time::Duration;

use anyhow::Context as _;
use lb_proto::controller::v1::{
    access_server::AccessServer,
    controller_server::{ControllerServer, SERVICE_NAME},
    history_server::HistoryServer,
};
use lb_serve::{
    Endpoint, Listener, Socket,
    calls::{CallLimits, Cost, MaxCalls},
    incoming, stopped,
    tls::Tls,
    watch_servers,
};
use tokio::{net::TcpListener, sync::watch::Receiver, task::JoinSet};
use tonic::transport::Server;

use super::{Api, access::AccessApi, guard::Guard};

/// Calls at once on one connection; HTTP/2 has a client wait with more.
const CALLS_PER_CONNECTION: u32 = 128;
/// Header fields of a request, in bytes.
const MAX_HEADERS: u32 = 16 << 10;
/// Bytes of a call's request that may arrive before they are taken; the next constant is for a whole connection.
const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = 256 << 10;
/// A connection of this age takes no new calls, and is closed when its last call has ended.
const MAX_CONNECTION_AGE: Duration = Duration::from_secs(60 * 60);
/// How long a call may take until its answer, or its stream of answers, begins.
const CALL: Duration = Duration::from_secs(120);
/// A connection without a word for so long is asked whether it lives.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// Longer without an answer, and it is closed.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(30);
/// The most bytes of a request: the settings of a pool.
pub(super) const MAX_REQUEST: usize = 256 << 10;
/// Calls at once, on all connections.
const MAX_CALLS: MaxCalls = MaxCalls {
    calls: 1_024,
    large: 16,
    following: 256,
};

fn cost(path: &str) -> Cost {
    let call = path
        .strip_prefix('/')
        .and_then(|path| path.strip_prefix(SERVICE_NAME));
    match call {
        Some("/WatchPools" | "/WatchCommands") => Cost::Following,
        Some(
            "/ListPools" | "/ListCommands" | "/ListEnvironments" | "/ExplainPool" | "/GetLogs"
            | "/Backup",
        ) => Cost::Large,
        _ => Cost::Small,
    }
}

/// Serves the API, health and reflection on all of these, and by TLS on another, until `stopping` becomes true; then calls that run
/// have a few seconds to end.
///
/// # Errors
/// The first listener that fails, or that ends before the controller does, ends them all.
pub async fn serve(
    api: Api,
    listeners: Vec<Listener>,
    secured: Option<(TcpListener, Tls)>,
    stopping: Receiver<bool>,
) -> anyhow::Result<()> {
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<ControllerServer<Api>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(lb_proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let limits = CallLimits::new(MAX_CALLS, cost);
    let guard = Guard::new(api.directory());
    let mut servers = JoinSet::new();
    let router = || {
        Server::builder()
            .max_concurrent_streams(CALLS_PER_CONNECTION)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .http2_max_header_list_size(MAX_HEADERS)
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .max_connection_age(MAX_CONNECTION_AGE)
            .timeout(CALL)
            .layer(limits.clone())
            .layer(guard.clone())
            .add_service(ControllerServer::new(api.clone()).max_decoding_message_size(MAX_REQUEST))
            .add_service(
                AccessServer::new(AccessApi::new(api.directory()))
                    .max_decoding_message_size(MAX_REQUEST),
            )
            .add_service(HistoryServer::new(api.history()).max_decoding_message_size(MAX_REQUEST))
            .add_service(
                health_service
                    .clone()
                    .max_decoding_message_size(MAX_REQUEST),
            )
            .add_service(reflection.clone().max_decoding_message_size(MAX_REQUEST))
    };
    for listener in listeners {
        let router = router();
        let endpoint = listener.endpoint().clone();
        let mut stop = stopping.clone();
        servers.spawn(async move {
            let stopped = async move { stopped(&mut stop).await };
            let served = match listener.into_socket() {
                Socket::Unix(socket) => {
                    router
                        .serve_with_incoming_shutdown(incoming(socket), stopped)
                        .await
                }
                Socket::Tcp(socket) => {
                    router
                        .serve_with_incoming_shutdown(incoming(socket), stopped)
                        .await
                }
            };
            served.with_context(|| format!("serving {endpoint}"))?;
            anyhow::Ok(endpoint)
        });
    }
    if let Some((listener, tls)) = secured {
        let endpoint = Endpoint::Tcp(listener.local_addr().context("looking at a listener")?);
        let router = router();
        let mut stop = stopping.clone();
        servers.spawn(async move {
            let connections = tls.secured(incoming(listener));
            let stopped = async move { stopped(&mut stop).await };
            let served = router.serve_with_incoming_shutdown(connections, stopped);
            served.await.context("serving the API by TLS")?;
            anyhow::Ok(endpoint)
        });
    }
    let withdraw = async move { health.set_not_serving::<ControllerServer<Api>>().await };
    watch_servers(servers, withdraw, stopping).await
}
