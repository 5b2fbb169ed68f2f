//! Subnets: orders about them, what is seen of them, and the task that makes them true. Each is a bridge of the host. The task looks
//! once a second, and at once after an order; what it does is the same after a restart.

use std::{
    collections::BTreeMap,
    sync::{MutexGuard, PoisonError, Weak},
    time::Duration,
};

use lb_drivers::bridge::{self, Bridge, Kept, Vxlan};
use lb_model::{
    host::HostName,
    pool::AddressRange,
    project::{ObjectName, SubnetSpec},
    settings::{Map, Value},
};
use tokio::time::Instant;

use super::{Change, Inner, OrderError, Projects, view::Seen};
use crate::{
    clock::unix_now,
    orphans::OrphanKind,
    pool::{Event, PoolOwner},
    registry::{Key, Refusal, Registry, SubnetRecord, Update},
    troubles,
};

/// See [`lb_serve::vital`].
pub const SUBNETS: &str = "the task that keeps subnets as they are wanted";
/// How often everything is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How long the kernel may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// How often bridges that no subnet knows are looked for while there are none.
const STRANGERS: Duration = Duration::from_secs(30);

/// That its bridge is as it is wanted.
pub const READY: &str = "ready";
/// What a subnet does, in a word.
pub const STATES: [&str; 3] = ["pending", "ready", "deleting"];

/// What is seen of a subnet.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SubnetSeen {
    /// Its conditions, and the newest settings that it follows.
    pub seen: Seen,
    /// Interfaces of the host that are connected to its bridge.
    pub ports: Vec<String>,
    /// Whether there is a bridge.
    is_made: bool,
}

/// Addresses of a subnet that a load balancer has.
#[derive(Clone, Debug, PartialEq)]
pub struct Lease {
    /// Id of the load balancer.
    pub balancer: u64,
    /// Its name.
    pub name: ObjectName,
    /// The addresses, one for each node.
    pub addresses: AddressRange,
    /// Whether it has left the subnet, and has them until its nodes are replaced.
    pub is_former: bool,
}

/// A subnet.
#[derive(Clone, Debug, PartialEq)]
pub struct SubnetView {
    /// The record.
    pub record: SubnetRecord,
    /// The name of its project.
    pub project: String,
    /// What is seen of it.
    pub seen: SubnetSeen,
    /// Its bridge.
    pub bridge: String,
    /// The addresses that load balancers are given.
    pub given: Option<AddressRange>,
    /// Who has some.
    pub leases: Vec<Lease>,
}

impl SubnetView {
    /// What it does: pending, ready or deleting.
    #[must_use]
    pub fn state(&self) -> &'static str {
        let [pending, ready, deleting] = STATES;
        match (self.record.is_deleted, self.seen.seen.is(READY)) {
            (true, _) => deleting,
            (_, true) => ready,
            _ => pending,
        }
    }
}

/// The bridge of a subnet, as it is wanted.
fn wanted(owner: &str, record: &SubnetRecord) -> Result<Bridge, String> {
    let spec = record.settings().map_err(|error| error.to_string())?;
    let SubnetSpec {
        cidr,
        gateway,
        mtu,
        vxlan,
        ..
    } = spec;
    Ok(Bridge {
        address: gateway.map(|address| (address, cidr.0.prefix_len())),
        mtu,
        vxlan: vxlan.map(|vxlan| Vxlan {
            id: vxlan.id,
            port: vxlan.port,
            underlay: vxlan.underlay,
            peers: vxlan.peers,
        }),
        ..Bridge::named(owner, record.id)
    })
}

