//! Fragments of packets for a VIP: they go to the real of their first fragment.
//!
//! Only a packet's first fragment has ports. They are remembered by what all fragments have in common
//! ([`crate::tables::fragment`]); the fragments behind it get them from there, and the decision about them is that about the first
//! one: so those to a port of a VIP's address that no service has pass to the host. A fragment that comes before the first
//! one, or too late, is dropped if its destination is a VIP: nothing says which service it is for. All other fragments pass
//! to the host, as any packet for no VIP does.
//!
//! This is done in a function that a kernel program has for itself ([`Tables::find_fragment`]), which parses the frame once
//! more: whole packets pay for nothing, and the verifier looks at it once.

use crate::{
    classify::{Class, of_address, translates},
    codegen::{apart, rare},
    frame::{Fields as _, Frame},
    hash::{Addresses as _, Addresses4, Addresses6},
    headers::{
        IP, IPPROTO_FRAGMENT, IPPROTO_HOPOPTS, IPPROTO_ROUTING, IPPROTO_SCTP, IPPROTO_TCP,
        IPPROTO_UDP, ethernet, ipv4, ipv6, ipv6::extension, sctp, tcp,
    },
    ip::{Family, Ip, V4, V6},
    limits::{FRAGMENT_BUCKETS, FRAGMENT_TICKS, MAX_EXTENSION_HEADERS},
    lookup::Tables,
    parse::{
        self, ELSEWHERE, FRAGMENT, MAX_EXTENDED, NO_FLAGS, OFFSETS, Packet, Transport, is_extension,
    },
    reason::Reason,
    tables::fragment::{FirstFragment, FragmentBucket, FragmentEntry},
};

/// What became of a fragment, as one number, because a function of a kernel program returns one register: one of the two
/// constants, or the transport header of its packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found(pub u64);

const OFFSET_SHIFT: u32 = 32;
const PROTOCOL_SHIFT: u32 = 46;
const FLAGS_SHIFT: u32 = 54;

impl Found {
    /// It is no fragment that the balancer serves.
    pub const NOT_SERVED: Found = Found(0);
    /// It is for a VIP, and its first fragment is not known.
    pub const LOST: Found = Found(1);

    /// Whether the transport header is known. Its protocol is never 0.
    #[must_use]
    #[inline(always)]
    pub const fn is_known(self) -> bool {
        self.0 >= 1 << PROTOCOL_SHIFT
    }

    /// A known transport header as a number.
    #[inline(always)]
    const fn known(transport: &Transport) -> Found {
        Found(
            transport.ports as u64
                | ((transport.offset & OFFSETS) as u64) << OFFSET_SHIFT
                | (transport.protocol as u8 as u64) << PROTOCOL_SHIFT
                | ((transport.flags | FRAGMENT) as u64) << FLAGS_SHIFT,
        )
    }

    /// A fragment's transport header as a number, and [`Found::NOT_SERVED`] for that of a whole packet.
    #[must_use]
    #[inline(always)]
    pub const fn of_fragment(transport: &Transport) -> Found {
        if transport.flags & FRAGMENT == 0 {
            Found::NOT_SERVED
        } else {
            Found::known(transport)
        }
    }

    /// The same with the ports that a first fragment has now. `None` if the frame is shorter than it was.
    #[inline(always)]
    pub(crate) fn now<F: Frame>(self, frame: &mut F) -> Option<Found> {
        if !self.is_known() {
            return Some(self);
        }
        let transport = self.transport();
        let ports = frame
            .window::<{ tcp::PORTS + 4 }>(transport.offset as usize)?
            .u32_at::<{ tcp::PORTS }>();
        Some(Found::known(&Transport { ports, ..transport }))
    }

    /// The transport header, if it is known.
    #[must_use]
    #[inline(always)]
    pub const fn transport(self) -> Transport {
        Transport {
            ports: self.0 as u32,
            protocol: (self.0 >> PROTOCOL_SHIFT) as u8 as u32,
            flags: (self.0 >> FLAGS_SHIFT) as u32,
            offset: (self.0 >> OFFSET_SHIFT) as u32 & OFFSETS,
        }
    }
}

