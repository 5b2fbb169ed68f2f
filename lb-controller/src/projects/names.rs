//! The names of load balancers in DNS: those that serve, with the addresses of the nodes that do.
//!
//! What is in the zone is stored, so a controller that begins again answers as before from its first moment. A load balancer of
//! which no node serves keeps its last addresses: its nodes are replaced at them, and resolvers need not learn anything.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use lb_clients::backoff::Backoff;
use lb_dns::{Addresses, Counts, DnsSpec, Push, RecordName, Serial, Server, SharedZone, Zone};
use lb_model::dns::DomainError;
use lb_serve::vital::Registrar;
use tokio::sync::{Notify, watch};

use crate::{
    controller::Controller,
    keeper::{Changes, Keeper},
    orphans::OrphanKind,
    records::{Counter, Stored, Unreadable},
};

/// See [`lb_serve::vital`].
pub const SERVER: &str = "the server of DNS";
/// See [`lb_serve::vital`].
pub const PUSHER: &str = "the task that pushes names to a DNS server";
/// How often it is looked whether the server still has what was pushed.
const COMPARE: Duration = Duration::from_secs(60);
/// Pauses after failures.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// The key of the warning that names are not pushed.
const WARNING: &str = "dns push";

/// The names as they were stored.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StoredNames {
    /// The addresses of each name.
    pub names: BTreeMap<RecordName, Addresses>,
    /// The last serial number of the zone.
    pub serial: Option<u32>,
}

impl StoredNames {
    /// Reads what is stored.
    ///
    /// # Errors
    /// A record cannot be read.
    pub fn read(stored: &Stored) -> Result<Self, Unreadable> {
        let mut names = BTreeMap::new();
        for (key, addresses) in stored.all::<Addresses>()? {
            let name: RecordName = key.parse().map_err(|error: DomainError| {
                stored.unreadable::<Addresses>(&key, error.to_string())
            })?;
            names.insert(name, addresses);
        }
        let serial = stored.counter(Counter::SERIAL)?;
        Ok(StoredNames {
            names,
            serial: serial.and_then(|serial| u32::try_from(serial).ok()),
        })
    }
}

/// The zone, and what gets it.
#[derive(Clone, Debug)]
pub struct Names(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    spec: DnsSpec,
    zone: Mutex<Zone>,
    shared: SharedZone,
    keeper: Keeper,
    counters: Option<Arc<lb_dns::Counters>>,
    push: Option<Push>,
    /// Whether the store has never had a name.
    is_new: bool,
    changed: Notify,
    /// What the other server has, as it last said; `None` before it has.
    pushed: Mutex<Option<Pushed>>,
}

/// What became of the names that were pushed.
#[derive(Debug, Default)]
struct Pushed {
    /// The serial number of the zone that was pushed.
    serial: u32,
    /// Names that the server does not have, each with the reason.
    failed: BTreeMap<RecordName, String>,
}

impl Names {
    /// Begins with the names that are stored, and listens.
    ///
    /// # Errors
    /// An address that cannot be listened on.
    pub fn start(
        spec: DnsSpec,
        stored: StoredNames,
        controller: &Controller,
        keeper: Keeper,
        parts: &Registrar,
        stopping: watch::Receiver<bool>,
    ) -> Result<Self, lb_dns::ServeError> {
        // A number that is lost goes on from the time, and one that is later than that counts on.
        let mut zone = Zone::new(&spec, Serial::now());
        if let Some(serial) = stored.serial {
            zone.advance(Serial::new(serial).next());
        }
        for (name, addresses) in &stored.names {
            // What was stored was checked.
            let _ = zone.set(name, addresses);
        }
        let shared = SharedZone::new(zone.clone());
        let mut counters = None;
        if !spec.listen.is_empty() {
            let server = Server::bind(&spec, shared.clone())?;
            counters = Some(server.counters());
            parts.spawn(SERVER, spec.zone.to_string(), async move {
                if let Err(error) = server.run(stopping).await {
                    // The end of the part ends the process, which says so.
                    tracing::error!("the server of DNS: {error}");
                }
            });
        }
        let push = spec.push.as_ref().map(|push| Push::new(&spec, push));
        let names = Names(Arc::new(Inner {
            spec,
            zone: Mutex::new(zone),
            shared,
            keeper,
            counters,
            push,
            is_new: stored.serial.is_none(),
            changed: Notify::new(),
            pushed: Mutex::default(),
        }));
        if names.0.push.is_some() {
            let task = names.clone().keep_pushed(controller.clone());
            parts.spawn(PUSHER, names.0.spec.zone.to_string(), task);
        }
        Ok(names)
    }

    fn zone(&self) -> MutexGuard<'_, Zone> {
        self.0.zone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pushed(&self) -> MutexGuard<'_, Option<Pushed>> {
        self.0.pushed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the server of DNS has counted, if there is one.
    #[must_use]
    pub fn counts(&self) -> Option<Counts> {
        self.0.counters.as_ref().map(|counters| counters.read())
    }

