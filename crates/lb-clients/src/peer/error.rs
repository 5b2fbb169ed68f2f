//! Why a peer did not answer, in words for operators.

use std::{io, path::PathBuf, time::Duration};

use lb_model::duration;

/// Why an exchange with a peer failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// Nothing listens there.
    #[error("connection refused")]
    Refused,
    /// No packet gets there.
    #[error("unreachable: {0}")]
    Unreachable(String),
    /// The deadline passed.
    #[error("timed out after {} while {doing}", duration::format(*after))]
    TimedOut {
        /// What was waited for.
        doing: &'static str,
        /// How long the whole exchange had.
        after: Duration,
    },
    /// The peer ended the connection before it had answered.
    #[error("closed the connection while {0}")]
    Closed(&'static str),
    /// The peer reset the connection.
    #[error("reset the connection while {0}")]
    Reset(&'static str),
    /// The peer sends nothing any more though it was asked for a sign of life.
    #[error("sent nothing for {} though it was pinged", duration::format(*after))]
    Unresponsive {
        /// How long it was silent.
        after: Duration,
    },
    /// TLS failed: a certificate that does not fit, no common version, no TLS at all.
    #[error("TLS: {0}")]
    Tls(String),
    /// What came is not what the protocol says.
    #[error("protocol: {0}")]
    Protocol(String),
    /// The answer is longer than what is read.
    #[error("the answer is longer than {limit} bytes")]
    TooLong {
        /// Bytes that are read.
        limit: usize,
    },
    /// A file that the configuration names cannot be used.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// An environment variable that the configuration names cannot be used.
    #[error("environment variable {name}: {reason}; set it for the agent's process")]
    Environment {
        /// Its name.
        name: String,
        /// Why.
        reason: &'static str,
    },
    /// The request cannot be sent as it is configured.
    #[error("cannot ask: {0}")]
    Request(String),
    /// This machine failed.
    #[error("{doing}: {reason}")]
    Local {
        /// What was tried.
        doing: &'static str,
        /// The system's words.
        reason: String,
    },
}

impl PeerError {
    /// What a socket's error means; `doing` says what was tried (`connecting`).
    #[must_use]
    pub fn io(doing: &'static str, error: &io::Error) -> Self {
        use io::ErrorKind;
        match error.kind() {
            ErrorKind::ConnectionRefused => PeerError::Refused,
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted => {
                PeerError::Reset(doing)
            }
            ErrorKind::UnexpectedEof => PeerError::Closed(doing),
            ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::TimedOut => {
                PeerError::Unreachable(error.to_string())
            }
            // rustls speaks through these.
            ErrorKind::InvalidData => PeerError::Tls(error.to_string()),
            _ => PeerError::Local {
                doing,
                reason: error.to_string(),
            },
        }
    }
}
