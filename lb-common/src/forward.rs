//! Sending a packet on to its real: by MAC address, or in an outer IP header.

use crate::{
    checksum,
    frame::{Fields as _, Frame},
    parse::{ETHERNET, IP4, IP6, TYPE_IP4, TYPE_IP6},
    reason::Reason,
    tables::{
        next_hop::NextHop,
        real::{KIND_IP4, KIND_IP6, KIND_L2, KIND_MASK, OUTER_TTL, Real},
    },
};

/// Family of the packet that is sent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inner {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// IP protocol numbers of an encapsulated packet.
const IN_IP4: u8 = 4;
const IN_IP6: u8 = 41;
/// Don't fragment, in the second half of an outer header's second word.
const DONT_FRAGMENT: u16 = 0x4000_u16.to_be();

/// Makes the frame one for `real` over `hop`. `length` is that of the IP packet, `ttl` its TTL or hop
/// limit; `hash` varies the outer source address.
///
/// # Errors
/// Why it has to be dropped; the frame is as it was.
#[inline(always)]
pub fn forward<F: Frame>(
    frame: &mut F,
    inner: Inner,
    length: u32,
    ttl: u32,
    real: &Real,
    hop: &NextHop,
    hash: u64,
) -> Result<(), Reason> {
    let kind = real.flags & KIND_MASK;
    if kind == KIND_L2 {
        let header = frame.window::<ETHERNET>(0).ok_or(Reason::BadTables)?;
        set_macs(header, hop);
        return Ok(());
    }
    // Entering the tunnel is a hop (RFC 2003 section 3.1, RFC 2473 section 3.1).
    if ttl <= 1 {
        return Err(Reason::TtlExpired);
    }
    // Bits that the slot does not depend on, so that the flows of a real vary.
    let vary = (hash as u32).to_be() & u32::from_ne_bytes(real.source_mask);
    if kind == KIND_IP4 {
        if length > u16::MAX as u32 - IP4 as u32 {
            return Err(Reason::TooLarge);
        }
        if !frame.push(IP4) {
            return Err(Reason::NoHeadroom);
        }
        outer4(frame, inner, length, real, hop, vary)
    } else if kind == KIND_IP6 {
        // The outer header does not count in its own length.
        if length > u16::MAX as u32 {
            return Err(Reason::TooLarge);
        }
        if !frame.push(IP6) {
            return Err(Reason::NoHeadroom);
        }
        outer6(frame, inner, length, real, hop, vary, hash)
    } else {
        Err(Reason::BadTables)
    }
}

/// Writes Ethernet and outer IPv4 header in front of the packet.
#[inline(always)]
fn outer4<F: Frame>(
    frame: &mut F,
    inner: Inner,
    length: u32,
    real: &Real,
    hop: &NextHop,
    vary: u32,
) -> Result<(), Reason> {
    let (service_class, identity, protocol);
    // One window per case, so that everything lies at a constant place behind one check.
    let window: &mut [u8; ETHERNET + IP4] = match inner {
        Inner::V4 => {
            let window = frame
                .window::<{ ETHERNET + IP4 + IP4 }>(0)
                .ok_or(Reason::BadTables)?;
            service_class = window.byte::<35>();
            // Identification, and of the flags "don't fragment" (fragments do not come here).
            let fragment = u32::from_ne_bytes([0xFF, 0xFF, 0x40, 0]);
            identity = window.word::<38>() & fragment;
            protocol = IN_IP4;
            let (outer, packet) = window.split_at_mut(ETHERNET + IP4);
            hop4(packet.as_mut_array().ok_or(Reason::BadTables)?);
            outer.as_mut_array().ok_or(Reason::BadTables)?
        }
        Inner::V6 => {
            let window = frame
                .window::<{ ETHERNET + IP4 + IP6 }>(0)
                .ok_or(Reason::BadTables)?;
            service_class = class6(window.half::<34>());
            identity = word(0, DONT_FRAGMENT);
            protocol = IN_IP6;
            let hops = window.byte::<41>();
            window.set_byte::<41>(hops.wrapping_sub(1));
            window.first_chunk_mut().ok_or(Reason::BadTables)?
        }
    };
    let total = ((length + IP4 as u32) as u16).to_be();
    let ttl = u16::from_ne_bytes([OUTER_TTL, protocol]);
    let first = u16::from_ne_bytes([0x45, service_class]);
    let [a, b, c, d, ..] = real.source;
    let source = u32::from_ne_bytes([a, b, c, d]) | vary;
    let [a, b, c, d, ..] = real.address;
    let destination = u32::from_ne_bytes([a, b, c, d]);
    // What `outer_checksum` left out.
    let sum = real.checksum as u64
        + word(0, total) as u64
        + u16::from_ne_bytes([0, service_class]) as u64
        + identity as u64
        + u16::from_ne_bytes([0, protocol]) as u64
        + vary as u64;
    set_macs(window, hop);
    window.set_half::<12>(TYPE_IP4);
    window.set_word::<14>(word(first, total));
    window.set_word::<18>(identity);
    window.set_word::<22>(word(ttl, !checksum::fold(sum)));
    window.set_word::<26>(source);
    window.set_word::<30>(destination);
    Ok(())
}

