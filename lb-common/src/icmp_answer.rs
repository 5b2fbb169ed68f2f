//! Answering a packet with an ICMP error, in place, from the VIP: it is too large for the way to its real ("fragmentation
//! needed", RFC 792 and RFC 1191, or "packet too big", RFC 4443 section 3.2), it has used up its hops ("time exceeded"), or
//! nothing serves its port ("port unreachable").
//!
//! A too large IPv4 packet that may be fragmented is not answered and dropped: XDP cannot make two frames of one, and a
//! real could not decapsulate fragments.

use crate::{
    answer::{address_sum6, set_header4, set_header6},
    answerable,
    checksum::fold_long,
    frame::{Fields as _, Frame},
    headers::{
        IP, IPPROTO_FRAGMENT, IPPROTO_ICMP, IPPROTO_ICMPV6, ethernet, icmp, ipv4, ipv6,
        ipv6::extension,
    },
    lookup::Tables,
};

/// TOS of an ICMP error: internetwork control (RFC 1812 section 4.3.2.5).
const TOS: u8 = 0xC0;
/// Bytes in front of the quoted packet.
const ADDED_V4: usize = ipv4::LENGTH + icmp::LENGTH;
/// See [`ADDED_V4`].
const ADDED_V6: usize = ipv6::LENGTH + icmp::LENGTH;
/// Bytes that an error quotes: so many that it has 576 (RFC 1812 section 4.3.2.3).
const QUOTED_V4: usize = 576 - ADDED_V4;
/// Bytes that it quotes of a packet with fewer: IP's longest header and a TCP header with options.
const QUOTED_V4_SHORT: usize = 120;
/// Bytes that it quotes of a packet with fewer still: the header and 8 bytes more (RFC 792).
const QUOTED_V4_LEAST: usize = ipv4::LENGTH + 8;
/// So many that it has the least MTU of a link (RFC 4443 section 3.2).
const QUOTED_V6: usize = ipv6::LEAST_MTU as usize - ADDED_V6;
/// Bytes that it quotes of a packet with fewer: the header and a TCP header with options.
const QUOTED_V6_SHORT: usize = ipv6::LENGTH + 60;
/// Bytes that it quotes of a packet with fewer still: the header and that of UDP.
const QUOTED_V6_LEAST: usize = ipv6::LENGTH + 8;

/// Why a packet is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The way to its real takes packets of this length only.
    TooLarge(u32),
    /// It has used up its hops.
    TimeExceeded,
    /// Nothing serves its port.
    PortUnreachable,
}

/// A [`Cause`] with the same number for both families: what stands in the message's first and second word.
#[derive(Clone, Copy)]
struct Message {
    /// Type and code, as they lie in the message, and 0 for the checksum.
    kind: u32,
    /// Number in the second word, in the machine's order.
    size: u32,
}

impl Cause {
    const TIME_EXCEEDED: u64 = 1 << 32;
    const PORT_UNREACHABLE: u64 = 2 << 32;

    /// The cause as one number, which a function of its own can have as its argument.
    #[inline(always)]
    const fn number(self) -> u64 {
        match self {
            Cause::TooLarge(largest) => largest as u64,
            Cause::TimeExceeded => Cause::TIME_EXCEEDED,
            Cause::PortUnreachable => Cause::PORT_UNREACHABLE,
        }
    }
}

#[inline(always)]
const fn kind(of: u8, code: u8) -> u32 {
    u32::from_ne_bytes([of, code, 0, 0])
}

/// Makes a frame the error that tells its sender the cause. `false`: it is not to be answered, and unchanged.
///
/// It reads the frame once more: so other packets pay for one comparison.
#[inline(always)]
pub fn answer<F: Frame, T: Tables>(frame: &mut F, tables: &T, cause: Cause) -> bool {
    tables.answer_error(frame, cause.number())
}

/// [`answer_number`] as a function of its own.
#[inline(never)]
pub fn answer_apart<F: Frame, T: Tables>(frame: &mut F, tables: &T, cause: u64) -> bool {
    answer_number(frame, tables, cause)
}

