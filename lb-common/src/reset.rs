//! Answering a TCP segment with a reset, in place, as its destination would that knows no such connection
//! (RFC 9293 section 3.10.7.1).

use crate::{
    checksum::fold,
    echo::swap_macs,
    forward::Inner,
    frame::{Fields as _, Trim},
    parse::{ACK, ETHERNET, FIN, IP4, IP6, RST, SYN, TCP, Transport},
    reason::Reason,
};

/// TTL and hop limit of a reset.
const TTL: u8 = 64;
/// Bytes of a TCP header without options.
const HEADER: usize = 20;
/// An Ethernet frame's least length without its check sequence. Not every driver pads what XDP sends.
const LEAST: usize = 60;
/// Bytes that fill an IPv4 reset up to [`LEAST`].
const PADDING: usize = LEAST - (ETHERNET + IP4 + HEADER);

/// Makes a frame the reset of the segment it carries. `length` is the IP packet's.
///
/// # Errors
/// [`Reason::BadTables`] if the frame is not as it was parsed, or cannot be made shorter.
#[inline(always)]
pub fn answer<F: Trim>(
    frame: &mut F,
    inner: Inner,
    length: u32,
    transport: &Transport,
) -> Result<(), Reason> {
    let segment = frame
        .window::<HEADER>(transport.offset as usize)
        .ok_or(Reason::BadTables)?;
    let flags = transport.flags;
    let (sequence, acknowledgment, flags) = if flags & ACK != 0 {
        // What the client expects next, exactly: it need not challenge the reset (RFC 5961 section 3.2).
        (segment.word::<8>(), 0, RST)
    } else {
        let headers = transport.offset - ETHERNET as u32 + u32::from(segment.byte::<12>() >> 4) * 4;
        let control = u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
        let next = u32::from_be(segment.word::<4>())
            .wrapping_add(length.wrapping_sub(headers))
            .wrapping_add(control);
        (0, next.to_be(), RST | ACK)
    };
    let tcp = [
        // The ports change places.
        transport.ports.rotate_left(16),
        sequence,
        acknowledgment,
        u32::from_ne_bytes([(HEADER as u8 / 4) << 4, flags as u8, 0, 0]),
    ];
    match inner {
        Inner::V4 => reset4(frame, tcp),
        Inner::V6 => reset6(frame, tcp),
    }
}

#[inline(always)]
fn reset4<F: Trim>(frame: &mut F, tcp: [u32; 4]) -> Result<(), Reason> {
    const BARE: usize = ETHERNET + IP4 + HEADER;
    let padded = frame.length() >= LEAST;
    if !frame.trim(if padded { LEAST } else { BARE }) {
        return Err(Reason::BadTables);
    }
    if padded {
        let padding = frame.window::<PADDING>(BARE).ok_or(Reason::BadTables)?;
        *padding = [0; PADDING];
    }
    let window = frame.window::<BARE>(0).ok_or(Reason::BadTables)?;
    swap_macs(window);
    let (client, vip) = (window.word::<26>(), window.word::<30>());
    let first = u32::from_ne_bytes([0x45, 0, 0, (IP4 + HEADER) as u8]);
    // Never fragmented, so its identification says nothing (RFC 6864 section 4.1).
    let second = u32::from_ne_bytes([0, 0, 0x40, 0]);
    let third = u32::from_ne_bytes([TTL, TCP as u8, 0, 0]);
    let addresses = u64::from(client) + u64::from(vip);
    let sum = u64::from(first) + u64::from(second) + u64::from(third) + addresses;
    window.set_word::<14>(first);
    window.set_word::<18>(second);
    window.set_word::<22>(third);
    window.set_half::<24>(!fold(sum));
    window.set_word::<26>(vip);
    window.set_word::<30>(client);
    window.set_word::<34>(tcp[0]);
    window.set_word::<38>(tcp[1]);
    window.set_word::<42>(tcp[2]);
    window.set_word::<46>(tcp[3]);
    window.set_half::<50>(checksum(addresses, tcp));
    window.set_half::<52>(0);
    Ok(())
}

#[inline(always)]
fn reset6<F: Trim>(frame: &mut F, tcp: [u32; 4]) -> Result<(), Reason> {
    const BARE: usize = ETHERNET + IP6 + HEADER;
    if !frame.trim(BARE) {
        return Err(Reason::BadTables);
    }
    let window = frame.window::<BARE>(0).ok_or(Reason::BadTables)?;
    swap_macs(window);
    let client = [window.long::<22>(), window.long::<30>()];
    let vip = [window.long::<38>(), window.long::<46>()];
    let halves = |long: u64| (long & 0xFFFF_FFFF) + (long >> 32);
    let addresses = halves(client[0]) + halves(client[1]) + halves(vip[0]) + halves(vip[1]);
    window.set_word::<14>(u32::from_ne_bytes([0x60, 0, 0, 0]));
    window.set_word::<18>(u32::from_ne_bytes([0, HEADER as u8, TCP as u8, TTL]));
    window.set_long::<22>(vip[0]);
    window.set_long::<30>(vip[1]);
    window.set_long::<38>(client[0]);
    window.set_long::<46>(client[1]);
    window.set_word::<54>(tcp[0]);
    window.set_word::<58>(tcp[1]);
    window.set_word::<62>(tcp[2]);
    window.set_word::<66>(tcp[3]);
    window.set_half::<70>(checksum(addresses, tcp));
    window.set_half::<72>(0);
    Ok(())
}

/// The checksum of a header with these first words, between addresses of this sum; urgent pointer 0.
#[inline(always)]
fn checksum(addresses: u64, tcp: [u32; 4]) -> u16 {
    let pseudo = u64::from(u16::from_ne_bytes([0, TCP as u8]))
        + u64::from(u16::from_ne_bytes([0, HEADER as u8]));
    let [a, b, c, d] = tcp;
    !fold(addresses + pseudo + u64::from(a) + u64::from(b) + u64::from(c) + u64::from(d))
}
