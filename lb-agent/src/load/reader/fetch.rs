//! What is read over HTTP: one bounded GET on a connection of its own.

use std::net::IpAddr;

use bytes::Bytes;
use http::{Method, StatusCode};

use crate::{
    load::spec::Source,
    peer::{
        Deadline, Stream, Target, TlsClient,
        http::{Authorization, Request, exchange},
    },
};

/// Bytes of an answer that are read at most. RabbitMQ's aggregated metrics are about 100 KiB, a large
/// node_exporter's 300 KiB.
pub const MAX_BODY: usize = 1 << 20;

/// A place to read from.
#[derive(Debug)]
pub(super) struct Fetch {
    target: Target,
    tls: Option<TlsClient>,
    host: String,
    path: String,
    authorization: Option<Authorization>,
}

impl Fetch {
    /// This path of the source at this real.
    pub(super) fn new(source: &Source, real: IpAddr, path: &str) -> Self {
        let address = source.target(real);
        Fetch {
            target: Target {
                address,
                mark: None,
            },
            tls: source
                .tls
                .clone()
                .map(|tls| TlsClient::new(tls, &["http/1.1"])),
            host: address.to_string(),
            path: source.fill(path, real),
            authorization: source.login.clone(),
        }
    }

    /// The body of the answer.
    pub(super) async fn get(&mut self, deadline: &Deadline) -> Result<Bytes, String> {
        let place = |reason: String| format!("{}{}: {reason}", self.host, self.path);
        let stream = Stream::open(&self.target, self.tls.as_mut(), deadline)
            .await
            .map_err(|error| place(error.to_string()))?;
        let request = Request {
            method: Method::GET,
            path: &self.path,
            host: &self.host,
            headers: &[],
            authorization: self.authorization.as_ref(),
            body: Bytes::new(),
        };
        let response = exchange(stream, &request, MAX_BODY, deadline)
            .await
            .map_err(|error| place(error.to_string()))?;
        let status = response.status;
        if status != StatusCode::OK {
            let advice = match status {
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                    "; check the source's username and password, or its token"
                }
                StatusCode::NOT_FOUND => "; check the source's path and port",
                _ if status.is_redirection() => "; redirects are not followed",
                _ => "",
            };
            return Err(place(format!("answered {status}{advice}")));
        }
        response.whole().map_err(|error| place(error.to_string()))
    }
}
