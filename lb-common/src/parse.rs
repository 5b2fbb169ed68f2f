//! From a frame to addresses and ports.
//!
//! Checks come in this order, and the first that fails gives the reason: Ethernet type, lengths of the IP
//! header, fragment, protocol, lengths of the transport header. Header checksums are not verified: changes
//! are incremental, so a wrong checksum stays wrong and the real rejects it. Only what is answered is verified
//! ([`crate::answerable`]).

use crate::{
    codegen::{OrRare as _, rare},
    frame::{Fields as _, Frame},
    hash::{Addresses4, Addresses6},
    headers::{
        IP, IPPROTO_DSTOPTS, IPPROTO_FRAGMENT, IPPROTO_HOPOPTS, IPPROTO_ICMP, IPPROTO_ICMPV6,
        IPPROTO_ROUTING, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP, icmp, ipv4, ipv6, ipv6::extension,
        sctp, tcp, udp,
    },
    ip::Ip,
    limits::MAX_EXTENSION_HEADERS,
    reason::Reason,
};

/// [`Transport::flags`] of an ICMP error. It is none of TCP's flags.
pub const ICMP_ERROR: u32 = 0x100;
/// [`Transport::flags`] of a packet of TCP, UDP or SCTP that comes in fragments has this bit, too.
pub const FRAGMENT: u32 = ICMP_ERROR;
/// In [`Transport::flags`] of a packet of UDP or SCTP, of which no flags are expected. It is none of TCP's flags.
pub const NO_FLAGS: u32 = 0x200;

/// The fields of the transport header that the decision needs.
///
/// Aligned, because a structure that is copied on the stack is copied in words that must be aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(align(8))]
pub struct Transport {
    /// Source and destination port, as they lie in the packet.
    pub ports: u32,
    /// TCP, UDP, SCTP, or the family's ICMP for an echo request or an error.
    pub protocol: u32,
    /// TCP's flags; [`NO_FLAGS`] for UDP and SCTP, with SYN, FIN or RST beside it for a chunk of SCTP that begins or ends
    /// an association; [`ICMP_ERROR`] for an error of ICMP; 0 for an echo request.
    pub flags: u32,
    /// Offset of the header in the frame.
    pub offset: u32,
}

impl Transport {
    /// Makes the kernel's verifier forget what it knows of the header; `zero` is 0, which it does not know.
    ///
    /// It knows a constant protocol and offset from each way through the parser, and would follow all that comes now once
    /// for each of these ways.
    #[inline(always)]
    pub fn forget(&mut self, zero: u32) {
        if cfg!(target_arch = "bpf") {
            self.protocol ^= zero;
            self.flags ^= zero;
            // No offset is larger, and windows need to know that.
            self.offset = (self.offset ^ zero) & OFFSETS;
        }
    }

    /// The destination port, as it lies in the packet.
    #[must_use]
    #[inline(always)]
    pub const fn destination(&self) -> u16 {
        (u32::from_le(self.ports) >> 16) as u16
    }

    /// Whether a TCP connection begins: SYN without ACK.
    #[must_use]
    #[inline(always)]
    pub const fn opens(&self) -> bool {
        self.flags & (tcp::SYN | tcp::ACK) == tcp::SYN
    }

    /// Whether a TCP connection ends: FIN or RST.
    #[must_use]
    #[inline(always)]
    pub const fn closes(&self) -> bool {
        self.flags & (tcp::FIN | tcp::RST) != 0
    }

    /// Whether a TCP connection may begin or end.
    #[must_use]
    #[inline(always)]
    pub const fn changes_flow(&self) -> bool {
        self.flags & (tcp::SYN | tcp::FIN | tcp::RST) != 0
    }

    /// Whether the packet can be answered with a reset: TCP, no reset itself, and with its header here.
    #[must_use]
    #[inline(always)]
    pub const fn can_be_reset(&self) -> bool {
        self.is_tcp() && self.flags & tcp::RST == 0 && self.offset != ELSEWHERE
    }

    /// Whether the protocol is UDP, whose packets do not show where their flow begins.
    #[must_use]
    #[inline(always)]
    pub const fn is_udp(&self) -> bool {
        self.protocol == IPPROTO_UDP
    }

    /// Whether the protocol is TCP. In a packet for a service the others are UDP and SCTP.
    #[must_use]
    #[inline(always)]
    pub const fn is_tcp(&self) -> bool {
        self.protocol == IPPROTO_TCP
    }
}

