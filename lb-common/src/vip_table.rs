//! The table of VIPs: looking one up, placing one.
//!
//! A hash table of small buckets. A VIP is in the first of its two buckets, or in the second if the first was
//! full when it was added; then the first has the mark [`OVERFLOWED`]. So a packet that is for no VIP reads
//! one bucket in nearly all cases, and no packet reads more than two. An entry never moves: the agent adds,
//! changes and removes it with one store while packets read, and no other entry takes part.

#[cfg(any(test, feature = "std"))]
pub mod edit;

use crate::{
    codegen::opaque,
    limits::VIPS_PER_BUCKET,
    shared::SharedU64,
    tables::vip::{
        ADDRESS_SHIFT, OVERFLOWED, PORT_SHIFT, PROTOCOL_SHIFT, SERVICE_MASK, VALUE_MASK,
        Vip4Bucket, Vip4Key, Vip6Bucket, Vip6Key, protocol_code,
    },
};

/// Names a VIP's buckets in tables of one size. Keyed with the host's secret.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VipHash {
    /// An odd factor.
    pub factor: u64,
    /// 64 less the bits of a bucket's number.
    pub shift: u32,
}

// Odd constants without structure.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
const AGAIN: u64 = 0xD6E8_FEB8_6659_FD93;

/// An odd number as random as the secret (splitmix64's mixer); a different one for each `number`.
const fn odd(secret: [u64; 2], number: u64) -> u64 {
    let start = secret[0] ^ secret[1].rotate_left(32);
    let mixed = start.wrapping_add(STEP.wrapping_mul(number));
    let mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    (mixed ^ mixed >> 31) | 1
}

impl VipHash {
    /// Smallest number of buckets of a table.
    pub const LEAST: u32 = 2;

    /// The hash for tables of `buckets`, a power of two from [`VipHash::LEAST`] up.
    #[must_use]
    pub const fn new(secret: [u64; 2], buckets: u32) -> VipHash {
        VipHash {
            factor: odd(secret, 1),
            shift: u64::BITS - buckets.trailing_zeros(),
        }
    }

    #[inline(always)]
    const fn mix(&self, word: u64) -> u64 {
        // Addresses of VIPs often count up. One multiplication puts some such series into few buckets, whatever
        // the factor.
        let product = (word ^ word >> 32).wrapping_mul(self.factor);
        (product ^ product >> 32).wrapping_mul(AGAIN)
    }

    /// The bucket in which a key's word is looked for first.
    #[must_use]
    #[inline(always)]
    pub const fn first(&self, word: u64) -> u32 {
        self.mix(word).wrapping_shr(self.shift) as u32
    }

    /// The other one.
    #[must_use]
    #[inline(always)]
    pub const fn second(&self, word: u64) -> u32 {
        let mixed = self.mix(word);
        let first = mixed.wrapping_shr(self.shift) as u32;
        let again = (mixed ^ mixed >> 32).wrapping_mul(STEP);
        let second = again.wrapping_shr(self.shift) as u32;
        if second == first { first ^ 1 } else { second }
    }
}

/// Digests an IPv6 address to 32 bits. Keyed with the host's secret.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AddressDigest {
    /// Odd factors of the address's halves.
    pub factors: [u64; 2],
}

impl AddressDigest {
    /// The digest with this secret.
    #[must_use]
    pub const fn new(secret: [u64; 2]) -> AddressDigest {
        AddressDigest {
            factors: [odd(secret, 2), odd(secret, 3)],
        }
    }

    /// The 32 bits that stand for an address, as it lies in a packet, in a key's word.
    #[must_use]
    #[inline(always)]
    pub const fn of(&self, address: [u64; 2]) -> u32 {
        let prefix = u64::from_le(address[0]).wrapping_mul(self.factors[0]);
        let host = u64::from_le(address[1]).wrapping_mul(self.factors[1]);
        (prefix.wrapping_add(host) >> 32) as u32
    }
}

/// A VIP's key in the form in which the table compares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackedVipKey {
    /// The word of its entry, without the service.
    pub word: u64,
    /// An IPv6 address, as it lies in a packet; zero for IPv4.
    pub address: [u64; 2],
}

#[inline(always)]
const fn word(address: u32, port: u16, protocol: u32) -> u64 {
    (address as u64) << ADDRESS_SHIFT
        | (u16::from_le(port) as u64) << PORT_SHIFT
        | (protocol_code(protocol) as u64) << PROTOCOL_SHIFT
}

