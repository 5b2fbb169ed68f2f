//! Choices of a VIP that every program knows by name.

use serde::{Deserialize, Serialize};

/// How a packet reaches a real.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Forward {
    /// In an outer IP header.
    Ipip,
    /// With the real's MAC address.
    L2,
}

/// Which flows have an entry in the flow table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Track {
    /// Those whose real is not what the ring says.
    Exceptions,
    /// Every flow.
    All,
}

/// What becomes of the running flows of a real that is dead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnDown {
    /// They go to the ring's real at once, which knows nothing of them.
    #[default]
    Rehash,
    /// The client's next TCP packet is answered with a reset, so that it connects anew at once. UDP knows no
    /// reset: its flows go to the ring's real.
    Reset,
    /// They stay with the dead real, as those of a drained one: it may come back.
    Keep,
}
