//! The one owner of the intent and of the data plane. Everything else sends it commands.
//!
//! A change is validated, stored, given to the data plane and then acknowledged. If the data plane refuses
//! it, the store is put back and the change is refused: nothing has changed. Changes that wait in the queue
//! together are stored in one transaction, and each service they touch is computed once.

mod apply_weights;
mod batch;
mod changed;
mod database;
pub mod event;
mod figures;
mod follow;
mod links;
mod own_reals;
mod owner;
#[cfg(test)]
pub(crate) mod recorder;
mod restore;
pub mod service;
#[cfg(test)]
mod tests;
pub mod view;

use std::{net::IpAddr, sync::Arc, time::Instant};

use lb_model::vip::VipKey;
use tokio::sync::{broadcast, mpsc, oneshot};

pub use apply_weights::WeightUpdate;
pub use batch::{refuse_programs, running_programs};
pub use changed::Changed;
pub use event::{Event, What};
pub use figures::{Figures, Work};
pub use follow::{Followed, Snapshot};
pub use owner::{Options, start};
pub use service::Service;
pub use view::{RealState, RealView, VipView};

use crate::weights::Steered;
use lb_dataplane::{self, DataplaneError, Simulation};
use lb_model::intent::{Change, Intent, Refusal, Writer};

/// Commands that may wait for the owner; a sender of more waits.
const QUEUE: usize = 2_048;
/// The same for questions.
const QUESTIONS: usize = 64;

/// A change that somebody asks for.
#[derive(Clone, Debug)]
pub struct ChangeRequest {
    /// The change.
    pub change: Change,
    /// Its writer.
    pub writer: Writer,
    /// Its origin, for the log and for watchers.
    pub cause: Arc<str>,
}

/// A change that waits for the owner.
#[derive(Debug)]
pub struct PendingChange {
    /// What was asked for.
    pub request: ChangeRequest,
    /// Gets the VIP once the change is made (`None` if it was deleted), or the refusal.
    pub reply: oneshot::Sender<Result<Option<VipView>, Refusal>>,
    /// Whether the reply needs the VIP.
    pub view: bool,
    /// When it was requested.
    pub requested: Instant,
}

/// Counters together with the VIPs they are of.
#[derive(Debug)]
pub struct StatsView {
    /// The VIPs.
    pub vips: Vec<VipView>,
    /// The counters.
    pub stats: lb_dataplane::Stats,
}

/// Flows of a real, by the data plane's counters.
#[derive(Clone, Copy, Debug)]
pub struct FlowCounts {
    /// The VIP.
    pub vip: VipKey,
    /// The real.
    pub real: IpAddr,
    /// Flows opened since it was added.
    pub opened: u64,
    /// Flows closed since it was added, and those it lost when it went down.
    pub closed: u64,
    /// Live flows, where they are counted and `exact` was asked for.
    pub flows: Option<u64>,
    /// Share of the ring, 0 to 1.
    pub share: f64,
}

/// The agent's state.
#[derive(Debug)]
pub struct StatusView {
    /// Number of VIPs.
    pub vips: usize,
    /// Number of reals, counted per VIP.
    pub reals: usize,
    /// Revision of the intent.
    pub revision: u64,
    /// The data plane's state.
    pub dataplane: lb_dataplane::Status,
    /// What an operator should know of the agent itself.
    pub warnings: Vec<String>,
}

pub(crate) enum Command {
    Change(Box<PendingChange>),
    Follow {
        wanted: Box<Intent>,
        writer: Writer,
        cause: Arc<str>,
        reply: oneshot::Sender<Followed>,
    },
    Snapshot {
        reply: oneshot::Sender<Snapshot>,
    },
    List {
        vip: Option<VipKey>,
        reply: oneshot::Sender<Result<Vec<VipView>, ReadError>>,
    },
    Stats {
        vip: Option<VipKey>,
        reply: oneshot::Sender<Result<StatsView, ReadError>>,
    },
    Status {
        reply: oneshot::Sender<StatusView>,
    },
    Figures {
        reply: oneshot::Sender<Result<Figures, ReadError>>,
    },
    Simulate {
        interface: Option<String>,
        frame: Vec<u8>,
        reply: oneshot::Sender<Result<Simulation, ReadError>>,
    },
    Service {
        vip: VipKey,
        reply: oneshot::Sender<Result<Service, ReadError>>,
    },
    Watch {
        vip: Option<VipKey>,
        since: Option<u64>,
        reply: oneshot::Sender<Result<Watching, ReadError>>,
    },
    ApplyWeights {
        updates: Vec<WeightUpdate>,
        reply: oneshot::Sender<()>,
    },
    FlowCounts {
        exact: bool,
        reply: oneshot::Sender<Result<Vec<FlowCounts>, ReadError>>,
    },
    Steered {
        vip: VipKey,
        reply: oneshot::Sender<Option<Steered>>,
    },
    Shed {
        vip: VipKey,
        real: IpAddr,
        flows: u32,
    },
    ProbeTrouble {
        vip: VipKey,
        reply: oneshot::Sender<Option<String>>,
    },
    ProbeMark {
        vip: VipKey,
        real: IpAddr,
        reply: oneshot::Sender<Option<u32>>,
    },
    Tick,
    RefreshNextHops,
    CheckLinks,
    Stop,
}

