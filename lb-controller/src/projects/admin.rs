//! The administration of a node, at the socket in its folder, or by a program in its guest.

use std::{path::Path, time::Duration};

use bytes::Bytes;
use lb_clients::peer::{
    Deadline,
    http_endpoint::{HttpAddress, HttpEndpoint},
};
use lb_drivers::Command;
use lb_model::pool::InstanceName;
use serde::Deserialize;
use serde_json::Value;

use crate::controller::Controller;

/// How long a node may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// The program in a guest that has its proxy follow the configuration on its standard input.
const FOLLOW: &str = "/lb/follow";
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

/// Has a node that is a virtual machine follow a configuration.
///
/// # Errors
/// Why it does not, in words.
pub async fn follow_in_guest(
    controller: &Controller,
    name: &InstanceName,
    text: &str,
    checksum: &str,
) -> Result<(), String> {
    let mut last = None;
    // The second time it reads the file again, although it is the same.
    for how in ["changed", "again"] {
        let command = Command {
            words: [FOLLOW, checksum, how].map(str::to_owned).to_vec(),
            input: text.as_bytes().to_vec(),
        };
        let output = controller.exec(name, &command).await;
        let output = output.map_err(|error| error.to_string())?;
        if output.status != 0 {
            let why = String::from_utf8_lossy(&output.stderr);
            return Err(format!(
                "it does not follow its configuration: {}",
                why.trim()
            ));
        }
        let answer: Answer = serde_json::from_slice(&output.stdout)
            .map_err(|error| format!("it does not answer as lb-proxy does: {error}"))?;
        if answer.config.as_deref() == Some(checksum) {
            return Ok(());
        }
        last = answer.not_followed;
    }
    Err(match last {
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
