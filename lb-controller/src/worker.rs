//! The task of one pool: it stores what is decided, makes the steps, and tells what it sees.
//!
//! A driver's call runs on a task of its own, one at a time for each instance: one that hangs holds up its instance until its
//! deadline, and nothing else.

use std::{collections::HashMap, sync::Arc, time::Duration};

use lb_drivers::{Bounded, Driver as _, DriverError};
use lb_model::{
    pool::{InstanceName, PoolName, PoolSpec},
    settings::Settings as _,
    vip::VipKey,
};
use lb_steering::{
    Sample,
    scaling::{InstanceReadings, Offered, Phase as ScalingPhase, ScalingDecision},
    score::Thresholds,
};
use serde_json::{Map, Value};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, MissedTickBehavior},
};

use crate::{
    agents::{Agents, Wanted},
    events::Events,
    health::Probes,
    hub::{Engine, Snapshot},
    keeper::{Changes, Keeper, KeeperError},
    load::Readers,
    pool::{
        Health, InstanceView, Learned, Now, Pool, PoolOwner, PoolRecord, Readings, Role, Step,
        StepKind, pause_after, place,
    },
    usage::Meter,
};

/// How often a pool's size is decided.
const TICK: Duration = Duration::from_secs(1);
/// How often what was learned is stored, in ticks.
const SAVE: u32 = 30;

/// What a pool is asked to do.
#[derive(Debug)]
pub enum Order {
    /// Other settings, which were validated.
    Set(Box<PoolSpec>, oneshot::Sender<Result<(), KeeperError>>),
    /// To go, with its instances.
    Delete(oneshot::Sender<Result<(), KeeperError>>),
    /// What a proxy has counted.
    Report(Report),
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
    pub spec: Arc<Map<String, Value>>,
    /// Counts changes of what instances are made from.
    pub generation: u64,
    /// Whether it is being deleted.
    pub is_deleted: bool,
    /// Who says what it is.
    pub owner: PoolOwner,
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

/// What a pool works with.
#[derive(Clone, Debug)]
pub struct Means {
    /// The driver.
    pub engine: Arc<Engine>,
    /// The store.
    pub keeper: Keeper,
    /// The agents.
    pub agents: Agents,
    /// The events.
    pub events: Events,
    /// Probes at a time, of all pools.
    pub probes: Arc<tokio::sync::Semaphore>,
    /// Began with the process.
    pub started: Instant,
}

/// A step that was made.
struct Done {
    step: Step,
    result: Result<(), DriverError>,
}

/// The task of one pool.
pub struct Worker {
    pool: Pool,
    means: Means,
    driver: Bounded,
    snapshots: watch::Receiver<Snapshot>,
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
    spec: Arc<Map<String, Value>>,
    /// New flows at each agent and VIP when they were last read.
    flows: HashMap<(usize, VipKey), u64>,
    /// What proxies have counted since the last decision.
    report: Option<Report>,
    /// When proxies reported last.
    reported: Option<Instant>,
    /// Steps of orphans that are under way.
    orphans: Vec<InstanceName>,
    store_trouble: Option<String>,
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
}

impl Worker {
    /// Starts the task of a pool.
    #[must_use]
    pub fn start(pool: Pool, means: Means) -> Handle {
        let (orders, receiver) = mpsc::channel(64);
        let (probes, health) = Probes::new(Arc::clone(&means.probes));
        let (readers, loads) = Readers::new();
        let spec = Arc::new(pool.spec.to_map());
        let (view, views) = watch::channel(PoolView {
            name: pool.name.clone(),
            spec: Arc::clone(&spec),
            generation: pool.generation,
            is_deleted: pool.is_deleted,
            owner: pool.owner,
            instances: Vec::new(),
            decision: None,
            troubles: Vec::new(),
            thresholds: pool.distribution.thresholds(&pool.spec.scaling),
            revision: first_revision(),
        });
        let worker = Worker {
            driver: means.engine.bounded(pool.spec.driver_deadline),
            snapshots: means.engine.snapshots(),
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
            orphans: Vec::new(),
            store_trouble: None,
            ticks: 0,
            pool,
            means,
        };
        Handle {
            orders,
            view: views,
            task: tokio::spawn(worker.run()),
        }
    }

