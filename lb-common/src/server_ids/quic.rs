//! QUIC's connection ids (RFC 8999, RFC 9000), and Katran's server ids in them.

use crate::{
    frame::{Fields as _, Frame},
    headers::quic,
    parse::{OFFSETS, forget},
};

/// The connection id that a packet of QUIC is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ConnectionId {
    /// Its offset in the frame.
    pub at: usize,
    /// Its bytes at most. A short header does not say where it ends: then all that is left of the datagram.
    pub length: usize,
    /// Bytes of the datagram from there on.
    pub left: usize,
}

impl ConnectionId {
    /// The same, of which the kernel's verifier does not know by which kind of header it was found: it goes through what
    /// comes now once.
    #[inline(always)]
    pub(super) fn forget(self) -> ConnectionId {
        ConnectionId {
            at: (forget(self.at as u32) & OFFSETS) as usize,
            length: forget(self.length as u32) as usize,
            left: forget(self.left as u32) as usize,
        }
    }
}

/// The connection id in the first packet of the datagram whose payload is at `payload` and has `length` bytes. `None`: it is
/// none of QUIC, or it opens a connection, so that the client has made its id.
#[inline(always)]
pub(super) fn connection_id<F: Frame>(
    frame: &mut F,
    payload: usize,
    length: usize,
) -> Option<ConnectionId> {
    // The kernel's verifier does not see that a comparison with the end is a check of one byte.
    const FIRST: usize = 2;
    if length < FIRST {
        return None;
    }
    let first = frame.window::<FIRST>(payload)?.u8_at::<0>();
    if first & quic::LONG_HEADER == 0 {
        let left = length - quic::SHORT;
        return Some(ConnectionId {
            at: payload + quic::SHORT,
            length: left,
            left,
        });
    }
    if length < quic::LONG {
        return None;
    }
    let header = frame.window::<{ quic::LONG }>(payload)?;
    let version = u32::from_be(header.u32_at::<{ quic::VERSION }>());
    // The types of version 2 are those of version 1, moved by one.
    let kind = (first >> quic::TYPE_SHIFT).wrapping_sub((version == quic::VERSION_2) as u8);
    if kind & quic::TYPE_MASK <= quic::ZERO_RTT {
        return None;
    }
    let left = length - quic::LONG;
    let length = header.u8_at::<{ quic::DESTINATION_LENGTH }>() as usize;
    if length > left {
        return None;
    }
    Some(ConnectionId {
        at: payload + quic::LONG,
        length,
        left,
    })
}

/// Fewest bytes of a connection id with one of Katran's ids.
const MIN_KATRAN: usize = 8;

/// Katran's server id. The two highest bits say in which of three ways it was written.
#[inline(always)]
pub(super) fn katran_id<F: Frame>(frame: &mut F, connection: &ConnectionId) -> Option<u64> {
    if connection.length < MIN_KATRAN {
        return None;
    }
    let word = u64::from_be(frame.window::<MIN_KATRAN>(connection.at)?.u64_at::<0>());
    match word >> 62 {
        // 16 bits, right behind the version's.
        1 => Some(word >> 46 & 0xFFFF),
        // Bytes 1 to 3.
        2 => Some(word >> 32 & 0xFF_FFFF),
        // Bytes 1 to 4.
        3 => Some(word >> 24 & 0xFFFF_FFFF),
        _ => None,
    }
}
