//! How many TCP connections may begin in a second: with one source prefix, with a service, with one of its reals.
//!
//! A limit is one word: when the next connection would be due if they came evenly (the generic cell rate algorithm). A
//! connection is admitted while that is no further ahead than a burst is long. CPUs that look at the same moment may
//! each admit one; each of them is paid for, so the rate holds over time.
//!
//! Prefixes share words by a hash with this host's secret. Each has two, and is refused only if both are exhausted: with
//! 1,000 prefixes that exceed their limit at once, one of a thousand others is refused, too.

use crate::{
    codegen::{OrRare as _, rare},
    hash::Addresses,
    limits::SOURCE_LIMITS,
    lookup::Tables,
    parse::Packet,
    reason::Reason,
    shared::SharedU64,
    tables::service::RESET_LIMITED,
};

/// A rate, and what may exceed it for a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct FlowLimit {
    /// Nanoseconds from one connection to the next; 0: there is no limit.
    pub interval: u32,
    /// Connections that may begin at once, 1 or more.
    pub burst: u32,
}

/// The limits of a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct FlowLimits {
    /// The part of a source address that a limit is for; of an IPv6 address, in its first half.
    pub source_mask6: u64,
    /// The same for IPv4.
    pub source_mask4: u32,
    /// Limit of each prefix of sources.
    pub source: FlowLimit,
    /// Limit of the service.
    pub service: FlowLimit,
    /// Limit of each of its reals.
    pub real: FlowLimit,
    /// Zero.
    pub pad: u32,
}

/// Words of a record of [`FlowLimits`].
pub const WORDS: usize = size_of::<FlowLimits>() / 8;

impl FlowLimits {
    /// The record as words, each of which is written at once.
    #[must_use]
    pub const fn words(&self) -> [u64; WORDS] {
        [
            self.source_mask6,
            beside(self.source_mask4, self.source.interval),
            beside(self.source.burst, self.service.interval),
            beside(self.service.burst, self.real.interval),
            beside(self.real.burst, self.pad),
        ]
    }
}

/// Two numbers as they lie in memory.
const fn beside(first: u32, second: u32) -> u64 {
    let ([a, b, c, d], [e, f, g, h]) = (first.to_ne_bytes(), second.to_ne_bytes());
    u64::from_ne_bytes([a, b, c, d, e, f, g, h])
}

impl FlowLimit {
    /// The limit of so many connections a second, of which those of this many nanoseconds may come at once.
    #[must_use]
    pub fn new(rate: u32, burst: u64) -> FlowLimit {
        let interval = 1_000_000_000 / rate.max(1);
        FlowLimit {
            interval,
            burst: u32::try_from(burst / u64::from(interval.max(1)))
                .unwrap_or(u32::MAX)
                .max(1),
        }
    }

    /// Whether a connection may begin at this time, in nanoseconds.
    #[inline(always)]
    fn has_room(self, due: u64, now: u64) -> bool {
        let ahead = due.wrapping_sub(now);
        // It was due before.
        ahead > i64::MAX as u64
            || ahead <= self.interval as u64 * (self.burst as u64).wrapping_sub(1)
    }

    /// The word after one more connection.
    #[inline(always)]
    fn take<T: Tables>(self, tables: &T, word: &SharedU64, due: u64, now: u64) {
        if due.wrapping_sub(now) > i64::MAX as u64 {
            tables.set_flow_limit(word, now.wrapping_add(self.interval as u64));
        } else {
            tables.add_to_flow_limit(word, self.interval.into());
        }
    }

    #[inline(always)]
    fn admits<T: Tables>(self, tables: &T, word: Option<&SharedU64>, now: u64) -> bool {
        let Some(word) = word else {
            return true;
        };
        let due = word.load();
        let admits = self.has_room(due, now);
        if admits {
            self.take(tables, word, due, now);
        }
        admits
    }
}

/// Looks at the limits of a service for a packet that opens a connection to this real.
///
/// # Errors
/// It exceeds one: [`Reason::FlowLimited`], or [`Reason::FlowLimitedReset`] if it is to be answered.
#[inline(always)]
pub fn admit_packet<A: Addresses, T: Tables>(
    tables: &T,
    index: u32,
    packet: &Packet<A>,
    real: u16,
) -> Result<(), Reason> {
    let service = tables.service(index).or_rare(Reason::BadTables)?;
    let prefix = packet
        .addresses
        .source_prefix(service.limits.source_mask4, service.limits.source_mask6);
    let source = prefix.flow_hash(tables.flow_secret(), 0, index);
    if tables.admit_flow(index, source, real) {
        Ok(())
    } else if service.flags & RESET_LIMITED != 0 {
        Err(rare(Reason::FlowLimitedReset))
    } else {
        Err(rare(Reason::FlowLimited))
    }
}

/// Whether a connection may begin, of a source with this hash to this real of a service. The limit of the source comes
/// first, so that one that exceeds it takes nothing from the others.
#[inline(always)]
pub fn admit<T: Tables>(tables: &T, index: u32, source: u64, real: u16) -> bool {
    let Some(service) = tables.service(index) else {
        return true;
    };
    let now = tables.nanoseconds();
    let limit = service.limits.source;
    if limit.interval != 0 {
        let first = limit.admits(tables, tables.source_limit(place(source)), now);
        let second = limit.admits(tables, tables.source_limit(place(source << 32)), now);
        if !first && !second {
            return false;
        }
    }
    let limit = service.limits.service;
    if limit.interval != 0 && !limit.admits(tables, tables.service_limit(index), now) {
        return false;
    }
    let limit = service.limits.real;
    limit.interval == 0 || limit.admits(tables, tables.real_limit(real), now)
}

/// The place of a hash's word.
#[inline(always)]
const fn place(hash: u64) -> u32 {
    (hash >> 32) as u32 & (SOURCE_LIMITS - 1)
}
