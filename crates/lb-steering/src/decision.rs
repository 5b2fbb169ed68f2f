//! What a real gets, and why not more.

use std::{fmt, time::Duration};

/// What a real gets until the next decision.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// Its weight in the ring, relative to the others': 0 to [`lb_common::limits::MAX_WEIGHT`].
    pub weight: u32,
    /// Why it is not more.
    pub limit: Limit,
    /// Estimated capacity: what it would carry at utilisation 1, in connections, or in new flows a second
    /// where connections are short. None until something is known.
    pub capacity: Option<f64>,
    /// The part of the new flows, 0 to 1, that it is to have; `weight` follows within the bounds on
    /// movement.
    pub wanted: f64,
    /// Flows to reset until the next period, so that they come back elsewhere; 0 unless shedding is on. None: no
    /// period is over, and what was said last stands.
    pub shed: Option<u32>,
}

/// What keeps a real's weight from being more.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// Nothing: it has what the controller wants.
    Nothing,
    /// The operator's weight is 0.
    WeightZero,
    /// It is drained by hand.
    Drained,
    /// It is not healthy.
    Down,
    /// Its health changed too often; it is held down for so long.
    HeldDown(Duration),
    /// A probe says that it wants no new flows.
    WantsDrain,
    /// Its agent orders no new flows.
    Ordered,
    /// It is overloaded, and gets nothing until it is below the threshold.
    OverloadDrain,
    /// It is overloaded, and has this part of its share.
    Overload(f64),
    /// It came not long ago, and has this part of its share.
    SlowStart(f64),
    /// Memory, file descriptors or connections run out: it has this part of its share.
    Guard(f64),
    /// It has more connections than its share; new flows go where some are missing.
    Surplus,
    /// It has more connections than its share; so many of them are to be reset until the next period.
    Shedding(u32),
    /// Its readings are stale for so long; what was learned is held.
    Stale(Duration),
    /// It has the most, or the least, that the operator's weight allows.
    Bound,
    /// More of the ring would have to move than may in a period: it follows.
    Movement,
    /// The controller suits short connections only: the operator's weights stand.
    Refused,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |part: f64| (part * 100.0).round();
        match self {
            Limit::Nothing => f.write_str("nothing"),
            Limit::WeightZero => f.write_str("the operator's weight is 0"),
            Limit::Drained => f.write_str("drained by hand"),
            Limit::Down => f.write_str("not healthy"),
            Limit::HeldDown(left) => write!(
                f,
                "its health changed too often: held down for {} s more",
                left.as_secs_f64().ceil()
            ),
            Limit::WantsDrain => f.write_str("a probe says that it wants no new flows"),
            Limit::Ordered => f.write_str("its agent orders no new flows"),
            Limit::OverloadDrain => f.write_str("overloaded: no new flows until it has recovered"),
            Limit::Overload(part) => {
                write!(f, "overloaded: {} % of its share", percent(*part))
            }
            Limit::SlowStart(part) => {
                write!(f, "slow start: {} % of its share", percent(*part))
            }
            Limit::Guard(part) => write!(
                f,
                "memory, file descriptors or connections run out: {} % of its share",
                percent(*part)
            ),
            Limit::Surplus => f.write_str("it has more connections than its share"),
            Limit::Shedding(flows) => write!(
                f,
                "it has more connections than its share: {flows} are to be reset within a period"
            ),
            Limit::Stale(age) => {
                write!(f, "its last reading is {} s old: held", age.as_secs())
            }
            Limit::Bound => f.write_str("as far from the operator's weight as is allowed"),
            Limit::Movement => f.write_str("follows as fast as the ring may move"),
            Limit::Refused => f.write_str(
                "connections live too long for this controller: the operator's weights stand",
            ),
        }
    }
}
