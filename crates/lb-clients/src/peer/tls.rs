//! TLS to peers, with rustls.

use std::{
    fs::Metadata,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::SystemTime,
};

use lb_model::{
    peer::Tls,
    settings::{FieldError, Map, SettingType as _, Value},
};
use rustls::{
    ClientConfig, RootCertStore,
    client::{Resumption, WebPkiServerVerifier, danger::ServerCertVerifier},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{Deadline, PeerError, Stream, file};

mod unverified;

/// Checks the name of the server, which only a TLS library can do.
///
/// # Errors
/// `tls.server_name`, its value and what would be right.
pub fn validate(tls: Option<&Tls>) -> Result<(), FieldError> {
    match tls.and_then(|tls| tls.server_name.as_deref()) {
        Some(name) if ServerName::try_from(name).is_err() => Err(FieldError::new(
            "tls.server_name",
            name,
            "give a DNS name or an address",
        )),
        _ => Ok(()),
    }
}

/// As [`validate`], for the setting `tls` of a table.
///
/// # Errors
/// As [`validate`], and TLS settings that cannot be read.
pub fn validate_in(table: &Map<String, Value>) -> Result<(), FieldError> {
    let tls = table
        .get("tls")
        .map(Tls::from_json)
        .transpose()
        .map_err(|error| error.within("tls"))?;
    validate(tls.as_ref())
}

fn files(tls: &Tls) -> impl Iterator<Item = &Path> {
    [&tls.ca, &tls.certificate, &tls.key]
        .into_iter()
        .flatten()
        .map(PathBuf::as_path)
}

/// A TLS client of one peer. It reads its files when it first needs them, and again when they change.
///
/// Sessions are not resumed: each connection verifies the certificate, so that an expired one is noticed.
#[derive(Debug)]
pub struct TlsClient {
    settings: Tls,
    protocols: Vec<Vec<u8>>,
    ready: Option<(Vec<Stamp>, Arc<ClientConfig>)>,
}

/// Length and time of change of a file, by which a new content is noticed.
type Stamp = Option<(u64, SystemTime)>;

impl TlsClient {
    /// A client if there are settings for one.
    #[must_use]
    pub fn of(settings: Option<&Tls>, protocols: &[&str]) -> Option<Self> {
        settings.map(|settings| TlsClient::new(settings.clone(), protocols))
    }

    /// A client that offers these application protocols (ALPN: `http/1.1`, `h2`).
    #[must_use]
    pub fn new(settings: Tls, protocols: &[&str]) -> Self {
        TlsClient {
            settings,
            protocols: protocols
                .iter()
                .map(|name| name.as_bytes().into())
                .collect(),
            ready: None,
        }
    }

    /// Reads the files if they changed. If they cannot be used, what was read before stays for
    /// [`connector`](Self::connector).
    ///
    /// # Errors
    /// Names the file that cannot be used.
    pub async fn refresh(&mut self, deadline: &Deadline) -> Result<(), PeerError> {
        let mut stamps = Vec::new();
        for path in files(&self.settings) {
            stamps.push(
                tokio::fs::metadata(path)
                    .await
                    .ok()
                    .as_ref()
                    .and_then(stamp),
            );
        }
        if self.ready.as_ref().is_none_or(|(read, _)| *read != stamps) {
            let config = configure(&self.settings, &self.protocols, deadline).await?;
            self.ready = Some((stamps, Arc::new(config)));
        }
        Ok(())
    }

    /// Returns what performs handshakes with `address`, and the name that its certificate must have. Call
    /// [`refresh`](Self::refresh) first.
    ///
    /// # Errors
    /// [`PeerError::Tls`] if the files were not read, or the name is none.
    pub fn connector(
        &self,
        address: IpAddr,
    ) -> Result<(TlsConnector, ServerName<'static>), PeerError> {
        let (_, config) = self
            .ready
            .as_ref()
            .ok_or_else(|| PeerError::Tls("the client's files were not read".to_owned()))?;
        let name = match &self.settings.server_name {
            Some(name) => ServerName::try_from(name.clone())
                .map_err(|error| PeerError::Tls(format!("{name}: {error}")))?,
            None => ServerName::from(address),
        };
        Ok((TlsConnector::from(Arc::clone(config)), name))
    }

    /// Performs the handshake over a connection to `address`. Call [`refresh`](Self::refresh) first.
    ///
    /// # Errors
    /// [`PeerError::Tls`] with the reason of the TLS library, or any error of the connection.
    pub async fn wrap(
        &self,
        stream: TcpStream,
        address: IpAddr,
        deadline: &Deadline,
    ) -> Result<Stream, PeerError> {
        let (connector, name) = self.connector(address)?;
        const SHAKING_HANDS: &str = "shaking hands over TLS";
        deadline
            .bound(SHAKING_HANDS, async {
                connector
                    .connect(name, stream)
                    .await
                    .map(|stream| Stream::Tls(Box::new(stream)))
                    .map_err(|error| PeerError::io(SHAKING_HANDS, &error))
            })
            .await
    }
}

fn stamp(metadata: &Metadata) -> Stamp {
    Some((metadata.len(), metadata.modified().ok()?))
}

async fn configure(
    settings: &Tls,
    protocols: &[Vec<u8>],
    deadline: &Deadline,
) -> Result<ClientConfig, PeerError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(tls)?
        .dangerous()
        .with_custom_certificate_verifier(verifier(settings, deadline).await?);
    let mut config = match (&settings.certificate, &settings.key) {
        (Some(certificate), Some(key)) => {
            let chain = certificates(certificate, deadline).await?;
            let bytes = file::read(key, deadline).await?;
            let key_der = PrivateKeyDer::from_pem_slice(&bytes)
                .map_err(|_| unusable(key, "holds no private key in PEM form"))?;
            builder
                .with_client_auth_cert(chain, key_der)
                .map_err(|error| unusable(key, &error.to_string()))?
        }
        _ => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::disabled();
    config.alpn_protocols = protocols.to_vec();
    Ok(config)
}

async fn verifier(
    settings: &Tls,
    deadline: &Deadline,
) -> Result<Arc<dyn ServerCertVerifier>, PeerError> {
    if !settings.verify {
        return Ok(Arc::new(unverified::Unverified::new(provider())));
    }
    let Some(path) = &settings.ca else {
        return system_verifier();
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path, deadline).await? {
        roots
            .add(certificate)
            .map_err(|error| unusable(path, &error.to_string()))?;
    }
    trusting(roots).map_err(|reason| unusable(path, &reason))
}

/// The system's authorities are about 150 certificates, so all clients share one copy.
fn system_verifier() -> Result<Arc<dyn ServerCertVerifier>, PeerError> {
    static SYSTEM: OnceLock<Arc<dyn ServerCertVerifier>> = OnceLock::new();
    if let Some(verifier) = SYSTEM.get() {
        return Ok(Arc::clone(verifier));
    }
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    let whole = found.errors.is_empty();
    roots.add_parsable_certificates(found.certs);
    let verifier = trusting(roots).map_err(|reason| PeerError::Local {
        doing: "reading the system's certificate authorities",
        reason: match found.errors.first() {
            Some(error) => error.to_string(),
            None => format!("{reason}; install ca-certificates or give a file"),
        },
    })?;
    // Those that could not be read just now may be readable later: too many files may have been open.
    if whole {
        return Ok(Arc::clone(SYSTEM.get_or_init(|| verifier)));
    }
    Ok(verifier)
}

fn trusting(roots: RootCertStore) -> Result<Arc<dyn ServerCertVerifier>, String> {
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map_err(|error| error.to_string())?;
    Ok(verifier)
}

async fn certificates(
    path: &Path,
    deadline: &Deadline,
) -> Result<Vec<CertificateDer<'static>>, PeerError> {
    let bytes = file::read(path, deadline).await?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| unusable(path, &error.to_string()))?;
    if found.is_empty() {
        return Err(unusable(path, "holds no certificate in PEM form"));
    }
    Ok(found)
}

/// The provider is explicit because the features of another crate could add a second one.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(rustls::crypto::ring::default_provider())))
}

fn unusable(path: &Path, reason: &str) -> PeerError {
    PeerError::File {
        path: path.to_owned(),
        reason: reason.to_owned(),
    }
}

fn tls(error: rustls::Error) -> PeerError {
    PeerError::Tls(error.to_string())
}
