//! What a client says when it connects.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rumqttc::{
    mqttbytes::{QoS, v4},
    v5::mqttbytes::{QoS as QoS5, v5},
};

use super::Version;
use crate::peer::{Deadline, PeerError, Secret, http::Authorization, secret};

/// Every broker accepts client ids of this many letters and digits (MQTT 3.1.1 section 3.1.3.1).
const CLIENT_ID_LENGTH: usize = 23;

/// A CONNECT packet. It always asks for a clean session: nothing is kept for this client when it is gone.
#[derive(Clone, Debug)]
pub struct Connect {
    /// The version of the protocol.
    pub version: Version,
    /// The client's name, which no other client of the broker may have at the same time.
    pub client_id: String,
    /// The longest silence of the client, in whole seconds up to 65535.
    pub keep_alive: Duration,
    /// The user. `None` connects anonymously.
    pub login: Option<Login>,
    /// What the broker publishes when the connection breaks.
    pub will: Option<Will>,
}

/// A user of the broker.
#[derive(Clone, Debug)]
pub struct Login {
    /// The name.
    pub username: String,
    /// The password, read each time a client connects. `None` sends an empty one.
    pub password: Option<Secret>,
}

/// A retained message that the broker publishes when it loses the client.
#[derive(Clone, Debug)]
pub struct Will {
    /// The topic.
    pub topic: String,
    /// The message. An empty one removes the retained message of the topic.
    pub payload: Bytes,
}

impl Login {
    /// The login of an HTTP-style setting. MQTT has no bearer tokens, so a token logs in anonymously.
    #[must_use]
    pub fn from_authorization(authorization: Option<&Authorization>) -> Option<Self> {
        match authorization {
            Some(Authorization::Basic { username, password }) => Some(Login {
                username: username.clone(),
                password: Some(password.clone()),
            }),
            Some(Authorization::Bearer { .. }) | None => None,
        }
    }
}

/// A client id that no other client has: `prefix` and random hexadecimal digits, 23 characters in all.
#[must_use]
pub fn random_client_id(prefix: &str) -> String {
    let random = getrandom::u64().unwrap_or_else(|_| fastrand::u64(..));
    let mut id = format!("{prefix}{random:016x}");
    id.truncate(CLIENT_ID_LENGTH);
    id
}

impl Connect {
    /// The packet's bytes. The password is read here.
    pub(super) async fn encode(&self, deadline: &Deadline) -> Result<BytesMut, PeerError> {
        let login = match &self.login {
            Some(login) => {
                let password = match &login.password {
                    Some(password) => secret::read(password, deadline).await?.expose().to_owned(),
                    None => String::new(),
                };
                Some((login.username.clone(), password))
            }
            None => None,
        };
        let keep_alive = u16::try_from(self.keep_alive.as_secs()).unwrap_or(u16::MAX);
        let mut bytes = BytesMut::new();
        match self.version {
            Version::V311 => {
                let mut connect = v4::Connect::new(self.client_id.clone());
                connect.keep_alive = keep_alive;
                connect.last_will = self.will.as_ref().map(|will| {
                    v4::LastWill::new(&will.topic, will.payload.to_vec(), QoS::AtLeastOnce, true)
                });
                if let Some((username, password)) = login {
                    connect.set_login(username, password);
                }
                connect.write(&mut bytes).map_err(unwritable)?;
            }
            Version::V5 => {
                let connect = v5::Connect {
                    keep_alive,
                    client_id: self.client_id.clone(),
                    clean_start: true,
                    properties: None,
                };
                let will = self.will.as_ref().map(|will| {
                    let payload = will.payload.to_vec();
                    v5::LastWill::new(&will.topic, payload, QoS5::AtLeastOnce, true, None)
                });
                let login = login.map(|(username, password)| v5::Login { username, password });
                connect
                    .write(&will, &login, &mut bytes)
                    .map_err(unwritable)?;
            }
        }
        Ok(bytes)
    }
}

fn unwritable(error: impl std::fmt::Debug) -> PeerError {
    PeerError::Request(format!("the CONNECT packet: {error:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_ids_differ_and_fit_any_broker() {
        let (one, other) = (random_client_id("lbreport"), random_client_id("lbreport"));
        assert_ne!(one, other);
        assert_eq!(one.len(), CLIENT_ID_LENGTH);
        assert!(one.chars().all(|letter| letter.is_ascii_alphanumeric()));
        assert_eq!(random_client_id("lb").len(), 18);
    }
}
