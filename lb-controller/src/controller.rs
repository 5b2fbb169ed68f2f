//! All pools: their tasks, and what callers ask of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use lb_commands::environment::Power;
use lb_drivers::{Bounded, Command, Driver as _, Output};
use lb_model::{
    environment::is_pool_of_environment,
    host::HostName,
    pool::{DriverChoice, InstanceName, PoolName, PoolSpec},
    project::is_pool_of_nodes,
    settings::{FieldError, Map, SettingType as _, Settings as _, Value},
};
use lb_serve::{vital::Registrar, watchdog::Pulse};
use tokio::{
    sync::{Semaphore, oneshot, watch},
    time::{Instant, MissedTickBehavior},
};

use crate::{
    KINDS,
    agents::Agents,
    clock::unix_now,
    events::Events,
    history::Recorder,
    hosts::Hosts,
    hub::{Engine, Hub},
    keeper::{Changes, Keeper, KeeperError},
    nodes::Nodes,
    orphans::{OrphanKind, Orphans},
    pool::{Now, Pool, PoolOwner, PoolRecord, Role, StoredPool},
    troubles::{self, Troubles},
    worker::{Handle, Means, Order, PoolView, Report, Worker},
};

/// See [`lb_serve::vital`].
pub const COLLECTOR: &str = "the task that looks for instances of pools that are gone";
/// How often instances of pools that do not exist are looked for.
const COLLECT: Duration = Duration::from_secs(5);
/// How long a call of a collector may take.
const COLLECT_DEADLINE: Duration = Duration::from_secs(60);

/// Why a request was refused.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// There is no such pool.
    #[error("there is no pool {0}; `lbctl pool list` shows them")]
    NoPool(PoolName),
    /// There is one already.
    #[error("there is a pool {0} already; `lbctl pool set` changes it")]
    Exists(PoolName),
    /// It is being deleted.
    #[error("the pool {0} is being deleted; add it again when it is gone")]
    Deleting(PoolName),
    /// It is the configuration file's.
    #[error(
        "the pool {0} is the configuration file's: change it there, and reload the controller (SIGHUP)"
    )]
    OfFile(PoolName),
    /// It is a load balancer's.
    #[error(
        "the pool {0} has the nodes of a load balancer: change that (`lbctl lb list` shows them)"
    )]
    OfBalancer(PoolName),
    /// It is a member of an environment.
    #[error(
        "the pool {0} is a member of an environment: change that (`lbctl env list` shows them)"
    )]
    OfEnvironment(PoolName),
    /// A setting cannot have its value.
    #[error("{0}")]
    Invalid(FieldError),
    /// The driver does not work on this machine.
    #[error("{0}")]
    Driver(String),
    /// The store does not work.
    #[error("nothing was changed: {0}")]
    Store(#[from] KeeperError),
    /// Its driver cannot pause.
    #[error(
        "the pool {0} cannot be suspended: its driver {1} cannot pause instances; stop it instead"
    )]
    CannotPause(PoolName, String),
    /// The pool's task has ended.
    #[error("the task of pool {0} has ended; restart the controller")]
    Ended(PoolName),
    /// There is no such instance.
    #[error("there is no instance {0}; `lbctl pool list {pool}` shows those of its pool", pool = .0.pool)]
    NoInstance(InstanceName),
    /// An instance's driver refused.
    #[error("{0}")]
    Instance(lb_drivers::DriverError),
}

/// What pools work with.
#[derive(Debug)]
pub struct Ground {
    /// The drivers.
    pub hub: Hub,
    /// The hosts.
    pub hosts: Hosts,
    /// The store.
    pub keeper: Keeper,
    /// The agents.
    pub agents: Agents,
    /// The events.
    pub events: Events,
    /// Probes at a time, of all pools.
    pub probes: Arc<Semaphore>,
    /// What nothing refers to any more.
    pub orphans: Orphans,
}

/// All pools.
#[derive(Clone, Debug)]
pub struct Controller(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    hub: Arc<Hub>,
    hosts: Hosts,
    keeper: Keeper,
    agents: Agents,
    events: Events,
    probes: Arc<Semaphore>,
    nodes: Nodes,
    orphans: Orphans,
    started: Instant,
    pools: Mutex<BTreeMap<PoolName, Handle>>,
    /// Those of them that are to be deleted.
    deleted: Mutex<BTreeSet<PoolName>>,
    /// Changes when a pool comes or goes.
    names: watch::Sender<u64>,
    recorder: Recorder,
    parts: Registrar,
    /// What is wrong with the controller as a whole.
    warnings: Mutex<(troubles::Now, Troubles)>,
}

