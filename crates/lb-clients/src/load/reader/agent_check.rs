//! HAProxy's agent-check protocol: connects, sends the configured text, and reads one line such as `75% ready`.

use futures::future::BoxFuture;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{
    Poll,
    kind::{LoadReader, Reader, SourceTarget, Transport},
};
use crate::load::reading::{AgentCommand, Answer, Missing, Quantity, Sample};
use crate::peer::{Closing, Deadline, PeerError, Target, connect};

lb_model::settings! {
    /// HAProxy's agent-check protocol.
    pub(super) struct Settings {
        /// Text that is sent after connecting, as `agent-send` of HAProxy; no line end is added. May contain `{address}` and
        /// `{real}`.
        send: String = String::new();
    }
}

/// Bytes that are read of the line at most.
const MAX_LINE: usize = 1_024;

/// Reads a line: words separated by spaces, tabs or commas; a comment begins with `#`. The percentage is of the
/// operator's weight, not a load.
///
/// A word that is not part of the protocol is lost alone.
///
/// # Errors
/// No word is part of the protocol; names the first.
pub fn read(line: &[u8]) -> Result<Answer, String> {
    let line = line
        .split(|byte| matches!(byte, b'\n' | b'\r'))
        .next()
        .unwrap_or_default();
    let text = String::from_utf8_lossy(line);
    let text = text.trim_start_matches('\u{feff}');
    let words = text.split('#').next().unwrap_or_default();
    let mut answer = Answer::default();
    for word in words
        .split([' ', '\t', ','])
        .filter(|word| !word.is_empty())
    {
        let unknown = || {
            format!(
                "`{}` is not a word of the agent-check protocol",
                word.chars().take(40).collect::<String>()
            )
        };
        let lower = word.to_ascii_lowercase();
        let sample = if let Some(percent) = lower.strip_suffix('%') {
            Some((Quantity::AgentWeight, percent, 100.0))
        } else {
            let limit = lower.strip_prefix("maxconn:");
            limit.map(|limit| (Quantity::ConnectionLimit, limit, 1.0))
        };
        if let Some((quantity, text, whole)) = sample {
            match text.parse::<u32>() {
                Ok(number) => answer
                    .samples
                    .push(Sample::new(quantity, f64::from(number) / whole)),
                Err(_) => {
                    answer.unreadable.add(unknown);
                    answer.missing.push(Missing {
                        quantity,
                        reason: unknown(),
                    });
                }
            }
        } else {
            let command = match lower.as_str() {
                "ready" => AgentCommand::Ready,
                "drain" => AgentCommand::Drain,
                "maint" => AgentCommand::Maint,
                "up" => AgentCommand::Up,
                "down" | "fail" | "failed" | "stopped" => AgentCommand::Down,
                _ => {
                    answer.unreadable.add(unknown);
                    continue;
                }
            };
            // Lines such as `up ready` are common; the more severe command applies.
            answer.command = answer
                .command
                .into_iter()
                .chain([command])
                .max_by_key(|command| command.severity());
        }
    }
    if answer.samples.is_empty() && answer.command.is_none() {
        return Err(match answer.unreadable.problem() {
            Some(problem) => problem,
            None => "the agent sent no words".to_owned(),
        });
    }
    Ok(answer)
}

pub(super) static KIND: super::ReaderKind = super::ReaderKind::of::<AgentCheck>();

/// Polls an agent over a new connection each time.
#[derive(Debug)]
pub(super) struct AgentCheck {
    target: Target,
    send: String,
}

impl LoadReader for AgentCheck {
    const NAME: &'static str = "agent-check";
    const HELP: &'static str = "Reads a line of HAProxy's agent-check protocol: a weight (`75%`), a limit of connections \
                                (`maxconn:N`) and commands (`ready`, `drain`, `maint`, `up`, `down`).";
    const TRANSPORT: Transport = Transport::Tcp;

    type Settings = Settings;

    fn open(settings: Settings, target: &SourceTarget<'_>) -> Reader {
        Reader::Poll(Box::new(AgentCheck {
            target: Target {
                address: target.address,
                mark: None,
            },
            send: target.fill(&settings.send),
        }))
    }
}

impl AgentCheck {
    async fn line(&self, deadline: &Deadline) -> Result<Vec<u8>, PeerError> {
        let mut stream = connect(&self.target, Closing::Orderly, deadline).await?;
        deadline
            .bound("waiting for the agent's line", async {
                let failed = |error| PeerError::io("talking to the agent", &error);
                if !self.send.is_empty() {
                    stream
                        .write_all(self.send.as_bytes())
                        .await
                        .map_err(failed)?;
                }
                let mut line = Vec::new();
                while line.len() < MAX_LINE {
                    let mut bytes = [0; MAX_LINE];
                    let room = MAX_LINE - line.len();
                    let length = stream.read(&mut bytes[..room]).await.map_err(failed)?;
                    line.extend_from_slice(&bytes[..length]);
                    if length == 0 || bytes[..length].contains(&b'\n') {
                        return Ok(line);
                    }
                }
                Err(PeerError::TooLong { limit: MAX_LINE })
            })
            .await
    }
}

impl Poll for AgentCheck {
    fn poll<'a>(&'a mut self, deadline: &'a Deadline) -> BoxFuture<'a, Result<Answer, String>> {
        Box::pin(async {
            let line = self.line(deadline).await;
            line.map_err(|error| error.to_string())
                .and_then(|line| read(&line))
                .map_err(|reason| format!("{}: {reason}", self.target.address))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_are_read() {
        for (line, weight, limit, command) in [
            ("75%\n", Some(0.75), None, None),
            ("drain\n", None, None, Some(AgentCommand::Drain)),
            (
                "up ready 50% maxconn:30\r\n",
                Some(0.5),
                Some(30.0),
                Some(AgentCommand::Ready),
            ),
            (
                "READY,UP,100%\nmore",
                Some(1.0),
                None,
                Some(AgentCommand::Ready),
            ),
            ("down #disk is full\n", None, None, Some(AgentCommand::Down)),
            ("stopped up", None, None, Some(AgentCommand::Down)),
            ("maint\tready", None, None, Some(AgentCommand::Maint)),
        ] {
            let answer = read(line.as_bytes()).unwrap();
            assert_eq!(answer.get(Quantity::AgentWeight), weight, "{line}");
            assert_eq!(answer.get(Quantity::ConnectionLimit), limit, "{line}");
            assert_eq!(answer.command, command, "{line}");
            assert_eq!(answer.get(Quantity::Utilisation), None, "{line}");
        }
        let answer = read("\u{feff}75% dran maxconn:x up\n".as_bytes()).unwrap();
        assert_eq!(answer.get(Quantity::AgentWeight), Some(0.75));
        assert_eq!(answer.command, Some(AgentCommand::Up));
        assert_eq!(answer.missing[0].quantity, Quantity::ConnectionLimit);
        assert_eq!(
            answer.unreadable.problem().unwrap(),
            "`dran` is not a word of the agent-check protocol; 1 more"
        );
        for line in [
            "",
            "\n75%",
            "# only a comment",
            "75",
            "-1%",
            "maxconn:x",
            "HTTP/1.1 400",
            "\u{0}",
        ] {
            assert!(read(line.as_bytes()).is_err(), "{line}");
        }
        assert!(read(b"\xff\n").is_err());
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(line in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = read(&line);
        }
    }
}
