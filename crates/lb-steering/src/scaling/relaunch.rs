//! Relaunching dead instances: from a budget, with backoff, and not at all while so many are dead that the cause is
//! elsewhere.

use std::{collections::BTreeMap, time::Duration};

use lb_model::scaling::Scaling;
use serde::{Deserialize, Serialize};

/// A wait is up to this part of itself shorter, so that instances that died together do not start together.
const JITTER: f64 = 0.25;
/// Doublings after which the longest wait is reached for certain.
const MOST_DOUBLINGS: u32 = 32;

/// Whether so many instances are dead at once that none is drained or killed. One dead instance is never too many.
#[must_use]
pub fn is_mass_failure(settings: &Scaling, dead: u32, of: u32) -> bool {
    dead > 1 && f64::from(dead) > settings.max_dead * f64::from(of)
}

/// How many instances may be relaunched at a time.
#[must_use]
pub fn relaunch_budget(settings: &Scaling, of: u32) -> u32 {
    ((f64::from(of) * settings.relaunch) as u32).max(1)
}

/// Waits that double: before the relaunch of an instance, and before another try of a driver that failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backoff {
    /// Failures in a row.
    failures: u32,
    /// When the next try may be.
    next: Option<Duration>,
    /// Since when it has lived.
    alive_since: Option<Duration>,
}

impl Backoff {
    /// Records a failure, and sets when the next try may be. `seed` spreads the waits: the same seed gives the same wait.
    pub fn fail(&mut self, settings: &Scaling, now: Duration, seed: &str) {
        let doublings = self.failures.min(MOST_DOUBLINGS);
        let wait = settings.relaunch_first.as_secs_f64() * f64::from(doublings).exp2();
        let wait = wait.min(settings.relaunch_most.as_secs_f64());
        let earlier = JITTER * unit(seed, self.failures);
        self.failures = self.failures.saturating_add(1);
        self.next = Some(now + Duration::from_secs_f64(wait * (1.0 - earlier)));
        self.alive_since = None;
    }

    /// Records that it lives. After `relaunch_reset` its failures are forgotten. Returns whether they are.
    pub fn live(&mut self, settings: &Scaling, now: Duration) -> bool {
        let since = *self.alive_since.get_or_insert(now);
        if now.saturating_sub(since) >= settings.relaunch_reset {
            *self = Backoff::default();
        }
        self.failures == 0
    }

    /// Failures in a row.
    #[must_use]
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    /// How long to wait until the next try.
    #[must_use]
    pub fn wait(&self, now: Duration) -> Duration {
        self.next.unwrap_or_default().saturating_sub(now)
    }
}

/// Returns a number from 0 to 1 that follows from a name and a count (FNV-1a).
fn unit(name: &str, count: u32) -> f64 {
    let bytes = name.bytes().chain(count.to_le_bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    // The upper bits of FNV-1a depend on all bytes only after a last mix.
    let mixed = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 11) as f64 / (1_u64 << 53) as f64
}

/// How an instance is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vitality {
    /// It is healthy.
    Alive,
    /// It has been launched and is not healthy yet.
    Starting,
    /// It runs and is not healthy: to relaunch it is to kill it.
    Unhealthy,
    /// It has ended.
    Ended,
}

/// An instance, as far as its relaunch is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patient<'a> {
    /// Its name.
    pub name: &'a str,
    /// How it is.
    pub vitality: Vitality,
}

/// What is remembered of relaunches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelaunchState {
    /// Backoffs of instances that have failed.
    backoffs: BTreeMap<String, Backoff>,
    /// Instances that are dead and whose failure has been recorded.
    dead: BTreeMap<String, Duration>,
    /// Instances that were relaunched and are not healthy yet.
    relaunched: BTreeMap<String, Duration>,
}

/// What is to be done for dead instances.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RelaunchPlan {
    /// Dead instances. All are out of rotation.
    pub out_of_rotation: Vec<String>,
    /// Instances to relaunch now, at the same address and port.
    pub relaunch: Vec<String>,
    /// Dead instances that wait, and how long at least: for their backoff, or for the budget.
    pub waiting: Vec<(String, Duration)>,
    /// Whether so many are dead that nothing is killed. Instances that have ended are still relaunched from the budget.
    pub mass_failure: bool,
}

/// Plans relaunches. It is pure; `now` is monotonic, since any epoch. An instance that is relaunched is to be
/// [`Vitality::Starting`] in the next call.
pub fn relaunch(
    settings: &Scaling,
    state: &mut RelaunchState,
    instances: &[Patient<'_>],
    now: Duration,
) -> RelaunchPlan {
    let is_known = |name: &str| instances.iter().any(|one| one.name == name);
    state.backoffs.retain(|name, _| is_known(name));
    state.dead.retain(|name, _| is_known(name));
    state.relaunched.retain(|name, _| is_known(name));
    let mut dead: Vec<Patient<'_>> = Vec::new();
    for one in instances {
        match one.vitality {
            Vitality::Alive => {
                state.dead.remove(one.name);
                state.relaunched.remove(one.name);
                if let Some(backoff) = state.backoffs.get_mut(one.name)
                    && backoff.live(settings, now)
                {
                    state.backoffs.remove(one.name);
                }
            }
            Vitality::Starting => {
                state.dead.remove(one.name);
            }
            Vitality::Unhealthy | Vitality::Ended => {
                if !state.dead.contains_key(one.name) {
                    state.dead.insert(one.name.to_owned(), now);
                    state.relaunched.remove(one.name);
                    let backoff = state.backoffs.entry(one.name.to_owned()).or_default();
                    backoff.fail(settings, now, one.name);
                }
                dead.push(*one);
            }
        }
    }
    let of = instances.len() as u32;
    let mass_failure = is_mass_failure(settings, dead.len() as u32, of);
    let under_way = state.relaunched.len() as u32;
    let mut left = relaunch_budget(settings, of).saturating_sub(under_way);
    // The one that is dead for longest goes first.
    dead.sort_by_key(|one| (state.dead.get(one.name).copied(), one.name));
    let mut plan = RelaunchPlan {
        mass_failure,
        ..RelaunchPlan::default()
    };
    for one in dead {
        plan.out_of_rotation.push(one.name.to_owned());
        let wait = state
            .backoffs
            .get(one.name)
            .map_or(Duration::ZERO, |backoff| backoff.wait(now));
        let kills = one.vitality == Vitality::Unhealthy;
        if wait.is_zero() && left > 0 && !(mass_failure && kills) {
            left -= 1;
            state.dead.remove(one.name);
            state.relaunched.insert(one.name.to_owned(), now);
            plan.relaunch.push(one.name.to_owned());
        } else {
            plan.waiting.push((one.name.to_owned(), wait));
        }
    }
    plan
}