/// A snapshot, and what changes from then on.
pub struct Watching {
    /// The revision of the intent that the snapshot shows.
    pub revision: u64,
    /// Whether `snapshot` and `deleted` are only what changed since the revision that was asked for.
    pub resumed: bool,
    /// The VIPs.
    pub snapshot: Vec<VipView>,
    /// VIPs that were deleted since that revision.
    pub deleted: Vec<VipKey>,
    /// The changes.
    pub events: broadcast::Receiver<Event>,
}

/// Why something could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is no VIP with this name.
    #[error(transparent)]
    Vip(Refusal),
    /// The data plane failed.
    #[error(transparent)]
    Dataplane(#[from] DataplaneError),
    /// The agent ends.
    #[error("the agent is stopping; try again when it runs")]
    Stopping,
}

/// Sends commands to the owner.
#[derive(Clone, Debug)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    /// Questions: the owner answers them when no command waits.
    questions: mpsc::Sender<Command>,
    /// Seed of the rings.
    pub seed: u64,
}

impl ChangeRequest {
    /// A change by a caller of the API that insists on nothing.
    #[must_use]
    pub fn new(change: Change, cause: Arc<str>) -> Self {
        ChangeRequest {
            change,
            writer: Writer::default(),
            cause,
        }
    }
}

impl Handle {
    /// Makes a change, and waits until it is stored and in the tables.
    ///
    /// # Errors
    /// A [`Refusal`]; nothing has changed then.
    pub async fn change(&self, request: ChangeRequest) -> Result<Option<VipView>, Refusal> {
        let receiver = self.submit(request, true).await?;
        receiver.await.map_err(|_| Refusal::Stopping)?
    }

    /// Puts a change into the queue; the receiver tells when it is done.
    ///
    /// # Errors
    /// [`Refusal::Stopping`].
    pub async fn submit(
        &self,
        request: ChangeRequest,
        view: bool,
    ) -> Result<oneshot::Receiver<Result<Option<VipView>, Refusal>>, Refusal> {
        let (reply, receiver) = oneshot::channel();
        self.commands
            .send(Command::Change(Box::new(PendingChange {
                request,
                reply,
                view,
                requested: Instant::now(),
            })))
            .await
            .map_err(|_| Refusal::Stopping)?;
        Ok(receiver)
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, ReadError> {
        let (reply, receiver) = oneshot::channel();
        self.commands
            .send(command(reply))
            .await
            .map_err(|_| ReadError::Stopping)?;
        receiver.await.map_err(|_| ReadError::Stopping)
    }

    /// Asks something that can wait: changes, weights and ticks come first.
    async fn ask_when_idle<T>(
        &self,
        question: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, ReadError> {
        let (reply, receiver) = oneshot::channel();
        self.questions
            .send(question(reply))
            .await
            .map_err(|_| ReadError::Stopping)?;
        receiver.await.map_err(|_| ReadError::Stopping)
    }

    /// Makes the objects of `writer`'s owner what is wanted, and returns once that is stored and in the tables.
    ///
    /// # Errors
    /// [`ReadError::Stopping`].
    pub async fn follow(
        &self,
        wanted: Intent,
        writer: Writer,
        cause: Arc<str>,
    ) -> Result<Followed, ReadError> {
        let wanted = Box::new(wanted);
        self.ask(|reply| Command::Follow {
            wanted,
            writer,
            cause,
            reply,
        })
        .await
    }

    /// The intent as it is.
    ///
    /// # Errors
    /// [`ReadError::Stopping`].
    pub async fn snapshot(&self) -> Result<Snapshot, ReadError> {
        self.ask_when_idle(|reply| Command::Snapshot { reply })
            .await
    }

    /// All VIPs, or one.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn list(&self, vip: Option<VipKey>) -> Result<Vec<VipView>, ReadError> {
        self.ask_when_idle(|reply| Command::List { vip, reply })
            .await?
    }

    /// Counters of all VIPs, or of one.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn stats(&self, vip: Option<VipKey>) -> Result<StatsView, ReadError> {
        self.ask_when_idle(|reply| Command::Stats { vip, reply })
            .await?
    }

