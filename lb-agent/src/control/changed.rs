//! Announces to the supervisor which VIPs changed. However many changes there are, the announcements that wait are
//! bounded by the number of VIPs.

use std::{
    collections::BTreeMap,
    mem,
    sync::{Arc, Mutex, PoisonError},
};

use lb_model::vip::VipKey;
use tokio::sync::Notify;

use lb_model::intent::Vip;

/// VIPs that changed since they were last taken: as they are now, or deleted.
#[derive(Debug, Default)]
pub struct Changed {
    waiting: Mutex<BTreeMap<VipKey, Option<Arc<Vip>>>>,
    notify: Notify,
}

impl Changed {
    /// Announces a VIP as it is now; `None` if it was deleted.
    pub fn announce(&self, vip: VipKey, now: Option<Arc<Vip>>) {
        // A map is whole whatever happened to another thread that held it.
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(vip, now);
        self.notify.notify_one();
    }

    /// Waits until something changed, and takes it.
    pub async fn take(&self) -> BTreeMap<VipKey, Option<Arc<Vip>>> {
        loop {
            let taken =
                mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
            if !taken.is_empty() {
                return taken;
            }
            self.notify.notified().await;
        }
    }
}
