//! One way of giving weights, played once.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow};

use crate::{
    arrivals::Arrivals,
    client::{self, Plan},
    figures::{Figures, Outcome, Shares, Window},
    stand::{COST, QUOTAS, Stand, VIP},
};

/// The load, as a part of the sum of the quotas.
const LOAD: f64 = 0.65;
/// A request without an answer after this time has failed, and counts as one that took so long.
pub const TIMEOUT: Duration = Duration::from_secs(3);
/// How often shares are looked at.
const LOOK: Duration = Duration::from_millis(500);
/// How often what the agent knows is shown, if that is asked for.
const SHOW: Duration = Duration::from_secs(5);

/// Equal weights are measured for no longer.
const EQUAL: Duration = Duration::from_secs(10);

/// Who decides the weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arm {
    /// Nobody: they are equal.
    Equal,
    /// The agent's default controller with its defaults, from equal weights and knowing nothing.
    Capacity,
    /// Who knows the quotas.
    Oracle,
}

impl Arm {
    /// All, in the order of the tables.
    pub const ALL: [Arm; 3] = [Arm::Equal, Arm::Capacity, Arm::Oracle];

    /// In tables.
    pub const fn name(self) -> &'static str {
        match self {
            Arm::Equal => "equal weights",
            Arm::Capacity => "capacity (ours)",
            Arm::Oracle => "oracle",
        }
    }

    const fn weights(self) -> [u16; 4] {
        match self {
            Arm::Equal | Arm::Capacity => [100; 4],
            Arm::Oracle => [100, 200, 400, 800],
        }
    }

    /// Load before it is measured, and while it is, for so long. The controller is given 13 periods to learn; equal
    /// weights need no precise figure.
    fn window(self, measured: Duration) -> Window {
        let (from, time) = match self {
            Arm::Equal => (Duration::from_secs(5), measured.min(EQUAL)),
            Arm::Capacity => (Duration::from_secs(65), measured),
            Arm::Oracle => (Duration::from_secs(5), measured),
        };
        Window {
            from,
            to: from + time,
        }
    }

    /// Plays it. Every arm has the same arrivals while it is measured, if the seed is the same.
    pub fn play(
        self,
        stand: &mut Stand,
        seed: u64,
        measured: Duration,
        show: bool,
    ) -> anyhow::Result<Figures> {
        stand.begin(self.weights())?;
        if self == Arm::Capacity {
            stand.steer()?;
        }
        let window = self.window(measured);
        let target = VIP.trim_end_matches("/tcp").parse()?;
        let rate = LOAD * QUOTAS.iter().sum::<f64>() / COST.as_secs_f64();
        let (host, clients) = stand.client();
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
        let seen = watch(stand, begin, window, show);
        // Even then: the threads of an arm must not run into the next one.
        let outcomes: Vec<Outcome> = load
            .join()
            .map_err(|_| anyhow!("the clients' thread panicked"))?
            .context("asking the VIP")?;
        let (used, shares) = seen?;
        stand.check()?;
        Ok(Figures::new(
            window,
            &outcomes,
            TIMEOUT,
            (&QUOTAS, used),
            &shares,
        ))
    }
}

/// Looks on until the window is over: the part of its quota that each server used in it, and all shares.
fn watch(
    stand: &Stand,
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
            first = Some((Instant::now(), stand.used()?));
        }
        if at >= window.to {
            break;
        }
        shares.push(Shares {
            at,
            shares: stand.shares()?,
        });
        if show && at >= shown {
            shown += SHOW;
            say(stand, at)?;
        }
        let event = if first.is_none() {
            window.from
        } else {
            window.to
        };
        thread::sleep(LOOK.min(event.saturating_sub(begin.elapsed())));
    }
    let (since, before) = first.context("the window has not begun")?;
    let (time, now) = (since.elapsed().as_secs_f64(), stand.used()?);
    let used = now
        .iter()
        .zip(&before)
        .zip(QUOTAS)
        .map(|((now, before), quota)| (*now - *before).as_secs_f64() / time / quota)
        .collect();
    Ok((used, shares))
}

/// Shows what the agent knows of each real: share, utilisation, capacity and what limits it.
fn say(stand: &Stand, at: Duration) -> anyhow::Result<()> {
    let number = |value: &serde_json::Value, digits: usize| {
        value
            .as_f64()
            .map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
    };
    for (real, quota) in stand.why()?.iter().zip(QUOTAS) {
        println!(
            "    {:5.1} s  quota {quota}: {}, share {}, utilisation {}, capacity {}, wants {}; {}",
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
