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
mod handle;
mod links;
mod own_reals;
mod owner;
mod questions;
#[cfg(test)]
pub(crate) mod recorder;
mod restore;
pub mod service;
#[cfg(test)]
mod tests;
pub mod view;

use std::{sync::Arc, time::Instant};

use lb_model::vip::{RealId, VipKey};
use tokio::sync::{broadcast, oneshot};

pub use apply_weights::WeightUpdate;
pub use batch::{refuse_programs, running_programs};
pub use changed::Changed;
pub use event::{Event, What};
pub use figures::{Figures, Work};
pub use follow::{FileTopic, Followed, Snapshot};
pub use handle::Handle;
pub use owner::{Options, start};
pub use service::Service;
pub use view::{RealState, RealView, VipView};

use crate::weights::Steered;
use lb_dataplane::{self, CaptureFilter, CaptureReader, DataplaneError, Simulation};
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
    pub real: RealId,
    /// Flows opened since it was added.
    pub opened: u64,
    /// Flows closed since it was added, and those it lost when it went down.
    pub closed: u64,
    /// Live flows, where they are counted and `exact` was asked for.
    pub flows: Option<u64>,
    /// How it serves its flows; `None` for UDP.
    pub signs: Option<lb_dataplane::Signs>,
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
    NoteFile {
        topic: FileTopic,
        note: Option<String>,
    },
    /// There is nothing to do: it shows that the owner lives.
    Ping,
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
    StartCapture {
        filter: CaptureFilter,
        reply: oneshot::Sender<Result<Box<dyn CaptureReader>, ReadError>>,
    },
    StopCapture {
        reply: oneshot::Sender<()>,
    },
    CaptureNames {
        indices: Vec<(u32, u32)>,
        reply: oneshot::Sender<Vec<(Option<VipKey>, Option<RealId>)>>,
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
        real: RealId,
        flows: u32,
    },
    ProbeTrouble {
        vip: VipKey,
        reply: oneshot::Sender<Option<String>>,
    },
    ProbeMark {
        vip: VipKey,
        real: RealId,
        reply: oneshot::Sender<Option<u32>>,
    },
    Tick,
    SettleUnused,
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
