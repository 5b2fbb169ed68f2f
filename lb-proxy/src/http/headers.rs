//! Headers on their way through the proxy: what belongs to one connection only is taken off, what names the client is added.

use std::{fmt::Write as _, net::IpAddr};

use bytes::{BufMut as _, BytesMut};
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{
        AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, FORWARDED, HOST, SET_COOKIE, TE,
        TRAILER, TRANSFER_ENCODING, UPGRADE,
    },
};

use lb_model::network::Network;

use crate::config::{HeaderText, Name};

/// `X-Forwarded-For`.
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// `X-Forwarded-Proto`.
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// `X-Forwarded-Host`.
pub const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const PROXY_AUTHENTICATE: HeaderName = HeaderName::from_static("proxy-authenticate");
const PROXY_AUTHORIZATION: HeaderName = HeaderName::from_static("proxy-authorization");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// Headers of one connection (RFC 9110 section 7.6.1), whether `Connection` names them or not.
const HOP_BY_HOP: [HeaderName; 8] = [
    KEEP_ALIVE,
    PROXY_CONNECTION,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    HTTP2_SETTINGS,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Headers that stay although `Connection` names them: they route, frame or authorise the message, or name the client.
const PROTECTED: [HeaderName; 11] = [
    HOST,
    CONTENT_LENGTH,
    AUTHORIZATION,
    COOKIE,
    SET_COOKIE,
    TRAILER,
    FORWARDED,
    X_FORWARDED_FOR,
    X_FORWARDED_PROTO,
    X_FORWARDED_HOST,
    http::header::CACHE_CONTROL,
];

/// Returns whether the proxy itself decides about a header, so that no configuration may.
#[must_use]
pub fn is_framing(name: &HeaderName) -> bool {
    HOP_BY_HOP.contains(name) || [CONNECTION, CONTENT_LENGTH, TRAILER, HOST].contains(name)
}

/// Returns whether a list of tokens, such as `Connection`, has a token.
#[must_use]
pub fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers.get_all(name).iter().any(|value| {
        value.to_str().is_ok_and(|value| {
            value
                .split(',')
                .any(|one| one.trim().eq_ignore_ascii_case(token))
        })
    })
}

/// Takes off what belongs to one connection. `TE: trailers` stays for gRPC if the message goes on over HTTP/2.
pub fn clean(headers: &mut HeaderMap, keeps_te: bool) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| name.trim().parse().ok())
            .collect();
        for name in named {
            if !PROTECTED.contains(&name) {
                headers.remove(name);
            }
        }
        headers.remove(CONNECTION);
    }
    let wants_trailers = keeps_te && has_token(headers, &TE, "trailers");
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
    if wants_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// Takes the length off an answer whose transfer coding decides where it ends (RFC 9112 section 6.3). Call it before
/// [`clean`].
pub fn clean_length(headers: &mut HeaderMap) {
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
}

/// Joins several `Cookie` headers, which HTTP/2 allows, to one (RFC 9113 section 8.2.3).
pub fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let mut joined = BytesMut::new();
    for cookie in headers.get_all(COOKIE) {
        if !joined.is_empty() {
            joined.put_slice(b"; ");
        }
        joined.put_slice(cookie.as_bytes());
    }
    if let Ok(joined) = HeaderValue::from_maybe_shared(joined.freeze()) {
        headers.insert(COOKIE, joined);
    }
}

/// Returns whether an address is that of a proxy whose words count.
#[must_use]
pub fn is_trusted(networks: &[Network], address: IpAddr) -> bool {
    let address = address.to_canonical();
    networks
        .iter()
        .any(|Network(network)| network.contains(&address))
}

/// Returns the address of the client, behind all trusted proxies.
#[must_use]
pub fn client(headers: &HeaderMap, peer: IpAddr, trusted: &[Network]) -> IpAddr {
    if !is_trusted(trusted, peer) {
        return peer;
    }
    let values: Vec<&HeaderValue> = headers.get_all(X_FORWARDED_FOR).iter().collect();
    let mut client = peer;
    for value in values.into_iter().rev() {
        for hop in value.to_str().unwrap_or_default().rsplit(',') {
            let Ok(address) = hop.trim().parse::<IpAddr>() else {
                return client;
            };
            client = address;
            if !is_trusted(trusted, address) {
                return client;
            }
        }
    }
    client
}

/// What is said of the client's connection.
#[derive(Clone, Copy, Debug)]
pub struct From<'a> {
    /// The address at the other end.
    pub peer: IpAddr,
    /// The same as a header.
    pub peer_text: &'a HeaderValue,
    /// Whether it is a proxy whose words count.
    pub is_trusted: bool,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// The host that the request names.
    pub host: &'a str,
}

/// Says who the client is: `X-Forwarded-For`, `-Proto` and `-Host`, and `Forwarded` (RFC 7239). What a client itself says
/// of that is removed unless it is a trusted proxy.
pub fn name_client(headers: &mut HeaderMap, from: &From<'_>) {
    let named = |headers: &HeaderMap, name: &HeaderName| headers.contains_key(name);
    if from.is_trusted && named(headers, &X_FORWARDED_FOR) {
        let text = from.peer_text.as_bytes();
        append(headers, &X_FORWARDED_FOR, text);
    } else {
        headers.insert(X_FORWARDED_FOR, from.peer_text.clone());
    }
    if !(from.is_trusted && named(headers, &X_FORWARDED_PROTO)) {
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(from.scheme));
    }
    if !(from.is_trusted && named(headers, &X_FORWARDED_HOST)) {
        match HeaderValue::from_str(from.host) {
            Ok(host) if !from.host.is_empty() => drop(headers.insert(X_FORWARDED_HOST, host)),
            _ => drop(headers.remove(X_FORWARDED_HOST)),
        }
    }
    let mut element = String::with_capacity(64);
    // Writing to a string cannot fail.
    let _ = match from.peer {
        IpAddr::V4(peer) => write!(element, "for={peer}"),
        IpAddr::V6(peer) => write!(element, "for=\"[{peer}]\""),
    };
    if !from.host.is_empty() {
        let _ = write!(element, ";host=\"{}\"", from.host);
    }
    let _ = write!(element, ";proto={}", from.scheme);
    if from.is_trusted && named(headers, &FORWARDED) {
        append(headers, &FORWARDED, element.as_bytes());
    } else if let Ok(value) = HeaderValue::from_maybe_shared(bytes::Bytes::from(element)) {
        headers.insert(FORWARDED, value);
    }
}

