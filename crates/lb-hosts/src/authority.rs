//! The controller's authority: it signs its own certificate and those of its hosts, and nobody else's.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use lb_model::host::{HostName, HostNameError};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm, SigningKey as _,
};
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use time::OffsetDateTime;
use webpki::EndEntityCert;

use crate::token::{Digest, digest};

/// The name in the controller's certificate: hosts know it by its authority, whatever its address.
pub(crate) const CONTROLLER: &str = "controller.lb.invalid";
/// What follows a host's name in its certificate.
const HOST: &str = ".host.lb.invalid";
/// Bytes of a key: an uncompressed point of P-256.
const KEY: usize = 65;
/// How long the authority lasts.
const LIFETIME: Duration = Duration::from_secs(20 * 365 * 86_400);
/// Certificates begin so long ago: clocks differ.
const BEFORE: Duration = Duration::from_secs(60 * 60);
const KEY_FILE: &str = "authority.key";
const CERTIFICATE_FILE: &str = "authority.crt";

/// Why the authority cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file of it cannot be read or written.
    #[error("the authority of hosts: {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A file of it has something else.
    #[error(
        "the authority of hosts: {path}: {why}; restore it, or remove the folder and have all hosts join again"
    )]
    Content {
        /// The file.
        path: PathBuf,
        /// The cause.
        why: String,
    },
    /// It cannot sign.
    #[error("signing a certificate: {0}")]
    Sign(String),
}

fn sign(error: impl ToString) -> AuthorityError {
    AuthorityError::Sign(error.to_string())
}

/// The authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority")
    }
}

/// The public key of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostKey(Vec<u8>);

impl PublicKeyData for HostKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

/// What a host signs to prove that it has its key.
fn statement(name: &HostName, token: &str) -> Vec<u8> {
    format!("lb-host join {name} {token}").into_bytes()
}

impl HostKey {
    /// The key of a host that joins, if it has signed for it.
    #[must_use]
    pub fn proved(key: &[u8], proof: &[u8], name: &HostName, token: &str) -> Option<Self> {
        let signed = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key);
        signed.verify(&statement(name, token), proof).ok()?;
        (key.len() == KEY).then(|| HostKey(key.to_vec()))
    }

    /// The key, and the proof that the host has it.
    ///
    /// # Errors
    /// [`AuthorityError::Sign`].
    pub(crate) fn prove(
        pair: &KeyPair,
        name: &HostName,
        token: &str,
    ) -> Result<(Vec<u8>, Vec<u8>), AuthorityError> {
        let proof = pair.sign(&statement(name, token)).map_err(sign)?;
        Ok((pair.public_key_raw().to_vec(), proof))
    }

    /// Its digest, by which the controller knows the host.
    #[must_use]
    pub fn digest(&self) -> Digest {
        digest(&self.0)
    }
}

/// Who a certificate is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The host.
    pub name: HostName,
    /// Its key.
    pub key: HostKey,
}

/// Why a certificate is not that of a host.
#[derive(Debug, thiserror::Error)]
pub enum SubjectError {
    /// It cannot be read.
    #[error("the certificate cannot be read: {0}")]
    Form(webpki::Error),
    /// It names no host.
    #[error("the certificate is not that of a host")]
    NoHost,
    /// It names something else.
    #[error("{0}")]
    Name(#[from] HostNameError),
}

impl Subject {
    /// Reads whom a certificate is of.
    ///
    /// # Errors
    /// [`SubjectError`].
    pub fn read(certificate: &CertificateDer<'_>) -> Result<Self, SubjectError> {
        let parsed = EndEntityCert::try_from(certificate).map_err(SubjectError::Form)?;
        let mut names = parsed.valid_dns_names();
        let name = names
            .find_map(|name| name.strip_suffix(HOST))
            .ok_or(SubjectError::NoHost)?;
        let info = parsed.subject_public_key_info();
        // The key is the end of it; certificates of this authority have no other kind.
        let at = info.len().checked_sub(KEY).ok_or(SubjectError::NoHost)?;
        Ok(Subject {
            name: name.parse()?,
            key: HostKey(info[at..].to_vec()),
        })
    }
}

/// Writes a file that only its owner can read, as a whole or not at all.
pub(crate) fn write_private(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let new = path.with_extension("new");
    // One that was left is not taken for this one.
    let _ = fs::remove_file(&new);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    if let Some(folder) = path.parent() {
        fs::File::open(folder)?.sync_all()?;
    }
    Ok(())
}

fn validity(params: &mut CertificateParams, lifetime: Duration) {
    let now = OffsetDateTime::now_utc();
    params.not_before = now - BEFORE;
    params.not_after = now + lifetime;
}

/// What the authority's own certificate says.
fn own_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "lb-controller: authority of hosts");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    validity(&mut params, LIFETIME);
    params
}

