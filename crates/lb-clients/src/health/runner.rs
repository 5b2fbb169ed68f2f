//! The task that probes one real of one VIP, and reports.
//!
//! A probe starts one interval after the one before it started, less the jitter: never later, unless that one
//! still runs or all slots are taken. So a dead real is out after [`Check::detection`] at most.

use std::{net::IpAddr, sync::Arc, time::Duration};

use lb_model::vip::VipAddress;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::JoinHandle,
    time::Instant,
};

use super::{
    Outcome,
    probe::Prober,
    spec::Check,
    state::{Change, Health, State},
};
use crate::backoff::{random_part, shortened};
use crate::peer::Target;

/// Probes that run at once at most, of all reals. Each needs a file descriptor, and a silent real holds one
/// for its whole time-out, so this is also how many silent reals disturb no other.
pub const MAX_PROBES: usize = 4_096;

/// What a probe of a real found.
#[derive(Clone, Debug)]
pub struct Report {
    /// The VIP.
    pub vip: VipAddress,
    /// The real's address.
    pub real: IpAddr,
    /// What was found.
    pub outcome: Outcome,
    /// What that made of the state, if it became another.
    pub change: Option<Change>,
    /// The state.
    pub state: State,
    /// Since when.
    pub since: std::time::Instant,
}

/// How a real is probed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// By which rules.
    pub check: Check,
    /// Where.
    pub target: Target,
}

/// A real that is being probed. Dropped, it ends at once with all that its probe has open.
#[derive(Debug)]
pub struct Runner {
    orders: watch::Sender<Order>,
    task: JoinHandle<()>,
}

impl Runner {
    /// Begins to probe `real` for `vip`, from `health` on. Reports go to `reports`; `slots` is shared by all
    /// runners.
    #[must_use]
    pub fn start(
        vip: VipAddress,
        real: IpAddr,
        order: Order,
        health: Health,
        slots: Arc<Semaphore>,
        reports: mpsc::Sender<Report>,
    ) -> Self {
        let (orders, receiver) = watch::channel(order.clone());
        let work = Work {
            vip,
            real,
            prober: Prober::new(&order.check, vip, real),
            order,
            health,
            slots,
        };
        Runner {
            orders,
            task: tokio::spawn(work.run(receiver, reports)),
        }
    }

    /// Probes by other rules or elsewhere from now on. The state stays until they say otherwise; nothing
    /// happens if they are the same.
    pub fn replace(&self, order: Order) {
        self.orders.send_if_modified(|old| {
            let differs = *old != order;
            if differs {
                *old = order;
            }
            differs
        });
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Slots for [`MAX_PROBES`], or fewer if the process may not have so many files open; the limit is raised as
/// far as it goes.
///
/// # Errors
/// When the limit cannot be read.
pub fn slots() -> nix::Result<Arc<Semaphore>> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let limit = match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(_) => soft,
    };
    // The other half is for everything else.
    let half = usize::try_from(limit / 2).unwrap_or(MAX_PROBES);
    Ok(Arc::new(Semaphore::new(half.clamp(1, MAX_PROBES))))
}

struct Work {
    vip: VipAddress,
    real: IpAddr,
    order: Order,
    prober: Prober,
    health: Health,
    slots: Arc<Semaphore>,
}

impl Work {
    async fn run(mut self, mut orders: watch::Receiver<Order>, reports: mpsc::Sender<Report>) {
        let mut next = self.soon();
        loop {
            let found = tokio::select! {
                biased;
                changed = orders.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    None
                }
                found = self.probe_at(next) => Some(found),
            };
            let Some((started, outcome)) = found else {
                self.order = orders.borrow_and_update().clone();
                self.prober = Prober::new(&self.order.check, self.vip, self.real);
                self.health.reconsider();
                next = self.soon();
                continue;
            };
            let report = self.report(outcome);
            if reports.send(report).await.is_err() {
                return;
            }
            next = started + self.pause();
        }
    }

    async fn probe_at(&mut self, next: Instant) -> (Instant, Outcome) {
        tokio::time::sleep_until(next).await;
        // Nobody closes the semaphore; without a slot the probe would still be right.
        let _slot = self.slots.acquire().await;
        let started = Instant::now();
        (started, self.prober.run(&self.order.target).await)
    }

    fn report(&mut self, outcome: Outcome) -> Report {
        let now = Instant::now().into_std();
        let change = self.health.observe(&self.order.check, outcome.clone(), now);
        Report {
            vip: self.vip,
            real: self.real,
            outcome,
            change,
            state: self.health.state(),
            since: self.health.since(),
        }
    }

    /// The first probes of many reals are spread over a fast interval.
    fn soon(&self) -> Instant {
        Instant::now() + random_part(self.order.check.fast_interval)
    }

    fn pause(&self) -> Duration {
        let check = &self.order.check;
        let interval = if self.health.in_doubt() {
            check.fast_interval
        } else {
            check.interval
        };
        shortened(interval, check.jitter, fastrand::f64())
    }
}

#[cfg(test)]
mod tests;