    /// Gives each load balancer its name; one that has no address now keeps those that it had.
    pub fn follow(&self, wanted: &BTreeMap<RecordName, BTreeSet<IpAddr>>) {
        let (zone, changes) = {
            let mut zone = self.zone();
            let before = names_of(&zone);
            let mut names: BTreeMap<RecordName, Addresses> = BTreeMap::new();
            for (name, addresses) in wanted {
                let kept = if addresses.is_empty() {
                    before.get(name)
                } else {
                    Some(addresses)
                };
                names.extend(kept.map(|addresses| (name.clone(), addresses.clone())));
            }
            // The addresses are those of nodes, which were checked.
            match zone.replace(&names) {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    tracing::error!("names of load balancers: {error}");
                    return;
                }
            }
            let mut changes = Changes::default();
            for name in before.keys().filter(|name| !names.contains_key(*name)) {
                changes.remove::<Addresses>(name);
            }
            for (name, addresses) in &names {
                if before.get(name) != Some(addresses) {
                    changes.put(name, addresses);
                }
            }
            changes.put(Counter::SERIAL, &Counter(zone.serial().get().into()));
            (zone.clone(), changes)
        };
        self.0.shared.publish(zone);
        self.0.changed.notify_one();
        // Clients need the names now; they are stored with whatever is stored next.
        self.0.keeper.owe(changes);
    }

    /// The full name of a load balancer.
    #[must_use]
    pub fn full(&self, name: &RecordName) -> String {
        name.in_zone(&self.0.spec.zone).to_string()
    }

    /// Whether clients can look a name up, or why not.
    ///
    /// # Errors
    /// What is missing, in words.
    pub fn is_known(&self, name: &RecordName) -> Result<String, String> {
        let (has_it, serial) = {
            let zone = self.zone();
            (zone.addresses(name).is_some(), zone.serial().get())
        };
        let full = self.full(name);
        if !has_it {
            return Err(format!("{full} has no address before a node serves"));
        }
        let Some(push) = &self.0.spec.push else {
            return Ok(format!("{full} is served"));
        };
        match &*self.pushed() {
            Some(pushed) => match pushed.failed.get(name) {
                Some(why) => Err(format!("{full}: {why}")),
                None if pushed.serial == serial => {
                    Ok(format!("{full} was pushed to {}", push.server))
                }
                None => Err(format!("{full} is being pushed to {}", push.server)),
            },
            None => Err(format!("{full} was not pushed to {} yet", push.server)),
        }
    }

    /// Keeps the other server's names as they are wanted, until the process ends.
    async fn keep_pushed(self, controller: Controller) {
        let Some(push) = &self.0.push else {
            return;
        };
        let orphans = controller.orphans();
        let server = self.0.spec.push.as_ref();
        let server = server.map_or_else(String::new, |push| push.server.to_string());
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        // Names that this process has wanted: it knows when they are wanted no more.
        let mut known: BTreeSet<RecordName> = BTreeSet::new();
        loop {
            let (serial, names) = {
                let zone = self.zone();
                (zone.serial().get(), names_of(&zone))
            };
            known.extend(names.keys().cloned());
            let mut due = BTreeSet::new();
            let mut has_left = false;
            let collect = |strangers: BTreeSet<RecordName>| {
                let (mut ended, unknown): (BTreeSet<_>, BTreeSet<_>) =
                    strangers.into_iter().partition(|name| known.contains(name));
                let shown = unknown.iter().map(|name| (self.full(name), server.clone()));
                if self.0.is_new && known.is_empty() {
                    // One that has lost its store must not remove what it finds.
                    orphans.see_kept(PUSHER, OrphanKind::Name, shown);
                } else {
                    let over = orphans.see(PUSHER, OrphanKind::Name, shown);
                    let over: BTreeSet<String> = over.into_iter().collect();
                    let is_over = |name: &&RecordName| over.contains(&self.full(name));
                    due = unknown.iter().filter(is_over).cloned().collect();
                }
                has_left = unknown.len() > due.len();
                ended.extend(due.iter().cloned());
                ended
            };
            let warning = match push.reconcile_with(&names, collect).await {
                Ok(report) => {
                    for name in &report.removed {
                        known.remove(name);
                        if due.contains(name) {
                            tracing::warn!(
                                "nothing refers to the name {name} at {server}: it is removed"
                            );
                            orphans.removed(OrphanKind::Name);
                        }
                    }
                    let failed = report.failed.iter();
                    let failed: BTreeMap<RecordName, String> = failed
                        .map(|(name, error)| (name.clone(), error.to_string()))
                        .collect();
                    let warning = failed.iter().next().map(|(name, error)| {
                        format!(
                            "{} names are not pushed, such as {name}: {error}",
                            failed.len()
                        )
                    });
                    *self.pushed() = Some(Pushed { serial, failed });
                    warning
                }
                Err(error) => Some(format!("names are not pushed: {error}")),
            };
            let pause = if warning.is_some() {
                backoff.pause()
            } else {
                backoff.reset();
                let grace = orphans.grace().filter(|_| has_left);
                grace.map_or(COMPARE, |grace| grace.min(COMPARE))
            };
            controller.set_warning(WARNING, warning);
            tokio::select! {
                () = self.0.changed.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}

/// The names of a zone with their addresses.
fn names_of(zone: &Zone) -> BTreeMap<RecordName, Addresses> {
    let names = zone.names();
    names
        .map(|(name, addresses)| (name, addresses.iter().copied().collect()))
        .collect()
}
