//! An HTTP/1.1 request: status, text in the body, a value in a JSON body.

mod reading;
mod statuses;

use bytes::Bytes;
use lb_model::{
    peer::Tls,
    settings::{self, FieldError, MAX_TEXT, Map},
};
use serde_json::Value;

use super::{Attempt, Finding, Probe, ProbeKind};
use crate::health::{Verdict, outcome::line};
use crate::json;
use crate::peer::{
    PeerError, TlsClient,
    http::{Request, Response, exchange_until},
    tls,
};
use reading::{Document, Expected, Judging};
pub use statuses::Statuses;

/// Bytes of the body that are read, if the settings look at it at all.
const MAX_BODY: usize = 64 << 10;
/// Characters of an answer that a reason repeats.
const MAX_QUOTED: usize = 80;

pub(super) static KIND: ProbeKind = ProbeKind::of::<HttpProbe>(
    "http",
    "Sends an HTTP/1.1 request and judges the status, and the body if asked to. Redirects are not followed.",
)
.completed_by(|check| {
    // With TLS it is the other kind, so that every surface shows `https`.
    if check.contains_key("tls") {
        check.insert("kind".to_owned(), "https".into());
    }
    Ok(())
});

lb_model::settings! {
    /// An HTTP/1.1 request.
    pub struct Http {
        /// Method of the request.
        method: String = "GET".to_owned();
        /// Path and query of the request.
        path: String = "/".to_owned();
        /// `Host` field of the request; without it address and port that are probed.
        host: Option<String> = None;
        /// Statuses of a healthy answer.
        statuses: Statuses = Statuses::default();
        /// Text that the first 64 KiB of the body must hold.
        body: Option<String> = None;
        /// What a JSON body must say.
        json: Option<Json> = None;
        /// TLS; without it the connection is not encrypted.
        tls: Option<Tls> = None;
    }
    validate(http) {
        http.validate_request()?;
        tls::validate(http.tls.as_ref())
    }
}

lb_model::settings! {
    /// A place in a JSON document, and what must stand there.
    pub struct Json {
        /// JSON pointer (RFC 6901) to the value: `/status`, `/checks/0/ok`.
        pointer: String;
        /// Value that must stand there: a text, a number, a boolean or any other JSON.
        equals: Value;
    }
    validate(json) {
        if !json.pointer.is_empty() && !json.pointer.starts_with('/') {
            return Err(FieldError::new(
                "pointer",
                &json.pointer,
                "not a JSON pointer, begin with / as in /status",
            ));
        }
        let length = json.equals.to_string().len();
        if length > MAX_TEXT {
            return Err(FieldError::new(
                "equals",
                format!("{length} bytes"),
                format!("too long, give {MAX_TEXT} bytes at most"),
            ));
        }
        Ok(())
    }
}

impl Default for Http {
    fn default() -> Self {
        settings::from_map(&Map::new()).expect("every setting has a default")
    }
}

impl Http {
    fn validate_request(&self) -> Result<(), FieldError> {
        if self.method.is_empty() || http::Method::from_bytes(self.method.as_bytes()).is_err() {
            return Err(FieldError::new(
                "method",
                &self.method,
                "not a method, give one word such as GET or HEAD",
            ));
        }
        if self.method == "HEAD" && (self.body.is_some() || self.json.is_some()) {
            return Err(FieldError::new(
                "method",
                &self.method,
                "its answer has no body to look at, give GET",
            ));
        }
        if !self.path.starts_with('/') || self.path.parse::<http::uri::PathAndQuery>().is_err() {
            return Err(FieldError::new(
                "path",
                &self.path,
                "not a path, begin with / and escape what is no URL character",
            ));
        }
        if let Some(host) = &self.host
            && (host.is_empty() || host.parse::<http::uri::Authority>().is_err())
        {
            return Err(FieldError::new(
                "host",
                host,
                "not a host, give NAME or NAME:PORT",
            ));
        }
        Ok(())
    }
}

/// Sends the request over a connection of its own.
#[derive(Debug)]
pub struct HttpProbe {
    settings: Http,
    tls: Option<TlsClient>,
}

impl Probe for HttpProbe {
    type Settings = Http;

    fn new(settings: Http) -> Self {
        HttpProbe {
            tls: TlsClient::of(settings.tls.as_ref(), &["http/1.1"]),
            settings,
        }
    }

    async fn run(&mut self, attempt: &Attempt<'_>) -> Finding {
        let settings = &self.settings;
        let method = http::Method::from_bytes(settings.method.as_bytes())
            .map_err(|error| PeerError::Request(error.to_string()))?;
        let address = attempt.target.address.to_string();
        let request = Request {
            method,
            path: &settings.path,
            host: settings.host.as_deref().unwrap_or(&address),
            headers: &[],
            authorization: None,
            body: Bytes::new(),
        };
        let reads_body = settings.body.is_some() || settings.json.is_some();
        let limit = if reads_body { MAX_BODY } else { 0 };
        let stream = attempt.open(self.tls.as_mut()).await?;
        let mut judging = Judging::new(settings);
        let response =
            exchange_until(stream, &request, limit, &mut judging, attempt.deadline).await?;
        judge(settings, response)
    }
}

