//! The task of one pool: it stores what is decided, makes the steps, and tells what it sees.
//!
//! A driver's call runs on a task of its own, one at a time for each instance: one that hangs holds up its instance until its
//! deadline, and nothing else.
//!
//! - `fleet.rs`: the hosts and drivers that it uses.
//! - `moving.rs`: copies of instances, and moves to another host.
//! - `readings.rs`: what it reads of its instances.

mod fleet;
mod moving;
mod readings;

use std::{
    collections::{BTreeMap, HashMap},
    panic::AssertUnwindSafe,
    sync::Arc,
    time::Duration,
};

use anyhow::bail;
use futures::FutureExt as _;
use lb_clients::health::runner::FirstProbe;
use lb_commands::environment::Power;
use lb_drivers::{Bounded, Driver as _, DriverError};
use lb_model::{
    host::HostName,
    pool::{InstanceName, PoolName, PoolSpec},
    project::is_pool_of_nodes,
    settings::Settings as _,
    vip::VipKey,
};
use lb_serve::{
    panics::Panics,
    vital::{self, Registrar},
    watchdog::Pulse,
};
use lb_steering::{scaling::ScalingDecision, score::Thresholds};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, MissedTickBehavior},
};
use tokio_stream::{StreamExt as _, StreamMap, wrappers::WatchStream};

use crate::{
    agents::{Agents, Wanted},
    clock::unix_now,
    events::Events,
    health::Probes,
    history::Recorder,
    hosts::{Fleet, Hosts},
    hub::{Engine, Hub, Snapshot},
    keeper::{Changes, Keeper, KeeperError},
    load::Readers,
    nodes::Nodes,
    orphans::{OrphanKind, Orphans},
    pool::{
        Health, InstanceRecord, InstanceView, Learned, Now, Pool, PoolOwner, PoolRecord, Role,
        Step, StepKind, pause_after,
    },
    troubles::{self, Troubles},
    usage::Meter,
};

/// See [`lb_serve::vital`].
pub const POOL: &str = "the task of a pool";
/// How often a pool's size is decided.
const TICK: Duration = Duration::from_secs(1);
/// How often what was learned is stored, in ticks.
const SAVE: u32 = 30;

/// What a pool is asked to do.
#[derive(Debug)]
pub enum Order {
    /// Other settings, which were validated.
    Set(Box<PoolSpec>, oneshot::Sender<Result<(), KeeperError>>),
    /// To have its instances run, wait, or go.
    Power(Power, oneshot::Sender<Result<(), KeeperError>>),
    /// To go, with its instances.
    Delete(oneshot::Sender<Result<(), KeeperError>>),
    /// What a proxy has counted.
    Report(Report),
    /// An instance is to be held, or to go on.
    Hold(
        InstanceName,
        Role,
        oneshot::Sender<Result<(), &'static str>>,
    ),
    /// Another instance is to be as this one is; its name is the answer.
    Clone(InstanceName, oneshot::Sender<Result<InstanceName, String>>),
    /// An instance is to move to this host while it runs.
    Move(InstanceName, HostName, oneshot::Sender<Result<(), String>>),
}

/// What a proxy has counted since its last report.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Requests.
    pub requests: f64,
    /// Requests that are open, by instance.
    pub pending: HashMap<InstanceName, f64>,
    /// The 95th percentile of response times, in seconds.
    pub latency: Option<f64>,
}

/// A pool, as others see it.
#[derive(Clone, Debug)]
pub struct PoolView {
    /// Its name.
    pub name: PoolName,
    /// Its settings.
    pub spec: Arc<PoolSpec>,
    /// Counts changes of what instances are made from.
    pub generation: u64,
    /// Whether it is being deleted.
    pub is_deleted: bool,
    /// Who says what it is.
    pub owner: PoolOwner,
    /// Whether its instances are to run.
    pub power: Power,
    /// Its instances.
    pub instances: Vec<InstanceView>,
    /// The last decision.
    pub decision: Option<ScalingDecision>,
    /// What is wrong.
    pub troubles: Vec<String>,
    /// The scores between which the categories lie.
    pub thresholds: Thresholds,
    /// Counts changes of what readers of streams see of the instances ([`InstanceView::seen`]). It begins with the time at which the process started, so no two are the same.
    pub revision: u64,
}

impl PoolView {
    /// The names of the instances that serve.
    pub fn serving(&self) -> impl Iterator<Item = &str> {
        let instances = self.instances.iter();
        let serving = instances.filter(|one| one.state.serves());
        serving.map(|one| one.name.as_str())
    }
}

