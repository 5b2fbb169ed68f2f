//! The controller's end: hosts join, renew their certificates, and connect.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use lb_model::host::HostName;
use lb_proto::host::v1::{
    self,
    host_client::HostClient,
    membership_server::{Membership, MembershipServer},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tonic::{
    Request, Response, Status,
    service::Routes,
    transport::{Channel, Endpoint},
};

use crate::{
    ATTACH, KEEPALIVE, KEEPALIVE_TIMEOUT,
    authority::{Authority, AuthorityError, HostKey, Subject},
    io::Told,
    tls,
    token::{Digest, Token},
};

/// Connections that are being made at once.
const HANDSHAKES: usize = 256;
/// How long a handshake may take, and a call of a host that joins or renews.
const PATIENCE: Duration = Duration::from_secs(10);
/// The most bytes of an answer of a host: a list of thousands of instances.
pub(crate) const MAX_ANSWER: usize = 64 << 20;
/// The most bytes of a request of a host.
const MAX_REQUEST: usize = 64 << 10;

/// A connection that a host has made.
#[derive(Debug)]
pub struct Attached {
    /// Whose it is.
    pub subject: Subject,
    /// Where it came from.
    pub from: SocketAddr,
    /// The host's calls.
    pub client: HostClient<Channel>,
    /// Ends with the connection.
    pub end: watch::Receiver<()>,
}

/// What the controller decides about hosts.
#[async_trait]
pub trait Door: Send + Sync + 'static {
    /// Makes a host of the machine that has this token and this key. Asked again with the same, the answer is the same.
    ///
    /// # Errors
    /// Why not, with what to do.
    async fn join(&self, token: &Token, name: &HostName, key: Digest) -> Result<(), Status>;

    /// Whether a host still is one; `Err` has the reason why not, with what to do.
    ///
    /// # Errors
    /// Why not.
    fn check(&self, subject: &Subject) -> Result<(), String>;

    /// A host has connected.
    fn attached(&self, attached: Attached);

    /// A host was given a certificate, which ends then, since 1970.
    async fn issued(&self, name: &HostName, ends: Duration);

    /// How long certificates of hosts last.
    fn lifetime(&self) -> Duration;

    /// The controller's name.
    fn controller(&self) -> &str;
}

