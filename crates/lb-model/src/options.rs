//! Options of a VIP that every program knows by name.

use lb_common::{
    forward::{Facts, GUE, IPIP, L2, NAT},
    tables::service::{HASH_DESTINATION, HASH_KATRAN, HASH_SOURCE, HASH_SOURCE_GROUP},
};

use crate::{ring::Algorithm, vip::Protocol};

crate::choice! {
    /// How a packet reaches a real.
    pub enum Forward = Ipip {
        /// In an outer IP header; the families of VIP and real may differ.
        Ipip = "ipip",
        /// With the real's MAC address; the real has the VIP's family and is on a directly connected network.
        L2 = "l2",
        /// In an outer IP and a UDP header (generic UDP encapsulation, variant 1), whose source port routers and NICs
        /// spread flows by; the families of VIP and real may differ.
        Gue = "gue",
        /// To the real's own address, from an address of the balancer; the real needs no VIP. The families may differ.
        Nat = "nat",
    }
}

impl Forward {
    /// Returns what the data path states about this mode.
    #[must_use]
    pub const fn facts(self) -> &'static Facts {
        match self {
            Forward::Ipip => IPIP,
            Forward::L2 => L2,
            Forward::Nat => NAT,
            Forward::Gue => GUE,
        }
    }
}

crate::choice! {
    /// What of a packet decides which slot of the ring its flow has.
    pub enum Hash = Flow {
        /// Addresses, ports and protocol: each flow by itself. Of SCTP without the ports.
        Flow = "flow",
        /// Addresses and protocol: all flows of a client to one address have one real.
        Source = "source",
        /// The client's address alone: a client has one real behind all VIPs that have this hash and the same reals, weights
        /// and slots.
        SourceGroup = "source-group",
        /// The VIP's address and port, and the protocol: all flows to a port have one real. For VIPs of any port.
        Destination = "destination",
    }
}

impl Hash {
    /// The bits of a service's record that say it to the data path. A ring of Katran's has Katran's hash of a flow.
    #[must_use]
    pub const fn flags(self, ring: Algorithm, protocol: Protocol) -> u32 {
        match self {
            Hash::Flow if matches!(ring, Algorithm::MaglevKatran) => HASH_KATRAN,
            Hash::Flow if matches!(protocol, Protocol::Sctp) => HASH_SOURCE,
            Hash::Flow => 0,
            Hash::Source => HASH_SOURCE,
            Hash::SourceGroup => HASH_SOURCE_GROUP,
            Hash::Destination => HASH_DESTINATION,
        }
    }
}

crate::choice! {
    /// The source of what mode `nat` sends to a real.
    pub enum NatSource = Balancer {
        /// An address of the balancer.
        Balancer = "balancer",
        /// The client itself: the balancer must be the way by which the real answers, such as its default gateway.
        Client = "client",
    }
}

crate::choice! {
    /// Which flows have an entry in the flow table.
    pub enum Track = Exceptions {
        /// Flows whose real is not what the ring says.
        Exceptions = "exceptions",
        /// Every flow: the number of live flows is exact.
        All = "all",
    }
}

crate::choice! {
    /// What happens to the established flows of a real that goes down.
    pub enum OnDown = Rehash {
        /// They move at once to the ring's real, which does not know them.
        Rehash = "rehash",
        /// The client's next TCP packet is answered with a reset, so that it reconnects at once. UDP has no reset:
        /// its flows move to the ring's real.
        Reset = "reset",
        /// They stay with the real that is down, as those of a drained one do: it may come back.
        Keep = "keep",
    }
}