impl Authority {
    /// Opens the authority in this folder, and makes it if there is none.
    ///
    /// # Errors
    /// [`AuthorityError`].
    pub fn open(folder: &Path) -> Result<Self, AuthorityError> {
        let (key, certificate) = (folder.join(KEY_FILE), folder.join(CERTIFICATE_FILE));
        let file = |path: &Path| {
            let path = path.to_owned();
            move |source| AuthorityError::File { path, source }
        };
        let content = |path: &Path| {
            let path = path.to_owned();
            move |why: String| AuthorityError::Content { path, why }
        };
        // The certificate is written last: with it, the authority is whole.
        if certificate.exists() {
            let key_pem = fs::read_to_string(&key).map_err(file(&key))?;
            let pem = fs::read(&certificate).map_err(file(&certificate))?;
            let pair =
                KeyPair::from_pem(&key_pem).map_err(|error| content(&key)(error.to_string()))?;
            let der = CertificateDer::from_pem_slice(&pem)
                .map_err(|error| content(&certificate)(error.to_string()))?
                .into_owned();
            let anchor = webpki::anchor_from_trusted_cert(&der)
                .map_err(|error| content(&certificate)(error.to_string()))?;
            if !anchor
                .subject_public_key_info
                .ends_with(pair.public_key_raw())
            {
                return Err(content(&certificate)(format!(
                    "it is not that of the key {}",
                    key.display()
                )));
            }
            return Ok(Authority {
                issuer: Issuer::new(own_params(), pair),
                certificate: der,
            });
        }
        fs::create_dir_all(folder).map_err(file(folder))?;
        let pair = KeyPair::generate().map_err(sign)?;
        let params = own_params();
        let made = params.self_signed(&pair).map_err(sign)?;
        write_private(&key, pair.serialize_pem().as_bytes()).map_err(file(&key))?;
        write_private(&certificate, made.pem().as_bytes()).map_err(file(&certificate))?;
        Ok(Authority {
            certificate: made.der().clone(),
            issuer: Issuer::new(params, pair),
        })
    }

    /// Its certificate.
    #[must_use]
    pub const fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Makes a key and a certificate for the controller itself.
    ///
    /// # Errors
    /// [`AuthorityError::Sign`].
    pub(crate) fn controller(
        &self,
        lifetime: Duration,
    ) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), AuthorityError> {
        let pair = KeyPair::generate().map_err(sign)?;
        let mut params = CertificateParams::new([CONTROLLER.to_owned()]).map_err(sign)?;
        params
            .distinguished_name
            .push(DnType::CommonName, "lb-controller");
        params.insert_extended_key_usage(ExtendedKeyUsagePurpose::ServerAuth);
        validity(&mut params, lifetime);
        let made = params.signed_by(&pair, &self.issuer).map_err(sign)?;
        let key = PrivateKeyDer::try_from(pair.serialize_der()).map_err(sign)?;
        Ok((made.der().clone(), key))
    }

    /// Makes a host's certificate.
    ///
    /// # Errors
    /// [`AuthorityError::Sign`].
    pub fn host(
        &self,
        name: &HostName,
        key: &HostKey,
        lifetime: Duration,
    ) -> Result<CertificateDer<'static>, AuthorityError> {
        let mut params = CertificateParams::new([format!("{name}{HOST}")]).map_err(sign)?;
        params
            .distinguished_name
            .push(DnType::CommonName, name.as_str());
        params.insert_extended_key_usage(ExtendedKeyUsagePurpose::ClientAuth);
        validity(&mut params, lifetime);
        let made = params.signed_by(key, &self.issuer).map_err(sign)?;
        Ok(made.der().clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_made_once_and_names_hosts() {
        let folder = tempfile::tempdir().unwrap();
        let one = Authority::open(folder.path()).unwrap();
        let again = Authority::open(folder.path()).unwrap();
        assert_eq!(one.certificate(), again.certificate());
        let pair = KeyPair::generate().unwrap();
        let hour = Duration::from_secs(3_600);
        let name: HostName = "h1".parse().unwrap();
        let (key, proof) = HostKey::prove(&pair, &name, "token").unwrap();
        let proved = HostKey::proved(&key, &proof, &name, "token").unwrap();
        let made = again.host(&name, &proved, hour).unwrap();
        let subject = Subject::read(&made).unwrap();
        assert_eq!((&subject.name, &subject.key), (&name, &proved));
        let other = KeyPair::generate().unwrap();
        let (other_key, _) = HostKey::prove(&other, &name, "token").unwrap();
        // Whoever has not the key has no proof of it, and a proof is for one name and token.
        assert_eq!(HostKey::proved(&other_key, &proof, &name, "token"), None);
        assert_eq!(HostKey::proved(&key, &proof, &name, "another"), None);
        assert_eq!(HostKey::proved(b"none", &proof, &name, "token"), None);
        Subject::read(one.certificate()).unwrap_err();
    }

    #[test]
    fn an_authority_that_is_damaged_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        Authority::open(folder.path()).unwrap();
        let other = tempfile::tempdir().unwrap();
        Authority::open(other.path()).unwrap();
        fs::copy(other.path().join(KEY_FILE), folder.path().join(KEY_FILE)).unwrap();
        let error = Authority::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("not that of the key"), "{error}");
        fs::write(folder.path().join(CERTIFICATE_FILE), "damaged").unwrap();
        let error = Authority::open(folder.path()).unwrap_err().to_string();
        assert!(
            error.contains("authority.crt") && error.contains("join again"),
            "{error}"
        );
    }
}