const _: () = assert!(ELSEWHERE as usize > IP + MAX_EXTENDED);
const _: () = assert!(PROTOCOL_SHIFT == OFFSET_SHIFT + OFFSETS.count_ones());
const _: () = assert!(FLAGS_SHIFT == PROTOCOL_SHIFT + u8::BITS);
const _: () = assert!((NO_FLAGS | FRAGMENT).ilog2() < u64::BITS - FLAGS_SHIFT);

/// A fragment, as far as the headers say it that are in each of them.
pub struct Piece<A> {
    addresses: A,
    identification: u32,
    protocol: u32,
    /// Where its part begins in the packet's payload, in bytes.
    offset: u32,
    /// Where the part of the packet's payload begins that it has.
    at: usize,
    /// Bytes of that.
    length: usize,
}

/// The packet of a frame that was not parsed for this reason, if it is a fragment for a VIP whose ports are known.
///
/// # Errors
/// What the frame is otherwise.
#[inline(always)]
pub fn packet<I: Ip, F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    reason: Reason,
) -> Result<Packet<I::Addresses>, Class<I::Addresses>> {
    if reason as u32 != Reason::Fragment as u32 {
        return Err(Class::Other(reason));
    }
    apart();
    let found = tables.find_fragment(frame);
    if !found.is_known() {
        return Err(if found.0 == Found::LOST.0 {
            Class::Dropped(rare(Reason::FragmentUnknown))
        } else {
            Class::Other(rare(Reason::Fragment))
        });
    }
    let Some((addresses, length, ttl)) = I::head(frame) else {
        return Err(Class::Other(rare(Reason::Malformed)));
    };
    Ok(Packet {
        addresses,
        length,
        ttl,
        transport: found.transport(),
    })
}

/// The transport header of the packet of which the frame has a fragment.
#[inline(always)]
pub fn find<F: Frame, T: Tables>(frame: &mut F, tables: &T) -> Found {
    let Some(header) = frame.window::<{ ethernet::LENGTH }>(0) else {
        return Found::NOT_SERVED;
    };
    match header.u16_at::<{ ethernet::TYPE }>() {
        ethernet::TYPE_IPV4 => find_of::<V4, F, T>(frame, tables),
        ethernet::TYPE_IPV6 => find_of::<V6, F, T>(frame, tables),
        _ => Found::NOT_SERVED,
    }
}

#[inline(always)]
fn find_of<I: Ip, F: Frame, T: Tables>(frame: &mut F, tables: &T) -> Found {
    let Some(piece) = I::piece(frame) else {
        return Found::NOT_SERVED;
    };
    let tag = tag_of::<I, T>(tables, &piece);
    let now = tables.now();
    if piece.offset == 0 {
        let Ok(transport) = parse::begun::<I, F>(frame, piece.at, piece.length, piece.protocol)
        else {
            return Found::NOT_SERVED;
        };
        // Which service a packet is for, if any, is looked up with its ports: the host may have others at a VIP's address. And
        // a real's answer is known when it is translated back.
        if !translates(tables) && of_address::<I, T>(tables, &piece.addresses).is_none() {
            return Found::NOT_SERVED;
        }
        let first = FirstFragment::new(transport.ports, transport.protocol, now);
        remember(tables, tag, first, now);
        return Found::known(&transport);
    }
    let first = entry(tables, tag).map(|entry| FirstFragment(entry.data.load()));
    if let Some(first) = first
        && first.age(now) <= FRAGMENT_TICKS
    {
        let protocol = first.protocol();
        // It would write over the header that was looked at (RFC 3128).
        let fixed = match protocol {
            IPPROTO_TCP => tcp::LENGTH,
            IPPROTO_SCTP => sctp::LENGTH,
            _ => 0,
        };
        if piece.offset < fixed as u32 {
            return Found::LOST;
        }
        return Found::known(&Transport {
            ports: first.ports(),
            protocol,
            // As a packet of a flow that is known to run.
            flags: if protocol == IPPROTO_TCP {
                tcp::ACK
            } else {
                NO_FLAGS
            },
            offset: ELSEWHERE,
        });
    }
    let may_be_served = matches!(piece.protocol, IPPROTO_TCP | IPPROTO_UDP | IPPROTO_SCTP);
    if may_be_served && of_address::<I, T>(tables, &piece.addresses).is_some() {
        Found::LOST
    } else {
        Found::NOT_SERVED
    }
}