impl Projects {
    pub(super) fn subnets_seen(&self) -> MutexGuard<'_, BTreeMap<u64, SubnetSeen>> {
        let seen = self.0.subnets_seen.lock();
        seen.unwrap_or_else(PoisonError::into_inner)
    }

    /// The bridge of a subnet that a load balancer is in.
    ///
    /// # Errors
    /// There is none yet.
    pub(super) fn bridge_of(&self, subnet: u64) -> Result<String, String> {
        let all = self.subnets_seen();
        let seen = all.get(&subnet);
        if seen.is_some_and(|seen| seen.is_made) {
            return Ok(Bridge::name_of(&self.0.means.owner, subnet));
        }
        let conditions = seen.map(|seen| seen.seen.conditions.as_slice());
        let why = conditions
            .unwrap_or_default()
            .iter()
            .find(|one| one.kind == READY);
        Err(why.map_or_else(
            || "its subnet is being made".to_owned(),
            |why| format!("its subnet is not there: {}", why.why),
        ))
    }

    /// Has the registry know the addresses that pools of the operator have in subnets.
    pub(super) fn reserve(&self) {
        let ids: Vec<u64> = self.registry().subnets().map(|one| one.id).collect();
        if ids.is_empty() {
            return;
        }
        let names = ids
            .into_iter()
            .map(|id| (Bridge::name_of(&self.0.means.owner, id), id));
        let names: BTreeMap<String, u64> = names.collect();
        let mut reserved: BTreeMap<u64, Vec<AddressRange>> = BTreeMap::new();
        for view in self.0.controller.views(None).unwrap_or_default() {
            // Those of nodes are known, and stay known until nobody has them.
            if view.owner == PoolOwner::Balancer {
                continue;
            }
            for (bridge, range, _) in view.spec.network.bridges() {
                if let Some(id) = names.get(bridge) {
                    reserved.entry(*id).or_default().push(*range);
                }
            }
        }
        self.registry().reserve(reserved);
    }

    /// Creates a subnet.
    ///
    /// # Errors
    /// [`OrderError`].
    pub async fn create_subnet(
        &self,
        project: &Key,
        name: ObjectName,
        settings: &Map<String, Value>,
    ) -> Result<SubnetView, OrderError> {
        let record = self
            .order(|registry| {
                let record = registry.new_subnet(project, name, settings, unix_now())?;
                Ok((vec![Change::Subnet(record.clone())], record))
            })
            .await?;
        self.0.subnets_changed.notify_one();
        Ok(self.subnet_view(&self.registry(), &record))
    }

    /// Changes settings of a subnet.
    ///
    /// # Errors
    /// [`OrderError`].
    pub async fn update_subnet(
        &self,
        project: &Key,
        key: &Key,
        settings: &Map<String, Value>,
        update: Update,
    ) -> Result<SubnetView, OrderError> {
        let record = self
            .order(|registry| {
                let record = registry.changed_subnet(project, key, settings, update)?;
                Ok((vec![Change::Subnet(record.clone())], record))
            })
            .await?;
        self.0.subnets_changed.notify_one();
        Ok(self.subnet_view(&self.registry(), &record))
    }

    /// Deletes a subnet; with `everything` the load balancers in it, too. It is gone when nothing is in it.
    ///
    /// # Errors
    /// [`OrderError`].
    pub async fn delete_subnet(
        &self,
        project: &Key,
        key: &Key,
        everything: bool,
    ) -> Result<SubnetView, OrderError> {
        let record = self
            .order(|registry| {
                let (record, balancers) = registry.deleted_subnet(project, key, everything)?;
                let mut changes: Vec<_> = balancers.into_iter().map(Change::Balancer).collect();
                changes.push(Change::Subnet(record.clone()));
                Ok((changes, record))
            })
            .await?;
        self.0.subnets_changed.notify_one();
        Ok(self.subnet_view(&self.registry(), &record))
    }

    /// A subnet of a project.
    ///
    /// # Errors
    /// There is none.
    pub fn subnet(&self, project: &Key, key: &Key) -> Result<SubnetView, Refusal> {
        let registry = self.registry();
        let record = registry.subnet(registry.project(project)?, key)?;
        Ok(self.subnet_view(&registry, record))
    }

    /// The subnet with this id, of whatever project.
    #[must_use]
    pub fn subnet_by_id(&self, id: u64) -> Option<SubnetView> {
        let registry = self.registry();
        let record = registry.subnet_by_id(id)?;
        Some(self.subnet_view(&registry, record))
    }

    /// The subnets of a project, or all, by id.
    ///
    /// # Errors
    /// There is no such project.
    pub fn subnets(&self, project: Option<&Key>) -> Result<Vec<SubnetView>, Refusal> {
        let registry = self.registry();
        let project = project.map(|key| registry.project(key)).transpose()?;
        let is_wanted =
            |one: &&SubnetRecord| project.is_none_or(|project| project.id == one.project);
        let records = registry.subnets().filter(is_wanted);
        Ok(records
            .map(|record| self.subnet_view(&registry, record))
            .collect())
    }

    /// How many subnets there are in each state.
    #[must_use]
    pub fn subnet_counts(&self) -> BTreeMap<&'static str, usize> {
        let mut states: BTreeMap<_, _> = STATES.iter().map(|state| (*state, 0)).collect();
        for view in self.subnets(None).unwrap_or_default() {
            *states.entry(view.state()).or_default() += 1;
        }
        states
    }

    fn subnet_view(&self, registry: &Registry, record: &SubnetRecord) -> SubnetView {
        let project = registry.project(&Key::Id(record.project));
        let leases = registry.holders(record.id).map(|holder| Lease {
            balancer: holder.balancer.id,
            name: holder.balancer.name.clone(),
            addresses: holder.addresses,
            is_former: holder.is_former,
        });
        SubnetView {
            record: record.clone(),
            project: project.map(|one| one.name.to_string()).unwrap_or_default(),
            seen: self
                .subnets_seen()
                .get(&record.id)
                .cloned()
                .unwrap_or_default(),
            bridge: Bridge::name_of(&self.0.means.owner, record.id),
            given: record.settings().ok().map(|spec| spec.given()),
            leases: leases.collect(),
        }
    }
}

