//! Services: how a VIP is served.

use crate::flow_limits::FlowLimits;

/// An entry of [`super::names::SERVICES`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Service {
    /// The ring: first slot (low 32 bits, a multiple of `SLOTS_PER_CHUNK`) and number of slots
    /// (high 32 bits). One aligned 8-byte store moves the service to another ring. 0 slots: no
    /// real for new flows.
    pub ring: u64,
    /// [`TRACK_ALL`], [`RESET_EMPTY`], [`NAT_KEEPS_SOURCE`], [`RESET_LIMITED`], where packets name their real
    /// ([`ID_MASK`]), and what the hash of a flow is made of ([`HASH_MASK`]).
    pub flags: u32,
    /// How long a changed slot remembers its previous real, and how long an idle flow keeps its entry;
    /// in ticks.
    pub window: u32,
    /// For the next agent: when the service was added, in ticks.
    pub made: u32,
    /// For the next agent: until when a service of UDP tracks every flow because it is new, in ticks; 0: it
    /// never did.
    pub track_until: u32,
    /// Limits of the connections that begin, if its reals are [`super::real::LIMITED`].
    pub limits: FlowLimits,
}

/// Every flow gets an entry, so live flows are known exactly.
pub const TRACK_ALL: u32 = 1;
/// TCP packets that no real takes are answered with a reset.
pub const RESET_EMPTY: u32 = 2;
/// Bits that say what the ring hash of a flow is made of; none of them: of addresses, ports and protocol.
pub const HASH_MASK: u32 = HASH_OF_SOURCE | HASH_OF_DESTINATION | HASH_OF_PORT | HASH_OF_KATRAN;
/// The hash is made of the source address.
pub const HASH_OF_SOURCE: u32 = 0x10;
/// The hash is made of the destination address and the protocol.
pub const HASH_OF_DESTINATION: u32 = 0x20;
/// The hash is made of the destination port.
pub const HASH_OF_PORT: u32 = 0x40;
/// The hash leads to the slot that Katran's has ([`crate::katran`]). Beside it, both ports count.
pub const HASH_OF_KATRAN: u32 = 0x80;
/// Addresses and protocol.
pub const HASH_SOURCE: u32 = HASH_OF_SOURCE | HASH_OF_DESTINATION;
/// The source address alone: the same for all services.
pub const HASH_SOURCE_GROUP: u32 = HASH_OF_SOURCE;
/// Destination address and port, and protocol.
pub const HASH_DESTINATION: u32 = HASH_OF_DESTINATION | HASH_OF_PORT;
/// The slot that Katran's hash has, of a ring of [`crate::limits::KATRAN_RING_SLOTS`]; the rest of the hash is made of
/// addresses, ports and protocol.
pub const HASH_KATRAN: u32 = HASH_OF_KATRAN | HASH_SOURCE;
/// Mode `nat` keeps the client's address and port as the source.
pub const NAT_KEEPS_SOURCE: u32 = 0x100;
/// Bits that say where packets name their real ([`crate::server_ids`]).
pub const ID_MASK: u32 = ID_QUIC_LB | ID_QUIC_KATRAN | ID_UDP_STABLE | ID_TCP_OPTION;
/// In connection ids of QUIC, as QUIC-LB has it.
pub const ID_QUIC_LB: u32 = 0x1000;
/// In connection ids of QUIC, as Katran has it.
pub const ID_QUIC_KATRAN: u32 = 0x2000;
/// In the first bytes of UDP's payload.
pub const ID_UDP_STABLE: u32 = 0x4000;
/// In an option of TCP.
pub const ID_TCP_OPTION: u32 = 0x8000;

/// The table of source rules has some of it ([`super::source_rule`]).
pub const SOURCE_RULES: u32 = 0x400;
/// Connections that are too many are answered with a reset, and not dropped.
pub const RESET_LIMITED: u32 = 0x200;

/// Packs [`Service::ring`].
#[must_use]
pub const fn ring_place(first_slot: u32, slots: u32) -> u64 {
    first_slot as u64 | (slots as u64) << 32
}

const _: () = assert!(size_of::<Service>() == 64);
