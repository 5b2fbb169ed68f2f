//! Network address translation, for reals that cannot be touched: both ways of a connection pass the balancer.
//!
//! ```text
//! client → VIP      becomes  source address and port of the balancer → real      (task Client)
//! real   → source   becomes  VIP → client                                         (task Answer)
//! ```
//!
//! A connection has an entry for each way ([`crate::tables::nat`]). The one for answers is made first and fails if there
//! is one, so it owns the source port towards its real, whatever CPU makes it. An entry keeps the connection's real: a ring
//! that changes moves no connection.
//!
//! The work is done in functions that a kernel program has for itself ([`Tables::translate`]), which parse the frame once
//! more: packets that are not translated pay for one comparison, and the kernel's verifier looks at them once.

mod between;
mod error;
mod open;
mod translate;

pub use error::translate_error;
pub use open::{close, open};
pub use translate::translate;

use crate::{
    codegen::rare,
    fragments::Found,
    frame::{Fields as _, Frame},
    hash::Addresses as _,
    headers::ethernet,
    icmp_answer::exchanged,
    ip::{Family, Ip, V4, V6},
    lookup::Tables,
    parse::{ELSEWHERE, Packet, Transport},
    reason::Reason,
    tables::{
        nat::{NatEntry, NatKey, kind},
        next_hop::NextHop,
    },
};

/// What is to be translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// A packet of a client, for which this real was chosen.
    Client(u16),
    /// A packet that may be a real's answer.
    Answer,
}

impl Task {
    /// The task as a number.
    #[must_use]
    #[inline(always)]
    pub const fn number(self) -> u64 {
        match self {
            Task::Client(real) => real as u64,
            Task::Answer => 0,
        }
    }

    /// The task with this number.
    #[must_use]
    #[inline(always)]
    pub const fn from_number(number: u64) -> Task {
        match number as u16 {
            0 => Task::Answer,
            real => Task::Client(real),
        }
    }
}

/// What became of a task. One number, because a function of a kernel program returns one register: 32 bits of the
/// interface, 16 of the real, then one of the states below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translated(pub u64);

/// The frame is translated.
const SENT: u64 = 0;
/// There is no connection that the packet belongs to.
const UNKNOWN: u64 = 1;
const STATE_SHIFT: u32 = 48;
/// A state from here on is a reason, less this.
const FAILED: u64 = 0x100;

impl Translated {
    /// There is no such connection; the frame is unchanged.
    pub const UNKNOWN: Translated = Translated(UNKNOWN << STATE_SHIFT);

    #[inline(always)]
    const fn sent(real: u16, interface: u32) -> Translated {
        Translated(interface as u64 | (real as u64) << 32)
    }

    #[inline(always)]
    const fn failed(reason: Reason) -> Translated {
        Translated((FAILED + reason as u64) << STATE_SHIFT)
    }

    /// Whether there is no such connection.
    #[must_use]
    #[inline(always)]
    pub const fn is_unknown(self) -> bool {
        self.0 >> STATE_SHIFT == UNKNOWN
    }

    /// The real and the interface to send by.
    ///
    /// # Errors
    /// The reason to drop the frame.
    #[inline(always)]
    pub const fn sent_to(self) -> Result<(u16, u32), Reason> {
        const NO_NEXT_HOP: u64 = FAILED + Reason::NoNextHop as u64;
        const TTL_EXPIRED: u64 = FAILED + Reason::TtlExpired as u64;
        const NO_PORT: u64 = FAILED + Reason::NatNoPort as u64;
        const TABLE_FULL: u64 = FAILED + Reason::NatTableFull as u64;
        const NO_SOURCE: u64 = FAILED + Reason::NatNoSource as u64;
        const NO_HEADROOM: u64 = FAILED + Reason::NoHeadroom as u64;
        const UNTRANSLATABLE: u64 = FAILED + Reason::NatUntranslatable as u64;
        match self.0 >> STATE_SHIFT {
            SENT => Ok(((self.0 >> 32) as u16, self.0 as u32)),
            NO_NEXT_HOP => Err(Reason::NoNextHop),
            TTL_EXPIRED => Err(Reason::TtlExpired),
            NO_PORT => Err(Reason::NatNoPort),
            TABLE_FULL => Err(Reason::NatTableFull),
            NO_SOURCE => Err(Reason::NatNoSource),
            NO_HEADROOM => Err(Reason::NoHeadroom),
            UNTRANSLATABLE => Err(Reason::NatUntranslatable),
            _ => Err(Reason::BadTables),
        }
    }
}

