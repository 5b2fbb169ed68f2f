//! What would happen to a frame.

use std::time::Duration;

use lb_common::reason::{ChosenBy, Reason, Verdict};
use lb_model::vip::{RealId, VipKey};

use crate::error::DataplaneError;

/// Shortest frame that can be simulated: an Ethernet header.
const MIN_FRAME: usize = 14;
/// Longest frame that can be simulated: what a test run takes of a page after XDP's own share at both ends.
const MAX_FRAME: usize = 3_520;

/// What would happen to a frame.
#[derive(Clone, Debug, PartialEq)]
pub struct Simulation {
    /// What would be done with it.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// The service it is for.
    pub vip: Option<VipKey>,
    /// The real it goes to.
    pub real: Option<RealId>,
    /// What chose the real.
    pub chosen_by: ChosenBy,
    /// The frame as it leaves.
    pub packet: Vec<u8>,
    /// The slot of the VIP's ring that was read; `None` if none was.
    pub slot: Option<SlotRead>,
    /// The entry that the flow table has of the flow; `None` if it has none, or was not asked.
    pub entry: Option<EntryRead>,
}

/// A slot of a ring, as a packet met it.
#[derive(Clone, Debug, PartialEq)]
pub struct SlotRead {
    /// Its number in the ring, from 0 on.
    pub number: u32,
    /// Slots of the ring.
    pub slots: u32,
    /// The real of its new flows; `None` if none takes any.
    pub real: Option<RealId>,
    /// Its state.
    pub state: SlotState,
    /// How long ago it came into its window, or out of it; `None` if it is settled. An agent that adopts tables does not
    /// know, and counts from its start.
    pub changed: Option<Duration>,
    /// How long ago the ring was last changed, or adopted.
    pub ring_changed: Duration,
}

/// The state of a slot.
#[derive(Clone, Debug, PartialEq)]
pub enum SlotState {
    /// All its flows are on its real.
    Settled,
    /// Its real changed within the VIP's window.
    InWindow {
        /// The real that running flows without an entry belong to; `None` if it was deleted.
        previous: Option<RealId>,
        /// Until the window ends, at the latest.
        ends_in: Duration,
    },
    /// Its window is over, and some flows are on other reals.
    Exceptions {
        /// Share of the slot's flows that have to be looked up, 0 to 1.
        share: f64,
    },
}

/// An entry of the flow table, as a packet met it.
#[derive(Clone, Debug, PartialEq)]
pub struct EntryRead {
    /// The real that it names; `None` if that was deleted.
    pub real: Option<RealId>,
    /// How long ago its flow's last packet came, to about a second.
    pub last_packet: Duration,
    /// Whether a second packet has confirmed it: one packet, anybody can forge.
    pub confirmed: bool,
    /// Whether the flow's client has ended it (FIN or RST).
    pub closing: bool,
}

/// Checks that a frame can be simulated.
///
/// # Errors
/// [`DataplaneError::FrameLength`].
pub(crate) fn check_frame(frame: &[u8]) -> Result<(), DataplaneError> {
    if (MIN_FRAME..=MAX_FRAME).contains(&frame.len()) {
        Ok(())
    } else {
        Err(DataplaneError::FrameLength {
            length: frame.len(),
            min: MIN_FRAME,
            max: MAX_FRAME,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_have_a_shortest_and_a_longest_length() {
        for (length, fits) in [(13, false), (14, true), (3_520, true), (3_521, false)] {
            let result = check_frame(&vec![0; length]);
            assert_eq!(result.is_ok(), fits, "{length}");
            if let Err(error) = result {
                let text = error.to_string();
                assert!(text.contains("14 to 3520"), "{text}");
            }
        }
    }
}