/// Why the server of hosts cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// The authority cannot be used.
    #[error("{0}")]
    Authority(#[from] AuthorityError),
    /// TLS cannot be set up.
    #[error("TLS for hosts: {0}")]
    Tls(#[from] rustls::Error),
}

/// Answers hosts that join and renew.
#[derive(Clone)]
struct Members {
    authority: Arc<Authority>,
    door: Arc<dyn Door>,
    /// Who calls, if it has shown a certificate.
    subject: Option<Subject>,
}

impl Members {
    async fn card(&self, name: &HostName, key: &HostKey) -> Result<v1::MembershipCard, Status> {
        let lifetime = self.door.lifetime();
        let made = self.authority.host(name, key, lifetime);
        let certificate = made.map_err(|error| Status::internal(error.to_string()))?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let ends = now.unwrap_or_default() + lifetime;
        self.door.issued(name, ends).await;
        Ok(v1::MembershipCard {
            ends: ends.as_secs(),
            certificate: certificate.to_vec(),
            authority: self.authority.certificate().to_vec(),
            controller: self.door.controller().to_owned(),
            name: name.to_string(),
        })
    }
}

#[tonic::async_trait]
impl Membership for Members {
    async fn join(
        &self,
        request: Request<v1::JoinRequest>,
    ) -> Result<Response<v1::MembershipCard>, Status> {
        let request = request.into_inner();
        let token: Token = request
            .token
            .parse()
            .map_err(|error: crate::token::TokenError| {
                Status::unauthenticated(error.to_string())
            })?;
        let name: HostName = request.name.parse().map_err(|error| {
            Status::invalid_argument(format!("name: {:?}: {error}", request.name))
        })?;
        let key = HostKey::proved(&request.key, &request.proof, &name, &request.token)
            .ok_or_else(|| Status::invalid_argument("proof: it is not that of the key"))?;
        self.door.join(&token, &name, key.digest()).await?;
        self.card(&name, &key).await.map(Response::new)
    }

    async fn renew(
        &self,
        _: Request<v1::RenewRequest>,
    ) -> Result<Response<v1::MembershipCard>, Status> {
        let Some(subject) = &self.subject else {
            return Err(Status::unauthenticated(
                "show the certificate that is to be renewed",
            ));
        };
        self.door
            .check(subject)
            .map_err(Status::permission_denied)?;
        self.card(&subject.name, &subject.key)
            .await
            .map(Response::new)
    }
}

/// Serves hosts until the process ends.
///
/// # Errors
/// TLS cannot be set up.
pub async fn serve(
    listener: TcpListener,
    authority: Arc<Authority>,
    door: Arc<dyn Door>,
) -> Result<(), AcceptError> {
    let acceptor = TlsAcceptor::from(Arc::new(tls::controller(Arc::clone(&authority))?));
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        // It is never closed.
        let Ok(permit) = Arc::clone(&handshakes).acquire_owned().await else {
            return Ok(());
        };
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Such as too many open files, which passes.
                tracing::warn!("a host cannot connect: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let members = Members {
            authority: Arc::clone(&authority),
            door: Arc::clone(&door),
            subject: None,
        };
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let greeted = tokio::time::timeout(PATIENCE, greet(&acceptor, stream));
            match greeted.await {
                Ok(Ok(stream)) => {
                    if let Err(error) = talk(stream, from, members).await {
                        tracing::warn!("a host at {from}: {error}");
                    }
                }
                Ok(Err(error)) => {
                    tracing::warn!("a host at {from}: shaking hands over TLS: {error}");
                }
                Err(_) => tracing::warn!("a host at {from}: it does not shake hands over TLS"),
            }
            drop(permit);
        });
    }
}

async fn greet(acceptor: &TlsAcceptor, stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
    stream.set_nodelay(true)?;
    acceptor.accept(stream).await
}

async fn talk(
    stream: TlsStream<TcpStream>,
    from: SocketAddr,
    mut members: Members,
) -> anyhow::Result<()> {
    let (_, connection) = stream.get_ref();
    let certificate = connection.peer_certificates().and_then(<[_]>::first);
    members.subject = certificate.map(Subject::read).transpose()?;
    if connection.alpn_protocol() != Some(ATTACH) {
        let service = MembershipServer::new(members).max_decoding_message_size(MAX_REQUEST);
        let routes = TowerToHyperService::new(Routes::new(service));
        let served = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .serve_connection(TokioIo::new(stream), routes);
        // A host asks for one thing.
        return match tokio::time::timeout(PATIENCE, served).await {
            Ok(served) => Ok(served?),
            Err(_) => Ok(()),
        };
    }
    let Some(subject) = members.subject else {
        anyhow::bail!("it has no certificate; have it join with a token");
    };
    let (told, end) = Told::new(stream);
    let client = HostClient::new(call_back(told).await?)
        .max_decoding_message_size(MAX_ANSWER)
        .max_encoding_message_size(MAX_ANSWER);
    members.door.attached(Attached {
        subject,
        from,
        client,
        end,
    });
    Ok(())
}

/// A client on a connection that the other end has made.
async fn call_back(stream: Told<TlsStream<TcpStream>>) -> anyhow::Result<Channel> {
    let mut stream = Some(stream);
    let connector = tower::service_fn(move |_: tonic::transport::Uri| {
        let stream = stream.take();
        async move {
            stream
                .map(TokioIo::new)
                .ok_or_else(|| std::io::Error::other("the host's connection has ended"))
        }
    });
    Ok(Endpoint::from_static("http://lb-host")
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .connect_with_connector(connector)
        .await?)
}
