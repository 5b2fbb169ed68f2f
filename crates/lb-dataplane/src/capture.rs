//! Copies of packets for an operator, as they came and as they leave.

use std::time::SystemTime;

use lb_common::{
    capture::HEAD,
    reason::{ChosenBy, Reason, Verdict},
};
use lb_model::vip::{RealId, VipKey};

/// What is captured. What is empty means everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CaptureFilter {
    /// Only packets for this VIP.
    pub vip: Option<VipKey>,
    /// Only packets to these reals.
    pub reals: Vec<RealId>,
    /// Only packets with these reasons.
    pub reasons: Vec<Reason>,
}

/// A packet that was captured.
#[derive(Clone, Debug, PartialEq)]
pub struct CapturedPacket {
    /// When the program decided.
    pub time: SystemTime,
    /// The interface that it came in by.
    pub interface: String,
    /// What was done with it.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// What chose the real.
    pub chosen_by: ChosenBy,
    /// Indices of its service and its real; 0: none. [`crate::Dataplane::capture_names`] has their names.
    pub indices: (u32, u32),
    /// The frame as it came, and how long it was: of one that was answered only the beginning is known.
    pub original: (Vec<u8>, u32),
    /// The frame as it left and how long it was, if it was changed.
    pub changed: Option<(Vec<u8>, u32)>,
}

/// What came since the last reading.
#[derive(Clone, Debug, Default)]
pub struct CaptureBatch {
    /// Packets, in the order of their times.
    pub packets: Vec<CapturedPacket>,
    /// Packets that found no room in the kernel's buffers.
    pub lost: u64,
    /// Packets that the filter wanted beyond the budget.
    pub over_budget: u64,
    /// Why nothing comes any more.
    pub ended: Option<String>,
}

/// Gives the packets of a running capture.
pub trait CaptureReader: Send {
    /// Allows this many packets more, at most, and returns what has come. Does not wait.
    fn read(&mut self, budget: u64) -> CaptureBatch;

    /// The interfaces whose packets are captured.
    fn interfaces(&self) -> Vec<String>;
}

/// The frame as it came: its first bytes were kept, and the program changes nothing behind them. `None` of the rest is
/// known of a frame that was answered, because the answer is another frame.
pub(crate) fn original(
    head: &[u8],
    length: u32,
    changed: &[u8],
    changed_length: u32,
    answered: bool,
) -> Vec<u8> {
    let mut frame = head[..head.len().min(length as usize)].to_vec();
    let rest = (length as usize).saturating_sub(HEAD);
    let from = (changed_length as usize).checked_sub(rest);
    if let (false, Some(from)) = (answered || rest == 0, from)
        && let Some(tail) = changed.get(from..)
    {
        frame.extend_from_slice(tail);
    }
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_of_a_packet_is_that_of_the_changed_one() {
        let frame: Vec<u8> = (0..=255).cycle().take(1_000).collect();
        let head = &frame[..HEAD];
        // An outer header of 20 bytes in front, and another TTL.
        let mut changed = vec![9; 20];
        changed.extend_from_slice(&frame);
        changed[20 + 22] = 63;
        assert_eq!(original(head, 1_000, &changed, 1_020, false), frame);
        // An event has room for less than the frame.
        let cut = &changed[..500];
        assert_eq!(original(head, 1_000, cut, 1_020, false), frame[..480]);
        // An answer is another frame.
        assert_eq!(original(head, 1_000, &changed[..60], 60, true), head);
        // All of a short one was kept.
        let mut short = [0; HEAD];
        short[..60].copy_from_slice(&frame[..60]);
        assert_eq!(original(&short, 60, &changed[..80], 80, false), frame[..60]);
        assert_eq!(original(&short, 60, &[], 0, true), frame[..60]);
    }
}
