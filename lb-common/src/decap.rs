//! Decapsulation on a real: takes the balancer's outer header off a packet for one of the real's VIPs.
//!
//! All four families: IPv4 and IPv6 in either. What is not IP in IP for a VIP passes untouched: other
//! traffic, tunnels for somebody else, fragments and options in the outer header (the balancer sends
//! neither). Only the inner packet's IP header is looked at; the host's stack judges the rest.

use crate::{
    checksum,
    frame::{Fields as _, Frame},
    parse::{ETHERNET, IP4, IP6, TYPE_IP4, TYPE_IP6},
    reason::Verdict,
};

/// Names of the maps, as they stand in the program.
pub mod names {
    /// Hash: IPv4 address in network order → `u32` (1).
    pub const VIPS4: &str = "VIPS4";
    /// Hash: IPv6 address in network order → `u32` (1).
    pub const VIPS6: &str = "VIPS6";
    /// Per-CPU array by [`super::Reason`]: `u64` frames.
    pub const REASONS: &str = "REASONS";
    /// Array by [`super::segment::Family`]: the largest TCP segment to announce, `u32`; 0 is no limit.
    pub const SEGMENTS: &str = "SEGMENTS";
}

#[path = "decap_segment.rs"]
pub mod segment;

/// Addresses of each family that a real can have.
pub const MAX_VIPS: u32 = 4_096;
/// Counters of reasons.
pub const REASON_SLOTS: u32 = 16;

const _: () = assert!(Reason::ALL.len() <= REASON_SLOTS as usize);

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal, $verdict:ident;)*) => {
        /// A way out of the decapsulator. Per CPU, their counters add up to the frames received.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub enum Reason {
            $($(#[$doc])* $name = $number,)*
        }

        impl Reason {
            /// Every reason, by number.
            pub const ALL: &'static [Reason] = &[$(Reason::$name,)*];

            /// The name used in counters.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Reason::$name => $text,)* }
            }

            /// What happens to a frame with this reason.
            #[must_use]
            #[inline(always)]
            pub const fn verdict(self) -> Verdict {
                match self { $(Reason::$name => Verdict::$verdict,)* }
            }
        }
    };
}

reasons! {
    /// IPv4 taken out of IPv4.
    Ip4InIp4 = 0, "ip4_in_ip4", Pass;
    /// IPv6 taken out of IPv4.
    Ip6InIp4 = 1, "ip6_in_ip4", Pass;
    /// IPv4 taken out of IPv6.
    Ip4InIp6 = 2, "ip4_in_ip6", Pass;
    /// IPv6 taken out of IPv6.
    Ip6InIp6 = 3, "ip6_in_ip6", Pass;
    /// Neither IPv4 nor IPv6.
    NotIp = 4, "not_ip", Pass;
    /// No IP in IP.
    NotTunnel = 5, "not_tunnel", Pass;
    /// IP in IP whose inner destination is no VIP of this real.
    NotVip = 6, "not_vip", Pass;
    /// The outer packet is a fragment.
    Fragment = 7, "fragment", Pass;
    /// The outer header has options or extension headers.
    Options = 8, "options", Pass;
    /// Too short or contradicting itself.
    Malformed = 9, "malformed", Pass;
    /// Congestion was marked on the outer header, but the inner packet cannot carry the mark: RFC 6040
    /// section 4.2 says to drop it.
    Congestion = 10, "congestion", Drop;
    /// The driver refused to move the start of the frame.
    NotMoved = 11, "not_moved", Pass;
}

/// Bytes on the stack that are read and written in words: the verifier demands the words' alignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct Aligned<const N: usize>(pub [u8; N]);

/// A frame that can lose bytes at its front.
pub trait Shrink: Frame {
    /// Removes `bytes` at the front. `false`: it could not be done, and the frame is as it was.
    fn pull(&mut self, bytes: usize) -> bool;
}

/// The VIPs of this real.
pub trait Vips {
    /// Whether this IPv4 address (network order) is one.
    fn has4(&self, address: &[u8; 4]) -> bool;
    /// Whether this IPv6 address (network order) is one.
    fn has6(&self, address: &[u8; 16]) -> bool;
}

