//! TLS of a server, with certificates of clients if they have some.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use futures::{Stream, StreamExt as _, stream::FuturesUnordered};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tonic::transport::server::Connected;
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer as _};

use crate::{Counted, HasPeer, Peer};

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How often it is looked whether the files have changed.
const LOOK: Duration = Duration::from_secs(5);

/// The files of a server that speaks TLS, in PEM form. They are read again when they change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate, with those of the authorities in between.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities whose certificates of clients count. Without it no client can show one.
    pub clients: Option<PathBuf>,
}

/// Why TLS cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be used.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The library refuses what the files hold.
    #[error("TLS: {0}")]
    Library(String),
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|error| unusable(path, error.to_string()))
}

fn unusable(path: &Path, reason: String) -> TlsError {
    TlsError::File {
        path: path.to_owned(),
        reason,
    }
}

/// The certificates in a file: there is one at least.
///
/// # Errors
/// The file cannot be used.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&read(path)?)
        .collect::<Result<_, _>>()
        .map_err(|error| unusable(path, error.to_string()))?;
    if chain.is_empty() {
        let reason = "holds no certificate in PEM form".to_owned();
        return Err(unusable(path, reason));
    }
    Ok(chain)
}

/// The private key in a file.
///
/// # Errors
/// The file cannot be used.
pub fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(&read(path)?)
        .map_err(|_| unusable(path, "holds no private key in PEM form".to_owned()))
}

fn configure(files: &TlsFiles, protocols: &[&str]) -> Result<ServerConfig, TlsError> {
    let library = |error: &dyn std::fmt::Display| TlsError::Library(error.to_string());
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| library(&error))?;
    let builder = match &files.clients {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                let added = roots.add(certificate);
                added.map_err(|error| unusable(path, error.to_string()))?;
            }
            // Others may show a token instead.
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .allow_unauthenticated()
                .build()
                .map_err(|error| unusable(path, error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let key = private_key(&files.key)?;
    let mut config = builder
        .with_single_cert(certificates(&files.certificate)?, key)
        .map_err(|error| unusable(&files.certificate, error.to_string()))?;
    config.alpn_protocols = protocols
        .iter()
        .map(|name| name.as_bytes().into())
        .collect();
    Ok(config)
}

/// Length and time of change of a file, by which a new content is noticed.
type Stamp = Option<(u64, SystemTime)>;

#[derive(Debug)]
struct Loaded {
    config: Arc<ServerConfig>,
    stamps: Vec<Stamp>,
    looked: Instant,
}

/// Makes connections TLS.
#[derive(Debug)]
pub struct Tls {
    files: TlsFiles,
    protocols: Vec<&'static str>,
    loaded: Mutex<Loaded>,
}

impl Tls {
    /// Reads the files. The protocols are those of ALPN: `h2`, `http/1.1`.
    ///
    /// # Errors
    /// A file cannot be used.
    pub fn new(files: TlsFiles, protocols: &[&'static str]) -> Result<Self, TlsError> {
        let loaded = Loaded {
            stamps: stamps(&files),
            config: Arc::new(configure(&files, protocols)?),
            looked: Instant::now(),
        };
        Ok(Tls {
            files,
            protocols: protocols.to_vec(),
            loaded: Mutex::new(loaded),
        })
    }

    /// What the files say; those that cannot be used leave it as it was.
    fn config(&self) -> Arc<ServerConfig> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if loaded.looked.elapsed() >= LOOK {
            loaded.looked = Instant::now();
            let now = stamps(&self.files);
            if now != loaded.stamps {
                loaded.stamps = now;
                match configure(&self.files, &self.protocols) {
                    Ok(config) => {
                        tracing::info!("the certificate of TLS was read again");
                        loaded.config = Arc::new(config);
                    }
                    Err(error) => {
                        tracing::error!("{error}; connections get the certificate of before");
                    }
                }
            }
        }
        Arc::clone(&loaded.config)
    }

    /// The connections of a listener, as soon as their handshakes are done. One that does not finish is closed after
    /// ten seconds, and holds up no other.
    pub fn secured(
        self,
        incoming: impl Stream<Item = io::Result<Counted<TcpStream>>> + Send,
    ) -> impl Stream<Item = io::Result<Secured>> + Send {
        futures::stream::unfold(
            (self, Box::pin(incoming), FuturesUnordered::new()),
            |(tls, mut incoming, mut handshakes)| async move {
                loop {
                    tokio::select! {
                        next = incoming.next() => {
                            let stream = match next? {
                                Ok(stream) => stream,
                                Err(error) => return Some((Err(error), (tls, incoming, handshakes))),
                            };
                            let acceptor = TlsAcceptor::from(tls.config());
                            handshakes.push(async move {
                                tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await
                            });
                        }
                        Some(done) = handshakes.next() => match done {
                            Ok(Ok(stream)) => {
                                return Some((Ok(Secured(stream)), (tls, incoming, handshakes)));
                            }
                            Ok(Err(error)) => tracing::debug!("a handshake of TLS failed: {error}"),
                            Err(_) => tracing::debug!("a handshake of TLS took longer than {HANDSHAKE:?}"),
                        },
                    }
                }
            },
        )
    }
}

fn stamps(files: &TlsFiles) -> Vec<Stamp> {
    let paths = [
        Some(&files.certificate),
        Some(&files.key),
        files.clients.as_ref(),
    ];
    let stamp = |path: &PathBuf| {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.len(), metadata.modified().ok()?))
    };
    paths.into_iter().flatten().map(stamp).collect()
}

