//! The addresses of names that a service lists: they are looked up again when their records' time is over.

use std::{
    collections::{BTreeSet, HashMap},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use hickory_resolver::{
    TokioResolver,
    config::{NameServerConfig, ResolverConfig},
    net::{DnsError, NetError, runtime::TokioRuntimeProvider},
    proto::{op::ResponseCode, rr::RecordType},
};
use lb_clients::backoff::Backoff;
use tokio::{
    sync::Semaphore,
    time::{MissedTickBehavior, timeout},
};

use super::Task;
use crate::{
    proxy::Shared,
    service::{Answer, Service},
};

/// The shortest and the longest time until a name is looked up again, whatever its records say.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(300);
/// The first and the longest pause after which a name that could not be resolved is tried again.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(15);
/// How long a look-up may take, with all servers and attempts.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long one server of `resolvers` may take.
const SERVER_PATIENCE: Duration = Duration::from_secs(2);
/// Look-ups of all services that run at the same time.
const MOST_LOOKUPS: usize = 64;
/// Addresses of a name and a family that become instances.
const MOST_ADDRESSES: usize = 1_000;
/// How often the tasks are looked after.
const LOOK: Duration = Duration::from_secs(1);

/// The server that is asked if the system names none.
const LOCAL_SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 53);
const RESOLV_CONF: &str = "/etc/resolv.conf";
const HOSTS: &str = "/etc/hosts";

/// What asks the servers. It is made anew when `resolvers` or the system's files change.
#[derive(Debug)]
pub struct Resolvers {
    current: Mutex<Option<(Basis, TokioResolver)>>,
    room: Semaphore,
}

impl Default for Resolvers {
    fn default() -> Self {
        Resolvers {
            current: Mutex::default(),
            room: Semaphore::new(MOST_LOOKUPS),
        }
    }
}

/// What a resolver was made of.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Basis {
    servers: Vec<SocketAddr>,
    files: [Option<SystemTime>; 2],
}

impl Basis {
    fn now(servers: &[SocketAddr]) -> Self {
        let changed = |path| {
            std::fs::metadata(path)
                .and_then(|file| file.modified())
                .ok()
        };
        Basis {
            servers: servers.to_vec(),
            files: [RESOLV_CONF, HOSTS].map(changed),
        }
    }

    fn resolver(&self) -> Result<TokioResolver, NetError> {
        let asking = |servers: &[SocketAddr]| {
            let servers = servers.iter().map(|address| server(*address));
            let config = ResolverConfig::from_name_servers(servers.collect());
            let provider = TokioRuntimeProvider::default();
            let mut builder = TokioResolver::builder_with_config(config, provider);
            builder.options_mut().timeout = SERVER_PATIENCE;
            builder
        };
        let mut builder = match &self.servers[..] {
            [] => TokioResolver::builder_tokio().unwrap_or_else(|error| {
                // As resolv.conf(5) says.
                tracing::warn!("{RESOLV_CONF}: {error}; the name server of this host is asked");
                asking(&[LOCAL_SERVER])
            }),
            servers => asking(servers),
        };
        let options = builder.options_mut();
        // The tasks of names know when to ask again.
        options.cache_size = 0;
        options.positive_min_ttl = Some(SHORTEST);
        options.positive_max_ttl = Some(LONGEST);
        options.try_tcp_on_error = true;
        builder.build()
    }
}

fn server(address: SocketAddr) -> NameServerConfig {
    let mut server = NameServerConfig::udp_and_tcp(address.ip());
    for connection in &mut server.connections {
        connection.port = address.port();
    }
    server
}

impl Resolvers {
    /// The present resolver.
    fn get(&self, servers: &[SocketAddr]) -> Result<TokioResolver, NetError> {
        let basis = Basis::now(servers);
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((before, resolver)) = &*current
            && *before == basis
        {
            return Ok(resolver.clone());
        }
        let resolver = basis.resolver()?;
        *current = Some((basis, resolver.clone()));
        Ok(resolver)
    }

    /// Looks up both families of a name.
    async fn look_up(&self, servers: &[SocketAddr], name: &str) -> (Answer, Answer) {
        // The semaphore is never closed.
        let _room = self.room.acquire().await;
        let resolver = match self.get(servers) {
            Ok(resolver) => resolver,
            Err(error) => {
                let failed = || Answer::Failed(error.to_string());
                return (failed(), failed());
            }
        };
        tokio::join!(
            family(&resolver, name, RecordType::A),
            family(&resolver, name, RecordType::AAAA)
        )
    }
}