/// Offset of the inner packet in an outer IPv4 packet without options.
const IN_IP4: usize = ETHERNET + IP4;
/// Offset of the inner packet in an outer IPv6 packet without extension headers.
const IN_IP6: usize = ETHERNET + IP6;

const PROTOCOL_IP4: u8 = 4;
const PROTOCOL_IP6: u8 = 41;
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;

const ECT_1: u8 = 0b01;
const ECT_0: u8 = 0b10;
const CE: u8 = 0b11;

/// Takes the outer header off, if the frame is for a VIP of this real.
#[inline(always)]
pub fn decapsulate<F: Shrink, V: Vips>(frame: &mut F, vips: &V) -> Reason {
    let Some(ethernet) = frame.window::<ETHERNET>(0) else {
        return Reason::Malformed;
    };
    let outcome = match ethernet.half::<12>() {
        TYPE_IP4 => outer4(frame, vips),
        TYPE_IP6 => outer6(frame, vips),
        _ => Err(Reason::NotIp),
    };
    match outcome {
        Ok(reason) | Err(reason) => reason,
    }
}

/// What the outer header says.
struct Outer {
    /// Bytes behind the outer header.
    length: usize,
    /// Congestion bits.
    ecn: u8,
}

#[inline(always)]
fn outer4<F: Shrink, V: Vips>(frame: &mut F, vips: &V) -> Result<Reason, Reason> {
    let room = frame.length();
    let header = frame.window::<IN_IP4>(0).ok_or(Reason::Malformed)?;
    let protocol = header.byte::<23>();
    if protocol != PROTOCOL_IP4 && protocol != PROTOCOL_IP6 {
        return Err(Reason::NotTunnel);
    }
    let first = header.byte::<14>();
    if first != 0x45 {
        return Err(if first >> 4 == 4 && first & 0xF > 5 {
            Reason::Options
        } else {
            Reason::Malformed
        });
    }
    let length = u16::from_be(header.half::<16>()) as usize;
    let ecn = header.byte::<15>() & CE;
    // More fragments, or an offset.
    if header.half::<20>() & 0x3FFF_u16.to_be() != 0 {
        return Err(Reason::Fragment);
    }
    if length < IP4 || ETHERNET + length > room {
        return Err(Reason::Malformed);
    }
    let outer = Outer {
        length: length - IP4,
        ecn,
    };
    if protocol == PROTOCOL_IP4 {
        inner4::<F, V, IN_IP4>(frame, vips, &outer)?;
        Ok(Reason::Ip4InIp4)
    } else {
        inner6::<F, V, IN_IP4>(frame, vips, &outer)?;
        Ok(Reason::Ip6InIp4)
    }
}

#[inline(always)]
fn outer6<F: Shrink, V: Vips>(frame: &mut F, vips: &V) -> Result<Reason, Reason> {
    let room = frame.length();
    let header = frame.window::<IN_IP6>(0).ok_or(Reason::Malformed)?;
    let protocol = header.byte::<20>();
    if protocol != PROTOCOL_IP4 && protocol != PROTOCOL_IP6 {
        return Err(match protocol {
            FRAGMENT => Reason::Fragment,
            HOP_BY_HOP | ROUTING | DESTINATION => Reason::Options,
            _ => Reason::NotTunnel,
        });
    }
    let length = u16::from_be(header.half::<18>()) as usize;
    let ecn = (header.byte::<15>() >> 4) & CE;
    if header.byte::<14>() >> 4 != 6 || IN_IP6 + length > room {
        return Err(Reason::Malformed);
    }
    let outer = Outer { length, ecn };
    if protocol == PROTOCOL_IP4 {
        inner4::<F, V, IN_IP6>(frame, vips, &outer)?;
        Ok(Reason::Ip4InIp6)
    } else {
        inner6::<F, V, IN_IP6>(frame, vips, &outer)?;
        Ok(Reason::Ip6InIp6)
    }
}