/// What became of an entry that was to be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// It is in the table.
    Done,
    /// The table has one with its key.
    Exists,
    /// The table has no room.
    Full,
}

/// Sends a client's packet to a real of mode `nat`, of its connection or, for a new one, the real with this index. Returns
/// that real and the interface to send by.
///
/// # Errors
/// The reason to drop the frame.
#[inline(always)]
pub fn send<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    real: u16,
    transport: &Transport,
) -> Result<(u16, u32), Reason> {
    let task = Task::Client(real);
    let fragment = Found::of_fragment(transport);
    let translated = tables.translate(frame, task, fragment);
    if !translated.is_unknown() {
        return translated.sent_to();
    }
    if transport.offset == ELSEWHERE {
        return Err(rare(Reason::FragmentUnknown));
    }
    let opened = tables.open_connection(frame, real, fragment);
    if opened.0 >> STATE_SHIFT != SENT {
        return opened.sent_to();
    }
    let sent = tables.translate(frame, task, fragment).sent_to()?;
    tables.end_simulated_connection(frame, fragment);
    Ok(sent)
}

/// What a translation needs of a packet.
#[derive(Clone, Copy, Debug)]
struct Arrived {
    key: NatKey,
    transport: Transport,
    length: u32,
    ttl: u32,
}

impl Arrived {
    /// Reads the packet of TCP or UDP in a frame, which is whole or this fragment; `None` if there is none.
    #[inline(always)]
    fn parse<F: Frame>(frame: &mut F, fragment: Found) -> Option<Arrived> {
        let header = frame.window::<{ ethernet::LENGTH }>(0)?;
        match header.u16_at::<{ ethernet::TYPE }>() {
            ethernet::TYPE_IPV4 => Arrived::parse_ip::<V4, F>(frame, fragment),
            ethernet::TYPE_IPV6 => Arrived::parse_ip::<V6, F>(frame, fragment),
            _ => None,
        }
    }

    #[inline(always)]
    fn parse_ip<I: Ip, F: Frame>(frame: &mut F, fragment: Found) -> Option<Arrived> {
        if !fragment.is_known() {
            return Some(Arrived::new::<I>(&I::parse(frame).ok()?));
        }
        let (addresses, length, ttl) = I::head(frame)?;
        Some(Arrived::new::<I>(&Packet {
            addresses,
            length,
            ttl,
            transport: fragment.transport(),
        }))
    }

    #[inline(always)]
    fn new<I: Ip>(packet: &Packet<I::Addresses>) -> Arrived {
        Arrived {
            key: key_of(packet.addresses.wide(), &packet.transport, I::FAMILY),
            transport: packet.transport,
            length: packet.length,
            ttl: packet.ttl,
        }
    }
}

/// The key of a packet with these source and destination addresses.
#[inline(always)]
fn key_of([source, destination]: [[u64; 2]; 2], transport: &Transport, family: Family) -> NatKey {
    NatKey {
        source,
        destination,
        ports: transport.ports,
        kind: kind(transport.protocol, family),
    }
}

/// The key of the other way's entry.
#[inline(always)]
fn reversed(entry: &NatEntry) -> NatKey {
    NatKey {
        source: entry.destination,
        destination: entry.source,
        ports: entry.ports.rotate_left(16),
        kind: entry.kind,
    }
}

/// The way to a next hop, as an entry for answers has it.
#[inline(always)]
const fn hop_of(hop: &NextHop) -> [u64; 2] {
    let [a, b, c, d, e, f] = hop.destination;
    let [g, h, i, j, k, l] = hop.source;
    let rest = u32::from_ne_bytes([i, j, k, l]);
    [
        u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
        rest as u64 | (hop.interface as u64) << 32,
    ]
}

/// The way back to the sender of a frame that came in by this interface.
#[inline(always)]
fn hop_back<const N: usize>(window: &[u8; N], interface: u32) -> [u64; 2] {
    let (macs, rest) = exchanged(window);
    [macs, u64::from(rest) | u64::from(interface) << 32]
}

/// The interface of a way.
#[inline(always)]
const fn interface_of(hop: [u64; 2]) -> u32 {
    (hop[1] >> 32) as u32
}

/// Writes the MAC addresses of a way.
#[inline(always)]
fn set_macs<const N: usize>(window: &mut [u8; N], hop: [u64; 2]) {
    window.set_u64_at::<{ ethernet::DESTINATION }>(hop[0]);
    window.set_u32_at::<{ ethernet::DESTINATION + 8 }>(hop[1] as u32);
}
