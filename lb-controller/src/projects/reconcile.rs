//! The task that makes the records true: each load balancer has a pool of nodes, each node the configuration that it is to
//! follow. It looks at those that are not as they are wanted once a second, and at once after an order or when one of their pools or
//! agents changes; at one that is as it is wanted when others of its nodes serve, and now and then in any case. What it does is the same
//! after a restart.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use futures::{FutureExt as _, StreamExt as _};
use lb_clients::peer::{http_endpoint::HttpAddress, proxy};
use lb_drivers::Command;
use lb_model::{
    dns::RecordName,
    host::HostName,
    pool::{InstanceName, PoolName, PoolSpec},
    project::{BalancerKind, BalancerSpec, is_pool_of_nodes, pool_of_nodes},
};
use tokio::{sync::watch, time::Instant};

use super::{
    Change, Inner, Projects, Streams, guest, name_in, record_name, shared,
    view::{COMPLETE, NAMED, NodeView, SERVING, Seen},
};
use crate::{
    KINDS,
    agents::AgentState,
    controller::Refused,
    orphans::OrphanKind,
    pool::{Event, InstanceState, InstanceView, PoolOwner},
    registry::{BalancerRecord, NodeSettings, Registry, node},
    troubles,
    worker::PoolView,
};

/// See [`lb_serve::vital`].
pub const KEEPER: &str = "the task that keeps load balancers as they are wanted";
/// How often those are looked at that are not as they are wanted.
const LOOK: Duration = Duration::from_secs(1);
/// In so many of these looks all others are looked at once.
const ROUND: u64 = 10;
/// Load balancers that are looked at together: one that hangs holds up no other.
const TOGETHER: usize = 16;
/// How long that may take for one.
const DEADLINE: Duration = Duration::from_secs(10);

/// How long it may take that a node on another host follows its configuration.
const FOLLOWING: Duration = Duration::from_secs(4);

/// The configurations that nodes are known to follow, by their checksum.
type Followed = Mutex<HashMap<InstanceName, String>>;