/// What a pool works with.
#[derive(Clone, Debug)]
pub struct Means {
    /// The driver on the controller's own host.
    pub engine: Arc<Engine>,
    /// All drivers.
    pub hub: Arc<Hub>,
    /// The hosts.
    pub hosts: Hosts,
    /// The store.
    pub keeper: Keeper,
    /// The agents.
    pub agents: Agents,
    /// The events.
    pub events: Events,
    /// Probes at a time, of all pools.
    pub probes: Arc<tokio::sync::Semaphore>,
    /// What is told about nodes of load balancers.
    pub nodes: Nodes,
    /// What nothing refers to any more.
    pub orphans: Orphans,
    /// Began with the process.
    pub started: Instant,
    /// Where the task is registered.
    pub parts: Registrar,
    /// The name of the controller.
    pub owner: String,
    /// Where it is noted what pools carry.
    pub recorder: Recorder,
}

/// A step that was made.
struct Done {
    step: Step,
    result: Result<(), DriverError>,
    /// The host that it was to move to.
    target: Option<HostName>,
    /// Whether it may have moved although that failed.
    is_unsure: bool,
    /// Whether it panicked, which is a fault of this program.
    has_panicked: bool,
}

/// A driver on a host.
struct OpenDriver {
    engine: Arc<Engine>,
    calls: Bounded,
}

/// The task of one pool.
pub struct Worker {
    pool: Pool,
    means: Means,
    /// The driver on each host that the pool may have instances on.
    drivers: BTreeMap<HostName, OpenDriver>,
    snapshots: StreamMap<HostName, WatchStream<Snapshot>>,
    fleet: watch::Receiver<Arc<Fleet>>,
    /// Why drivers of other hosts that are connected do not list.
    list_errors: BTreeMap<HostName, String>,
    /// Changes when there may be more room.
    room: u64,
    probes: Probes,
    health: mpsc::Receiver<(InstanceName, Health)>,
    readers: Readers,
    loads: mpsc::Receiver<(InstanceName, lb_clients::load::reading::Report)>,
    /// Away while it reads.
    meter: Option<Meter>,
    /// What was learned, as it was stored last.
    saved: Option<Learned>,
    orders: mpsc::Receiver<Order>,
    done: (mpsc::Sender<Done>, mpsc::Receiver<Done>),
    view: watch::Sender<PoolView>,
    spec: Arc<PoolSpec>,
    /// New flows at each agent and VIP when they were last read.
    flows: HashMap<(usize, VipKey), u64>,
    /// What proxies have counted since the last decision.
    report: Option<Report>,
    /// When proxies reported last.
    reported: Option<Instant>,
    /// When it was noted last what the pool carries.
    noted: Option<Instant>,
    /// Steps of orphans that are under way.
    orphans: Vec<InstanceName>,
    /// Whether it was said that there are some.
    has_orphans: bool,
    /// Whether a write of the pool's record failed of which nobody knows whether it was done.
    is_unsure: bool,
    troubles: Troubles,
    panics: Panics,
    pulse: Arc<Pulse>,
    ticks: u32,
}

/// The handle of a pool's task.
#[derive(Debug)]
pub struct Handle {
    /// Where orders go.
    pub orders: mpsc::Sender<Order>,
    /// What the pool looks like.
    pub view: watch::Receiver<PoolView>,
    /// The task; it ends when the pool is gone.
    pub task: tokio::task::JoinHandle<()>,
    /// Whether the task makes progress: it does something once a second.
    pub pulse: Arc<Pulse>,
}

impl Worker {
    /// Starts the task of a pool.
    #[must_use]
    pub fn start(mut pool: Pool, means: Means) -> Handle {
        pool.orphan_grace = means.orphans.grace();
        let (orders, receiver) = mpsc::channel(64);
        let (probes, health) = Probes::new(Arc::clone(&means.probes));
        let (readers, loads) = Readers::new();
        let spec = Arc::new(pool.spec.clone());
        let (view, views) = watch::channel(PoolView {
            name: pool.name.clone(),
            spec: Arc::clone(&spec),
            generation: pool.generation,
            is_deleted: pool.is_deleted,
            owner: pool.owner,
            power: pool.power,
            instances: Vec::new(),
            decision: None,
            troubles: Vec::new(),
            thresholds: pool.distribution.thresholds(&pool.spec.scaling),
            revision: first_revision(),
        });
        let mut worker = Worker {
            drivers: BTreeMap::new(),
            snapshots: StreamMap::new(),
            fleet: means.hosts.fleet(),
            list_errors: BTreeMap::new(),
            room: 0,
            probes,
            health,
            readers,
            loads,
            meter: Some(Meter::default()),
            saved: None,
            orders: receiver,
            done: mpsc::channel(64),
            view,
            spec,
            flows: HashMap::new(),
            report: None,
            reported: None,
            noted: None,
            orphans: Vec::new(),
            has_orphans: false,
            is_unsure: false,
            troubles: Troubles::default(),
            panics: Panics::new(
                "probes, load readers and steps of instances",
                "the controller",
            ),
            pulse: Arc::default(),
            ticks: 0,
            pool,
            means,
        };
        worker.open(Arc::clone(&worker.means.engine));
        worker.follow_fleet();
        let (parts, pulse) = (worker.means.parts.clone(), Arc::clone(&worker.pulse));
        let name = worker.pool.name.to_string();
        Handle {
            orders,
            view: views,
            task: parts.spawn_mortal(POOL, name, worker.run()),
            pulse,
        }
    }