/// [`answer`], with the cause as a number.
#[inline(always)]
pub fn answer_number<F: Frame, T: Tables>(frame: &mut F, tables: &T, cause: u64) -> bool {
    if answerable::check(frame).is_err() {
        return false;
    }
    let Some(header) = frame.window::<{ IP + ipv4::LENGTH }>(0) else {
        return false;
    };
    let largest = cause as u32;
    if header.u16_at::<{ ethernet::TYPE }>() == ethernet::TYPE_IPV4 {
        let length = u16::from_be(header.u16_at::<{ IP + ipv4::TOTAL_LENGTH }>()) as usize;
        let fragment = header.u16_at::<{ IP + ipv4::FRAGMENT }>();
        let fixed = fragment & ipv4::DONT_FRAGMENT != 0;
        // Only a first fragment is answered (RFC 1812 section 4.3.2.7).
        if fragment & ipv4::FRAGMENT_OFFSET != 0 {
            return false;
        }
        let source = u64::from(header.u32_at::<{ IP + ipv4::SOURCE }>());
        let message = match cause {
            Cause::TIME_EXCEEDED => Message {
                kind: kind(icmp::TIME_EXCEEDED, 0),
                size: 0,
            },
            Cause::PORT_UNREACHABLE => Message {
                kind: kind(icmp::UNREACHABLE, icmp::PORT_UNREACHABLE),
                size: 0,
            },
            // The field has 16 bits, and no packet is larger.
            _ if !fixed || largest > u16::MAX as u32 => return false,
            _ => Message {
                kind: kind(icmp::UNREACHABLE, icmp::FRAGMENTATION_NEEDED),
                size: largest,
            },
        };
        if !admit(tables, source) {
            return false;
        }
        if length >= QUOTED_V4 {
            answer4::<F, QUOTED_V4>(frame, message)
        } else if length >= QUOTED_V4_SHORT {
            answer4::<F, QUOTED_V4_SHORT>(frame, message)
        } else if length >= QUOTED_V4_LEAST {
            answer4::<F, QUOTED_V4_LEAST>(frame, message)
        } else {
            false
        }
    } else {
        if is_later_fragment6(frame) {
            return false;
        }
        let Some(header) = frame.window::<{ IP + ipv6::LENGTH }>(0) else {
            return false;
        };
        let length =
            ipv6::LENGTH + u16::from_be(header.u16_at::<{ IP + ipv6::PAYLOAD_LENGTH }>()) as usize;
        let source = header.u64_at::<{ IP + ipv6::SOURCE }>()
            ^ header.u64_at::<{ IP + ipv6::SOURCE + 8 }>().rotate_left(29);
        let message = match cause {
            Cause::TIME_EXCEEDED => Message {
                kind: kind(icmp::TIME_EXCEEDED_V6, 0),
                size: 0,
            },
            Cause::PORT_UNREACHABLE => Message {
                kind: kind(icmp::UNREACHABLE_V6, icmp::PORT_UNREACHABLE_V6),
                size: 0,
            },
            // No host sends smaller packets than every link carries, so it is no use to ask for them.
            _ if length <= ipv6::LEAST_MTU as usize => return false,
            _ => Message {
                kind: kind(icmp::TOO_BIG_V6, 0),
                size: if largest < ipv6::LEAST_MTU {
                    ipv6::LEAST_MTU
                } else {
                    largest
                },
            },
        };
        if !admit(tables, source) {
            return false;
        }
        if length >= QUOTED_V6 {
            answer6::<F, QUOTED_V6>(frame, message)
        } else if length >= QUOTED_V6_SHORT {
            answer6::<F, QUOTED_V6_SHORT>(frame, message)
        } else if length >= QUOTED_V6_LEAST {
            answer6::<F, QUOTED_V6_LEAST>(frame, message)
        } else {
            false
        }
    }
}

/// Whether an IPv6 packet is a fragment that is not the first one, if its fragment header is the first extension header.
#[inline(always)]
fn is_later_fragment6<F: Frame>(frame: &mut F) -> bool {
    const BEHIND: usize = IP + ipv6::LENGTH;
    frame
        .window::<{ BEHIND + extension::LENGTH }>(0)
        .is_some_and(|header| {
            u32::from(header.u8_at::<{ IP + ipv6::NEXT_HEADER }>()) == IPPROTO_FRAGMENT
                && header.u16_at::<{ BEHIND + extension::FRAGMENT }>() & extension::FRAGMENT_OFFSET
                    != 0
        })
}

/// Whether an error may be sent to this source now.
#[inline(always)]
fn admit<T: Tables>(tables: &T, source: u64) -> bool {
    let secret = tables.flow_secret();
    tables.admit_error((source ^ secret[0]).wrapping_mul(secret[1] | 1))
}

/// The frame's MAC addresses, those of an answer: exchanged.
#[inline(always)]
pub(crate) fn exchanged<const N: usize>(start: &[u8; N]) -> (u64, u32) {
    let [a, b, c, d, e, f, g, h] = start.u64_at::<{ ethernet::DESTINATION }>().to_ne_bytes();
    let [i, j, k, l] = start
        .u32_at::<{ ethernet::DESTINATION + 8 }>()
        .to_ne_bytes();
    (
        u64::from_ne_bytes([g, h, i, j, k, l, a, b]),
        u32::from_ne_bytes([c, d, e, f]),
    )
}

