//! TLS between hosts and their controller.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime},
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier},
    sign::CertifiedKey,
};

use crate::{
    ATTACH, MEMBERSHIP,
    authority::{Authority, CONTROLLER},
    token::Token,
};

/// How long the controller's own certificate lasts; it makes another one in time.
const CONTROLLER_LIFETIME: Duration = Duration::from_secs(30 * 86_400);

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The name by which hosts know any controller: what counts is its authority.
pub fn controller_name() -> Result<ServerName<'static>, rustls::Error> {
    ServerName::try_from(CONTROLLER).map_err(|error| rustls::Error::General(error.to_string()))
}

fn roots(authority: &CertificateDer<'_>) -> Result<Arc<RootCertStore>, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone().into_owned())?;
    Ok(Arc::new(roots))
}

/// The controller's certificate, made anew before it ends.
#[derive(Debug)]
struct OwnCertificate {
    authority: Arc<Authority>,
    made: Mutex<Option<(Instant, Arc<CertifiedKey>)>>,
}

impl OwnCertificate {
    fn make(&self) -> Result<Arc<CertifiedKey>, String> {
        let made = self.authority.controller(CONTROLLER_LIFETIME);
        let (certificate, key) = made.map_err(|error| error.to_string())?;
        // With the authority's, by which a host that joins knows it.
        let chain = vec![certificate, self.authority.certificate().clone()];
        CertifiedKey::from_der(chain, key, &provider())
            .map(Arc::new)
            .map_err(|error| error.to_string())
    }
}

impl ResolvesServerCert for OwnCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((since, key)) = &*made
            && since.elapsed() < CONTROLLER_LIFETIME / 2
        {
            return Some(Arc::clone(key));
        }
        match self.make() {
            Ok(key) => {
                *made = Some((Instant::now(), Arc::clone(&key)));
                Some(key)
            }
            Err(error) => {
                tracing::error!("hosts cannot connect: {error}");
                made.as_ref().map(|(_, key)| Arc::clone(key))
            }
        }
    }
}

/// The controller's end: whoever shows a certificate shows one of this authority.
pub fn controller(authority: Arc<Authority>) -> Result<ServerConfig, rustls::Error> {
    let verifier =
        WebPkiClientVerifier::builder_with_provider(roots(authority.certificate())?, provider())
            .allow_unauthenticated()
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
    let own = OwnCertificate {
        authority,
        made: Mutex::default(),
    };
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(own));
    config.alpn_protocols = vec![ATTACH.to_vec(), MEMBERSHIP.to_vec()];
    // Each connection shows its certificate, so that one that has ended is noticed.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// A host's end.
pub fn host(
    authority: &CertificateDer<'_>,
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    protocol: &[u8],
) -> Result<ClientConfig, rustls::Error> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots(authority)?)
        .with_client_auth_cert(vec![certificate], key)?;
    config.alpn_protocols = vec![protocol.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// The end of a machine that is to become a host: it knows the controller by the token.
pub fn newcomer(token: Token) -> Result<ClientConfig, rustls::Error> {
    let verifier = ByToken {
        token,
        provider: provider(),
    };
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![MEMBERSHIP.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// Trusts the authority whose digest the token has, and no other.
#[derive(Debug)]
struct ByToken {
    token: Token,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for ByToken {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let authority = intermediates.iter().find(|one| self.token.is_for(one));
        let Some(authority) = authority else {
            return Err(rustls::Error::General(
                "it is not the controller that made the token".to_owned(),
            ));
        };
        WebPkiServerVerifier::builder_with_provider(roots(authority)?, Arc::clone(&self.provider))
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
