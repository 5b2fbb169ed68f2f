//! Counters and live flows.

use std::ops::AddAssign;

use lb_common::{
    reason::Reason,
    tables::{counters::RealCounters, signs::Signs},
};
use lb_model::vip::{RealId, VipKey};

/// Counters of one real, since it was added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets forwarded.
    pub packets: u64,
    /// Bytes of IP packets as they came in.
    pub bytes: u64,
    /// New flows.
    pub opened: u64,
    /// FIN and RST from clients.
    pub closed: u64,
    /// Flows whose end was not seen: those that were open when the real last came back from the dead, and
    /// all that are open while it is dead.
    pub lost: u64,
}

impl Counters {
    /// Flows that are open, as far as the counters tell.
    #[must_use]
    pub const fn open(&self) -> u64 {
        self.opened
            .saturating_sub(self.closed)
            .saturating_sub(self.lost)
    }
}

impl From<RealCounters> for Counters {
    fn from(c: RealCounters) -> Counters {
        Counters {
            packets: c.packets,
            bytes: c.bytes,
            opened: c.opened,
            closed: c.closed,
            lost: 0,
        }
    }
}

impl AddAssign for Counters {
    fn add_assign(&mut self, other: Counters) {
        self.packets += other.packets;
        self.bytes += other.bytes;
        self.opened += other.opened;
        self.closed += other.closed;
        self.lost += other.lost;
    }
}

/// The slots of a ring by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotStates {
    /// All flows of the slot are on its real: packets look nothing up.
    pub settled: u64,
    /// The slot's real changed within the VIP's window: packets look up the flow table.
    pub in_window: u64,
    /// The window is over, and there are flows on other reals: packets of flows that may be among them look up the flow
    /// table.
    pub exceptions: u64,
}

impl SlotStates {
    /// The slots of which packets look up the flow table.
    #[must_use]
    pub const fn unsettled(&self) -> u64 {
        self.in_window + self.exceptions
    }

    /// All slots.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.settled + self.unsettled()
    }
}

impl AddAssign for SlotStates {
    fn add_assign(&mut self, other: SlotStates) {
        self.settled += other.settled;
        self.in_window += other.in_window;
        self.exceptions += other.exceptions;
    }
}

/// Counters and signs of one real.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RealStats {
    /// Its name.
    pub real: RealId,
    /// What it got.
    pub counters: Counters,
    /// How it serves its flows; `None` where no packet shows their beginning and end (UDP).
    pub signs: Option<Signs>,
}

/// Counters of one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceStats {
    /// Its name.
    pub vip: VipKey,
    /// The sum over its reals, deleted ones included.
    pub total: Counters,
    /// Packets dropped, and their bytes.
    pub dropped: (u64, u64),
    /// The slots of its ring.
    pub slots: SlotStates,
    /// Packets that looked up the flow table and found their flow.
    pub table_hits: u64,
    /// Packets that looked up the flow table and did not find their flow.
    pub table_misses: u64,
    /// Packets that went to the real that they name by its server id.
    pub named: u64,
    /// Packets with a server id that no real has that is alive.
    pub named_unknown: u64,
    /// Per real, in the order of [`crate::ServiceSpec::reals`].
    pub reals: Vec<RealStats>,
}

/// Frames by reason, of one interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceStats {
    /// Its name.
    pub name: String,
    /// Every reason, by number.
    pub reasons: Vec<(Reason, u64)>,
    /// Frames whose outer header was taken off; each is counted by its reason as well.
    pub decapsulated: u64,
}

/// Use of the flow table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowTableStats {
    /// Entries there is room for.
    pub capacity: u64,
    /// Live entries, as of the last sweep.
    pub used: u64,
    /// Entries made.
    pub inserted: u64,
    /// Live entries of flows that sent one packet so far, as of the last sweep.
    pub provisional: u64,
    /// Live entries that had to give way to another flow's.
    pub evicted: u64,
    /// Those of them that were provisional.
    pub evicted_provisional: u64,
    /// Flows that got no entry, because all that they might have had are confirmed.
    pub refused: u64,
    /// Packets that looked up the table and found their flow.
    pub hits: u64,
    /// Packets that looked up the table and did not find their flow.
    pub misses: u64,
}

impl FlowTableStats {
    /// Live, confirmed entries that had to give way: to programs of earlier builds, which told no kinds apart.
    #[must_use]
    pub fn evicted_confirmed(&self) -> u64 {
        self.evicted.saturating_sub(self.evicted_provisional)
    }
}

/// All counters at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Per service.
    pub services: Vec<ServiceStats>,
    /// Per interface.
    pub interfaces: Vec<InterfaceStats>,
    /// Counters of the flow table.
    pub flow_table: FlowTableStats,
}

/// Live flows of one real.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RealFlows {
    /// Its service.
    pub vip: VipKey,
    /// Its name.
    pub real: RealId,
    /// Live flows. Where the service tracks all flows, entries of the flow table without those that FIN or
    /// RST closed; else [`Counters::open`]. A dead real has none; of a real that came back, only flows count
    /// that were opened or heard of since.
    pub flows: u64,
    /// Whether `flows` was counted, not estimated.
    pub exact: bool,
    /// Live entries of the flow table that name it; entries of closed flows live about 30 s longer.
    pub entries: u64,
    /// Whether its next hop is known.
    pub reachable: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_flows_are_neither_closed_nor_lost_and_never_below_zero() {
        let counters = Counters {
            opened: 10,
            closed: 3,
            lost: 2,
            ..Counters::default()
        };
        assert_eq!(counters.open(), 5);
        let mut sum = counters;
        sum += counters;
        assert_eq!((sum.opened, sum.open()), (20, 10));
        let more_closed = Counters {
            closed: 11,
            ..counters
        };
        assert_eq!(more_closed.open(), 0);
    }
}
