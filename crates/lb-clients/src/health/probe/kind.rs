//! What a file of this folder declares: the settings of a kind of probe, and the code that probes.

use std::{fmt, future::Future, sync::OnceLock};

use futures::future::BoxFuture;
use lb_model::{
    component::{Component, Kind},
    settings::{FieldError, Map, Settings, Value},
    vip::{RealId, VipKey},
};
use tokio::time::Instant;

use crate::health::Verdict;
use crate::peer::{Closing, Deadline, PeerError, Stream, Target, TlsClient};

/// What a probe that got an answer concludes, with the reason in words for an operator. An error means that there was
/// no answer: the real is dead, unless the error is this host's own ([`PeerError::is_local`]).
pub type Finding = Result<(Verdict, String), PeerError>;

/// One probe of one real.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// The VIP.
    pub vip: &'a VipKey,
    /// The real's address.
    pub real: RealId,
    /// Where the probe goes.
    pub target: &'a Target,
    /// When it has ended.
    pub deadline: &'a Deadline,
    /// When the answer was there, if the probe goes on after that.
    pub answered: &'a OnceLock<Instant>,
}

impl Attempt<'_> {
    /// Connects, over TLS if there is a TLS client. The connection is reset when it is dropped.
    pub(super) async fn open(&self, tls: Option<&mut TlsClient>) -> Result<Stream, PeerError> {
        Stream::open_until(self.target, tls, Closing::Reset, self.deadline).await
    }
}

/// A kind of probe. A value probes one real of one VIP, again and again.
pub trait Probe: fmt::Debug + Send + Sized + 'static {
    /// The settings that only this kind has.
    type Settings: Settings;

    /// A probe with these settings.
    fn new(settings: Self::Settings) -> Self;

    /// Probes once. It ends by the deadline, reads a bounded answer and opens connections of its own. Dropped in the
    /// middle, it leaves nothing behind.
    fn run(&mut self, attempt: &Attempt<'_>) -> impl Future<Output = Finding> + Send;
}

/// Any kind of probe.
pub(super) trait AnyProbe: fmt::Debug + Send {
    fn run<'a>(&'a mut self, attempt: &'a Attempt<'a>) -> BoxFuture<'a, Finding>;
}

impl<P: Probe> AnyProbe for P {
    fn run<'a>(&'a mut self, attempt: &'a Attempt<'a>) -> BoxFuture<'a, Finding> {
        Box::pin(Probe::run(self, attempt))
    }
}

/// What the registry knows of a kind of probe.
#[derive(Clone, Copy, Debug)]
pub struct ProbeKind {
    pub(super) kind: Kind,
    pub(super) start: fn(&Component) -> Result<Box<dyn AnyProbe>, FieldError>,
}

impl ProbeKind {
    /// The kind that `P` implements.
    pub(super) const fn of<P: Probe>(name: &'static str, help: &'static str) -> Self {
        ProbeKind {
            kind: Kind::of::<P::Settings>(name, help),
            start: |component| Ok(Box::new(P::new(component.read()?))),
        }
    }

    /// The kind with a function that sees the whole check, as [`Kind::completed_by`].
    pub(super) const fn completed_by(
        self,
        complete: fn(&mut Map<String, Value>) -> Result<(), FieldError>,
    ) -> Self {
        ProbeKind {
            kind: self.kind.completed_by(complete),
            ..self
        }
    }

    /// A kind that runs a program on the balancer: an administrator has to allow that, and it needs no port.
    pub(super) const fn running_a_program(self) -> Self {
        ProbeKind {
            kind: self.kind.without_port().running_program(),
            ..self
        }
    }
}