/// What an operator can ask of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// To do nothing, with its memory, until it is resumed.
    Pause,
    /// To be on disk until it is resumed.
    Suspend,
    /// To go on.
    Resume,
    /// To be stopped and started.
    Reboot,
    /// To have another one beside it that is as it is now.
    Clone,
    /// To move to this host while it runs.
    Move(HostName),
}

impl Operation {
    /// The operation of this name; a move needs a host.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn parse(word: &str, host: Option<&str>) -> Result<Self, String> {
        let operation = match word {
            "pause" => Operation::Pause,
            "suspend" => Operation::Suspend,
            "resume" => Operation::Resume,
            "reboot" => Operation::Reboot,
            "clone" => Operation::Clone,
            "move" => {
                let host = host.ok_or("host: give the host that it is to move to")?;
                let host = host.parse();
                return Ok(Operation::Move(host.map_err(
                    |error: lb_model::host::HostNameError| format!("host: {error}"),
                )?));
            }
            _ => {
                return Err(format!(
                    "operation: {word:?} is none; give pause, suspend, resume, reboot, clone or move"
                ));
            }
        };
        Ok(operation)
    }
}

fn instance_error(name: &InstanceName, error: lb_drivers::DriverError) -> Refused {
    match error.code() {
        lb_drivers::ErrorCode::NotFound => Refused::NoInstance(name.clone()),
        _ => Refused::Instance(error),
    }
}

impl Controller {
    /// Starts the tasks of the pools that are stored. A controller that `is_new` removes no instance of a pool that it does not
    /// know.
    ///
    /// # Errors
    /// The driver of a pool does not work.
    pub fn start(
        ground: Ground,
        stored: Vec<StoredPool>,
        is_new: bool,
        parts: Registrar,
    ) -> Result<Self, Refused> {
        let Ground {
            hub,
            hosts,
            keeper,
            agents,
            events,
            probes,
            orphans,
        } = ground;
        let controller = Controller(Arc::new(Inner {
            hub: Arc::new(hub),
            hosts,
            keeper,
            agents,
            events,
            probes,
            nodes: Nodes::default(),
            orphans,
            started: Instant::now(),
            pools: Mutex::default(),
            deleted: Mutex::default(),
            names: watch::Sender::new(0),
            recorder: Recorder::default(),
            parts: parts.clone(),
            warnings: Mutex::default(),
        }));
        for pool in stored {
            controller.restore(pool)?;
        }
        let collecting = collect(Arc::downgrade(&controller.0), is_new);
        parts.spawn(COLLECTOR, controller.0.hub.owner().to_owned(), collecting);
        Ok(controller)
    }

    fn restore(&self, stored: StoredPool) -> Result<(), Refused> {
        let mut pool = Pool::new(stored.name, stored.spec, stored.record.generation);
        pool.last_epoch = stored.record.last_epoch;
        pool.is_deleted = stored.record.is_deleted;
        pool.owner = stored.record.owner;
        pool.power = stored.record.power;
        pool.scaling = stored.learned.scaling;
        let now = Now {
            monotonic: Duration::from_secs(30 * 86_400),
            unix: unix_now(),
        };
        for record in stored.instances {
            pool.restore(record, now);
        }
        let deleted = pool.is_deleted.then(|| pool.name.clone());
        self.run(pool)?;
        self.deleted().extend(deleted);
        Ok(())
    }

    fn run(&self, pool: Pool) -> Result<(), Refused> {
        let engine = self
            .0
            .hub
            .open(pool.spec.driver(), pool.spec.driver_deadline)
            .map_err(|error| Refused::Driver(error.to_string()))?;
        let name = pool.name.clone();
        let means = Means {
            engine,
            hub: Arc::clone(&self.0.hub),
            hosts: self.0.hosts.clone(),
            keeper: self.0.keeper.clone(),
            agents: self.0.agents.clone(),
            events: self.0.events.clone(),
            probes: Arc::clone(&self.0.probes),
            nodes: self.0.nodes.clone(),
            orphans: self.0.orphans.clone(),
            started: self.0.started,
            parts: self.0.parts.clone(),
            owner: self.0.hub.owner().to_owned(),
            recorder: self.0.recorder.clone(),
        };
        let handle = Worker::start(pool, means);
        self.pools().insert(name, handle);
        self.0.names.send_modify(|count| *count += 1);
        Ok(())
    }