/// Checks the IPv4 packet at `AT` and makes it the frame's.
#[inline(always)]
fn inner4<F: Shrink, V: Vips, const AT: usize>(
    frame: &mut F,
    vips: &V,
    outer: &Outer,
) -> Result<(), Reason> {
    let header = frame.window::<IP4>(AT).ok_or(Reason::Malformed)?;
    let first = header.byte::<0>();
    let size = (first & 0xF) as usize * 4;
    let length = u16::from_be(header.half::<2>()) as usize;
    if first >> 4 != 4 || size < IP4 || length < size || length > outer.length {
        return Err(Reason::Malformed);
    }
    let words = header.half::<0>();
    let ecn = header.byte::<1>() & CE;
    let mut destination = Aligned([0; 4]);
    destination.0.set_word::<0>(header.word::<16>());
    if !vips.has4(&destination.0) {
        return Err(Reason::NotVip);
    }
    let mark = combine(ecn, outer.ecn)?;
    uncover::<F, AT>(frame, TYPE_IP4)?;
    if mark != ecn {
        // As uncovered, the window is there.
        let header = frame.window::<IN_IP4>(0).ok_or(Reason::Malformed)?;
        let tos = header.byte::<15>() & !CE | mark;
        header.set_byte::<15>(tos);
        let sum = checksum::update(header.half::<24>(), words, header.half::<14>());
        header.set_half::<24>(sum);
    }
    Ok(())
}

/// Checks the IPv6 packet at `AT` and makes it the frame's.
#[inline(always)]
fn inner6<F: Shrink, V: Vips, const AT: usize>(
    frame: &mut F,
    vips: &V,
    outer: &Outer,
) -> Result<(), Reason> {
    let header = frame.window::<IP6>(AT).ok_or(Reason::Malformed)?;
    let length = IP6 + u16::from_be(header.half::<4>()) as usize;
    if header.byte::<0>() >> 4 != 6 || length > outer.length {
        return Err(Reason::Malformed);
    }
    let ecn = (header.byte::<1>() >> 4) & CE;
    let mut destination = Aligned([0; 16]);
    destination.0.set_long::<0>(header.long::<24>());
    destination.0.set_long::<8>(header.long::<32>());
    if !vips.has6(&destination.0) {
        return Err(Reason::NotVip);
    }
    let mark = combine(ecn, outer.ecn)?;
    uncover::<F, AT>(frame, TYPE_IP6)?;
    if mark != ecn {
        let header = frame.window::<IN_IP6>(0).ok_or(Reason::Malformed)?;
        let class = header.byte::<15>() & !(CE << 4) | mark << 4;
        header.set_byte::<15>(class);
    }
    Ok(())
}

/// The inner packet's congestion bits after decapsulation (RFC 6040 section 4.2).
#[inline(always)]
fn combine(inner: u8, outer: u8) -> Result<u8, Reason> {
    match (inner, outer) {
        (0, CE) => Err(Reason::Congestion),
        (0, _) => Ok(0),
        (_, CE) => Ok(CE),
        (ECT_0, ECT_1) => Ok(ECT_1),
        (inner, _) => Ok(inner),
    }
}

/// Moves the Ethernet header to the inner packet at `AT`, with the inner packet's type.
#[inline(always)]
fn uncover<F: Shrink, const AT: usize>(frame: &mut F, ether_type: u16) -> Result<(), Reason> {
    let ethernet = frame.window::<ETHERNET>(0).ok_or(Reason::Malformed)?;
    let addresses = (ethernet.long::<0>(), ethernet.word::<8>());
    if !frame.pull(AT - ETHERNET) {
        return Err(Reason::NotMoved);
    }
    let ethernet = frame.window::<ETHERNET>(0).ok_or(Reason::Malformed)?;
    ethernet.set_long::<0>(addresses.0);
    ethernet.set_word::<8>(addresses.1);
    ethernet.set_half::<12>(ether_type);
    Ok(())
}

#[cfg(test)]
mod tests;
