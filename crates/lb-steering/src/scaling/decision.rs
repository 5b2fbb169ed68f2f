//! The result of a call: how many instances are wanted, what to do for it, and why.

use std::{fmt, time::Duration};

use lb_model::scaling::ScalingPolicy;

use super::policies::{MissingData, Unit};

/// What is to be done, and why. Instances that are ordered count from then on as [`super::Phase::Starting`], so the
/// next call does not order them again.
#[derive(Clone, Debug, PartialEq)]
pub struct ScalingDecision {
    /// The number of instances that are to serve.
    pub desired: u32,
    /// Drained instances that get new flows again, at no start-up cost.
    pub take_back: Vec<String>,
    /// Warm instances that are to serve.
    pub resume: Vec<String>,
    /// How many instances are to be created and started beside these.
    pub start: u32,
    /// Instances that get no new flows from now on.
    pub drain: Vec<String>,
    /// How many warm instances are to be created.
    pub create_spares: u32,
    /// Warm instances that are no longer wanted.
    pub remove_spares: Vec<String>,
    /// What an operator must know at once.
    pub alarm: Option<Alarm>,
    /// The inputs of the decision.
    pub why: Why,
}

impl ScalingDecision {
    /// Whether the pool grows, shrinks or prepares instances.
    #[must_use]
    pub fn is_action(&self) -> bool {
        self.start > 0
            || self.create_spares > 0
            || [
                &self.take_back,
                &self.resume,
                &self.drain,
                &self.remove_spares,
            ]
            .iter()
            .any(|names| !names.is_empty())
    }
}

/// What an operator must know at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alarm {
    /// So many instances are dead at once that nothing is drained or killed.
    MassFailure {
        /// Dead instances.
        dead: u32,
        /// All instances.
        of: u32,
    },
}

impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Alarm::MassFailure { dead, of } => write!(
                f,
                "{dead} of {of} instances are dead at once: nothing is drained or killed; look for a common cause"
            ),
        }
    }
}

/// The inputs of a decision.
#[derive(Clone, Debug, PartialEq)]
pub struct Why {
    /// Instances that serve.
    pub active: u32,
    /// Instances that start.
    pub starting: u32,
    /// Instances that are drained and not stopped yet.
    pub draining: u32,
    /// Dead instances.
    pub dead: u32,
    /// Warm instances.
    pub spare: u32,
    /// Mean utilisation of the instances that serve, weighted by capacity.
    pub average_load: Option<f64>,
    /// Instances whose utilisation is critical.
    pub critical: Vec<String>,
    /// What each policy asked for.
    pub asks: Vec<Ask>,
    /// The least number of instances, by `min` and schedule.
    pub floor: u32,
    /// What decided.
    pub decided_by: DecidedBy,
    /// What kept the pool from growing or shrinking further.
    pub limits: Vec<Limit>,
    /// The window over which the need must be low before the pool shrinks.
    pub window: Duration,
    /// Time since the pool grew last.
    pub since_out: Option<Duration>,
    /// Time since the pool shrank last.
    pub since_in: Option<Duration>,
}

/// What a policy asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Ask {
    /// The policy.
    pub policy: ScalingPolicy,
    /// Why it has no say, or only says that the pool must not shrink.
    pub missing: Option<MissingData>,
    /// The number of instances that it asks for; `None` if it has none to name.
    pub instances: Option<u32>,
    /// What it rests on; `None` for a guard, and where data are missing.
    pub figures: Option<AskFigures>,
    /// Periods of trouble in a row, of a guard.
    pub trouble: u32,
}

/// What a policy's ask rests on, in its unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AskFigures {
    /// The unit.
    pub unit: Unit,
    /// What the pool requires now, the target included.
    pub required: f64,
    /// The highest of that over the window.
    pub highest: f64,
    /// What the instances are worth that count as capacity.
    pub available: f64,
    /// What a new instance is worth.
    pub each: f64,
    /// Whether clients demand much more than a short time ago.
    pub surge: bool,
}

