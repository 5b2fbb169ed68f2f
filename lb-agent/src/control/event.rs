//! Changes, for watchers.

use std::{sync::Arc, time::SystemTime};

use lb_dataplane::InterfaceStatus;
use lb_model::vip::VipKey;

use super::view::{RealView, VipView};

/// Events that a watcher may be behind before its stream is ended with an error.
pub const WATCH_QUEUE: usize = 4_096;

/// A change that was made.
#[derive(Clone, Debug)]
pub struct Event {
    /// When.
    pub time: SystemTime,
    /// Its origin.
    pub cause: Arc<str>,
    /// Revision of the intent after it.
    pub revision: u64,
    /// The VIP; `None` if it concerns all of them.
    pub vip: Option<VipKey>,
    /// What happened.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum What {
    /// It was added.
    VipAdded(VipView),
    /// It was changed.
    VipChanged(VipView),
    /// It was deleted, with its reals.
    VipDeleted,
    /// A real was added to it.
    RealAdded(RealView),
    /// A real of it was changed, by an operator or by an observation.
    RealChanged(RealView),
    /// A real was taken from it.
    RealDeleted(RealView),
    /// The program was attached to an interface, or is not attached any more.
    InterfaceChanged(InterfaceStatus),
    /// The agent has something to say that concerns all VIPs: the cause says what.
    Notice,
}
