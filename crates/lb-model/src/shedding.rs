//! Shedding: what ends connections that steering wants off a real.

use std::{net::IpAddr, time::Duration};

use crate::peer::{Secret, Tls};
use crate::settings::FieldError;

/// How long one request may take by default.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(2);

crate::settings! {
    /// What ends connections that steering wants off a real, and where it is asked. Texts may hold `{address}` (the
    /// address that is asked) and `{real}` (the real's own).
    pub struct Shedding {
        /// Port that is asked; without it the way's own.
        port: Option<u16> = None, 1..=65_535;
        /// Address that is asked; without it the real's.
        address: Option<IpAddr> = None;
        /// User name; goes with `password`.
        username: Option<String> = None;
        /// Place of the password.
        password: Option<Secret> = None;
        /// Place of a bearer token, instead of a user name.
        token: Option<Secret> = None;
        /// How long one request may take. Without it 2 s.
        timeout: Option<Duration> = None, Duration::from_millis(10)..=Duration::from_secs(60);
        /// TLS; without it the connection is not encrypted.
        tls: Option<Tls> = None;
        ..way: "by" = "reset";
    }
    validate(shedding) {
        match (&shedding.username, &shedding.password, &shedding.token) {
            (Some(_), None, _) => Err(FieldError::missing("password", "a user name needs one")),
            (None, Some(_), _) => Err(FieldError::missing("username", "a password needs one")),
            (Some(_), Some(_), Some(_)) => Err(FieldError::new(
                "token",
                "given",
                "give a token, or a user name with its password; not both",
            )),
            _ => Ok(()),
        }
    }
}

impl Shedding {
    /// How long one request may take.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout.unwrap_or(DEFAULT_TIMEOUT)
    }
}

impl Default for Shedding {
    /// Flows are reset by the data plane.
    fn default() -> Self {
        crate::settings::from_map(&crate::settings::Map::new())
            .expect("every setting has a default")
    }
}