    /// The agent's state.
    ///
    /// # Errors
    /// [`ReadError::Stopping`].
    pub async fn status(&self) -> Result<StatusView, ReadError> {
        self.ask_when_idle(|reply| Command::Status { reply }).await
    }

    /// Everything the owner can say of one moment; live flows and reachability are at most a second old.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn figures(&self) -> Result<Figures, ReadError> {
        self.ask_when_idle(|reply| Command::Figures { reply })
            .await?
    }

    /// Commands that wait for the owner.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.commands.max_capacity() - self.commands.capacity()
    }

    /// What would happen to a frame.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn simulate(
        &self,
        interface: Option<String>,
        frame: Vec<u8>,
    ) -> Result<Simulation, ReadError> {
        self.ask_when_idle(|reply| Command::Simulate {
            interface,
            frame,
            reply,
        })
        .await?
    }

    /// A VIP with its ring.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn service(&self, vip: VipKey) -> Result<Service, ReadError> {
        self.ask_when_idle(|reply| Command::Service { vip, reply })
            .await?
    }

    /// A snapshot of all VIPs (or of one) and the changes after it. With a revision, the snapshot holds only what has
    /// changed since, if that is still known.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn watch(
        &self,
        vip: Option<VipKey>,
        since: Option<u64>,
    ) -> Result<Watching, ReadError> {
        self.ask_when_idle(|reply| Command::Watch { vip, since, reply })
            .await?
    }

    /// Puts the weights that steering decided into the tables; returns when they are there.
    ///
    /// # Errors
    /// [`ReadError::Stopping`].
    pub async fn apply_weights(&self, updates: Vec<WeightUpdate>) -> Result<(), ReadError> {
        self.ask(|reply| Command::ApplyWeights { updates, reply })
            .await
    }

    /// The weights that steering last decided for a VIP, if it is steered.
    ///
    /// # Errors
    /// [`ReadError::Stopping`].
    pub async fn steered(&self, vip: VipKey) -> Result<Option<Steered>, ReadError> {
        self.ask(|reply| Command::Steered { vip, reply }).await
    }

    /// The flows of every real so far; with `exact`, also the live flows of VIPs that track all, for which the flow table
    /// is scanned.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn flow_counts(&self, exact: bool) -> Result<Vec<FlowCounts>, ReadError> {
        self.ask(|reply| Command::FlowCounts { exact, reply })
            .await?
    }

    /// Has at most this many of a real's running flows reset soon.
    pub async fn shed(&self, vip: VipKey, real: IpAddr, flows: u32) {
        // Only a stopping owner does not take it.
        let _ = self.commands.send(Command::Shed { vip, real, flows }).await;
    }

    /// The mark (SO_MARK) of sockets whose packets are to reach this real as clients' packets do; `None` if it is in no
    /// table.
    ///
    /// # Errors
    /// [`ReadError::Stopping`].
    pub async fn probe_mark(&self, vip: VipKey, real: IpAddr) -> Result<Option<u32>, ReadError> {
        self.ask(|reply| Command::ProbeMark { vip, real, reply })
            .await
    }

    /// Why probes to a VIP do not leave this host as clients' packets do, and what to do; `None` if they do.
    ///
    /// # Errors
    /// [`ReadError::Stopping`].
    pub async fn probe_problem(&self, vip: VipKey) -> Result<Option<String>, ReadError> {
        self.ask(|reply| Command::ProbeTrouble { vip, reply }).await
    }

    /// The way to some address changed.
    pub async fn refresh_next_hops(&self) {
        // Only a stopping owner does not take it.
        let _ = self.commands.send(Command::RefreshNextHops).await;
    }

    /// A network interface was added, changed or removed.
    pub async fn check_links(&self) {
        // Only a stopping owner does not take it.
        let _ = self.commands.send(Command::CheckLinks).await;
    }

    /// Time passes; call it once a second. A second one is not queued behind a busy owner for long.
    pub fn tick(&self) {
        // A full queue means that the owner is at work; the next tick does the same.
        let _ = self.commands.try_send(Command::Tick);
    }

    /// Ends the owner after the commands that wait; the tables stay as they are.
    pub async fn stop(&self) {
        let _ = self.commands.send(Command::Stop).await;
    }
}
