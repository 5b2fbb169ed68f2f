//! A share above the operator's is a loan: it grows step by step while the real shows no sign of trouble, and is called in
//! at once when it does. A real at the operator's share does what it would do without steering.

use std::time::Duration;

use super::{caution::RAISED, verdict::Sign};

/// Factor by which a share may grow beyond the operator's per period.
const GROWTH: f64 = 1.25;
/// The same near the multiple at which the real was in trouble last, ...
const CAREFUL_GROWTH: f64 = 1.02;
/// ... from this fraction of it on.
const NEAR: f64 = 0.85;
/// How long a real that showed a sign is held at the operator's share at first; the time doubles each time, ...
pub const FIRST_HOLD: Duration = Duration::from_secs(60);
/// ... up to this.
pub const LONGEST_HOLD: Duration = Duration::from_secs(1_800);
/// Below this multiple, a real in trouble is as good as full at the operator's share, ...
const CLOSE: f64 = 1.15;
/// ... and held for this long at least.
const CLOSE_HOLD: Duration = Duration::from_secs(300);
/// Periods that a real is held at least after the last period with a sign.
const AFTER_SIGN: u32 = 6;
/// After this many times its hold above the operator's share without a sign, the next hold is half as long.
const FORGIVEN: u32 = 4;

/// Holds that double.
#[derive(Debug, Default)]
pub struct Hold {
    until: Option<Duration>,
    last: Duration,
    /// Since when there was no reason to hold.
    quiet_since: Option<Duration>,
}

impl Hold {
    /// Starts, or goes on: `least` from now on at least.
    pub fn extend(&mut self, now: Duration, least: Duration) {
        let until = match self.until {
            Some(until) => until,
            None => {
                self.last = (self.last * 2).clamp(FIRST_HOLD, LONGEST_HOLD);
                now + self.last
            }
        };
        self.until = Some(until.max(now + least));
        self.quiet_since = None;
    }

    /// Ends it if its time is over. Returns how long it lasts yet.
    pub fn left(&mut self, now: Duration) -> Option<Duration> {
        self.until = self.until.filter(|until| now < *until);
        Some(self.until?.saturating_sub(now))
    }

    /// Whether it was under way at the last call of [`Self::left`].
    pub const fn is_held(&self) -> bool {
        self.until.is_some()
    }

    /// Notes a period in which there was an occasion for trouble and none came. Returns whether earlier trouble is
    /// forgiven now.
    pub fn quiet(&mut self, now: Duration) -> bool {
        let since = *self.quiet_since.get_or_insert(now);
        if self.last.is_zero() || now.saturating_sub(since) < self.last * FORGIVEN {
            return false;
        }
        self.quiet_since = Some(now);
        self.last /= 2;
        if self.last < FIRST_HOLD {
            self.last = Duration::ZERO;
        }
        self.last.is_zero()
    }
}

/// What a period says of a loan.
#[derive(Clone, Copy, Debug)]
pub struct Period {
    pub now: Duration,
    /// The time between decisions.
    pub period: Duration,
    /// The sign that the real shows.
    pub sign: Option<Sign>,
    /// Its share over the operator's.
    pub multiple: f64,
    /// The same of the connections that it has, where they are long.
    pub connections: Option<f64>,
    /// Whether the loan may grow.
    pub may_grow: bool,
    /// Up to this multiple it may grow though nothing shows how the real serves its flows; `None`: something does.
    pub unproven: Option<f64>,
    /// The highest multiple that is allowed.
    pub most: f64,
}

/// The loan of a real.
#[derive(Debug)]
pub struct Loan {
    /// The highest multiple of the operator's share that it may have.
    ceiling: f64,
    hold: Hold,
    sign: Option<Sign>,
    /// Whether it had more than the operator's share when it showed the sign.
    lent: bool,
    /// The multiple at which it was in trouble last.
    burnt: Option<f64>,
    left: Duration,
}

impl Default for Loan {
    fn default() -> Self {
        Loan {
            ceiling: GROWTH,
            hold: Hold::default(),
            sign: None,
            lent: false,
            burnt: None,
            left: Duration::ZERO,
        }
    }
}

impl Loan {
    /// Ends a period.
    pub fn update(&mut self, period: Period) {
        let Period { now, multiple, .. } = period;
        if let Some(sign) = period.sign {
            if !self.hold.is_held() {
                self.lent = multiple > RAISED;
                if self.lent {
                    // What it carries is what was too much, not what it is given.
                    self.burnt = Some(period.connections.unwrap_or(multiple).max(1.0));
                }
            }
            self.sign = Some(sign);
            let close = self.lent && self.burnt.is_some_and(|burnt| burnt < CLOSE);
            let least = if close && !self.hold.is_held() {
                CLOSE_HOLD
            } else {
                period.period * AFTER_SIGN
            };
            self.hold.extend(now, least);
        }
        self.left = self.hold.left(now).unwrap_or_default();
        if self.hold.is_held() {
            self.ceiling = 1.0;
            return;
        }
        self.sign = None;
        if multiple > RAISED && self.hold.quiet(now) {
            self.burnt = None;
        }
        // Where connections are long, it uses what it carries, however few flows begin.
        let used = period
            .connections
            .map_or(multiple, |carried| carried.max(multiple))
            .max(1.0);
        let grown = used * GROWTH;
        let grown = match self.burnt {
            // Long connections stay, so that a second mistake lasts as well.
            Some(burnt) if period.connections.is_some() => grown.min((burnt * NEAR).max(1.0)),
            Some(burnt) if grown > burnt * NEAR => {
                (burnt * NEAR).max(used * CAREFUL_GROWTH).min(grown)
            }
            _ => grown,
        };
        let kept = self.ceiling.min(used);
        // What was lent while its flows showed no trouble is not taken back because there are none to be seen.
        self.ceiling = match period.unproven {
            _ if !period.may_grow => kept,
            None => grown,
            Some(unproven) => kept.max(grown.min(unproven)),
        }
        .min(period.most)
        .max(1.0);
    }

    /// Goes on with the multiple of the operator's share that an earlier agent lent.
    pub const fn resume(&mut self, multiple: f64) {
        self.ceiling = multiple.max(1.0);
    }

    /// The highest multiple of the operator's share that the real may have.
    pub const fn ceiling(&self) -> f64 {
        self.ceiling
    }

    /// Whether it showed its sign while it had more than the operator's share.
    pub const fn was_lent(&self) -> bool {
        self.lent
    }

    /// The sign for which it is held at the operator's share, and for how long yet.
    pub fn held_for(&self) -> Option<(Sign, Duration)> {
        self.sign.map(|sign| (sign, self.left))
    }
}