/// Makes the records true until the projects are gone.
pub(super) async fn run(inner: Weak<Inner>) {
    let followed = Followed::default();
    // When was looked last, and how often.
    let mut last = None;
    let mut looks = 0;
    loop {
        let Some(inner) = inner.upgrade() else {
            return;
        };
        let projects = Projects(inner);
        // What changes while it is looked is looked at again.
        let mut pools = projects.0.controller.names();
        pools.mark_unchanged();
        let (mut views, mut agents) = unsettled(&projects);
        let is_due = last.is_none_or(|last: Instant| last.elapsed() >= LOOK);
        if is_due {
            last = Some(Instant::now());
            looks += 1;
        }
        look(&projects, &followed, is_due.then_some(looks)).await;
        let any = views.iter_mut().map(|view| view.changed().boxed());
        let agents = agents.iter_mut().map(|agent| agent.changed().boxed());
        let any: Vec<_> = any.chain(agents).collect();
        let any = async {
            if any.is_empty() {
                std::future::pending::<()>().await;
            }
            // One whose pool is gone has changed, too.
            let _ = futures::future::select_all(any).await;
        };
        tokio::select! {
            () = projects.0.changed.notified() => {}
            () = projects.0.controller.nodes().changed() => {}
            _ = pools.changed() => {}
            () = any => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// What load balancers wait for that are not as they are wanted: their pools and agents, as they change.
fn unsettled(
    projects: &Projects,
) -> (
    Vec<watch::Receiver<PoolView>>,
    Vec<watch::Receiver<Arc<AgentState>>>,
) {
    let open: Vec<u64> = {
        let (registry, seen) = (projects.registry(), projects.seen());
        let is_open = |id: &u64| !seen.get(id).is_some_and(|seen| seen.is(COMPLETE));
        let ids = registry.balancers().map(|one| one.id);
        ids.filter(is_open).collect()
    };
    let controller = &projects.0.controller;
    let mut agents = if open.is_empty() {
        Vec::new()
    } else {
        controller.agents().followers()
    };
    let views = open
        .iter()
        .map(|id| controller.follower(&pool_of_nodes(*id)));
    let mut views: Vec<_> = views.flatten().collect();
    // The task of one that has ended says nothing any more.
    views.retain(|view| view.has_changed().is_ok());
    views.iter_mut().for_each(watch::Receiver::mark_unchanged);
    agents.iter_mut().for_each(watch::Receiver::mark_unchanged);
    (views, agents)
}

/// The load balancer whose nodes a pool has.
fn balancer_of_pool(pool: &PoolName) -> Option<u64> {
    let (_, id) = pool.as_str().rsplit_once('-')?;
    is_pool_of_nodes(pool).then(|| id.parse().ok())?
}

/// Whether something that a load balancer depends on changes without a word to its keeper: the agents that have its VIP, or the
/// pool behind it.
fn depends(record: &BalancerRecord) -> bool {
    let has_pool = record.spec.get("pool").is_some_and(|pool| !pool.is_null());
    has_pool
        || record
            .spec
            .get("kind")
            .is_some_and(|kind| *kind == BalancerKind::Shared.to_string())
}

/// Looks at the load balancers that are not as they are wanted; those whose turn it is are also looked at in the looks that have a
/// number.
async fn look(projects: &Projects, followed: &Followed, number: Option<u64>) {
    let records: Vec<Arc<BalancerRecord>> = projects.registry().balancers().cloned().collect();
    let stirred = projects.0.controller.nodes().take_stirred();
    let stirred: BTreeSet<u64> = stirred.iter().filter_map(balancer_of_pool).collect();
    let open: Vec<&BalancerRecord> = {
        let seen = projects.seen();
        let is_open = |record: &&Arc<BalancerRecord>| {
            let is_kept =
                |seen: &Seen| seen.is(COMPLETE) && seen.observed_generation == record.generation;
            let is_its_turn = |number: u64| record.id % ROUND == number % ROUND || depends(record);
            record.is_deleted
                || stirred.contains(&record.id)
                || number.is_some_and(is_its_turn)
                || !seen.get(&record.id).is_some_and(is_kept)
        };
        records.iter().filter(is_open).map(|one| &**one).collect()
    };
    let addresses = || -> Vec<Vec<IpAddr>> {
        let seen = projects.seen();
        let of = |record: &&BalancerRecord| {
            let seen = seen.get(&record.id);
            seen.map(|seen| seen.addresses().collect())
                .unwrap_or_default()
        };
        open.iter().map(of).collect()
    };
    let before = addresses();
    let keeping = futures::stream::iter(&open).for_each_concurrent(TOGETHER, |record| async move {
        let kept = tokio::time::timeout(DEADLINE, keep(projects, record, followed)).await;
        if kept.is_err() {
            let why = "looking after it takes too long".to_owned();
            projects.note(record, |seen| seen.state(COMPLETE, false, why));
        }
    });
    keeping.await;
    if number.is_some() || before != addresses() || open.iter().any(|one| one.is_deleted) {
        name(projects, &records);
        forget(projects, &records, followed);
    }
    if number.is_some_and(|number| number % ROUND == 0) {
        remove_strangers(projects, &records).await;
    }
    remove_projects(projects).await;
}

/// Gives the load balancers their names in DNS.
fn name(projects: &Projects, records: &[Arc<BalancerRecord>]) {
    let Some(names) = &projects.0.names else {
        return;
    };
    let mut wanted = BTreeMap::new();
    {
        let (registry, seen) = (projects.registry(), projects.seen());
        for record in records.iter().filter(|record| !record.is_deleted) {
            let addresses: BTreeSet<_> = seen
                .get(&record.id)
                .map(|seen| seen.addresses().collect())
                .unwrap_or_default();
            if let Some(project) = registry.project_of(record) {
                wanted.insert(record_name(project, record), (&**record, addresses));
            }
        }
        take_over(&registry, records, &mut wanted);
    }
    let addresses = wanted
        .iter()
        .map(|(name, (_, addresses))| (name.clone(), addresses.clone()));
    names.follow(&addresses.collect());
    for (name, (record, _)) in &wanted {
        let registry = projects.registry();
        let project = registry.project_of(record);
        let is_own = project.is_some_and(|project| record_name(project, record) == *name);
        drop(registry);
        if !is_own {
            continue;
        }
        let known = names.is_known(name);
        let is_known = known.is_ok();
        let why = known.unwrap_or_else(|why| why);
        projects.note(record, |seen| seen.state(NAMED, is_known, why));
    }
}

/// Has the names of load balancers lead to those that serve in their place.
fn take_over<'a>(
    registry: &Registry,
    records: &'a [Arc<BalancerRecord>],
    wanted: &mut BTreeMap<RecordName, (&'a BalancerRecord, BTreeSet<IpAddr>)>,
) {
    // Those that were created last come last, and have it.
    let takes_over = |record: &&Arc<BalancerRecord>| record.spec.contains_key("takes_over");
    let records = records.iter().filter(|record| !record.is_deleted);
    for record in records.filter(takes_over) {
        let spec = BalancerSpec::read(&record.spec, KINDS.probes);
        let names = spec.map(|spec| spec.takes_over).unwrap_or_default();
        let Some(project) = registry.project_of(record).filter(|_| !names.is_empty()) else {
            continue;
        };
        let own = wanted.get(&record_name(project, record));
        let addresses = own.map(|(_, addresses)| addresses.clone());
        let addresses = addresses.unwrap_or_default();
        for name in names {
            let name = name_in(project, &name);
            match wanted.get_mut(&name) {
                Some((_, _)) if addresses.is_empty() => {}
                Some((_, before)) => before.clone_from(&addresses),
                None => drop(wanted.insert(name, (record, addresses.clone()))),
            }
        }
    }
}

/// Looks after one load balancer.
async fn keep(projects: &Projects, record: &BalancerRecord, followed: &Followed) {
    if record.is_deleted {
        if let Err(why) = delete(projects, record).await {
            projects.note(record, |seen| seen.state(COMPLETE, false, why));
        }
        return;
    }
    // What is stored was checked.
    let spec = match BalancerSpec::read(&record.spec, KINDS.probes) {
        Ok(spec) => spec,
        Err(error) => {
            let why = error.to_string();
            projects.note(record, |seen| seen.state(COMPLETE, false, why));
            return;
        }
    };
    if spec.kind == BalancerKind::Shared {
        shared::keep(projects, record, &spec);
        return;
    }
    let made = make(projects, record, &spec).await;
    let pool = pool_of_nodes(record.id);
    let view = projects
        .0
        .controller
        .views(Some(&pool))
        .ok()
        .and_then(|mut views| views.pop());
    let instances = view.map(|view| view.instances).unwrap_or_default();
    let wanted = made.as_ref().ok();
    let mut nodes = Vec::new();
    let addresses = node::addresses(record, &spec);
    for instance in &instances {
        let mut seen = see(projects, record, instance, wanted, followed).await;
        if let Some(node) = &mut seen
            && let Some(address) = addresses.of_clients.nth(instance.number)
        {
            node.address = address;
        }
        nodes.extend(seen);
    }
    let serving = nodes.iter().filter(|node| node.is_serving).count();
    let least = made.as_ref().map_or(1, |made| made.least as usize);
    let is_newest = wanted.is_some() && instances.iter().all(|one| one.is_current);
    let first_trouble = || {
        let mut idle = nodes.iter().filter(|node| !node.is_serving);
        idle.next().map_or_else(
            || "there is no node yet".to_owned(),
            |node| format!("{}: {}", node.name, node.state),
        )
    };
    let is_serving = serving > 0;
    let why_serving = if is_serving {
        format!("{serving} of {} nodes serve", nodes.len().max(least))
    } else {
        first_trouble()
    };
    let (is_complete, why_complete) = match &made {
        Err(why) => (false, why.clone()),
        Ok(_) if serving < least || nodes.iter().any(|node| !node.is_serving) => {
            (false, first_trouble())
        }
        Ok(_) if !is_newest => (
            false,
            "nodes are replaced, since their settings have changed".to_owned(),
        ),
        Ok(_) => (true, format!("all {serving} nodes serve by these settings")),
    };
    if is_complete && !record.former_legs.is_empty() {
        // No node is in the subnets any more that it was in; it is tried again while the store does not work.
        let released = |registry: &Registry| {
            // It may have been moved again meanwhile.
            let released = registry.released(record.id);
            let released = released.filter(|now| now.generation == record.generation);
            Ok((released.into_iter().map(Change::Balancer).collect(), ()))
        };
        let _ = projects.order(released).await;
        projects.0.subnets_changed.notify_one();
    }
    projects.note(record, |seen| {
        seen.nodes = nodes;
        seen.state(SERVING, is_serving, why_serving);
        seen.state(COMPLETE, is_complete, why_complete);
        if is_complete {
            seen.observed_generation = record.generation;
        }
    });
}

/// What the nodes of a load balancer are to be.
struct Made {
    /// How many there are at least.
    least: u32,
    /// What they are to follow.
    configs: Configs,
}

/// The configurations of the nodes of a load balancer.
enum Configs {
    /// They are in the folders of the nodes, on this host; by the node's number their checksums.
    Folders(BTreeMap<u32, String>),
    /// Those of agents in virtual machines: by the node's number their checksums and texts.
    Agents(BTreeMap<u32, (String, String)>),
    /// All nodes have the same, wherever they are.
    Carried {
        /// The program of the nodes.
        program: String,
        text: String,
        checksum: String,
    },
}

/// Writes the configurations of the nodes, and orders their pool.
async fn make(
    projects: &Projects,
    record: &BalancerRecord,
    spec: &BalancerSpec,
) -> Result<Made, String> {
    let means = &projects.0.means;
    let nodes = means
        .making
        .nodes
        .as_ref()
        .ok_or("this controller has no `[nodes]` in its configuration file")?;
    let pool = pool_of_nodes(record.id);
    let is_placed = nodes.placement_of(spec).is_some();
    if node::are_machines(nodes) && spec.pool.is_some() {
        return Err(
            "its nodes are virtual machines, which cannot follow a pool yet; give `backends`, or nodes of another kind"
                .to_owned(),
        );
    }
    if node::are_machines(nodes) && spec.kind != BalancerKind::Agent && is_placed {
        return Err(
            "its nodes are virtual machines, which run on the controller's own host only; leave `placement` out, or have nodes of \
             another kind"
                .to_owned(),
        );
    }
    offer(projects, record, spec, is_placed)?;
    let configs = if is_placed {
        carry(projects, &pool, spec, nodes)?
    } else {
        projects.0.controller.nodes().set_files(&pool, None);
        if spec.kind == BalancerKind::Agent {
            Configs::Agents(write_agents(projects, record, spec, nodes).await?)
        } else {
            Configs::Folders(write(projects, record, spec, nodes).await?)
        }
    };
    let bridge = match &record.leg {
        Some(leg) => Some(projects.bridge_of(leg.subnet)?),
        None => None,
    };
    let wanted = node::pool(
        record,
        spec,
        nodes,
        &means.state,
        &means.program,
        bridge.as_deref(),
    );
    let wanted =
        wanted.map_err(|error| format!("the operator's settings of nodes do not fit: {error}"))?;
    order(projects, &pool, wanted)
        .await
        .map_err(|refused| refused.to_string())?;
    Ok(Made {
        least: spec.nodes,
        configs,
    })
}

/// Has nodes that are made from now on get their configuration with their launch.
fn carry(
    projects: &Projects,
    pool: &PoolName,
    spec: &BalancerSpec,
    nodes: &NodeSettings,
) -> Result<Configs, String> {
    let controller = &projects.0.controller;
    let mut members = Vec::new();
    if let Some(behind) = &spec.pool {
        for view in controller.views(Some(behind)).unwrap_or_default() {
            let serving = view.instances.iter().filter(|one| one.state.serves());
            members.extend(serving.filter_map(|one| one.endpoint));
        }
        members.sort_unstable();
    }
    let place = node::Place::Host { members: &members };
    let text = node::config(spec, nodes, place).map_err(|error| error.to_string())?;
    let files = BTreeMap::from([(node::CONFIG.to_owned(), text.clone())]);
    controller.nodes().set_files(pool, Some(files));
    Ok(Configs::Carried {
        program: match nodes.driver.driver.kind.as_str() {
            // The image says where it is.
            "docker" => "/proc/1/exe".to_owned(),
            _ => projects.0.means.program.to_string_lossy().into_owned(),
        },
        checksum: checksum(&text),
        text,
    })
}

/// Has the nodes find the pool that is behind them.
fn offer(
    projects: &Projects,
    record: &BalancerRecord,
    spec: &BalancerSpec,
    is_placed: bool,
) -> Result<(), String> {
    let state = &projects.0.means.state;
    let allowed = match &spec.pool {
        None => Ok(()),
        Some(pool) => {
            let registry = projects.registry();
            let project = registry.project_of(record).map(|one| one.name.clone());
            drop(registry);
            project.map_or(Ok(()), |project| projects.check_pool(&project, pool))
        }
    };
    // On other hosts there are no sockets of this one.
    let pool = spec.pool.as_ref();
    let pool = pool.filter(|_| allowed.is_ok() && !is_placed);
    let wanted: Streams = pool
        .into_iter()
        .flat_map(|pool| (1..=most_nodes(record, spec)).map(move |number| (number, pool)))
        .map(|(number, pool)| {
            let socket = node::node_folder(state, record.id, number).join(node::POOL_SOCKET);
            ((record.id, number), (socket, pool.clone()))
        })
        .collect();
    projects.0.streams.send_if_modified(|streams| {
        let of_record = (record.id, 0)..=(record.id, u32::MAX);
        if streams.range(of_record.clone()).eq(&wanted) {
            return false;
        }
        streams.retain(|key, _| !of_record.contains(key));
        streams.extend(wanted);
        true
    });
    allowed.map_err(|error| error.to_string())
}

/// Forgets the sockets of the load balancers that are not to be kept.
fn retain_streams(projects: &Projects, is_kept: impl Fn(u64) -> bool) {
    projects.0.streams.send_if_modified(|streams| {
        let before = streams.len();
        streams.retain(|(id, _), _| is_kept(*id));
        streams.len() != before
    });
}

/// How many nodes it has addresses for.
fn most_nodes(record: &BalancerRecord, spec: &BalancerSpec) -> u32 {
    let most = node::addresses(record, spec).of_clients.len();
    let most = u32::try_from(most).unwrap_or(u32::MAX);
    most.min(spec.most_nodes())
}

async fn order(projects: &Projects, pool: &PoolName, wanted: PoolSpec) -> Result<(), Refused> {
    let controller = &projects.0.controller;
    controller.make(pool, wanted, PoolOwner::Balancer).await
}

/// Writes the configurations that are not there yet.
async fn write(
    projects: &Projects,
    record: &BalancerRecord,
    spec: &BalancerSpec,
    nodes: &NodeSettings,
) -> Result<BTreeMap<u32, String>, String> {
    let mut files = Vec::new();
    for number in 1..=most_nodes(record, spec) {
        let folder = node::node_folder(&projects.0.means.state, record.id, number);
        let place = node::Place::Folder(&folder);
        let text = node::config(spec, nodes, place).map_err(|error| error.to_string())?;
        files.push((number, folder, text));
    }
    let written = tokio::task::spawn_blocking(move || -> Result<_, String> {
        let mut checksums = BTreeMap::new();
        for (number, folder, text) in files {
            let file = folder.join(node::CONFIG);
            put(&folder, &file, &text)
                .map_err(|error| format!("writing {}: {error}", file.display()))?;
            checksums.insert(number, checksum(&text));
        }
        Ok(checksums)
    });
    written.await.map_err(|error| error.to_string())?
}

/// Writes what nodes that run agents begin with.
async fn write_agents(
    projects: &Projects,
    record: &BalancerRecord,
    spec: &BalancerSpec,
    nodes: &NodeSettings,
) -> Result<BTreeMap<u32, (String, String)>, String> {
    let agent = nodes.agent.as_ref();
    let agent = agent.ok_or("this controller has no `[nodes.agent]` in its configuration file")?;
    let mut files = Vec::new();
    for number in 1..=most_nodes(record, spec) {
        let folder = node::node_folder(&projects.0.means.state, record.id, number);
        let (start, text) = node::agent_files(record, spec, agent, number)?;
        files.push((number, folder, start, text));
    }
    let written = tokio::task::spawn_blocking(move || -> Result<_, String> {
        let mut texts = BTreeMap::new();
        for (number, folder, start, text) in files {
            for (name, text) in [(node::AGENT_START, &start), (node::AGENT_CONFIG, &text)] {
                let file = folder.join(name);
                put(&folder, &file, text)
                    .map_err(|error| format!("writing {}: {error}", file.display()))?;
            }
            texts.insert(number, (checksum(&text), text));
        }
        Ok(texts)
    });
    written.await.map_err(|error| error.to_string())?
}

/// How a node names the configuration that it follows.
fn checksum(text: &str) -> String {
    format!("{:08x}", crc32fast::hash(text.as_bytes()))
}

/// Puts a text in the place of a file, whole or not at all, unless it is there.
fn put(folder: &Path, file: &Path, text: &str) -> io::Result<()> {
    if fs::read_to_string(file).is_ok_and(|before| before == text) {
        return Ok(());
    }
    fs::create_dir_all(folder)?;
    let new = file.with_extension("new");
    fs::write(&new, text)?;
    fs::rename(&new, file)
}

/// What is seen of a node; `None` if it is not one that is to serve.
async fn see(
    projects: &Projects,
    record: &BalancerRecord,
    instance: &InstanceView,
    wanted: Option<&Made>,
    followed: &Followed,
) -> Option<NodeView> {
    let name: InstanceName = instance.name.parse().ok()?;
    let address = instance.endpoint?.ip();
    let is_well = match instance.state {
        InstanceState::Low | InstanceState::Medium | InstanceState::High => true,
        InstanceState::Init | InstanceState::Failed => false,
        InstanceState::Sundown | InstanceState::Spare => return None,
    };
    let view = |is_serving, state: String| NodeView {
        name: name.clone(),
        address,
        host: instance.host.clone(),
        is_serving,
        state,
    };
    if !is_well {
        let state = match (instance.state, instance.reason.as_str()) {
            (InstanceState::Failed, reason) => format!("it is dead: {reason}"),
            (_, reason) if instance.host.is_none() => format!("it waits for a host: {reason}"),
            (_, reason) if instance.is_in_trouble => format!("it is starting: {reason}"),
            _ => "it is starting".to_owned(),
        };
        return Some(view(false, state));
    }
    let known = |followed: &Followed| {
        let followed = followed.lock().unwrap_or_else(PoisonError::into_inner);
        followed.get(&name).cloned()
    };
    let checksum = wanted.and_then(|made| match &made.configs {
        Configs::Folders(checksums) => checksums.get(&name.number),
        Configs::Agents(texts) => texts.get(&name.number).map(|(checksum, _)| checksum),
        Configs::Carried { checksum, .. } => Some(checksum),
    });
    let (Some(checksum), Some(made)) = (checksum, wanted) else {
        return Some(view(true, "it serves".to_owned()));
    };
    if known(followed).as_ref() == Some(checksum) {
        return Some(view(true, "it serves".to_owned()));
    }
    match follow(projects, record, &name, &made.configs, checksum).await {
        Ok(()) => {
            let mut followed = followed.lock().unwrap_or_else(PoisonError::into_inner);
            followed.insert(name.clone(), checksum.clone());
            drop(followed);
            Some(view(true, "it serves".to_owned()))
        }
        // It serves by settings of before, if it has had some.
        Err(why) => Some(view(known(followed).is_some(), why)),
    }
}

/// Has a node follow its configuration.
async fn follow(
    projects: &Projects,
    record: &BalancerRecord,
    name: &InstanceName,
    configs: &Configs,
    checksum: &str,
) -> Result<(), String> {
    if let Configs::Carried { program, text, .. } = configs {
        return tell(projects, name, program, text).await;
    }
    if let Configs::Agents(texts) = configs {
        let (_, text) = texts.get(&name.number).ok_or("it has no configuration")?;
        return guest::follow_as_agent(&projects.0.controller, name, text).await;
    }
    let folder = node::node_folder(&projects.0.means.state, record.id, name.number);
    let nodes = projects.0.means.making.nodes.as_ref();
    if !nodes.is_some_and(node::are_machines) {
        return proxy::follow(HttpAddress::Unix(folder.join(node::SOCKET)), checksum).await;
    }
    let text = tokio::fs::read_to_string(folder.join(node::CONFIG)).await;
    let text = text.map_err(|error| format!("reading its configuration: {error}"))?;
    guest::follow(&projects.0.controller, name, &text, checksum).await
}

/// Has a node follow a configuration, wherever it is.
async fn tell(
    projects: &Projects,
    name: &InstanceName,
    program: &str,
    text: &str,
) -> Result<(), String> {
    let words = [program, "follow", "--config", node::CONFIG];
    let command = Command {
        words: words.map(str::to_owned).to_vec(),
        input: text.as_bytes().to_vec(),
    };
    let telling = projects.0.controller.exec(name, &command);
    let Ok(told) = tokio::time::timeout(FOLLOWING, telling).await else {
        return Err("it does not follow its configuration in time".to_owned());
    };
    let output = told.map_err(|error| error.to_string())?;
    if output.status == 0 {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    let why = errors.trim().lines().last().unwrap_or_default();
    Err(why.trim_start_matches("lb-proxy: ").to_owned())
}

/// Removes the nodes, then the folder, then the record.
async fn delete(projects: &Projects, record: &BalancerRecord) -> Result<(), String> {
    shared::give_up(projects, record.id);
    retain_streams(projects, |id| id != record.id);
    let pool = pool_of_nodes(record.id);
    let controller = &projects.0.controller;
    match controller.unmake(&pool, PoolOwner::Balancer).await {
        Ok(true) => {}
        Ok(false) => return Err("its nodes are being removed".to_owned()),
        Err(refused) => return Err(refused.to_string()),
    }
    controller.nodes().set_files(&pool, None);
    let folder = node::folder(&projects.0.means.state, record.id);
    let removed = tokio::task::spawn_blocking({
        let folder = folder.clone();
        move || fs::remove_dir_all(folder)
    });
    match removed.await.map_err(|error| error.to_string())? {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(format!("removing {}: {error}", folder.display()));
        }
        _ => {}
    }
    let gone = projects
        .order(|_| Ok((vec![Change::BalancerGone(record.id)], ())))
        .await;
    // Its subnet may be deleted, too.
    projects.0.subnets_changed.notify_one();
    gone.map_err(|error| error.to_string())
}

/// Forgets what is known of load balancers and nodes that are gone.
fn forget(projects: &Projects, records: &[Arc<BalancerRecord>], followed: &Followed) {
    let ids: BTreeSet<u64> = records.iter().map(|record| record.id).collect();
    retain_streams(projects, |id| ids.contains(&id));
    for id in projects.0.controller.agents().claimants() {
        if !ids.contains(&id) {
            shared::give_up(projects, id);
        }
    }
    let mut seen = projects.seen();
    seen.retain(|id, _| ids.contains(id));
    let nodes = seen.values().flat_map(|seen| &seen.nodes);
    let names: BTreeSet<&InstanceName> = nodes.map(|node| &node.name).collect();
    let mut followed = followed.lock().unwrap_or_else(PoisonError::into_inner);
    followed.retain(|name, _| names.contains(name));
}

/// Deletes pools and folders of nodes whose load balancer is not there, as a restored store may have them.
async fn remove_strangers(projects: &Projects, records: &[Arc<BalancerRecord>]) {
    let controller = &projects.0.controller;
    let ids: BTreeSet<u64> = records.iter().map(|one| one.id).collect();
    let is_known = |name: &PoolName| balancer_of_pool(name).is_none_or(|id| ids.contains(&id));
    controller
        .unmake_orphans(KEEPER, PoolOwner::Balancer, is_known)
        .await;
    // One that has lost its store must not remove what it finds.
    if projects.registry().is_empty() {
        return;
    }
    let root = node::root(&projects.0.means.state);
    let folders = tokio::task::spawn_blocking(move || folders(&root)).await;
    let mut folders = folders.unwrap_or_default();
    folders.retain(|id, _| !ids.contains(id) && controller.follower(&pool_of_nodes(*id)).is_none());
    let orphans = controller.orphans();
    let found = folders
        .values()
        .map(|path| (path.display().to_string(), HostName::LOCAL.to_owned()));
    let due = orphans.see(KEEPER, OrphanKind::Folder, found);
    for path in due {
        tracing::warn!("nothing refers to the folder {path}: it is removed");
        match tokio::fs::remove_dir_all(&path).await {
            Ok(()) => orphans.removed(OrphanKind::Folder),
            Err(error) => tracing::warn!("removing {path}: {error}"),
        }
    }
}

/// The folders of load balancers, by id.
fn folders(root: &Path) -> BTreeMap<u64, PathBuf> {
    // Without load balancers there is none.
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    let id = |path: &Path| path.file_name()?.to_str()?.parse().ok();
    entries
        .map(|entry| entry.path())
        .filter_map(|path| Some((id(&path)?, path)))
        .collect()
}

/// Removes the projects that are to be deleted and have nothing in them any more.
async fn remove_projects(projects: &Projects) {
    let empty: Vec<u64> = {
        let registry = projects.registry();
        let deleted = registry.projects().filter(|one| one.is_deleted);
        let empty = deleted.filter(|one| {
            registry.balancers_of(one.id).next().is_none()
                && registry.subnets_of(one.id).next().is_none()
        });
        empty.map(|one| one.id).collect()
    };
    for id in empty {
        // It is tried again while the store does not work.
        let _ = projects
            .order(|_| Ok((vec![Change::ProjectGone(id)], ())))
            .await;
    }
}

impl Projects {
    /// Takes note of what is seen of a load balancer; an event tells when it begins and ends to serve.
    pub(super) fn note(&self, record: &BalancerRecord, note: impl FnOnce(&mut Seen)) {
        let mut all = self.seen();
        let seen = all.entry(record.id).or_default();
        let before = seen.is(SERVING);
        let is_first = seen.conditions.is_empty();
        note(seen);
        let after = seen.is(SERVING);
        if before == after || (is_first && !after) {
            return;
        }
        let why = seen.conditions.iter().find(|one| one.kind == SERVING);
        let why = why.map(|one| one.why.clone()).unwrap_or_default();
        drop(all);
        self.0.serving.send_modify(|count| *count += 1);
        let verb = if after { "serves" } else { "does not serve" };
        let event = Event {
            instance: None,
            kind: if after {
                troubles::ENDS
            } else {
                troubles::BEGINS
            },
            text: format!(
                "the load balancer {} ({}) {verb}: {why}",
                record.name, record.id
            ),
            is_alarm: false,
        };
        self.0
            .controller
            .events()
            .add(Some(&pool_of_nodes(record.id)), event);
    }
}
