//! What all threads of a proxy share, and how it follows its configuration.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use lb_model::{duration, settings::Settings as _};
use nix::sys::resource::{Resource, getrlimit};
use tokio::sync::Semaphore;

use crate::{
    clock,
    config::{Config, ProxySettings},
    log::Log,
    routes::Routes,
    service::{Listed, Service},
    trouble::Troubles,
};

/// For how long a proxy that starts gets no requests while some of its services do not know their instances.
const PATIENCE: Duration = Duration::from_secs(10);

/// The configuration that is in force.
#[derive(Debug)]
pub struct Running {
    /// The configuration.
    pub config: Config,
    /// Its routes.
    pub routes: Routes,
    /// Its services by name.
    pub services: BTreeMap<String, Arc<Service>>,
}

/// Totals of a proxy.
#[derive(Debug, Default)]
pub struct Totals {
    /// Connections of clients that were accepted.
    pub connections: AtomicU64,
    /// Those that are open.
    pub open_connections: AtomicU64,
    /// Those of these that are idle, without buffers.
    pub parked_connections: AtomicU64,
    /// Connections whose TLS handshake, or whose PROXY header, failed.
    pub failed_connections: AtomicU64,
    /// Requests whose head was not answered yet.
    pub open: AtomicU64,
    /// Answers to requests for a `health_path`, which count nowhere else.
    pub health_answers: AtomicU64,
    /// Answers by the first digit of their status, 1 to 5.
    pub answers: [AtomicU64; 5],
}

impl Totals {
    /// Counts an answer.
    pub fn count(&self, status: u16) {
        let class = usize::from(status / 100).clamp(1, 5) - 1;
        self.answers[class].fetch_add(1, Relaxed);
    }
}

/// What all threads share.
#[derive(Debug)]
pub struct Shared {
    /// The configuration that is in force.
    pub running: ArcSwap<Running>,
    /// Totals.
    pub totals: Totals,
    /// Trouble of the proxy itself.
    pub troubles: Troubles,
    /// The access log.
    pub log: Arc<Log>,
    /// Room for connections of clients.
    pub room: Arc<Semaphore>,
    /// The CRC-32 of the configuration file that is followed.
    sum: Mutex<Option<u32>>,
    /// Why the configuration was not followed when it was read last, and when that was.
    refused: Mutex<Option<(Duration, String)>>,
    draining: AtomicBool,
    threads: usize,
    /// The settings of the proxy when it started.
    at_start: ProxySettings,
}

/// Settings of the proxy that count when it starts.
const AT_START: [&str; 5] = [
    "threads",
    "max_connections",
    "handover",
    "admin",
    "watchdog",
];

/// Descriptors for everything that is no connection of a client or its instance.
const OTHER_FILES: u64 = 128;

/// Connections of clients for which there are descriptors: each may need another one to an instance.
fn room(wanted: u32) -> usize {
    let wanted = wanted as usize;
    let Ok((files, _)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return wanted;
    };
    let room = usize::try_from(files.saturating_sub(OTHER_FILES) / 2).unwrap_or(usize::MAX);
    if room < wanted {
        tracing::warn!(
            "max_connections is {wanted}, and the limit of {files} open files is enough for {room} clients: others wait to be \
             accepted; raise the limit (LimitNOFILE), or lower max_connections"
        );
    }
    room.clamp(1, wanted)
}

impl Shared {
    /// For a configuration and so many threads.
    ///
    /// # Errors
    /// The system has no thread for the log.
    pub fn new(config: Config, threads: usize) -> std::io::Result<Self> {
        let shared = Shared {
            room: Arc::new(Semaphore::new(room(config.proxy.max_connections))),
            running: ArcSwap::from_pointee(Running {
                config: Config::default(),
                routes: Routes::default(),
                services: BTreeMap::new(),
            }),
            totals: Totals::default(),
            troubles: Troubles::default(),
            log: Log::start()?,
            sum: Mutex::default(),
            refused: Mutex::default(),
            draining: AtomicBool::new(false),
            threads,
            at_start: config.proxy.clone(),
        };
        shared.follow(config);
        Ok(shared)
    }

