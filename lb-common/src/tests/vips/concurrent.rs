//! The table of VIPs while it is changed: readers between any two stores of the writer.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    vec,
    vec::Vec,
};

use proptest::prelude::*;

use super::*;

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