/// An IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(align(8))]
pub struct Packet<A> {
    /// Source and destination address.
    pub addresses: A,
    /// Length in bytes, IP header included.
    pub length: u32,
    /// TTL or hop limit.
    pub ttl: u32,
    /// The transport header.
    pub transport: Transport,
}

/// Reads an IPv4 packet.
///
/// # Errors
/// The reason to pass the frame to the host.
#[inline(always)]
pub fn packet4<F: Frame>(frame: &mut F) -> Result<Packet<Addresses4>, Reason> {
    let room = frame.length() - IP;
    let header = frame
        .window::<{ IP + ipv4::LENGTH }>(0)
        .or_rare(Reason::Malformed)?;
    let first = header.u8_at::<{ IP + ipv4::VERSION }>();
    let length = u16::from_be(header.u16_at::<{ IP + ipv4::TOTAL_LENGTH }>()) as usize;
    let flags = header.u16_at::<{ IP + ipv4::FRAGMENT }>();
    let ttl = u32::from(header.u8_at::<{ IP + ipv4::TTL }>());
    let protocol = u32::from(header.u8_at::<{ IP + ipv4::PROTOCOL }>());
    // One load for both.
    let [a, b, c, d, e, f, g, h] = header.u64_at::<{ IP + ipv4::SOURCE }>().to_ne_bytes();
    let addresses = Addresses4 {
        source: u32::from_ne_bytes([a, b, c, d]),
        destination: u32::from_ne_bytes([e, f, g, h]),
    };
    if length > room {
        return Err(rare(Reason::Malformed));
    }
    let fragment = flags & ipv4::FRAGMENTED != 0;
    let transport = if first == ipv4::VERSION_AND_LENGTH {
        if length < ipv4::LENGTH {
            return Err(rare(Reason::Malformed));
        }
        if fragment {
            return Err(rare(Reason::Fragment));
        }
        payload(
            frame,
            IP + ipv4::LENGTH,
            length - ipv4::LENGTH,
            protocol,
            IPPROTO_ICMP,
        )?
    } else {
        let size = (first & 0xF) as usize * 4;
        if first >> 4 != 4 || size < ipv4::LENGTH || length < size {
            return Err(rare(Reason::Malformed));
        }
        if fragment {
            return Err(rare(Reason::Fragment));
        }
        payload(frame, IP + size, length - size, protocol, IPPROTO_ICMP)?
    };
    Ok(Packet {
        addresses,
        length: length as u32,
        ttl,
        transport,
    })
}

/// Reads an IPv6 packet.
///
/// # Errors
/// The reason to pass the frame to the host.
#[inline(always)]
pub fn packet6<F: Frame>(frame: &mut F) -> Result<Packet<Addresses6>, Reason> {
    const SOURCE: usize = IP + ipv6::SOURCE;
    const DESTINATION: usize = IP + ipv6::DESTINATION;
    let room = frame.length() - IP;
    let header = frame
        .window::<{ IP + ipv6::LENGTH }>(0)
        .or_rare(Reason::Malformed)?;
    let first = header.u8_at::<{ IP + ipv6::VERSION }>();
    let length =
        ipv6::LENGTH + u16::from_be(header.u16_at::<{ IP + ipv6::PAYLOAD_LENGTH }>()) as usize;
    let protocol = u32::from(header.u8_at::<{ IP + ipv6::NEXT_HEADER }>());
    let ttl = u32::from(header.u8_at::<{ IP + ipv6::HOP_LIMIT }>());
    let addresses = Addresses6 {
        source: [header.u64_at::<SOURCE>(), header.u64_at::<{ SOURCE + 8 }>()],
        destination: [
            header.u64_at::<DESTINATION>(),
            header.u64_at::<{ DESTINATION + 8 }>(),
        ],
    };
    if first >> 4 != 6 || length > room {
        return Err(rare(Reason::Malformed));
    }
    let transport = if protocol == IPPROTO_TCP || protocol == IPPROTO_UDP {
        payload(
            frame,
            IP + ipv6::LENGTH,
            length - ipv6::LENGTH,
            protocol,
            IPPROTO_ICMPV6,
        )?
    } else {
        extended(frame, length, protocol)?
    };
    Ok(Packet {
        addresses,
        length: length as u32,
        ttl,
        transport,
    })
}