/// A connection with TLS.
#[derive(Debug)]
pub struct Secured(TlsStream<Counted<TcpStream>>);

impl HasPeer for Secured {
    fn peer(&self) -> Peer {
        let (stream, session) = self.0.get_ref();
        let certificate = session.peer_certificates().and_then(<[_]>::first);
        match stream.peer() {
            Peer::Tcp { address, .. } => Peer::Tcp {
                address,
                names: certificate.map(|one| names(one)).unwrap_or_default().into(),
            },
            other => other,
        }
    }
}

impl Connected for Secured {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer()
    }
}

/// The names in a certificate: those of its subject alternative names, and its common name last.
#[must_use]
pub fn names(certificate: &[u8]) -> Vec<String> {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else {
        return Vec::new();
    };
    let mut names = Vec::new();
    if let Ok(Some(extension)) = certificate.subject_alternative_name() {
        for name in &extension.value.general_names {
            match name {
                GeneralName::DNSName(name)
                | GeneralName::URI(name)
                | GeneralName::RFC822Name(name) => names.push((*name).to_owned()),
                _ => {}
            }
        }
    }
    let common = certificate.subject().iter_common_name();
    names.extend(common.filter_map(|name| name.as_str().ok().map(str::to_owned)));
    names.dedup();
    names
}

impl tokio::io::AsyncRead for Secured {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl tokio::io::AsyncWrite for Secured {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<io::Result<usize>> {
        std::pin::Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    #[test]
    fn names_are_those_that_the_certificate_has() {
        let mut params = CertificateParams::new(vec!["ops.example".to_owned()]).unwrap();
        params
            .distinguished_name
            .push(DnType::CommonName, "Operations");
        let uri = "spiffe://example/ops".try_into().unwrap();
        params.subject_alt_names.push(SanType::URI(uri));
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        assert_eq!(
            names(certificate.der()),
            ["ops.example", "spiffe://example/ops", "Operations"]
        );
        assert!(names(b"no certificate").is_empty());
    }

    #[test]
    fn files_that_cannot_be_used_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["lb.example".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let files = TlsFiles {
            certificate: folder.path().join("certificate.pem"),
            key: folder.path().join("key.pem"),
            clients: Some(folder.path().join("clients.pem")),
        };
        let of = |what: &str| {
            Tls::new(files.clone(), &["h2"])
                .map(drop)
                .unwrap_err()
                .to_string()
                + what
        };
        assert!(of("").contains("clients.pem"), "{}", of(""));
        std::fs::write(files.clients.as_ref().unwrap(), certificate.pem()).unwrap();
        assert!(of("").contains("key.pem"), "{}", of(""));
        std::fs::write(&files.key, "no key").unwrap();
        assert!(of("").contains("no private key"), "{}", of(""));
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
        assert!(of("").contains("certificate.pem"), "{}", of(""));
        std::fs::write(&files.certificate, certificate.pem()).unwrap();
        Tls::new(files, &["h2"]).unwrap();
    }
}
