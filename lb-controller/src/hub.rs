//! Drivers, each with one task that lists: for all pools of the driver together, when somebody asks, when the driver hints at
//! a change, and once in a while ([`Driver::list_age`]), because hints can be lost.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use lb_drivers::{Bounded, Driver, DriverError, Listed, OpenError, Owned};
use lb_hosts::remote::{Remote, RemoteDriver};
use lb_model::{component::Component, host::HostName, pool::PoolName};
use lb_serve::vital::Registrar;
use tokio::sync::{
    Notify,
    broadcast::error::{RecvError, TryRecvError},
    watch,
};

/// See [`lb_serve::vital`].
pub const LISTER: &str = "the task that lists a driver's instances";
/// The shortest: hints that come together are one.
const CALM: Duration = Duration::from_millis(20);
/// After a list that failed.
const RETRY: Duration = Duration::from_secs(1);

/// What a driver listed.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The number of the list: it began after everything that was asked for with this number or a lower one.
    pub began: u64,
    /// The instances by name, or why they are not known.
    pub listed: Result<Arc<[Listed]>, DriverError>,
}

/// The instances of a pool among those that are listed by name: each of thousands of pools looks for its own.
#[must_use]
pub fn of_pool<'a>(listed: &'a [Listed], pool: &PoolName) -> &'a [Listed] {
    let first = listed.partition_point(|one| one.name.pool < *pool);
    let listed = &listed[first..];
    &listed[..listed.partition_point(|one| one.name.pool == *pool)]
}

/// A driver that is open, for all pools with the same settings.
#[derive(Debug)]
pub struct Engine {
    host: HostName,
    driver: Arc<dyn Driver>,
    snapshots: watch::Receiver<Snapshot>,
    next: Arc<AtomicU64>,
    wanted: Arc<Notify>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Engine {
    #[cfg(test)]
    pub(crate) fn start(driver: Arc<dyn Driver>, deadline: Duration, parts: &Registrar) -> Self {
        Self::of(
            HostName::local(),
            driver,
            deadline,
            Arc::new(AtomicU64::new(1)),
            parts,
        )
    }

    /// `next` has the number of the next list, of whichever engine: so numbers of lists of several hosts can be compared.
    fn of(
        host: HostName,
        driver: Arc<dyn Driver>,
        deadline: Duration,
        next: Arc<AtomicU64>,
        parts: &Registrar,
    ) -> Self {
        let (sender, snapshots) = watch::channel(Snapshot {
            began: 0,
            listed: Err(DriverError::Unreachable {
                engine: "the driver".to_owned(),
                why: "it was not asked yet".to_owned(),
            }),
        });
        let wanted = Arc::new(Notify::new());
        wanted.notify_one();
        let listing = list(
            Bounded::new(Arc::clone(&driver), deadline),
            sender,
            Arc::clone(&next),
            Arc::clone(&wanted),
        );
        let what = format!("{} of {host}", driver.kind());
        let task = parts.spawn_mortal(LISTER, what, listing);
        Engine {
            host,
            driver,
            snapshots,
            next,
            wanted,
            task,
        }
    }

    /// The driver; each call of it has this deadline.
    #[must_use]
    pub fn bounded(&self, deadline: Duration) -> Bounded {
        Bounded::new(Arc::clone(&self.driver), deadline)
    }

    /// The host whose driver it is.
    #[must_use]
    pub const fn host(&self) -> &HostName {
        &self.host
    }

    /// What it lists, and each newer list.
    #[must_use]
    pub fn snapshots(&self) -> watch::Receiver<Snapshot> {
        self.snapshots.clone()
    }

    /// Asks for a list that begins from now on, and returns its number.
    pub fn relist(&self) -> u64 {
        let number = self.next.load(Ordering::SeqCst);
        self.wanted.notify_one();
        number
    }
}

async fn list(
    driver: Bounded,
    sender: watch::Sender<Snapshot>,
    next: Arc<AtomicU64>,
    wanted: Arc<Notify>,
) {
    let mut hints = driver.watch();
    let list_age = driver.list_age();
    let mut pause = list_age;
    let mut has_hints = driver.capabilities().watch;
    loop {
        tokio::select! {
            () = wanted.notified() => {}
            hint = hints.recv(), if has_hints => {
                has_hints = !matches!(hint, Err(RecvError::Closed));
            }
            () = tokio::time::sleep(pause) => {}
        }
        tokio::time::sleep(CALM).await;
        // This list knows what all hints until now are about. One list for each would keep the driver busy for long after many
        // instances were started.
        while !matches!(
            hints.try_recv(),
            Err(TryRecvError::Empty | TryRecvError::Closed)
        ) {}
        // What is asked for from now on is not answered by this list.
        let began = next.fetch_add(1, Ordering::SeqCst);
        let listed = driver.list().await;
        pause = if listed.is_ok() { list_age } else { RETRY };
        sender.send_replace(Snapshot {
            began,
            listed: listed.map(|mut listed| {
                listed.sort_unstable_by(|a, b| a.name.cmp(&b.name));
                Arc::from(listed)
            }),
        });
    }
}

/// The drivers that are open.
#[derive(Debug)]
pub struct Hub {
    owned: Owned,
    parts: Registrar,
    engines: Mutex<HashMap<(HostName, String), Arc<Engine>>>,
    next: Arc<AtomicU64>,
}

impl Hub {
    /// A hub without drivers.
    #[must_use]
    pub fn new(owned: Owned, parts: Registrar) -> Self {
        Hub {
            owned,
            parts,
            engines: Mutex::default(),
            next: Arc::new(AtomicU64::new(1)),
        }
    }

