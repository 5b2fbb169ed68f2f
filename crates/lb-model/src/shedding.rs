//! Shedding: how connections end that steering wants to move off a real.

use std::{net::IpAddr, time::Duration};

use crate::peer::{Secret, Tls};
use crate::settings::FieldError;

/// The kind that sends no request: the data plane resets flows.
pub const RESET: &str = "reset";
/// The default time that a request may take.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(2);

crate::settings! {
    /// How connections end that steering wants to move off a real, and where that is requested. Texts may contain
    /// `{address}` (the address that gets the request) and `{real}` (the real's own).
    pub struct Shedding {
        /// Port for requests. The default depends on the kind.
        port: Option<u16> = None, 1..=65_535;
        /// Address for requests. The default is the real's.
        address: Option<IpAddr> = None;
        /// User name, together with `password`.
        username: Option<String> = None;
        /// Reference to the password.
        password: Option<Secret> = None;
        /// Reference to a bearer token, instead of a user name.
        token: Option<Secret> = None;
        /// How long a request may take. The default is 2 s.
        timeout: Option<Duration> = None, Duration::from_millis(10)..=Duration::from_secs(60);
        /// TLS. The default is no encryption.
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
    /// Returns how long a request may take.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout.unwrap_or(DEFAULT_TIMEOUT)
    }
}

impl Default for Shedding {
    /// Returns the default: the data plane resets flows.
    fn default() -> Self {
        crate::settings::defaults()
    }
}
