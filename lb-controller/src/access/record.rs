//! What is stored of users and tokens.

use std::{collections::BTreeMap, time::Duration};

use lb_serve::auth::digest::{self, Algorithm};
use serde::{Deserialize, Serialize};

use super::{Grant, Role};
use crate::records::Record;

/// A user. Key: its name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UserRecord {
    /// Its name.
    pub name: String,
    /// When it was added, since 1970.
    pub created: Duration,
    /// Its roles.
    pub grants: Vec<Grant>,
    /// What is stored of its password, by the algorithm's name. Without one, only a certificate of its name counts.
    #[serde(default)]
    pub secrets: BTreeMap<String, String>,
}

impl Record for UserRecord {
    const TABLE: &'static str = "users";
    const WHAT: &'static str = "user";
}

impl UserRecord {
    /// Has it a password.
    pub fn set_password(&mut self, realm: &str, password: &str, algorithms: &[Algorithm]) {
        let secret = |algorithm: &Algorithm| {
            let secret = digest::secret(*algorithm, &self.name, realm, password);
            (algorithm.name().to_owned(), secret)
        };
        self.secrets = algorithms.iter().map(secret).collect();
    }
}

/// A token. Key: its id.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// Its id.
    pub id: String,
    /// What it is for.
    #[serde(default)]
    pub description: String,
    /// Id of the project; `None` is the whole controller.
    pub project: Option<u64>,
    /// The role.
    pub role: Role,
    /// When it was added, since 1970.
    pub created: Duration,
    /// When it ends, since 1970.
    #[serde(default)]
    pub expires: Option<Duration>,
    /// The hash of its text.
    pub hash: String,
}

impl Record for TokenRecord {
    const TABLE: &'static str = "tokens";
    const WHAT: &'static str = "token";
}
