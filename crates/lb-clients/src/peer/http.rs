//! One HTTP/1.1 request over a connection of its own. Redirects are not followed.

use std::pin::pin;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
    header::{AUTHORIZATION, CONNECTION, HOST, USER_AGENT},
};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};

use super::{Deadline, PeerError, Secret, Stream, secret};

/// Bytes of a response's head that are read at most.
const MAX_HEAD: usize = 64 << 10;
/// Header fields of a response that are read at most.
const MAX_FIELDS: usize = 500;
const AGENT: &str = concat!("lb-agent/", env!("CARGO_PKG_VERSION"));
const ANSWER: &str = "waiting for the answer";

/// The login of a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum Authorization {
    /// User name and password (RFC 7617).
    Basic {
        /// The user, or the name of an API key.
        username: String,
        /// The password, or the secret of the API key.
        password: Secret,
    },
    /// A bearer token (RFC 6750).
    Bearer {
        /// The token.
        token: Secret,
    },
}

impl Authorization {
    /// The login that settings name: a token, or a user name with its password.
    #[must_use]
    pub fn new(
        username: Option<String>,
        password: Option<Secret>,
        token: Option<Secret>,
    ) -> Option<Self> {
        match (username.zip(password), token) {
            (_, Some(token)) => Some(Authorization::Bearer { token }),
            (Some((username, password)), None) => Some(Authorization::Basic { username, password }),
            (None, None) => None,
        }
    }

    async fn header(&self, deadline: &Deadline) -> Result<HeaderValue, PeerError> {
        let (place, text) = match self {
            Authorization::Basic { username, password } => {
                let content = secret::read(password, deadline).await?;
                let pair = STANDARD.encode(format!("{username}:{}", content.expose()));
                (password, format!("Basic {pair}"))
            }
            Authorization::Bearer { token } => {
                let content = secret::read(token, deadline).await?;
                (token, format!("Bearer {}", content.expose()))
            }
        };
        let mut value = HeaderValue::try_from(text).map_err(|_| {
            PeerError::Request(format!("{place} holds characters that no header can carry"))
        })?;
        value.set_sensitive(true);
        Ok(value)
    }
}

/// A request.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The method.
    pub method: Method,
    /// Path and query, beginning with `/`.
    pub path: &'a str,
    /// The `Host` field.
    pub host: &'a str,
    /// More header fields.
    pub headers: &'a [(HeaderName, HeaderValue)],
    /// The login.
    pub authorization: Option<&'a Authorization>,
    /// The body; empty for most requests.
    pub body: Bytes,
}

/// A response.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// The header fields.
    pub headers: HeaderMap,
    /// The body, cut at the limit.
    pub body: Bytes,
    /// Whether the body is whole.
    pub complete: bool,
    /// Bytes of the body that were read at most.
    pub limit: usize,
}

impl Response {
    /// The whole body.
    ///
    /// # Errors
    /// [`PeerError::TooLong`] if the limit cut the body.
    pub fn whole(self) -> Result<Bytes, PeerError> {
        if self.complete {
            Ok(self.body)
        } else {
            Err(PeerError::TooLong { limit: self.limit })
        }
    }
}

/// Sends a request over `stream` and reads `limit` bytes of the body at most; with 0, the head only. The connection
/// ends with the exchange.
///
/// # Errors
/// Timed out, closed, reset, no HTTP, or a request that cannot be sent.
pub async fn exchange(
    stream: Stream,
    request: &Request<'_>,
    limit: usize,
    deadline: &Deadline,
) -> Result<Response, PeerError> {
    exchange_until(stream, request, limit, &mut WholeBody, deadline).await
}

/// Decides how much of a response is read.
pub trait Reading: Send {
    /// Whether the body is of interest, once the head has arrived.
    fn wants_body(&mut self, status: StatusCode) -> bool;

    /// Whether `body`, all that has arrived so far, is enough. The bytes before `seen` were there in the last call.
    fn is_enough(&mut self, body: &[u8], seen: usize) -> bool;
}

/// Reads the whole body, whatever the status is.
struct WholeBody;

impl Reading for WholeBody {
    fn wants_body(&mut self, _: StatusCode) -> bool {
        true
    }

    fn is_enough(&mut self, _: &[u8], _: usize) -> bool {
        false
    }
}

/// As [`exchange`], and ends as soon as `reading` has enough: a body may never end.
///
/// # Errors
/// As [`exchange`].
pub async fn exchange_until(
    stream: Stream,
    request: &Request<'_>,
    limit: usize,
    reading: &mut dyn Reading,
    deadline: &Deadline,
) -> Result<Response, PeerError> {
    let message = message(request, deadline).await?;
    deadline
        .bound(ANSWER, talk(stream, message, limit, reading))
        .await
}

