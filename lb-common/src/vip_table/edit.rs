//! Changing the table of VIPs while packets read it. There is one writer: the agent.

use super::{Bucket, Name, SharedVip4Bucket, SharedVip6Bucket, VipHash, is_at};
use crate::{
    limits::VIPS_PER_BUCKET,
    tables::vip::{
        ADDRESS_SHIFT, OVERFLOWED, PORT_SHIFT, PROTOCOL_SHIFT, SERVICE_MASK, VALUE_MASK,
        Vip4Bucket, Vip4Key, Vip6Bucket, Vip6Key, protocol_of,
    },
};

/// A bucket as its writer has it. Stores become visible in their order.
pub trait Editable: Bucket {
    /// Writes an entry.
    fn set_word(&self, entry: usize, word: u64);
    /// Writes the address beside an entry; never called where there are none.
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
pub struct NoPlace;

const LAST: usize = VIPS_PER_BUCKET - 1;

const fn is_empty(word: u64) -> bool {
    word & !VALUE_MASK == 0
}

/// A bucket and an entry in it.
type At = (u32, usize);

fn stands<B: Editable>(table: &[B], hash: &VipHash, name: &Name) -> Option<At> {
    [hash.first(name.word), hash.second(name.word)]
        .into_iter()
        .flat_map(|bucket| (0..VIPS_PER_BUCKET).map(move |entry| (bucket, entry)))
        .find(|&(bucket, entry)| {
            let bucket = &table[bucket as usize];
            bucket.word(entry) ^ name.word <= VALUE_MASK && is_at(bucket, entry, name.address)
        })
}

/// An empty entry of a bucket; of several one that has this address already, else one that had none: what
/// else was there may still be read.
fn room<B: Editable>(bucket: &B, address: [u64; 2]) -> Option<usize> {
    (0..VIPS_PER_BUCKET)
        .filter(|&entry| is_empty(bucket.word(entry)))
        .min_by_key(|&entry| match bucket.address(entry) {
            Some(had) if had != address => 1 + u32::from(had != [0; 2]),
            _ => 0,
        })
}

/// Adds a VIP, or changes its service. `wait_for_readers` returns when no packet is looking up a VIP any
/// more that was when it was called; an IPv6 table seldom needs it, an IPv4 table never.
///
/// # Errors
/// [`NoPlace`]; nothing has changed then.
pub fn insert<B: Editable>(
    table: &[B],
    hash: &VipHash,
    name: &Name,
    service: u32,
    wait_for_readers: &mut dyn FnMut(),
) -> Result<(), NoPlace> {
    debug_assert!(u64::from(service) <= SERVICE_MASK);
    let first = &table[hash.first(name.word) as usize];
    let (bucket, entry) = if let Some((bucket, entry)) = stands(table, hash, name) {
        (&table[bucket as usize], entry)
    } else if let Some(entry) = room(first, name.address) {
        (first, entry)
    } else {
        let second = &table[hash.second(name.word) as usize];
        let entry = room(second, name.address).ok_or(NoPlace)?;
        // Before the entry: an agent that is killed in between leaves no VIP that packets do not find.
        first.set_word(LAST, first.word(LAST) | OVERFLOWED);
        (second, entry)
    };
    if let Some(had) = bucket.address(entry)
        && had != name.address
    {
        if had != [0; 2] {
            // A packet that has the word of who was here must not find half of each address.
            wait_for_readers();
        }
        bucket.set_address(entry, name.address);
    }
    let kept = bucket.word(entry) & OVERFLOWED;
    bucket.set_word(entry, name.word | kept | u64::from(service) & SERVICE_MASK);
    Ok(())
}

/// Removes a VIP; it need not be there.
pub fn remove<B: Editable>(table: &[B], hash: &VipHash, name: &Name) {
    let Some((number, entry)) = stands(table, hash, name) else {
        return;
    };
    let bucket = &table[number as usize];
    bucket.set_word(entry, bucket.word(entry) & OVERFLOWED);
    let first = hash.first(name.word);
    if number != first && !has_overflowed(table, hash, first) {
        let first = &table[first as usize];
        first.set_word(LAST, first.word(LAST) & !OVERFLOWED);
    }
}

/// Whether some VIP of this bucket is in its other one. Seldom asked, so the whole table is read.
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
