//! The objects of a cache by key: shards, each with a mutex, a clock and a count of bytes. The limits hold at any moment.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    hash::{BuildHasher as _, RandomState},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

use tokio::sync::watch;

use super::object::{KeyedRequest, Object};
use crate::config::CacheSettings;

/// Shards of a large cache.
const SHARDS: usize = 16;
/// A cache with fewer objects or bytes has one shard, so that its limits are exact.
const LARGE_ITEMS: u64 = 4_096;
const LARGE_BYTES: u64 = 32 << 20;
/// Variants of one URI that are kept.
const VARIANTS: usize = 8;
/// How long it is remembered that the answer for a key cannot be stored.
const UNCACHEABLE_FOR: Duration = Duration::from_secs(10);
/// Keys of which that is remembered, in each shard.
const UNCACHEABLE: usize = 4_096;

/// The key: scheme, host, path and query.
pub type Key = Arc<str>;

/// Totals of a cache.
#[derive(Debug, Default)]
pub struct Totals {
    /// Objects that were stored.
    pub stored: AtomicU64,
    /// Objects that had to go for others.
    pub evicted: AtomicU64,
    /// Objects that had expired.
    pub expired: AtomicU64,
}

#[derive(Debug, Default)]
struct Shard {
    objects: HashMap<Key, Vec<Arc<Object>>>,
    /// The clock: its hand is at the front. Objects that are gone stay in it until the hand or a sweep passes.
    order: VecDeque<(Key, Weak<Object>)>,
    bytes: u64,
    items: u64,
    uncacheable: HashMap<Key, Instant>,
    flights: HashMap<Key, watch::Receiver<()>>,
}

/// The objects of a cache.
#[derive(Debug)]
pub struct Store {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
    shard_bytes: u64,
    shard_items: u64,
    /// Totals.
    pub totals: Totals,
}

/// A fetch of a key. Others wait for it until it is dropped.
#[derive(Debug)]
pub struct Flight {
    store: Arc<Store>,
    key: Key,
    _landed: watch::Sender<()>,
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.store.shard(&self.key).flights.remove(&self.key);
    }
}

/// What a request for a key has to do.
#[derive(Debug)]
pub enum Turn {
    /// Fetch it; others wait.
    Fetch(Flight),
    /// Wait until somebody else has fetched it.
    Wait(watch::Receiver<()>),
    /// Fetch it without holding up others: its answer was not one to be stored.
    Pass,
}

impl Store {
    /// An empty store.
    #[must_use]
    pub fn new(settings: &CacheSettings) -> Self {
        let is_small =
            settings.bytes < LARGE_BYTES || (settings.items != 0 && settings.items < LARGE_ITEMS);
        let shards = if is_small { 1 } else { SHARDS };
        let items = if settings.items == 0 {
            u64::MAX
        } else {
            settings.items
        };
        Store {
            shards: (0..shards).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            shard_bytes: settings.bytes / shards as u64,
            shard_items: items / shards as u64,
            totals: Totals::default(),
        }
    }

    fn shard(&self, key: &str) -> MutexGuard<'_, Shard> {
        let number = self.hasher.hash_one(key) as usize % self.shards.len();
        self.shards[number]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn all(&self) -> impl Iterator<Item = MutexGuard<'_, Shard>> {
        self.shards
            .iter()
            .map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns the stored answer to a request, fresh or not.
    #[must_use]
    pub fn find(&self, key: &str, keyed: &KeyedRequest<'_>) -> Option<Arc<Object>> {
        let shard = self.shard(key);
        let variants = shard.objects.get(key)?;
        let object = variants.iter().rev().find(|object| object.matches(keyed))?;
        object.is_used.store(true, Relaxed);
        Some(Arc::clone(object))
    }

    /// Stores an object in the place of the one that `keyed` would have got.
    pub fn insert(&self, key: &Key, keyed: &KeyedRequest<'_>, object: Object) {
        let cost = object.cost() as u64;
        if cost > self.shard_bytes {
            return;
        }
        let object = Arc::new(object);
        let mut shard = self.shard(key);
        shard.uncacheable.remove(key);
        if let Some(variants) = shard.objects.get(key) {
            let old: Vec<_> = variants
                .iter()
                .filter(|variant| variant.matches(keyed))
                .cloned()
                .collect();
            let surplus = variants.len().saturating_sub(old.len() + VARIANTS - 1);
            let oldest: Vec<_> = variants.iter().take(surplus).cloned().collect();
            for gone in old.iter().chain(&oldest) {
                shard.forget(key, gone);
            }
        }
        while shard.bytes + cost > self.shard_bytes || shard.items + 1 > self.shard_items {
            if !shard.evict() {
                return;
            }
            self.totals.evicted.fetch_add(1, Relaxed);
        }
        shard.bytes += cost;
        shard.items += 1;
        shard
            .order
            .push_back((Arc::clone(key), Arc::downgrade(&object)));
        shard
            .objects
            .entry(Arc::clone(key))
            .or_default()
            .push(object);
        self.totals.stored.fetch_add(1, Relaxed);
    }

