//! Serving the API on what is bound.

use anyhow::Context as _;
use lb_proto::v1::balancer_server::BalancerServer;
use lb_serve::{Listener, Socket, incoming, stopped, watch_servers};
use tokio::{sync::watch::Receiver, task::JoinSet};
use tonic::transport::Server;

use super::{
    Api,
    limits::{
        CALL_TIMEOUT, CALLS_PER_CONNECTION, CONNECTION_WINDOW, KEEPALIVE, KEEPALIVE_TIMEOUT,
        MAX_CONNECTION_AGE, MAX_HEADERS, MAX_REQUEST, STREAM_WINDOW, SizeLimited,
    },
};

/// Serves the API, health and reflection on all of these until `stopping` becomes true; then calls that
/// run have a few seconds to end.
///
/// # Errors
/// The first listener that fails, or that ends before the agent does, ends them all.
pub async fn serve(
    api: Api,
    listeners: Vec<Listener>,
    stopping: Receiver<bool>,
) -> anyhow::Result<()> {
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<BalancerServer<Api>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(lb_proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let calls = api.limits.clone();
    let router = |api: Api| {
        Server::builder()
            .max_concurrent_streams(CALLS_PER_CONNECTION)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .http2_max_header_list_size(MAX_HEADERS)
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .max_connection_age(MAX_CONNECTION_AGE)
            .timeout(CALL_TIMEOUT)
            .layer(calls.clone())
            .add_service(SizeLimited::new(api))
            .add_service(
                health_service
                    .clone()
                    .max_decoding_message_size(MAX_REQUEST),
            )
            .add_service(reflection.clone().max_decoding_message_size(MAX_REQUEST))
    };

    let mut servers = JoinSet::new();
    for listener in listeners {
        let router = router(api.clone());
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
            Ok(endpoint)
        });
    }
    let withdraw = async move { health.set_not_serving::<BalancerServer<Api>>().await };
    watch_servers(servers, withdraw, stopping).await
}