async fn family(resolver: &TokioResolver, name: &str, kind: RecordType) -> Answer {
    let found = match timeout(PATIENCE, resolver.lookup(name, kind)).await {
        Ok(found) => found,
        Err(_) => return Answer::Failed(format!("{kind}: no answer in {PATIENCE:?}")),
    };
    let lookup = match found {
        Ok(lookup) => lookup,
        Err(error) => return failure(kind, &error),
    };
    let addresses: BTreeSet<IpAddr> = lookup
        .answers()
        .iter()
        .filter_map(|record| record.data.ip_addr())
        // Nobody is to be sent to this host itself by 0.0.0.0, or to a group.
        .filter(is_host)
        .take(MOST_ADDRESSES)
        .collect();
    if addresses.is_empty() {
        return Answer::Nothing(format!(
            "{kind}: the answer has no address that can be used"
        ));
    }
    let left = lookup
        .valid_until()
        .saturating_duration_since(std::time::Instant::now());
    Answer::Addresses(addresses, left.clamp(SHORTEST, LONGEST))
}

fn is_host(address: &IpAddr) -> bool {
    let is_broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    !address.is_unspecified() && !address.is_multicast() && !is_broadcast
}

fn failure(kind: RecordType, error: &NetError) -> Answer {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => {
            Answer::Nothing(match none.response_code {
                ResponseCode::NXDomain => "the name does not exist (NXDOMAIN)".to_owned(),
                ResponseCode::NoError => "the name has no addresses".to_owned(),
                other => return Answer::Failed(format!("{kind}: {other}")),
            })
        }
        error => Answer::Failed(format!("{kind}: {error}")),
    }
}

/// Keeps the addresses of a service's names up to date, until this is dropped.
pub async fn follow(service: Arc<Service>, shared: Arc<Shared>, resolvers: Arc<Resolvers>) {
    let mut changes = service.name_changes();
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut running: HashMap<String, Task> = HashMap::new();
    loop {
        changes.borrow_and_update();
        let names: BTreeSet<String> = service.names().into_iter().map(|(name, _)| name).collect();
        running.retain(|name, task| {
            if task.0.is_finished() {
                tracing::error!(
                    "service {}: the look-up of {name} panicked, which is a fault of this program; it begins anew",
                    service.name
                );
            }
            names.contains(name) && !task.0.is_finished()
        });
        for name in names {
            running.entry(name).or_insert_with_key(|name| {
                let (service, shared) = (Arc::clone(&service), Arc::clone(&shared));
                let task = keep(name.clone(), service, shared, Arc::clone(&resolvers));
                Task(tokio::spawn(task))
            });
        }
        tokio::select! {
            changed = changes.changed() => {
                // The service, which tells of changes, lives as long as this.
                if changed.is_err() {
                    return;
                }
            }
            _ = looks.tick(), if !running.is_empty() => {}
        }
    }
}

/// Looks a name up again and again.
async fn keep(name: String, service: Arc<Service>, shared: Arc<Shared>, resolvers: Arc<Resolvers>) {
    let mut backoff = Backoff::new(FIRST_RETRY, LONGEST_RETRY);
    let mut changes = service.name_changes();
    loop {
        changes.borrow_and_update();
        let servers = shared.running.load().config.proxy.resolvers.clone();
        let (v4, v6) = resolvers.look_up(&servers, &name).await;
        let noted = service.note_answers(&name, v4, v6);
        if let Some(addresses) = &noted.addresses {
            let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            tracing::info!(
                "service {}: {name} is {}",
                service.name,
                addresses.join(", ")
            );
        }
        if noted.is_lost {
            let names = service.names();
            let known = names.iter().find(|(one, _)| *one == name);
            if let Some(text) = known.and_then(|(_, known)| known.warning(&service.name, &name)) {
                tracing::warn!("{text}");
            }
        }
        let pause = match noted.lifetime {
            Some(lifetime) => {
                backoff.reset();
                lifetime
            }
            None => backoff.pause(),
        };
        let forgotten = async {
            // A name that was removed and is there again knows nothing of what was said before.
            while changes.changed().await.is_ok() {
                if service.is_new_name(&name) {
                    return;
                }
            }
            // The service, which tells of changes, lives as long as this.
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = forgotten => {}
        }
    }
}
