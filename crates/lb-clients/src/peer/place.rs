//! A place that answers HTTP: where it is, how it is reached, and who asks.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header::CONTENT_TYPE};

use super::{
    Deadline, Stream, Target, Tls, TlsClient,
    http::{Authorization, Request, Response, exchange},
};

/// A place to read from, or to post to. Each request is on a connection of its own.
#[derive(Debug)]
pub struct Place {
    target: Target,
    tls: Option<TlsClient>,
    host: String,
    authorization: Option<Authorization>,
}

impl Place {
    /// The server at this address; plain HTTP without `tls`.
    #[must_use]
    pub fn new(
        address: SocketAddr,
        tls: Option<Tls>,
        authorization: Option<Authorization>,
    ) -> Self {
        Place {
            target: Target {
                address,
                mark: None,
            },
            tls: tls.map(|tls| TlsClient::new(tls, &["http/1.1"])),
            host: address.to_string(),
            authorization,
        }
    }

    /// What is there: `limit` bytes of it at most.
    ///
    /// # Errors
    /// Why there is no answer, with the place.
    pub async fn get(
        &mut self,
        path: &str,
        limit: usize,
        deadline: &Deadline,
    ) -> Result<Response, String> {
        self.ask(Method::GET, path, None, limit, deadline).await
    }

    /// What is answered to this: `limit` bytes of it at most.
    ///
    /// # Errors
    /// Why there is no answer, with the place.
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
            .map_err(|error| self.says(path, &error))?;
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
            .map_err(|error| self.says(path, &error))
    }

    /// Words of or about this place, with its name.
    pub fn says(&self, path: &str, words: &impl std::fmt::Display) -> String {
        format!("{}{path}: {words}", self.host)
    }
}

/// What may help against an answer with this status; empty, or with a semicolon before it. `missing`: where to look
/// if nothing is there.
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