async fn message(
    request: &Request<'_>,
    deadline: &Deadline,
) -> Result<http::Request<Full<Bytes>>, PeerError> {
    let mut message = http::Request::builder()
        .method(request.method.clone())
        .uri(request.path)
        .header(HOST, request.host)
        .header(USER_AGENT, AGENT)
        .header(CONNECTION, "close")
        .body(Full::new(request.body.clone()))
        .map_err(|error| PeerError::Request(error.to_string()))?;
    let headers = message.headers_mut();
    for (name, value) in request.headers {
        headers.append(name, value.clone());
    }
    if let Some(authorization) = request.authorization {
        headers.insert(AUTHORIZATION, authorization.header(deadline).await?);
    }
    Ok(message)
}

async fn talk(
    stream: Stream,
    message: http::Request<Full<Bytes>>,
    limit: usize,
    reading: &mut dyn Reading,
) -> Result<Response, PeerError> {
    // Whatever is not the answer itself is read as leniently as other clients read it: servers that have worked for
    // years send `Server : x`, folded fields and fields that no grammar allows. A status line there must be: without
    // one any text would be a 200.
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_FIELDS)
        .allow_spaces_after_header_name_in_responses(true)
        .allow_obsolete_multiline_headers_in_responses(true)
        .ignore_invalid_headers_in_responses(true)
        .handshake::<_, Full<Bytes>>(TokioIo::new(stream))
        .await
        .map_err(|error| failure(&error))?;
    // The connection is driven here and not by a task of its own, so that it ends with the exchange.
    let mut connection = pin!(connection);
    let mut exchange = pin!(async {
        let mut response = sender
            .send_request(message)
            .await
            .map_err(|error| failure(&error))?;
        let limit = if reading.wants_body(response.status()) {
            limit
        } else {
            0
        };
        let (body, complete) = read_body(response.body_mut(), limit, reading).await?;
        let (head, _) = response.into_parts();
        Ok(Response {
            status: head.status,
            headers: head.headers,
            body,
            complete,
            limit,
        })
    });
    tokio::select! {
        biased;
        result = &mut exchange => return result,
        // The exchange sees the errors of the connection as well, and an answer may be ready although it has ended.
        _ = &mut connection => {}
    }
    exchange.await
}

async fn read_body(
    body: &mut hyper::body::Incoming,
    limit: usize,
    reading: &mut dyn Reading,
) -> Result<(Bytes, bool), PeerError> {
    use hyper::body::Body as _;

    if limit == 0 {
        return Ok((Bytes::new(), body.is_end_stream()));
    }
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|error| failure(&error))?.into_data() else {
            // Trailers.
            continue;
        };
        let seen = bytes.len();
        let room = limit - seen;
        bytes.extend_from_slice(&data[..data.len().min(room)]);
        if reading.is_enough(&bytes, seen) || data.len() > room {
            return Ok((bytes.freeze(), false));
        }
    }
    Ok((bytes.freeze(), true))
}

fn failure(error: &hyper::Error) -> PeerError {
    if error.is_parse_too_large() {
        return PeerError::Protocol(format!("the head is longer than {MAX_HEAD} bytes"));
    }
    if error.is_parse() {
        return PeerError::Protocol(format!("no HTTP/1.1 answer ({error})"));
    }
    if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        return PeerError::Closed(ANSWER);
    }
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(inner) = cause {
        if let Some(io) = inner.downcast_ref() {
            return PeerError::io(ANSWER, io);
        }
        cause = inner.source();
    }
    if error.is_user() {
        return PeerError::Request(error.to_string());
    }
    PeerError::Protocol(error.to_string())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// The pair is the example of RFC 7617 section 2.
    #[tokio::test]
    async fn authorization_is_a_header_that_is_not_shown() {
        let deadline = Deadline::after(Duration::from_secs(10));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, "open sesame\n").unwrap();
        let secret = Secret::File(path.clone());
        let basic = Authorization::Basic {
            username: "Aladdin".to_owned(),
            password: secret.clone(),
        };
        let bearer = Authorization::Bearer { token: secret };
        for (authorization, text) in [
            (&basic, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
            (&bearer, "Bearer open sesame"),
        ] {
            let header = authorization.header(&deadline).await.unwrap();
            assert_eq!(header, text);
            assert!(!format!("{header:?}").contains(text));
            assert!(!format!("{authorization:?}").contains("sesame"));
        }
        std::fs::write(&path, "open\nsesame").unwrap();
        let error = bearer.header(&deadline).await.unwrap_err().to_string();
        assert!(error.contains("no header can carry"), "{error}");
        assert!(!error.contains("sesame"), "{error}");
    }

    #[test]
    fn a_body_that_was_cut_is_not_whole() {
        let response = |complete| Response {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            body: Bytes::from_static(b"[1"),
            complete,
            limit: 2,
        };
        assert_eq!(response(true).whole(), Ok(Bytes::from_static(b"[1")));
        let error = response(false).whole().unwrap_err();
        assert_eq!(error, PeerError::TooLong { limit: 2 });
    }
}
