//! Server ids: numbers by which clients' packets name the real that they are for.

use crate::aes::RoundKeys;

/// A key of [`super::names::SERVER_IDS`]. The value is the index of a real, as a `u32`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(C, align(8))]
pub struct ServerIdKey {
    /// The id, its upper half first.
    pub id: [u64; 2],
    /// The service whose real it is.
    pub service: u32,
    /// Zero.
    pub pad: u32,
}

impl ServerIdKey {
    /// The key of a service's real.
    #[must_use]
    pub const fn new(service: u32, id: u128) -> ServerIdKey {
        ServerIdKey {
            id: [(id >> 64) as u64, id as u64],
            service,
            pad: 0,
        }
    }

    /// The id.
    #[must_use]
    pub const fn number(&self) -> u128 {
        (self.id[0] as u128) << 64 | self.id[1] as u128
    }
}

/// Bits of the first octet of a connection id that name the configuration it was made by (QUIC-LB).
pub const CONFIG_BITS: u32 = 3;
/// The configuration of servers that have none: no id can be read from their connection ids.
pub const NO_CONFIG: u32 = (1 << CONFIG_BITS) - 1;

/// A key of [`super::names::QUIC_LB`].
#[must_use]
#[inline(always)]
pub const fn quic_lb_key(service: u32, config: u32) -> u32 {
    service << CONFIG_BITS | config
}

/// A value of [`super::names::QUIC_LB`]: how connection ids of one configuration are read
/// (draft-ietf-quic-load-balancers-21, section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct QuicLb {
    /// Bits of the left half, as they lie in a block: its bytes, of an odd number of bytes without the last four bits.
    pub left: [u64; 2],
    /// Bits of the right half: its bytes, of an odd number of bytes without the first four bits.
    pub right: [u64; 2],
    /// The keys, in the order that the mode needs.
    pub keys: RoundKeys,
    /// [`PLAIN`], [`SINGLE_PASS`] or [`FOUR_PASS`].
    pub mode: u32,
    /// Bytes of id and nonce together, 5 to 19.
    pub length: u32,
    /// Bits of a block behind the id.
    pub behind: u32,
    /// Passes after which the id is known, 3 or 4.
    pub passes: u32,
}

/// Nothing is encrypted.
pub const PLAIN: u32 = 0;
/// Id and nonce are one block of AES-128.
pub const SINGLE_PASS: u32 = 1;
/// Id and nonce went through a Feistel network of four rounds.
pub const FOUR_PASS: u32 = 2;

/// Bytes of a block of AES.
const BLOCK: u32 = 16;
/// Fewest bytes of a nonce.
pub const MIN_NONCE: u32 = 4;
/// Most bytes of id and nonce together: connection ids of QUIC version 1 have 20 bytes at most.
pub const MAX_ID_AND_NONCE: u32 = 19;
/// Most bytes of an id.
pub const MAX_ID_BYTES: u32 = MAX_ID_AND_NONCE - MIN_NONCE;

impl QuicLb {
    /// The record of a configuration; lengths in bytes.
    ///
    /// # Panics
    /// If the lengths are not within the limits above, or the id has none.
    #[must_use]
    pub const fn new(id: u32, nonce: u32, key: Option<[u8; 16]>) -> QuicLb {
        let length = id + nonce;
        assert!(id > 0 && nonce >= MIN_NONCE && length <= MAX_ID_AND_NONCE);
        let half = length.div_ceil(2);
        let bytes = !0 << (128 - 8 * half);
        let (left, right) = if length.is_multiple_of(2) {
            (bytes, bytes)
        } else {
            (bytes << 4, bytes & !0 >> 4)
        };
        let (mode, keys) = match key {
            None => (PLAIN, RoundKeys::NONE),
            Some(key) if length == BLOCK => (SINGLE_PASS, RoundKeys::to_decrypt(key)),
            Some(key) => (FOUR_PASS, RoundKeys::to_encrypt(key)),
        };
        QuicLb {
            left: halves(left),
            right: halves(right),
            keys,
            mode,
            length,
            behind: 128 - 8 * id,
            passes: if id <= length / 2 { 3 } else { 4 },
        }
    }
}

/// A number of 128 bits as two.
#[must_use]
pub const fn halves(number: u128) -> [u64; 2] {
    [(number >> 64) as u64, number as u64]
}

const _: () = assert!(size_of::<ServerIdKey>() == 24 && size_of::<QuicLb>() == 224);
