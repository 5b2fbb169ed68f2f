//! Where the instances of services come from: a file, the stream of `lb-agent`, or the WebSocket of a pool.
//!
//! Each source is a task that keeps a service's instances up to date. When a source is gone, the last table is kept, and the
//! source is tried again with growing pauses.

mod agent;
mod file;
mod pool;
pub mod status;

use std::{
    collections::BTreeMap,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::FutureExt as _;
use lb_clients::backoff::Backoff;
use tokio::task::JoinHandle;

pub use lb_proto::endpoint::Endpoint;

use crate::{config::ServiceSettings, proxy::Shared, service::Service};

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
    Pool(String),
}

impl Source {
    fn of(settings: &ServiceSettings) -> Option<Self> {
        let file = settings.members_file.clone().map(Source::File);
        let vip = settings.vip.map(Source::Vip);
        let pool = settings.pool.clone().map(Source::Pool);
        file.or(vip).or(pool)
    }
}

/// The tasks that keep the instances of all services up to date.
#[derive(Debug, Default)]
pub struct Members {
    running: Mutex<BTreeMap<String, (Origin, JoinHandle<()>)>>,
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
                let task = tokio::spawn(keep(origin.clone(), Arc::clone(service)));
                running.insert(name.clone(), (origin, task));
            }
        }
    }
}

/// Follows a source until this is aborted, also if that panics: the last table serves on meanwhile.
async fn keep(origin: Origin, service: Arc<Service>) {
    let mut backoff = backoff();
    loop {
        let run = AssertUnwindSafe(run(origin.clone(), Arc::clone(&service)));
        let why = match run.catch_unwind().await {
            Ok(why) => why,
            Err(_) => "following it panicked, which is a fault of this program",
        };
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
        (Source::Pool(url), _) => pool::follow(&url, port, &service).await,
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