/// Writes Ethernet and outer IPv6 header in front of the packet.
#[inline(always)]
fn outer6<F: Frame>(
    frame: &mut F,
    inner: Inner,
    length: u32,
    real: &Real,
    hop: &NextHop,
    vary: u32,
    hash: u64,
) -> Result<(), Reason> {
    let (service_class, protocol);
    let window: &mut [u8; ETHERNET + IP6] = match inner {
        Inner::V4 => {
            let window = frame
                .window::<{ ETHERNET + IP6 + IP4 }>(0)
                .ok_or(Reason::BadTables)?;
            service_class = window.byte::<55>();
            protocol = IN_IP4;
            let (outer, packet) = window.split_at_mut(ETHERNET + IP6);
            hop4(packet.as_mut_array().ok_or(Reason::BadTables)?);
            outer.as_mut_array().ok_or(Reason::BadTables)?
        }
        Inner::V6 => {
            let window = frame
                .window::<{ ETHERNET + IP6 + IP6 }>(0)
                .ok_or(Reason::BadTables)?;
            service_class = class6(window.half::<54>());
            protocol = IN_IP6;
            let hops = window.byte::<61>();
            window.set_byte::<61>(hops.wrapping_sub(1));
            window.first_chunk_mut().ok_or(Reason::BadTables)?
        }
    };
    // Version, class, and a flow label of the hash (RFC 6438), so that routers spread flows too.
    let first = 6 << 28 | (service_class as u32) << 20 | (hash as u32 & 0xF_FFFF);
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = real.source;
    set_macs(window, hop);
    window.set_half::<12>(TYPE_IP6);
    window.set_word::<14>(first.to_be());
    window.set_word::<18>(word(
        (length as u16).to_be(),
        u16::from_ne_bytes([protocol, OUTER_TTL]),
    ));
    window.set_long::<22>(u64::from_ne_bytes([a, b, c, d, e, f, g, h]));
    window.set_word::<30>(u32::from_ne_bytes([i, j, k, l]));
    window.set_word::<34>(u32::from_ne_bytes([m, n, o, p]) | vary);
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = real.address;
    window.set_long::<38>(u64::from_ne_bytes([a, b, c, d, e, f, g, h]));
    window.set_long::<46>(u64::from_ne_bytes([i, j, k, l, m, n, o, p]));
    Ok(())
}

/// Two halves in the order they lie in memory.
#[inline(always)]
fn word(first: u16, second: u16) -> u32 {
    let ([a, b], [c, d]) = (first.to_ne_bytes(), second.to_ne_bytes());
    u32::from_ne_bytes([a, b, c, d])
}

/// The traffic class in the first half of an IPv6 header.
#[inline(always)]
const fn class6(first: u16) -> u8 {
    (u16::from_be(first) >> 4) as u8
}

/// Takes one off the TTL of an IPv4 header.
#[inline(always)]
fn hop4(header: &mut [u8; IP4]) {
    let ttl = header.byte::<8>();
    header.set_byte::<8>(ttl.wrapping_sub(1));
    // The checksum grows by what the word shrank. 0xFFFF is never a header's checksum (RFC 1624 section
    // 3): it is written as 0.
    let sum = u16::from_be(header.half::<10>()) as u32 + 0x100;
    let sum = if sum >= 0xFFFF { sum + 1 } else { sum };
    header.set_half::<10>((sum as u16).to_be());
}

/// Writes both MAC addresses of a frame.
#[inline(always)]
fn set_macs<const N: usize>(window: &mut [u8; N], hop: &NextHop) {
    let [a, b, c, d, e, f] = hop.destination;
    let [g, h, i, j, k, l] = hop.source;
    window.set_long::<0>(u64::from_ne_bytes([a, b, c, d, e, f, g, h]));
    window.set_word::<8>(u32::from_ne_bytes([i, j, k, l]));
}
