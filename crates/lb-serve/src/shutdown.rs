//! The signal that ends servers, and the wait for their end.

use std::{future::Future, time::Duration};

use anyhow::{Context as _, bail};
use tokio::{sync::watch::Receiver, task::JoinSet};

use crate::Endpoint;

/// How long calls that run may take to end when the program does.
const DRAIN: Duration = Duration::from_secs(3);

/// Waits until `stopping` becomes true or its sender is dropped.
pub async fn stopped(stopping: &mut Receiver<bool>) {
    // A dropped sender also ends the server.
    let _ = stopping.wait_for(|stop| *stop).await;
}

/// Waits until all servers have ended, each with its endpoint. When `stopping` becomes true, `withdraw` says that none of them serves
/// any more; then calls that run have a few seconds to end.
///
/// # Errors
/// A server that fails, or that ends before the program does, ends them all.
pub async fn watch_servers(
    mut servers: JoinSet<anyhow::Result<Endpoint>>,
    withdraw: impl Future<Output = ()>,
    mut stopping: Receiver<bool>,
) -> anyhow::Result<()> {
    let program_stops = stopping.clone();
    let drained = async {
        stopped(&mut stopping).await;
        withdraw.await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::pin!(drained);
    loop {
        tokio::select! {
            ended = servers.join_next() => match ended {
                Some(ended) => {
                    let endpoint = ended.context("a server's task failed")??;
                    if !*program_stops.borrow() {
                        bail!("the server of {endpoint} has ended by itself");
                    }
                }
                None => return Ok(()),
            },
            () = &mut drained => {
                tracing::warn!("some calls did not end in {DRAIN:?}; they are cut off");
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::watch;

    use super::*;

    #[tokio::test]
    async fn a_server_that_ends_by_itself_is_an_error() {
        let (stop, stopping) = watch::channel(false);
        let servers = || {
            let mut servers = JoinSet::new();
            servers.spawn(async { Ok(Endpoint::default()) });
            servers
        };
        let error = watch_servers(servers(), async {}, stopping.clone())
            .await
            .unwrap_err();
        assert!(error.to_string().contains("has ended by itself"), "{error}");
        stop.send(true).unwrap();
        watch_servers(servers(), async {}, stopping).await.unwrap();
    }
}