    /// Opens the drivers that hosts were used with, whatever pools there are: what is left there of pools that are gone is
    /// collected. Closes those of hosts that are none any more.
    fn open_used_drivers(&self) {
        let fleet = Arc::clone(&self.0.hosts.fleet().borrow());
        for member in fleet.values() {
            for text in &member.drivers {
                let choice = serde_json::from_str(text)
                    .ok()
                    .and_then(|value| DriverChoice::from_json(&value).ok());
                if let Some(choice) = choice {
                    drop(
                        self.0
                            .hub
                            .open_on(&member.remote, &choice.driver, COLLECT_DEADLINE),
                    );
                }
            }
        }
        for engine in self.0.hub.engines() {
            if !engine.host().is_local() && !fleet.contains_key(engine.host()) {
                self.0.hub.close(engine.host());
            }
        }
    }

    fn deleted(&self) -> std::sync::MutexGuard<'_, BTreeSet<PoolName>> {
        self.0
            .deleted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn pools(&self) -> std::sync::MutexGuard<'_, BTreeMap<PoolName, Handle>> {
        let mut pools = self.0.pools.lock().unwrap_or_else(PoisonError::into_inner);
        let mut deleted = self.deleted();
        if deleted.is_empty() {
            return pools;
        }
        // Those that are gone; one that has panicked stays, so that its loss is seen.
        let before = pools.len();
        deleted.retain(|name| {
            let is_gone = pools
                .get(name)
                .is_none_or(|handle| handle.task.is_finished() && handle.view.borrow().is_deleted);
            if is_gone {
                pools.remove(name);
            }
            !is_gone
        });
        if pools.len() < before {
            self.0.names.send_modify(|count| *count += 1);
        }
        pools
    }

    fn view_of(&self, name: &PoolName) -> Result<PoolView, Refused> {
        let pools = self.pools();
        let handle = pools
            .get(name)
            .ok_or_else(|| Refused::NoPool(name.clone()))?;
        let view = handle.view.borrow().clone();
        Ok(view)
    }

    /// Adds a pool.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn add(
        &self,
        name: PoolName,
        settings: &Map<String, Value>,
    ) -> Result<PoolView, Refused> {
        let spec = read_new(settings).map_err(Refused::Invalid)?;
        check_new_name(&name).map_err(Refused::Invalid)?;
        self.create(name, spec, PoolOwner::Api).await
    }

    /// Makes a pool what its owner wants, whether it is there or not.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn make(
        &self,
        name: &PoolName,
        spec: PoolSpec,
        owner: PoolOwner,
    ) -> Result<(), Refused> {
        match self.view_of(name) {
            Err(Refused::NoPool(_)) => self.create(name.clone(), spec, owner).await.map(drop),
            Err(refused) => Err(refused),
            Ok(view) if *view.spec == spec && view.owner == owner && !view.is_deleted => Ok(()),
            Ok(_) => self.change(name, owner, |_| Ok(spec)).await.map(drop),
        }
    }

    /// Has the instances of a pool run, wait, or go. Its record says so; its task makes it true.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn set_power(&self, name: &PoolName, power: Power) -> Result<(), Refused> {
        let view = self.view_of(name)?;
        if view.is_deleted {
            return Err(Refused::Deleting(name.clone()));
        }
        if view.power == power {
            return Ok(());
        }
        if power == Power::Suspended {
            let spec = &view.spec;
            let engine = self
                .0
                .hub
                .open(spec.driver(), spec.driver_deadline)
                .map_err(|error| Refused::Driver(error.to_string()))?;
            if !engine.bounded(spec.driver_deadline).capabilities().pause {
                return Err(Refused::CannotPause(
                    name.clone(),
                    spec.driver().kind.clone(),
                ));
            }
        }
        self.order(name, |reply| Order::Power(power, reply)).await
    }

    /// Deletes a pool of this owner; whether it is gone.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn unmake(&self, name: &PoolName, owner: PoolOwner) -> Result<bool, Refused> {
        match self.view_of(name) {
            Err(Refused::NoPool(_)) => return Ok(true),
            Err(refused) => return Err(refused),
            Ok(view) if view.is_deleted => return Ok(false),
            Ok(view) if view.owner != owner => return Err(of_other(name, view.owner)),
            Ok(_) => {}
        }
        self.order_deletion(name).await?;
        Ok(false)
    }

    /// Deletes the pools of this owner to which nothing refers any more.
    pub async fn unmake_orphans(
        &self,
        finder: &str,
        owner: PoolOwner,
        is_known: impl Fn(&PoolName) -> bool,
    ) {
        let is_orphan = |(name, handle): &(&PoolName, &Handle)| {
            let view = handle.view.borrow();
            view.owner == owner && !view.is_deleted && !is_known(name)
        };
        let found: Vec<_> = {
            let pools = self.pools();
            let orphans = pools.iter().filter(is_orphan);
            orphans
                .map(|(name, _)| (name.to_string(), HostName::LOCAL.to_owned()))
                .collect()
        };
        for text in self.0.orphans.see(finder, OrphanKind::Pool, found) {
            let Ok(name) = text.parse() else {
                continue;
            };
            tracing::warn!("nothing refers to the pool {name}: it is deleted");
            // It is tried again.
            if self.unmake(&name, owner).await.is_ok() {
                self.0.orphans.removed(OrphanKind::Pool);
            }
        }
    }

    async fn create(
        &self,
        name: PoolName,
        spec: PoolSpec,
        owner: PoolOwner,
    ) -> Result<PoolView, Refused> {
        self.check_room(&name, &spec)?;
        if let Some(handle) = self.pools().get(&name) {
            return Err(if handle.view.borrow().is_deleted {
                Refused::Deleting(name)
            } else {
                Refused::Exists(name)
            });
        }
        // A driver that does not work is refused before anything is stored.
        self.0
            .hub
            .open(spec.driver(), spec.driver_deadline)
            .map_err(|error| Refused::Driver(error.to_string()))?;
        let record = PoolRecord {
            spec: spec.to_map(),
            generation: 1,
            last_epoch: 0,
            is_deleted: false,
            owner,
            power: Power::default(),
        };
        let mut changes = Changes::default();
        changes.put(&name, &record);
        if let Err(error) = self.0.keeper.write(changes).await {
            // It may be written after all.
            let mut undo = Changes::default();
            undo.remove::<PoolRecord>(&name);
            self.0.keeper.owe(undo);
            return Err(error.into());
        }
        if self.pools().contains_key(&name) {
            return Err(Refused::Exists(name));
        }
        let mut pool = Pool::new(name.clone(), spec, 1);
        pool.owner = owner;
        self.run(pool)?;
        self.view_of(&name)
    }

    /// Makes the pools of the configuration file what it says. One that is refused stays as it is, and is a warning until it is
    /// followed. Returns whether all are.
    pub async fn follow_file(&self, pools: BTreeMap<PoolName, PoolSpec>) -> bool {
        let mut refused = Vec::new();
        let views = self.views(None).unwrap_or_default();
        for view in &views {
            if view.owner == PoolOwner::File
                && !view.is_deleted
                && !pools.contains_key(&view.name)
                && let Err(error) = self.order_deletion(&view.name).await
            {
                refused.push(format!(
                    "pool {}, which it no longer has: {error}",
                    view.name
                ));
            }
        }
        for (name, spec) in pools {
            let before = views.iter().find(|view| view.name == name);
            let followed = match before {
                Some(view) if view.owner == PoolOwner::File && !view.is_deleted => {
                    if *view.spec == spec {
                        continue;
                    }
                    self.change(&name, PoolOwner::File, |_| Ok(spec)).await
                }
                _ => self.create(name.clone(), spec, PoolOwner::File).await,
            };
            if let Err(error) = followed {
                refused.push(format!("pool {name}: {error}"));
            }
        }
        let text = (!refused.is_empty()).then(|| {
            let refused = refused.join("; ");
            format!("the configuration file is not followed in all: {refused}")
        });
        self.set_warning("file in part", text);
        refused.is_empty()
    }

    /// Says that something is wrong with the controller as a whole, or no longer is. The key stays while the words change.
    pub fn set_warning(&self, key: &str, text: Option<String>) {
        let mut warnings = self.warnings_mut();
        let (now, troubles) = &mut *warnings;
        match text {
            Some(text) => now.insert(key.to_owned(), text),
            None => now.remove(key),
        };
        for event in troubles.update(now.clone()) {
            self.0.events.add(None, event);
        }
    }

    fn warnings_mut(&self) -> std::sync::MutexGuard<'_, (troubles::Now, Troubles)> {
        self.0
            .warnings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// What is wrong with the controller as a whole, in words.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings: Vec<String> = self.0.keeper.trouble().into_iter().collect();
        warnings.extend(self.warnings_mut().1.texts().cloned());
        warnings.extend(self.0.hosts.warnings());
        warnings
    }

    /// The hosts.
    #[must_use]
    pub fn hosts(&self) -> &Hosts {
        &self.0.hosts
    }

    /// Where pools note what they carry.
    #[must_use]
    pub fn recorder(&self) -> &Recorder {
        &self.0.recorder
    }

    /// The agents.
    #[must_use]
    pub fn agents(&self) -> &Agents {
        &self.0.agents
    }

    /// The store.
    #[must_use]
    pub fn keeper(&self) -> &Keeper {
        &self.0.keeper
    }

    /// Refuses addresses, ports and folders that another pool has.
    fn check_room(&self, name: &PoolName, spec: &PoolSpec) -> Result<(), Refused> {
        let pools = self.pools();
        let others = pools.iter().filter(|(other, _)| *other != name);
        for (other, handle) in others {
            if let Some(error) = overlap(spec, &handle.view.borrow().spec, other) {
                return Err(Refused::Invalid(error));
            }
        }
        Ok(())
    }

    /// Changes settings of a pool.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn update(
        &self,
        name: &PoolName,
        patch: &Map<String, Value>,
    ) -> Result<PoolView, Refused> {
        self.change(name, PoolOwner::Api, |before| before.patched(patch, &KINDS))
            .await
    }

    async fn change(
        &self,
        name: &PoolName,
        by: PoolOwner,
        change: impl FnOnce(&PoolSpec) -> Result<PoolSpec, FieldError>,
    ) -> Result<PoolView, Refused> {
        let view = self.view_of(name)?;
        if view.is_deleted {
            return Err(Refused::Deleting(name.clone()));
        }
        if view.owner != by {
            return Err(of_other(name, view.owner));
        }
        let before = &view.spec;
        let spec = change(before).map_err(Refused::Invalid)?;
        if spec.driver != before.driver {
            return Err(Refused::Invalid(FieldError::new(
                "driver",
                &spec.driver().kind,
                "a pool keeps its driver; delete the pool and add it again, or add another one and delete this",
            )));
        }
        if spec.network.range != before.network.range
            || spec.network.port != before.network.port
            || spec.network.address != before.network.address
        {
            return Err(Refused::Invalid(FieldError::new(
                "network",
                "changed",
                "instances keep their addresses and ports; delete the pool and add it again, or add another one and delete this",
            )));
        }
        self.check_room(name, &spec)?;
        self.order(name, |reply| Order::Set(Box::new(spec), reply))
            .await?;
        self.view_of(name)
    }

    /// Replaces the settings of a pool: each that is `null` has its default.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn replace(
        &self,
        name: &PoolName,
        settings: &Map<String, Value>,
    ) -> Result<PoolView, Refused> {
        let given = settings.iter().filter(|(_, value)| !value.is_null());
        let given: Map<String, Value> = given
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let spec = PoolSpec::read(&given, &KINDS).map_err(Refused::Invalid)?;
        self.change(name, PoolOwner::Api, |_| Ok(spec)).await
    }

    /// Deletes a pool; its instances are stopped and removed.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn delete(&self, name: &PoolName) -> Result<(), Refused> {
        let owner = self.view_of(name)?.owner;
        if owner != PoolOwner::Api {
            return Err(of_other(name, owner));
        }
        self.order_deletion(name).await
    }

    async fn order_deletion(&self, name: &PoolName) -> Result<(), Refused> {
        self.deleted().insert(name.clone());
        self.order(name, Order::Delete).await
    }

    async fn order(
        &self,
        name: &PoolName,
        order: impl FnOnce(oneshot::Sender<Result<(), KeeperError>>) -> Order,
    ) -> Result<(), Refused> {
        let orders = self
            .pools()
            .get(name)
            .map(|handle| handle.orders.clone())
            .ok_or_else(|| Refused::NoPool(name.clone()))?;
        let (reply, answer) = oneshot::channel();
        let ended = || Refused::Ended(name.clone());
        orders.send(order(reply)).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())??;
        Ok(())
    }

    /// Takes a proxy's report.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn report(&self, name: &PoolName, report: Report) -> Result<(), Refused> {
        let orders = self
            .pools()
            .get(name)
            .map(|handle| handle.orders.clone())
            .ok_or_else(|| Refused::NoPool(name.clone()))?;
        orders
            .send(Order::Report(report))
            .await
            .map_err(|_| Refused::Ended(name.clone()))
    }

    /// The end of what an instance has printed.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn logs(&self, name: &InstanceName, most: usize) -> Result<Vec<u8>, Refused> {
        let logs = self.driver_of(name)?.logs(name, most).await;
        logs.map_err(|error| instance_error(name, error))
    }

    /// Runs a program in an instance, to its end.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn exec(&self, name: &InstanceName, command: &Command) -> Result<Output, Refused> {
        let driver = self.driver_of(name)?;
        driver
            .exec(name, command)
            .await
            .map_err(|error| instance_error(name, error))
    }

    /// Does what an operator asks of an instance: it is taken out of rotation until it goes on, and keeps its place. One that moves
    /// serves on. Returns the name of the instance that was made, if one was.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn operate(
        &self,
        name: &InstanceName,
        operation: Operation,
    ) -> Result<Option<InstanceName>, Refused> {
        let role = match operation {
            Operation::Clone => return self.clone_instance(name).await.map(Some),
            Operation::Move(host) => return self.move_instance(name, host).await.map(|()| None),
            Operation::Pause => Role::Held,
            Operation::Suspend => Role::Suspended,
            Operation::Resume => Role::Serving,
            Operation::Reboot => Role::Rebooting,
        };
        let driver = self.driver_of(name)?;
        let can = driver.capabilities();
        let (is_possible, call) = match role {
            Role::Held => (can.pause, "pause"),
            Role::Suspended => (can.suspend, "suspend"),
            _ => (true, ""),
        };
        if !is_possible {
            return Err(Refused::Driver(driver.cannot(call).to_string()));
        }
        let hold = |reply| Order::Hold(name.clone(), role, reply);
        let held: Result<(), &str> = self.ask(&name.pool, hold).await?;
        held.map(|()| None)
            .map_err(|why| Refused::Driver(format!("{name}: {why}")))
    }

    async fn clone_instance(&self, name: &InstanceName) -> Result<InstanceName, Refused> {
        let clone = |reply| Order::Clone(name.clone(), reply);
        let cloned: Result<InstanceName, String> = self.ask(&name.pool, clone).await?;
        cloned.map_err(|why| Refused::Driver(format!("{name} cannot be cloned: {why}")))
    }

    async fn move_instance(&self, name: &InstanceName, host: HostName) -> Result<(), Refused> {
        let order = |reply| Order::Move(name.clone(), host, reply);
        let moved: Result<(), String> = self.ask(&name.pool, order).await?;
        moved.map_err(|why| Refused::Driver(format!("{name} cannot move: {why}")))
    }

    /// Has a pool do something, and waits for its answer.
    async fn ask<T>(
        &self,
        pool: &PoolName,
        order: impl FnOnce(oneshot::Sender<T>) -> Order,
    ) -> Result<T, Refused> {
        let orders = self
            .pools()
            .get(pool)
            .map(|handle| handle.orders.clone())
            .ok_or_else(|| Refused::NoPool(pool.clone()))?;
        let (reply, answer) = oneshot::channel();
        let ended = || Refused::Ended(pool.clone());
        orders.send(order(reply)).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())
    }

    /// The driver of an instance's pool, with the deadline for its calls.
    fn driver_of(&self, name: &InstanceName) -> Result<Bounded, Refused> {
        let view = self.view_of(&name.pool)?;
        let spec = &view.spec;
        let mut instances = view.instances.iter();
        let instance = instances.find(|one| one.name == name.to_string());
        let host = instance.and_then(|one| one.host.clone());
        let fleet = Arc::clone(&self.0.hosts.fleet().borrow());
        let member = host.and_then(|host| fleet.get(&host).cloned());
        let engine = match member {
            Some(member) => self
                .0
                .hub
                .open_on(&member.remote, spec.driver(), spec.driver_deadline),
            None => self
                .0
                .hub
                .open(spec.driver(), spec.driver_deadline)
                .map_err(|error| Refused::Driver(error.to_string()))?,
        };
        Ok(engine.bounded(spec.driver_deadline))
    }

    /// What pools of nodes and the task that keeps load balancers tell each other.
    #[must_use]
    pub fn nodes(&self) -> &Nodes {
        &self.0.nodes
    }

    /// All pools, or one.
    ///
    /// # Errors
    /// There is no such pool.
    pub fn views(&self, name: Option<&PoolName>) -> Result<Vec<PoolView>, Refused> {
        match name {
            Some(name) => Ok(vec![self.view_of(name)?]),
            None => Ok(self
                .pools()
                .values()
                .map(|handle| handle.view.borrow().clone())
                .collect()),
        }
    }

    /// The names of all pools.
    #[must_use]
    pub fn pool_names(&self) -> Vec<PoolName> {
        self.pools().keys().cloned().collect()
    }

    /// The view of a pool as it changes; `None` if there is no such pool.
    #[must_use]
    pub fn follower(&self, name: &PoolName) -> Option<watch::Receiver<PoolView>> {
        Some(self.pools().get(name)?.view.clone())
    }

    /// The pools' views as they change.
    #[must_use]
    pub fn followers(&self) -> BTreeMap<PoolName, watch::Receiver<PoolView>> {
        self.pools()
            .iter()
            .map(|(name, handle)| (name.clone(), handle.view.clone()))
            .collect()
    }

    /// The first and the last port of each pool whose instances have ports of their own.
    #[must_use]
    pub fn ports(&self) -> Vec<(u32, u32)> {
        let pools = self.pools();
        let specs = pools
            .values()
            .map(|handle| Arc::clone(&handle.view.borrow().spec));
        let specs = specs.filter(|spec| spec.network.range.is_none());
        specs
            .map(|spec| {
                let first = u32::from(spec.network.port);
                let count = (spec.scaling.max + spec.scaling.spare).max(1);
                (first, first + count - 1)
            })
            .collect()
    }

    /// Changes when a pool comes or goes.
    #[must_use]
    pub fn names(&self) -> watch::Receiver<u64> {
        self.0.names.subscribe()
    }

    /// Whether the store took the last write.
    #[must_use]
    pub fn is_stored(&self) -> bool {
        self.0.keeper.trouble().is_none()
    }

    /// What nothing refers to any more.
    #[must_use]
    pub fn orphans(&self) -> &Orphans {
        &self.0.orphans
    }

    /// The events.
    #[must_use]
    pub fn events(&self) -> &Events {
        &self.0.events
    }

    /// The signs of life of the pools' tasks.
    #[must_use]
    pub fn pulses(&self) -> Vec<(PoolName, Arc<Pulse>)> {
        let pools = self.pools();
        let handles = pools.iter();
        handles
            .map(|(name, handle)| (name.clone(), Arc::clone(&handle.pulse)))
            .collect()
    }
}

