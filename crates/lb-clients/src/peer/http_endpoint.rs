//! A server that is asked over HTTP: its address, TLS and login.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header::CONTENT_TYPE};

use super::{
    Deadline, Stream, Target, Tls, TlsClient,
    http::{Authorization, Request, Response, exchange},
};

/// A server to read from, or to post to. Each request has a connection of its own.
#[derive(Debug)]
pub struct HttpEndpoint {
    target: Target,
    tls: Option<TlsClient>,
    host: String,
    authorization: Option<Authorization>,
}

impl HttpEndpoint {
    /// The server at this address; plain HTTP without `tls`.
    #[must_use]
    pub fn new(
        address: SocketAddr,
        tls: Option<Tls>,
        authorization: Option<Authorization>,
    ) -> Self {
        HttpEndpoint {
            target: Target {
                address,
                mark: None,
            },
            tls: TlsClient::of(tls.as_ref(), &["http/1.1"]),
            host: address.to_string(),
            authorization,
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
        let stream = Stream::open(&self.target, self.tls.as_mut(), deadline)
            .await
            .map_err(|error| self.describe(path, &error))?;
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
    pub fn describe(&self, path: &str, words: &impl std::fmt::Display) -> String {
        format!("{}{path}: {words}", self.host)
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
