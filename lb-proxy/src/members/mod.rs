//! Where the instances of services come from: a file, the stream of `lb-agent`, or the WebSocket of a pool.
//!
//! Each source is a task that keeps a service's instances up to date. When a source is gone, the last table is kept, and the
//! source is tried again with growing pauses. Two more tasks of each service look after what it lists itself: the health of
//! its instances, and the addresses of names.

mod agent;
mod check;
mod file;
mod names;
mod pool;
pub mod status;

use std::{
    collections::BTreeMap,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use futures::FutureExt as _;
use lb_clients::backoff::Backoff;
use tokio::{
    sync::Semaphore,
    task::{JoinHandle, JoinSet},
};

pub(crate) use file::address_of;
pub use lb_proto::endpoint::Endpoint;

use lb_model::peer::Secret;

use crate::{
    config::{PoolStream, ServiceSettings},
    proxy::Shared,
    service::Service,
};

/// The first and the longest pause before a source is tried again.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// What decides where a service's instances come from.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Origin {
    settings: Source,
    port: Option<u16>,
    endpoint: Option<Endpoint>,
}

/// A source.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    File(std::path::PathBuf),
    Vip(lb_model::vip::VipKey),
    Pool(PoolStream, Option<Secret>),
}

impl Source {
    fn of(settings: &ServiceSettings) -> Option<Self> {
        let file = settings.members_file.clone().map(Source::File);
        let vip = settings.vip.map(Source::Vip);
        let token = settings.pool_token.clone();
        let pool = settings.pool.clone();
        let pool = pool.map(|stream| Source::Pool(stream, token));
        file.or(vip).or(pool)
    }
}

/// The tasks that keep the instances of all services up to date.
#[derive(Debug, Default)]
pub struct Members {
    running: Mutex<BTreeMap<String, (Origin, JoinHandle<()>)>>,
    tended: Mutex<BTreeMap<String, Tended>>,
    /// Room for probes; made with the first service.
    slots: OnceLock<Arc<Semaphore>>,
    resolvers: Arc<names::Resolvers>,
}

/// A service, and the tasks that look after what it lists. Dropping them ends them.
#[derive(Debug)]
struct Tended {
    service: Arc<Service>,
    _tasks: JoinSet<()>,
}

/// A task that ends when this is dropped.
#[derive(Debug)]
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A source that ended by a panic is followed again after such a pause, each time a longer one.
fn backoff() -> Backoff {
    Backoff::new(FIRST_PAUSE, LONGEST_PAUSE)
}

impl Members {
    /// Starts and ends tasks until they are those of the services. Call it again after each change of the configuration.
    pub fn follow(&self, shared: &Arc<Shared>, endpoint: Option<&Endpoint>) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let services = shared.running.load_full();
        running.retain(|name, (_, task)| {
            let stays = services.services.contains_key(name);
            if !stays {
                task.abort();
            }
            stays
        });
        for (name, service) in &services.services {
            let settings = service.settings.load_full();
            let wanted = Source::of(&settings).map(|source| Origin {
                endpoint: endpoint
                    .filter(|_| matches!(source, Source::Vip(_)))
                    .cloned(),
                settings: source,
                port: settings.port,
            });
            if running.get(name).map(|(origin, _)| origin) == wanted.as_ref() {
                continue;
            }
            if let Some((_, task)) = running.remove(name) {
                task.abort();
            }
            service.source.forget();
            if let Some(origin) = wanted {
                if !matches!(origin.settings, Source::File(_)) {
                    service.forget_listed();
                }
                let task = tokio::spawn(keep(origin.clone(), Arc::clone(service)));
                running.insert(name.clone(), (origin, task));
            }
        }
        drop(running);
        self.tend(shared, &services.services);
    }

    /// Starts and ends the tasks that look after what services list.
    fn tend(&self, shared: &Arc<Shared>, services: &BTreeMap<String, Arc<Service>>) {
        let mut tended = self.tended.lock().unwrap_or_else(PoisonError::into_inner);
        tended.retain(|name, one| {
            services
                .get(name)
                .is_some_and(|service| Arc::ptr_eq(service, &one.service))
        });
        let slots = self.slots.get_or_init(check::slots);
        for (name, service) in services {
            if tended.contains_key(name) {
                continue;
            }
            let mut tasks = JoinSet::new();
            let own = || (Arc::clone(service), Arc::clone(shared));
            let slots = Arc::clone(slots);
            tasks.spawn(supervise(name.clone(), "the health checks", {
                let (service, shared) = own();
                move || {
                    check::follow(
                        Arc::clone(&service),
                        Arc::clone(&shared),
                        Arc::clone(&slots),
                    )
                }
            }));
            let resolvers = Arc::clone(&self.resolvers);
            tasks.spawn(supervise(name.clone(), "the names", {
                let (service, shared) = own();
                move || {
                    let resolvers = Arc::clone(&resolvers);
                    names::follow(Arc::clone(&service), Arc::clone(&shared), resolvers)
                }
            }));
            let one = Tended {
                service: Arc::clone(service),
                _tasks: tasks,
            };
            tended.insert(name.clone(), one);
        }
    }
}

/// Runs work that never ends until this is aborted, also if it panics: it begins anew then.
async fn supervise<W: Future<Output = ()>>(
    service: String,
    what: &'static str,
    mut work: impl FnMut() -> W,
) {
    let mut backoff = backoff();
    loop {
        let ended = AssertUnwindSafe(work()).catch_unwind().await;
        let how = if ended.is_ok() { "ended" } else { "panicked" };
        tracing::error!(
            "service {service}: the task that follows {what} of its instances {how}, which is a fault of this program; it begins \
             anew"
        );
        backoff.wait().await;
    }
}

/// Follows a source until this is aborted, also if that panics: the last table serves on meanwhile.
async fn keep(origin: Origin, service: Arc<Service>) {
    let mut backoff = backoff();
    loop {
        let run = AssertUnwindSafe(run(origin.clone(), Arc::clone(&service)));
        let panicked = "following it panicked, which is a fault of this program";
        let why = run.catch_unwind().await.unwrap_or(panicked);
        service.source.lost(why);
        tracing::error!(
            "service {}: the source of its instances: {why}",
            service.name
        );
        backoff.wait().await;
    }
}

/// Follows a source. Returns why it cannot be followed.
async fn run(origin: Origin, service: Arc<Service>) -> &'static str {
    let port = origin.port;
    match (origin.settings, origin.endpoint) {
        (Source::File(path), _) => file::follow(&path, port, &service).await,
        (Source::Vip(vip), Some(endpoint)) => agent::follow(&endpoint, vip, port, &service).await,
        (Source::Vip(_), None) => {
            "they are the reals of a VIP, and there is no agent; give --agent URI"
        }
        (Source::Pool(stream, token), _) => {
            pool::follow(&stream, token.as_ref(), port, &service).await
        }
    }
}

/// The members in words.
#[cfg(test)]
fn texts(members: &[crate::service::Member]) -> Vec<String> {
    members
        .iter()
        .map(|member| {
            format!(
                "{} {} {}",
                member.address,
                member.weight,
                member.state.name()
            )
        })
        .collect()
}
