//! TLS with clients: the certificate is chosen by the name that the client sends (SNI).

use std::{
    path::Path,
    sync::{Arc, OnceLock},
};

use lb_serve::tls::{certificates, private_key};
use rustls::{
    ServerConfig,
    client::verify_server_name,
    crypto::{CryptoProvider, ring},
    pki_types::ServerName,
    server::{ClientHello, ParsedCertificate, ProducesTickets, ResolvesServerCert},
    sign::CertifiedKey,
};

use crate::config::ListenerSettings;

/// Why the certificates of a listener cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or holds something else.
    #[error(transparent)]
    Files(#[from] lb_serve::tls::TlsError),
    /// The library refuses it.
    #[error("TLS of listener {0}: {1}")]
    Library(std::net::SocketAddr, rustls::Error),
    /// There is no randomness for tickets.
    #[error("TLS tickets: {0}")]
    Tickets(String),
}

/// The certificates of a listener.
#[derive(Debug)]
struct Certificates(Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello.server_name().and_then(|name| {
            let name = ServerName::try_from(name).ok()?;
            self.0.iter().find(|key| is_for(key, &name))
        });
        named.or_else(|| self.0.first()).cloned()
    }
}

fn is_for(key: &CertifiedKey, name: &ServerName<'_>) -> bool {
    key.cert
        .first()
        .and_then(|certificate| ParsedCertificate::try_from(certificate).ok())
        .is_some_and(|certificate| verify_server_name(&certificate, name).is_ok())
}

/// The provider is explicit because the features of another crate could add a second one.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(ring::default_provider())))
}

/// Tickets outlive a reload of the certificates, and all threads take each other's.
fn ticketer() -> Result<Arc<dyn ProducesTickets>, TlsError> {
    static TICKETER: OnceLock<Arc<dyn ProducesTickets>> = OnceLock::new();
    if let Some(ticketer) = TICKETER.get() {
        return Ok(Arc::clone(ticketer));
    }
    let ticketer = ring::Ticketer::new().map_err(|error| TlsError::Tickets(error.to_string()))?;
    Ok(Arc::clone(TICKETER.get_or_init(|| ticketer)))
}

/// Reads the certificates of a listener; `None` if it has none.
///
/// # Errors
/// The first file that cannot be used.
pub fn configure(listener: &ListenerSettings) -> Result<Option<Arc<ServerConfig>>, TlsError> {
    if listener.certificates.is_empty() {
        return Ok(None);
    }
    let mut keys = Vec::new();
    for one in &listener.certificates {
        keys.push(Arc::new(certified_key(&one.certificate, &one.key)?));
    }
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::Library(listener.address, error))?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Certificates(keys)));
    config.alpn_protocols = match listener.http2 {
        true => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        false => vec![b"http/1.1".to_vec()],
    };
    if listener.protocol == crate::config::Clients::Tcp {
        config.alpn_protocols.clear();
    }
    config.ticketer = ticketer()?;
    config.send_tls13_tickets = 2;
    Ok(Some(Arc::new(config)))
}

fn certified_key(certificate: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let chain = certificates(certificate)?;
    // This checks that they belong together.
    CertifiedKey::from_der(chain, private_key(key)?, &provider()).map_err(|error| {
        TlsError::Files(lb_serve::tls::TlsError::File {
            path: key.to_owned(),
            reason: error.to_string(),
        })
    })
}
