//! The kinds of traffic.

use lb_common::tables::bench::{FRESH, IN_TURN, SHUFFLED};

use super::template::{OTHER4, OTHER6, Packet, Segment, VIP4, VIP6};
use crate::balancer::{Mode, Setting};

/// A kind of traffic.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// The name on the command line and in results.
    pub name: &'static str,
    /// Describes the traffic.
    pub what: &'static str,
    /// Over IPv6.
    pub v6: bool,
    /// Whether packets are for the VIP.
    pub vip: bool,
    /// Whether each packet opens a flow.
    pub new_flows: bool,
    /// Whether the rate of new flows is limited: some balancers stop remembering flows above a rate.
    pub paced: bool,
    /// Number of flows, a power of two.
    pub flows: u32,
    /// State of the balancer's tables.
    pub mode: Mode,
}

/// One established IPv4 flow; the other scenarios are variations of it.
pub const ESTABLISHED: Scenario = Scenario {
    name: "v4-one",
    what: "IPv4 TCP, one established flow",
    v6: false,
    vip: true,
    new_flows: false,
    paced: false,
    flows: 1,
    mode: Mode::Settled,
};
const K64: u32 = 1 << 16;
const M1: u32 = 1 << 20;

/// All scenarios; those that leave other balancers' flow tables as they are come first.
pub const SCENARIOS: [Scenario; 30] = [
    Scenario {
        name: "v4-pass",
        what: "IPv4 TCP to an address that is no VIP",
        vip: false,
        ..ESTABLISHED
    },
    Scenario {
        name: "v6-pass",
        what: "IPv6 TCP to an address that is no VIP",
        v6: true,
        vip: false,
        ..ESTABLISHED
    },
    ESTABLISHED,
    Scenario {
        name: "v4-one-exception",
        what: "IPv4 TCP, one flow that is an exception",
        mode: Mode::Exceptions,
        ..ESTABLISHED
    },
    Scenario {
        name: "v4-one-fresh",
        what: "IPv4 TCP, one flow, after reals were added one by one",
        mode: Mode::OneByOne,
        ..ESTABLISHED
    },
    Scenario {
        name: "v4-one-steered",
        what: "IPv4 TCP, one flow, after weights moved for two windows",
        mode: Mode::Steered,
        ..ESTABLISHED
    },
    Scenario {
        name: "v6-one",
        what: "IPv6 TCP, one established flow",
        v6: true,
        ..ESTABLISHED
    },
    Scenario {
        name: "v4-64k",
        what: "IPv4 TCP, 65,536 established flows in random order, slots settled",
        flows: K64,
        ..ESTABLISHED
    },
    Scenario {
        name: "v4-64k-exceptions",
        what: "IPv4 TCP, 65,536 flows in random order, each an exception",
        flows: K64,
        mode: Mode::Exceptions,
        ..ESTABLISHED
    },
    Scenario {
        name: "v4-64k-steered",
        what: "IPv4 TCP, 65,536 flows in random order, after weights moved for two windows",
        flows: K64,
        mode: Mode::Steered,
        ..ESTABLISHED
    },
    Scenario {
        name: "v4-1m",
        what: "IPv4 TCP, 1,048,576 established flows in random order, slots settled",
        flows: M1,
        ..ESTABLISHED
    },
    Scenario {
        name: "v4-1m-fresh",
        what: "IPv4 TCP, 1,048,576 flows in random order, after reals were added one by one",
        flows: M1,
        mode: Mode::OneByOne,
        ..ESTABLISHED
    },
    Scenario {
        name: "v4-1m-exceptions",
        what: "IPv4 TCP, 1,048,576 flows in random order, each an exception",
        flows: M1,
        mode: Mode::Exceptions,
        ..ESTABLISHED
    },
    Scenario {
        name: "v4-1m-steered",
        what: "IPv4 TCP, 1,048,576 flows in random order, after weights moved for two windows",
        flows: M1,
        mode: Mode::Steered,
        ..ESTABLISHED
    },
    Scenario {
        name: "v4-1m-tracked",
        what: "IPv4 TCP, 1,048,576 flows in random order, track = all",
        flows: M1,
        mode: Mode::Tracked,
        ..ESTABLISHED
    },
    Scenario {
        name: "v6-1m",
        what: "IPv6 TCP, 1,048,576 established flows in random order, slots settled",
        v6: true,
        flows: M1,
        ..ESTABLISHED
    },
    Scenario {
        name: "v4-new",
        what: "IPv4 TCP SYN, a new flow each packet, at most 100,000 a second",
        new_flows: true,
        paced: true,
        ..ESTABLISHED
    },
    Scenario {
        name: "v4-new-tracked",
        what: "IPv4 TCP SYN, a new flow each packet, at most 100,000 a second, track = all",
        new_flows: true,
        paced: true,
        mode: Mode::Tracked,
        ..ESTABLISHED
    },
    Scenario {
        name: "v4-flood",
        what: "IPv4 TCP SYN, a new flow each packet, as fast as it goes",
        new_flows: true,
        ..ESTABLISHED
    },
    Scenario {
        name: "v6-new",
        what: "IPv6 TCP SYN, a new flow each packet, at most 100,000 a second",
        v6: true,
        new_flows: true,
        paced: true,
        ..ESTABLISHED
    },
    Scenario {
        name: "v6-flood",
        what: "IPv6 TCP SYN, a new flow each packet, as fast as it goes",
        v6: true,
        new_flows: true,
        ..ESTABLISHED
    },
    Scenario {
        name: "v4-one-gue",
        what: "IPv4 TCP, one established flow, mode gue",
        mode: Mode::With(Setting::Gue),
        ..ESTABLISHED
    },
    Scenario {
        name: "v4-one-l2",
        what: "IPv4 TCP, one established flow, mode l2",
        mode: Mode::With(Setting::L2),
        ..ESTABLISHED
    },
    Scenario {
        name: "v4-one-katran",
        what: "IPv4 TCP, one established flow, ring and hash of Katran",
        mode: Mode::With(Setting::Katran),
        ..ESTABLISHED
    },
    Scenario {
        name: "v6-one-katran",
        what: "IPv6 TCP, one established flow, ring and hash of Katran",
        v6: true,
        mode: Mode::With(Setting::Katran),
        ..ESTABLISHED
    },
    Scenario {
        name: "v4-one-source",
        what: "IPv4 TCP, one established flow, hash of the source",
        mode: Mode::With(Setting::SourceHash),
        ..ESTABLISHED
    },
    Scenario {
        name: "v4-one-limits",
        what: "IPv4 TCP, one established flow, limits of the connections that begin",
        mode: Mode::With(Setting::FlowLimits),
        ..ESTABLISHED
    },
    Scenario {
        name: "v4-one-ids",
        what: "IPv4 TCP, one established flow that names no real, where it could",
        mode: Mode::With(Setting::ServerIds),
        ..ESTABLISHED
    },
    Scenario {
        name: "v4-one-rules",
        what: "IPv4 TCP, one established flow, a million rules about other clients",
        mode: Mode::With(Setting::SourceRules),
        ..ESTABLISHED
    },
    // The last one: its VIPs stay.
    Scenario {
        name: "v4-one-vips",
        what: "IPv4 TCP, one established flow, 4,000 other VIPs",
        mode: Mode::With(Setting::ManyVips),
        ..ESTABLISHED
    },
];

impl Scenario {
    /// Returns the packet, before its flow is written into it.
    pub fn packet(&self) -> Packet {
        let segment = if self.new_flows {
            Segment::Syn
        } else {
            Segment::Ack
        };
        match (self.v6, self.vip) {
            (false, true) => Packet::v4(VIP4, segment),
            (false, false) => Packet::v4(OTHER4, segment),
            (true, true) => Packet::v6(VIP6, segment),
            (true, false) => Packet::v6(OTHER6, segment),
        }
    }

    /// Returns the order of the flows.
    pub fn order(&self) -> u32 {
        match (self.new_flows, self.flows) {
            (true, _) => FRESH,
            (false, 1) => IN_TURN,
            (false, _) => SHUFFLED,
        }
    }
}
