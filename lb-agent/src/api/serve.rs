//! Serving the API on what is bound.

use std::time::Duration;

use futures::stream;
use lb_proto::v1::balancer_server::BalancerServer;
use lb_serve::{Accept as _, Listener, Socket, stopped};
use tokio::{sync::watch::Receiver, task::JoinSet};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Server, server::Router};

use super::Api;

/// How long calls that run may take to end when the agent does.
const DRAIN: Duration = Duration::from_secs(3);

/// Serves the API, health and reflection on all of these until `stopping` becomes true; then calls that
/// run have a few seconds to end.
///
/// # Errors
/// The first listener that fails ends them all.
pub async fn serve(
    api: Api,
    listeners: Vec<Listener>,
    mut stopping: Receiver<bool>,
) -> anyhow::Result<()> {
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<BalancerServer<Api>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(lb_proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let router = |api: Api| -> Router {
        Server::builder()
            .add_service(BalancerServer::new(api))
            .add_service(health_service.clone())
            .add_service(reflection.clone())
    };

    let mut servers = JoinSet::new();
    for listener in listeners {
        let router = router(api.clone());
        let mut stop = stopping.clone();
        servers.spawn(async move {
            let stopped = async move { stopped(&mut stop).await };
            match listener.into_socket() {
                Socket::Unix(socket) => {
                    let incoming = stream::unfold(socket, |socket| async {
                        Some((socket.next().await, socket))
                    });
                    router.serve_with_incoming_shutdown(incoming, stopped).await
                }
                Socket::Tcp(socket) => {
                    router
                        .serve_with_incoming_shutdown(TcpListenerStream::new(socket), stopped)
                        .await
                }
            }
        });
    }
    let drained = async {
        stopped(&mut stopping).await;
        health.set_not_serving::<BalancerServer<Api>>().await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::pin!(drained);
    loop {
        tokio::select! {
            ended = servers.join_next() => match ended {
                Some(ended) => ended??,
                None => return Ok(()),
            },
            () = &mut drained => {
                tracing::warn!("some calls did not end in {DRAIN:?}; they are cut off");
                return Ok(());
            }
        }
    }
}
