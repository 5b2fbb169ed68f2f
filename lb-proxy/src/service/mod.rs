//! A service: its instances, and which of them a request goes to.

mod budget;
mod instance;
mod roster;

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use lb_model::duration;
use tokio::sync::watch;

pub use instance::{Fault, Instance, Lease, Recent, Totals};
pub use roster::{Answer, Listed, NameAddresses, Noted};

use crate::{
    cache::Cache,
    choice::{self, Candidates, Choice, Load, Typical, Weights},
    clock,
    config::ServiceSettings,
    members::status::Status,
    upstream::Connector,
};
use budget::Budget;
use roster::Roster;

/// The longest time that an instance is ejected, in times of `eject_for`.
const MOST_EJECTIONS: u32 = 10;
/// A failure counts for the choice like an answer that took this long.
const PENALTY: Duration = Duration::from_secs(1);

/// Whether an instance gets requests, as its source or its health check says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It does.
    Up,
    /// No new ones; those under way end.
    Draining,
    /// It is out of order.
    Down,
}

impl State {
    /// Returns its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            State::Up => "up",
            State::Draining => "draining",
            State::Down => "down",
        }
    }
}

/// What a source says of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its address.
    pub address: SocketAddr,
    /// Its weight; 0 is as [`State::Draining`].
    pub weight: u32,
    /// Whether it gets requests.
    pub state: State,
}

/// What the health check of an instance found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// What that makes of the instance.
    pub state: State,
    /// What the last probe found, in words.
    pub reason: String,
    /// Since when it has been so.
    pub since: Duration,
}

/// An instance with what its source said last.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The instance.
    pub instance: Arc<Instance>,
    /// What its source said.
    pub member: Member,
    /// What its health check found; `None` without a check, and before its first result.
    pub health: Option<Arc<Health>>,
}

impl Entry {
    /// Returns whether it gets requests, as its source and its health check say.
    #[must_use]
    pub fn state(&self) -> State {
        match (self.member.state, &self.health) {
            (State::Up, Some(health)) => health.state,
            (state, _) => state,
        }
    }

    fn is_wanted(&self) -> bool {
        self.member.weight > 0 && self.state() == State::Up
    }
}

/// The instances that requests may go to.
#[derive(Debug, Default)]
struct Table {
    instances: Vec<Arc<Instance>>,
    weights: Weights,
}

/// A way to choose, by its name in the settings.
#[derive(Debug)]
struct Way {
    name: String,
    choice: Box<dyn Choice>,
}

/// A service.
#[derive(Debug)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Its settings.
    pub settings: ArcSwap<ServiceSettings>,
    /// Connects to its instances.
    pub connector: ArcSwap<Connector>,
    /// Its cache.
    pub cache: ArcSwapOption<Cache>,
    /// What is known of the source of its instances.
    pub source: Status,
    /// Retries.
    pub retries: AtomicU64,
    /// Requests for which there was no instance.
    pub unserved: AtomicU64,
    /// Probes of the health check, by [`Probed`].
    pub probes: [AtomicU64; Probed::ALL.len()],
    /// Look-ups of names: those that gave addresses, and those that failed.
    pub lookups: [AtomicU64; 2],
    /// The members that it lists itself.
    roster: Roster,
    /// Tells that the instances or the settings may have changed.
    changed: watch::Sender<()>,
    /// Instances by address.
    entries: Mutex<BTreeMap<SocketAddr, Entry>>,
    table: ArcSwap<Table>,
    way: ArcSwap<Way>,
    budget: Budget,
    typical: Arc<Typical>,
    threads: usize,
    /// All requests, and how many there were in each of the last seconds.
    requests: AtomicU64,
    seconds: Mutex<VecDeque<u64>>,
    /// All requests of the seconds that have ended.
    counted: AtomicU64,
}

/// What a probe of a health check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probed {
    /// The instance serves.
    Healthy,
    /// It serves, and wants no new requests.
    Drain,
    /// It does not serve.
    Unhealthy,
    /// Nothing: this host was at fault.
    Inconclusive,
}

impl Probed {
    /// All of them, in the order of their counters.
    pub const ALL: [Probed; 4] = [
        Probed::Healthy,
        Probed::Drain,
        Probed::Unhealthy,
        Probed::Inconclusive,
    ];

    /// Returns the value of the label `result`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Probed::Healthy => "healthy",
            Probed::Drain => "drain",
            Probed::Unhealthy => "unhealthy",
            Probed::Inconclusive => "inconclusive",
        }
    }
}

/// Seconds whose requests are remembered.
const SECONDS: usize = 120;

