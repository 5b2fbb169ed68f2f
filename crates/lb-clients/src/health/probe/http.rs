//! An HTTP/1.1 request: status, what the body holds, what a JSON body says at a place.

use bytes::Bytes;
use serde_json::Value;

use super::Finding;
use crate::health::{
    Verdict,
    outcome::line,
    spec::{Http, Json},
};
use crate::peer::{
    Deadline, PeerError, Stream, Target, TlsClient,
    http::{Request, Response, exchange},
};

/// Bytes of the body that are read, if it matters at all.
const MAX_BODY: usize = 64 << 10;
/// Characters of what was found that are told.
const MAX_TOLD: usize = 80;

/// Asks once over a connection of its own.
pub async fn probe(
    spec: &Http,
    target: &Target,
    tls: Option<&mut TlsClient>,
    deadline: &Deadline,
) -> Finding {
    let method = http::Method::from_bytes(spec.method.as_bytes())
        .map_err(|error| PeerError::Request(error.to_string()))?;
    let address = target.address.to_string();
    let request = Request {
        method,
        path: &spec.path,
        host: spec.host.as_deref().unwrap_or(&address),
        headers: &[],
        authorization: None,
        body: Bytes::new(),
    };
    let reads_body = spec.body.is_some() || spec.json.is_some();
    let limit = if reads_body { MAX_BODY } else { 0 };
    let stream = Stream::open(target, tls, deadline).await?;
    let response = exchange(stream, &request, limit, deadline).await?;
    judge(spec, response)
}

fn judge(spec: &Http, response: Response) -> Finding {
    let status = response.status;
    if !spec.statuses.contain(status.as_u16()) {
        let to = response
            .headers
            .get(http::header::LOCATION)
            .filter(|_| status.is_redirection())
            .map(|to| line(&String::from_utf8_lossy(to.as_bytes()), MAX_TOLD))
            .map(|to| format!(" to {to}, which is not followed"))
            .unwrap_or_default();
        return unhealthy(format!("answered {status}{to}; expected {}", spec.statuses));
    }
    if let Some(expected) = &spec.body
        && !String::from_utf8_lossy(&response.body).contains(expected)
    {
        let part = if response.complete {
            ""
        } else {
            "first part of the "
        };
        return unhealthy(format!(
            "answered {status}, and the {part}body does not hold {:?}",
            line(expected, MAX_TOLD)
        ));
    }
    if let Some(json) = &spec.json
        && let Some(wrong) = disagreement(json, &response.whole()?)
    {
        return unhealthy(format!("answered {status}, and {wrong}"));
    }
    Ok((Verdict::Healthy, format!("answered {status}")))
}

fn unhealthy(reason: String) -> Finding {
    Ok((Verdict::Unhealthy, reason))
}

/// What is wrong with the body.
fn disagreement(json: &Json, body: &[u8]) -> Option<String> {
    let document: Value = match serde_json::from_slice(body) {
        Ok(document) => document,
        Err(error) => return Some(format!("the body is no JSON: {error}")),
    };
    match document.pointer(&json.pointer) {
        None => Some(format!("the JSON has no {}", json.pointer)),
        Some(found) if same(found, &json.equals) => None,
        Some(found) => Some(format!(
            "the JSON has {} = {}; expected {}",
            json.pointer,
            line(&found.to_string(), MAX_TOLD),
            line(&json.equals.to_string(), MAX_TOLD),
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
            ..answer(200, r#"{"n":3}"#)
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
