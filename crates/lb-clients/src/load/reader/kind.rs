//! What a file of this folder declares: the name, help, settings and defaults of a kind of reader, and its code.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use lb_model::{
    component::{Kind, refuse_unused},
    duration,
    load::{DEFAULT_INTERVAL, LoadSource},
    settings::{FieldError, Map, Settings, Value},
};

use super::{
    Poll,
    shared::{fetch::Fetch, peer, topics::TopicReader},
};
pub(super) use lb_model::component::NoSettings;

use crate::peer::{Tls, TlsClient, fields, http::Authorization};

/// A kind of load reader.
pub(super) trait LoadReader: 'static {
    /// The name in the configuration.
    const NAME: &'static str;
    /// What the kind reads, in one or two sentences for operators.
    const HELP: &'static str;
    /// How the kind reaches its peer, which decides the common settings that it uses.
    const TRANSPORT: Transport;
    /// The peer's default port; `None` if the operator must give one, or the kind has no port.
    const PORT: Option<u16> = None;
    /// The peer's default port for TLS.
    const TLS_PORT: Option<u16> = Self::PORT;
    /// The default interval.
    const INTERVAL: Duration = DEFAULT_INTERVAL;
    /// Whether the kind counts clients of the service, rather than every connection of the host.
    const COUNTS_CLIENTS: bool = true;

    /// The settings that only this kind has.
    type Settings: Settings;

    /// Creates the reader of a source for one real.
    fn open(settings: Self::Settings, target: &SourceTarget<'_>) -> Reader;
}

/// How a kind of reader reaches its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Mqtt,
    Http,
    Grpc,
    Tcp,
    /// A Unix socket of this machine.
    UnixSocket,
}

impl Transport {
    /// The common settings that have no meaning for this transport.
    const fn unused(self) -> &'static [&'static str] {
        match self {
            Transport::Mqtt => &["token"],
            Transport::Http => &[],
            Transport::Grpc => &["username", "password", "token"],
            Transport::Tcp => &["tls", "username", "password", "token"],
            Transport::UnixSocket => &["port", "address", "tls", "username", "password", "token"],
        }
    }
}

/// A way to read: by polling, or by subscribing to topics of a broker.
pub(super) enum Reader {
    Poll(Box<dyn Poll>),
    Subscribe(Box<dyn TopicReader>),
}

/// What the registry knows of a kind of reader.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReaderKind {
    pub(super) kind: Kind,
    pub(super) interval: Duration,
    pub(super) counts_clients: bool,
    pub(super) address: fn(&LoadSource, IpAddr) -> SocketAddr,
    pub(super) open: fn(&SourceTarget<'_>) -> Result<Reader, FieldError>,
}

impl ReaderKind {
    /// The kind that `R` implements.
    pub(super) const fn of<R: LoadReader>() -> Self {
        ReaderKind {
            kind: Kind::of::<R::Settings>(R::NAME, R::HELP)
                .completed_by(complete::<R>)
                .with_default_ports(match (R::PORT, R::TLS_PORT) {
                    (Some(port), Some(tls_port)) => Some((port, tls_port)),
                    _ => None,
                }),
            interval: R::INTERVAL,
            counts_clients: R::COUNTS_CLIENTS,
            address: address::<R>,
            open: |target| Ok(R::open(target.source.reader.read()?, target)),
        }
    }
}

fn address<R: LoadReader>(source: &LoadSource, real: IpAddr) -> SocketAddr {
    let port = source.port.or(if source.tls.is_some() {
        R::TLS_PORT
    } else {
        R::PORT
    });
    SocketAddr::new(source.address.unwrap_or(real), port.unwrap_or_default())
}

/// Checks the common settings of a source, as far as they depend on its kind.
fn complete<R: LoadReader>(map: &mut Map<String, Value>) -> Result<(), FieldError> {
    refuse_unused(map, R::NAME, R::TRANSPORT.unused())?;
    let source = LoadSource::take(&mut map.clone())?;
    peer::validate_tls(source.tls.as_ref())?;
    if R::TRANSPORT != Transport::UnixSocket && R::PORT.is_none() && source.port.is_none() {
        let advice = format!("`{}` has no default port; give one", R::NAME);
        return Err(FieldError::missing("port", advice));
    }
    let interval = source.interval.unwrap_or(R::INTERVAL);
    match source.timeout {
        Some(timeout) if timeout > interval => Err(FieldError::new(
            "timeout",
            duration::format(timeout),
            format!(
                "longer than the interval, give at most {}",
                duration::format(interval)
            ),
        )),
        _ => Ok(()),
    }
}

/// A source, and the real for which it is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct SourceTarget<'a> {
    pub(super) source: &'a LoadSource,
    pub(super) real: IpAddr,
    /// The address and port that are read.
    pub(super) address: SocketAddr,
}

impl SourceTarget<'_> {
    /// Replaces `{address}` and `{real}` in a text of the settings.
    pub(super) fn fill(&self, text: &str) -> String {
        fields::fill(text, self.source.address, self.real)
    }

    /// Returns the TLS settings, if the source uses TLS.
    pub(super) fn tls(&self) -> Option<Tls> {
        self.source.tls.clone()
    }

    /// Returns a TLS client that offers these application protocols (ALPN), if the source uses TLS.
    pub(super) fn tls_client(&self, protocols: &[&str]) -> Option<TlsClient> {
        TlsClient::of(self.source.tls.as_ref(), protocols)
    }

    /// Returns the login, if the source has one.
    pub(super) fn authorization(&self) -> Option<Authorization> {
        peer::authorization(self.source)
    }

    /// Returns the page at `path`, which is a text of the settings.
    pub(super) fn page(&self, path: &str) -> Fetch {
        Fetch::new(self, path)
    }
}
