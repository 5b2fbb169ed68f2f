//! Where a client finds a server of the API.

use std::{fmt, path::PathBuf, str::FromStr};

use tonic::transport::Uri;

/// Where the agent listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A Unix socket.
    Unix(PathBuf),
    /// HTTP/2 without TLS.
    Http(Uri),
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const FORM: &str = "write unix:PATH or http://HOST:PORT";
        if let Some(path) = text.strip_prefix("unix:") {
            // `unix:///run/x` has an empty host and the path `/run/x`.
            let path = path.strip_prefix("//").unwrap_or(path);
            if path.is_empty() {
                return Err(format!("there is no path of a socket; {FORM}"));
            }
            return Ok(Endpoint::Unix(PathBuf::from(path)));
        }
        if text.starts_with("http://") {
            let uri: Uri = text.parse().map_err(|error| format!("{error}; {FORM}"))?;
            if uri.port().is_none() {
                return Err(format!("there is no port; {FORM}"));
            }
            return Ok(Endpoint::Http(uri));
        }
        Err(FORM.to_owned())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Unix(path) => write!(f, "unix:{}", path.display()),
            Endpoint::Http(uri) => write!(f, "{uri}"),
        }
    }
}

/// Returns the innermost cause: the message of the transport itself is only "transport error".
#[must_use]
pub fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_and_written() {
        for (text, written) in [
            ("unix:/run/lb-agent/api.sock", "unix:/run/lb-agent/api.sock"),
            (
                "unix:///run/lb-agent/api.sock",
                "unix:/run/lb-agent/api.sock",
            ),
            ("unix:api.sock", "unix:api.sock"),
            ("http://127.0.0.1:7000", "http://127.0.0.1:7000/"),
            ("http://[::1]:7000", "http://[::1]:7000/"),
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), written);
        }
    }

    #[test]
    fn what_is_no_endpoint_is_refused() {
        for text in [
            "",
            "unix:",
            "unix://",
            "/run/x",
            "https://host:1",
            "http://host",
            "http://",
            "http://a b:1",
        ] {
            assert!(
                text.parse::<Endpoint>()
                    .unwrap_err()
                    .contains("write unix:PATH"),
                "{text}"
            );
        }
    }
}
