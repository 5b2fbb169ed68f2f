//! Settings for connections to peers: secrets and TLS.

use std::{fmt, path::PathBuf, str::FromStr};

use crate::settings::{FieldError, SettingType, Type, Value};

/// A reference to a secret: `file:PATH` or `env:NAME`. The secret is read at each use, so that a change takes effect at
/// once. Only the reference is stored, listed or logged.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Secret {
    /// A file. Line ends after the content are not part of the secret.
    File(PathBuf),
    /// A variable of the agent's environment.
    Environment(String),
}

impl fmt::Display for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Secret::File(path) => write!(formatter, "file:{}", path.display()),
            Secret::Environment(name) => write!(formatter, "env:{name}"),
        }
    }
}

impl FromStr for Secret {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("file", path)) if path.starts_with('/') => Ok(Secret::File(path.into())),
            Some(("env", name))
                if !name.is_empty() && !name.contains(['=', '\0']) && name.is_ascii() =>
            {
                Ok(Secret::Environment(name.to_owned()))
            }
            // The text may be the secret itself, so the error does not repeat it.
            _ => Err(
                "give the place of the secret, file:/ABSOLUTE/PATH or env:NAME, never the secret itself"
                    .to_owned(),
            ),
        }
    }
}

impl SettingType for Secret {
    type Bound = ();

    fn describe() -> Type {
        Type::Text("`file:PATH` or `env:NAME`")
    }

    fn from_json(value: &Value) -> Result<Self, FieldError> {
        value
            .as_str()
            .unwrap_or_default()
            .parse()
            .map_err(|advice: String| FieldError::new("", "hidden", advice))
    }

    fn to_json(&self) -> Value {
        Value::String(self.to_string())
    }

    fn is_within(&self, _range: &std::ops::RangeInclusive<()>) -> bool {
        true
    }

    fn bound_text((): &()) -> String {
        String::new()
    }
}

crate::serde_by_json!(Secret);

crate::settings! {
    /// TLS with a peer.
    #[derive(Eq, Hash)]
    pub struct Tls {
        /// File of the trusted certificate authorities (PEM). The default is the system's.
        ca: Option<PathBuf> = None;
        /// Name to send (SNI), which the certificate must have. The default is the address.
        server_name: Option<String> = None;
        /// Whether the certificate must be valid.
        verify: bool = true;
        /// File of the client's certificate chain (PEM).
        certificate: Option<PathBuf> = None;
        /// File of the client's private key (PEM), together with `certificate`.
        key: Option<PathBuf> = None;
    }
    validate(tls) {
        match (&tls.certificate, &tls.key) {
            (Some(_), None) => Err(FieldError::missing("key", "give the key of the certificate, too")),
            (None, Some(_)) => Err(FieldError::missing("certificate", "give the certificate of the key, too")),
            _ => Ok(()),
        }
    }
}

impl Default for Tls {
    fn default() -> Self {
        Tls {
            ca: None,
            server_name: None,
            verify: true,
            certificate: None,
            key: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_named_by_its_place_and_never_repeated() {
        for text in ["file:/etc/password", "env:PASSWORD"] {
            assert_eq!(text.parse::<Secret>().unwrap().to_string(), text);
        }
        for text in ["hunter2", "file:relative", "env:", "env:A=B", "file:"] {
            let error = Secret::from_json(&Value::String(text.to_owned())).unwrap_err();
            assert!(!error.to_string().contains("hunter2"), "{error}");
            assert!(error.advice.contains("file:/ABSOLUTE/PATH"), "{error}");
        }
    }

    #[test]
    fn a_certificate_goes_with_its_key() {
        for (json, field) in [
            (serde_json::json!({ "certificate": "/c.pem" }), "key"),
            (serde_json::json!({ "key": "/k.pem" }), "certificate"),
        ] {
            assert_eq!(Tls::from_json(&json).unwrap_err().field, field);
        }
        assert_eq!(
            Tls::from_json(&serde_json::json!({})).unwrap(),
            Tls::default()
        );
    }
}
