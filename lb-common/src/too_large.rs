//! Answering a packet that is too large for the way to its real, in place: "fragmentation needed" (RFC 792,
//! RFC 1191) or "packet too big" (RFC 4443 section 3.2), from the VIP.
//!
//! An IPv4 packet that may be fragmented is not answered and dropped: XDP cannot make two frames of one, and a
//! real could not decapsulate fragments.

use crate::{
    answer::{address_sum6, set_header4, set_header6},
    answerable,
    checksum::fold_long,
    frame::{Fields as _, Frame},
    headers::{IP, IPPROTO_ICMP, IPPROTO_ICMPV6, ethernet, icmp, ipv4, ipv6},
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
/// So many that it has the least MTU of a link (RFC 4443 section 3.2). Every packet that is answered has more.
const QUOTED_V6: usize = ipv6::LEAST_MTU as usize - ADDED_V6;

const _: () = assert!(QUOTED_V4.is_multiple_of(4) && QUOTED_V6.is_multiple_of(4));

/// Makes a frame the error that tells its sender how large a packet to its real may be. `false`: it is not to be
/// answered, and unchanged.
///
/// A function of its own that reads the frame once more: so packets that fit pay for one comparison.
#[inline(never)]
pub fn answer<F: Frame, T: Tables>(frame: &mut F, tables: &T, largest: u32) -> bool {
    if answerable::check(frame).is_err() {
        return false;
    }
    let Some(header) = frame.window::<{ IP + ipv4::LENGTH }>(0) else {
        return false;
    };
    if header.u16_at::<{ ethernet::TYPE }>() == ethernet::TYPE_IPV4 {
        let length = u16::from_be(header.u16_at::<{ IP + ipv4::TOTAL_LENGTH }>()) as usize;
        let fixed = header.u16_at::<{ IP + ipv4::FRAGMENT }>() & ipv4::DONT_FRAGMENT != 0;
        let source = u64::from(header.u32_at::<{ IP + ipv4::SOURCE }>());
        // The field has 16 bits, and no packet is larger.
        if !fixed || largest > u16::MAX as u32 || !admit(tables, source) {
            return false;
        }
        if length >= QUOTED_V4 {
            answer4::<F, QUOTED_V4>(frame, largest as u16)
        } else if length >= QUOTED_V4_SHORT {
            answer4::<F, QUOTED_V4_SHORT>(frame, largest as u16)
        } else {
            false
        }
    } else {
        let Some(header) = frame.window::<{ IP + ipv6::LENGTH }>(0) else {
            return false;
        };
        let length =
            ipv6::LENGTH + u16::from_be(header.u16_at::<{ IP + ipv6::PAYLOAD_LENGTH }>()) as usize;
        let source = header.u64_at::<{ IP + ipv6::SOURCE }>()
            ^ header.u64_at::<{ IP + ipv6::SOURCE + 8 }>().rotate_left(29);
        // No host sends smaller packets than every link carries, so it is no use to ask for them.
        if length <= ipv6::LEAST_MTU as usize || !admit(tables, source) {
            return false;
        }
        let mtu = if largest < ipv6::LEAST_MTU {
            ipv6::LEAST_MTU
        } else {
            largest
        };
        answer6(frame, mtu)
    }
}

/// Whether an error may be sent to this source now.
#[inline(always)]
fn admit<T: Tables>(tables: &T, source: u64) -> bool {
    let secret = tables.flow_secret();
    tables.admit_error((source ^ secret[0]).wrapping_mul(secret[1] | 1))
}

/// The frame's MAC addresses, those of an answer: exchanged.
#[inline(always)]
fn exchanged<const N: usize>(start: &[u8; N]) -> (u64, u32) {
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
fn answer4<F: Frame, const QUOTED: usize>(frame: &mut F, mtu: u16) -> bool {
    build4::<F, QUOTED>(frame, mtu).is_some()
}

#[inline(always)]
fn build4<F: Frame, const QUOTED: usize>(frame: &mut F, mtu: u16) -> Option<()> {
    const ICMP: usize = IP + ipv4::LENGTH;
    const INNER: usize = IP + ADDED_V4;
    let macs = wrap(frame, ADDED_V4, QUOTED)?;
    let quoted = sum::<F, QUOTED>(frame, INNER)?;
    let window = frame.window::<{ INNER + ipv4::LENGTH }>(0)?;
    let client = window.u32_at::<{ INNER + ipv4::SOURCE }>();
    let vip = window.u32_at::<{ INNER + ipv4::DESTINATION }>();
    let total = (ADDED_V4 + QUOTED) as u16;
    let kind = u32::from_ne_bytes([icmp::UNREACHABLE, icmp::FRAGMENTATION_NEEDED, 0, 0]);
    let [high, low] = mtu.to_be_bytes();
    let size = u32::from_ne_bytes([0, 0, high, low]);
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
fn answer6<F: Frame>(frame: &mut F, mtu: u32) -> bool {
    build6(frame, mtu).is_some()
}

#[inline(always)]
fn build6<F: Frame>(frame: &mut F, mtu: u32) -> Option<()> {
    const ICMP: usize = IP + ipv6::LENGTH;
    const INNER: usize = IP + ADDED_V6;
    const PAYLOAD: u16 = (icmp::LENGTH + QUOTED_V6) as u16;
    let macs = wrap(frame, ADDED_V6, QUOTED_V6)?;
    let quoted = sum::<F, QUOTED_V6>(frame, INNER)?;
    let window = frame.window::<{ INNER + ipv6::LENGTH }>(0)?;
    let client = [
        window.u64_at::<{ INNER + ipv6::SOURCE }>(),
        window.u64_at::<{ INNER + ipv6::SOURCE + 8 }>(),
    ];
    let vip = [
        window.u64_at::<{ INNER + ipv6::DESTINATION }>(),
        window.u64_at::<{ INNER + ipv6::DESTINATION + 8 }>(),
    ];
    let [high, low] = PAYLOAD.to_be_bytes();
    let kind = u32::from_ne_bytes([icmp::TOO_BIG_V6, 0, 0, 0]);
    let size = mtu.to_be();
    let message = address_sum6(client, vip)
        + u64::from(u16::from_ne_bytes([high, low]))
        + u64::from(u16::from_ne_bytes([0, IPPROTO_ICMPV6 as u8]))
        + u64::from(kind)
        + u64::from(size)
        + quoted;
    window.set_u64_at::<{ ethernet::DESTINATION }>(macs.0);
    window.set_u32_at::<{ ethernet::DESTINATION + 8 }>(macs.1);
    window.set_u16_at::<{ ethernet::TYPE }>(ethernet::TYPE_IPV6);
    set_header6(window, (PAYLOAD, IPPROTO_ICMPV6), vip, client);
    window.set_u32_at::<{ ICMP + icmp::TYPE }>(kind);
    window.set_u16_at::<{ ICMP + icmp::CHECKSUM }>(!fold_long(message));
    window.set_u32_at::<{ ICMP + icmp::MTU }>(size);
    Some(())
}
