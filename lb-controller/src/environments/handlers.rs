//! The operator's own handlers: a program gets the event as JSON on its standard input, a web hook as the body of a POST. Both
//! answer with JSON: nothing, `{"veto": "why"}`, or `{"commands": […]}`.

use std::{
    net::{IpAddr, SocketAddr},
    process::Stdio,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, header::CONTENT_TYPE};
use lb_clients::peer::{
    Deadline, Stream, Target, TlsClient,
    http::{Request, exchange},
};
use lb_commands::{
    command::Command,
    environment::{
        Environment, Member, answer,
        verbs::{MEMBER, OTHER},
    },
    queue::Outcome,
};
use lb_model::{
    environment::{EnvironmentSpec, HandlerSpec},
    settings::Value,
};
use ring::hmac;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::KINDS;

/// The longest answer, in bytes.
const LONGEST: usize = 64 << 10;
/// The header with the signature of the body: `sha256=` and HMAC-SHA256 in hexadecimal digits.
const SIGNATURE: &str = "x-lb-signature";
/// The ports of web hooks that name none.
const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;

/// Calls the handler that a command names.
pub(super) async fn call(
    command: Command,
    environment: Environment,
    member: Member,
    allow_exec: bool,
) -> Outcome {
    if command.stage > 0 {
        // What it ordered is done.
        return Outcome::Done(Value::Null);
    }
    let name = command.text("handler");
    let spec = EnvironmentSpec::read(&environment.spec, KINDS.probes);
    let handlers = spec.map(|spec| spec.handlers).unwrap_or_default();
    let Some(handler) = handlers.into_iter().find(|one| one.name.as_str() == name) else {
        // It was taken out of the settings meanwhile.
        return Outcome::Done(Value::Null);
    };
    let event = event(&command, &environment, &member);
    let answered = if handler.command.is_empty() {
        post(&handler, &event).await
    } else if allow_exec {
        execute(&handler, &event).await
    } else {
        return Outcome::Refused("programs may not be handlers here (--exec-drivers)".to_owned());
    };
    let text = match answered {
        Ok(text) => text,
        Err(why) => return Outcome::Failed(format!("the handler {name}: {why}")),
    };
    let value = match text.trim_ascii() {
        b"" => Value::Null,
        text => match serde_json::from_slice(text) {
            Ok(value) => value,
            Err(error) => {
                return Outcome::Refused(format!(
                    "the handler {name}: its answer is no JSON: {error}"
                ));
            }
        },
    };
    match answer::read(&environment, &value) {
        Ok(verdict) => verdict.outcome(),
        Err(why) => Outcome::Refused(format!("the handler {name}: {why}")),
    }
}

/// What a handler is told.
fn event(command: &Command, environment: &Environment, member: &Member) -> Value {
    let shown = |member: &Member| {
        json!({
            "name": member.name,
            "role": member.role,
            "kind": member.kind.name(),
            "standing": member.standing.name(),
        })
    };
    let other = u32::try_from(command.number(OTHER)).ok();
    let other = other.and_then(|id| environment.member(id)).map(shown);
    let members: Vec<Value> = environment.members.iter().map(shown).collect();
    json!({
        "event": command.text("event"),
        "command": command.id,
        "environment": { "id": environment.id, "name": environment.name, "members": members },
        MEMBER: shown(member),
        OTHER: other,
        "cause": command.text("cause"),
    })
}

async fn execute(handler: &HandlerSpec, event: &Value) -> Result<Vec<u8>, String> {
    let Some((program, arguments)) = handler.command.split_first() else {
        return Err("it has no program".to_owned());
    };
    let mut child = tokio::process::Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("starting {program}: {error}"))?;
    let input = event.to_string();
    let work = async {
        if let Some(mut stdin) = child.stdin.take() {
            // A program need not read it.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        let (mut answer, mut errors) = (Vec::new(), Vec::new());
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let read_answer = async {
            match stdout {
                Some(stdout) => {
                    stdout
                        .take(LONGEST as u64 + 1)
                        .read_to_end(&mut answer)
                        .await
                }
                None => Ok(0),
            }
        };
        let read_errors = async {
            match stderr {
                Some(stderr) => stderr.take(LONGEST as u64).read_to_end(&mut errors).await,
                None => Ok(0),
            }
        };
        let (read, _) = tokio::join!(read_answer, read_errors);
        read.map_err(|error| error.to_string())?;
        if answer.len() > LONGEST {
            return Err(format!("its answer has more than {LONGEST} bytes"));
        }
        let status = child.wait().await.map_err(|error| error.to_string())?;
        if status.success() {
            Ok(answer)
        } else {
            let text = String::from_utf8_lossy(&errors);
            let last = text.trim().lines().last().unwrap_or_default().to_owned();
            Err(format!("{status}: {last}"))
        }
    };
    match tokio::time::timeout(handler.timeout, work).await {
        Ok(answer) => answer,
        Err(_) => Err(late(handler.timeout)),
    }
}

