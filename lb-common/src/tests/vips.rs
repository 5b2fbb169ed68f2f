//! The table of VIPs against a plain map, alone and while it is changed.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    vec,
    vec::Vec,
};

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

/// What a writer did.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// Stored a word of a bucket: an entry, or (from `VIPS_PER_BUCKET` on) half an address.
    Store(u32, usize, u64),
    /// Waited for readers.
    Wait,
    /// A change is complete.
    Done,
}

const WORDS: usize = 3 * VIPS_PER_BUCKET;

/// A bucket of addresses whose writer is watched.
struct Watched {
    number: u32,
    words: [Cell<u64>; WORDS],
    log: Rc<RefCell<Vec<Event>>>,
}

impl Watched {
    fn store(&self, at: usize, value: u64) {
        self.words[at].set(value);
        self.log
            .borrow_mut()
            .push(Event::Store(self.number, at, value));
    }
}

impl Bucket for Watched {
    fn word(&self, entry: usize) -> u64 {
        self.words[entry].get()
    }

    fn address(&self, entry: usize) -> Option<[u64; 2]> {
        let at = VIPS_PER_BUCKET + 2 * entry;
        Some([self.words[at].get(), self.words[at + 1].get()])
    }
}

impl Editable for Watched {
    fn set_word(&self, entry: usize, word: u64) {
        self.store(entry, word);
    }

    fn set_address(&self, entry: usize, [prefix, host]: [u64; 2]) {
        let at = VIPS_PER_BUCKET + 2 * entry;
        self.store(at, prefix);
        self.store(at + 1, host);
    }
}

const BUCKETS: u32 = 2;
/// Addresses whose halves make others' addresses when they are mixed, on one port.
const NAMES: u16 = 9;

fn mixed(number: u16) -> PackedVipKey {
    let mut address = [0; 16];
    (address[7], address[15]) = (1 + (number % 3) as u8, 1 + (number / 3) as u8);
    let key = Vip6Key {
        address,
        port: [0, 80],
        protocol: 6,
    };
    PackedVipKey::of6(&AddressDigest { factors: [0; 2] }, &key)
}

/// Runs changes; what was stored, and the map after each change (the empty one first).
fn record(changes: &[(u16, Option<u32>)]) -> (Vec<Event>, Vec<BTreeMap<u16, u32>>) {
    let log = Rc::new(RefCell::new(Vec::new()));
    let table: Vec<_> = (0..BUCKETS)
        .map(|number| Watched {
            number,
            words: Default::default(),
            log: Rc::clone(&log),
        })
        .collect();
    let hash = VipHash::new(SECRET, BUCKETS);
    let mut map = BTreeMap::new();
    let mut maps = vec![map.clone()];
    for &(number, service) in changes {
        let name = mixed(number);
        match service {
            Some(service) => {
                let mut wait = || log.borrow_mut().push(Event::Wait);
                if edit::insert(&table, &hash, &name, service, &mut wait).is_ok() {
                    map.insert(number, service);
                }
            }
            None => {
                edit::remove(&table, &hash, &name);
                map.remove(&number);
            }
        }
        maps.push(map.clone());
        log.borrow_mut().push(Event::Done);
    }
    (log.take(), maps)
}

/// A recorded table under a reader between whose loads the writer goes on.
struct Replay<'a> {
    events: &'a [Event],
    words: RefCell<[[u64; WORDS]; BUCKETS as usize]>,
    at: Cell<usize>,
    done: Cell<usize>,
    /// Decides how far the writer comes before each load.
    random: Cell<u64>,
}

impl Replay<'_> {
    /// The writer's next event; it does not go past a wait while a reader is active.
    fn step(&self, reading: bool) -> bool {
        match self.events.get(self.at.get()) {
            None => return false,
            Some(Event::Wait) if reading => return false,
            Some(Event::Wait) => {}
            Some(Event::Done) => self.done.set(self.done.get() + 1),
            Some(&Event::Store(bucket, at, value)) => {
                self.words.borrow_mut()[bucket as usize][at] = value;
            }
        }
        self.at.set(self.at.get() + 1);
        true
    }

    fn load(&self, bucket: u32, at: usize) -> u64 {
        let random = self.random.get().wrapping_mul(0x5851_F42D_4C95_7F2D) + 0x1405;
        self.random.set(random);
        for _ in 0..random >> 61 {
            self.step(true);
        }
        self.words.borrow()[bucket as usize][at]
    }
}

struct Slow<'a> {
    number: u32,
    replay: &'a Replay<'a>,
}

impl Bucket for Slow<'_> {
    fn word(&self, entry: usize) -> u64 {
        self.replay.load(self.number, entry)
    }

    fn address(&self, entry: usize) -> Option<[u64; 2]> {
        let at = VIPS_PER_BUCKET + 2 * entry;
        let prefix = self.replay.load(self.number, at);
        Some([prefix, self.replay.load(self.number, at + 1)])
    }
}

fn replay(events: &[Event], random: u64) -> Replay<'_> {
    Replay {
        events,
        words: RefCell::default(),
        at: Cell::new(0),
        done: Cell::new(0),
        random: Cell::new(random),
    }
}

fn tables<'a>(replay: &'a Replay<'a>) -> Vec<Slow<'a>> {
    (0..BUCKETS).map(|number| Slow { number, replay }).collect()
}

proptest! {
    /// Between any two stores a reader finds what was there before the change or what is there after it.
    #[test]
    fn each_store_leaves_the_old_or_the_new(changes in changes(NAMES)) {
        let (events, maps) = record(&changes);
        let hash = VipHash::new(SECRET, BUCKETS);
        for stop in 0..=events.len() {
            let state = replay(&events[..stop], 0);
            while state.step(false) {}
            let table = tables(&state);
            let before = &maps[state.done.get()];
            let after = maps.get(state.done.get() + 1).unwrap_or(before);
            for number in 0..NAMES {
                let found = find(&table, &hash, &mixed(number));
                prop_assert!(
                    found == before.get(&number).copied() || found == after.get(&number).copied(),
                    "{number}: {found:?} after {stop} of {events:?}"
                );
            }
        }
    }

    /// A reader that the writer overtakes finds what was there at some time while it read.
    #[test]
    fn a_slow_reader_finds_what_there_was(changes in changes(NAMES), seed: u64) {
        let (events, maps) = record(&changes);
        let hash = VipHash::new(SECRET, BUCKETS);
        let state = replay(&events, seed);
        let table = tables(&state);
        for reader in 0.. {
            let number = reader % NAMES;
            let begun = state.done.get();
            let found = find(&table, &hash, &mixed(number));
            let ended = (state.done.get() + 1).min(maps.len() - 1);
            prop_assert!(
                maps[begun..=ended].iter().any(|map| map.get(&number).copied() == found),
                "{number}: {found:?} between {begun} and {ended} of {events:?}"
            );
            if !state.step(false) {
                break;
            }
        }
    }
}