fn way(name: &str) -> Way {
    let kind = choice::kind(name).or_else(|| choice::kind(choice::DEFAULT));
    Way {
        name: name.to_owned(),
        // The default is one of the kinds.
        choice: kind.map_or_else(|| (choice::KINDS[0].make)(), |kind| (kind.make)()),
    }
}

impl Service {
    /// Whether it has never heard from the source of its instances, and knows none.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        let settings = self.settings.load();
        let has_source =
            settings.members_file.is_some() || settings.vip.is_some() || settings.pool.is_some();
        drop(settings);
        has_source && !self.source.was_followed() && self.entries().is_empty()
    }

    /// A service without instances, for so many threads.
    #[must_use]
    pub fn new(settings: ServiceSettings, threads: usize) -> Self {
        let service = Service {
            name: settings.name.clone(),
            connector: ArcSwap::from_pointee(Connector::new(&settings)),
            way: ArcSwap::from_pointee(way(&settings.choice)),
            cache: ArcSwapOption::from_pointee(settings.cache.as_ref().map(Cache::new)),
            settings: ArcSwap::from_pointee(settings),
            source: Status::default(),
            retries: AtomicU64::new(0),
            unserved: AtomicU64::new(0),
            probes: Default::default(),
            lookups: Default::default(),
            roster: Roster::default(),
            changed: watch::Sender::default(),
            entries: Mutex::default(),
            table: ArcSwap::default(),
            budget: Budget::default(),
            typical: Arc::default(),
            threads,
            requests: AtomicU64::new(0),
            seconds: Mutex::default(),
            counted: AtomicU64::new(0),
        };
        service.rebuild();
        service
    }

    /// Gives it new settings. Instances, their load and their connections stay.
    pub fn configure(&self, settings: ServiceSettings) {
        let before = self.settings.load_full();
        if *before == settings {
            return;
        }
        if self.way.load().name != settings.choice {
            self.way.store(Arc::new(way(&settings.choice)));
        }
        if before.cache != settings.cache {
            let cache = settings.cache.as_ref().map(Cache::new).map(Arc::new);
            self.cache.store(cache);
        }
        let is_other_way = before.protocol != settings.protocol || before.tls != settings.tls;
        let connector = match is_other_way {
            true => Connector::new(&settings),
            false => Connector::following(&settings, &self.connector.load()),
        };
        self.connector.store(Arc::new(connector));
        self.settings.store(Arc::new(settings));
        if is_other_way {
            for entry in self.entries() {
                entry.instance.pool.clear();
            }
        }
        self.changed.send_replace(());
    }

    /// Returns what tells that its instances or its settings may have changed.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Makes these its instances. Those that stay keep their load, their connections and what is known of their health. Of
    /// two with the same address the last one counts.
    pub fn update(&self, members: impl IntoIterator<Item = Member>) {
        let members = members.into_iter().map(|member| (member.address, member));
        let members: BTreeMap<SocketAddr, Member> = members.collect();
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = entries.is_empty();
        let mut next = BTreeMap::new();
        for member in members.into_values() {
            let known = entries.remove(&member.address);
            let was_wanted = known.as_ref().is_some_and(Entry::is_wanted);
            let (instance, health) = match known {
                Some(entry) => (entry.instance, entry.health),
                None => {
                    let typical = Arc::clone(&self.typical);
                    let instance = Instance::new(member.address, self.threads, typical);
                    (Arc::new(instance), None)
                }
            };
            let entry = Entry {
                instance,
                member,
                health,
            };
            // The first instances of all share the load from the start.
            if entry.is_wanted() && !was_wanted && !is_first {
                entry.instance.start_slowly();
            }
            next.insert(member.address, entry);
        }
        // Idle connections to those that are gone end.
        for gone in entries.values() {
            gone.instance.pool.clear();
        }
        *entries = next;
        drop(entries);
        self.rebuild();
        self.changed.send_replace(());
    }

    /// Makes these its members: addresses, and the addresses of names as far as they are known.
    pub fn list(&self, listed: Vec<Listed>) {
        self.roster.list(listed, |members| self.update(members));
    }

    /// Forgets the members that it lists; its instances stay until something else names others.
    pub fn forget_listed(&self) {
        self.roster.forget();
    }

    /// Notes what servers said of a name's addresses (A and AAAA).
    pub fn note_answers(&self, name: &str, v4: Answer, v6: Answer) -> Noted {
        let noted = self
            .roster
            .note(name, v4, v6, |members| self.update(members));
        self.lookups[usize::from(noted.lifetime.is_none())].fetch_add(1, Relaxed);
        noted
    }

    /// Returns the names that it lists, with their addresses.
    #[must_use]
    pub fn names(&self) -> Vec<(String, NameAddresses)> {
        self.roster.names()
    }

    /// Returns whether nothing was ever said of a name that it lists.
    #[must_use]
    pub fn is_new_name(&self, name: &str) -> bool {
        self.roster.is_new(name)
    }

    /// Returns what tells that the names may have changed.
    #[must_use]
    pub fn name_changes(&self) -> watch::Receiver<()> {
        self.roster.changes()
    }

    /// Notes what a health check found of an instance; `None`: it is not checked any more. Returns the state that this ends,
    /// if it is another one now.
    pub fn note_health(
        &self,
        instance: &Arc<Instance>,
        found: Option<(State, &str)>,
    ) -> Option<State> {
        let ended = {
            let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
            let entry = entries
                .get_mut(&instance.address)
                .filter(|entry| Arc::ptr_eq(&entry.instance, instance))?;
            let was_wanted = entry.is_wanted();
            let before = entry.health.take();
            let known = before.as_ref().map_or(State::Up, |health| health.state);
            entry.health = found.map(|(state, reason)| {
                let begun = before.filter(|health| health.state == state);
                Arc::new(Health {
                    state,
                    reason: reason.to_owned(),
                    since: begun.map_or_else(clock::now, |health| health.since),
                })
            });
            if entry.is_wanted() && !was_wanted {
                entry.instance.start_slowly();
            }
            let state = found.map_or(State::Up, |(state, _)| state);
            (known != state).then_some(known)
        };
        if ended.is_some() {
            self.rebuild();
        }
        ended
    }

    /// Returns what is to be said of its instances that their health check finds down, if there are any.
    #[must_use]
    pub fn health_warning(&self) -> Option<String> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let is_down = |entry: &&Entry| {
            let health = entry.health.as_ref();
            health.is_some_and(|health| health.state == State::Down)
        };
        let mut down = entries.values().filter(is_down);
        let first = down.next()?;
        let health = first.health.as_ref()?;
        let time = clock::now().saturating_sub(health.since).as_secs();
        Some(format!(
            "service {}: the health check finds {} of {} instances down: {} since {}: {}",
            self.name,
            down.count() + 1,
            entries.len(),
            first.instance.address,
            duration::format(Duration::from_secs(time)),
            health.reason
        ))
    }

    /// Returns its instances.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.values().cloned().collect()
    }

    /// Returns the number of instances that requests may go to.
    #[must_use]
    pub fn eligible(&self) -> usize {
        self.table.load().instances.len()
    }

    /// Finds out what latency is usual, takes back instances whose ejection is over, and closes connections that were idle for
    /// long. Called about once a second.
    pub fn upkeep(&self) {
        let keep = self.settings.load().keep;
        let mut is_changed = false;
        let entries = self.entries();
        let latencies = entries.iter().filter(|entry| entry.is_wanted());
        let latencies = latencies.filter_map(|entry| entry.instance.latency());
        self.typical.set(latencies.collect());
        for entry in entries {
            is_changed |= entry.instance.readmit();
            entry.instance.sample();
            entry.instance.pool.expire(keep);
        }
        if is_changed {
            self.rebuild();
        }
    }

    /// Counts the requests of the last second. Called once a second.
    pub fn end_second(&self) {
        let requests = self.requests.swap(0, Relaxed);
        self.counted.fetch_add(requests, Relaxed);
        let mut seconds = self.seconds.lock().unwrap_or_else(PoisonError::into_inner);
        if seconds.len() == SECONDS {
            seconds.pop_front();
        }
        seconds.push_back(requests);
    }

    /// Returns all requests of the seconds that have ended.
    #[must_use]
    pub fn counted(&self) -> u64 {
        self.counted.load(Relaxed)
    }

    /// Returns the requests of each of the last seconds, the oldest first.
    #[must_use]
    pub fn seconds(&self) -> Vec<u64> {
        let seconds = self.seconds.lock().unwrap_or_else(PoisonError::into_inner);
        seconds.iter().copied().collect()
    }

    fn rebuild(&self) {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let eligible = entries
            .values()
            .filter(|entry| entry.is_wanted() && !entry.instance.is_ejected());
        let mut table = Table::default();
        let mut weights = Vec::new();
        for entry in eligible {
            weights.push((entry.instance.id, entry.member.weight));
            table.instances.push(Arc::clone(&entry.instance));
        }
        table.weights = Weights::new(weights);
        // Stored under the lock: a table must not be replaced by an older one.
        self.table.store(Arc::new(table));
    }

    /// Chooses an instance for a request that is not one of `tried`.
    #[must_use]
    pub fn choose(&self, key: u64, tried: &[u64]) -> Option<Lease> {
        let table = self.table.load();
        let settings = self.settings.load();
        let way = self.way.load();
        let candidates = Present {
            table: &table,
            settings: &settings,
            tried,
        };
        let mut random = |below| fastrand::u64(..below);
        let index = way.choice.choose(&candidates, key, &mut random)?;
        Some(Lease::new(Arc::clone(&table.instances[index])))
    }

    /// Counts a request for the budget of retries.
    pub fn count_request(&self) {
        self.requests.fetch_add(1, Relaxed);
        self.budget.request();
    }

    /// Takes a retry from the budget.
    #[must_use]
    pub fn may_retry(&self) -> bool {
        let allowed = self.budget.take(self.settings.load().retry_budget);
        if allowed {
            self.retries.fetch_add(1, Relaxed);
        }
        allowed
    }

    /// Counts a failure of an instance, and ejects it if it failed too often in a row.
    pub fn note_failure(&self, instance: &Arc<Instance>, fault: Fault) {
        let failures = instance.failed(fault, PENALTY);
        let settings = self.settings.load();
        if settings.eject_after == 0 || failures < settings.eject_after {
            return;
        }
        {
            let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
            let wanted = || entries.values().filter(|entry| entry.is_wanted());
            let ejected = wanted().filter(|entry| entry.instance.is_ejected()).count();
            let is_member = entries
                .get(&instance.address)
                .is_some_and(|entry| Arc::ptr_eq(&entry.instance, instance));
            // At least half of them stay.
            if !is_member || instance.is_ejected() || (ejected + 1) * 2 > wanted().count() {
                return;
            }
            instance.eject(settings.eject_for, MOST_EJECTIONS);
        }
        tracing::warn!(
            "service {}: instance {} is left out for a while: {failures} failures in a row ({})",
            self.name,
            instance.address,
            fault.name()
        );
        self.rebuild();
    }
}

