//! Changing the table of VIPs while packets read it. There is one writer: the agent.

use super::{Bucket, PackedVipKey, SharedVip4Bucket, SharedVip6Bucket, VipHash, is_at};
use crate::{
    limits::VIPS_PER_BUCKET,
    tables::vip::{
        ADDRESS_SHIFT, OVERFLOWED, PORT_SHIFT, PROTOCOL_SHIFT, SERVICE_MASK, VALUE_MASK,
        Vip4Bucket, Vip4Key, Vip6Bucket, Vip6Key, protocol_of,
    },
};

/// A bucket as its writer sees it. Stores become visible in their order.
pub trait Editable: Bucket {
    /// Writes an entry.
    fn set_word(&self, entry: usize, word: u64);
    /// Writes the address beside an entry; not called for tables of IPv4.
    fn set_address(&self, entry: usize, address: [u64; 2]);
}

impl Editable for SharedVip4Bucket {
    fn set_word(&self, entry: usize, word: u64) {
        self.words[entry].publish(word);
    }

    fn set_address(&self, _entry: usize, _address: [u64; 2]) {}
}

impl Editable for SharedVip6Bucket {
    fn set_word(&self, entry: usize, word: u64) {
        self.words[entry].publish(word);
    }

    fn set_address(&self, entry: usize, [prefix, host]: [u64; 2]) {
        self.addresses[entry][0].publish(prefix);
        self.addresses[entry][1].publish(host);
    }
}

impl SharedVip4Bucket {
    /// A copy.
    #[must_use]
    pub fn record(&self) -> Vip4Bucket {
        Vip4Bucket {
            words: core::array::from_fn(|entry| self.word(entry)),
        }
    }
}

impl SharedVip6Bucket {
    /// A copy.
    #[must_use]
    pub fn record(&self) -> Vip6Bucket {
        Vip6Bucket {
            words: core::array::from_fn(|entry| self.word(entry)),
            addresses: core::array::from_fn(|entry| self.address(entry).unwrap_or_default()),
            pad: [0; 4],
        }
    }
}

/// Both buckets of a VIP are full: the table must grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BucketsFull;

const LAST: usize = VIPS_PER_BUCKET - 1;

const fn is_empty(word: u64) -> bool {
    word & !VALUE_MASK == 0
}

/// A bucket and an entry in it.
type Position = (u32, usize);

fn position<B: Editable>(table: &[B], hash: &VipHash, key: &PackedVipKey) -> Option<Position> {
    [hash.first(key.word), hash.second(key.word)]
        .into_iter()
        .flat_map(|bucket| (0..VIPS_PER_BUCKET).map(move |entry| (bucket, entry)))
        .find(|&(bucket, entry)| {
            let bucket = &table[bucket as usize];
            bucket.word(entry) ^ key.word <= VALUE_MASK && is_at(bucket, entry, key.address)
        })
}

/// An empty entry of a bucket. One that still has this address is best, then one that never had an address:
/// packets may still read the old address of any other.
fn empty_entry<B: Editable>(bucket: &B, address: [u64; 2]) -> Option<usize> {
    (0..VIPS_PER_BUCKET)
        .filter(|&entry| is_empty(bucket.word(entry)))
        .min_by_key(|&entry| match bucket.address(entry) {
            Some(old) if old != address => 1 + u32::from(old != [0; 2]),
            _ => 0,
        })
}

