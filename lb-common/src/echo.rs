//! Answering echo requests to a VIP, in place.

use crate::{
    checksum::update,
    frame::{Fields as _, Frame},
    parse::{ETHERNET, IP4, IP6},
    reason::Reason,
};

/// TTL and hop limit of an answer.
const TTL: u8 = 64;

/// Makes the request whose ICMP header is at `offset` its answer.
///
/// # Errors
/// [`Reason::Malformed`] if the frame is shorter than it was when it was parsed.
#[inline(always)]
pub fn answer4<F: Frame>(frame: &mut F, offset: usize) -> Result<(), Reason> {
    let icmp = frame.window::<8>(offset).ok_or(Reason::Malformed)?;
    swap_type::<8, 0>(icmp);
    let header = frame
        .window::<{ ETHERNET + IP4 }>(0)
        .ok_or(Reason::Malformed)?;
    swap_macs(header);
    // Swapped addresses leave the checksum as it is.
    let (source, destination) = (header.word::<26>(), header.word::<30>());
    header.set_word::<26>(destination);
    header.set_word::<30>(source);
    let old = header.half::<22>();
    header.set_byte::<22>(TTL);
    let new = header.half::<22>();
    let checksum = update(header.half::<24>(), old, new);
    header.set_half::<24>(checksum);
    Ok(())
}

/// Makes the request whose ICMPv6 header is at `offset` its answer.
///
/// # Errors
/// See [`answer4`].
#[inline(always)]
pub fn answer6<F: Frame>(frame: &mut F, offset: usize) -> Result<(), Reason> {
    let icmp = frame.window::<8>(offset).ok_or(Reason::Malformed)?;
    swap_type::<128, 129>(icmp);
    let header = frame
        .window::<{ ETHERNET + IP6 }>(0)
        .ok_or(Reason::Malformed)?;
    swap_macs(header);
    // Swapped addresses leave the pseudo-header's sum as it is; the hop limit is not part of it.
    let source = [header.long::<22>(), header.long::<30>()];
    let destination = [header.long::<38>(), header.long::<46>()];
    header.set_long::<22>(destination[0]);
    header.set_long::<30>(destination[1]);
    header.set_long::<38>(source[0]);
    header.set_long::<46>(source[1]);
    header.set_byte::<21>(TTL);
    Ok(())
}

#[inline(always)]
fn swap_type<const REQUEST: u8, const REPLY: u8>(icmp: &mut [u8; 8]) {
    let old = u16::from_ne_bytes([REQUEST, 0]);
    let new = u16::from_ne_bytes([REPLY, 0]);
    let checksum = update(icmp.half::<2>(), old, new);
    icmp.set_byte::<0>(REPLY);
    icmp.set_half::<2>(checksum);
}

/// Sends a frame back to whoever sent it.
#[inline(always)]
pub(crate) fn swap_macs<const N: usize>(header: &mut [u8; N]) {
    let destination = (header.word::<0>(), header.half::<4>());
    let source = (header.word::<6>(), header.half::<10>());
    header.set_word::<0>(source.0);
    header.set_half::<4>(source.1);
    header.set_word::<6>(destination.0);
    header.set_half::<10>(destination.1);
}
