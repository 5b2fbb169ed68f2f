//! Which requests are refused before anything else looks at them.
//!
//! Routing, the cache's key and the instance must see the same host, so exactly one place decides what it is.

use http::{
    HeaderMap, Method, StatusCode, Version,
    header::{EXPECT, HOST, TRANSFER_ENCODING},
    request::Parts,
};

/// What a request is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The host and port that the request names, in lower case; empty in HTTP/1.0 without `Host`.
    pub authority: String,
}

impl Target {
    /// Returns the host without its port.
    #[must_use]
    pub fn host(&self) -> &str {
        let authority = self.authority.as_str();
        let end = match authority.rfind(']') {
            Some(bracket) => authority[bracket..].find(':').map(|colon| bracket + colon),
            None => authority.find(':'),
        };
        authority[..end.unwrap_or(authority.len())].trim_end_matches('.')
    }
}

/// A request that is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status of the answer.
    pub status: StatusCode,
    /// What is wrong.
    pub why: &'static str,
}

const fn refuse<T>(status: StatusCode, why: &'static str) -> Result<T, Refusal> {
    Err(Refusal { status, why })
}

/// Checks the head of a request.
///
/// # Errors
/// [`Refusal`].
pub fn check(head: &Parts) -> Result<Target, Refusal> {
    if head.method == Method::CONNECT {
        return refuse(StatusCode::METHOD_NOT_ALLOWED, "CONNECT is not served");
    }
    if head.method == Method::TRACE {
        return refuse(StatusCode::METHOD_NOT_ALLOWED, "TRACE is not served");
    }
    // Only OPTIONS may be about no path at all (RFC 9112 section 3.2.4).
    if head.uri.path() == "*" && head.method != Method::OPTIONS {
        return refuse(StatusCode::BAD_REQUEST, "* is no path");
    }
    check_coding(head)?;
    if let Some(expected) = head.headers.get(EXPECT)
        && !expected.as_bytes().eq_ignore_ascii_case(b"100-continue")
    {
        return refuse(StatusCode::EXPECTATION_FAILED, "unknown expectation");
    }
    target(head)
}

/// hyper decodes every coding that ends with `chunked`, but only that part of it.
fn check_coding(head: &Parts) -> Result<(), Refusal> {
    let mut codings = head.headers.get_all(TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else {
        return Ok(());
    };
    let is_chunked = coding
        .as_bytes()
        .trim_ascii()
        .eq_ignore_ascii_case(b"chunked");
    if is_chunked && codings.next().is_none() {
        return Ok(());
    }
    refuse(
        StatusCode::NOT_IMPLEMENTED,
        "the only transfer coding is chunked",
    )
}

fn target(head: &Parts) -> Result<Target, Refusal> {
    const BAD: StatusCode = StatusCode::BAD_REQUEST;
    let host = single_host(&head.headers)?;
    let named = head.uri.authority().map(|authority| authority.as_str());
    let authority = match (named, host) {
        (Some(named), Some(host)) if head.version >= Version::HTTP_2 => {
            if !named.eq_ignore_ascii_case(host) {
                return refuse(BAD, "host is not :authority");
            }
            named
        }
        // An absolute form, such as GET http://a/ (RFC 9112 section 3.2.2).
        (Some(_), None) if head.version == Version::HTTP_11 => return refuse(BAD, "no Host"),
        (Some(named), _) => named,
        (None, Some(host)) => host,
        (None, None) if head.version <= Version::HTTP_10 => "",
        (None, None) => return refuse(BAD, "no Host"),
    };
    let is_empty = authority.is_empty() && head.version > Version::HTTP_10;
    if is_empty || !authority.bytes().all(is_host_byte) {
        return refuse(BAD, "Host is not a host");
    }
    Ok(Target {
        authority: authority.to_ascii_lowercase(),
    })
}

fn single_host(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    let mut hosts = headers.get_all(HOST).iter();
    let Some(host) = hosts.next() else {
        return Ok(None);
    };
    if hosts.next().is_some() {
        return refuse(StatusCode::BAD_REQUEST, "two Host headers");
    }
    match host.to_str() {
        Ok(host) => Ok(Some(host.trim())),
        Err(_) => refuse(StatusCode::BAD_REQUEST, "Host is not a host"),
    }
}

const fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'.'
                | b'_'
                | b'~'
                | b':'
                | b'['
                | b']'
                | b'%'
                | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b','
                | b';'
                | b'='
        )
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn head(version: Version, uri: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().version(version).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn one_host_is_found_or_the_request_is_refused() {
        const H1: Version = Version::HTTP_11;
        const H2: Version = Version::HTTP_2;
        for (version, uri, headers, expected) in [
            (H1, "/", &[("host", "A.test:80")][..], Ok("a.test:80")),
            (H1, "/", &[], Err(400)),
            (H1, "/", &[("host", "")], Err(400)),
            (H1, "*", &[("host", "a")], Err(400)),
            (H1, "/", &[("host", "a/b")], Err(400)),
            (H1, "/", &[("host", "u@b")], Err(400)),
            (H1, "/", &[("host", "a"), ("host", "a")], Err(400)),
            (Version::HTTP_10, "/", &[], Ok("")),
            (H1, "http://evil/", &[("host", "a")], Ok("evil")),
            (H1, "http://evil/", &[], Err(400)),
            (H2, "http://a.test/", &[], Ok("a.test")),
            (H2, "http://a.test/", &[("host", "A.TEST")], Ok("a.test")),
            (H2, "http://a.test/", &[("host", "b")], Err(400)),
            (
                H1,
                "/",
                &[("host", "a"), ("transfer-encoding", "chunked")],
                Ok("a"),
            ),
            (
                H1,
                "/",
                &[("host", "a"), ("transfer-encoding", "gzip, chunked")],
                Err(501),
            ),
            (
                H1,
                "/",
                &[("host", "a"), ("expect", "100-Continue")],
                Ok("a"),
            ),
            (H1, "/", &[("host", "a"), ("expect", "x")], Err(417)),
        ] {
            let found = check(&head(version, uri, headers));
            let found = found
                .as_ref()
                .map(|target| target.authority.as_str())
                .map_err(|refusal| refusal.status.as_u16());
            assert_eq!(found, expected, "{uri} {headers:?}");
        }
    }

    #[test]
    fn the_port_is_not_the_host() {
        for (authority, host) in [
            ("a.test:80", "a.test"),
            ("a.test.", "a.test"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
            ("", ""),
        ] {
            let target = Target {
                authority: authority.to_owned(),
            };
            assert_eq!(target.host(), host);
        }
    }
}
