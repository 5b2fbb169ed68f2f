//! Choices of a VIP that every program knows by name.

crate::choice! {
    /// How a packet reaches a real.
    pub enum Forward = Ipip {
        /// In an outer IP header; the families of VIP and real may differ.
        Ipip = "ipip",
        /// With the real's MAC address; the real has the VIP's family and is on a directly connected network.
        L2 = "l2",
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
    /// What happens to the running flows of a real that goes down.
    pub enum OnDown = Rehash {
        /// They move to the ring's real at once, which knows nothing of them.
        Rehash = "rehash",
        /// The client's next TCP packet is answered with a reset, so that it reconnects at once. UDP has no reset:
        /// its flows move to the ring's real.
        Reset = "reset",
        /// They stay with the real that is down, as those of a drained one do: it may come back.
        Keep = "keep",
    }
}