    /// Decides who fetches a key.
    #[must_use]
    pub fn turn(self: &Arc<Self>, key: &Key) -> Turn {
        let mut shard = self.shard(key);
        if let Some(until) = shard.uncacheable.get(key) {
            if *until > Instant::now() {
                return Turn::Pass;
            }
            shard.uncacheable.remove(key);
        }
        match shard.flights.entry(Arc::clone(key)) {
            Entry::Occupied(flight) => Turn::Wait(flight.get().clone()),
            Entry::Vacant(place) => {
                let (landed, waiting) = watch::channel(());
                place.insert(waiting);
                Turn::Fetch(Flight {
                    store: Arc::clone(self),
                    key: Arc::clone(key),
                    _landed: landed,
                })
            }
        }
    }

    /// Remembers that the answer for a key cannot be stored.
    pub fn note_uncacheable(&self, key: &Key) {
        let mut shard = self.shard(key);
        if shard.uncacheable.len() >= UNCACHEABLE {
            let now = Instant::now();
            shard.uncacheable.retain(|_, until| *until > now);
            if shard.uncacheable.len() >= UNCACHEABLE {
                shard.uncacheable.clear();
            }
        }
        let until = Instant::now() + UNCACHEABLE_FOR;
        shard.uncacheable.insert(Arc::clone(key), until);
    }

    /// Removes all answers of a key. Returns their number.
    pub fn purge(&self, key: &str) -> usize {
        let mut shard = self.shard(key);
        let variants = shard.objects.get(key).cloned().unwrap_or_default();
        for variant in &variants {
            shard.forget(key, variant);
        }
        variants.len()
    }

    /// Removes all answers whose key is chosen. Returns their number.
    pub fn purge_if(&self, is_chosen: impl Fn(&str, &Object) -> bool) -> usize {
        let mut count = 0;
        for mut shard in self.all() {
            let all = shard.objects.iter().flat_map(|(key, variants)| {
                variants.iter().map(move |object| (Arc::clone(key), object))
            });
            let gone: Vec<_> = all
                .filter(|(key, object)| is_chosen(key, object))
                .map(|(key, object)| (key, Arc::clone(object)))
                .collect();
            count += gone.len();
            for (key, object) in gone {
                shard.forget(&key, &object);
            }
            shard.order.retain(|(_, object)| object.strong_count() > 0);
        }
        count
    }

    /// Removes what has expired.
    pub fn sweep(&self) {
        let now = SystemTime::now();
        let count = self.purge_if(|_, object| object.is_expired(now));
        self.totals.expired.fetch_add(count as u64, Relaxed);
    }

    /// Returns the number of objects, and the bytes that they take.
    #[must_use]
    pub fn used(&self) -> (u64, u64) {
        self.all().fold((0, 0), |(items, bytes), shard| {
            (items + shard.items, bytes + shard.bytes)
        })
    }
}

impl Shard {
    /// Takes an object out of the map and the counts; it stays in the clock.
    fn forget(&mut self, key: &str, object: &Arc<Object>) -> bool {
        let Some(variants) = self.objects.get_mut(key) else {
            return false;
        };
        let Some(position) = variants.iter().position(|one| Arc::ptr_eq(one, object)) else {
            return false;
        };
        variants.remove(position);
        if variants.is_empty() {
            self.objects.remove(key);
        }
        self.bytes -= object.cost() as u64;
        self.items -= 1;
        true
    }

    /// Removes the first object at the hand that nobody used since the hand's last turn. Returns whether there was one.
    fn evict(&mut self) -> bool {
        while let Some((key, weak)) = self.order.pop_front() {
            let Some(object) = weak.upgrade() else {
                continue;
            };
            if object.is_used.swap(false, Relaxed) {
                self.order.push_back((key, weak));
                continue;
            }
            if self.forget(&key, &object) {
                return true;
            }
        }
        false
    }
}
