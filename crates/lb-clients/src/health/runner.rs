//! The task that probes one real of one VIP, and reports.
//!
//! A probe starts one interval after the one before it started, less the jitter: never later, unless that one
//! still runs or all slots are in use. A dead real is down after [`Check::detection_time`] at most.
//!
//! If this process wakes up late, because it was stopped or got no CPU, the probes of all reals are due at once. They are
//! spread over an interval then, as at the start.

use std::{io, net::IpAddr, sync::Arc, time::Duration};

use lb_model::{check::Check, vip::VipKey};
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::JoinHandle,
    time::Instant,
};

use super::{
    Outcome,
    probe::Prober,
    state::{Change, Health, State},
};
use crate::backoff::{random_part, shortened};
use crate::peer::{Target, descriptors};

/// Probes that run at the same time at most, over all reals. Each needs a file descriptor, and a silent real holds one
/// for the whole time-out, so as many silent reals do not delay the probes of others.
pub const MAX_PROBES: usize = 4_096;

/// The part of an interval by which a probe may start late before it is put off to be spread again.
const LATE: u32 = 4;
/// A busy machine is later than this only if it gets no CPU.
const LEAST_LATE: Duration = Duration::from_millis(50);

/// The result of one probe of a real.
#[derive(Clone, Debug)]
pub struct Report {
    /// The VIP.
    pub vip: VipKey,
    /// The real's address.
    pub real: IpAddr,
    /// What the probe found.
    pub outcome: Outcome,
    /// The change of the real's state, if the outcome made one.
    pub change: Option<Change>,
    /// The real's state.
    pub state: State,
    /// When the state began.
    pub since: std::time::Instant,
}

/// How a real is probed.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeConfig {
    /// The probe, its times and thresholds.
    pub check: Check,
    /// Where the probe goes.
    pub target: Target,
}

/// A task that probes a real. Dropping it ends the task at once, with all that its probe has open.
#[derive(Debug)]
pub struct Runner {
    configs: watch::Sender<ProbeConfig>,
    task: JoinHandle<()>,
}

impl Runner {
    /// Starts to probe `real` for `vip`; `health` is what is known already. Reports go to `reports`; all runners share
    /// `slots`.
    #[must_use]
    pub fn start(
        vip: VipKey,
        real: IpAddr,
        config: ProbeConfig,
        health: Health,
        slots: Arc<Semaphore>,
        reports: mpsc::Sender<Report>,
    ) -> Self {
        let (configs, receiver) = watch::channel(config.clone());
        let work = Work {
            vip,
            real,
            prober: Prober::new(&config.check, vip, real),
            config,
            health,
            slots,
        };
        Runner {
            configs,
            task: tokio::spawn(work.run(receiver, reports)),
        }
    }

    /// Whether the task has ended by itself: it panicked, which is a fault of this program.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.task.is_finished()
    }

    /// Probes as `config` says from now on. The state stays until the new probes say otherwise; nothing happens if the
    /// configuration is the same.
    pub fn replace(&self, config: ProbeConfig) {
        self.configs.send_if_modified(|old| {
            let differs = *old != config;
            if differs {
                *old = config;
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

/// Slots for [`MAX_PROBES`], or fewer if the process may not open so many files. Raises the limit as far as the system
/// allows, and keeps files in reserve for probes.
///
/// # Errors
/// The limit cannot be read.
pub fn slots() -> io::Result<Arc<Semaphore>> {
    let limit = descriptors::raise_limit()?;
    descriptors::reserve(limit);
    Ok(Arc::new(Semaphore::new(slots_within(limit))))
}

/// Probes that run at the same time at most where so many files may be open.
#[must_use]
pub fn slots_within(files: u64) -> usize {
    // The other half of the file descriptors is for everything else.
    let half = usize::try_from(files / 2).unwrap_or(MAX_PROBES);
    half.clamp(1, MAX_PROBES)
}

struct Work {
    vip: VipKey,
    real: IpAddr,
    config: ProbeConfig,
    prober: Prober,
    health: Health,
    slots: Arc<Semaphore>,
}

impl Work {
    async fn run(
        mut self,
        mut configs: watch::Receiver<ProbeConfig>,
        reports: mpsc::Sender<Report>,
    ) {
        let mut next = self.soon();
        loop {
            let found = tokio::select! {
                biased;
                changed = configs.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    None
                }
                found = self.probe_at(next) => Some(found),
            };
            let Some((started, outcome)) = found else {
                self.config = configs.borrow_and_update().clone();
                self.prober = Prober::new(&self.config.check, self.vip, self.real);
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
        let interval = self.interval();
        if next.elapsed() > (interval / LATE).max(LEAST_LATE) {
            // Once only: a process that is always late probes all the same.
            tokio::time::sleep(random_part(interval)).await;
        }
        // The semaphore is never closed; without a slot the probe would still be right.
        let _slot = self.slots.acquire().await;
        let started = Instant::now();
        (started, self.prober.run(&self.config.target).await)
    }

    fn report(&mut self, outcome: Outcome) -> Report {
        let now = Instant::now().into_std();
        let change = self
            .health
            .observe(&self.config.check, outcome.clone(), now);
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
        Instant::now() + random_part(self.config.check.fast_interval())
    }

    fn pause(&self) -> Duration {
        shortened(self.interval(), self.config.check.jitter, fastrand::f64())
    }

    fn interval(&self) -> Duration {
        if self.health.in_doubt() {
            self.config.check.fast_interval()
        } else {
            self.config.check.interval
        }
    }
}

#[cfg(test)]
mod tests;
