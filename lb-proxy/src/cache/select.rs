//! The part of a stored answer that a request asks for: all of it, a range, or only that it has not changed.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode,
    header::{
        ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_RANGE, DATE, ETAG,
        EXPIRES, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, LAST_MODIFIED, RANGE, VARY,
    },
    response::Parts,
};

use crate::http::body::Body;

/// Headers that an answer without content keeps (RFC 9110 section 15.4.5), and those of the cache.
const OF_NOT_MODIFIED: [HeaderName; 9] = [
    CACHE_CONTROL,
    CONTENT_LOCATION,
    DATE,
    ETAG,
    EXPIRES,
    VARY,
    LAST_MODIFIED,
    HeaderName::from_static("age"),
    HeaderName::from_static("cache-status"),
];

/// Makes the answer to a request from a stored one.
#[must_use]
pub fn select(
    method: &Method,
    request: &HeaderMap,
    head: Parts,
    content: &Bytes,
) -> Response<Body> {
    let mut answer = Response::from_parts(head, Body::none());
    // A stored answer has a whole content; only those with 200 can be conditional or partial.
    let is_ok = answer.status() == StatusCode::OK;
    if is_ok && is_not_modified(request, answer.headers()) {
        *answer.status_mut() = StatusCode::NOT_MODIFIED;
        let headers = answer.headers_mut();
        let kept: Vec<_> = OF_NOT_MODIFIED
            .iter()
            .filter_map(|name| Some((name.clone(), headers.get(name)?.clone())))
            .collect();
        headers.clear();
        headers.extend(kept);
        return answer;
    }
    let length = content.len() as u64;
    let ranged = is_ok
        .then(|| range(method, request, answer.headers(), length))
        .flatten();
    let headers = answer.headers_mut();
    if is_ok {
        headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    }
    let part = match ranged {
        None => content.clone(),
        Some(Some((first, last))) => {
            let value = format!("bytes {first}-{last}/{length}");
            insert(headers, CONTENT_RANGE, value);
            *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
            content.slice(first as usize..=last as usize)
        }
        Some(None) => {
            insert(headers, CONTENT_RANGE, format!("bytes */{length}"));
            *answer.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
            Bytes::new()
        }
    };
    answer
        .headers_mut()
        .insert(CONTENT_LENGTH, HeaderValue::from(part.len()));
    if method != Method::HEAD {
        *answer.body_mut() = Body::whole(part);
    }
    answer
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: String) {
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}

fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

/// Whether the client has the answer already (RFC 9110 section 13).
fn is_not_modified(request: &HeaderMap, stored: &HeaderMap) -> bool {
    if request.contains_key(IF_NONE_MATCH) {
        let weak = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
        let Some(etag) = text(stored, &ETAG).map(weak) else {
            return false;
        };
        return request
            .get_all(IF_NONE_MATCH)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|tag| tag.trim() == "*" || weak(tag) == etag);
    }
    let date =
        |headers, name| text(headers, name).and_then(|text| httpdate::parse_http_date(text).ok());
    match (
        date(request, &IF_MODIFIED_SINCE),
        date(stored, &LAST_MODIFIED),
    ) {
        (Some(since), Some(modified)) => modified <= since,
        _ => false,
    }
}

