//! The task that probes one real of one VIP, and reports.
//!
//! A probe starts one interval after the one before it started, less the jitter: never later, unless that one
//! still runs or all slots are in use. A dead real is down after [`Check::detection_time`] at most.
//!
//! A real that starts, and that somebody waits for, is probed at once, and again after pauses that grow from 20 ms to the fast
//! interval, until it answers ([`FirstProbe::AtOnce`]).
//!
//! If this process wakes up late, because it was stopped or got no CPU, the probes of all reals are due at once. They are
//! spread over an interval then, as at the start.

use std::{io, sync::Arc, time::Duration};

use lb_model::{
    check::Check,
    vip::{RealId, VipKey},
};
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::JoinHandle,
    time::Instant,
};

use super::{
    Outcome, Verdict,
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

/// The first pause between two probes of a real that starts, ...
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// ... each other as a multiple of the one before: a real that has started is found after half of the time that it took more.
const LONGER: f64 = 1.5;
/// The least time that a probe of a real that starts may take. A packet that came before the real had its address is lost, and
/// TCP sends it again after a second only.
const LEAST_PATIENCE: Duration = Duration::from_millis(100);

/// When a real is probed first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstProbe {
    /// Within the fast interval, at random: many reals that run already are probed from then on.
    Spread,
    /// At once, and soon again until it answers: it has just started, or it gets no flows before it answers. Failures count as
    /// if it were probed at the fast interval, so it is not down sooner because it is asked more often.
    AtOnce,
}

/// The result of one probe of a real.
#[derive(Clone, Debug)]
pub struct Report {
    /// The VIP.
    pub vip: VipKey,
    /// The real's address.
    pub real: RealId,
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
        real: RealId,
        config: ProbeConfig,
        health: Health,
        first: FirstProbe,
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
            start: None,
            slots,
        };
        Runner {
            configs,
            task: tokio::spawn(work.run(first, receiver, reports)),
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

/// The probes of a real that starts.
#[derive(Clone, Copy, Debug)]
struct Start {
    /// The pause after the next failure.
    pause: Duration,
    /// When a probe is due that counts if it fails.
    counts_from: Instant,
}

impl Start {
    /// The next probe after one that failed, and the probes after that; `None` when these are as for any real in doubt.
    fn next(self, started: Instant, fast_interval: Duration) -> Option<(Instant, Start)> {
        let counts_from = if started >= self.counts_from {
            started + fast_interval
        } else {
            self.counts_from
        };
        let next = Start {
            pause: self.pause.mul_f64(LONGER),
            counts_from,
        };
        (self.pause < fast_interval).then(|| ((started + self.pause).min(counts_from), next))
    }

    /// How long a probe may take that starts now; `None`: as long as any other.
    fn patience(self, now: Instant) -> Option<Duration> {
        (now < self.counts_from).then(|| (self.pause * 2).max(LEAST_PATIENCE))
    }
}

struct Work {
    vip: VipKey,
    real: RealId,
    config: ProbeConfig,
    prober: Prober,
    health: Health,
    /// While the real starts.
    start: Option<Start>,
    slots: Arc<Semaphore>,
}

impl Work {
    async fn run(
        mut self,
        first: FirstProbe,
        mut configs: watch::Receiver<ProbeConfig>,
        reports: mpsc::Sender<Report>,
    ) {
        let mut next = self.soon();
        if first == FirstProbe::AtOnce {
            self.start = Some(Start {
                pause: FIRST_PAUSE,
                counts_from: next,
            });
            next = Instant::now();
        }
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
                self.start = None;
                next = self.soon();
                continue;
            };
            let answers = outcome.verdict.is_alive();
            let report = self.report(started, outcome);
            if reports.send(report).await.is_err() {
                return;
            }
            next = self.next(started, answers);
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
        let patience = self.start.and_then(|start| start.patience(started));
        let probe = self.prober.run(&self.config.target);
        let outcome = match patience {
            Some(patience) => tokio::time::timeout(patience, probe).await,
            None => Ok(probe.await),
        };
        let outcome = outcome.unwrap_or_else(|_| {
            let reason = "no answer yet; it may still start";
            Outcome::new(Verdict::Unhealthy, reason, started.elapsed())
        });
        (started, outcome)
    }

    fn report(&mut self, started: Instant, outcome: Outcome) -> Report {
        let now = Instant::now().into_std();
        let counts = self.start.is_none_or(|start| started >= start.counts_from);
        let change = if counts || outcome.verdict != Verdict::Unhealthy {
            self.health
                .observe(&self.config.check, outcome.clone(), now)
        } else {
            None
        };
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

    /// When the next probe is due after one that started then.
    fn next(&mut self, started: Instant, answers: bool) -> Instant {
        let Some(start) = self.start.take() else {
            return started + self.pause();
        };
        if answers {
            // Reals that were started together are not probed together from now on.
            return started + random_part(self.interval());
        }
        match start.next(started, self.config.check.fast_interval()) {
            Some((next, start)) => {
                self.start = Some(start);
                // It may have taken longer than the pause. That is not late.
                next.max(Instant::now())
            }
            None => started + self.pause(),
        }
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