    fn now(&self) -> Now {
        Now {
            // Ages of before the start are not negative.
            monotonic: self.means.started.elapsed() + Duration::from_secs(30 * 86_400),
            unix: unix_now(),
        }
    }

    async fn run(mut self) -> anyhow::Result<()> {
        let pulse = Arc::clone(&self.pulse);
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let mut is_tick = false;
            tokio::select! {
                _ = ticks.tick() => is_tick = true,
                Some((host, snapshot)) = self.snapshots.next() => self.take_snapshot(&host, snapshot),
                changed = self.fleet.changed() => {
                    if changed.is_err() {
                        bail!("the hosts are gone");
                    }
                    self.follow_fleet();
                }
                Some((name, health)) = self.health.recv() => {
                    let now = self.now();
                    let mut is_other = self.pool.observe_health(&name, health, now);
                    while let Ok((name, health)) = self.health.try_recv() {
                        is_other |= self.pool.observe_health(&name, health, now);
                    }
                    if !is_other {
                        continue;
                    }
                }
                Some((name, report)) = self.loads.recv() => {
                    // It counts with the next decision.
                    self.readers.take(&name, &report);
                    continue;
                }
                Some(done) = self.done.1.recv() => self.finish(&done),
                order = self.orders.recv() => match order {
                    Some(order) => self.obey(order).await,
                    None => return Ok(()),
                },
            }
            if !self.snapshots.contains_key(self.means.engine.host()) {
                bail!("the task that lists its driver's instances has ended");
            }
            let _work = pulse.work();
            self.advance(is_tick).await;
            if self.pool.is_gone() && self.forget().await {
                return Ok(());
            }
        }
    }

    async fn obey(&mut self, order: Order) {
        match order {
            Order::Set(spec, reply) => {
                let before = std::mem::replace(&mut self.pool.spec, *spec);
                let generation = self.pool.generation;
                if !before.makes_the_same(&self.pool.spec) {
                    self.pool.generation += 1;
                }
                let written = self.write_pool().await;
                match &written {
                    Ok(()) => {
                        self.spec = Arc::new(self.pool.spec.clone());
                        let deadline = self.pool.spec.driver_deadline;
                        for driver in self.drivers.values_mut() {
                            driver.calls = driver.engine.bounded(deadline);
                        }
                        self.follow_fleet();
                    }
                    Err(_) => {
                        self.pool.spec = before;
                        self.pool.generation = generation;
                        self.is_unsure = true;
                    }
                }
                // Who asks next sees the new settings. The caller may have gone.
                self.publish(self.now());
                let _ = reply.send(written);
            }
            Order::Power(power, reply) => {
                let before = self.pool.power;
                self.pool.set_power(power, self.now());
                let written = self.write_pool().await;
                if written.is_err() {
                    self.pool.set_power(before, self.now());
                    self.is_unsure = true;
                }
                self.publish(self.now());
                let _ = reply.send(written);
            }
            Order::Delete(reply) => {
                let before = std::mem::replace(&mut self.pool.is_deleted, true);
                let written = self.write_pool().await;
                if written.is_err() {
                    self.pool.is_deleted = before;
                    self.is_unsure = true;
                }
                self.publish(self.now());
                let _ = reply.send(written);
            }
            Order::Hold(name, role, reply) => {
                let held = self.pool.hold(&name, role, self.now());
                self.publish(self.now());
                // The caller may have gone.
                let _ = reply.send(held.map(drop));
            }
            Order::Clone(name, reply) => {
                let cloned = self.clone_instance(&name).await;
                self.publish(self.now());
                // The caller may have gone.
                let _ = reply.send(cloned);
            }
            Order::Move(name, host, reply) => {
                let moved = self.move_instance(&name, &host).await;
                self.publish(self.now());
                // The caller may have gone.
                let _ = reply.send(moved);
            }
            Order::Report(report) => {
                self.reported = Some(Instant::now());
                let sum = self.report.get_or_insert_default();
                sum.requests += report.requests;
                for (name, pending) in report.pending {
                    *sum.pending.entry(name).or_default() += pending;
                }
                sum.latency = report.latency.or(sum.latency);
            }
        }
    }

    fn record(&self) -> PoolRecord {
        PoolRecord {
            spec: self.pool.spec.to_map(),
            generation: self.pool.generation,
            last_epoch: self.pool.last_epoch,
            is_deleted: self.pool.is_deleted,
            owner: self.pool.owner,
            power: self.pool.power,
        }
    }

    async fn write_pool(&self) -> Result<(), KeeperError> {
        let mut changes = Changes::default();
        changes.put(&self.pool.name, &self.record());
        self.means.keeper.write(changes).await.map(drop)
    }

    /// Removes the record of a pool of which nothing is left.
    async fn forget(&mut self) -> bool {
        self.means.agents.set(&self.pool.name, Wanted::new());
        self.means.hosts.hold(&self.pool.name, Vec::new());
        let mut changes = Changes::default();
        changes.remove::<PoolRecord>(&self.pool.name);
        changes.remove::<Learned>(&self.pool.name);
        let is_forgotten = self.means.keeper.write(changes).await.is_ok();
        if is_forgotten {
            self.means.events.forget(&self.pool.name);
        }
        is_forgotten
    }

    /// Decides, stores, makes steps, and tells what is so.
    async fn advance(&mut self, is_tick: bool) {
        let now = self.now();
        self.route_marks();
        if is_tick {
            self.restart_ended();
            self.pool.spec.scaling.time_zone.refresh();
        }
        if is_tick && self.meter.as_ref().is_none_or(Meter::is_due) {
            self.measure().await;
        }
        let readings = is_tick.then(|| self.readings());
        if is_tick && self.means.started.elapsed() >= self.means.hosts.lost_after() {
            self.pool.wait_no_longer();
        }
        if let Some(readings) = &readings {
            let elapsed = self.noted.replace(Instant::now());
            let elapsed = elapsed.map_or(Duration::ZERO, |noted| noted.elapsed());
            let views = self.pool.view(now);
            self.means
                .recorder
                .note(&self.pool.name, readings, &views, elapsed);
        }
        self.pool.decide(readings, now);
        self.place(now);
        // Agents must not wait for the store: which instances serve is decided anew by whoever begins again.
        self.serve();
        self.store(is_tick).await;
        for event in self.pool.take_events() {
            self.means.events.add(Some(&self.pool.name), event);
        }
        let can_pause = self.can_pause();
        for step in self.pool.steps(can_pause, now) {
            self.begin(step, can_pause);
        }
        let endpoint = |number: u32| self.pool.spec.endpoint(number);
        let probed = self.pool.slots.iter().filter_map(|(number, slot)| {
            let runs = slot
                .seen
                .as_ref()
                .is_some_and(|seen| seen.phase == lb_drivers::Phase::Running);
            let is_wanted = slot.record.role != Role::Removing;
            (runs && is_wanted).then_some(())?;
            // Those that run already, when this process starts or their check changes, are not probed all at once.
            let first = if slot.was_healthy {
                FirstProbe::Spread
            } else {
                FirstProbe::AtOnce
            };
            Some((&slot.record.name, endpoint(*number)?, first))
        });
        let probed: Vec<_> = probed.collect();
        let first_port = self.pool.spec.network.port;
        self.probes.set(
            self.pool.spec.check.as_ref(),
            first_port,
            probed.iter().copied(),
        );
        let read = probed
            .into_iter()
            .map(|(name, endpoint, _)| (name, endpoint));
        self.readers.set(&self.pool.spec.load, first_port, read);
        self.publish(now);
    }

    /// Has the tasks of instances that have ended by themselves started again, and reports them.
    fn restart_ended(&mut self) {
        for name in self.probes.drop_ended() {
            self.note_panic(&name, "its probe");
        }
        for name in self.readers.drop_ended() {
            self.note_panic(&name, "a reader of its load");
        }
    }

    fn note_panic(&mut self, instance: &InstanceName, task: &str) {
        self.panics
            .note(format!("{task} ({instance})"), std::time::Instant::now());
        let event = crate::pool::Event {
            instance: Some(instance.clone()),
            kind: "panicked",
            text: format!("{task} panicked, which is a fault of this program; it is made again"),
            is_alarm: true,
        };
        self.means.events.add(Some(&self.pool.name), event);
    }

    /// Stores the records that have changed, and now and then what was learned.
    async fn store(&mut self, is_tick: bool) {
        let mut changes = Changes::default();
        let unstored = self.pool.unstored();
        let has_records = !unstored.is_empty();
        for (number, record) in unstored {
            changes.set(InstanceRecord::key(&self.pool.name, number), record);
        }
        if has_records || self.is_unsure {
            changes.put(&self.pool.name, &self.record());
        }
        if is_tick && !self.pool.is_deleted {
            self.ticks += 1;
            if self.ticks.is_multiple_of(SAVE) {
                let learned = Learned {
                    scaling: self.pool.scaling.clone(),
                };
                if self.saved.as_ref() != Some(&learned) {
                    changes.put(&self.pool.name, &learned);
                    self.saved = Some(learned);
                }
            }
        }
        if changes.is_empty() {
            return;
        }
        match self.means.keeper.write(changes).await {
            Ok(_) => {
                self.is_unsure = false;
                self.pool.stored();
            }
            // They are written with the next tick; until then nothing is done about them, save for relaunches.
            Err(_) => {
                self.saved = None;
                self.pool.store_is_away = true;
            }
        }
    }

    fn begin(&mut self, step: Step, can_pause: bool) {
        let Some(driver) = self.drivers.get(&step.host) else {
            return;
        };
        let driver = driver.calls.clone();
        let Some(mut launch) = self.pool.spec.launch(&step.name).or_else(|| {
            // An instance past the room that the pool has now can only go.
            matches!(step.kind, StepKind::Remove | StepKind::Stop).then(|| {
                self.pool.spec.launch(&InstanceName {
                    number: 1,
                    ..step.name.clone()
                })
            })?
        }) else {
            return;
        };
        let has_files = self.pool.spec.placement.is_some() && is_pool_of_nodes(&self.pool.name);
        let makes = matches!(
            step.kind,
            StepKind::Create | StepKind::Clone | StepKind::Move
        );
        if makes && has_files {
            // Whoever keeps the load balancer has not looked at it yet.
            let Some(files) = self.means.nodes.files(&self.pool.name) else {
                return;
            };
            launch.files.clone_from(&files);
        }
        let mut starts = matches!(step.kind, StepKind::Create | StepKind::Clone);
        let mut origin = None;
        let mut target = None;
        match step
            .number
            .and_then(|number| self.pool.slots.get_mut(&number))
        {
            Some(slot) => {
                if step.kind == StepKind::Move {
                    let next = slot.record.next.clone();
                    let there = next.as_ref().and_then(|next| self.drivers.get(next));
                    target = next.zip(there.map(|there| there.calls.clone()));
                    if target.is_none() {
                        return;
                    }
                }
                origin = slot.record.cloned_from.clone();
                slot.step = Some(step.kind.name());
                starts &= slot.record.role != Role::Spare || can_pause;
            }
            None if self.orphans.contains(&step.name) => return,
            None => self.orphans.push(step.name.clone()),
        }
        let done = self.done.0.clone();
        let grace = self.pool.spec.template.stop_grace;
        tokio::spawn(async move {
            let name = &step.name;
            let work = async {
                match step.kind {
                    StepKind::Remove => driver.remove(name).await,
                    StepKind::Create => match driver.create(&launch).await {
                        Ok(()) if starts => driver.start(name).await,
                        other => other,
                    },
                    StepKind::Start => driver.start(name).await,
                    StepKind::Resume => driver.resume(name).await,
                    StepKind::Pause => driver.pause(name).await,
                    StepKind::Stop => driver.stop(name, grace).await,
                    StepKind::Suspend => driver.suspend(name).await,
                    StepKind::Reboot => driver.reboot(name, grace).await,
                    StepKind::Clone => {
                        let origin = origin.as_ref().unwrap_or(name);
                        match driver.clone_to(origin, &launch).await {
                            Ok(()) if starts => driver.start(name).await,
                            other => other,
                        }
                    }
                    StepKind::Move => match &target {
                        Some((_, there)) => moving::move_between(&driver, there, &launch).await,
                        None => Err(DriverError::NotFound(name.clone())),
                    },
                }
            };
            // What a call that is dropped leaves behind is found by the next one, and so is what a panic does.
            let caught = AssertUnwindSafe(work).catch_unwind().await;
            let has_panicked = caught.is_err();
            let result = caught.unwrap_or_else(|panic| {
                Err(DriverError::Failed {
                    doing: format!("{} {name}", step.kind.name()),
                    why: format!(
                        "the driver {} panicked, which is a fault of this program: {}",
                        driver.kind(),
                        vital::message(&*panic)
                    ),
                })
            });
            let is_unsure = step.kind == StepKind::Move
                && result.is_err()
                && moving::may_have_moved(&driver, name).await;
            // The pool may be gone.
            let _ = done
                .send(Done {
                    step,
                    result,
                    target: target.map(|(host, _)| host),
                    is_unsure,
                    has_panicked,
                })
                .await;
        });
    }

    fn finish(&mut self, done: &Done) {
        let now = self.now();
        let Done {
            step,
            result,
            target,
            is_unsure,
            has_panicked,
        } = done;
        let fresh_from = match self.drivers.get(&step.host) {
            Some(driver) => driver.engine.relist(),
            None => 0,
        };
        let is_lost = self.pool.lost.contains(&step.host);
        self.orphans.retain(|name| *name != step.name);
        if step.number.is_none() && result.is_ok() {
            self.means.orphans.removed(OrphanKind::Instance);
        }
        if *has_panicked {
            self.note_panic(&step.name, step.kind.name());
        }
        if let Err(error) = result {
            let event = crate::pool::Event {
                instance: Some(step.name.clone()),
                kind: "failed",
                text: format!("{}: {error}", step.kind.name()),
                is_alarm: false,
            };
            let is_new = step
                .number
                .and_then(|number| self.pool.slots.get(&number))
                .and_then(|slot| slot.trouble.as_ref())
                .is_none_or(|trouble| trouble.text != error.to_string());
            if is_new {
                self.means.events.add(Some(&self.pool.name), event);
            }
        }
        if step.kind == StepKind::Move
            && let Some(number) = step.number
        {
            let there = target.as_ref().and_then(|host| self.drivers.get(host));
            let fresh_there = there.map_or(0, |driver| driver.engine.relist());
            match result {
                Ok(()) => self.pool.moved(number, fresh_there, now),
                Err(error) => self.pool.not_moved(number, error, *is_unsure, now),
            }
        }
        if step.kind == StepKind::Clone
            && let (Some(number), Err(error)) = (step.number, result)
        {
            self.pool.not_cloned(number, error, now);
        }
        let has_moved = step.kind == StepKind::Move && result.is_ok();
        let Some(slot) = step
            .number
            .and_then(|number| self.pool.slots.get_mut(&number))
        else {
            return;
        };
        slot.step = None;
        if has_moved {
            slot.trouble = None;
            return;
        }
        let is_done = matches!(result, Ok(()) | Err(DriverError::NotFound(_)));
        slot.end_step(step, is_done, (!is_lost).then_some(fresh_from));
        let is_rebooted = step.kind == StepKind::Reboot && result.is_ok();
        slot.trouble = match result {
            Ok(()) => None,
            Err(DriverError::NotFound(_)) => slot.trouble.take(),
            Err(error) => {
                let count = slot.trouble.as_ref().map_or(0, |trouble| trouble.count) + 1;
                Some(crate::pool::Trouble {
                    text: error.to_string(),
                    is_final: matches!(error, DriverError::Invalid { .. }),
                    count,
                    next: now.monotonic + pause_after(count - 1),
                })
            }
        };
        if is_rebooted && let Some(number) = step.number {
            self.pool.rebooted(number, now);
        }
    }

    /// Marks the slots that an agent still has as reals.
    fn route_marks(&mut self) {
        let states = self.means.agents.states();
        for (number, slot) in &mut self.pool.slots {
            let address = self.pool.spec.endpoint(*number).map(|at| at.ip());
            slot.is_routed = address.is_some_and(|address| {
                states.iter().any(|(_, state)| {
                    let mut vips = self.pool.spec.vips.iter();
                    state.trouble.is_none()
                        && vips.any(|vip| state.reals.contains_key(&(*vip, address)))
                })
            });
        }
    }

    /// Tells the agents which reals the pool wants.
    fn serve(&self) {
        if !self.pool.has_list {
            return;
        }
        let mut wanted = Wanted::new();
        for (slot, standing) in self.pool.serving() {
            if let Some(endpoint) = self.pool.spec.endpoint(slot.record.name.number) {
                for vip in &self.pool.spec.vips {
                    wanted.insert((*vip, endpoint.ip()), standing);
                }
            }
        }
        self.means.agents.set(&self.pool.name, wanted);
    }

    /// What is wrong, by a key of each trouble.
    fn find_troubles(&self) -> troubles::Now {
        let mut found = troubles::Now::new();
        let mut add = |key: &str, text: Option<String>| {
            found.extend(text.map(|text| (key.to_owned(), text)));
        };
        add("list", self.pool.list_trouble.clone());
        for (host, error) in &self.list_errors {
            if !self.pool.silent.contains(host) && !self.pool.lost.contains(host) {
                add(&format!("list {host}"), Some(error.clone()));
            }
        }
        for host in &self.pool.silent {
            let on = |slot: &&crate::pool::Slot| slot.record.host.as_ref() == Some(host);
            let count = self.pool.slots.values().filter(on).count();
            let text =
                format!("host {host} is not connected: its {count} instances are left alone");
            add(&format!("silent {host}"), (count > 0).then_some(text));
        }
        let mut homeless = self
            .pool
            .slots
            .values()
            .filter_map(|slot| slot.no_room.as_ref());
        if let Some(first) = homeless.next() {
            let text = format!(
                "{} instances wait for a host: {}",
                1 + homeless.count(),
                first.text
            );
            add("room", Some(text));
        }
        add("store", self.means.keeper.trouble());
        add("panics", self.panics.warning(std::time::Instant::now()));
        add("load", self.readers.trouble());
        let unasked = self.pool.slots.values();
        let mut unasked =
            unasked.filter_map(|slot| Some((&slot.record.name, slot.unasked.as_ref()?)));
        if let Some((name, reason)) = unasked.next() {
            let text = format!(
                "the last probes of {} instances say nothing about them, such as that of {name}: {reason}",
                1 + unasked.count()
            );
            add("probes", Some(text));
        }
        let vips = &self.pool.spec.vips;
        if !vips.is_empty() && self.means.agents.is_empty() {
            let text = "there is no agent for its VIPs; start the controller with --agent";
            add("agents", Some(text.to_owned()));
        }
        if !vips.is_empty() {
            let is_own = |address| {
                let mut numbers = self.pool.slots.keys();
                numbers.any(|number| {
                    let endpoint = self.pool.spec.endpoint(*number);
                    endpoint.is_some_and(|endpoint| endpoint.ip() == address)
                })
            };
            found.extend(self.means.agents.troubles(vips, is_own));
        }
        found
    }

    /// Says which instances of the pool no record knows.
    fn show_orphans(&mut self) {
        let orphans = &self.pool.orphans;
        if orphans.is_empty() && !self.has_orphans {
            return;
        }
        self.has_orphans = !orphans.is_empty();
        // Those that were given up are left for no time.
        let found = orphans
            .iter()
            .filter(|(_, orphan)| !orphan.is_given_up)
            .map(|(name, orphan)| (name.to_string(), orphan.host.to_string()));
        let finder = self.pool.name.as_str();
        // Its steps remove them.
        let _ = self.means.orphans.see(finder, OrphanKind::Instance, found);
    }

    fn publish(&mut self, now: Now) {
        self.show_orphans();
        let found = self.find_troubles();
        for event in self.troubles.update(found) {
            self.means.events.add(Some(&self.pool.name), event);
        }
        let view = PoolView {
            name: self.pool.name.clone(),
            spec: Arc::clone(&self.spec),
            generation: self.pool.generation,
            is_deleted: self.pool.is_deleted,
            owner: self.pool.owner,
            power: self.pool.power,
            instances: self.pool.view(now),
            thresholds: self.pool.distribution.thresholds(&self.pool.spec.scaling),
            revision: 0,
            decision: self.pool.decision.clone(),
            troubles: self.troubles.texts().cloned().collect(),
        };
        let mut is_seen = false;
        self.view.send_if_modified(|before| {
            let seen = before.instances.iter().map(InstanceView::seen);
            is_seen = !seen.eq(view.instances.iter().map(InstanceView::seen));
            let differs = before.instances != view.instances
                || before.decision != view.decision
                || before.troubles != view.troubles
                || before.is_deleted != view.is_deleted
                || before.power != view.power
                || !Arc::ptr_eq(&before.spec, &view.spec);
            *before = PoolView {
                revision: before.revision + u64::from(is_seen),
                ..view
            };
            differs
        });
        if is_seen && is_pool_of_nodes(&self.pool.name) {
            self.means.nodes.stir(&self.pool.name);
        }
    }
}

