//! The result of the decision.

use crate::reason::{Reason, Verdict};

/// What becomes of a frame. Every outcome has a reason, which is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Sent on to a real, out of the interface that the frame came in by.
    Transmitted,
    /// Sent on to a real, out of another interface.
    Redirected {
        /// Index of that interface.
        interface: u32,
    },
    /// A real's answer, translated and sent to its client, out of the interface that the frame came in by.
    Returned,
    /// The same, out of another interface.
    ReturnedBy {
        /// Index of that interface.
        interface: u32,
    },
    /// Changed into an answer to its sender.
    Replied(Reason),
    /// Left to the host's network stack, unchanged.
    Passed(Reason),
    /// Dropped.
    Dropped(Reason),
}

impl Outcome {
    /// The reason that is counted.
    #[must_use]
    #[inline(always)]
    pub const fn reason(self) -> Reason {
        match self {
            Outcome::Transmitted => Reason::ForwardedTx,
            Outcome::Redirected { .. } => Reason::ForwardedRedirect,
            Outcome::Returned => Reason::NatAnswerTx,
            Outcome::ReturnedBy { .. } => Reason::NatAnswerRedirect,
            Outcome::Replied(reason) | Outcome::Passed(reason) | Outcome::Dropped(reason) => reason,
        }
    }

    /// What happens to the frame. It agrees with [`Reason::verdict`] of the reason.
    #[must_use]
    #[inline(always)]
    pub const fn verdict(self) -> Verdict {
        match self {
            Outcome::Transmitted | Outcome::Returned | Outcome::Replied(_) => Verdict::Tx,
            Outcome::Redirected { .. } | Outcome::ReturnedBy { .. } => Verdict::Redirect,
            Outcome::Passed(_) => Verdict::Pass,
            Outcome::Dropped(_) => Verdict::Drop,
        }
    }

    /// The interface that a redirected frame leaves by; 0 for all others.
    #[must_use]
    #[inline(always)]
    pub const fn interface(self) -> u32 {
        match self {
            Outcome::Redirected { interface } | Outcome::ReturnedBy { interface } => interface,
            _ => 0,
        }
    }
}