/// Why a pool cannot be changed that has another owner.
fn of_other(name: &PoolName, owner: PoolOwner) -> Refused {
    match owner {
        PoolOwner::Balancer => Refused::OfBalancer(name.clone()),
        PoolOwner::Environment => Refused::OfEnvironment(name.clone()),
        PoolOwner::File => Refused::OfFile(name.clone()),
        PoolOwner::Api => Refused::Exists(name.clone()),
    }
}

/// Refuses names that pools of load balancers have.
pub(crate) fn check_new_name(name: &PoolName) -> Result<(), FieldError> {
    if is_pool_of_nodes(name) {
        let advice = "pools of load balancers have such names; give another";
        return Err(FieldError::new("name", name, advice));
    }
    if is_pool_of_environment(name) {
        let advice = "pools of environments have such names; give another";
        return Err(FieldError::new("name", name, advice));
    }
    Ok(())
}

/// Reads the settings of a new pool, and says what to begin with.
///
/// # Errors
/// A setting that cannot have its value, or that is missing.
pub(crate) fn read_new(settings: &Map<String, Value>) -> Result<PoolSpec, FieldError> {
    let kinds = KINDS.drivers.kinds.iter().map(|kind| kind.name);
    let kinds = kinds.collect::<Vec<_>>().join(", ");
    let first = format!("give driver.kind, one of {kinds}; docs/pools.md has examples");
    for (name, advice) in [
        ("driver", first.as_str()),
        (
            "network",
            "give network.port, or network.bridge and network.range with it",
        ),
    ] {
        if settings.get(name).is_none_or(Value::is_null) {
            return Err(FieldError::missing(name, advice));
        }
    }
    PoolSpec::read(settings, &KINDS)
}