/// The range that is asked for: `None` for all, `Some(None)` if it is beyond the end.
fn range(
    method: &Method,
    request: &HeaderMap,
    stored: &HeaderMap,
    length: u64,
) -> Option<Option<(u64, u64)>> {
    if method != Method::GET {
        return None;
    }
    let ranges = text(request, &RANGE)?.strip_prefix("bytes=")?;
    if let Some(only_if) = text(request, &IF_RANGE) {
        // Only a strong tag or the exact date counts.
        let is_same = text(stored, &ETAG)
            .is_some_and(|etag| etag == only_if && !etag.starts_with("W/"))
            || text(stored, &LAST_MODIFIED) == Some(only_if);
        if !is_same {
            return None;
        }
    }
    // Several ranges are answered with everything, which is allowed.
    let (first, last) = ranges.split_once('-').filter(|_| !ranges.contains(','))?;
    let (first, last) = match (first.trim(), last.trim()) {
        ("", suffix) => {
            let suffix: u64 = suffix.parse().ok()?;
            if suffix == 0 || length == 0 {
                return Some(None);
            }
            (length.saturating_sub(suffix), length - 1)
        }
        (first, "") => (first.parse().ok()?, length.saturating_sub(1)),
        (first, last) => {
            let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
            if first > last {
                return None;
            }
            (first, last.min(length.saturating_sub(1)))
        }
    };
    Some((first < length).then_some((first, last)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAST: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const LATER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";
    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";

    #[test]
    fn each_request_gets_its_part() {
        for (headers, status, range, length) in [
            (&[][..], 200, None, 10),
            (&[(RANGE, "bytes=0-2")], 206, Some("bytes 0-2/10"), 3),
            (&[(RANGE, "bytes=8-99")], 206, Some("bytes 8-9/10"), 2),
            (&[(RANGE, "bytes=7-")], 206, Some("bytes 7-9/10"), 3),
            (&[(RANGE, "bytes=-4")], 206, Some("bytes 6-9/10"), 4),
            (&[(RANGE, "bytes=-40")], 206, Some("bytes 0-9/10"), 10),
            (&[(RANGE, "bytes=10-")], 416, Some("bytes */10"), 0),
            (&[(RANGE, "bytes=-0")], 416, Some("bytes */10"), 0),
            (&[(RANGE, "bytes=3-2")], 200, None, 10),
            (&[(RANGE, "bytes=0-1,3-4")], 200, None, 10),
            (&[(RANGE, "lines=0-1")], 200, None, 10),
            (
                &[(RANGE, "bytes=0-2"), (IF_RANGE, "\"a\"")],
                206,
                Some("bytes 0-2/10"),
                3,
            ),
            (
                &[(RANGE, "bytes=0-2"), (IF_RANGE, LAST)],
                206,
                Some("bytes 0-2/10"),
                3,
            ),
            (&[(RANGE, "bytes=0-2"), (IF_RANGE, "\"b\"")], 200, None, 10),
            (&[(IF_NONE_MATCH, "\"b\", W/\"a\"")], 304, None, 0),
            (&[(IF_NONE_MATCH, "*")], 304, None, 0),
            (
                &[(IF_NONE_MATCH, "\"b\""), (IF_MODIFIED_SINCE, LATER)],
                200,
                None,
                10,
            ),
            (&[(IF_MODIFIED_SINCE, LAST)], 304, None, 0),
            (&[(IF_MODIFIED_SINCE, BEFORE)], 200, None, 10),
        ] {
            let mut request = HeaderMap::new();
            for (name, value) in headers {
                request.append(name, value.parse().unwrap());
            }
            let stored = Response::builder()
                .header(ETAG, "\"a\"")
                .header(LAST_MODIFIED, LAST)
                .header("x-a", "1");
            let (stored, ()) = stored.body(()).unwrap().into_parts();
            let content = Bytes::from_static(b"0123456789");
            let answer = select(&Method::GET, &request, stored, &content);
            assert_eq!(answer.status(), status, "{headers:?}");
            let found = answer.headers().get(CONTENT_RANGE);
            assert_eq!(
                found.map(|value| value.to_str().unwrap()),
                range,
                "{headers:?}"
            );
            let size = http_body::Body::size_hint(answer.body()).exact();
            assert_eq!(size, Some(length), "{headers:?}");
            assert_eq!(answer.headers().contains_key("x-a"), status != 304);
        }
    }

    #[test]
    fn a_head_has_the_length_and_no_body() {
        let (stored, ()) = Response::new(()).into_parts();
        let content = Bytes::from_static(b"0123456789");
        let answer = select(&Method::HEAD, &HeaderMap::new(), stored, &content);
        assert_eq!(answer.headers()[CONTENT_LENGTH], "10");
        assert_eq!(http_body::Body::size_hint(answer.body()).exact(), Some(0));
    }
}
