//! What steering thinks of a real beyond its readings: signs of trouble, trust in its utilisation, and whether a VIP is
//! steered at all.

use std::{fmt, time::Duration};

/// A sign that a real serves its flows worse than the other reals, or than it did before it had so many. A real that
/// shows one gets no more than the operator's share.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sign {
    /// Its flows end this many times sooner than the other reals': it may fail fast.
    EndsSooner {
        /// Their life over its life.
        times: f64,
    },
    /// Its flows live this many times longer than the other reals', and than they did at a lower share: they queue.
    LastsLonger {
        /// Its life over the other reals'.
        times: f64,
    },
    /// Clients repeat their SYNs, because the real does not answer them.
    RepeatedSyns {
        /// SYNs that are repeats per flow opened.
        fraction: f64,
        /// The same of the other reals.
        others: f64,
    },
    /// Clients end flows with a reset.
    Resets {
        /// Flows that end with one.
        fraction: f64,
        /// The same of the other reals.
        others: f64,
    },
    /// It reports errors.
    Errors {
        /// Answers that are errors.
        fraction: f64,
        /// The same of the other reals.
        others: f64,
    },
    /// Probes take this many times longer than at a lower share, and than those of the other reals.
    SlowProbes {
        /// The round trip over what it was.
        times: f64,
    },
    /// It is utilised in full while it has more than the operator's share.
    Saturated {
        /// Its utilisation.
        utilisation: f64,
    },
}

impl Sign {
    /// The short name, as metrics have it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Sign::EndsSooner { .. } => "ends_sooner",
            Sign::LastsLonger { .. } => "lasts_longer",
            Sign::RepeatedSyns { .. } => "repeated_syns",
            Sign::Resets { .. } => "resets",
            Sign::Errors { .. } => "errors",
            Sign::SlowProbes { .. } => "slow_probes",
            Sign::Saturated { .. } => "saturated",
        }
    }
}

impl fmt::Display for Sign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |fraction: f64| Percent(fraction);
        match self {
            Sign::EndsSooner { times } => write!(
                f,
                "its flows end {} × sooner than the other reals'",
                Times(*times)
            ),
            Sign::LastsLonger { times } => write!(
                f,
                "its flows live {} × longer than the other reals'",
                Times(*times)
            ),
            Sign::RepeatedSyns { fraction, others } => write!(
                f,
                "clients repeat SYNs ({} % of its flows, others {} %)",
                percent(*fraction),
                percent(*others)
            ),
            Sign::Resets { fraction, others } => write!(
                f,
                "clients reset {} % of its flows, others' {} %",
                percent(*fraction),
                percent(*others)
            ),
            Sign::Errors { fraction, others } => write!(
                f,
                "{} % of its answers are errors, others' {} %",
                percent(*fraction),
                percent(*others)
            ),
            Sign::SlowProbes { times } => {
                write!(f, "probes take {} × longer than before", Times(*times))
            }
            Sign::Saturated { utilisation } => {
                write!(f, "it is utilised to {} %", percent(*utilisation))
            }
        }
    }
}

/// Why a real's utilisation is doubted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Doubt {
    /// It does not follow what the real carries.
    Unresponsive {
        /// The change of its logarithm per change of the logarithm of what is carried: 1 if it follows.
        slope: f64,
    },
    /// It stays the same while what the real carries changes.
    Frozen,
    /// It changed at once while what the real carries did not, and nothing else confirms it.
    Jumped {
        /// The factor by which it changed.
        times: f64,
    },
    /// One of several sources does not follow what the real carries, or disagrees with the others.
    Source {
        /// Its number, from 1 on, in the order of the real's sources.
        number: usize,
        /// What it reads over what is usual of it, if it disagrees.
        times: Option<f64>,
    },
    /// It says that the real is full, and its flows do not show it.
    Contradicted,
}

impl Doubt {
    /// The short name, as metrics have it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Doubt::Unresponsive { .. } => "unresponsive",
            Doubt::Frozen => "frozen",
            Doubt::Jumped { .. } => "jumped",
            Doubt::Source { .. } => "source",
            Doubt::Contradicted => "contradicted",
        }
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Doubt::Unresponsive { slope } => write!(
                f,
                "its utilisation does not follow what it carries (slope {slope:.2})"
            ),
            Doubt::Frozen => f.write_str("its utilisation stays the same, whatever it carries"),
            Doubt::Jumped { times } => write!(
                f,
                "its utilisation changed {} × at once, and nothing else did",
                Times(*times)
            ),
            Doubt::Source {
                number,
                times: None,
            } => write!(
                f,
                "the utilisation that its source {number} reads does not follow what it carries"
            ),
            Doubt::Source {
                number,
                times: Some(times),
            } => write!(
                f,
                "its source {number} reads {times:.1} × what is usual of it, and the others do not"
            ),
            Doubt::Contradicted => {
                f.write_str("its utilisation says full, and its flows do not show it")
            }
        }
    }
}

/// How far a real's utilisation is trusted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trust {
    /// 0: it has no vote; 1: in full.
    pub level: f64,
    /// Why it is not trusted in full.
    pub doubt: Option<Doubt>,
}

impl Trust {
    /// Trust in full.
    pub const FULL: Trust = Trust {
        level: 1.0,
        doubt: None,
    };
}

/// Whether a VIP is steered.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Safety {
    /// Its controller decides.
    #[default]
    Normal,
    /// Steering did harm, or cannot help: the operator's weights apply.
    OperatorWeights {
        /// Why.
        reason: Fallback,
        /// Since when, on the clock of `VipSteering::step`.
        since: Duration,
    },
}

/// Why a VIP has fallen back to the operator's weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fallback {
    /// So many reals with more than the operator's share showed signs of trouble that the rest cannot take it.
    Trouble {
        /// How many.
        reals: usize,
        /// The sign of one of them.
        sign: Sign,
    },
    /// The utilisation of too few reals is trusted.
    Untrusted {
        /// How many are not.
        reals: usize,
    },
}

impl Fallback {
    /// The short name, as metrics have it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Fallback::Trouble { .. } => "trouble",
            Fallback::Untrusted { .. } => "untrusted",
        }
    }
}

impl fmt::Display for Fallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fallback::Trouble { reals, sign } => write!(
                f,
                "{reals} of the reals with more than the operator's share are in trouble ({sign})"
            ),
            Fallback::Untrusted { reals } => {
                write!(f, "the utilisation of {reals} reals is not trusted")
            }
        }
    }
}

/// A fraction in percent, with a digit after the point where it is small.
struct Percent(f64);

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = self.0 * 100.0;
        write!(f, "{percent:.*}", usize::from(percent < 10.0))
    }
}

/// A factor, with a digit after the point where it is small.
struct Times(f64);

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.*}", usize::from(self.0 < 10.0), self.0)
    }
}
