//! The administration of a node, at the socket in its folder.

use std::{path::Path, time::Duration};

use bytes::Bytes;
use lb_clients::peer::{
    Deadline,
    http_endpoint::{HttpAddress, HttpEndpoint},
};
use serde::Deserialize;
use serde_json::Value;

/// How long a node may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// The longest answer that is read.
const LONGEST: usize = 16 << 20;

/// What is read of a node's answer.
#[derive(Debug, Deserialize)]
struct Answer {
    /// The checksum of the configuration that it follows.
    #[serde(default)]
    config: Option<String>,
    /// Why it does not follow a newer one.
    #[serde(default)]
    not_followed: Option<String>,
}

/// Has a node follow the configuration with this checksum.
///
/// # Errors
/// Why it does not, in words.
pub async fn follow(socket: &Path, checksum: &str) -> Result<(), String> {
    let deadline = Deadline::after(PATIENCE);
    let mut node = HttpEndpoint::at(HttpAddress::Unix(socket.to_owned()));
    let follows = |answer: &Answer| answer.config.as_deref() == Some(checksum);
    if follows(&ask(&mut node, &deadline).await?) {
        return Ok(());
    }
    let reloaded = node
        .post("/v1/reload", &Value::Null, LONGEST, &deadline)
        .await?;
    // What it refuses it says below, too.
    whole(reloaded)?;
    let answer = ask(&mut node, &deadline).await?;
    if follows(&answer) {
        return Ok(());
    }
    Err(match answer.not_followed {
        Some(why) => format!("it does not follow its configuration: {why}"),
        None => "it follows another configuration than it was given".to_owned(),
    })
}

async fn ask(node: &mut HttpEndpoint, deadline: &Deadline) -> Result<Answer, String> {
    let body = whole(node.get("/v1/services", LONGEST, deadline).await?)?;
    serde_json::from_slice(&body)
        .map_err(|error| format!("it does not answer as lb-proxy does: {error}"))
}

/// The body of an answer; one that refuses says why.
fn whole(answer: lb_clients::peer::http::Response) -> Result<Bytes, String> {
    let status = answer.status;
    let body = answer.whole().map_err(|error| error.to_string())?;
    if status.is_success() {
        return Ok(body);
    }
    Err(format!(
        "it answers {status}: {}",
        String::from_utf8_lossy(&body).trim()
    ))
}