/// The instances for one request.
struct Present<'a> {
    table: &'a Table,
    settings: &'a ServiceSettings,
    tried: &'a [u64],
}

impl Candidates for Present<'_> {
    fn weights(&self) -> &Weights {
        &self.table.weights
    }

    fn load(&self, index: usize) -> Load {
        self.table.instances[index].load(self.settings.slow_start)
    }

    fn is_available(&self, index: usize) -> bool {
        let instance = &self.table.instances[index];
        let has_room =
            self.settings.max_pending == 0 || instance.pending() < self.settings.max_pending;
        has_room && !self.tried.contains(&instance.id)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use lb_model::settings;

    use super::*;

    fn service(words: &serde_json::Value) -> Service {
        let mut map = words.as_object().unwrap().clone();
        map.insert("name".to_owned(), "s".into());
        Service::new(settings::from_map(&map).unwrap(), 1)
    }

    fn member(port: u16) -> Member {
        Member {
            address: (Ipv4Addr::LOCALHOST, port).into(),
            weight: 100,
            state: State::Up,
        }
    }

    fn fail(service: &Service, port: u16, times: u32) {
        let entries = service.entries();
        let address = member(port).address;
        let entry = entries.iter().find(|entry| entry.member.address == address);
        for _ in 0..times {
            service.note_failure(&entry.unwrap().instance, Fault::Status);
        }
    }

    #[test]
    fn failing_instances_are_left_out_but_never_more_than_half() {
        let service = service(&serde_json::json!({ "eject_after": 3, "eject_for": "100ms" }));
        service.update((1..=4).map(member));
        fail(&service, 1, 2);
        assert_eq!(service.eligible(), 4);
        fail(&service, 1, 1);
        assert_eq!(service.eligible(), 3);
        fail(&service, 2, 3);
        fail(&service, 3, 30);
        assert_eq!(service.eligible(), 2);
        // Their time is over in the end.
        std::thread::sleep(Duration::from_millis(150));
        service.upkeep();
        assert_eq!(service.eligible(), 4);
        // One of one stays.
        service.update([member(1)]);
        fail(&service, 1, 30);
        assert_eq!(service.eligible(), 1);
    }

    #[test]
    fn a_success_ends_a_row_of_failures() {
        let service = service(&serde_json::json!({ "eject_after": 3 }));
        service.update((1..=4).map(member));
        for _ in 0..10 {
            fail(&service, 1, 2);
            service.entries()[0].instance.succeeded();
        }
        assert_eq!(service.eligible(), 4);
    }

    #[test]
    fn instances_that_stay_keep_what_is_known_of_them() {
        let service = service(&serde_json::json!({ "slow_start": "1h" }));
        service.update([member(1), member(2)]);
        let lease = service.choose(0, &[]).unwrap();
        let (address, id) = (lease.instance().address, lease.instance().id);
        service.update([member(1), member(2), member(3)]);
        let entries = service.entries();
        let same = entries.iter().find(|entry| entry.member.address == address);
        assert_eq!(same.unwrap().instance.pending(), 1);
        // The first ones have their whole share; the new one starts slowly.
        let ramp = |port| {
            let address = member(port).address;
            let entry = entries.iter().find(|entry| entry.member.address == address);
            entry
                .unwrap()
                .instance
                .load(Duration::from_secs(3_600))
                .ramp
        };
        assert_eq!((ramp(1), ramp(2), ramp(3)), (1.0, 1.0, LEAST));
        drop(lease);
        assert!(service.choose(0, &[id]).unwrap().instance().id != id);
    }

    const LEAST: f64 = 0.05;

    #[test]
    fn an_address_that_is_named_twice_is_one_instance_that_stays() {
        let service = service(&serde_json::json!({}));
        let other = || Member {
            weight: 7,
            ..member(1)
        };
        service.update([member(1), other()]);
        let before = service.entries();
        service.update([member(1), other()]);
        let after = service.entries();
        assert_eq!((after.len(), after[0].member.weight), (1, 7));
        assert!(Arc::ptr_eq(&before[0].instance, &after[0].instance));
    }

    #[test]
    fn what_a_check_finds_decides_beside_the_source_and_ends_with_it() {
        let service = service(&serde_json::json!({ "slow_start": "1h" }));
        let draining = Member {
            state: State::Draining,
            ..member(3)
        };
        service.update([member(1), member(2), draining]);
        let entries = service.entries();
        let note = |index: usize, found| service.note_health(&entries[index].instance, found);
        let states = || {
            let entries = service.entries();
            entries
                .iter()
                .map(|entry| entry.state())
                .collect::<Vec<_>>()
        };
        assert_eq!(note(0, Some((State::Up, "fine"))), None);
        assert_eq!(note(0, Some((State::Down, "refused"))), Some(State::Up));
        assert_eq!(note(0, Some((State::Down, "silent"))), None);
        assert_eq!(note(1, Some((State::Draining, "busy"))), Some(State::Up));
        // Its source drains it, whatever its check finds.
        assert_eq!(note(2, Some((State::Up, "fine"))), None);
        assert_eq!(states(), [State::Down, State::Draining, State::Draining]);
        assert!(service.choose(0, &[]).is_none());
        let warning = service.health_warning().unwrap();
        assert!(
            warning.contains("1 of 3 instances down: 127.0.0.1:1 since 0s: silent"),
            "{warning}"
        );
        // An update by the source changes nothing of that.
        service.update([member(1), member(2), draining]);
        assert_eq!(service.eligible(), 0);
        assert_eq!(note(0, Some((State::Up, "fine"))), Some(State::Down));
        assert_eq!(note(1, None), Some(State::Draining));
        assert_eq!(service.eligible(), 2);
        let ramp = service.entries()[0]
            .instance
            .load(Duration::from_secs(3_600))
            .ramp;
        assert_eq!(ramp, LEAST);
        assert_eq!(service.health_warning(), None);
        // A result for one that was replaced is for nobody.
        let replaced = Arc::clone(&entries[0].instance);
        service.update([member(2)]);
        service.update([member(1), member(2)]);
        assert_eq!(
            service.note_health(&replaced, Some((State::Down, "late"))),
            None
        );
        assert_eq!(service.eligible(), 2);
    }

    #[test]
    fn who_drains_or_is_down_gets_nothing() {
        let service = service(&serde_json::json!({}));
        let down = |port, state, weight| Member {
            state,
            weight,
            ..member(port)
        };
        service.update([
            down(1, State::Down, 100),
            down(2, State::Draining, 100),
            down(3, State::Up, 0),
        ]);
        assert!(service.choose(0, &[]).is_none());
    }

    #[test]
    fn a_full_instance_gets_nothing_more() {
        let service = service(&serde_json::json!({ "max_pending": 2 }));
        service.update([member(1), member(2)]);
        let leases: Vec<_> = (0..4).map(|_| service.choose(0, &[]).unwrap()).collect();
        assert!(service.choose(0, &[]).is_none());
        drop(leases);
        assert!(service.choose(0, &[]).is_some());
    }
}
