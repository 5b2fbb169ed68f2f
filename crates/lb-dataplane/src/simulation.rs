//! What would happen to a frame.

use std::net::IpAddr;

use lb_common::reason::{ChosenBy, Reason, Verdict};
use lb_model::vip::VipKey;

use crate::error::DataplaneError;

/// Shortest frame that can be simulated: an Ethernet header.
const MIN_FRAME: usize = 14;
/// Longest frame that can be simulated: what a test run takes of a page after XDP's own share at both ends.
const MAX_FRAME: usize = 3_520;

/// What would happen to a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Simulation {
    /// What would be done with it.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// The service it is for.
    pub vip: Option<VipKey>,
    /// The real it goes to.
    pub real: Option<IpAddr>,
    /// What chose the real.
    pub chosen_by: ChosenBy,
    /// The frame as it leaves.
    pub packet: Vec<u8>,
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
