//! Why a push fails, and what to do.

use std::{io, net::SocketAddr, path::PathBuf, time::Duration};

use hickory_proto::op::ResponseCode;
use lb_model::{dns::DomainName, duration, settings::FieldError};

use super::KeyError;

/// Why names are not at the server.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// The server cannot be reached.
    #[error(
        "the DNS server {server} cannot be reached by TCP ({source}); check that it runs, listens on this address and is \
         not behind a firewall"
    )]
    Connect {
        /// The server.
        server: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The connection broke.
    #[error(
        "the connection to the DNS server {server} broke ({source}); it is made again at the next attempt"
    )]
    Broken {
        /// The server.
        server: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// No answer in time.
    #[error("the DNS server {server} has not answered within {}; check its load and dns.push.timeout", duration::format(*.after))]
    Timeout {
        /// The server.
        server: SocketAddr,
        /// How long it was waited for.
        after: Duration,
    },
    /// The key cannot be read.
    #[error("the key file {} cannot be used: {source}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        source: KeyError,
    },
    /// The server does not know the key, knows it with another algorithm, or (Knot) does not permit it to update the zone.
    #[error(
        "the DNS server {server} does not accept the key {key} (BADKEY); give the server the key, with the same name and \
         algorithm, and permit it to update the zone"
    )]
    BadKey {
        /// The server.
        server: SocketAddr,
        /// The key's name.
        key: String,
    },
    /// The server has another secret for the key.
    #[error(
        "the DNS server {server} has another secret for the key {key} (BADSIG); copy the server's key into dns.push.key_file"
    )]
    BadSignature {
        /// The server.
        server: SocketAddr,
        /// The key's name.
        key: String,
    },
    /// The clocks differ by too much.
    #[error("the clocks of this host and of the DNS server {server} differ by {} (BADTIME); synchronize both", duration::format(*.by))]
    BadTime {
        /// The server.
        server: SocketAddr,
        /// By how much.
        by: Duration,
    },
    /// The answer's signature is wrong or missing: it does not come from the server.
    #[error(
        "an answer of the DNS server {server} to an update is not signed as it has to be ({why}); check the key on both \
         sides, and who is on the way"
    )]
    Unsigned {
        /// The server.
        server: SocketAddr,
        /// What is wrong.
        why: String,
    },
    /// The key may not do this.
    #[error(
        "the DNS server {server} refuses updates of {zone} (REFUSED); permit the key to update A, AAAA, TXT and PTR records \
         there"
    )]
    Refused {
        /// The server.
        server: SocketAddr,
        /// The zone.
        zone: DomainName,
    },
    /// The server does not have the zone, or only a copy of it.
    #[error(
        "the DNS server {server} is not the primary server of {zone}, or does not answer this host; give the primary's \
         address in dns.push.server, and check dns.zone"
    )]
    NotAuthoritative {
        /// The server.
        server: SocketAddr,
        /// The zone.
        zone: DomainName,
    },
    /// The name is somebody else's.
    #[error(
        "{name} is not changed: {what}; remove these records, or give the load balancer another name"
    )]
    Foreign {
        /// The name.
        name: DomainName,
        /// What it has.
        what: String,
    },
    /// Somebody else changes the name at the same time.
    #[error(
        "{name} is changed by somebody else at the same time; check that no two controllers have the same dns.push.owner"
    )]
    Conflict {
        /// The name.
        name: DomainName,
    },
    /// The server reports a failure.
    #[error("the DNS server {server} reports {} for {about}; its log says why", code_name(*.code))]
    Server {
        /// The server.
        server: SocketAddr,
        /// What it reports.
        code: ResponseCode,
        /// What it was asked about.
        about: String,
    },
    /// The answer cannot be read, or is to another question.
    #[error(
        "an answer of the DNS server {server} makes no sense ({why}); check that it is a DNS server"
    )]
    Answer {
        /// The server.
        server: SocketAddr,
        /// What is wrong.
        why: String,
    },
    /// These cannot be the addresses of a name.
    #[error(transparent)]
    Addresses(FieldError),
}

impl PushError {
    /// Returns whether other names may fare better.
    #[must_use]
    pub fn concerns_one_name(&self) -> bool {
        matches!(
            self,
            PushError::Refused { .. }
                | PushError::Foreign { .. }
                | PushError::Conflict { .. }
                | PushError::Server { .. }
                | PushError::Addresses(_)
        )
    }

    /// Returns whether the server refused the update.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, PushError::Refused { .. } | PushError::Server { .. })
    }
}

/// Returns what operators know a response code as.
fn code_name(code: ResponseCode) -> String {
    let name = match code {
        ResponseCode::FormErr => "FORMERR",
        ResponseCode::ServFail => "SERVFAIL",
        ResponseCode::NXDomain => "NXDOMAIN",
        ResponseCode::NotImp => "NOTIMP",
        ResponseCode::Refused => "REFUSED",
        ResponseCode::NotAuth => "NOTAUTH",
        ResponseCode::NotZone => "NOTZONE",
        code => return format!("the code {}", u16::from(code)),
    };
    name.to_owned()
}