/// Walks extension headers (RFC 8200 section 4) to the payload; `length` is the packet's. A fragment header
/// that makes no fragment is one of them: such a packet is whole (RFC 6946).
#[inline(always)]
fn extended<F: Frame>(frame: &mut F, length: usize, first: u32) -> Result<Transport, Reason> {
    let mut protocol = first;
    let mut at = ipv6::LENGTH;
    for walked in 0..MAX_EXTENSION_HEADERS {
        if !is_extension(protocol) {
            break;
        }
        // Hop-by-hop options stand right behind the IPv6 header or nowhere (RFC 8200 section 4.1).
        if protocol == IPPROTO_HOPOPTS && walked > 0 {
            return Err(rare(Reason::Malformed));
        }
        let header = frame
            .window::<{ extension::LENGTH }>(IP + at)
            .or_rare(Reason::Malformed)?;
        let segments_left =
            protocol == IPPROTO_ROUTING && header.u8_at::<{ extension::SEGMENTS_LEFT }>() != 0;
        if protocol == IPPROTO_FRAGMENT
            && header.u16_at::<{ extension::FRAGMENT }>() & extension::FRAGMENTED != 0
        {
            return Err(rare(Reason::Fragment));
        }
        // A fragment header's byte there is reserved. Without a branch, which the verifier would follow both ways
        // in each turn.
        let sized = (protocol ^ IPPROTO_FRAGMENT).wrapping_neg() >> 31;
        let units = u32::from(header.u8_at::<{ extension::HEADER_LENGTH }>()) * sized;
        protocol = u32::from(header.u8_at::<{ extension::NEXT_HEADER }>());
        at += (units as usize + 1) * extension::LENGTH;
        if at > length {
            return Err(rare(Reason::Malformed));
        }
        // A packet with segments left continues from its destination to another one (section 4.4), so its
        // payload is not for a VIP.
        if segments_left {
            return Err(rare(Reason::OtherProtocol));
        }
    }
    match protocol {
        IPPROTO_HOPOPTS => Err(rare(Reason::Malformed)),
        IPPROTO_ROUTING | IPPROTO_DSTOPTS | IPPROTO_FRAGMENT => Err(rare(Reason::TooManyHeaders)),
        _ => {
            // What comes now is the same wherever the payload begins. The verifier goes through it once, if it does
            // not know how many headers there were.
            let at = forget(at as u32) as usize;
            if at > MAX_EXTENDED || at > length {
                return Err(rare(Reason::Malformed));
            }
            payload(frame, IP + at, length - at, protocol, IPPROTO_ICMPV6)
        }
    }
}

/// Bytes of the IPv6 header and the longest chain of extension headers that is walked.
pub(crate) const MAX_EXTENDED: usize =
    ipv6::LENGTH + MAX_EXTENSION_HEADERS * (u8::MAX as usize + 1) * extension::LENGTH;

/// Bits that an offset of a transport header can have.
pub(crate) const OFFSETS: u32 = 0x3FFF;

const _: () = assert!(IP + MAX_EXTENDED <= OFFSETS as usize);
const _: () = assert!(
    IP + MAX_EXTENDED + tcp::LENGTH < 0x8000,
    "the kernel follows offsets in packets below 64 KiB"
);

/// The offset of a transport header that is in another fragment ([`crate::fragments`]): no window reaches it.
pub const ELSEWHERE: u32 = OFFSETS;

/// The same number, of which the kernel's verifier does not know anything: it does not follow the upper half of a
/// slot of the stack.
#[inline(always)]
pub(crate) fn forget(number: u32) -> u32 {
    #[cfg(target_arch = "bpf")]
    {
        let mut slot = crate::frame::Aligned([0_u8; 8]);
        let half = slot.0.as_mut_ptr().wrapping_add(4).cast::<u32>();
        // SAFETY: the pointer is that of the aligned second half of a slot of this function.
        return unsafe {
            half.write_volatile(number);
            half.read_volatile()
        };
    }
    #[cfg(not(target_arch = "bpf"))]
    number
}

/// Whether a header of IPv6 is followed by another one.
#[inline(always)]
pub(crate) const fn is_extension(protocol: u32) -> bool {
    matches!(
        protocol,
        IPPROTO_HOPOPTS | IPPROTO_ROUTING | IPPROTO_DSTOPTS | IPPROTO_FRAGMENT
    )
}

