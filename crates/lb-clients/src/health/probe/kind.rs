//! What a file of this folder declares: the settings of a kind of probe, and the code that probes.

use std::{fmt, future::Future, net::IpAddr};

use futures::future::BoxFuture;
use lb_model::{
    component::{Component, Kind},
    settings::{FieldError, Map, Settings, Value},
    vip::VipKey,
};

use crate::health::Verdict;
use crate::peer::{Deadline, PeerError, Target};

/// What a probe that got an answer concludes, with the reason in words for an operator. An error means that there was
/// no answer, and that the real is dead.
pub type Finding = Result<(Verdict, String), PeerError>;

/// One probe of one real.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// The VIP.
    pub vip: &'a VipKey,
    /// The real's address.
    pub real: IpAddr,
    /// Where the probe goes.
    pub target: &'a Target,
    /// When it has ended.
    pub deadline: &'a Deadline,
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
