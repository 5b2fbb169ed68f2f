//! What a file of this folder declares: the settings of a way of shedding, and the code that asks for it.

use std::future::Future;

use futures::future::BoxFuture;
use lb_model::{
    component::{Component, Kind},
    settings::{FieldError, Map, Settings, Value},
    vip::{RealId, VipKey},
};

use super::{ShedRequest, server::Server};

/// The real whose connections are shed.
#[derive(Clone, Copy, Debug)]
pub struct Subject {
    /// The VIP.
    pub vip: VipKey,
    /// The real's address.
    pub real: RealId,
}

/// What a way of shedding makes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Division {
    /// Whether the server is to hear of the request.
    pub is_sent: bool,
    /// Whether the server ends the connections, and not the data plane.
    pub is_taken: bool,
}

/// A way of shedding that asks a server. A value asks for one real of one VIP.
pub trait ShedWay: Send + Sized + 'static {
    /// The settings that only this way has.
    type Settings: Settings;

    /// What becomes of a request.
    fn divide(request: &ShedRequest) -> Division;

    /// Asks this server on behalf of this real.
    fn new(settings: Self::Settings, server: Server, subject: Subject) -> Self;

    /// Passes a request on.
    ///
    /// # Errors
    /// Why it was not done, in words for the operator.
    fn shed(&mut self, request: ShedRequest) -> impl Future<Output = Result<(), String>> + Send;
}

/// Any way that asks a server.
pub(super) trait AnyWay: Send {
    fn shed(&mut self, request: ShedRequest) -> BoxFuture<'_, Result<(), String>>;
}

impl<W: ShedWay> AnyWay for W {
    fn shed(&mut self, request: ShedRequest) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(ShedWay::shed(self, request))
    }
}

type Divide = fn(&ShedRequest) -> Division;
type Start = fn(&Component, Server, Subject) -> Result<Box<dyn AnyWay>, FieldError>;

/// What the registry knows of a way of shedding.
#[derive(Clone, Copy, Debug)]
pub struct ShedKind {
    pub(super) kind: Kind,
    /// `None` if the data plane sheds.
    pub(super) server: Option<(Divide, Start)>,
}

impl ShedKind {
    /// The way that `W` implements.
    pub(super) const fn of<W: ShedWay>(name: &'static str, help: &'static str) -> Self {
        let start: Start =
            |component, server, subject| Ok(Box::new(W::new(component.read()?, server, subject)));
        ShedKind {
            kind: Kind::of::<W::Settings>(name, help),
            server: Some((W::divide, start)),
        }
    }

    /// A way in which the data plane sheds, with the settings `T`.
    pub(super) const fn of_data_plane<T: Settings>(name: &'static str, help: &'static str) -> Self {
        ShedKind {
            kind: Kind::of::<T>(name, help),
            server: None,
        }
    }

    /// The way with a function that sees all settings, as [`Kind::completed_by`].
    pub(super) const fn completed_by(
        self,
        complete: fn(&mut Map<String, Value>) -> Result<(), FieldError>,
    ) -> Self {
        ShedKind {
            kind: self.kind.completed_by(complete),
            ..self
        }
    }
}
