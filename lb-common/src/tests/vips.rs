//! The table of VIPs against a plain map.

mod concurrent;

use std::{collections::BTreeMap, vec::Vec};

use proptest::prelude::*;

use crate::{
    limits::{MAX_SERVICES, VIPS_PER_BUCKET},
    tables::vip::{PROTOCOLS, VALUE_MASK, Vip4Key, Vip6Key},
    vip_table::{
        AddressDigest, Bucket, PackedVipKey, SharedVip4Bucket, SharedVip6Bucket, VipHash,
        edit::{self, BucketsFull, Editable},
        look_up,
    },
};

const SECRET: [u64; 2] = [0x0123_4567_89AB_CDEF, 0xFEDC_BA98_7654_3210];

fn find<B: Bucket>(table: &[B], hash: &VipHash, name: &PackedVipKey) -> Option<u32> {
    look_up(hash, name, |bucket| table.get(bucket as usize))
}

fn key4(number: u16) -> Vip4Key {
    let [a, b] = (number / 8).to_be_bytes();
    Vip4Key {
        address: [10, 0, a, b],
        port: [[0, 0], [0, 80]][usize::from(number / 4 % 2)],
        protocol: PROTOCOLS[usize::from(number % 4)],
    }
}

fn key6(number: u16) -> Vip6Key {
    let [a, b] = (number / 8).to_be_bytes();
    let mut address = [0; 16];
    (address[3], address[15]) = (a, b);
    let Vip4Key { port, protocol, .. } = key4(number);
    Vip6Key {
        address,
        port,
        protocol,
    }
}

/// Inserts (with a service) and removals, by the number of the key.
fn changes(keys: u16) -> impl Strategy<Value = Vec<(u16, Option<u32>)>> {
    let service = prop_oneof![2 => (0..MAX_SERVICES).prop_map(Some), 1 => Just(None)];
    prop::collection::vec((0..keys, service), 1..200)
}

/// Runs changes on a table and a map; they agree after each.
fn agrees<B: Editable>(
    table: &[B],
    changes: &[(u16, Option<u32>)],
    name: impl Fn(u16) -> PackedVipKey,
) {
    let hash = VipHash::new(SECRET, table.len() as u32);
    let mut map = BTreeMap::new();
    for &(number, service) in changes {
        match service {
            Some(service) => {
                let placed = edit::insert(table, &hash, &name(number), service, &mut || {});
                if placed.is_ok() {
                    map.insert(number, service);
                }
            }
            None => {
                edit::remove(table, &hash, &name(number));
                map.remove(&number);
            }
        }
        for number in 0..128 {
            assert_eq!(
                find(table, &hash, &name(number)),
                map.get(&number).copied(),
                "{number} after {changes:?}"
            );
        }
    }
}

proptest! {
    #[test]
    fn a_table_is_a_map(changes in changes(128)) {
        let four: Vec<_> = (0..4).map(|_| SharedVip4Bucket::default()).collect();
        agrees(&four, &changes, |number| PackedVipKey::of4(&key4(number)));
        let digest = AddressDigest::new(SECRET);
        let six: Vec<_> = (0..4).map(|_| SharedVip6Bucket::default()).collect();
        agrees(&six, &changes, |number| PackedVipKey::of6(&digest, &key6(number)));
        // All addresses look alike but for themselves.
        let none = AddressDigest { factors: [0; 2] };
        let six: Vec<_> = (0..4).map(|_| SharedVip6Bucket::default()).collect();
        agrees(&six, &changes, |number| PackedVipKey::of6(&none, &key6(number)));
    }

    #[test]
    fn what_was_put_in_is_listed(numbers in prop::collection::btree_map(any::<u16>(), 0..MAX_SERVICES, 0..60)) {
        let hash = VipHash::new(SECRET, 1_024);
        let digest = AddressDigest::new(SECRET);
        let four: Vec<_> = (0..1_024).map(|_| SharedVip4Bucket::default()).collect();
        let six: Vec<_> = (0..1_024).map(|_| SharedVip6Bucket::default()).collect();
        for (&number, &service) in &numbers {
            edit::insert(&four, &hash, &PackedVipKey::of4(&key4(number)), service, &mut || {}).unwrap();
            edit::insert(&six, &hash, &PackedVipKey::of6(&digest, &key6(number)), service, &mut || {}).unwrap();
        }
        let wanted: BTreeMap<_, _> = numbers.iter().map(|(&n, &s)| (key4(n), s)).collect();
        prop_assert_eq!(edit::vips4(&four).collect::<BTreeMap<_, _>>(), wanted);
        let wanted: BTreeMap<_, _> = numbers.iter().map(|(&n, &s)| (key6(n), s)).collect();
        prop_assert_eq!(edit::vips6(&six).collect::<BTreeMap<_, _>>(), wanted);
    }
}

#[test]
fn a_full_table_says_so_and_stays_as_it_was() {
    let table: Vec<_> = (0..2).map(|_| SharedVip4Bucket::default()).collect();
    let hash = VipHash::new(SECRET, 2);
    let insert = |number| {
        let name = PackedVipKey::of4(&key4(number));
        edit::insert(&table, &hash, &name, u32::from(number), &mut || {})
    };
    for number in 0..8 {
        assert_eq!(insert(number), Ok(()));
    }
    assert_eq!(insert(8), Err(BucketsFull));
    assert_eq!(find(&table, &hash, &PackedVipKey::of4(&key4(8))), None);
    for number in 0..8 {
        let found = find(&table, &hash, &PackedVipKey::of4(&key4(number)));
        assert_eq!(found, Some(u32::from(number)));
    }
}

/// Of as many VIPs as there can be, next to each other as operators number them, nearly all have a place in
/// tables of a bucket for each, and nearly all in their first.
#[test]
fn rows_of_vips_are_spread() {
    let last = MAX_SERVICES - 1;
    let address = |number: u32| (0x0A00_0000 + number).to_be_bytes();
    let one = |number, address: [u8; 4], port: u16, protocol| {
        let key = Vip4Key {
            address,
            port: port.to_be_bytes(),
            protocol,
        };
        (key, number)
    };
    let rows: [Vec<(Vip4Key, u32)>; 4] = [
        (0..last)
            .flat_map(|i| [one(i, address(i), 80, 6), one(0, address(i), 0, 1)])
            .collect(),
        (0..last)
            .flat_map(|i| {
                [
                    one(i, address(i << 8), 443, 17),
                    one(0, address(i << 8), 0, 1),
                ]
            })
            .collect(),
        (0..last)
            .map(|i| one(i, address(1), 1_024 + i as u16, 6))
            .collect(),
        (0..last)
            .map(|i| one(i, address(i / 2), 443, [6, 17][i as usize % 2]))
            .collect(),
    ];
    let buckets = 2 * MAX_SERVICES;
    let hash = VipHash::new(SECRET, buckets);
    for row in rows {
        let table: Vec<_> = (0..buckets).map(|_| SharedVip4Bucket::default()).collect();
        let (mut second, mut none) = (0, 0);
        for (key, service) in &row {
            let name = PackedVipKey::of4(key);
            if edit::insert(&table, &hash, &name, *service, &mut || {}).is_err() {
                none += 1;
                continue;
            }
            let first = &table[hash.first(name.word) as usize];
            second +=
                usize::from((0..VIPS_PER_BUCKET).all(|i| first.word(i) ^ name.word > VALUE_MASK));
        }
        assert!(
            second <= row.len() / 100 && none <= 2,
            "{second} and {none} of {}, from {:?}",
            row.len(),
            row[0]
        );
    }
}