    /// The controller's name, by which drivers know its instances.
    #[must_use]
    pub fn owner(&self) -> &str {
        &self.owned.owner
    }

    /// The driver of a pool; pools with the same settings share it. It stays open while the controller runs, because what it
    /// lists may be left of a pool.
    ///
    /// # Errors
    /// The driver does not work on this machine, or is not allowed.
    pub fn open(
        &self,
        component: &Component,
        deadline: Duration,
    ) -> Result<Arc<Engine>, OpenError> {
        let key = (HostName::local(), lb_hosts::remote::key(component));
        let mut engines = self.engines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(engine) = engines.get(&key) {
            return Ok(Arc::clone(engine));
        }
        let driver = lb_drivers::open(component, &self.owned)?;
        let engine = self.start(HostName::local(), driver, deadline);
        engines.insert(key, Arc::clone(&engine));
        Ok(engine)
    }

    fn start(&self, host: HostName, driver: Arc<dyn Driver>, deadline: Duration) -> Arc<Engine> {
        let next = Arc::clone(&self.next);
        Arc::new(Engine::of(host, driver, deadline, next, &self.parts))
    }

    /// The driver of a pool on another host.
    #[must_use]
    pub fn open_on(
        &self,
        remote: &Arc<Remote>,
        component: &Component,
        deadline: Duration,
    ) -> Arc<Engine> {
        let key = (remote.name().clone(), lb_hosts::remote::key(component));
        let mut engines = self.engines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(engine) = engines.get(&key) {
            return Arc::clone(engine);
        }
        let driver = Arc::new(RemoteDriver::new(Arc::clone(remote), component));
        let engine = self.start(remote.name().clone(), driver, deadline);
        engines.insert(key, Arc::clone(&engine));
        engine
    }

    /// Closes the drivers of a host that is none any more.
    pub fn close(&self, host: &HostName) {
        let mut engines = self.engines.lock().unwrap_or_else(PoisonError::into_inner);
        engines.retain(|(on, _), _| on != host);
    }

    /// A number that lists have that begin from now on.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.next.load(Ordering::SeqCst)
    }

    /// The drivers that are open.
    #[must_use]
    pub fn engines(&self) -> Vec<Arc<Engine>> {
        let engines = self.engines.lock().unwrap_or_else(PoisonError::into_inner);
        engines.values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use lb_drivers::Phase;

    use super::*;

    #[test]
    fn a_pool_finds_its_own() {
        let listed = |name: &&str| Listed {
            name: name.parse().unwrap(),
            phase: Phase::Running,
            cgroup: String::new(),
            fault: None,
            labels: std::collections::BTreeMap::new(),
        };
        let mut all: Vec<Listed> = ["web-2-1", "a-1-1", "web-1-7", "web-b-1-1", "zoo-1-1"]
            .iter()
            .map(listed)
            .collect();
        all.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let names = |pool: &str| -> Vec<String> {
            let own = of_pool(&all, &pool.parse().unwrap());
            own.iter().map(|one| one.name.to_string()).collect()
        };
        assert_eq!(names("web"), ["web-1-7", "web-2-1"]);
        assert_eq!(names("web-b"), ["web-b-1-1"]);
        assert_eq!(names("a"), ["a-1-1"]);
        assert_eq!(names("zoo"), ["zoo-1-1"]);
        for none in ["aa", "wea", "zzz"] {
            assert_eq!(names(none), [""; 0]);
        }
    }
}
