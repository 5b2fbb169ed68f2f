//! Copies of packets for an operator: what a capturing program tells the agent.
//!
//! Whether a packet is wanted is known only after the decision, which changes the frame. So the program keeps the first
//! bytes of each frame, decides, and then sends these bytes together with the frame as it leaves. All that the decision
//! changes lies within the first bytes; the rest of the original stands at the end of the changed frame.

use crate::{limits::MAX_REALS, reason::Reason, tables::trace::Trace};

/// Bytes of the original that are kept: Ethernet, IPv6 with extension headers or IPv4 with options, and TCP with options.
pub const HEAD: usize = 192;

/// What precedes the changed frame in an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Captured {
    /// The kernel's monotonic clock, in nanoseconds.
    pub time: u64,
    /// The decision.
    pub trace: Trace,
    /// Bytes of the frame as it came.
    pub length: u32,
    /// Bytes of the frame as it leaves.
    pub changed_length: u32,
    /// [`crate::reason::Verdict`] as a number.
    pub verdict: u32,
    /// Not used.
    pub reserved: u32,
    /// The first bytes of the frame as it came.
    pub head: [u8; HEAD],
}

/// What is captured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Filter {
    /// A bit for each [`Reason`].
    pub reasons: u64,
    /// Only the packets of this service; 0: of all, and those of none.
    pub service: u32,
    /// 1: only packets to the reals whose bits are set in [`crate::tables::names::CAPTURE_REALS`].
    pub by_real: u32,
}

impl Filter {
    /// Everything.
    pub const ALL: Filter = Filter {
        reasons: u64::MAX,
        service: 0,
        by_real: 0,
    };

    /// Whether a decision is wanted, as far as service and reason tell.
    #[must_use]
    #[inline(always)]
    pub const fn wants(&self, trace: &Trace) -> bool {
        (self.service == 0 || self.service == trace.service)
            && self.reasons >> (trace.reason & 63) & 1 != 0
    }
}

/// Entries of [`crate::tables::names::CAPTURE_ACCOUNTS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Account {
    /// Packets that may still be sent. The agent fills it up some times a second, so an agent that is gone gets nothing.
    Credit = 0,
    /// Wanted packets that were not sent, because there was no credit.
    OverBudget = 1,
}

/// Number of [`Account`]s.
pub const ACCOUNTS: u32 = 2;

/// Words of the set of reals.
pub const REAL_WORDS: u32 = MAX_REALS.div_ceil(64);

const _: () = assert!(Reason::ALL.len() <= 64, "a bit for each reason");
const _: () = assert!(HEAD.is_multiple_of(8) && size_of::<Captured>() == 40 + HEAD);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_wants_its_service_and_its_reasons() {
        let trace = |service, reason: Reason| Trace {
            reason: reason as u32,
            service,
            ..Trace::default()
        };
        let only = |reason: Reason| 1_u64 << reason as u32;
        let dropped = Filter {
            reasons: only(Reason::NoReal) | only(Reason::TooLarge),
            service: 7,
            by_real: 0,
        };
        assert!(dropped.wants(&trace(7, Reason::NoReal)));
        assert!(dropped.wants(&trace(7, Reason::TooLarge)));
        assert!(!dropped.wants(&trace(7, Reason::ForwardedTx)));
        assert!(!dropped.wants(&trace(8, Reason::NoReal)));
        assert!(Filter::ALL.wants(&trace(0, Reason::NotIp)));
        assert!(Filter::ALL.wants(&trace(9, Reason::TooLargeAnswered)));
    }
}