/// What two pools would both use.
pub(crate) fn overlap(one: &PoolSpec, other: &PoolSpec, name: &PoolName) -> Option<FieldError> {
    for (bridge, range, field) in one.network.bridges() {
        let mut theirs = other.network.bridges();
        if theirs.any(|(other, taken, _)| other == bridge && taken.overlaps(range)) {
            let advice = format!("pool {name} has addresses of it on {bridge}; give others");
            return Some(FieldError::new(format!("network.{field}"), range, advice));
        }
    }
    match (&one.network.range, &other.network.range) {
        (Some(range), Some(taken)) => range.overlaps(taken).then(|| {
            let advice = format!("pool {name} has addresses of it; give others");
            FieldError::new("network.range", range, advice)
        }),
        (None, None) if one.network.address == other.network.address => {
            let last = |spec: &PoolSpec| {
                u32::from(spec.network.port) + (spec.scaling.max + spec.scaling.spare).max(1) - 1
            };
            let meets = u32::from(one.network.port) <= last(other)
                && u32::from(other.network.port) <= last(one);
            meets.then(|| {
                let advice = format!(
                    "pool {name} has the ports {} to {}, one for each instance; give others",
                    other.network.port,
                    last(other)
                );
                FieldError::new("network.port", one.network.port, advice)
            })
        }
        _ => None,
    }
}