impl PackedVipKey {
    /// The key of an IPv4 VIP; address and port as they lie in a packet, `protocol` one of `PROTOCOLS`.
    #[must_use]
    #[inline(always)]
    pub const fn v4(address: u32, port: u16, protocol: u32) -> PackedVipKey {
        PackedVipKey {
            word: word(u32::from_le(address), port, protocol),
            address: [0; 2],
        }
    }

    /// The key of an IPv6 VIP; see [`PackedVipKey::v4`].
    #[must_use]
    #[inline(always)]
    pub const fn v6(
        digest: &AddressDigest,
        address: [u64; 2],
        port: u16,
        protocol: u32,
    ) -> PackedVipKey {
        PackedVipKey {
            word: word(digest.of(address), port, protocol),
            address,
        }
    }

    /// Packs an IPv4 key.
    #[must_use]
    pub const fn of4(key: &Vip4Key) -> PackedVipKey {
        PackedVipKey::v4(
            u32::from_ne_bytes(key.address),
            u16::from_ne_bytes(key.port),
            key.protocol as u32,
        )
    }

    /// Packs an IPv6 key.
    #[must_use]
    pub const fn of6(digest: &AddressDigest, key: &Vip6Key) -> PackedVipKey {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = key.address;
        let address = [
            u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
            u64::from_ne_bytes([i, j, k, l, m, n, o, p]),
        ];
        PackedVipKey::v6(
            digest,
            address,
            u16::from_ne_bytes(key.port),
            key.protocol as u32,
        )
    }
}

/// A bucket as packets read it.
pub trait Bucket {
    /// An entry.
    fn word(&self, entry: usize) -> u64;
    /// The address beside an entry; `None` in a table of IPv4, whose words hold the whole address.
    fn address(&self, entry: usize) -> Option<[u64; 2]>;
}

/// A [`Vip4Bucket`] that the agent changes at the same time.
#[derive(Debug, Default)]
#[repr(C, align(32))]
pub struct SharedVip4Bucket {
    words: [SharedU64; VIPS_PER_BUCKET],
}

/// A [`Vip6Bucket`] that the agent changes at the same time.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub struct SharedVip6Bucket {
    words: [SharedU64; VIPS_PER_BUCKET],
    addresses: [[SharedU64; 2]; VIPS_PER_BUCKET],
    pad: [SharedU64; 4],
}

const _: () = assert!(size_of::<SharedVip4Bucket>() == size_of::<Vip4Bucket>());
const _: () = assert!(size_of::<SharedVip6Bucket>() == size_of::<Vip6Bucket>());

impl Bucket for SharedVip4Bucket {
    #[inline(always)]
    fn word(&self, entry: usize) -> u64 {
        self.words[entry].load()
    }

    #[inline(always)]
    fn address(&self, _entry: usize) -> Option<[u64; 2]> {
        None
    }
}

impl Bucket for SharedVip6Bucket {
    #[inline(always)]
    fn word(&self, entry: usize) -> u64 {
        self.words[entry].load()
    }

    #[inline(always)]
    fn address(&self, entry: usize) -> Option<[u64; 2]> {
        let [prefix, host] = &self.addresses[entry];
        Some([prefix.load(), host.load()])
    }
}

#[inline(always)]
fn find<B: Bucket>(bucket: &B, key: &PackedVipKey) -> Option<u32> {
    for entry in 0..VIPS_PER_BUCKET {
        let differs = bucket.word(entry) ^ key.word;
        if differs <= VALUE_MASK && is_at(bucket, entry, key.address) {
            return Some((differs & SERVICE_MASK) as u32);
        }
    }
    None
}

/// Whether an entry is of this address, if its word matches.
#[inline(always)]
fn is_at<B: Bucket>(bucket: &B, entry: usize, address: [u64; 2]) -> bool {
    match bucket.address(entry) {
        Some([prefix, host]) => (prefix ^ address[0]) | (host ^ address[1]) == 0,
        None => true,
    }
}

/// The service of a VIP. `bucket` returns a table's bucket by its number.
#[inline(always)]
pub fn look_up<'a, B: Bucket + 'a>(
    hash: &VipHash,
    key: &PackedVipKey,
    bucket: impl Fn(u32) -> Option<&'a B>,
) -> Option<u32> {
    let first = bucket(hash.first(key.word))?;
    match find(first, key) {
        Some(service) => Some(service),
        None if first.word(VIPS_PER_BUCKET - 1) & OVERFLOWED != 0 => {
            find(bucket(hash.second(opaque(key.word)))?, key)
        }
        None => None,
    }
}
