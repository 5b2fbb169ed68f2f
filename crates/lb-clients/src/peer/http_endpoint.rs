//! A server that is asked over HTTP: its address, TLS and login.

use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr};

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header::CONTENT_TYPE};

use super::{
    Deadline, Stream, Target, Tls, TlsClient,
    http::{Authorization, Request, Response, exchange},
};

/// Where a server listens: `ADDRESS:PORT` or `unix:PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpAddress {
    /// TCP.
    Tcp(SocketAddr),
    /// A Unix socket of this machine.
    Unix(PathBuf),
}

impl FromStr for HttpAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const FORM: &str = "give ADDRESS:PORT, such as 127.0.0.1:9470, or unix:PATH";
        match text.strip_prefix("unix:") {
            // unix:///run/x and unix:/run/x are equivalent.
            Some(path) => match path.strip_prefix("//").unwrap_or(path) {
                "" => Err(FORM.to_owned()),
                path => Ok(HttpAddress::Unix(path.into())),
            },
            None => text
                .parse()
                .map(HttpAddress::Tcp)
                .map_err(|_| FORM.to_owned()),
        }
    }
}

impl fmt::Display for HttpAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HttpAddress::Tcp(address) => address.fmt(formatter),
            HttpAddress::Unix(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}

lb_model::text_setting!(HttpAddress, "`ADDRESS:PORT` or `unix:PATH`");

/// A server to read from, or to post to. Each request has a connection of its own.
#[derive(Debug)]
pub struct HttpEndpoint {
    address: HttpAddress,
    tls: Option<TlsClient>,
    host: String,
    authorization: Option<Authorization>,
}

impl HttpEndpoint {
    /// The server that listens there, without TLS and login.
    #[must_use]
    pub fn at(address: HttpAddress) -> Self {
        let host = match &address {
            HttpAddress::Tcp(address) => address.to_string(),
            HttpAddress::Unix(_) => "localhost".to_owned(),
        };
        HttpEndpoint {
            address,
            tls: None,
            host,
            authorization: None,
        }
    }

    /// The server at this address; plain HTTP without `tls`.
    #[must_use]
    pub fn new(
        address: SocketAddr,
        tls: Option<Tls>,
        authorization: Option<Authorization>,
    ) -> Self {
        HttpEndpoint {
            tls: TlsClient::of(tls.as_ref(), &["http/1.1"]),
            authorization,
            ..HttpEndpoint::at(HttpAddress::Tcp(address))
        }
    }

    /// Reads a path: `limit` bytes of the answer at most.
    ///
    /// # Errors
    /// Why there is no answer, with the address.
    pub async fn get(
        &mut self,
        path: &str,
        limit: usize,
        deadline: &Deadline,
    ) -> Result<Response, String> {
        self.ask(Method::GET, path, None, limit, deadline).await
    }

    /// Posts to a path: `limit` bytes of the answer at most.
    ///
    /// # Errors
    /// Why there is no answer, with the address.
    pub async fn post(
        &mut self,
        path: &str,
        body: &serde_json::Value,
        limit: usize,
        deadline: &Deadline,
    ) -> Result<Response, String> {
        self.ask(Method::POST, path, Some(body), limit, deadline)
            .await
    }

    async fn ask(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&serde_json::Value>,
        limit: usize,
        deadline: &Deadline,
    ) -> Result<Response, String> {
        let opened = match &self.address {
            HttpAddress::Tcp(address) => {
                let target = Target {
                    address: *address,
                    mark: None,
                };
                Stream::open(&target, self.tls.as_mut(), deadline).await
            }
            HttpAddress::Unix(path) => Stream::open_unix(path, deadline).await,
        };
        let stream = opened.map_err(|error| self.describe(path, &error))?;
        let json = [(CONTENT_TYPE, HeaderValue::from_static("application/json"))];
        let request = Request {
            method,
            path,
            host: &self.host,
            headers: if body.is_some() { &json } else { &[] },
            authorization: self.authorization.as_ref(),
            body: body.map_or_else(Bytes::new, |body| Bytes::from(body.to_string())),
        };
        exchange(stream, &request, limit, deadline)
            .await
            .map_err(|error| self.describe(path, &error))
    }

    /// Words about this server, with its address.
    pub fn describe(&self, path: &str, words: &impl fmt::Display) -> String {
        match &self.address {
            HttpAddress::Tcp(address) => format!("{address}{path}: {words}"),
            HttpAddress::Unix(_) => format!("{} {path}: {words}", self.address),
        }
    }
}

/// Advice about an answer with this status, with a semicolon before it; empty if there is none. `missing` says what to
/// check if the path does not exist.
#[must_use]
pub fn advice(status: StatusCode, missing: &str) -> String {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            "; check the username and password, or the token".to_owned()
        }
        StatusCode::NOT_FOUND => format!("; check {missing}"),
        _ if status.is_redirection() => "; redirects are not followed".to_owned(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        for (text, written) in [
            ("127.0.0.1:9470", "127.0.0.1:9470"),
            ("[::1]:9470", "[::1]:9470"),
            ("unix:/run/x.sock", "unix:/run/x.sock"),
            ("unix:///run/x.sock", "unix:/run/x.sock"),
        ] {
            assert_eq!(text.parse::<HttpAddress>().unwrap().to_string(), written);
        }
        for text in ["", "/run/x.sock", "unix:", "localhost:9470", "127.0.0.1"] {
            let error = text.parse::<HttpAddress>().unwrap_err();
            assert!(error.contains("unix:PATH"), "{text}: {error}");
        }
    }

    #[tokio::test]
    async fn a_server_at_a_unix_socket_is_asked() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let deadline = Deadline::after(std::time::Duration::from_secs(30));
        let mut endpoint = HttpEndpoint::at(HttpAddress::Unix(path.clone()));
        let error = endpoint.get("/v1/x", 100, &deadline).await.unwrap_err();
        let place = format!("unix:{} /v1/x: ", path.display());
        assert!(error.starts_with(&place), "{error}");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let serving = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
            stream.write_all(answer).await.unwrap();
            String::from_utf8(head).unwrap()
        });
        let answer = endpoint.get("/v1/x", 100, &deadline).await.unwrap();
        assert_eq!(&answer.whole().unwrap()[..], b"ok");
        let head = serving.await.unwrap();
        assert!(head.starts_with("GET /v1/x HTTP/1.1\r\n"), "{head}");
        assert!(
            head.to_ascii_lowercase().contains("host: localhost\r\n"),
            "{head}"
        );
    }
}