/// Appends an element to a list, which becomes one header.
fn append(headers: &mut HeaderMap, name: &HeaderName, element: &[u8]) {
    let mut list = BytesMut::new();
    for value in headers.get_all(name) {
        list.put_slice(value.as_bytes());
        list.put_slice(b", ");
    }
    list.put_slice(element);
    if let Ok(value) = HeaderValue::from_maybe_shared(list.freeze()) {
        headers.insert(name, value);
    }
}

/// Removes and sets what a route says.
pub fn edit<'a>(
    headers: &mut HeaderMap,
    remove: &[Name],
    set: impl IntoIterator<Item = (&'a Name, &'a HeaderText)>,
) {
    for Name(name) in remove {
        headers.remove(name);
    }
    for (Name(name), HeaderText(value)) in set {
        headers.insert(name, value.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&str, &str)]) -> HeaderMap {
        let parse = |(name, value): &(&str, &str)| -> (HeaderName, HeaderValue) {
            (name.parse().unwrap(), value.parse().unwrap())
        };
        let mut map = HeaderMap::new();
        for (name, value) in lines.iter().map(parse) {
            map.append(name, value);
        }
        map
    }

    #[test]
    fn what_belongs_to_one_connection_is_taken_off() {
        let mut headers = map(&[
            ("connection", "keep-alive, X-Hop, Host, authorization"),
            ("connection", "x-other"),
            ("keep-alive", "timeout=5"),
            ("x-hop", "1"),
            ("x-other", "1"),
            ("x-end", "1"),
            ("host", "a"),
            ("authorization", "b"),
            ("te", "gzip, trailers"),
            ("upgrade", "h2c"),
            ("proxy-connection", "close"),
        ]);
        let mut http1 = headers.clone();
        clean(&mut http1, false);
        assert_eq!(
            http1,
            map(&[("x-end", "1"), ("host", "a"), ("authorization", "b")])
        );
        clean(&mut headers, true);
        assert_eq!(headers[TE], "trailers");
    }

    #[test]
    fn a_coding_wins_over_a_length() {
        let mut headers = map(&[("content-length", "3"), ("transfer-encoding", "chunked")]);
        clean_length(&mut headers);
        assert!(!headers.contains_key(CONTENT_LENGTH));
        let mut headers = map(&[("content-length", "3")]);
        clean_length(&mut headers);
        assert_eq!(headers[CONTENT_LENGTH], "3");
    }

    #[test]
    fn cookies_are_joined() {
        let mut headers = map(&[("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3")]);
        join_cookies(&mut headers);
        assert_eq!(headers, map(&[("cookie", "a=1; b=2; c=3")]));
    }

    #[test]
    fn the_client_is_the_first_one_that_nobody_vouches_for() {
        let trusted: Vec<Network> = ["10.0.0.0/8", "::1"]
            .map(|network| network.parse().unwrap())
            .to_vec();
        let headers = map(&[
            ("x-forwarded-for", "1.1.1.1, 2.2.2.2"),
            ("x-forwarded-for", "10.0.0.7"),
        ]);
        for (peer, expected) in [
            ("9.9.9.9", "9.9.9.9"),
            ("10.0.0.1", "2.2.2.2"),
            ("::ffff:10.0.0.1", "2.2.2.2"),
        ] {
            let client = client(&headers, peer.parse().unwrap(), &trusted);
            assert_eq!(client.to_string(), expected);
        }
    }

    #[test]
    fn the_client_is_named_and_its_own_words_do_not_count() {
        let own = [
            ("x-forwarded-for", "6.6.6.6"),
            ("forwarded", "for=6.6.6.6"),
            ("x-forwarded-proto", "gopher"),
        ];
        let peer: IpAddr = "2001:db8::1".parse().unwrap();
        let text = HeaderValue::from_static("2001:db8::1");
        let from = |is_trusted| From {
            peer,
            peer_text: &text,
            is_trusted,
            scheme: "https",
            host: "a.test",
        };
        let mut headers = map(&own);
        name_client(&mut headers, &from(false));
        assert_eq!(headers[X_FORWARDED_FOR], "2001:db8::1");
        assert_eq!(headers[X_FORWARDED_PROTO], "https");
        assert_eq!(headers[X_FORWARDED_HOST], "a.test");
        assert_eq!(
            headers[FORWARDED],
            "for=\"[2001:db8::1]\";host=\"a.test\";proto=https"
        );
        let mut headers = map(&own);
        name_client(&mut headers, &from(true));
        assert_eq!(headers[X_FORWARDED_FOR], "6.6.6.6, 2001:db8::1");
        assert_eq!(headers[X_FORWARDED_PROTO], "gopher");
        assert!(
            headers[FORWARDED]
                .to_str()
                .unwrap()
                .starts_with("for=6.6.6.6, for=")
        );
    }
}
