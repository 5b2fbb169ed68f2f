//! The task that asks on behalf of one real.

use std::time::Duration;

use lb_model::{
    shedding::Shedding,
    vip::{RealId, VipKey},
};
use tokio::{sync::watch, task::AbortHandle};

use super::{Division, Server, Subject, find, way::AnyWay};
use crate::backoff::Backoff;

/// The pause after the first failure.
const MIN_BACKOFF: Duration = Duration::from_secs(1);
/// The longest pause: a request that waited longer would ask for what steering no longer wants.
const MAX_BACKOFF: Duration = Duration::from_secs(10);

/// What steering wants of a real's connections until the next period.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ShedRequest {
    /// Connections that are to end.
    pub flows: u32,
    /// Whether the real is drained by hand.
    pub is_drained: bool,
    /// Connections a second that may be ended.
    pub rate: f64,
}

/// Asks a server to shed a real's connections. Dropping it ends it; what was asked for stays.
#[derive(Debug)]
pub struct Shedder {
    settings: Shedding,
    divide: fn(&ShedRequest) -> Division,
    requests: watch::Sender<Option<ShedRequest>>,
    task: AbortHandle,
}

impl Drop for Shedder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shedder {
    /// Begins. Returns `None` where the data plane sheds, and for settings that [`normalize`](super::normalize) would
    /// refuse.
    #[must_use]
    pub fn start(settings: &Shedding, vip: VipKey, real: RealId) -> Option<Self> {
        let (divide, start) = find(&settings.way.kind)?.server?;
        let subject = Subject { vip, real };
        let way = start(&settings.way, Server::new(settings, real.address), subject)
            .inspect_err(|error| {
                tracing::warn!("VIP {vip}, real {real}: connections are not shed: {error}");
            })
            .ok()?;
        let (requests, receiver) = watch::channel(None);
        let work = Work {
            subject,
            way,
            backoff: Backoff::new(MIN_BACKOFF, MAX_BACKOFF),
            last_error: None,
        };
        Some(Shedder {
            settings: settings.clone(),
            divide,
            requests,
            task: tokio::spawn(work.run(receiver)).abort_handle(),
        })
    }

    /// Whether the task has ended by itself: it panicked, which is a fault of this program.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.task.is_finished()
    }

    /// Whether it sheds by these settings.
    #[must_use]
    pub fn is(&self, settings: &Shedding) -> bool {
        self.settings == *settings
    }

    /// Takes a request in the place of one that waits. Returns whether the server ends the connections; otherwise the
    /// data plane is to.
    #[must_use]
    pub fn shed(&self, request: ShedRequest) -> bool {
        let division = (self.divide)(&request);
        if division.is_sent {
            self.requests.send_replace(Some(request));
        }
        division.is_taken
    }
}

struct Work {
    subject: Subject,
    way: Box<dyn AnyWay>,
    backoff: Backoff,
    last_error: Option<String>,
}

impl Work {
    async fn run(mut self, mut requests: watch::Receiver<Option<ShedRequest>>) {
        while requests.changed().await.is_ok() {
            let Some(request) = *requests.borrow_and_update() else {
                continue;
            };
            match self.way.shed(request).await {
                Ok(()) => {
                    self.last_error = None;
                    self.backoff.reset();
                }
                Err(error) => {
                    self.report(error);
                    self.backoff.wait().await;
                }
            }
        }
    }

    /// Logs a line per change.
    fn report(&mut self, error: String) {
        if self.last_error.as_ref() != Some(&error) {
            let Subject { vip, real } = self.subject;
            tracing::warn!("VIP {vip}, real {real}: connections are not shed: {error}");
        }
        self.last_error = Some(error);
    }
}