fn judge(settings: &Http, response: Response) -> Finding {
    let status = response.status;
    if !settings.statuses.contain(status.as_u16()) {
        let to = response
            .headers
            .get(http::header::LOCATION)
            .filter(|_| status.is_redirection())
            .map(|to| line(&String::from_utf8_lossy(to.as_bytes()), MAX_QUOTED))
            .map(|to| format!(" to {to}, which is not followed"))
            .unwrap_or_default();
        return unhealthy(format!(
            "answered {status}{to}; expected {}",
            settings.statuses
        ));
    }
    if let Some(expected) = &settings.body
        && !Expected::new(expected).is_in(&response.body, 0)
    {
        let part = if response.complete {
            ""
        } else {
            "first part of the "
        };
        return unhealthy(format!(
            "answered {status}, and the {part}body does not hold {:?}",
            line(expected, MAX_QUOTED)
        ));
    }
    if let Some(json) = &settings.json {
        // A document that has ended is whole, even if the body goes on.
        let body = match Document::default().end(&response.body) {
            Some(end) => response.body.slice(..end),
            None => response.whole()?,
        };
        if let Some(wrong) = disagreement(json, &body) {
            return unhealthy(format!("answered {status}, and {wrong}"));
        }
    }
    Ok((Verdict::Healthy, format!("answered {status}")))
}

fn unhealthy(reason: String) -> Finding {
    Ok((Verdict::Unhealthy, reason))
}

/// Why the body does not match, `None` if it does.
fn disagreement(json: &Json, body: &[u8]) -> Option<String> {
    let document: Value = match json::parse(body) {
        Ok(document) => document,
        Err(error) => return Some(format!("the body is no JSON: {error}")),
    };
    match document.pointer(&json.pointer) {
        None => Some(format!("the JSON has no {}", json.pointer)),
        Some(found) if same(found, &json.equals) => None,
        Some(found) => Some(format!(
            "the JSON has {} = {}; expected {}",
            json.pointer,
            line(&found.to_string(), MAX_QUOTED),
            line(&json.equals.to_string(), MAX_QUOTED),
        )),
    }
}

/// 1 and 1.0 are the same number.
fn same(found: &Value, expected: &Value) -> bool {
    found == expected
        || matches!((found.as_f64(), expected.as_f64()), (Some(found), Some(expected)) if found == expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &'static str) -> Response {
        Response {
            status: http::StatusCode::from_u16(status).unwrap(),
            headers: http::HeaderMap::new(),
            body: Bytes::from_static(body.as_bytes()),
            complete: true,
            limit: MAX_BODY,
        }
    }

    fn json(pointer: &str, equals: impl Into<Value>) -> Http {
        Http {
            json: Some(Json {
                pointer: pointer.to_owned(),
                equals: equals.into(),
            }),
            ..Http::default()
        }
    }

    #[test]
    fn answers_are_judged() {
        let body = Http {
            body: Some("well".to_owned()),
            ..Http::default()
        };
        for (spec, response, verdict, says) in [
            (Http::default(), answer(204, ""), Verdict::Healthy, "204"),
            (
                Http::default(),
                answer(503, ""),
                Verdict::Unhealthy,
                "answered 503 Service Unavailable; expected 200-299",
            ),
            (
                body.clone(),
                answer(200, "all is well"),
                Verdict::Healthy,
                "200",
            ),
            (
                body.clone(),
                answer(200, "all is ill"),
                Verdict::Unhealthy,
                "does not hold \"well\"",
            ),
            (body, answer(500, "well"), Verdict::Unhealthy, "500"),
            (
                json("/status", "UP"),
                answer(200, r#"{"status":"UP"}"#),
                Verdict::Healthy,
                "200",
            ),
            (
                json("/status", "UP"),
                answer(200, r#"{"status":"DOWN"}"#),
                Verdict::Unhealthy,
                r#"/status = "DOWN"; expected "UP""#,
            ),
            (
                json("/nodes/0/alive", true),
                answer(200, r#"{"nodes":[{"alive":true}]}"#),
                Verdict::Healthy,
                "200",
            ),
            (
                json("/n", 3),
                answer(200, r#"{"n":3.0}"#),
                Verdict::Healthy,
                "200",
            ),
            (
                json("/n", 3),
                answer(200, r#"{"n":"3"}"#),
                Verdict::Unhealthy,
                "/n",
            ),
            (
                json("/n", 3),
                answer(200, "{}"),
                Verdict::Unhealthy,
                "has no /n",
            ),
            (
                json("/n", 3),
                answer(200, "\u{feff} {\"n\":3}\n"),
                Verdict::Healthy,
                "200",
            ),
            (
                json("/n", 3),
                answer(200, "<html>"),
                Verdict::Unhealthy,
                "no JSON",
            ),
        ] {
            let (found, reason) = judge(&spec, response).unwrap();
            assert_eq!(found, verdict, "{reason}");
            assert!(reason.contains(says), "{reason}");
        }
    }

    #[test]
    fn a_json_that_was_cut_is_not_judged() {
        let cut = Response {
            complete: false,
            ..answer(200, r#"{"n":3"#)
        };
        let error = judge(&json("/n", 3), cut).unwrap_err();
        assert_eq!(error, PeerError::TooLong { limit: MAX_BODY });
    }

    #[test]
    fn where_a_redirect_goes_is_told() {
        let mut response = answer(302, "");
        response
            .headers
            .insert("location", http::HeaderValue::from_static("/login"));
        let (verdict, reason) = judge(&Http::default(), response).unwrap();
        assert_eq!(verdict, Verdict::Unhealthy);
        assert!(
            reason.contains("302 Found to /login, which is not followed"),
            "{reason}"
        );
    }
}