impl AskFigures {
    /// The need in instances of the kind that would be started.
    #[must_use]
    pub fn need(&self) -> f64 {
        self.required / self.each
    }
}

/// What decided on the number of instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecidedBy {
    /// Nothing asks for a change.
    Nothing,
    /// The strictest policy.
    Policy(ScalingPolicy),
    /// `min`.
    Minimum,
    /// A window of the schedule.
    Schedule,
    /// `max`.
    Maximum,
    /// Only some numbers of instances are allowed.
    Sizes,
    /// All policies agree that fewer suffice.
    LowNeed,
}

impl fmt::Display for DecidedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecidedBy::Nothing => f.write_str("nothing asks for a change"),
            DecidedBy::Policy(policy) => write!(f, "{policy} asks for it"),
            DecidedBy::Minimum => f.write_str("min"),
            DecidedBy::Schedule => f.write_str("the schedule"),
            DecidedBy::Maximum => f.write_str("max"),
            DecidedBy::Sizes => f.write_str("the allowed sizes"),
            DecidedBy::LowNeed => f.write_str("fewer suffice by all policies"),
        }
    }
}

/// What kept a pool from growing or shrinking further.
#[derive(Clone, Debug, PartialEq)]
pub enum Limit {
    /// The next decision is due in this time.
    Period(Duration),
    /// More may start once some of these have started.
    StartUps(u32),
    /// `max` is reached.
    Maximum,
    /// The driver has room for so many more.
    Room(u32),
    /// The pool grew, or the need is known, for less than the window; this much is missing.
    Window(Duration),
    /// The pool shrank a short time ago; this much is left of the cooldown.
    Cooldown(Duration),
    /// Data are missing for this policy, so the pool does not shrink.
    Missing(ScalingPolicy),
    /// This policy needs all instances.
    Needed(ScalingPolicy),
    /// `min`, the schedule or the allowed sizes.
    Floor,
    /// Too many instances are dead.
    MassFailure,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |time: &Duration| time.as_secs_f64().ceil();
        match self {
            Limit::Period(left) => write!(f, "the next decision is due in {} s", seconds(left)),
            Limit::StartUps(starting) => {
                write!(
                    f,
                    "{starting} instances start already; more may once they serve"
                )
            }
            Limit::Maximum => f.write_str("max is reached"),
            Limit::Room(room) => write!(f, "the driver has room for {room} more"),
            Limit::Window(left) => write!(
                f,
                "the pool shrinks if its need stays low for another {} s",
                seconds(left)
            ),
            Limit::Cooldown(left) => {
                write!(
                    f,
                    "it shrank a short time ago; the next step is in {} s",
                    seconds(left)
                )
            }
            Limit::Missing(policy) => {
                write!(
                    f,
                    "data of {policy} are missing, so the pool does not shrink"
                )
            }
            Limit::Needed(policy) => write!(f, "{policy} needs all instances"),
            Limit::Floor => f.write_str("min, the schedule or the allowed sizes"),
            Limit::MassFailure => f.write_str("too many instances are dead"),
        }
    }
}

impl fmt::Display for ScalingDecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = &self.why;
        write!(f, "{} active, {} desired", why.active, self.desired)?;
        for (count, what) in [
            (self.take_back.len() as u32, "taken back"),
            (self.resume.len() as u32, "resumed"),
            (self.start, "started"),
            (self.drain.len() as u32, "drained"),
        ] {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        write!(f, ": {}", why.decided_by)?;
        let ask = why
            .asks
            .iter()
            .find(|ask| DecidedBy::Policy(ask.policy) == why.decided_by);
        if let Some(figures) = ask.and_then(|ask| ask.figures) {
            write!(
                f,
                " (needs {:.1} instances, has {:.1}{})",
                figures.need(),
                figures.available / figures.each,
                if figures.surge { "; surge" } else { "" }
            )?;
        }
        for limit in &why.limits {
            write!(f, "; {limit}")?;
        }
        Ok(())
    }
}
