//! Options of a VIP that every program knows by name.

use lb_common::forward::{Facts, IPIP, L2};

crate::choice! {
    /// How a packet reaches a real.
    pub enum Forward = Ipip {
        /// In an outer IP header; the families of VIP and real may differ.
        Ipip = "ipip",
        /// With the real's MAC address; the real has the VIP's family and is on a directly connected network.
        L2 = "l2",
    }
}

impl Forward {
    /// Returns what the data path states about this mode.
    #[must_use]
    pub const fn facts(self) -> &'static Facts {
        match self {
            Forward::Ipip => IPIP,
            Forward::L2 => L2,
        }
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
