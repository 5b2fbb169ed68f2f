//! Translated connections: mode `nat`.
//!
//! A connection has two entries, one for each way: its key is what a packet has when it arrives, its value what the
//! packet has when it leaves. The agent sweeps entries that have timed out.

use crate::{
    ip::Family,
    limits::{NAT_ESTABLISHED_TICKS, NAT_TRANSITORY_TICKS, NAT_UDP_TICKS},
    shared::SharedU64,
};

/// Source addresses of one family that the settings have room for, a power of two.
pub const MAX_SOURCES: usize = 8;

/// A key of [`super::names::NAT_FLOWS`]: addresses and ports as they lie in a packet that arrives. An IPv4 address is the
/// first four bytes of 16, the others are zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C, align(8))]
pub struct NatKey {
    /// Source address.
    pub source: [u64; 2],
    /// Destination address.
    pub destination: [u64; 2],
    /// Source and destination port.
    pub ports: u32,
    /// [`kind`] of the packet.
    pub kind: u32,
}

/// Protocol and family of a packet, in one number.
#[must_use]
#[inline(always)]
pub const fn kind(protocol: u32, family: Family) -> u32 {
    protocol | (family as u32) << 8
}

/// The transport protocol of a [`kind`].
#[must_use]
#[inline(always)]
pub const fn protocol_of(kind: u32) -> u32 {
    kind & 0xFF
}

/// Whether a [`kind`] is that of an IPv6 packet.
#[must_use]
#[inline(always)]
pub const fn is_v6(kind: u32) -> bool {
    kind & (Family::V6 as u32) << 8 != 0
}

/// An IPv4 address, as it lies in a packet, in the place of an IPv6 one.
#[must_use]
#[inline(always)]
pub const fn widened(address: u32) -> [u64; 2] {
    let [a, b, c, d] = address.to_ne_bytes();
    [u64::from_ne_bytes([a, b, c, d, 0, 0, 0, 0]), 0]
}

/// The IPv4 address in the place of an IPv6 one.
#[must_use]
#[inline(always)]
pub const fn narrowed(address: [u64; 2]) -> u32 {
    let [a, b, c, d, ..] = address[0].to_ne_bytes();
    u32::from_ne_bytes([a, b, c, d])
}

/// A value of [`super::names::NAT_FLOWS`]: what a packet with the entry's key becomes.
#[derive(Debug, Default)]
#[repr(C, align(8))]
pub struct NatEntry {
    /// Source address of the packet that leaves.
    pub source: [u64; 2],
    /// Its destination address.
    pub destination: [u64; 2],
    /// Its ports.
    pub ports: u32,
    /// Its [`kind`].
    pub kind: u32,
    /// What the sum of the addresses grows by, in one's complement.
    pub address_delta: u16,
    /// What the sum of addresses and ports grows by.
    pub transport_delta: u16,
    /// The connection's real.
    pub real: u16,
    /// 1 in the entry for answers of the real, else 0.
    pub is_answer: u16,
    /// The service that the real belongs to.
    pub service: u32,
    /// Zero.
    pub pad: u32,
    /// In the entry for answers: the way by which the client's last packets came. Both MAC addresses of the frame, and the
    /// interface, as [`super::next_hop::NextHop`] has them.
    pub hop: [SharedU64; 2],
    /// Last packet of the connection in ticks (low 32 bits), and [`ANSWERED`], [`ESTABLISHED`], [`CLOSING`].
    pub state: SharedU64,
}

impl Clone for NatEntry {
    fn clone(&self) -> NatEntry {
        NatEntry {
            hop: [
                SharedU64::new(self.hop[0].load()),
                SharedU64::new(self.hop[1].load()),
            ],
            state: SharedU64::new(self.state.load()),
            ..*self
        }
    }
}

/// Both entries of a connection while it is being opened, one after the other: a kernel program's stack has no room for
/// them.
#[derive(Debug, Default)]
#[repr(C)]
pub struct NatDraft {
    /// The key of the entry for answers.
    pub answer: NatKey,
    /// An entry.
    pub entry: NatEntry,
}

/// The real has answered.
pub const ANSWERED: u64 = 1 << 32;
/// The client has sent something after the real's answer.
pub const ESTABLISHED: u64 = 1 << 33;
/// FIN or RST was seen.
pub const CLOSING: u64 = 1 << 34;
/// The marks of a state.
pub const MARKS: u64 = ANSWERED | ESTABLISHED | CLOSING;

/// How long an entry in this state lives after the connection's last packet, in ticks. The times of RFC 5382 section 5 and
/// RFC 4787 section 4.3.
#[must_use]
#[inline(always)]
pub const fn lifetime(state: u64, is_tcp: bool) -> u32 {
    if !is_tcp {
        NAT_UDP_TICKS
    } else if state & (ESTABLISHED | CLOSING) == ESTABLISHED {
        NAT_ESTABLISHED_TICKS
    } else {
        NAT_TRANSITORY_TICKS
    }
}

/// Whether an entry in this state still counts.
#[must_use]
#[inline(always)]
pub const fn is_alive(state: u64, is_tcp: bool, now: u32) -> bool {
    now.wrapping_sub(state as u32) <= lifetime(state, is_tcp)
}

/// The one entry of [`super::names::NAT_SETTINGS`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct NatSettings {
    /// Source addresses for IPv4 reals, as they lie in a packet. If there are fewer than the places, they repeat.
    pub sources4: [u32; MAX_SOURCES],
    /// The same for IPv6 reals.
    pub sources6: [[u64; 2]; MAX_SOURCES],
    /// The first source port that is used, as a number.
    pub first_port: u32,
    /// How many are used from there on; 0: there is no source address.
    pub ports: u32,
    /// Zero.
    pub pad: [u32; 6],
}

const _: () = {
    assert!(size_of::<NatKey>() == 40 && size_of::<NatEntry>() == 80);
    assert!(size_of::<NatSettings>() == 192);
    assert!(MAX_SOURCES.is_power_of_two());
};