/// A hash of what all fragments of a packet have in common (RFC 791 section 3.2, RFC 8200 section 4.5), which is not 0.
#[inline(always)]
fn tag_of<I: Ip, T: Tables>(tables: &T, piece: &Piece<I::Addresses>) -> u64 {
    const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
    // IPv6's fragments need not say the protocol alike.
    let protocol = match I::FAMILY {
        Family::V4 => piece.protocol,
        Family::V6 => 0,
    };
    let source = piece
        .addresses
        .flow_hash(tables.flow_secret(), piece.identification, protocol);
    let [_, destination] = piece.addresses.wide();
    let mut hash = source;
    for word in destination {
        let product = (hash ^ word).wrapping_mul(FACTOR);
        hash = product ^ product >> 32;
    }
    hash | 1
}

/// The bucket of entries that a packet may have.
#[inline(always)]
fn bucket<T: Tables>(tables: &T, tag: u64) -> Option<&FragmentBucket> {
    tables.fragments((tag >> 32) as u32 & (FRAGMENT_BUCKETS - 1))
}

/// The entry of a packet.
#[inline(always)]
fn entry<T: Tables>(tables: &T, tag: u64) -> Option<&FragmentEntry> {
    let entries = &bucket(tables, tag)?.entries;
    entries.iter().find(|entry| entry.tag.load() == tag)
}

/// Remembers a first fragment, in place of the one that came first of those that it may have the place of.
#[inline(always)]
fn remember<T: Tables>(tables: &T, tag: u64, first: FirstFragment, now: u32) {
    let Some(bucket) = bucket(tables, tag) else {
        return;
    };
    let mut place = &bucket.entries[0];
    let mut oldest = 0;
    for entry in &bucket.entries {
        let has = entry.tag.load();
        let age = if has == tag || has == 0 {
            u32::MAX
        } else {
            FirstFragment(entry.data.load()).age(now)
        };
        if age >= oldest {
            (place, oldest) = (entry, age);
            if has == tag {
                break;
            }
        }
    }
    tables.write_fragment(place, tag, first);
}

/// The real that a fragment's packet names; 0: none. `named` is what the fragment itself names: a first one remembers it for
/// those behind it, which name nothing themselves.
#[inline(always)]
pub fn named<F: Frame, T: Tables>(frame: &mut F, tables: &T, named: u16) -> u16 {
    let Some(header) = frame.window::<{ ethernet::LENGTH }>(0) else {
        return 0;
    };
    match header.u16_at::<{ ethernet::TYPE }>() {
        ethernet::TYPE_IPV4 => named_of::<V4, F, T>(frame, tables, named),
        ethernet::TYPE_IPV6 => named_of::<V6, F, T>(frame, tables, named),
        _ => 0,
    }
}

#[inline(always)]
fn named_of<I: Ip, F: Frame, T: Tables>(frame: &mut F, tables: &T, named: u16) -> u16 {
    let Some(piece) = I::piece(frame) else {
        return 0;
    };
    let tag = tag_of::<I, T>(tables, &piece);
    let Some(entry) = entry(tables, tag) else {
        return named;
    };
    let first = FirstFragment(entry.data.load());
    if piece.offset != 0 {
        return first.named();
    }
    if named != 0 {
        tables.write_fragment(entry, tag, first.naming(named));
    }
    named
}

/// Addresses, length and TTL of an IPv4 packet. `None` if the frame is shorter than they say.
#[inline(always)]
pub(crate) fn head4<F: Frame>(frame: &mut F) -> Option<(Addresses4, u32, u32)> {
    let header = frame.window::<{ IP + ipv4::LENGTH }>(0)?;
    let addresses = Addresses4 {
        source: header.u32_at::<{ IP + ipv4::SOURCE }>(),
        destination: header.u32_at::<{ IP + ipv4::DESTINATION }>(),
    };
    let length = u16::from_be(header.u16_at::<{ IP + ipv4::TOTAL_LENGTH }>());
    let ttl = header.u8_at::<{ IP + ipv4::TTL }>();
    (usize::from(length) >= ipv4::LENGTH).then_some((addresses, length.into(), ttl.into()))
}

