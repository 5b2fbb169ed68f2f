//! `Cache-Control`, as far as the library does not know it: its extensions, and the directives of requests.

use std::time::Duration;

use http::{HeaderMap, header::CACHE_CONTROL};

/// Returns the value of a directive; `Some(None)` if it has none.
#[must_use]
pub fn directive(headers: &HeaderMap, name: &str) -> Option<Option<String>> {
    headers
        .get_all(CACHE_CONTROL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .find_map(|one| {
            let (found, value) = match one.split_once('=') {
                Some((found, value)) => (found, Some(value.trim().trim_matches('"').to_owned())),
                None => (one, None),
            };
            found.trim().eq_ignore_ascii_case(name).then_some(value)
        })
}

/// Returns whether there is a directive.
#[must_use]
pub fn has(headers: &HeaderMap, name: &str) -> bool {
    directive(headers, name).is_some()
}

/// Returns the time that a directive gives.
#[must_use]
pub fn seconds(headers: &HeaderMap, name: &str) -> Option<Duration> {
    directive(headers, name)??
        .parse()
        .ok()
        .map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives_are_found() {
        let mut headers = HeaderMap::new();
        for value in [
            "Max-Age=5, no-store",
            "private=\"x-a\" , stale-if-error=\"7\"",
        ] {
            headers.append(CACHE_CONTROL, value.parse().unwrap());
        }
        assert_eq!(seconds(&headers, "max-age"), Some(Duration::from_secs(5)));
        assert_eq!(
            seconds(&headers, "stale-if-error"),
            Some(Duration::from_secs(7))
        );
        assert!(has(&headers, "no-store") && has(&headers, "private"));
        assert!(!has(&headers, "store") && !has(&headers, "age"));
    }
}
