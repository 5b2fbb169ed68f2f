//! Answering echo requests to a VIP, in place.

use crate::{
    answer::TTL,
    checksum,
    frame::{Fields as _, Frame},
    headers::{IP, ethernet, icmp, ipv4, ipv6},
    reason::Reason,
};

/// Makes the request whose ICMP header is at `offset` its answer.
///
/// # Errors
/// [`Reason::Malformed`] if the frame is shorter than it was when it was parsed.
#[inline(always)]
pub fn answer4<F: Frame>(frame: &mut F, offset: usize) -> Result<(), Reason> {
    /// TTL and protocol: the word of the header's checksum that the TTL is part of.
    const TTL_WORD: usize = IP + ipv4::TTL;
    let icmp = frame
        .window::<{ icmp::LENGTH }>(offset)
        .ok_or(Reason::Malformed)?;
    set_type::<{ icmp::ECHO_REQUEST }, { icmp::ECHO_REPLY }>(icmp);
    let header = frame
        .window::<{ IP + ipv4::LENGTH }>(0)
        .ok_or(Reason::Malformed)?;
    swap_macs(header);
    // Swapped addresses leave the checksum as it is.
    let source = header.u32_at::<{ IP + ipv4::SOURCE }>();
    let destination = header.u32_at::<{ IP + ipv4::DESTINATION }>();
    header.set_u32_at::<{ IP + ipv4::SOURCE }>(destination);
    header.set_u32_at::<{ IP + ipv4::DESTINATION }>(source);
    let old = header.u16_at::<TTL_WORD>();
    header.set_u8_at::<TTL_WORD>(TTL);
    let new = header.u16_at::<TTL_WORD>();
    let checksum = checksum::update(header.u16_at::<{ IP + ipv4::CHECKSUM }>(), old, new);
    header.set_u16_at::<{ IP + ipv4::CHECKSUM }>(checksum);
    Ok(())
}

/// Makes the request whose ICMPv6 header is at `offset` its answer.
///
/// # Errors
/// See [`answer4`].
#[inline(always)]
pub fn answer6<F: Frame>(frame: &mut F, offset: usize) -> Result<(), Reason> {
    const SOURCE: usize = IP + ipv6::SOURCE;
    const DESTINATION: usize = IP + ipv6::DESTINATION;
    let icmp = frame
        .window::<{ icmp::LENGTH }>(offset)
        .ok_or(Reason::Malformed)?;
    set_type::<{ icmp::ECHO_REQUEST_V6 }, { icmp::ECHO_REPLY_V6 }>(icmp);
    let header = frame
        .window::<{ IP + ipv6::LENGTH }>(0)
        .ok_or(Reason::Malformed)?;
    swap_macs(header);
    // Swapped addresses leave the pseudo-header's sum as it is; the hop limit is not part of it.
    let source = [header.u64_at::<SOURCE>(), header.u64_at::<{ SOURCE + 8 }>()];
    let destination = [
        header.u64_at::<DESTINATION>(),
        header.u64_at::<{ DESTINATION + 8 }>(),
    ];
    header.set_u64_at::<SOURCE>(destination[0]);
    header.set_u64_at::<{ SOURCE + 8 }>(destination[1]);
    header.set_u64_at::<DESTINATION>(source[0]);
    header.set_u64_at::<{ DESTINATION + 8 }>(source[1]);
    header.set_u8_at::<{ IP + ipv6::HOP_LIMIT }>(TTL);
    Ok(())
}

/// Changes the type of an echo message whose code is 0.
#[inline(always)]
fn set_type<const REQUEST: u8, const REPLY: u8>(header: &mut [u8; icmp::LENGTH]) {
    let old = u16::from_ne_bytes([REQUEST, 0]);
    let new = u16::from_ne_bytes([REPLY, 0]);
    let mut checksum = checksum::update(header.u16_at::<{ icmp::CHECKSUM }>(), old, new);
    // The sum of what the checksum covers is now a multiple of 0xFFFF. If it is zero, because everything in
    // the message is, its checksum is 0xFFFF, and a receiver takes no other. If it is not zero, a receiver
    // takes either.
    if checksum == 0 && REPLY == 0 && header.u32_at::<{ icmp::IDENTIFIER }>() == 0 {
        checksum = 0xFFFF;
    }
    header.set_u8_at::<{ icmp::TYPE }>(REPLY);
    header.set_u16_at::<{ icmp::CHECKSUM }>(checksum);
}

/// Sends a frame back to its sender: swaps its MAC addresses.
#[inline(always)]
pub(crate) fn swap_macs<const N: usize>(header: &mut [u8; N]) {
    const DESTINATION: usize = ethernet::DESTINATION;
    const SOURCE: usize = ethernet::SOURCE;
    let destination = (
        header.u32_at::<DESTINATION>(),
        header.u16_at::<{ DESTINATION + 4 }>(),
    );
    let source = (header.u32_at::<SOURCE>(), header.u16_at::<{ SOURCE + 4 }>());
    header.set_u32_at::<DESTINATION>(source.0);
    header.set_u16_at::<{ DESTINATION + 4 }>(source.1);
    header.set_u32_at::<SOURCE>(destination.0);
    header.set_u16_at::<{ SOURCE + 4 }>(destination.1);
}