/// Removes instances whose pool does not exist, after a grace period: they are left of a store that lost records. A controller
/// that began with an empty store only names them.
async fn collect(inner: std::sync::Weak<Inner>, is_new: bool) {
    let mut known: BTreeSet<InstanceName> = BTreeSet::new();
    let mut ticks = tokio::time::interval(COLLECT);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(inner) = inner.upgrade() else {
            return;
        };
        let controller = Controller(inner);
        let orphans = controller.orphans();
        controller.open_used_drivers();
        let mut seen: BTreeMap<InstanceName, Arc<Engine>> = BTreeMap::new();
        for engine in controller.0.hub.engines() {
            let Ok(listed) = engine.snapshots().borrow().listed.clone() else {
                continue;
            };
            let pools = controller.pools();
            let strange = listed
                .iter()
                .filter(|one| !pools.contains_key(&one.name.pool));
            seen.extend(strange.map(|one| (one.name.clone(), Arc::clone(&engine))));
        }
        let found = seen
            .iter()
            .map(|(name, engine)| (name.to_string(), engine.host().to_string()));
        if is_new {
            orphans.see_kept(COLLECTOR, OrphanKind::Instance, found);
            for name in seen.keys().filter(|name| !known.contains(name)) {
                tracing::warn!(
                    "{name} has this controller's name, whose store was empty when it started, and there is no pool {}: it is left \
                     alone; --take-over removes it",
                    name.pool
                );
            }
        } else {
            for text in orphans.see(COLLECTOR, OrphanKind::Instance, found) {
                let found = text.parse().ok();
                let Some((name, engine)) = found.and_then(|name| seen.get_key_value(&name)) else {
                    continue;
                };
                tracing::warn!(
                    "{name} belongs to this controller, and there is no pool {}: it is removed",
                    name.pool
                );
                match engine.bounded(COLLECT_DEADLINE).remove(name).await {
                    Ok(()) => orphans.removed(OrphanKind::Instance),
                    Err(error) => tracing::warn!("removing {name}: {error}"),
                }
                engine.relist();
            }
        }
        let strangers = seen.keys().next().filter(|_| is_new).map(|first| {
            format!(
                "{} instances, such as {first}, have this controller's name and no pool, and its store was empty when it started: \
                 they are left alone; --take-over removes them",
                seen.len()
            )
        });
        controller.set_warning("strangers", strangers);
        known = seen.into_keys().collect();
    }
}
