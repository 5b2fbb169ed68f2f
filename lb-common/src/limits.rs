//! Sizes and limits, in one place.

/// Services (VIPs). Index 0 is reserved: it is the service of echo requests and never forwards.
pub const MAX_SERVICES: u32 = 4_096;
/// Reals, counted per service: the same address behind two VIPs is two reals. Index 0 means "no real".
pub const MAX_REALS: u32 = 32_768;
/// Next hops (interface and MAC addresses). Index 0 means "unknown".
pub const MAX_NEXT_HOPS: u32 = 4_096;
/// Smallest and largest ring of one service, in slots.
pub const MIN_RING_SLOTS: u32 = 256;
/// See [`MIN_RING_SLOTS`].
pub const MAX_RING_SLOTS: u32 = 65_536;
/// Slots of a ring of Katran's, a prime: the one number that is larger and no power of two.
pub const KATRAN_RING_SLOTS: u32 = 65_537;
/// Slots of all rings together: 256 MiB.
pub const MAX_TOTAL_RING_SLOTS: u32 = 1 << 26;
/// Ring slots in one value of the ring table: the kernel rounds an array's values up to 8 bytes, so
/// slots are packed.
pub const SLOTS_PER_CHUNK: u32 = 16;
/// Entries in one bucket of the flow table: a cache line.
pub const FLOWS_PER_BUCKET: usize = 4;
/// Entries in one bucket of a VIP table.
pub const VIPS_PER_BUCKET: usize = 4;
/// Ranges of ports that one address has at most, those of the prefixes that hold it included.
pub const RANGES_PER_SET: usize = 16;
/// Prefixes of VIPs and their protocols.
pub const MAX_WIDE_KEYS: u32 = 2_048;
/// Sets of ports. Twice as many as keys, because a key's new set is written before its old one is free.
pub const MAX_PORT_SETS: u32 = 2 * MAX_WIDE_KEYS;
/// Configurations of QUIC-LB, of all services.
pub const MAX_QUIC_LB: u32 = 4_096;
/// Buckets of one VIP table.
pub const MAX_VIP_BUCKETS: u32 = 1 << 16;
/// Interfaces one agent can attach to.
pub const MAX_INTERFACES: u32 = 32;
/// Counters of reasons per interface.
pub const REASON_SLOTS: u32 = 64;
/// Most source rules of all services together. The table takes no memory for those that it does not have.
pub const MAX_SOURCE_RULES: u32 = 1 << 21;
/// Counter, beside those of reasons, of frames whose outer header was taken off.
pub const DECAPSULATED_SLOT: u32 = REASON_SLOTS - 1;
/// Weight of a real: 0 to this.
pub const MAX_WEIGHT: u32 = 65_535;
/// IPv6 extension headers that are walked before a packet is passed up.
pub const MAX_EXTENSION_HEADERS: usize = 6;
/// One tick of the tables' clock is 2^24 ns (16.8 ms); it wraps after 2.3 years.
pub const TICK_SHIFT: u32 = 24;
/// A flow's entry is stamped again after this many ticks (1.07 s).
pub const STAMP_TICKS: u32 = 64;
/// ICMP errors that are sent about too large packets are limited to one per tick and bucket of source addresses:
/// 60 a second to one source, 3,815 a second in all on one interface. A power of two.
pub const ERROR_BUCKETS: u32 = 64;
/// UDP has no handshake, and one client's first packets may come at once: a packet confirms its flow's entry if the
/// one before came this many ticks earlier (17 to 34 ms).
pub const UDP_CONFIRM_TICKS: u32 = 2;
/// How long an entry lives after FIN or RST, or after a SYN, without another packet, in ticks (about 30 s).
pub const CLOSING_TICKS: u32 = 1_788;
/// Sampled flows, of all services: 256 KiB, which stay in a CPU's second-level cache.
pub const SAMPLES: u32 = SAMPLE_PARTS * SAMPLES_PER_PART;
/// Parts of the table of samples. Services share them evenly, so that a flood to one service fills one part.
pub const SAMPLE_PARTS: u32 = 16;
/// Sampled flows in one part.
pub const SAMPLES_PER_PART: u32 = 1_024;
/// A sampled flow that did not end gives way after this time, in ticks (60 s). A SYN is repeated after 1, 3, 7, 15 and 31
/// seconds.
pub const SAMPLE_TICKS: u32 = 3_576;
/// A translated TCP connection that is established lives this long without a packet, in ticks (2 h 4 min, RFC 5382 section 5).
pub const NAT_ESTABLISHED_TICKS: u32 = ticks_from_millis(7_440_000);
/// One that opens or closes (4 min, RFC 5382 section 5).
pub const NAT_TRANSITORY_TICKS: u32 = ticks_from_millis(240_000);
/// Translated UDP (5 min, RFC 4787 section 4.3).
pub const NAT_UDP_TICKS: u32 = ticks_from_millis(300_000);
/// Fragments belong to a first one that came this long ago at most, in ticks (30 s, as Linux waits for the missing ones).
pub const FRAGMENT_TICKS: u32 = ticks_from_millis(30_000);
/// Buckets of packets whose first fragment is remembered: 4,096 packets, 64 KiB. The other fragments of a packet come within
/// milliseconds. A power of two.
pub const FRAGMENT_BUCKETS: u32 = 1 << 10;
/// Ports that are tried for a new connection. With half of the ports to a real in use, one connection in 65,536 finds
/// none.
pub const NAT_TRIES: u32 = 16;
/// Words for the limits of source prefixes: 512 KiB. A power of two.
pub const SOURCE_LIMITS: u32 = 1 << 16;
/// Buckets of the lives of flows; the last one begins at 17 s.
pub const LIFE_BUCKETS: usize = 16;

const _: () = assert!(UDP_CONFIRM_TICKS < STAMP_TICKS);
const _: () = assert!(MAX_SERVICES <= 0x1_0000);
const _: () = assert!(ERROR_BUCKETS.is_power_of_two() && SOURCE_LIMITS.is_power_of_two());
const _: () = assert!(FRAGMENT_BUCKETS.is_power_of_two());
const _: () = assert!((reason_count() as u32) < REASON_SLOTS);

const fn reason_count() -> usize {
    crate::reason::Reason::ALL.len()
}

/// Converts milliseconds to ticks, rounding up; at most half the clock's range.
#[must_use]
pub const fn ticks_from_millis(millis: u64) -> u32 {
    let ticks = (millis * 1_000_000).div_ceil(1 << TICK_SHIFT);
    if ticks > u32::MAX as u64 / 2 {
        u32::MAX / 2
    } else {
        ticks as u32
    }
}