    fn now(&self) -> Now {
        let unix = std::time::SystemTime::now();
        Now {
            // Ages of before the start are not negative.
            monotonic: self.means.started.elapsed() + Duration::from_secs(30 * 86_400),
            unix: unix
                .duration_since(std::time::UNIX_EPOCH)
                .unwrap_or_default(),
        }
    }

    async fn run(mut self) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.snapshots.mark_changed();
        loop {
            let mut is_tick = false;
            tokio::select! {
                _ = ticks.tick() => is_tick = true,
                changed = self.snapshots.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.take_snapshot();
                }
                Some((name, health)) = self.health.recv() => {
                    let now = self.now();
                    self.pool.observe_health(&name, health, now);
                }
                Some((name, report)) = self.loads.recv() => {
                    // It counts with the next decision.
                    self.readers.take(&name, &report);
                    continue;
                }
                Some(done) = self.done.1.recv() => self.finish(&done),
                order = self.orders.recv() => match order {
                    Some(order) => self.obey(order).await,
                    None => return,
                },
            }
            self.advance(is_tick).await;
            if self.pool.is_gone() && self.forget().await {
                return;
            }
        }
    }

    fn take_snapshot(&mut self) {
        let snapshot = self.snapshots.borrow_and_update().clone();
        let now = self.now();
        match snapshot.listed {
            Ok(listed) => self.pool.observe(&listed, snapshot.began, now),
            // Before the first list there is no trouble yet.
            Err(error) if snapshot.began > 0 => {
                self.pool.list_trouble = Some(error.to_string());
            }
            Err(_) => {}
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
                        self.spec = Arc::new(self.pool.spec.to_map());
                        self.driver = self.means.engine.bounded(self.pool.spec.driver_deadline);
                    }
                    Err(_) => {
                        self.pool.spec = before;
                        self.pool.generation = generation;
                    }
                }
                // Who asks next sees the new settings. The caller may have gone.
                self.publish(self.now());
                let _ = reply.send(written);
            }
            Order::Delete(reply) => {
                let before = std::mem::replace(&mut self.pool.is_deleted, true);
                let written = self.write_pool().await;
                if written.is_err() {
                    self.pool.is_deleted = before;
                }
                self.publish(self.now());
                let _ = reply.send(written);
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
        }
    }

    async fn write_pool(&self) -> Result<(), KeeperError> {
        let mut changes = Changes::default();
        changes.pool(&self.pool.name, &self.record());
        self.means.keeper.write(changes).await.map(drop)
    }

    /// Removes the record of a pool of which nothing is left.
    async fn forget(&mut self) -> bool {
        self.means.agents.set(&self.pool.name, Wanted::new());
        let mut changes = Changes::default();
        changes.remove_pool(&self.pool.name);
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
        if is_tick && self.meter.as_ref().is_none_or(Meter::is_due) {
            self.measure().await;
        }
        let readings = is_tick.then(|| self.readings());
        self.pool.decide(readings, now);
        self.store(is_tick).await;
        for event in self.pool.take_events() {
            self.means.events.add(&self.pool.name, event);
        }
        let can_pause = self.driver.capabilities().pause;
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
            Some((&slot.record.name, endpoint(*number)?))
        });
        let probed: Vec<_> = probed.collect();
        let first_port = self.pool.spec.network.port;
        self.probes.set(
            self.pool.spec.check.as_ref(),
            first_port,
            probed.iter().copied(),
        );
        self.readers
            .set(&self.pool.spec.load, first_port, probed.into_iter());
        self.serve();
        self.publish(now);
    }

    /// Stores the records that have changed, and now and then what was learned.
    async fn store(&mut self, is_tick: bool) {
        let mut changes = Changes::default();
        let unstored = self.pool.unstored();
        let has_records = !unstored.is_empty();
        for (number, record) in unstored {
            changes.instance(&self.pool.name, number, record);
        }
        if has_records {
            changes.pool(&self.pool.name, &self.record());
        }
        if is_tick && !self.pool.is_deleted {
            self.ticks += 1;
            if self.ticks.is_multiple_of(SAVE) {
                let learned = Learned {
                    scaling: self.pool.scaling.clone(),
                };
                if self.saved.as_ref() != Some(&learned) {
                    changes.learned(&self.pool.name, &learned);
                    self.saved = Some(learned);
                }
            }
        }
        if changes.is_empty() {
            return;
        }
        match self.means.keeper.write(changes).await {
            Ok(_) => {
                self.store_trouble = None;
                self.pool.stored();
            }
            // They are written with the next tick; until then nothing is done about them.
            Err(error) => self.store_trouble = Some(error.to_string()),
        }
    }

    /// Reads what the instances use of their own limits.
    async fn measure(&mut self) {
        let groups: Vec<(InstanceName, String)> = self
            .pool
            .slots
            .values()
            .filter_map(|slot| {
                let seen = slot.seen.as_ref()?;
                (!seen.cgroup.is_empty()).then(|| (seen.name.clone(), seen.cgroup.clone()))
            })
            .collect();
        if groups.is_empty() {
            return;
        }
        let mut meter = self.meter.take().unwrap_or_default();
        let read = tokio::task::spawn_blocking(move || {
            meter.read(&groups);
            meter
        });
        match read.await {
            Ok(meter) => self.meter = Some(meter),
            Err(error) => tracing::error!("reading control groups: {error}"),
        }
    }

    fn begin(&mut self, step: Step, can_pause: bool) {
        let Some(launch) = self.pool.spec.launch(&step.name).or_else(|| {
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
        let mut starts = step.kind == StepKind::Create;
        match step
            .number
            .and_then(|number| self.pool.slots.get_mut(&number))
        {
            Some(slot) => {
                slot.step = Some(step.kind.name());
                starts &= slot.record.role != Role::Spare || can_pause;
            }
            None if self.orphans.contains(&step.name) => return,
            None => self.orphans.push(step.name.clone()),
        }
        let (driver, done) = (self.driver.clone(), self.done.0.clone());
        let grace = self.pool.spec.template.stop_grace;
        tokio::spawn(async move {
            let name = &step.name;
            let result = match step.kind {
                StepKind::Remove => driver.remove(name).await,
                StepKind::Create => match driver.create(&launch).await {
                    Ok(()) if starts => driver.start(name).await,
                    other => other,
                },
                StepKind::Start => driver.start(name).await,
                StepKind::Resume => driver.resume(name).await,
                StepKind::Pause => driver.pause(name).await,
                StepKind::Stop => driver.stop(name, grace).await,
            };
            // The pool may be gone.
            let _ = done.send(Done { step, result }).await;
        });
    }

    fn finish(&mut self, done: &Done) {
        let now = self.now();
        let fresh_from = self.means.engine.relist();
        let Done { step, result } = done;
        self.orphans.retain(|name| *name != step.name);
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
                self.means.events.add(&self.pool.name, event);
            }
        }
        let Some(slot) = step
            .number
            .and_then(|number| self.pool.slots.get_mut(&number))
        else {
            return;
        };
        slot.step = None;
        slot.fresh_from = fresh_from;
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
    }

    /// Marks the slots that an agent still has as reals.
    fn route_marks(&mut self) {
        let states = self.means.agents.states();
        for (number, slot) in &mut self.pool.slots {
            let address = self.pool.spec.endpoint(*number).map(|at| at.ip());
            slot.is_routed = !self.pool.spec.vips.is_empty()
                && states.iter().any(|(_, state)| {
                    state.trouble.is_none()
                        && state.reals.keys().any(|(vip, real)| {
                            Some(*real) == address && self.pool.spec.vips.contains(vip)
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

    /// What agents and proxies know of the pool.
    fn readings(&mut self) -> Readings {
        let mut readings = Readings::default();
        let vips = &self.pool.spec.vips;
        let states = self.means.agents.states();
        let mut offered = None;
        let mut flows = HashMap::new();
        for (at, (_, state)) in states.iter().enumerate() {
            for vip in vips {
                let Some(count) = state.new_flows.get(vip) else {
                    continue;
                };
                let before = self.flows.get(&(at, *vip)).copied();
                flows.insert((at, *vip), *count);
                // An agent that restarts counts anew.
                let new = before.map_or(0, |before| count.checked_sub(before).unwrap_or(*count));
                *offered.get_or_insert(0.0) += new as f64;
            }
        }
        self.flows = flows;
        self.pool.shed_rate = states
            .iter()
            .flat_map(|(_, state)| vips.iter().filter_map(|vip| state.shed_rates.get(vip)))
            .sum();
        readings.offered = offered.map(Offered::Flows);
        let report = self.report.take();
        if let Some(report) = &report {
            readings.requests = Some(report.requests);
            readings.latency = report.latency.map(now_sample);
        }
        for (number, slot) in &self.pool.slots {
            let Some(endpoint) = self.pool.spec.endpoint(*number) else {
                continue;
            };
            let mut one =
                InstanceReadings::new(place(&self.pool.name, *number), ScalingPhase::Starting);
            for (_, state) in &states {
                for vip in vips {
                    let Some(real) = state.reals.get(&(*vip, endpoint.ip())) else {
                        continue;
                    };
                    let add = |sum: &mut Option<f64>, value: Option<f64>| {
                        if let Some(value) = value {
                            *sum.get_or_insert(0.0) += value;
                        }
                    };
                    add(&mut one.capacity, real.capacity);
                    one.utilisation = real.utilisation.map(now_sample).or(one.utilisation);
                    one.memory = real.memory.map(now_sample).or(one.memory);
                    let flows = real.connections.or(real.flows);
                    let before = one.connections.map_or(0.0, |sample| sample.value);
                    one.connections = flows
                        .map(|flows| now_sample(before + flows))
                        .or(one.connections);
                }
            }
            // A proxy that counts open requests names all instances that have some.
            let counts = report.as_ref().filter(|report| !report.pending.is_empty());
            if let Some(report) = counts {
                let pending = report.pending.get(&slot.record.name).copied();
                let before = one.connections.map_or(0.0, |sample| sample.value);
                one.connections = Some(now_sample(before + pending.unwrap_or_default()));
            }
            self.readers.complete(&slot.record.name, &mut one);
            if let Some(meter) = &self.meter {
                one.utilisation = one.utilisation.or(meter.cpu(&slot.record.name));
                one.memory = one.memory.or(meter.memory(&slot.record.name));
            }
            // Nobody sends anything to instances that serve no VIP and that no proxy knows.
            if one.connections.is_none() && vips.is_empty() && self.reported.is_none() {
                one.connections = Some(now_sample(0.0));
            }
            readings.instances.push(one);
        }
        readings
    }

    fn publish(&self, now: Now) {
        let states = self.means.agents.states();
        let mut troubles: Vec<String> = self.pool.list_trouble.iter().cloned().collect();
        troubles.extend(self.store_trouble.clone());
        troubles.extend(self.readers.troubles());
        if !self.pool.spec.vips.is_empty() {
            troubles.extend(states.iter().filter_map(|(_, state)| state.trouble.clone()));
            if states.is_empty() {
                troubles.push(
                    "there is no agent for its VIPs; start the controller with --agent".to_owned(),
                );
            }
        }
        let view = PoolView {
            name: self.pool.name.clone(),
            spec: Arc::clone(&self.spec),
            generation: self.pool.generation,
            is_deleted: self.pool.is_deleted,
            owner: self.pool.owner,
            instances: self.pool.view(now),
            thresholds: self.pool.distribution.thresholds(&self.pool.spec.scaling),
            revision: 0,
            decision: self.pool.decision.clone(),
            troubles,
        };
        self.view.send_if_modified(|before| {
            let seen = before.instances.iter().map(InstanceView::seen);
            let is_seen = !seen.eq(view.instances.iter().map(InstanceView::seen));
            let differs = before.instances != view.instances
                || before.decision != view.decision
                || before.troubles != view.troubles
                || before.is_deleted != view.is_deleted
                || !Arc::ptr_eq(&before.spec, &view.spec);
            *before = PoolView {
                revision: before.revision + u64::from(is_seen),
                ..view
            };
            differs
        });
    }
}

/// Microseconds since 1970: no process counts as many changes in the time that it runs.
fn first_revision() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    u64::try_from(now.unwrap_or_default().as_micros()).unwrap_or(1)
}

fn now_sample(value: f64) -> Sample {
    Sample {
        value,
        age: Duration::ZERO,
    }
}
