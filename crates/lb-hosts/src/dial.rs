//! The host's end: it joins a controller, connects to it, serves its drivers on the connection, and renews its certificate.

use std::{path::Path, sync::Arc, time::Duration};

use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use lb_clients::backoff::Backoff;
use lb_model::host::HostName;
use lb_proto::host::v1::{
    self, host_server::HostServer as HostService, membership_client::MembershipClient,
};
use rustls::ClientConfig;
use tokio::{net::TcpStream, sync::watch};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::{
    Code, Status,
    service::Routes,
    transport::{Channel, Endpoint},
};

use crate::{
    ATTACH, KEEPALIVE, KEEPALIVE_TIMEOUT, MEMBERSHIP,
    accept::MAX_ANSWER,
    authority::HostKey,
    identity::{self, Identity, IdentityError},
    server::{HostServer, Word},
    tls,
    token::Token,
};

/// How long a connection may take until it is made.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a call of the controller may take.
const CALL: Duration = Duration::from_secs(20);
/// Pauses between attempts to connect, ...
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(2);
/// ... after a refusal, ...
const REFUSED: Duration = Duration::from_secs(30);
/// ... and between attempts to renew a certificate.
const RENEW_FIRST: Duration = Duration::from_secs(1);
const RENEW_LONGEST: Duration = Duration::from_secs(600);

/// Why a host cannot reach its controller, or is not taken by it.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Its folder cannot be used.
    #[error("{0}")]
    Identity(#[from] IdentityError),
    /// There is no connection.
    #[error("the controller at {address}: {why}")]
    Connect {
        /// The address.
        address: String,
        /// The cause.
        why: String,
    },
    /// The controller refused.
    #[error("the controller at {address} refuses this host: {why}")]
    Refused {
        /// The address.
        address: String,
        /// The reason.
        why: String,
    },
}

async fn connect(address: &str, config: ClientConfig) -> Result<TlsStream<TcpStream>, DialError> {
    let failed = |why: String| DialError::Connect {
        address: address.to_owned(),
        why,
    };
    let name = tls::controller_name().map_err(|error| failed(error.to_string()))?;
    let connecting = async {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
    };
    match tokio::time::timeout(CONNECT, connecting).await {
        Ok(connected) => connected.map_err(|error| failed(error.to_string())),
        Err(_) => Err(failed(format!("no connection within {CONNECT:?}"))),
    }
}

/// Connects for a call of the controller.
async fn membership(
    address: &str,
    config: ClientConfig,
) -> Result<MembershipClient<Channel>, DialError> {
    let mut stream = Some(connect(address, config).await?);
    let connector = tower::service_fn(move |_: tonic::transport::Uri| {
        let stream = stream.take();
        async move {
            stream
                .map(TokioIo::new)
                .ok_or_else(|| std::io::Error::other("the connection has ended"))
        }
    });
    let channel = Endpoint::from_static("http://lb-controller")
        .timeout(CALL)
        .connect_with_connector(connector)
        .await;
    channel
        .map(MembershipClient::new)
        .map_err(|error| DialError::Connect {
            address: address.to_owned(),
            why: lb_proto::endpoint::innermost(&error),
        })
}

/// Why a call of the controller failed.
fn failed_call(address: &str, status: &Status) -> DialError {
    let address = address.to_owned();
    match status.code() {
        // Those of the transport.
        Code::Unavailable | Code::Cancelled | Code::Unknown | Code::DeadlineExceeded => {
            DialError::Connect {
                address,
                why: lb_proto::endpoint::innermost(status),
            }
        }
        _ => DialError::Refused {
            address,
            why: status.message().to_owned(),
        },
    }
}

