//! What all threads of a proxy share, and how it follows its configuration.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use arc_swap::ArcSwap;
use lb_model::settings::Settings as _;
use tokio::sync::Semaphore;

use crate::{
    config::{Config, ProxySettings},
    log::Log,
    routes::Routes,
    service::{Member, Service, State},
};

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
    /// Connections whose TLS handshake, or whose PROXY header, failed.
    pub failed_connections: AtomicU64,
    /// Requests whose head was not answered yet.
    pub open: AtomicU64,
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
    /// The access log.
    pub log: Arc<Log>,
    /// Room for connections of clients.
    pub room: Arc<Semaphore>,
    draining: AtomicBool,
    threads: usize,
    /// The settings of the proxy when it started.
    at_start: ProxySettings,
}

/// Settings of the proxy that count when it starts.
const AT_START: [&str; 4] = ["threads", "max_connections", "handover", "admin"];

impl Shared {
    /// For a configuration and so many threads.
    ///
    /// # Errors
    /// The system has no thread for the log.
    pub fn new(config: Config, threads: usize) -> std::io::Result<Self> {
        let shared = Shared {
            room: Arc::new(Semaphore::new(config.proxy.max_connections as usize)),
            running: ArcSwap::from_pointee(Running {
                config: Config::default(),
                routes: Routes::default(),
                services: BTreeMap::new(),
            }),
            totals: Totals::default(),
            log: Log::start()?,
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
                service.update(wanted.members.iter().map(|member| Member {
                    address: member.address,
                    weight: member.weight,
                    state: State::Up,
                }));
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

    /// Returns whether the proxy ends, or hands over to the next one.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    /// From now on connections end with their next answer.
    pub fn drain(&self) {
        self.draining.store(true, Relaxed);
    }
}
