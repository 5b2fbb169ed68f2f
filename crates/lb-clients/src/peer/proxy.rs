//! The administration of an `lb-proxy`, as far as whoever writes its configuration needs it.

use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;

use super::{
    Deadline,
    http::Response,
    http_endpoint::{HttpAddress, HttpEndpoint},
};

/// How long a proxy may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// The longest answer that is read.
const LONGEST: usize = 16 << 20;

/// What is read of a proxy's answer.
#[derive(Debug, Deserialize)]
pub struct Answer {
    /// The checksum of the configuration that it follows.
    #[serde(default)]
    config: Option<String>,
    /// Why it does not follow a newer one.
    #[serde(default)]
    not_followed: Option<String>,
}

impl Answer {
    /// Reads what a proxy has answered at `/v1/services`.
    ///
    /// # Errors
    /// It is no answer of a proxy.
    pub fn read(body: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(body)
            .map_err(|error| format!("it does not answer as lb-proxy does: {error}"))
    }

    /// Whether it follows the configuration with this checksum.
    ///
    /// # Errors
    /// Why it does not, in words.
    pub fn check(self, checksum: &str) -> Result<(), String> {
        match self.not_followed {
            _ if self.config.as_deref() == Some(checksum) => Ok(()),
            Some(why) => Err(format!("it does not follow its configuration: {why}")),
            None => Err("it follows another configuration than it was given".to_owned()),
        }
    }
}

/// Has the proxy with its administration at this address follow its configuration file, whose CRC-32 is `checksum`, as 8
/// hexadecimal digits.
///
/// # Errors
/// Why it does not, in words.
pub async fn follow(address: HttpAddress, checksum: &str) -> Result<(), String> {
    let deadline = Deadline::after(PATIENCE);
    let mut proxy = HttpEndpoint::at(address);
    if ask(&mut proxy, &deadline).await?.check(checksum).is_ok() {
        return Ok(());
    }
    let reloaded = proxy
        .post("/v1/reload", &Value::Null, LONGEST, &deadline)
        .await?;
    // What it refuses it says below, too.
    whole(reloaded)?;
    ask(&mut proxy, &deadline).await?.check(checksum)
}

async fn ask(proxy: &mut HttpEndpoint, deadline: &Deadline) -> Result<Answer, String> {
    let body = whole(proxy.get("/v1/services", LONGEST, deadline).await?)?;
    Answer::read(&body)
}

/// The body of an answer; one that refuses says why.
fn whole(answer: Response) -> Result<Bytes, String> {
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