/// Adds a VIP, or changes its service. `wait_for_readers` returns when every packet that was looking up a VIP
/// when it was called is done; an IPv6 table seldom needs it, an IPv4 table never.
///
/// # Errors
/// [`BucketsFull`]; the table is unchanged.
pub fn insert<B: Editable>(
    table: &[B],
    hash: &VipHash,
    key: &PackedVipKey,
    service: u32,
    wait_for_readers: &mut dyn FnMut(),
) -> Result<(), BucketsFull> {
    debug_assert!(u64::from(service) <= SERVICE_MASK);
    let first = &table[hash.first(key.word) as usize];
    let (bucket, entry) = if let Some((bucket, entry)) = position(table, hash, key) {
        (&table[bucket as usize], entry)
    } else if let Some(entry) = empty_entry(first, key.address) {
        (first, entry)
    } else {
        let second = &table[hash.second(key.word) as usize];
        let entry = empty_entry(second, key.address).ok_or(BucketsFull)?;
        // Before the entry: if the agent is killed in between, packets still find every VIP.
        first.set_word(LAST, first.word(LAST) | OVERFLOWED);
        (second, entry)
    };
    if let Some(old) = bucket.address(entry)
        && old != key.address
    {
        if old != [0; 2] {
            // A packet that has read the old entry's word must not find half of each address.
            wait_for_readers();
        }
        bucket.set_address(entry, key.address);
    }
    let kept = bucket.word(entry) & OVERFLOWED;
    bucket.set_word(entry, key.word | kept | u64::from(service) & SERVICE_MASK);
    Ok(())
}

/// Removes a VIP; nothing changes if the table does not have it.
pub fn remove<B: Editable>(table: &[B], hash: &VipHash, key: &PackedVipKey) {
    let Some((number, entry)) = position(table, hash, key) else {
        return;
    };
    let bucket = &table[number as usize];
    bucket.set_word(entry, bucket.word(entry) & OVERFLOWED);
    let first = hash.first(key.word);
    if number != first && !has_overflowed(table, hash, first) {
        let first = &table[first as usize];
        first.set_word(LAST, first.word(LAST) & !OVERFLOWED);
    }
}

/// Whether some VIP of this bucket is in its other one. Reads the whole table, which is seldom needed.
fn has_overflowed<B: Editable>(table: &[B], hash: &VipHash, first: u32) -> bool {
    (0..).zip(table).any(|(number, bucket)| {
        number != first && words(bucket).any(|(_, word)| hash.first(word & !VALUE_MASK) == first)
    })
}

/// The entries of a bucket that are not empty.
fn words<B: Bucket>(bucket: &B) -> impl Iterator<Item = (usize, u64)> {
    (0..VIPS_PER_BUCKET)
        .map(|entry| (entry, bucket.word(entry)))
        .filter(|(_, word)| !is_empty(*word))
}

const fn service_of(word: u64) -> u32 {
    (word & SERVICE_MASK) as u32
}

/// Port in network order, and protocol.
fn port_and_protocol(word: u64) -> Option<([u8; 2], u8)> {
    let port = ((word >> PORT_SHIFT) as u16).to_le_bytes();
    Some((port, protocol_of((word >> PROTOCOL_SHIFT) as u32 & 7)?))
}

/// Every VIP of an IPv4 table and its service.
pub fn vips4(table: &[SharedVip4Bucket]) -> impl Iterator<Item = (Vip4Key, u32)> {
    table.iter().flat_map(words).filter_map(|(_, word)| {
        let (port, protocol) = port_and_protocol(word)?;
        let key = Vip4Key {
            address: ((word >> ADDRESS_SHIFT) as u32).to_le_bytes(),
            port,
            protocol,
        };
        Some((key, service_of(word)))
    })
}

/// Every VIP of an IPv6 table and its service.
pub fn vips6(table: &[SharedVip6Bucket]) -> impl Iterator<Item = (Vip6Key, u32)> {
    table.iter().flat_map(|bucket| {
        words(bucket).filter_map(|(entry, word)| {
            let (port, protocol) = port_and_protocol(word)?;
            let [prefix, host] = bucket.address(entry)?;
            let mut address = [0; 16];
            address[..8].copy_from_slice(&prefix.to_ne_bytes());
            address[8..].copy_from_slice(&host.to_ne_bytes());
            let key = Vip6Key {
                address,
                port,
                protocol,
            };
            Some((key, service_of(word)))
        })
    })
}
