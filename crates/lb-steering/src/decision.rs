//! The result of a step for one real, and the reason its weight is not higher.

use std::{fmt, time::Duration};

use super::verdict::{Doubt, Fallback, Sign, Trust};

/// What a real gets until the next decision.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// Weight in the ring, relative to the other reals: 0 to [`lb_common::limits::MAX_WEIGHT`].
    pub weight: u32,
    /// Why the weight is not higher.
    pub limited_by: LimitedBy,
    /// Estimated capacity: what the real would carry at utilisation 1, in connections, or in new flows a second
    /// where connections are short. `None` until it has been measured.
    pub capacity: Option<f64>,
    /// The share of new flows, 0 to 1, that the controller allocates to the real. `weight` approaches it within
    /// the limits on movement.
    pub wanted_share: f64,
    /// Flows to reset until the next period so that they reconnect elsewhere; 0 unless shedding is on. `None`
    /// between periods: the number of the last period still applies.
    pub shed: Option<u32>,
    /// How far its utilisation is trusted; `None` while it has none.
    pub trust: Option<Trust>,
}

/// What keeps a real's weight from being higher.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LimitedBy {
    /// Nothing: the real has the share that the controller allocates.
    Nothing,
    /// The operator's weight is 0.
    WeightZero,
    /// The operator drains it.
    Drained,
    /// The operator drained it, and its connections are ended.
    Evacuated,
    /// It is not healthy.
    Down,
    /// It flaps, and is held down for this much longer.
    HeldDown(Duration),
    /// Its health check reports that it wants no new flows.
    ProbeDrain,
    /// Its agent orders no new flows.
    AgentCommand,
    /// It is overloaded and gets no new flows until its utilisation has recovered.
    OverloadDrain,
    /// It is overloaded and keeps this factor of its share.
    Overload(f64),
    /// It is in slow start and has this factor of its share.
    SlowStart(f64),
    /// Memory, file descriptors or connections are nearly used up; it keeps this factor of its share.
    ScarceResource(f64),
    /// It has more connections than its share; new flows go where connections are missing.
    ConnectionSurplus,
    /// It has more connections than its share; this many are to be reset until the next period.
    Shedding(u32),
    /// Its last reading is this old; its estimated capacity is kept.
    StaleReading(Duration),
    /// Its share is at the lowest or highest multiple of the operator's share that is allowed.
    ShareBound,
    /// It shows a sign of trouble, and is held at the operator's share for at least this much longer.
    Sign(Sign, Duration),
    /// Its utilisation is not trusted: it counts as a typical real of its weight, with at most the operator's share.
    Doubt(Doubt),
    /// Its share is above the operator's, and grows step by step as long as the real shows no sign of trouble. It is
    /// this multiple of the operator's now.
    Loan(f64),
    /// The whole VIP has fallen back to the operator's weights.
    OperatorWeights(Fallback),
    /// Its share is still moving: the ring may move only so much per period.
    MovementBound,
    /// The controller does not suit long connections: the operator's weights apply.
    UnsuitableController,
}

impl fmt::Display for LimitedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |factor: f64| (factor * 100.0).round();
        match self {
            LimitedBy::Nothing => f.write_str("nothing"),
            LimitedBy::WeightZero => f.write_str("the operator's weight is 0"),
            LimitedBy::Drained => f.write_str("drained by the operator"),
            LimitedBy::Evacuated => {
                f.write_str("drained by the operator; its connections are ended at `shed_rate`")
            }
            LimitedBy::Down => f.write_str("not healthy"),
            LimitedBy::HeldDown(left) => write!(
                f,
                "flapping: its health changed too often; held down for another {} s",
                left.as_secs_f64().ceil()
            ),
            LimitedBy::ProbeDrain => {
                f.write_str("its health check reports that it wants no new flows")
            }
            LimitedBy::AgentCommand => f.write_str("its agent orders no new flows"),
            LimitedBy::OverloadDrain => {
                f.write_str("overloaded: no new flows until its utilisation has recovered")
            }
            LimitedBy::Overload(factor) => {
                write!(f, "overloaded: {} % of its share", percent(*factor))
            }
            LimitedBy::SlowStart(factor) => {
                write!(f, "slow start: {} % of its share", percent(*factor))
            }
            LimitedBy::ScarceResource(factor) => write!(
                f,
                "memory, file descriptors or connections are nearly used up: {} % of its share",
                percent(*factor)
            ),
            LimitedBy::ConnectionSurplus => f.write_str("it has more connections than its share"),
            LimitedBy::Shedding(flows) => write!(
                f,
                "it has more connections than its share: up to {flows} are reset in this period"
            ),
            LimitedBy::StaleReading(age) => write!(
                f,
                "its last load reading is {} s old: its estimated capacity is kept",
                age.as_secs()
            ),
            LimitedBy::ShareBound => {
                f.write_str("its share is at the bound that its operator weight allows")
            }
            LimitedBy::Sign(sign, left) => write!(
                f,
                "held at the operator's share: {sign}; more is tried in {} s",
                left.as_secs_f64().ceil()
            ),
            LimitedBy::Doubt(doubt) => {
                write!(f, "not trusted beyond the operator's share: {doubt}")
            }
            LimitedBy::Loan(multiple) => write!(
                f,
                "above the operator's share, at most {multiple:.2} × it now; that rises while it shows no trouble"
            ),
            LimitedBy::OperatorWeights(reason) => {
                write!(f, "the operator's weights apply: {reason}")
            }
            LimitedBy::MovementBound => {
                f.write_str("its share is moving as fast as the limits on ring movement allow")
            }
            LimitedBy::UnsuitableController => f.write_str(
                "connections live too long for this controller: the operator's weights apply",
            ),
        }
    }
}
