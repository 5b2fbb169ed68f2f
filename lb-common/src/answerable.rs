//! Whether a packet may be answered by the VIP itself: an echo request, a segment that gets a reset, a packet that
//! is too large.
//!
//! An answer to a source that no host has would go astray, or hit others (RFC 1812 sections 4.3.2.7 and 5.3.7);
//! with a wrong checksum, the source may be another one than it was. Packets that are sent on are not checked: the
//! real's stack does that.

use crate::{
    checksum::fold,
    frame::{Fields as _, Frame},
    headers::{IP, ethernet, ipv4, ipv6},
    reason::Reason,
};

/// Checks the frame of a packet that was parsed.
///
/// # Errors
/// [`Reason::Martian`], [`Reason::BadChecksum`], or [`Reason::Malformed`] if the frame is shorter than it was when
/// it was parsed.
#[inline(always)]
pub fn check<F: Frame>(frame: &mut F) -> Result<(), Reason> {
    // The reason as a number, because a function of a kernel program returns one register. The program has the
    // check once: packets that are answered are few.
    match number(frame) {
        ANSWERABLE => Ok(()),
        MARTIAN => Err(Reason::Martian),
        BAD_CHECKSUM => Err(Reason::BadChecksum),
        _ => Err(Reason::Malformed),
    }
}

const ANSWERABLE: u32 = 0;
const MARTIAN: u32 = 1;
const BAD_CHECKSUM: u32 = 2;
const MALFORMED: u32 = 3;

#[inline(never)]
fn number<F: Frame>(frame: &mut F) -> u32 {
    // A function that only reads would get the frame's ends as arguments instead, as numbers of 32 bits, which the
    // verifier does not take for ends.
    let frame = core::hint::black_box(frame);
    let Some(header) = frame.window::<{ IP + ipv4::LENGTH }>(0) else {
        return MALFORMED;
    };
    if header.u16_at::<{ ethernet::TYPE }>() == ethernet::TYPE_IPV4 {
        number4(frame)
    } else {
        number6(frame)
    }
}

#[inline(always)]
fn number4<F: Frame>(frame: &mut F) -> u32 {
    const WORD: usize = 4;
    const WORDS: usize = ipv4::LENGTH / WORD;
    /// A header's length is four bits.
    const MAX_WORDS: usize = 15;
    let Some(header) = frame.window::<{ IP + ipv4::LENGTH }>(0) else {
        return MALFORMED;
    };
    let source = header.u32_at::<{ IP + ipv4::SOURCE }>();
    let destination = header.u32_at::<{ IP + ipv4::DESTINATION }>();
    if is_martian4(source) || source == destination {
        return MARTIAN;
    }
    let words = (header.u8_at::<{ IP + ipv4::VERSION }>() & 0xF) as usize;
    let mut sum = u64::from(header.u32_at::<{ IP + ipv4::VERSION }>())
        + u64::from(header.u32_at::<{ IP + ipv4::IDENTIFICATION }>())
        + u64::from(header.u32_at::<{ IP + ipv4::TTL }>())
        + u64::from(source)
        + u64::from(destination);
    for word in WORDS..MAX_WORDS {
        if word >= words {
            break;
        }
        let Some(option) = frame.window::<WORD>(IP + word * WORD) else {
            return MALFORMED;
        };
        sum += u64::from(option.u32_at::<0>());
    }
    if fold(sum) == u16::MAX {
        ANSWERABLE
    } else {
        BAD_CHECKSUM
    }
}

#[inline(always)]
fn number6<F: Frame>(frame: &mut F) -> u32 {
    const SOURCE: usize = IP + ipv6::SOURCE;
    const DESTINATION: usize = IP + ipv6::DESTINATION;
    let Some(header) = frame.window::<{ IP + ipv6::LENGTH }>(0) else {
        return MALFORMED;
    };
    let source = [header.u64_at::<SOURCE>(), header.u64_at::<{ SOURCE + 8 }>()];
    let own = source[0] == header.u64_at::<DESTINATION>()
        && source[1] == header.u64_at::<{ DESTINATION + 8 }>();
    if is_martian6(source) || own {
        MARTIAN
    } else {
        ANSWERABLE
    }
}

/// Whether no host outside of a link has this address (as it lies in a packet): 0.0.0.0/8, 127.0.0.0/8,
/// 169.254.0.0/16, multicast and 240.0.0.0/4 (RFC 6890). A VIP's clients are not known to be on its link, and no
/// router may forward what is link-local.
#[must_use]
#[inline(always)]
pub const fn is_martian4(address: u32) -> bool {
    let [first, second, ..] = address.to_ne_bytes();
    first == 0 || first == 127 || first >= 224 || (first == 169 && second == 254)
}

/// As [`is_martian4`]: ::/64, which holds the unspecified, the loopback and the IPv4-mapped addresses, fe80::/10
/// and multicast.
#[must_use]
#[inline(always)]
pub const fn is_martian6(address: [u64; 2]) -> bool {
    let [first, second, ..] = address[0].to_ne_bytes();
    address[0] == 0 || first == 0xFF || (first == 0xFE && second & 0xC0 == 0x80)
}
