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

/// The value of [`super::names::FLOW_COUNTERS`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct FlowTableCounters {
    /// Entries made.
    pub inserted: u64,
    /// Live entries that were overwritten by another flow.
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
            FlowEvent::Evicted => {
                self.inserted += 1;
                self.evicted += 1;
            }
        }
    }
}
