//! Connections that stop being HTTP: WebSocket and other upgrades, and WebSockets on streams of HTTP/2 (RFC 8441).

use std::{io, sync::Arc, time::Duration};

use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version,
    header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE},
};
use hyper::{
    ext::Protocol,
    upgrade::{OnUpgrade, Upgraded},
};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::tungstenite::handshake::{client::generate_key, derive_accept_key};

use super::{Client, OpenRequest, headers::has_token};
use crate::{relay::relay, service::Lease, service::Service};

/// What clients may ask for by an extended CONNECT.
const WEB_SOCKET: &str = "websocket";

/// The client's side of an upgrade that it asked for.
#[derive(Debug)]
pub struct Upgrade {
    client: OnUpgrade,
    /// On a stream of HTTP/2: the key that an instance must have answered.
    key: Option<HeaderValue>,
    /// The client is busy as long as this lasts, however silent it is.
    open: OpenRequest,
}

/// Returns the other side of an upgrade if the request asks for one. The upgrade to h2c is not passed on (RFC 9113 section
/// 3.1): the request is answered as it is. A WebSocket over HTTP/2 becomes the same request as over HTTP/1.1.
pub fn client_side<B>(request: &mut Request<B>, client: &Arc<Client>) -> Option<Upgrade> {
    if is_web_socket_over_http2(request) {
        let upgrade = hyper::upgrade::on(&mut *request);
        *request.method_mut() = Method::GET;
        // A key is visible ASCII.
        let key = HeaderValue::try_from(generate_key()).ok()?;
        let headers = request.headers_mut();
        ask(headers, HeaderValue::from_static(WEB_SOCKET));
        headers.insert(SEC_WEBSOCKET_KEY, key.clone());
        return Some(Upgrade {
            client: upgrade,
            key: Some(key),
            open: OpenRequest::new(Arc::clone(client)),
        });
    }
    let headers = request.headers();
    let is_wanted = request.version() == Version::HTTP_11
        && headers.contains_key(UPGRADE)
        && has_token(headers, &CONNECTION, "upgrade")
        && !has_token(headers, &UPGRADE, "h2c");
    is_wanted.then(|| Upgrade {
        client: hyper::upgrade::on(request),
        key: None,
        open: OpenRequest::new(Arc::clone(client)),
    })
}

fn is_web_socket_over_http2<B>(request: &Request<B>) -> bool {
    request.method() == Method::CONNECT
        && request.version() == Version::HTTP_2
        && request
            .extensions()
            .get::<Protocol>()
            .is_some_and(|protocol| protocol.as_str() == WEB_SOCKET)
}

/// Says again that an upgrade is wanted, after the headers were cleaned.
pub fn ask(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, protocol);
}

impl Upgrade {
    /// Returns whether an answer of an instance that says something else than "switching protocols" would open the stream.
    pub fn is_opened_by(&self, status: StatusCode) -> bool {
        self.key.is_some() && status.is_success()
    }

    /// Takes the answer of an instance that switches protocols, and passes bytes on between both sides from then on, until
    /// one ends, or both are silent for `pause`. Returns the answer for the client, or `None` if it is none.
    pub fn join<B>(
        self,
        answer: &mut Response<B>,
        lease: Lease,
        service: Arc<Service>,
        pause: Duration,
    ) -> Option<HeaderMap> {
        let mut headers = answer.headers().clone();
        let protocol = headers.get(UPGRADE).cloned();
        super::headers::clean(&mut headers, false);
        match &self.key {
            Some(key) => {
                let accepted = headers.remove(SEC_WEBSOCKET_ACCEPT)?;
                if accepted != derive_accept_key(key.as_bytes()) {
                    return None;
                }
            }
            None => {
                if let Some(protocol) = protocol {
                    ask(&mut headers, protocol);
                }
            }
        }
        let instance = hyper::upgrade::on(answer);
        tokio::spawn(async move {
            let both = async { tokio::try_join!(self.client, instance) };
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
            // It counts as a pending request, and keeps its connection, as long as it lasts.
            drop((lease, self.open));
        });
        Some(headers)
    }

    /// Returns the status that tells the client of the switch.
    pub const fn status(&self) -> StatusCode {
        match self.key {
            Some(_) => StatusCode::OK,
            None => StatusCode::SWITCHING_PROTOCOLS,
        }
    }
}

async fn run(client: Upgraded, instance: Upgraded, pause: Duration) -> io::Result<()> {
    let (client, instance) = (TokioIo::new(client), TokioIo::new(instance));
    relay(client, instance, pause).await.map(|_| ())
}