/// Makes this machine a host. It can be repeated with the same token, should an answer get lost.
///
/// # Errors
/// [`DialError`].
pub async fn join(
    folder: &Path,
    address: &str,
    token: &Token,
    name: &HostName,
) -> Result<Identity, DialError> {
    let failed = |error: rustls::Error| DialError::Connect {
        address: address.to_owned(),
        why: error.to_string(),
    };
    let key = identity::key(folder)?;
    let token_text = token.to_string();
    let (key, proof) = HostKey::prove(&key, name, &token_text).map_err(IdentityError::from)?;
    let request = v1::JoinRequest {
        token: token_text,
        name: name.to_string(),
        key,
        proof,
    };
    let config = tls::newcomer(token.clone()).map_err(failed)?;
    let answer = membership(address, config).await?.join(request).await;
    let answer = answer.map_err(|status| failed_call(address, &status))?;
    Ok(Identity::accept(folder, address, answer.get_ref())?)
}

/// Renews the certificate.
async fn renew(identity: &Identity) -> Result<Identity, DialError> {
    let failed = |error: rustls::Error| DialError::Connect {
        address: identity.address.clone(),
        why: error.to_string(),
    };
    let config = identity.tls(MEMBERSHIP).map_err(failed)?;
    let request = v1::RenewRequest {};
    let answer = membership(&identity.address, config)
        .await?
        .renew(request)
        .await;
    let answer = answer.map_err(|status| failed_call(&identity.address, &status))?;
    Ok(Identity::accept(
        identity.folder(),
        &identity.address,
        answer.get_ref(),
    )?)
}

/// Keeps the certificate of a host from ending.
pub async fn keep_certificate(identity: watch::Sender<Arc<Identity>>) {
    let mut pauses = Backoff::new(RENEW_FIRST, RENEW_LONGEST);
    loop {
        let present = Arc::clone(&identity.borrow());
        let wait = present.until_renewal();
        // In parts: a machine may sleep meanwhile.
        if !wait.is_zero() {
            tokio::time::sleep(wait.min(Duration::from_secs(60))).await;
            continue;
        }
        match renew(&present).await {
            Ok(new) => {
                tracing::info!("the certificate was renewed, for {:?}", new.left());
                identity.send_replace(Arc::new(new));
                pauses.reset();
            }
            Err(error) => {
                tracing::warn!(
                    "the certificate, which lasts {:?} more, is not renewed: {error}",
                    present.left()
                );
            }
        }
        // One with a short life must not be asked for without an end.
        pauses.wait().await;
    }
}

/// Connects to the controller and serves the drivers there, again and again.
pub async fn serve(identity: watch::Receiver<Arc<Identity>>, server: HostServer) {
    let mut pauses = Backoff::new(FIRST, LONGEST);
    let mut last = String::new();
    loop {
        let present = Arc::clone(&identity.borrow());
        server.begin();
        let ended = attach(&present, &server).await;
        let word = server.word().borrow().clone();
        let text = match (&word, ended) {
            (Word::Refused(why), _) => DialError::Refused {
                address: present.address.clone(),
                why: why.clone(),
            }
            .to_string(),
            (_, Err(error)) => error.to_string(),
            (_, Ok(())) => format!(
                "the controller at {}: the connection has ended",
                present.address
            ),
        };
        if word == Word::Welcome {
            pauses.reset();
        }
        if text != last || word == Word::Welcome {
            tracing::warn!("{text}; instances run on");
            last = text;
        }
        if matches!(word, Word::Refused(_)) {
            tokio::time::sleep(REFUSED).await;
        } else {
            pauses.wait().await;
        }
    }
}

async fn attach(identity: &Identity, server: &HostServer) -> Result<(), DialError> {
    let failed = |why: String| DialError::Connect {
        address: identity.address.clone(),
        why,
    };
    if identity.left().is_zero() {
        return Err(failed(
            "the certificate of this host has ended; get a token (`lbctl host token --name`) and join again".to_owned(),
        ));
    }
    let config = identity
        .tls(ATTACH)
        .map_err(|error| failed(error.to_string()))?;
    let stream = connect(&identity.address, config).await?;
    let service = HostService::new(server.clone())
        .max_decoding_message_size(MAX_ANSWER)
        .max_encoding_message_size(MAX_ANSWER);
    hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(KEEPALIVE))
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .serve_connection(
            TokioIo::new(stream),
            TowerToHyperService::new(Routes::new(service)),
        )
        .await
        .map_err(|error| failed(lb_proto::endpoint::innermost(&error)))
}