/// Microseconds since 1970: no process counts as many changes in the time that it runs.
fn first_revision() -> u64 {
    u64::try_from(unix_now().as_micros()).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    };

    use async_trait::async_trait;
    use lb_drivers::{Capabilities, Command, Driver, Hint, Listed, Output, Phase};
    use lb_model::pool::Launch;
    use lb_serve::vital::Vital;
    use lb_store::MemoryStore;
    use serde_json::json;
    use tokio::sync::broadcast;

    use super::*;
    use crate::KINDS;

    /// Instances in memory. The first instances that are made make it panic.
    #[derive(Debug)]
    struct Fragile {
        instances: Mutex<Vec<Listed>>,
        panics: AtomicU32,
        hints: broadcast::Sender<Hint>,
    }

    #[async_trait]
    impl Driver for Fragile {
        fn kind(&self) -> &'static str {
            "fragile"
        }

        fn capabilities(&self) -> Capabilities {
            Capabilities::default()
        }

        async fn list(&self) -> Result<Vec<Listed>, DriverError> {
            Ok(self.instances.lock().unwrap().clone())
        }

        async fn create(&self, launch: &Launch) -> Result<(), DriverError> {
            let left = self.panics.load(Ordering::Relaxed);
            if left > 0 {
                self.panics.store(left - 1, Ordering::Relaxed);
                panic!("it broke");
            }
            self.instances.lock().unwrap().push(Listed {
                name: launch.name.clone(),
                phase: Phase::Running,
                cgroup: String::new(),
                fault: None,
                labels: BTreeMap::new(),
            });
            Ok(())
        }

        async fn start(&self, _: &InstanceName) -> Result<(), DriverError> {
            Ok(())
        }

        async fn stop(&self, _: &InstanceName, _: Duration) -> Result<(), DriverError> {
            Ok(())
        }

        async fn remove(&self, name: &InstanceName) -> Result<(), DriverError> {
            self.instances
                .lock()
                .unwrap()
                .retain(|one| one.name != *name);
            Ok(())
        }

        async fn pause(&self, _: &InstanceName) -> Result<(), DriverError> {
            Ok(())
        }

        async fn resume(&self, _: &InstanceName) -> Result<(), DriverError> {
            Ok(())
        }

        async fn exec(&self, name: &InstanceName, _: &Command) -> Result<Output, DriverError> {
            Err(DriverError::NotFound(name.clone()))
        }

        async fn logs(&self, _: &InstanceName, _: usize) -> Result<Vec<u8>, DriverError> {
            Ok(Vec::new())
        }

        fn watch(&self) -> broadcast::Receiver<Hint> {
            self.hints.subscribe()
        }
    }

    fn spec() -> PoolSpec {
        let map = json!({
            "driver": { "kind": "process" },
            "network": { "port": 8000 },
            "template": { "program": "/bin/true" },
            "scaling": { "min": 1, "max": 1 },
        });
        PoolSpec::read(map.as_object().unwrap(), &KINDS).unwrap()
    }

    #[tokio::test]
    async fn a_step_that_panics_is_made_again_and_reported() {
        let vital = Vital::new();
        let parts = vital.registrar();
        let driver = Arc::new(Fragile {
            instances: Mutex::default(),
            panics: AtomicU32::new(2),
            hints: broadcast::channel(1).0,
        });
        let deadline = Duration::from_secs(10);
        let events = Events::default();
        let opened = Keeper::of(Box::new(MemoryStore::default())).unwrap();
        let owned = lb_drivers::Owned {
            owner: "main".to_owned(),
            state: "/nonexistent".into(),
            agent: "/bin/true".into(),
            allow_exec: false,
            receive_at: None,
        };
        let hosts = Hosts::new(
            crate::hosts::Means {
                settings: None,
                owner: "main".to_owned(),
                authority: Vec::new(),
                keeper: opened.keeper.clone(),
                events: events.clone(),
                parts: parts.clone(),
            },
            Vec::new(),
            BTreeMap::new(),
        );
        let means = Means {
            engine: Arc::new(Engine::start(driver, deadline, &parts)),
            hub: Arc::new(Hub::new(owned, parts.clone())),
            hosts,
            keeper: opened.keeper,
            agents: Agents::start(Vec::new(), "main", false, Vec::new(), Vec::new(), &parts),
            events: events.clone(),
            probes: Arc::new(tokio::sync::Semaphore::new(1)),
            nodes: Nodes::default(),
            orphans: Orphans::default(),
            started: Instant::now(),
            recorder: Recorder::default(),
            parts,
            owner: "main".to_owned(),
        };
        let name: PoolName = "web".parse().unwrap();
        let mut handle = Worker::start(Pool::new(name.clone(), spec(), 1), means);
        let runs = |view: &PoolView| view.instances.iter().any(|one| one.phase == "running");
        tokio::time::timeout(Duration::from_secs(60), handle.view.wait_for(runs))
            .await
            .unwrap()
            .unwrap();
        let kinds = |kind: &str| {
            let events = events.newest(&name, 100);
            events
                .iter()
                .filter(|dated| dated.event.kind == kind)
                .count()
        };
        assert_eq!(kinds("panicked"), 2);
        assert_eq!(kinds(troubles::BEGINS), 1);
        let view = handle.view.borrow().clone();
        assert!(
            view.troubles[0].contains("2 probes, load readers and steps")
                && view.troubles[0].contains("creating (web-1-1)"),
            "{:?}",
            view.troubles
        );
        assert!(!handle.task.is_finished());
    }
}