/// Whether a type is that of an error about a packet, in the ICMP with this number.
#[inline(always)]
const fn is_error(kind: u8, icmp_protocol: u32) -> bool {
    if icmp_protocol == IPPROTO_ICMP {
        matches!(
            kind,
            icmp::UNREACHABLE | icmp::TIME_EXCEEDED | icmp::PARAMETER_PROBLEM
        )
    } else {
        matches!(kind, icmp::UNREACHABLE_V6..=icmp::PARAMETER_PROBLEM_V6)
    }
}

/// Reads the transport header at `offset` of a packet of TCP, UDP or SCTP of which only the first fragment is there, which has
/// `length` bytes from there on.
///
/// # Errors
/// A reason not to serve it.
#[inline(always)]
pub(crate) fn begun<I: Ip, F: Frame>(
    frame: &mut F,
    offset: usize,
    length: usize,
    protocol: u32,
) -> Result<Transport, Reason> {
    if protocol == I::ICMP {
        return Err(Reason::OtherProtocol);
    }
    payload_of::<F, false>(frame, offset, length, protocol, I::ICMP)
}

/// Reads the transport header at `offset`. The packet has `length` bytes from there on; `icmp_protocol` is
/// the number of the family's ICMP.
#[inline(always)]
fn payload<F: Frame>(
    frame: &mut F,
    offset: usize,
    length: usize,
    protocol: u32,
    icmp_protocol: u32,
) -> Result<Transport, Reason> {
    payload_of::<F, true>(frame, offset, length, protocol, icmp_protocol)
}

/// [`payload`] of a packet that is whole, or that goes on in other fragments.
#[inline(always)]
fn payload_of<F: Frame, const WHOLE: bool>(
    frame: &mut F,
    offset: usize,
    length: usize,
    protocol: u32,
    icmp_protocol: u32,
) -> Result<Transport, Reason> {
    let (ports, flags) = if protocol == IPPROTO_TCP {
        let header = frame
            .window::<{ tcp::LENGTH }>(offset)
            .or_rare(Reason::Malformed)?;
        let size = (header.u8_at::<{ tcp::DATA_OFFSET }>() >> 4) as usize * 4;
        if size < tcp::LENGTH || length < size {
            return Err(rare(Reason::Malformed));
        }
        let flags = u32::from(header.u8_at::<{ tcp::FLAGS }>());
        (header.u32_at::<{ tcp::PORTS }>(), flags)
    } else if protocol == IPPROTO_UDP {
        let header = frame
            .window::<{ udp::LENGTH }>(offset)
            .or_rare(Reason::Malformed)?;
        let size = u16::from_be(header.u16_at::<{ udp::DATAGRAM_LENGTH }>()) as usize;
        if size < udp::LENGTH || length < if WHOLE { size } else { udp::LENGTH } {
            return Err(rare(Reason::Malformed));
        }
        (header.u32_at::<{ udp::PORTS }>(), NO_FLAGS)
    } else if protocol == IPPROTO_SCTP {
        let header = frame
            .window::<{ sctp::LENGTH }>(offset)
            .or_rare(Reason::Malformed)?;
        if length < sctp::LENGTH {
            return Err(rare(Reason::Malformed));
        }
        let flags = match header.u8_at::<{ sctp::CHUNK }>() {
            sctp::INIT => tcp::SYN,
            sctp::ABORT => tcp::RST,
            sctp::SHUTDOWN_COMPLETE => tcp::FIN,
            _ => 0,
        };
        (header.u32_at::<{ sctp::PORTS }>(), NO_FLAGS | flags)
    } else if protocol == icmp_protocol {
        let header = frame
            .window::<{ icmp::LENGTH }>(offset)
            .or_rare(Reason::Malformed)?;
        if length < icmp::LENGTH {
            return Err(rare(Reason::Malformed));
        }
        let request = if icmp_protocol == IPPROTO_ICMP {
            icmp::ECHO_REQUEST
        } else {
            icmp::ECHO_REQUEST_V6
        };
        let kind = header.u8_at::<{ icmp::TYPE }>();
        if kind == request && header.u8_at::<{ icmp::CODE }>() == 0 {
            (0, 0)
        } else if is_error(kind, icmp_protocol) {
            (0, ICMP_ERROR)
        } else {
            return Err(rare(Reason::OtherProtocol));
        }
    } else {
        return Err(rare(Reason::OtherProtocol));
    };
    Ok(Transport {
        ports,
        protocol,
        flags,
        offset: offset as u32,
    })
}
