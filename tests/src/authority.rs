//! Certificates for servers and clients of tests.

use std::{fs, path::Path};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair,
};

/// An authority that somebody trusts, or nobody.
#[derive(Debug)]
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    /// A new one.
    ///
    /// # Errors
    /// There is no randomness.
    pub fn new() -> anyhow::Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        Ok(Authority(issuer))
    }

    /// Its own certificate, in PEM form.
    #[must_use]
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for a name, and its key.
    ///
    /// # Errors
    /// The name cannot be one of a certificate.
    pub fn certify(&self, name: &str) -> anyhow::Result<(Certificate, KeyPair)> {
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate()?;
        Ok((params.signed_by(&key, &self.0)?, key))
    }

    /// Writes them to `FILE.pem` and `FILE.key` in a folder.
    ///
    /// # Errors
    /// As [`certify`](Self::certify), or the files cannot be written.
    pub fn issue(&self, folder: &Path, file: &str, name: &str) -> anyhow::Result<()> {
        let (certificate, key) = self.certify(name)?;
        fs::write(folder.join(format!("{file}.pem")), certificate.pem())?;
        fs::write(folder.join(format!("{file}.key")), key.serialize_pem())?;
        Ok(())
    }
}
