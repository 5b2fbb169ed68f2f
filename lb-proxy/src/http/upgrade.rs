//! Connections that stop being HTTP: WebSocket and other upgrades.

use std::{io, sync::Arc, time::Duration};

use http::{
    HeaderMap, HeaderValue, Request, Version,
    header::{CONNECTION, UPGRADE},
};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;

use super::headers::has_token;
use crate::{relay::relay, service::Lease, service::Service};

/// Returns the other side of an upgrade if the request asks for one. The upgrade to h2c is not passed on (RFC 9113 section
/// 3.1): the request is answered as it is.
pub fn client_side<B>(request: &mut Request<B>) -> Option<OnUpgrade> {
    let headers = request.headers();
    let is_wanted = request.version() == Version::HTTP_11
        && headers.contains_key(UPGRADE)
        && has_token(headers, &CONNECTION, "upgrade")
        && !has_token(headers, &UPGRADE, "h2c");
    is_wanted.then(|| hyper::upgrade::on(request))
}

/// Says again that an upgrade is wanted, after the headers were cleaned.
pub fn ask(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, protocol);
}

/// Passes bytes on between both sides until one ends, or both are silent for `pause`.
pub fn join(
    client: OnUpgrade,
    instance: OnUpgrade,
    lease: Lease,
    service: Arc<Service>,
    pause: Duration,
) {
    tokio::spawn(async move {
        let both = async { tokio::try_join!(client, instance) };
        let ended = match both.await {
            Ok((client, instance)) => run(client, instance, pause).await,
            Err(error) => Err(io::Error::other(error)),
        };
        if let Err(error) = ended {
            tracing::debug!(
                "service {}: an upgraded connection failed: {error}",
                service.name
            );
        }
        // It counts as a pending request as long as it lasts.
        drop(lease);
    });
}

async fn run(client: Upgraded, instance: Upgraded, pause: Duration) -> io::Result<()> {
    let (client, instance) = (TokioIo::new(client), TokioIo::new(instance));
    relay(client, instance, pause).await.map(|_| ())
}
