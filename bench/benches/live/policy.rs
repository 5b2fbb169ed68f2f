//! One way to set weights, and one play of it.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow};
use lb_bench::{
    arrivals::Arrivals,
    figures::{Figures, Outcome, Shares, Window},
};

use crate::{
    client::{self, Plan},
    testbed::{COST, QUOTAS, QuotaTestbed, VIP},
};

/// The load, as a fraction of the sum of the quotas.
const LOAD: f64 = 0.65;
/// A request without an answer after this time has failed, and counts as one that took this long.
pub const TIMEOUT: Duration = Duration::from_secs(3);
/// Interval at which shares are sampled.
const SAMPLING: Duration = Duration::from_millis(500);
/// Interval at which `--show` prints what the agent knows.
const SHOW: Duration = Duration::from_secs(5);

/// Equal weights are measured for no longer than this.
const EQUAL: Duration = Duration::from_secs(10);

/// How weights are decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightPolicy {
    /// All weights are equal.
    Equal,
    /// The agent's default controller with default settings decides, starting from equal weights without knowledge.
    Capacity,
    /// Weights are proportional to the quotas.
    Oracle,
}

impl WeightPolicy {
    /// All policies, in the order of the tables.
    pub const ALL: [WeightPolicy; 3] = [
        WeightPolicy::Equal,
        WeightPolicy::Capacity,
        WeightPolicy::Oracle,
    ];

    /// Returns the name that tables show.
    pub const fn name(self) -> &'static str {
        match self {
            WeightPolicy::Equal => "equal weights",
            WeightPolicy::Capacity => "capacity (ours)",
            WeightPolicy::Oracle => "oracle",
        }
    }

    const fn weights(self) -> [u16; 4] {
        match self {
            WeightPolicy::Equal | WeightPolicy::Capacity => [100; 4],
            WeightPolicy::Oracle => [100, 200, 400, 800],
        }
    }

    /// Returns the time in which the load is measured. The controller has 13 periods to learn before it; equal
    /// weights need no precise figure.
    fn window(self, measured: Duration) -> Window {
        let (from, time) = match self {
            WeightPolicy::Equal => (Duration::from_secs(5), measured.min(EQUAL)),
            WeightPolicy::Capacity => (Duration::from_secs(65), measured),
            WeightPolicy::Oracle => (Duration::from_secs(5), measured),
        };
        Window {
            from,
            to: from + time,
        }
    }

    /// Plays the policy. With the same seed, every policy has the same arrivals while it is measured.
    pub fn play(
        self,
        testbed: &mut QuotaTestbed,
        seed: u64,
        measured: Duration,
        show: bool,
    ) -> anyhow::Result<Figures> {
        testbed.begin(self.weights())?;
        if self == WeightPolicy::Capacity {
            testbed.steer()?;
        }
        let window = self.window(measured);
        let target = VIP.trim_end_matches("/tcp").parse()?;
        let rate = LOAD * QUOTAS.iter().sum::<f64>() / COST.as_secs_f64();
        let (host, clients) = testbed.client();
        let arrivals = |seed, time| Arrivals::new(seed, rate, clients.len(), time);
        let before = arrivals(!seed, Duration::ZERO..window.from);
        let plan = Plan {
            target,
            clients: clients.to_vec(),
            arrivals: before
                .chain(arrivals(seed, window.from..window.to))
                .collect(),
            timeout: TIMEOUT,
        };
        let begin = Instant::now();
        let load = client::start(host, plan, begin);
        let samples = watch(testbed, begin, window, show);
        // Joined even after a failure: the clients of this play must not run into the next one.
        let outcomes: Vec<Outcome> = load
            .join()
            .map_err(|_| anyhow!("the clients' thread panicked"))?
            .context("sending requests to the VIP")?;
        let (used, shares) = samples?;
        testbed.check()?;
        Ok(Figures::new(
            window,
            &outcomes,
            TIMEOUT,
            (&QUOTAS, used),
            &shares,
        ))
    }
}

/// Watches until the window is over. Returns the fraction of its quota that each server used in the window, and all
/// samples of the shares.
fn watch(
    testbed: &QuotaTestbed,
    begin: Instant,
    window: Window,
    show: bool,
) -> anyhow::Result<(Vec<f64>, Vec<Shares>)> {
    let mut shares = Vec::new();
    let mut first: Option<(Instant, Vec<Duration>)> = None;
    let mut shown = Duration::ZERO;
    loop {
        let at = begin.elapsed();
        if at >= window.from && first.is_none() {
            first = Some((Instant::now(), testbed.used()?));
        }
        if at >= window.to {
            break;
        }
        shares.push(Shares {
            at,
            shares: testbed.shares()?,
        });
        if show && at >= shown {
            shown += SHOW;
            print_reals(testbed, at)?;
        }
        let event = if first.is_none() {
            window.from
        } else {
            window.to
        };
        thread::sleep(SAMPLING.min(event.saturating_sub(begin.elapsed())));
    }
    let (since, before) = first.context("the window has not begun")?;
    let (time, now) = (since.elapsed().as_secs_f64(), testbed.used()?);
    let used = now
        .iter()
        .zip(&before)
        .zip(QUOTAS)
        .map(|((now, before), quota)| (*now - *before).as_secs_f64() / time / quota)
        .collect();
    Ok((used, shares))
}

/// Prints what the agent knows of each real: share, utilisation, capacity and what limits it.
fn print_reals(testbed: &QuotaTestbed, at: Duration) -> anyhow::Result<()> {
    let number = |value: &serde_json::Value, digits: usize| {
        value
            .as_f64()
            .map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
    };
    for (real, quota) in testbed.why()?.iter().zip(QUOTAS) {
        println!(
            "    {:5.1} s  quota {quota}: {}, share {}, utilisation {}, capacity {}, wanted share {}; {}",
            at.as_secs_f64(),
            real["real"]["state"].as_str().unwrap_or("-"),
            number(&real["real"]["share"], 4),
            number(&real["utilisation"], 3),
            number(&real["capacity"], 1),
            number(&real["wanted_share"], 4),
            real["limit"].as_str().unwrap_or("-"),
        );
    }
    Ok(())
}
