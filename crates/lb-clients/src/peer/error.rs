//! Why a peer did not answer, in words for operators.

use std::{io, path::PathBuf, time::Duration};

use lb_model::duration;
use nix::errno::Errno;

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
    /// An error of the connection that has no other name here.
    #[error("{doing}: {reason}")]
    Failed {
        /// The work that failed.
        doing: &'static str,
        /// The system's message.
        reason: String,
    },
    /// This host could not do it: it lacks files, memory, ports or a route, or its own firewall forbids it.
    #[error("this host: {doing}: {reason}")]
    Local {
        /// The work that failed.
        doing: &'static str,
        /// The system's message.
        reason: String,
    },
    /// The deadline passed while this process was stopped or got no CPU.
    #[error("this host: woke up {} late while {doing}: it lacks CPU, or the agent was stopped", duration::format(milliseconds(*late)))]
    Late {
        /// The work that was not finished.
        doing: &'static str,
        /// How late.
        late: Duration,
    },
}

const fn milliseconds(time: Duration) -> Duration {
    Duration::new(time.as_secs(), time.subsec_millis() * 1_000_000)
}

/// Errors of the system that are about this host, whatever was being done.
const LOCAL: &[Errno] = &[
    Errno::EMFILE,
    Errno::ENFILE,
    Errno::ENOBUFS,
    Errno::ENOMEM,
    Errno::EADDRNOTAVAIL,
    Errno::EADDRINUSE,
    // A rule of this host's firewall drops the packet on its way out.
    Errno::EPERM,
    Errno::ENETDOWN,
    Errno::ENODEV,
    Errno::EAFNOSUPPORT,
    // Too many processes.
    Errno::EAGAIN,
];

impl PeerError {
    /// The meaning of a socket's error; `doing` names the work that failed (`connecting`).
    #[must_use]
    pub fn io(doing: &'static str, error: &io::Error) -> Self {
        use io::ErrorKind;
        let is = |local: &Errno| error.raw_os_error() == Some(*local as i32);
        if LOCAL.iter().any(is) {
            return PeerError::local(doing, error);
        }
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
            _ => PeerError::Failed {
                doing,
                reason: error.to_string(),
            },
        }
    }

    /// An error of a call that no peer takes part in.
    #[must_use]
    pub fn local(doing: &'static str, error: &io::Error) -> Self {
        PeerError::Local {
            doing,
            reason: error.to_string(),
        }
    }

    /// Whether this is the trouble of this host, so that it says nothing about the peer.
    #[must_use]
    pub const fn is_local(&self) -> bool {
        match self {
            PeerError::Local { .. }
            | PeerError::Late { .. }
            | PeerError::File { .. }
            | PeerError::Environment { .. }
            | PeerError::Request(_) => true,
            PeerError::Refused
            | PeerError::Unreachable(_)
            | PeerError::TimedOut { .. }
            | PeerError::Closed(_)
            | PeerError::Reset(_)
            | PeerError::Unresponsive { .. }
            | PeerError::Tls(_)
            | PeerError::Protocol(_)
            | PeerError::TooLong { .. }
            | PeerError::Failed { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_this_host_are_told_from_those_of_the_peer() {
        let of =
            |errno: Errno| PeerError::io("connecting", &io::Error::from_raw_os_error(errno as i32));
        for errno in LOCAL {
            assert!(of(*errno).is_local(), "{errno}");
            assert!(
                of(*errno)
                    .to_string()
                    .starts_with("this host: connecting: ")
            );
        }
        for errno in [
            Errno::ECONNREFUSED,
            Errno::ECONNRESET,
            Errno::EPIPE,
            Errno::ETIMEDOUT,
            // As they come in ICMP errors: a router or the neighbour table says that the peer is not there.
            Errno::EHOSTUNREACH,
            Errno::ENETUNREACH,
            Errno::EHOSTDOWN,
            Errno::ENOPROTOOPT,
            Errno::EACCES,
            Errno::EPROTO,
        ] {
            assert!(!of(errno).is_local(), "{errno}");
        }
    }
}
