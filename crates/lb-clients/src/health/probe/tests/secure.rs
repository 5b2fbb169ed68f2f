//! TLS, right and wrong.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{RootCertStore, ServerConfig, pki_types::PrivateKeyDer, server::WebPkiClientVerifier};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsAcceptor;

use super::{
    peer::{says, serve},
    *,
};
use crate::peer::Tls;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// An authority with files.
struct Authority {
    folder: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer =
            CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Authority { folder, issuer }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn issue(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let parameters = CertificateParams::new([name.to_owned()]).unwrap();
        (parameters.signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// A server of this name.
    async fn serve(&self, name: &str, wants_certificate: bool) -> SocketAddr {
        let (certificate, key) = self.issue(name);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = if wants_certificate {
            let mut roots = RootCertStore::empty();
            roots.add(self.issuer.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .unwrap();
            builder.with_client_cert_verifier(verifier)
        } else {
            builder.with_no_client_auth()
        };
        let config = builder
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            )
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        serve(move |stream| {
            let acceptor = acceptor.clone();
            async move {
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    let mut request = [0; 1_024];
                    let _ = stream.read(&mut request).await;
                    let _ = stream.write_all(OK).await;
                    let _ = stream.shutdown().await;
                }
            }
        })
        .await
    }

    fn client(&self) -> Tls {
        Tls {
            ca: Some(self.path("ca.pem")),
            ..Tls::default()
        }
    }
}

fn https(tls: Tls) -> Component {
    Component::new(
        "http",
        &Http {
            tls: Some(tls),
            ..Http::default()
        },
    )
}

#[tokio::test]
async fn certificates_are_verified() {
    let (authority, other) = (Authority::new(), Authority::new());
    let address = authority.serve("www.example", false).await;
    let named = |tls: Tls, name: &str| Tls {
        server_name: Some(name.to_owned()),
        ..tls
    };
    let good = named(authority.client(), "www.example");
    assert_outcome(&ask(https(good), address).await, Verdict::Healthy, "200 OK");
    for (tls, says) in [
        (
            named(authority.client(), "mail.example"),
            "TLS: invalid peer certificate",
        ),
        // The certificate is of a name, not of the address.
        (authority.client(), "TLS: invalid peer certificate"),
        (
            named(other.client(), "www.example"),
            "TLS: invalid peer certificate",
        ),
    ] {
        assert_outcome(&ask(https(tls), address).await, Verdict::Unhealthy, says);
    }
    // A file of this host says nothing about the server.
    let missing = Tls {
        ca: Some(authority.path("none.pem")),
        ..Tls::default()
    };
    let outcome = ask(https(missing), address).await;
    assert_outcome(&outcome, Verdict::Inconclusive, "none.pem");
    let unverified = Tls {
        verify: false,
        ..Tls::default()
    };
    assert_outcome(
        &ask(https(unverified), address).await,
        Verdict::Healthy,
        "200 OK",
    );

    let address = authority.serve("127.0.0.1", false).await;
    let outcome = ask(https(authority.client()), address).await;
    assert_outcome(&outcome, Verdict::Healthy, "200 OK");
}

#[tokio::test]
async fn a_client_has_a_certificate() {
    let authority = Authority::new();
    let address = authority.serve("127.0.0.1", true).await;
    let without = ask(https(authority.client()), address).await;
    assert_outcome(&without, Verdict::Unhealthy, "TLS: received fatal alert");
    let (certificate, key) = authority.issue("prober");
    std::fs::write(authority.path("cert.pem"), certificate.pem()).unwrap();
    std::fs::write(authority.path("key.pem"), key.serialize_pem()).unwrap();
    let tls = Tls {
        certificate: Some(authority.path("cert.pem")),
        key: Some(authority.path("key.pem")),
        ..authority.client()
    };
    assert_outcome(
        &ask(https(tls.clone()), address).await,
        Verdict::Healthy,
        "200 OK",
    );
    std::fs::write(authority.path("key.pem"), "no key").unwrap();
    assert_outcome(
        &ask(https(tls), address).await,
        Verdict::Inconclusive,
        "no private key",
    );
}

#[tokio::test]
async fn files_that_change_are_read_again() {
    let (old, new) = (Authority::new(), Authority::new());
    let mut check = Check::new(https(old.client()));
    check.interval = NEVER / 2;
    check.timeout = Some(NEVER / 2);
    let address = new.serve("127.0.0.1", false).await;
    let target = Target {
        address,
        mark: None,
    };
    let mut prober = Prober::new(
        &check,
        "10.0.0.1:443/tcp".parse().unwrap(),
        address.ip().into(),
    );
    assert_outcome(&prober.run(&target).await, Verdict::Unhealthy, "TLS");
    let mut pem = std::fs::read(new.path("ca.pem")).unwrap();
    // Another length, so that a coarse clock does not matter.
    pem.extend(b"\n\n\n");
    std::fs::write(old.path("ca.pem"), pem).unwrap();
    assert_outcome(&prober.run(&target).await, Verdict::Healthy, "200 OK");
}

#[tokio::test]
async fn tls_and_none_do_not_meet() {
    let authority = Authority::new();
    let plain = says(OK).await;
    let outcome = ask(https(authority.client()), plain).await;
    assert_outcome(&outcome, Verdict::Unhealthy, "TLS: ");
    let secure = authority.serve("127.0.0.1", false).await;
    for probe in talkers() {
        let outcome = ask_within(probe, secure, TIMEOUT).await;
        assert_eq!(outcome.verdict, Verdict::Unhealthy, "{outcome:?}");
    }
    let silent = serve(|stream| async move {
        tokio::time::sleep(NEVER).await;
        drop(stream);
    })
    .await;
    let outcome = ask_within(https(authority.client()), silent, TIMEOUT).await;
    assert_outcome(&outcome, Verdict::Unhealthy, "while shaking hands over TLS");
}
