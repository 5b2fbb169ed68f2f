//! One bounded POST of JSON on a connection of its own.

use std::net::IpAddr;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header::CONTENT_TYPE};

use super::spec::Asked;
use crate::peer::{
    Deadline, Stream, Target, TlsClient,
    http::{Request, exchange},
};

/// Bytes of an answer that are read at most: it says no more than what went wrong.
const MAX_BODY: usize = 4 << 10;

/// Characters of an answer that are told.
const SAID: usize = 200;

/// A place to post to.
pub struct Post {
    asked: Asked,
    target: Target,
    tls: Option<TlsClient>,
    host: String,
}

impl Post {
    /// Whom to ask about this real.
    pub fn new(asked: &Asked, real: IpAddr) -> Self {
        let address = asked.target(real);
        Post {
            target: Target {
                address,
                mark: None,
            },
            tls: asked
                .tls
                .clone()
                .map(|tls| TlsClient::new(tls, &["http/1.1"])),
            host: address.to_string(),
            asked: asked.clone(),
        }
    }

    /// Posts, and gives back what was answered, as far as it is text.
    ///
    /// # Errors
    /// Why there is no answer, with the place.
    pub async fn send(
        &mut self,
        path: &str,
        body: &serde_json::Value,
    ) -> Result<(StatusCode, String), String> {
        let deadline = Deadline::after(self.asked.timeout);
        let place = |reason: String| format!("{}{path}: {reason}", self.host);
        let stream = Stream::open(&self.target, self.tls.as_mut(), &deadline)
            .await
            .map_err(|error| place(error.to_string()))?;
        let request = Request {
            method: Method::POST,
            path,
            host: &self.host,
            headers: &[(CONTENT_TYPE, HeaderValue::from_static("application/json"))],
            authorization: self.asked.login.as_ref(),
            body: Bytes::from(body.to_string()),
        };
        let response = exchange(stream, &request, MAX_BODY, &deadline)
            .await
            .map_err(|error| place(error.to_string()))?;
        let body = String::from_utf8_lossy(&response.body).into_owned();
        Ok((response.status, body))
    }

    /// What another answer than the wanted one means, in words for the operator.
    pub fn refusal(&self, path: &str, status: StatusCode, body: &str) -> String {
        let advice = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                "; check the username and password, or the token"
            }
            StatusCode::NOT_FOUND => "; check the path, the port and the node's name",
            _ if status.is_redirection() => "; redirects are not followed",
            _ => "",
        };
        let said: String = body
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(SAID)
            .collect();
        let said = match said.trim() {
            "" => String::new(),
            said => format!(": {said}"),
        };
        format!("{}{path}: answered {status}{said}{advice}", self.host)
    }
}
