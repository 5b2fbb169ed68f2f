//! Projects, their load balancers and subnets.
//!
//! Which there are is decided by [`crate::registry`], purely.
//!
//! - `reconcile.rs`: the task that makes it true: nodes are a pool of `lb-proxy` whose configuration files it writes.
//! - `guest.rs`: how nodes that are virtual machines follow their configuration.
//! - `shared.rs`: those that are VIPs of agents.
//! - `subnets.rs`: subnets, and the task that keeps their bridges.
//! - `names.rs`: their names in DNS.
//!
//! An order is accepted when it is stored, and converges then: no object is ever locked, and each says in conditions how far it
//! is.

mod guest;
mod names;
mod reconcile;
mod shared;
mod subnets;
mod view;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use lb_model::{
    dns::{Label, RecordName},
    pool::{Placement, PoolName, PoolSpec},
    project::{BalancerSpec, ObjectName},
    settings::{FieldError, Map, Value},
};
use lb_serve::vital::Registrar;
use tokio::sync::{Notify, watch};

pub use self::{
    names::{Names, PUSHER, SERVER, StoredNames},
    reconcile::KEEPER,
    subnets::{Lease, SUBNETS, SubnetSeen, SubnetView},
    view::{BalancerView, COMPLETE, Condition, NodeView, ProjectView, SERVING},
};
use crate::{
    KINDS,
    clock::unix_now,
    controller::Controller,
    keeper::{Changes, Keeper, KeeperError},
    records::Counter,
    registry::{
        BalancerRecord, Key, Making, ProjectRecord, Refusal, Registry, SubnetRecord, Update,
    },
    worker::PoolView,
};

/// The setting of a load balancer that puts it into a subnet.
const SUBNET: &str = "subnet";

/// Why an order was not followed. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// It was refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store does not work.
    #[error("nothing was changed: {0}")]
    Store(#[from] KeeperError),
}

/// What load balancers are made with.
#[derive(Clone, Debug)]
pub struct Means {
    /// The controller's name: bridges and instances belong to the controller of it.
    pub owner: String,
    /// The operator's settings.
    pub making: Making,
    /// The controller's folder.
    pub state: PathBuf,
    /// The program of nodes that are processes.
    pub program: PathBuf,
}

/// All projects and load balancers.
#[derive(Clone, Debug)]
pub struct Projects(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    means: Means,
    controller: Controller,
    keeper: Keeper,
    /// Their names, if they have some.
    names: Option<Names>,
    registry: Mutex<Registry>,
    /// Held while an order is stored: the next one is checked against what follows from it.
    ordering: tokio::sync::Mutex<()>,
    /// What is seen of each load balancer, by id.
    seen: Mutex<BTreeMap<u64, view::Seen>>,
    /// What is seen of each subnet, by id.
    subnets_seen: Mutex<BTreeMap<u64, SubnetSeen>>,
    /// Wakes the task that makes it true.
    changed: Notify,
    /// Wakes the task that keeps subnets.
    subnets_changed: Notify,
    /// Counts how often a load balancer has begun or ended to serve.
    serving: watch::Sender<u64>,
    /// The sockets at which nodes read pools.
    streams: watch::Sender<Streams>,
}

/// The sockets at which the nodes of load balancers read the pool that is behind them, by the id of the load balancer and the
/// number of the node.
pub type Streams = BTreeMap<(u64, u32), (PathBuf, PoolName)>;

/// A record that follows from an order.
enum Change {
    Project(ProjectRecord),
    Balancer(BalancerRecord),
    Subnet(SubnetRecord),
    ProjectGone(u64),
    BalancerGone(u64),
    SubnetGone(u64),
}

