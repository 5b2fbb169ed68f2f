//! Counters; all per CPU.

use crate::lookup::FlowEvent;

/// A value of [`super::names::REAL_COUNTERS`]. A real belongs to one service, so a service's forwarded
/// packets are the sum over its reals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct RealCounters {
    /// Packets forwarded.
    pub packets: u64,
    /// Their bytes: IP packets as they came in, without Ethernet and outer headers.
    pub bytes: u64,
    /// New flows: TCP SYN; for UDP, entries made in the flow table.
    pub opened: u64,
    /// TCP FIN and RST seen from clients, and flows that were shed.
    pub closed: u64,
}

/// A value of [`super::names::SERVICE_COUNTERS`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct ServiceCounters {
    /// Packets for the service that no real got, for any reason: dropped, or answered with a reset.
    pub dropped_packets: u64,
    /// Their bytes.
    pub dropped_bytes: u64,
}

/// A value of [`super::names::LOOKUPS`]: a service's packets that looked up the flow table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct LookupCounters {
    /// Those that found their entry.
    pub hits: u64,
    /// Those that found none.
    pub misses: u64,
}

impl LookupCounters {
    /// Counts a packet.
    #[inline(always)]
    pub const fn count(&mut self, hit: bool) {
        if hit {
            self.hits += 1;
        } else {
            self.misses += 1;
        }
    }
}

/// A value of [`super::names::SERVER_ID_COUNTERS`]: a service's packets that named a real.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct ServerIdCounters {
    /// Those that went to the real that they named.
    pub known: u64,
    /// Those whose id no real has that is alive. They went the usual way.
    pub unknown: u64,
}

impl ServerIdCounters {
    /// Counts a packet.
    #[inline(always)]
    pub const fn count(&mut self, known: bool) {
        if known {
            self.known += 1;
        } else {
            self.unknown += 1;
        }
    }
}

/// The value of [`super::names::FLOW_COUNTERS`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct FlowTableCounters {
    /// Entries made.
    pub inserted: u64,
    /// Live entries that were overwritten by another flow; [`FlowEvictions`] has them by kind.
    pub evicted: u64,
    /// Packets that found their entry.
    pub hits: u64,
    /// Packets that found no entry.
    pub misses: u64,
}

impl FlowTableCounters {
    /// Counts an event.
    #[inline(always)]
    pub const fn count(&mut self, event: FlowEvent) {
        match event {
            FlowEvent::Hit => self.hits += 1,
            FlowEvent::Miss => self.misses += 1,
            FlowEvent::Inserted => self.inserted += 1,
            FlowEvent::Evicted { .. } => {
                self.inserted += 1;
                self.evicted += 1;
            }
            FlowEvent::Refused => {}
        }
    }
}

/// The value of [`super::names::FLOW_EVICTIONS`].
///
/// What [`FlowTableCounters::evicted`] has beyond the sum of the first two is confirmed entries: programs of
/// earlier builds evicted those, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct FlowEvictions {
    /// Evicted entries that only a packet which opens a flow had made.
    pub opening: u64,
    /// Evicted entries that only a packet of a running flow had made.
    pub running: u64,
    /// Flows that got no entry, because all that they might have had are confirmed.
    pub refused: u64,
    /// Zero.
    pub pad: u64,
}

impl FlowEvictions {
    /// Counts an event, if it is one of these.
    #[inline(always)]
    pub const fn count(&mut self, event: FlowEvent) {
        match event {
            FlowEvent::Evicted { opening: true } => self.opening += 1,
            FlowEvent::Evicted { opening: false } => self.running += 1,
            FlowEvent::Refused => self.refused += 1,
            FlowEvent::Hit | FlowEvent::Miss | FlowEvent::Inserted => {}
        }
    }
}