/// Puts `added` bytes in front of the IP packet of which `quoted` are left; returns the MAC addresses to write.
#[inline(always)]
fn wrap<F: Frame>(frame: &mut F, added: usize, quoted: usize) -> Option<(u64, u32)> {
    let macs = exchanged(frame.window::<{ ethernet::LENGTH }>(0)?);
    if !frame.push(added) {
        return None;
    }
    frame.trim(IP + added + quoted).then_some(macs)
}

/// The sum of the quoted packet at `at`.
#[inline(always)]
fn sum<F: Frame, const QUOTED: usize>(frame: &mut F, at: usize) -> Option<u64> {
    let quoted = frame.window::<QUOTED>(at)?;
    let (words, _) = quoted.as_chunks::<4>();
    let mut sum = 0;
    for word in words {
        sum += u64::from(word.u32_at::<0>());
    }
    Some(sum)
}

#[inline(always)]
fn answer4<F: Frame, const QUOTED: usize>(frame: &mut F, message: Message) -> bool {
    build4::<F, QUOTED>(frame, message).is_some()
}

#[inline(always)]
fn build4<F: Frame, const QUOTED: usize>(
    frame: &mut F,
    Message { kind, size }: Message,
) -> Option<()> {
    const { assert!(QUOTED.is_multiple_of(4)) };
    const ICMP: usize = IP + ipv4::LENGTH;
    const INNER: usize = IP + ADDED_V4;
    let macs = wrap(frame, ADDED_V4, QUOTED)?;
    let quoted = sum::<F, QUOTED>(frame, INNER)?;
    let window = frame.window::<{ INNER + ipv4::LENGTH }>(0)?;
    let client = window.u32_at::<{ INNER + ipv4::SOURCE }>();
    let vip = window.u32_at::<{ INNER + ipv4::DESTINATION }>();
    let total = (ADDED_V4 + QUOTED) as u16;
    let size = size.to_be();
    let message = u64::from(kind) + u64::from(size) + quoted;
    window.set_u64_at::<{ ethernet::DESTINATION }>(macs.0);
    window.set_u32_at::<{ ethernet::DESTINATION + 8 }>(macs.1);
    window.set_u16_at::<{ ethernet::TYPE }>(ethernet::TYPE_IPV4);
    set_header4(window, (TOS, total, IPPROTO_ICMP), vip, client);
    window.set_u32_at::<{ ICMP + icmp::TYPE }>(kind);
    window.set_u16_at::<{ ICMP + icmp::CHECKSUM }>(!fold_long(message));
    window.set_u32_at::<{ ICMP + icmp::MTU }>(size);
    Some(())
}

#[inline(always)]
fn answer6<F: Frame, const QUOTED: usize>(frame: &mut F, message: Message) -> bool {
    build6::<F, QUOTED>(frame, message).is_some()
}

#[inline(always)]
fn build6<F: Frame, const QUOTED: usize>(
    frame: &mut F,
    Message { kind, size }: Message,
) -> Option<()> {
    const { assert!(QUOTED.is_multiple_of(4)) };
    const ICMP: usize = IP + ipv6::LENGTH;
    const INNER: usize = IP + ADDED_V6;
    let payload = (icmp::LENGTH + QUOTED) as u16;
    let macs = wrap(frame, ADDED_V6, QUOTED)?;
    let quoted = sum::<F, QUOTED>(frame, INNER)?;
    let window = frame.window::<{ INNER + ipv6::LENGTH }>(0)?;
    let client = [
        window.u64_at::<{ INNER + ipv6::SOURCE }>(),
        window.u64_at::<{ INNER + ipv6::SOURCE + 8 }>(),
    ];
    let vip = [
        window.u64_at::<{ INNER + ipv6::DESTINATION }>(),
        window.u64_at::<{ INNER + ipv6::DESTINATION + 8 }>(),
    ];
    let [high, low] = payload.to_be_bytes();
    let size = size.to_be();
    let message = address_sum6(client, vip)
        + u64::from(u16::from_ne_bytes([high, low]))
        + u64::from(u16::from_ne_bytes([0, IPPROTO_ICMPV6 as u8]))
        + u64::from(kind)
        + u64::from(size)
        + quoted;
    window.set_u64_at::<{ ethernet::DESTINATION }>(macs.0);
    window.set_u32_at::<{ ethernet::DESTINATION + 8 }>(macs.1);
    window.set_u16_at::<{ ethernet::TYPE }>(ethernet::TYPE_IPV6);
    set_header6(window, (payload, IPPROTO_ICMPV6), vip, client);
    window.set_u32_at::<{ ICMP + icmp::TYPE }>(kind);
    window.set_u16_at::<{ ICMP + icmp::CHECKSUM }>(!fold_long(message));
    window.set_u32_at::<{ ICMP + icmp::MTU }>(size);
    Some(())
}