/// What the task remembers.
#[derive(Debug, Default)]
struct Memory {
    /// The ports of bridges, by the bridge's name: they become its ports again when it is made again.
    ports: BTreeMap<String, Vec<String>>,
    /// When bridges were looked for that no subnet knows.
    looked: Option<Instant>,
    /// Whether there were some.
    has_strangers: bool,
}

/// Makes the records true until the projects are gone.
pub(super) async fn run(inner: Weak<Inner>) {
    let mut memory = Memory::default();
    loop {
        let Some(inner) = inner.upgrade() else {
            return;
        };
        let projects = Projects(inner);
        look(&projects, &mut memory).await;
        tokio::select! {
            () = projects.0.subnets_changed.notified() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// Looks at all subnets.
async fn look(projects: &Projects, memory: &mut Memory) {
    let owner = projects.0.means.owner.clone();
    let (gone, kept): (Vec<SubnetRecord>, Vec<SubnetRecord>) = {
        let registry = projects.registry();
        let is_gone = |one: &SubnetRecord| one.is_deleted && registry.is_unused(one.id);
        registry.subnets().cloned().partition(is_gone)
    };
    for record in gone {
        if let Err(why) = remove(projects, &record).await {
            note(projects, &record, &Err(why));
        }
    }
    let is_due = memory
        .looked
        .is_none_or(|looked| looked.elapsed() >= STRANGERS);
    if kept.is_empty() && !is_due && !memory.has_strangers {
        return;
    }
    memory.looked = Some(Instant::now());
    let mut bridges = Vec::new();
    for record in &kept {
        match wanted(&owner, record) {
            Ok(bridge) => bridges.push(bridge),
            Err(why) => note(projects, record, &Err(why)),
        }
    }
    let ports = memory.ports.clone();
    let looked = blocking(move || bridge::keep(&owner, &bridges, &ports)).await;
    let (mut results, strangers) = match looked {
        Ok(looked) => looked,
        Err(why) => {
            for record in &kept {
                note(projects, record, &Err(why.clone()));
            }
            return;
        }
    };
    memory.ports.clear();
    for record in &kept {
        let name = Bridge::name_of(&projects.0.means.owner, record.id);
        let Some(result) = results.remove(&name) else {
            continue;
        };
        if let Ok(kept) = &result {
            memory.ports.insert(name, kept.ports.clone());
        }
        note(projects, record, &result);
    }
    let ids: Vec<u64> = kept.iter().map(|record| record.id).collect();
    projects.subnets_seen().retain(|id, _| ids.contains(id));
    // One that has lost its store must not remove what it finds.
    if !projects.registry().is_empty() {
        memory.has_strangers = collect(projects, strangers).await;
    }
}

/// Removes bridges of subnets that are not there, as a restored store may have them; not those that are in use. Returns whether there
/// are any.
async fn collect(projects: &Projects, strangers: Vec<bridge::Stranger>) -> bool {
    let orphans = projects.0.controller.orphans();
    let unused = strangers.into_iter().filter(|one| one.ports.is_empty());
    let unused: Vec<String> = unused.map(|one| one.name).collect();
    let has_any = !unused.is_empty();
    let unused = unused
        .into_iter()
        .map(|name| (name, HostName::LOCAL.to_owned()));
    for name in orphans.see(SUBNETS, OrphanKind::Bridge, unused) {
        tracing::warn!("{name} is the bridge of a subnet that is not there: it is removed");
        match blocking(move || bridge::remove(&name)).await {
            Ok(()) => orphans.removed(OrphanKind::Bridge),
            Err(why) => tracing::warn!("{why}"),
        }
    }
    has_any
}

/// Removes the bridge, then the record.
async fn remove(projects: &Projects, record: &SubnetRecord) -> Result<(), String> {
    let name = Bridge::name_of(&projects.0.means.owner, record.id);
    blocking(move || bridge::remove(&name)).await?;
    let gone = projects
        .order(|_| Ok((vec![Change::SubnetGone(record.id)], ())))
        .await;
    gone.map_err(|error| error.to_string())
}

/// Does blocking work, for a limited time.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    match tokio::time::timeout(DEADLINE, tokio::task::spawn_blocking(work)).await {
        Ok(Ok(done)) => done,
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the kernel does not answer".to_owned()),
    }
}

/// Takes note of what became of a subnet's bridge; an event tells when it begins and ends to be as it is wanted.
fn note(projects: &Projects, record: &SubnetRecord, result: &Result<Kept, String>) {
    let mut all = projects.subnets_seen();
    let own = all.entry(record.id).or_default();
    let (was_ready, was_made) = (own.seen.is(READY), own.is_made);
    let was_followed = own.seen.observed_generation == record.generation;
    let is_first = own.seen.conditions.is_empty();
    let (is_ready, why) = match result {
        Ok(kept) => {
            own.ports.clone_from(&kept.ports);
            own.is_made = true;
            own.seen.observed_generation = record.generation;
            (
                true,
                format!("its bridge is there, with {} ports", kept.ports.len()),
            )
        }
        Err(why) => (false, why.clone()),
    };
    own.seen.state(READY, is_ready, why.clone());
    drop(all);
    if !was_made && is_ready {
        // Load balancers may wait for it.
        projects.0.changed.notify_one();
    }
    let about = format!("the subnet {} ({})", record.name, record.id);
    if let Ok(kept) = result
        && !kept.done.is_empty()
    {
        let done = kept.done.join(", ");
        if was_ready && was_followed {
            tracing::warn!("{about} was not as it is wanted: {done}");
        } else {
            tracing::info!("{about}: {done}");
        }
    }
    if was_ready == is_ready || (is_first && is_ready) {
        return;
    }
    let (kind, verb) = if is_ready {
        (troubles::ENDS, "is ready")
    } else {
        (troubles::BEGINS, "is not ready")
    };
    let event = Event {
        instance: None,
        kind,
        text: format!("{about} {verb}: {why}"),
        is_alarm: false,
    };
    projects.0.controller.events().add(None, event);
}
