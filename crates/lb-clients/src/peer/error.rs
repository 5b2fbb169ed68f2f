//! Why a peer did not answer, in words for operators.

use std::{io, path::PathBuf, time::Duration};

use lb_model::duration;

/// Why an exchange with a peer failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// Nothing listens at the address.
    #[error("connection refused")]
    Refused,
    /// The network does not reach the address.
    #[error("unreachable: {0}")]
    Unreachable(String),
    /// The deadline passed.
    #[error("timed out after {} while {doing}", duration::format(*after))]
    TimedOut {
        /// The work that was not finished.
        doing: &'static str,
        /// The time limit of the whole exchange.
        after: Duration,
    },
    /// The peer closed the connection before it answered.
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
    /// TLS failed: the certificate is not valid, there is no common version, or the peer does not speak TLS.
    #[error("TLS: {0}")]
    Tls(String),
    /// The answer violates the protocol.
    #[error("protocol: {0}")]
    Protocol(String),
    /// The answer is longer than the limit.
    #[error("the answer is longer than {limit} bytes")]
    TooLong {
        /// Bytes that are read at most.
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
    /// The operating system refused.
    #[error("{doing}: {reason}")]
    Local {
        /// The work that failed.
        doing: &'static str,
        /// The system's message.
        reason: String,
    },
}

impl PeerError {
    /// The meaning of a socket's error; `doing` names the work that failed (`connecting`).
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
            // rustls reports its errors as this kind.
            ErrorKind::InvalidData => PeerError::Tls(error.to_string()),
            _ => PeerError::Local {
                doing,
                reason: error.to_string(),
            },
        }
    }
}