/// The same of an IPv6 packet.
#[inline(always)]
pub(crate) fn head6<F: Frame>(frame: &mut F) -> Option<(Addresses6, u32, u32)> {
    const SOURCE: usize = IP + ipv6::SOURCE;
    const DESTINATION: usize = IP + ipv6::DESTINATION;
    let header = frame.window::<{ IP + ipv6::LENGTH }>(0)?;
    let addresses = Addresses6 {
        source: [header.u64_at::<SOURCE>(), header.u64_at::<{ SOURCE + 8 }>()],
        destination: [
            header.u64_at::<DESTINATION>(),
            header.u64_at::<{ DESTINATION + 8 }>(),
        ],
    };
    let payload = u16::from_be(header.u16_at::<{ IP + ipv6::PAYLOAD_LENGTH }>());
    let hops = header.u8_at::<{ IP + ipv6::HOP_LIMIT }>();
    Some((
        addresses,
        ipv6::LENGTH as u32 + u32::from(payload),
        hops.into(),
    ))
}

/// The fragment in a frame of IPv4.
#[inline(always)]
pub(crate) fn piece4<F: Frame>(frame: &mut F) -> Option<Piece<Addresses4>> {
    let room = frame.length() - IP;
    let (addresses, length, _) = head4(frame)?;
    let header = frame.window::<{ IP + ipv4::LENGTH }>(0)?;
    let first = header.u8_at::<{ IP + ipv4::VERSION }>();
    let fragment = header.u16_at::<{ IP + ipv4::FRAGMENT }>();
    let size = (first & 0xF) as usize * 4;
    let length = length as usize;
    if first >> 4 != 4 || size < ipv4::LENGTH || length < size || length > room {
        return None;
    }
    Some(Piece {
        addresses,
        identification: header.u16_at::<{ IP + ipv4::IDENTIFICATION }>().into(),
        protocol: header.u8_at::<{ IP + ipv4::PROTOCOL }>().into(),
        offset: u32::from(u16::from_be(fragment & ipv4::FRAGMENT_OFFSET)) * 8,
        at: IP + size,
        length: length - size,
    })
}

/// The fragment in a frame of IPv6. Extension headers behind the fragment header are not walked.
#[inline(always)]
pub(crate) fn piece6<F: Frame>(frame: &mut F) -> Option<Piece<Addresses6>> {
    let room = frame.length() - IP;
    let (addresses, length, _) = head6(frame)?;
    let header = frame.window::<{ IP + ipv6::LENGTH }>(0)?;
    let mut protocol = u32::from(header.u8_at::<{ IP + ipv6::NEXT_HEADER }>());
    let version = header.u8_at::<{ IP + ipv6::VERSION }>() >> 4;
    let length = length as usize;
    if version != 6 || length > room {
        return None;
    }
    let mut at = ipv6::LENGTH;
    for walked in 0..MAX_EXTENSION_HEADERS {
        if !is_extension(protocol) || protocol == IPPROTO_HOPOPTS && walked > 0 {
            return None;
        }
        let header = frame.window::<{ extension::LENGTH }>(IP + at)?;
        let next = u32::from(header.u8_at::<{ extension::NEXT_HEADER }>());
        if protocol == IPPROTO_FRAGMENT {
            let begin = at + extension::LENGTH;
            if begin > length {
                return None;
            }
            let fragment = header.u16_at::<{ extension::FRAGMENT }>();
            return Some(Piece {
                addresses,
                identification: header.u32_at::<{ extension::IDENTIFICATION }>(),
                protocol: next,
                offset: u32::from(u16::from_be(fragment & extension::FRAGMENT_OFFSET)),
                at: IP + begin,
                length: length - begin,
            });
        }
        if protocol == IPPROTO_ROUTING && header.u8_at::<{ extension::SEGMENTS_LEFT }>() != 0 {
            return None;
        }
        let units = usize::from(header.u8_at::<{ extension::HEADER_LENGTH }>());
        at += (units + 1) * extension::LENGTH;
        protocol = next;
        if at > length {
            return None;
        }
    }
    None
}
