//! Redis, and servers that speak its protocol (Valkey, KeyDB): `PING`, after `AUTH` if there is a password.
//!
//! A frozen server completes the TCP handshake and answers nothing, so only the answer tells. Replies are RESP2 simple
//! strings and errors, one line each: <https://redis.io/docs/latest/develop/reference/protocol-spec/>.

use lb_model::{
    peer::{Secret, Tls},
    settings::FieldError,
};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};

use super::{Attempt, Finding, Probe, ProbeKind};
use crate::health::{Verdict, outcome::line};
use crate::peer::{PeerError, TlsClient, secret, tls};

const ASKING: &str = "waiting for an answer to PING";
/// Bytes of all replies at most; the right ones have 12.
const MAX_REPLIES: u64 = 4 << 10;
/// Characters of a reply that a reason repeats.
const MAX_QUOTED: usize = 80;

pub(super) static KIND: ProbeKind = ProbeKind::of::<RedisProbe>(
    "redis",
    "Sends PING to Redis or a server that speaks its protocol. A frozen server is found, because it answers nothing.",
);

lb_model::settings! {
    /// PING.
    #[derive(Eq, Default)]
    pub struct Redis {
        /// User name (ACL, Redis 6); goes with `password`.
        username: Option<String> = None;
        /// Place of the password; without it a server that demands one is healthy, because it answers.
        password: Option<Secret> = None;
        /// TLS; without it the connection is not encrypted.
        tls: Option<Tls> = None;
    }
    validate(redis) {
        if redis.username.is_some() && redis.password.is_none() {
            return Err(FieldError::missing("password", "give the password of the user"));
        }
        tls::validate(redis.tls.as_ref())
    }
}

/// Asks over a connection of its own.
#[derive(Debug)]
struct RedisProbe {
    settings: Redis,
    tls: Option<TlsClient>,
}

impl Probe for RedisProbe {
    type Settings = Redis;

    fn new(settings: Redis) -> Self {
        RedisProbe {
            tls: TlsClient::of(settings.tls.as_ref(), &[]),
            settings,
        }
    }

    async fn run(&mut self, attempt: &Attempt<'_>) -> Finding {
        let Redis {
            username, password, ..
        } = &self.settings;
        let mut request = Vec::new();
        if let Some(password) = password {
            let password = secret::read(password, attempt.deadline).await?;
            let mut words = vec!["AUTH"];
            words.extend(username.as_deref());
            words.push(password.expose());
            command(&mut request, &words);
        }
        command(&mut request, &["PING"]);
        let stream = attempt.open(self.tls.as_mut()).await?;
        let failed = |error: std::io::Error| PeerError::io(ASKING, &error);
        let ask = async {
            let mut stream = BufReader::new(stream);
            stream.write_all(&request).await.map_err(failed)?;
            let mut replies = stream.take(MAX_REPLIES);
            if password.is_some() {
                let reply = read_line(&mut replies).await.map_err(failed)?;
                if reply != "+OK" {
                    let reply = line(&reply, MAX_QUOTED);
                    return Ok((Verdict::Unhealthy, format!("refused the login: {reply}")));
                }
            }
            let reply = read_line(&mut replies).await.map_err(failed)?;
            Ok(judge(&reply))
        };
        attempt.deadline.bound(ASKING, ask).await
    }
}

/// Appends a command as an array of bulk strings.
fn command(request: &mut Vec<u8>, words: &[&str]) {
    request.extend(format!("*{}\r\n", words.len()).bytes());
    for word in words {
        request.extend(format!("${}\r\n{word}\r\n", word.len()).bytes());
    }
}

async fn read_line(
    replies: &mut (impl tokio::io::AsyncBufRead + Unpin),
) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    replies.read_until(b'\n', &mut bytes).await?;
    if !bytes.ends_with(b"\r\n") {
        return Err(std::io::Error::new(
            std::io::ErrorKind::UnexpectedEof,
            "the connection ended before a whole reply",
        ));
    }
    bytes.truncate(bytes.len() - 2);
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// What the reply to PING says about the server.
fn judge(reply: &str) -> (Verdict, String) {
    let code = reply.split(' ').next().unwrap_or_default();
    let verdict = match code {
        "+PONG" => Verdict::Healthy,
        // It answers, and refuses this client only.
        "-NOAUTH" | "-NOPERM" => Verdict::Healthy,
        // Loading its data, a replica without its master, or busy with a script.
        _ => Verdict::Unhealthy,
    };
    (verdict, format!("answered {}", line(reply, MAX_QUOTED)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_arrays_of_bulk_strings() {
        let mut request = Vec::new();
        command(&mut request, &["AUTH", "user", "pass word"]);
        command(&mut request, &["PING"]);
        let expected = "*3\r\n$4\r\nAUTH\r\n$4\r\nuser\r\n$9\r\npass word\r\n*1\r\n$4\r\nPING\r\n";
        assert_eq!(request, expected.as_bytes());
    }

    #[test]
    fn replies_are_judged() {
        for (reply, verdict) in [
            ("+PONG", Verdict::Healthy),
            ("-NOAUTH Authentication required.", Verdict::Healthy),
            ("-NOPERM this user has no permissions", Verdict::Healthy),
            (
                "-LOADING Redis is loading the dataset in memory",
                Verdict::Unhealthy,
            ),
            ("-MASTERDOWN Link with MASTER is down", Verdict::Unhealthy),
            ("-BUSY Redis is busy running a script", Verdict::Unhealthy),
            ("HTTP/1.1 400 Bad Request", Verdict::Unhealthy),
            ("", Verdict::Unhealthy),
        ] {
            assert_eq!(judge(reply).0, verdict, "{reply}");
        }
    }
}
