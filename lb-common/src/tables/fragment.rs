//! Fragments whose first one has been seen.
//!
//! Only the first fragment of a packet has ports. Those behind it are told apart by addresses and identification, and get
//! the ports from here, so that the decision about them is that about the first one.

use crate::{
    headers::{IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP},
    shared::SharedU64,
};

/// Entries in one bucket: a cache line.
const PER_BUCKET: usize = 4;

/// A value of [`super::names::FRAGMENTS`]: entries that a first fragment may have. The oldest one gives way.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct FragmentBucket {
    /// The entries.
    pub entries: [FragmentEntry; PER_BUCKET],
}

/// What is remembered of a packet.
#[derive(Debug, Default)]
#[repr(C)]
pub struct FragmentEntry {
    /// A hash of what all of its fragments have in common, with the host's secret; 0: none.
    pub tag: SharedU64,
    /// See [`FirstFragment`].
    pub data: SharedU64,
}

/// What the first fragment said, as one word: ports as they lie in the packet (32 bits), the real that the packet names
/// ([`crate::server_ids`]) or 0 (16 bits), TCP, UDP or SCTP (2 bits), and when it came (14 bits of ticks, which begin anew after
/// 4 min 35 s).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirstFragment(pub u64);

const NAMED_SHIFT: u32 = 32;
const PROTOCOL_SHIFT: u32 = 48;
const STAMP_SHIFT: u32 = 50;
const STAMPS: u32 = (1 << (u64::BITS - STAMP_SHIFT)) - 1;

impl FirstFragment {
    /// What one said that came now; the protocol is TCP, UDP or SCTP.
    #[must_use]
    #[inline(always)]
    pub const fn new(ports: u32, protocol: u32, now: u32) -> FirstFragment {
        let protocol = match protocol {
            IPPROTO_TCP => 0,
            IPPROTO_UDP => 1,
            _ => 2,
        };
        FirstFragment(ports as u64 | protocol << PROTOCOL_SHIFT | (now as u64) << STAMP_SHIFT)
    }

    /// The same with the real that the packet names.
    #[must_use]
    #[inline(always)]
    pub const fn naming(self, real: u16) -> FirstFragment {
        FirstFragment(self.0 & !(0xFFFF << NAMED_SHIFT) | (real as u64) << NAMED_SHIFT)
    }

    /// Ports, as they lie in the packet.
    #[must_use]
    #[inline(always)]
    pub const fn ports(self) -> u32 {
        self.0 as u32
    }

    /// The real that the packet names; 0: none.
    #[must_use]
    #[inline(always)]
    pub const fn named(self) -> u16 {
        (self.0 >> NAMED_SHIFT) as u16
    }

    /// Its protocol.
    #[must_use]
    #[inline(always)]
    pub const fn protocol(self) -> u32 {
        match self.0 >> PROTOCOL_SHIFT & 3 {
            0 => IPPROTO_TCP,
            1 => IPPROTO_UDP,
            _ => IPPROTO_SCTP,
        }
    }

    /// Ticks since it came.
    #[must_use]
    #[inline(always)]
    pub const fn age(self, now: u32) -> u32 {
        now.wrapping_sub((self.0 >> STAMP_SHIFT) as u32) & STAMPS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_a_cache_line() {
        assert_eq!(size_of::<FragmentBucket>(), 64);
    }

    #[test]
    fn what_was_said_is_one_word_and_back() {
        for protocol in [IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP] {
            let first = FirstFragment::new(0xFFEE_409C, protocol, 0x12FF_FFF0);
            assert_eq!((first.ports(), first.named()), (0xFFEE_409C, 0));
            assert_eq!(first.protocol(), protocol);
            assert_eq!(first.age(0x12FF_FFF5), 5);
            assert_eq!(first.age(0x1300_0001), 0x11);
            let named = first.naming(0xABCD);
            assert_eq!((named.named(), named.ports()), (0xABCD, 0xFFEE_409C));
            assert_eq!((named.protocol(), named.age(0x12FF_FFF0)), (protocol, 0));
            assert_eq!(named.naming(0), first);
        }
    }
}