    /// Follows a configuration: services that stay keep their instances, load and connections.
    pub fn follow(&self, config: Config) {
        let before = self.running.load_full();
        let mut services = BTreeMap::new();
        for (name, wanted) in &config.services {
            let service = match before.services.get(name) {
                Some(service) => {
                    service.configure(wanted.settings.clone());
                    Arc::clone(service)
                }
                None => Arc::new(Service::new(wanted.settings.clone(), self.threads)),
            };
            let was_written = before
                .config
                .services
                .get(name)
                .is_some_and(|service| !service.members.is_empty());
            if !wanted.members.is_empty() || was_written {
                let listed = wanted.members.iter().map(|member| Listed {
                    address: member.address.clone(),
                    weight: member.weight,
                });
                service.list(listed.collect());
            }
            services.insert(name.clone(), service);
        }
        let routes = Routes::new(&config, |name| services.get(name).cloned());
        self.running.store(Arc::new(Running {
            config,
            routes,
            services,
        }));
    }

    /// Names of the settings that are not as they were when the proxy started, and count when it starts again.
    #[must_use]
    pub fn at_next_start(&self) -> Vec<&'static str> {
        let now = self.running.load().config.proxy.to_map();
        let then = self.at_start.to_map();
        let mut names = AT_START.to_vec();
        names.retain(|name| then.get(*name) != now.get(*name));
        names
    }

    /// The configuration that is followed is the one of a file with this CRC-32; `None`: of no file.
    pub fn note_sum(&self, sum: Option<u32>) {
        *self.sum.lock().unwrap_or_else(PoisonError::into_inner) = sum;
    }

    /// Returns the CRC-32 of the configuration file that is followed.
    #[must_use]
    pub fn sum(&self) -> Option<u32> {
        *self.sum.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The configuration was followed (`Ok`), or could not be.
    pub fn note_reload(&self, followed: Result<(), &str>) {
        let refused = followed.err().map(|why| (clock::now(), why.to_owned()));
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = refused;
    }

    /// Returns since when the configuration is not followed, and why.
    #[must_use]
    pub fn refused(&self) -> Option<(Duration, String)> {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, why) = refused.as_ref()?;
        Some((clock::now().saturating_sub(*since), why.clone()))
    }

    /// Returns all that an operator should know of: what is not as it should be, and does not show by itself.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let refused = self.refused().map(|(time, why)| {
            let time = duration::format(Duration::from_secs(time.as_secs()));
            format!("the configuration is not followed since a reload {time} ago, which changed nothing: {why}")
        });
        let names = self.at_next_start();
        let later = (!names.is_empty()).then(|| {
            let names = names.join(", ");
            format!("settings have changed that count when the proxy starts again: {names}")
        });
        let running = self.running.load();
        let sources = running.services.iter();
        let sources = sources.filter_map(|(name, service)| service.source.seen().warning(name));
        let names = running.services.values().flat_map(|service| {
            let names = service.names().into_iter();
            names.filter_map(|(name, known)| known.warning(&service.name, &name))
        });
        let health = running.services.values();
        let health = health.filter_map(|service| service.health_warning());
        refused
            .into_iter()
            .chain(later)
            .chain(sources)
            .chain(names)
            .chain(health)
            .chain(self.troubles.warnings())
            .collect()
    }

    /// Returns whether the proxy ends, or hands over to the next one.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    /// Returns why the proxy is to get no requests, if it is not: it ends, or it has started and has not heard of the instances
    /// of its services. It waits for all services for a few seconds, and for one of them as long as it takes.
    #[must_use]
    pub fn unready(&self) -> Option<String> {
        if self.is_draining() {
            return Some("draining".to_owned());
        }
        let running = self.running.load();
        let mut awaited = running
            .services
            .values()
            .filter(|service| service.is_awaited());
        let first = awaited.next()?;
        let is_all = 1 + awaited.count() == running.services.len();
        let is_early = clock::now() < PATIENCE;
        (is_all || is_early).then(|| {
            format!(
                "service {} has not heard of its instances since the start",
                first.name
            )
        })
    }

    /// From now on connections end with their next answer.
    pub fn drain(&self) {
        self.draining.store(true, Relaxed);
    }
}
