//! Answering a TCP segment with a reset, in place, as its destination would if it knew no such connection
//! (RFC 9293 section 3.10.7.1).

use crate::{
    answer::{address_sum6, set_header4, set_header6},
    answerable,
    checksum::fold,
    echo::swap_macs,
    frame::{Fields as _, Frame},
    headers::{IP, IPPROTO_TCP, ethernet, ipv4, ipv6, tcp},
    ip::Family,
    lookup::Tables,
    parse::{MAX_EXTENDED, Transport},
    reason::Reason,
};

/// Bytes of a TCP header without options, as the header says it: in words, in the high four bits.
const DATA_OFFSET: u8 = (tcp::LENGTH as u8 / 4) << 4;

/// What is to be answered. Two numbers, which a function of a kernel program can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Length of the IP packet, in the upper half the offset of the TCP header, and in the highest bit whether it is an
    /// IPv6 packet.
    pub place: u64,
    /// Both ports as they lie in the packet, and in the upper half the flags.
    pub header: u64,
}

/// The segment is that of an IPv6 packet.
const IS_V6: u64 = 1 << 63;
/// The frame is an answer; other results are the numbers of reasons.
const ANSWERED: u64 = u64::MAX;

/// Makes a frame the reset of the segment it carries. `length` is the IP packet's.
///
/// # Errors
/// Those of [`answerable::check`], and [`Reason::BadTables`] if the frame is shorter than it was when it was parsed, or cannot be made shorter.
#[inline(always)]
pub fn answer<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    family: Family,
    length: u32,
    transport: &Transport,
) -> Result<(), Reason> {
    const MARTIAN: u64 = Reason::Martian as u64;
    const BAD_CHECKSUM: u64 = Reason::BadChecksum as u64;
    let family = match family {
        Family::V4 => 0,
        Family::V6 => IS_V6,
    };
    let segment = Segment {
        place: u64::from(length) | u64::from(transport.offset) << 32 | family,
        header: u64::from(transport.ports) | u64::from(transport.flags) << 32,
    };
    match tables.answer_segment(frame, segment) {
        ANSWERED => Ok(()),
        MARTIAN => Err(Reason::Martian),
        BAD_CHECKSUM => Err(Reason::BadChecksum),
        _ => Err(Reason::BadTables),
    }
}

/// [`answer`], with numbers.
#[inline(always)]
pub fn answer_number<F: Frame>(frame: &mut F, segment: Segment) -> u64 {
    match reset(frame, segment) {
        Ok(()) => ANSWERED,
        Err(reason) => reason as u64,
    }
}

#[inline(always)]
fn reset<F: Frame>(frame: &mut F, Segment { place, header }: Segment) -> Result<(), Reason> {
    let (length, offset) = (place as u32, (place & !IS_V6) >> 32);
    let (ports, flags) = (header as u32, (header >> 32) as u32);
    // The parser has seen to it, but the verifier does not know any more.
    if offset > (IP + MAX_EXTENDED) as u64 {
        return Err(Reason::BadTables);
    }
    answerable::check(frame)?;
    let segment = frame
        .window::<{ tcp::LENGTH }>(offset as usize)
        .ok_or(Reason::BadTables)?;
    let (sequence, acknowledgment, flags) = if flags & tcp::ACK != 0 {
        // Exactly what the client expects next: it need not challenge the reset (RFC 5961 section 3.2).
        (segment.u32_at::<{ tcp::ACKNOWLEDGMENT }>(), 0, tcp::RST)
    } else {
        let size = u32::from(segment.u8_at::<{ tcp::DATA_OFFSET }>() >> 4) * 4;
        let headers = offset as u32 - IP as u32 + size;
        let control = u32::from(flags & tcp::SYN != 0) + u32::from(flags & tcp::FIN != 0);
        let next = u32::from_be(segment.u32_at::<{ tcp::SEQUENCE }>())
            .wrapping_add(length.wrapping_sub(headers))
            .wrapping_add(control);
        (0, next.to_be(), tcp::RST | tcp::ACK)
    };
    let header = [
        // The ports change places.
        ports.rotate_left(16),
        sequence,
        acknowledgment,
        u32::from_ne_bytes([DATA_OFFSET, flags as u8, 0, 0]),
    ];
    if place & IS_V6 == 0 {
        reset4(frame, header)
    } else {
        reset6(frame, header)
    }
}

