//! What changed, for whoever watches.

use std::{sync::Arc, time::SystemTime};

use lb_model::vip::VipKey;

use super::view::{RealView, VipView};

/// Events a watcher may be behind before it is told so and ended.
pub const WATCH_QUEUE: usize = 4_096;

/// A change that was made.
#[derive(Clone, Debug)]
pub struct Event {
    /// When.
    pub time: SystemTime,
    /// Who or what caused it.
    pub cause: Arc<str>,
    /// The VIP.
    pub vip: VipKey,
    /// What happened.
    pub what: What,
}

/// What happened to a VIP.
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
    /// A real of it was changed, by an order or by what is observed.
    RealChanged(RealView),
    /// A real was taken from it.
    RealDeleted(RealView),
}
