//! What a host knows of itself, in its folder: its name, its controller, its key and certificate.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use lb_model::host::HostName;
use lb_proto::host::v1::MembershipCard;
use rcgen::KeyPair;
use rustls::{
    ClientConfig,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use serde::{Deserialize, Serialize};

use crate::{
    authority::{AuthorityError, Subject, write_private},
    tls,
};

const KEY_FILE: &str = "host.key";
const CARD_FILE: &str = "host.json";
const DRIVERS_FILE: &str = "drivers.json";

/// Why a host's folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// It never joined.
    #[error(
        "{0} has no host: get a token from the controller (`lbctl host token`) and give it with --join"
    )]
    NotJoined(PathBuf),
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A file has something else.
    #[error("{path}: {why}; remove the folder's files and join again with a new token")]
    Content {
        /// The file.
        path: PathBuf,
        /// The cause.
        why: String,
    },
    /// A request could not be signed.
    #[error("{0}")]
    Sign(#[from] AuthorityError),
}

/// As it is stored: the certificates are hexadecimal digits of DER.
#[derive(Debug, Serialize, Deserialize)]
struct Card {
    name: HostName,
    controller: String,
    address: String,
    authority: String,
    certificate: String,
    /// Since 1970, in seconds: when the certificate was made, and when it ends.
    issued: u64,
    ends: u64,
}

/// A host that has joined.
pub struct Identity {
    folder: PathBuf,
    key: KeyPair,
    /// Its name.
    pub name: HostName,
    /// The name of the controller.
    pub controller: String,
    /// Where the controller is: HOST:PORT.
    pub address: String,
    authority: CertificateDer<'static>,
    certificate: CertificateDer<'static>,
    issued: SystemTime,
    ends: SystemTime,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identity({} of {})", self.name, self.controller)
    }
}

/// The host's key, made when it is first needed.
///
/// # Errors
/// [`IdentityError`].
pub fn key(folder: &Path) -> Result<KeyPair, IdentityError> {
    let path = folder.join(KEY_FILE);
    let file = |source| IdentityError::File {
        path: path.clone(),
        source,
    };
    match fs::read_to_string(&path) {
        Ok(pem) => KeyPair::from_pem(&pem).map_err(|error| IdentityError::Content {
            path: path.clone(),
            why: error.to_string(),
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            fs::create_dir_all(folder).map_err(file)?;
            let key =
                KeyPair::generate().map_err(|error| AuthorityError::Sign(error.to_string()))?;
            write_private(&path, key.serialize_pem().as_bytes()).map_err(file)?;
            Ok(key)
        }
        Err(error) => Err(file(error)),
    }
}

impl Identity {
    /// Reads who this host is.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn open(folder: &Path) -> Result<Self, IdentityError> {
        let path = folder.join(CARD_FILE);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(IdentityError::NotJoined(folder.to_owned()));
            }
            other => other.map_err(|source| IdentityError::File {
                path: path.clone(),
                source,
            })?,
        };
        let content = |why: String| IdentityError::Content {
            path: path.clone(),
            why,
        };
        let card: Card = serde_json::from_str(&text).map_err(|error| content(error.to_string()))?;
        let der = |text: &str| {
            hex::decode(text)
                .map(CertificateDer::from)
                .map_err(|error| content(error.to_string()))
        };
        let certificate = der(&card.certificate)?;
        Subject::read(&certificate).map_err(|error| content(error.to_string()))?;
        Ok(Identity {
            key: key(folder)?,
            folder: folder.to_owned(),
            name: card.name,
            controller: card.controller,
            address: card.address,
            authority: der(&card.authority)?,
            certificate,
            issued: SystemTime::UNIX_EPOCH + Duration::from_secs(card.issued),
            ends: SystemTime::UNIX_EPOCH + Duration::from_secs(card.ends),
        })
    }

    /// Takes up what a controller has answered, and stores it.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn accept(
        folder: &Path,
        address: &str,
        answer: &MembershipCard,
    ) -> Result<Self, IdentityError> {
        let path = folder.join(CARD_FILE);
        let content = |why: String| IdentityError::Content {
            path: path.clone(),
            why,
        };
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let card = Card {
            name: answer
                .name
                .parse()
                .map_err(|_| content("the controller gave it a wrong name".to_owned()))?,
            controller: answer.controller.clone(),
            address: address.to_owned(),
            authority: hex::encode(&answer.authority),
            certificate: hex::encode(&answer.certificate),
            issued: now.unwrap_or_default().as_secs(),
            ends: answer.ends,
        };
        let text =
            serde_json::to_string_pretty(&card).map_err(|error| content(error.to_string()))?;
        write_private(&path, text.as_bytes()).map_err(|source| IdentityError::File {
            path: path.clone(),
            source,
        })?;
        Self::open(folder)
    }

    /// How long the certificate lasts from now on.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.ends
            .duration_since(SystemTime::now())
            .unwrap_or_default()
    }

    /// How long to wait until it is to be renewed: when half of its time is over.
    #[must_use]
    pub fn until_renewal(&self) -> Duration {
        let all = self.ends.duration_since(self.issued).unwrap_or_default();
        self.left().saturating_sub(all / 2)
    }

    pub(crate) fn tls(&self, protocol: &[u8]) -> Result<ClientConfig, rustls::Error> {
        let key = PrivateKeyDer::try_from(self.key.serialize_der())
            .map_err(|error| rustls::Error::General(error.to_owned()))?;
        tls::host(&self.authority, self.certificate.clone(), key, protocol)
    }

    /// The host's folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

/// The drivers that were used on this host.
pub(crate) fn drivers(folder: &Path) -> Vec<String> {
    let text = fs::read_to_string(folder.join(DRIVERS_FILE)).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

pub(crate) fn note_drivers(folder: &Path, drivers: &[String]) -> std::io::Result<()> {
    let text = serde_json::to_string(drivers)?;
    write_private(&folder.join(DRIVERS_FILE), text.as_bytes())
}