impl Projects {
    /// Takes up what is stored, and starts the task that makes it true.
    #[must_use]
    pub fn start(
        means: Means,
        controller: Controller,
        keeper: Keeper,
        registry: Registry,
        names: Option<Names>,
        parts: &Registrar,
    ) -> Self {
        let projects = Projects(Arc::new(Inner {
            means,
            controller,
            keeper,
            names,
            registry: Mutex::new(registry),
            ordering: tokio::sync::Mutex::default(),
            seen: Mutex::default(),
            subnets_seen: Mutex::default(),
            changed: Notify::new(),
            subnets_changed: Notify::new(),
            serving: watch::Sender::default(),
            streams: watch::Sender::default(),
        }));
        let task = reconcile::run(Arc::downgrade(&projects.0));
        parts.spawn(KEEPER, "projects".to_owned(), task);
        let task = subnets::run(Arc::downgrade(&projects.0));
        parts.spawn(SUBNETS, "subnets".to_owned(), task);
        projects
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.0
            .registry
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn seen(&self) -> MutexGuard<'_, BTreeMap<u64, view::Seen>> {
        self.0.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn making(&self) -> &Making {
        &self.0.means.making
    }

    /// Checks an order, stores what follows from it, and takes that up.
    async fn order<R>(
        &self,
        decide: impl FnOnce(&Registry) -> Result<(Vec<Change>, R), Refusal>,
    ) -> Result<R, OrderError> {
        let _ordering = self.0.ordering.lock().await;
        let (changes, result) = decide(&self.registry())?;
        let (write, undo) = self.written(&changes);
        if let Err(error) = self.0.keeper.write(write).await {
            // It may be written after all.
            self.0.keeper.owe(undo);
            return Err(error.into());
        }
        let mut registry = self.registry();
        for change in changes {
            match change {
                Change::Project(record) => registry.put_project(record),
                Change::Balancer(record) => registry.put_balancer(record),
                Change::ProjectGone(id) => registry.remove_project(id),
                Change::BalancerGone(id) => registry.remove_balancer(id),
                Change::Subnet(record) => registry.put_subnet(record),
                Change::SubnetGone(id) => registry.remove_subnet(id),
            }
        }
        drop(registry);
        self.0.changed.notify_one();
        Ok(result)
    }

    /// What is written for these changes, and what undoes it.
    fn written(&self, changes: &[Change]) -> (Changes, Changes) {
        let registry = self.registry();
        let mut write = Changes::default();
        let mut undo = Changes::default();
        let mut last = registry.last_id();
        for change in changes {
            match change {
                Change::Project(record) => {
                    last = last.max(record.id);
                    write.put(record.id, record);
                    undo.set(record.id, registry.project(&Key::Id(record.id)).ok());
                }
                Change::Balancer(record) => {
                    last = last.max(record.id);
                    write.put(record.id, record);
                    undo.set(record.id, registry.balancer_by_id(record.id));
                }
                Change::ProjectGone(id) => {
                    write.remove::<ProjectRecord>(id);
                    undo.set(id, registry.project(&Key::Id(*id)).ok());
                }
                Change::Subnet(record) => {
                    last = last.max(record.id);
                    write.put(record.id, record);
                    undo.set(record.id, registry.subnet_by_id(record.id));
                }
                Change::SubnetGone(id) => {
                    write.remove::<SubnetRecord>(id);
                    undo.set(id, registry.subnet_by_id(*id));
                }
                Change::BalancerGone(id) => {
                    write.remove::<BalancerRecord>(id);
                    undo.set(id, registry.balancer_by_id(*id));
                }
            }
        }
        if last > registry.last_id() {
            write.put(Counter::LAST_ID, &Counter(last));
        }
        (write, undo)
    }

    /// Creates a project.
    ///
    /// # Errors
    /// [`OrderError`].
    pub async fn create_project(
        &self,
        name: ObjectName,
        settings: &Map<String, Value>,
    ) -> Result<ProjectView, OrderError> {
        let record = self
            .order(|registry| {
                let record = registry.new_project(name, settings, unix_now())?;
                Ok((vec![Change::Project(record.clone())], record))
            })
            .await?;
        Ok(self.project_view(&self.registry(), &record))
    }

    /// Changes settings of a project.
    ///
    /// # Errors
    /// [`OrderError`].
    pub async fn update_project(
        &self,
        key: &Key,
        settings: &Map<String, Value>,
        update: Update,
    ) -> Result<ProjectView, OrderError> {
        let record = self
            .order(|registry| {
                let record = registry.changed_project(key, settings, update, self.making())?;
                Ok((vec![Change::Project(record.clone())], record))
            })
            .await?;
        Ok(self.project_view(&self.registry(), &record))
    }

    /// Deletes a project; with `everything` its load balancers and subnets, too, after which it is gone.
    ///
    /// # Errors
    /// [`OrderError`].
    pub async fn delete_project(
        &self,
        key: &Key,
        everything: bool,
    ) -> Result<ProjectView, OrderError> {
        let view = self.project(key)?;
        self.order(|registry| {
            let (project, balancers, subnets) = registry.deleted_project(key, everything)?;
            let mut changes: Vec<Change> = balancers.into_iter().map(Change::Balancer).collect();
            changes.extend(subnets.into_iter().map(Change::Subnet));
            changes.push(if changes.is_empty() {
                Change::ProjectGone(project.id)
            } else {
                Change::Project(project)
            });
            Ok((changes, ()))
        })
        .await?;
        self.0.subnets_changed.notify_one();
        Ok(view)
    }

    /// Creates a load balancer.
    ///
    /// # Errors
    /// [`OrderError`].
    pub async fn create_balancer(
        &self,
        project: &Key,
        name: ObjectName,
        settings: &Map<String, Value>,
    ) -> Result<BalancerView, OrderError> {
        if settings.contains_key(SUBNET) {
            self.reserve();
        }
        let record = self
            .order(|registry| {
                let record =
                    registry.new_balancer(project, name, settings, self.making(), unix_now())?;
                self.check_pool_of(registry, &record)?;
                Ok((vec![Change::Balancer(record.clone())], record))
            })
            .await?;
        Ok(self.balancer_view(&self.registry(), &record))
    }

    /// Changes settings of a load balancer.
    ///
    /// # Errors
    /// [`OrderError`].
    pub async fn update_balancer(
        &self,
        project: &Key,
        key: &Key,
        settings: &Map<String, Value>,
        update: Update,
    ) -> Result<BalancerView, OrderError> {
        if settings.contains_key(SUBNET) {
            self.reserve();
        }
        let record = self
            .order(|registry| {
                let making = self.making();
                let record = registry.changed_balancer(project, key, settings, update, making)?;
                self.check_pool_of(registry, &record)?;
                Ok((vec![Change::Balancer(record.clone())], record))
            })
            .await?;
        Ok(self.balancer_view(&self.registry(), &record))
    }

    /// Gives a project a pool of one of its environments, or other settings of it, if its quota allows that: `make` makes it.
    ///
    /// # Errors
    /// [`OrderError`], if it is not allowed; otherwise what `make` says.
    pub async fn admit<R>(
        &self,
        project: u64,
        pool: &PoolName,
        spec: PoolSpec,
        make: impl AsyncFnOnce(PoolSpec) -> R,
    ) -> Result<R, OrderError> {
        // The next order is checked against what this one takes.
        let _ordering = self.0.ordering.lock().await;
        {
            let mut registry = self.registry();
            registry.check_guest(&Key::Id(project), pool, &spec, self.making())?;
            registry.put_guest(project, pool.clone(), &spec);
        }
        Ok(make(spec).await)
    }

    /// Takes up a pool of an environment that an earlier process has admitted.
    pub fn restore_guest(&self, project: u64, pool: PoolName, spec: &PoolSpec) {
        self.registry().put_guest(project, pool, spec);
    }

    /// A pool of an environment is gone.
    pub fn release(&self, pool: &PoolName) {
        self.registry().remove_guest(pool);
    }

    /// The pool behind a load balancer has to be there, and for its project; one that it had before need not.
    fn check_pool_of(&self, registry: &Registry, record: &BalancerRecord) -> Result<(), Refusal> {
        let pool_of = |record: &BalancerRecord| {
            let spec = BalancerSpec::read(&record.spec, KINDS.probes);
            spec.map(|spec| spec.pool).map_err(Refusal::Invalid)
        };
        let before = registry.balancer_by_id(record.id).map(pool_of);
        let (Some(project), Some(pool)) = (registry.project_of(record), pool_of(record)?) else {
            return Ok(());
        };
        if matches!(before, Some(Ok(Some(before))) if before == pool) {
            return Ok(());
        }
        self.check_pool(&project.name, &pool)
            .map_err(Refusal::Invalid)
    }

    /// Whether load balancers of a project may have this pool behind them. Whether there is one that is for others is nobody's
    /// business.
    fn check_pool(&self, project: &ObjectName, pool: &PoolName) -> Result<(), FieldError> {
        let views = self.0.controller.views(Some(pool)).unwrap_or_default();
        let is_for = |view: &PoolView| view.spec.projects.contains(project);
        if views.iter().any(|view| !view.is_deleted && is_for(view)) {
            return Ok(());
        }
        let advice = format!(
            "there is no such pool for the project {project}; its operator adds one, or allows it with `projects` of the pool"
        );
        Err(FieldError::new("pool", pool, advice))
    }

    /// Which hosts run the nodes of load balancers that do not say so themselves; `None`: the controller's own.
    #[must_use]
    pub fn placement(&self) -> Option<Placement> {
        let nodes = self.making().nodes.as_ref();
        nodes.and_then(|nodes| nodes.placement.clone())
    }

    /// Changes when a load balancer begins or ends to serve.
    #[must_use]
    pub fn serving(&self) -> watch::Receiver<u64> {
        self.0.serving.subscribe()
    }

    /// The sockets at which nodes are to read pools.
    #[must_use]
    pub fn streams(&self) -> watch::Receiver<Streams> {
        self.0.streams.subscribe()
    }

    /// Deletes a load balancer; it is gone when its nodes are.
    ///
    /// # Errors
    /// [`OrderError`].
    pub async fn delete_balancer(
        &self,
        project: &Key,
        key: &Key,
    ) -> Result<BalancerView, OrderError> {
        let record = self
            .order(|registry| {
                let record = registry.deleted_balancer(project, key)?;
                Ok((vec![Change::Balancer(record.clone())], record))
            })
            .await?;
        Ok(self.balancer_view(&self.registry(), &record))
    }

    /// A project.
    ///
    /// # Errors
    /// There is none.
    pub fn project(&self, key: &Key) -> Result<ProjectView, Refusal> {
        let registry = self.registry();
        let record = registry.project(key)?;
        Ok(self.project_view(&registry, record))
    }

    /// All projects, by id.
    #[must_use]
    pub fn projects(&self) -> Vec<ProjectView> {
        let registry = self.registry();
        let views = registry.projects();
        views
            .map(|record| self.project_view(&registry, record))
            .collect()
    }

    /// A load balancer of a project.
    ///
    /// # Errors
    /// There is none.
    pub fn balancer(&self, project: &Key, key: &Key) -> Result<BalancerView, Refusal> {
        let registry = self.registry();
        let record = registry.balancer(registry.project(project)?, key)?;
        Ok(self.balancer_view(&registry, record))
    }

    /// The load balancer with this id, of whatever project.
    #[must_use]
    pub fn balancer_by_id(&self, id: u64) -> Option<BalancerView> {
        let registry = self.registry();
        let record = registry.balancer_by_id(id)?;
        Some(self.balancer_view(&registry, record))
    }

    /// The load balancers of a project, or all, by id.
    ///
    /// # Errors
    /// There is no such project.
    pub fn balancers(&self, project: Option<&Key>) -> Result<Vec<BalancerView>, Refusal> {
        let registry = self.registry();
        let project = project.map(|key| registry.project(key)).transpose()?;
        let wanted = |id: u64| project.is_none_or(|one| one.id == id);
        let records = registry.balancers().filter(|one| wanted(one.project));
        Ok(records
            .map(|record| self.balancer_view(&registry, record))
            .collect())
    }

    fn project_view(&self, registry: &Registry, record: &ProjectRecord) -> ProjectView {
        let balancers = registry.balancers_of(record.id);
        ProjectView {
            record: record.clone(),
            balancers: balancers.map(|one| (one.id, one.name.clone())).collect(),
            subnets: registry
                .subnets_of(record.id)
                .map(|one| (one.id, one.name.clone()))
                .collect(),
        }
    }

    fn balancer_view(&self, registry: &Registry, record: &BalancerRecord) -> BalancerView {
        let project = registry.project_of(record);
        let seen = self.seen().get(&record.id).cloned().unwrap_or_default();
        let name = project.map(|one| one.name.to_string()).unwrap_or_default();
        let full = self.0.names.as_ref().and_then(|names| {
            let name = record_name(project?, record);
            seen.is(view::NAMED).then(|| names.full(&name))
        });
        BalancerView::new(record, name, seen, full)
    }

    /// How many projects there are, and load balancers in each state.
    #[must_use]
    pub fn counts(&self) -> (usize, BTreeMap<&'static str, usize>) {
        let mut states: BTreeMap<_, _> = view::STATES.iter().map(|state| (*state, 0)).collect();
        for view in self.balancers(None).unwrap_or_default() {
            *states.entry(view.state()).or_default() += 1;
        }
        (self.registry().projects().count(), states)
    }

    /// What the server of DNS has counted, if there is one.
    #[must_use]
    pub fn dns_counts(&self) -> Option<lb_dns::Counts> {
        self.0.names.as_ref()?.counts()
    }
}

/// The name of a load balancer in the zone.
fn record_name(project: &ProjectRecord, balancer: &BalancerRecord) -> RecordName {
    name_in(project, &balancer.name)
}

/// The name of another load balancer of the project in the zone.
fn name_in(project: &ProjectRecord, balancer: &ObjectName) -> RecordName {
    RecordName {
        project: label(&project.name),
        balancer: label(balancer),
    }
}

/// # Panics
/// Never: names of objects are labels.
fn label(name: &ObjectName) -> Label {
    name.as_str().parse().expect("names are labels")
}