fn late(timeout: Duration) -> String {
    format!(
        "it has not answered within {}",
        lb_model::duration::format(timeout)
    )
}

/// A URL in its parts.
#[derive(Debug, PartialEq)]
struct Parts<'a> {
    is_tls: bool,
    host: &'a str,
    port: u16,
    path: &'a str,
}

fn parts(url: &str) -> Result<Parts<'_>, String> {
    let wrong = || format!("{url}: give http://HOST[:PORT]/PATH or https://HOST[:PORT]/PATH");
    let secure = url.strip_prefix("https://");
    let is_tls = secure.is_some();
    let rest = secure
        .or_else(|| url.strip_prefix("http://"))
        .ok_or_else(wrong)?;
    let at = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(at);
    let path = if path.is_empty() { "/" } else { path };
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().map_err(|_| wrong())?),
        _ => (authority, default_port(is_tls)),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() {
        return Err(wrong());
    }
    Ok(Parts {
        is_tls,
        host,
        port,
        path,
    })
}

const fn default_port(is_tls: bool) -> u16 {
    if is_tls { HTTPS_PORT } else { HTTP_PORT }
}

/// The TLS client of a web hook, whose certificate has the name of the host unless it is told otherwise.
fn tls_client(handler: &HandlerSpec, host: &str) -> TlsClient {
    let mut settings = handler.tls.clone().unwrap_or_default();
    if settings.server_name.is_none() && host.parse::<IpAddr>().is_err() {
        settings.server_name = Some(host.to_owned());
    }
    TlsClient::new(settings, &["http/1.1"])
}

/// The signature of a body.
fn sign(key: &[u8], body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    let tag = hmac::sign(&key, body);
    let digits: String = tag
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("sha256={digits}")
}

async fn post(handler: &HandlerSpec, event: &Value) -> Result<Vec<u8>, String> {
    let url = handler.url.as_deref().unwrap_or_default();
    let Parts {
        is_tls,
        host,
        port,
        path,
    } = parts(url)?;
    let mut tls = is_tls.then(|| tls_client(handler, host));
    let body = event.to_string();
    let mut headers = vec![(CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    if let Some(file) = &handler.secret_file {
        let key = tokio::fs::read(file).await;
        let key = key.map_err(|error| format!("reading {}: {error}", file.display()))?;
        let signature = sign(key.trim_ascii_end(), body.as_bytes());
        let value = HeaderValue::from_str(&signature).map_err(|error| error.to_string())?;
        headers.push((http::HeaderName::from_static(SIGNATURE), value));
    }
    let work = async {
        let found = tokio::net::lookup_host((host, port)).await;
        let addresses: Vec<SocketAddr> =
            found.map_err(|error| format!("{host}: {error}"))?.collect();
        let address = *addresses
            .first()
            .ok_or_else(|| format!("{host} has no address"))?;
        let deadline = Deadline::after(handler.timeout);
        let target = Target {
            address,
            mark: None,
        };
        let stream = Stream::open(&target, tls.as_mut(), &deadline).await;
        let stream = stream.map_err(|error| error.to_string())?;
        let authority = if port == default_port(is_tls) {
            host.to_owned()
        } else {
            format!("{host}:{port}")
        };
        let request = Request {
            method: Method::POST,
            path,
            host: &authority,
            headers: &headers,
            authorization: None,
            body: Bytes::from(body),
        };
        let response = exchange(stream, &request, LONGEST, &deadline).await;
        let response = response.map_err(|error| error.to_string())?;
        let status = response.status;
        let answer = response.whole().map_err(|error| error.to_string())?;
        if status.is_success() {
            Ok(answer.to_vec())
        } else {
            Err(format!("it answered {status}"))
        }
    };
    let answered = tokio::time::timeout(handler.timeout, work).await;
    let answered = answered.unwrap_or_else(|_| Err(late(handler.timeout)));
    answered.map_err(|why| format!("{url}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        for (url, host, port, path) in [
            ("https://a.example/x", "a.example", 443, "/x"),
            ("https://a.example:8443/x", "a.example", 8443, "/x"),
            ("http://a.example/x?y=1", "a.example", 80, "/x?y=1"),
            ("http://a.example:8080", "a.example", 8080, "/"),
            ("http://10.0.0.1:81/", "10.0.0.1", 81, "/"),
            ("http://[2001:db8::1]:81/a", "2001:db8::1", 81, "/a"),
            ("http://[2001:db8::1]/a", "2001:db8::1", 80, "/a"),
        ] {
            let expected = Parts {
                is_tls: url.starts_with("https"),
                host,
                port,
                path,
            };
            assert_eq!(parts(url).unwrap(), expected, "{url}");
        }
        for url in [
            "ftp://a/",
            "https://",
            "http://",
            "http://:80/",
            "http://a:x/",
        ] {
            assert!(parts(url).is_err(), "{url}");
        }
    }

    /// RFC 4231, test case 2.
    #[test]
    fn bodies_are_signed_with_hmac_sha256() {
        assert_eq!(
            sign(b"Jefe", b"what do ya want for nothing?"),
            "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }
}