#[inline(always)]
fn reset4<F: Frame>(frame: &mut F, header: [u32; 4]) -> Result<(), Reason> {
    const TCP: usize = IP + ipv4::LENGTH;
    const BARE: usize = TCP + tcp::LENGTH;
    const PADDING: usize = ethernet::SHORTEST_FRAME - BARE;
    let padded = frame.length() >= ethernet::SHORTEST_FRAME;
    if !frame.trim(if padded {
        ethernet::SHORTEST_FRAME
    } else {
        BARE
    }) {
        return Err(Reason::BadTables);
    }
    if padded {
        let padding = frame.window::<PADDING>(BARE).ok_or(Reason::BadTables)?;
        *padding = [0; PADDING];
    }
    let window = frame.window::<BARE>(0).ok_or(Reason::BadTables)?;
    swap_macs(window);
    let client = window.u32_at::<{ IP + ipv4::SOURCE }>();
    let vip = window.u32_at::<{ IP + ipv4::DESTINATION }>();
    let addresses = u64::from(client) + u64::from(vip);
    let total = (ipv4::LENGTH + tcp::LENGTH) as u16;
    set_header4(window, (0, total, IPPROTO_TCP), vip, client);
    window.set_u32_at::<{ TCP + tcp::PORTS }>(header[0]);
    window.set_u32_at::<{ TCP + tcp::SEQUENCE }>(header[1]);
    window.set_u32_at::<{ TCP + tcp::ACKNOWLEDGMENT }>(header[2]);
    window.set_u32_at::<{ TCP + tcp::DATA_OFFSET }>(header[3]);
    window.set_u16_at::<{ TCP + tcp::CHECKSUM }>(checksum(addresses, header));
    window.set_u16_at::<{ TCP + tcp::URGENT }>(0);
    Ok(())
}

#[inline(always)]
fn reset6<F: Frame>(frame: &mut F, header: [u32; 4]) -> Result<(), Reason> {
    const SOURCE: usize = IP + ipv6::SOURCE;
    const DESTINATION: usize = IP + ipv6::DESTINATION;
    const TCP: usize = IP + ipv6::LENGTH;
    const BARE: usize = TCP + tcp::LENGTH;
    const _: () = assert!(BARE >= ethernet::SHORTEST_FRAME);
    if !frame.trim(BARE) {
        return Err(Reason::BadTables);
    }
    let window = frame.window::<BARE>(0).ok_or(Reason::BadTables)?;
    swap_macs(window);
    let client = [window.u64_at::<SOURCE>(), window.u64_at::<{ SOURCE + 8 }>()];
    let vip = [
        window.u64_at::<DESTINATION>(),
        window.u64_at::<{ DESTINATION + 8 }>(),
    ];
    let addresses = address_sum6(client, vip);
    set_header6(window, (tcp::LENGTH as u16, IPPROTO_TCP), vip, client);
    window.set_u32_at::<{ TCP + tcp::PORTS }>(header[0]);
    window.set_u32_at::<{ TCP + tcp::SEQUENCE }>(header[1]);
    window.set_u32_at::<{ TCP + tcp::ACKNOWLEDGMENT }>(header[2]);
    window.set_u32_at::<{ TCP + tcp::DATA_OFFSET }>(header[3]);
    window.set_u16_at::<{ TCP + tcp::CHECKSUM }>(checksum(addresses, header));
    window.set_u16_at::<{ TCP + tcp::URGENT }>(0);
    Ok(())
}

/// The checksum of a TCP header with these first words, between addresses of this sum; urgent pointer 0.
#[inline(always)]
fn checksum(addresses: u64, header: [u32; 4]) -> u16 {
    let pseudo = u64::from(u16::from_ne_bytes([0, IPPROTO_TCP as u8]))
        + u64::from(u16::from_ne_bytes([0, tcp::LENGTH as u8]));
    let [a, b, c, d] = header;
    !fold(addresses + pseudo + u64::from(a) + u64::from(b) + u64::from(c) + u64::from(d))
}
