//! The task that supervises the VIPs.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use lb_model::vip::{RealId, VipKey};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

use super::{
    figures::AllFigures,
    own_trouble::OwnTrouble,
    snapshot::RealSnapshots,
    tasks::{Marks, Tasks},
    vip_supervisor::VipSupervisor,
};
use crate::control::{self, Changed, FlowCounts, WeightUpdate};
use lb_clients::health::{
    self,
    capacity::{Capacity, Demand},
};
use lb_clients::load;
use lb_model::intent::Vip;
use lb_model::options::Track;
use lb_serve::{panics::Panics, watchdog::Pulse};

/// Reports that wait for the supervisor; a sender of more waits.
const QUEUE: usize = 1_024;
/// Reports taken before steering is stepped: a burst is one decision.
const BATCH: usize = 256;
/// The time on steering's clock when the agent starts: everything before it is long ago.
const CLOCK_START: Duration = Duration::from_secs(7 * 86_400);
/// How often tasks are looked for that have ended by themselves.
const LOOK: Duration = Duration::from_secs(1);

/// Asks the supervisor what it knows.
#[derive(Clone, Debug)]
pub struct Handle {
    questions: mpsc::Sender<Question>,
    pulse: Arc<Pulse>,
}

/// What the supervisor can be asked.
#[derive(Debug)]
enum Question {
    Snapshots(oneshot::Sender<RealSnapshots>),
    Figures(oneshot::Sender<AllFigures>),
    Warnings(oneshot::Sender<Vec<String>>),
    /// Nothing: it shows that the supervisor lives.
    Ping,
}

impl Handle {
    /// What is known of every real that is supervised.
    pub async fn snapshots(&self) -> RealSnapshots {
        self.ask(Question::Snapshots).await
    }

    /// Figures of every VIP that is supervised.
    pub async fn figures(&self) -> AllFigures {
        self.ask(Question::Figures).await
    }

    /// What an operator should know of probes and steering: trouble of this host, probes that it has no room for, and
    /// VIPs that have fallen back to the operator's weights.
    pub async fn warnings(&self) -> Vec<String> {
        self.ask(Question::Warnings).await
    }

    /// Has the supervisor show that it lives.
    pub fn ping(&self) {
        // A full queue shows that it does not, or it is at work.
        let _ = self.questions.try_send(Question::Ping);
    }

    /// Shows whether the supervisor makes progress.
    #[must_use]
    pub fn pulse(&self) -> Arc<Pulse> {
        Arc::clone(&self.pulse)
    }

    /// Without a supervisor nothing is known.
    async fn ask<T: Default>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Question) -> T {
        let (reply, answer) = oneshot::channel();
        if self.questions.send(question(reply)).await.is_err() {
            return T::default();
        }
        answer.await.unwrap_or_default()
    }
}

/// Supervises the VIPs that `changed` announces, until the task is aborted. All probes and readers end with it.
#[must_use]
pub fn start(control: control::Handle, changed: Arc<Changed>) -> (Handle, JoinHandle<()>) {
    let (questions, received_questions) = mpsc::channel(16);
    let (supervisor, inbox) = Supervisor::new(control);
    let handle = Handle {
        questions,
        pulse: Arc::clone(&supervisor.pulse),
    };
    let task = tokio::spawn(supervisor.run(changed, inbox, received_questions));
    (handle, task)
}

/// Reports that wait for the supervisor.
struct Inbox {
    probes: mpsc::Receiver<health::runner::Report>,
    loads: mpsc::Receiver<load::reading::Report>,
}

struct Supervisor {
    control: control::Handle,
    supervisors: BTreeMap<VipKey, VipSupervisor>,
    tasks: Tasks,
    /// VIPs whose reals cannot be probed through the tunnel, and why.
    troubles: HashMap<VipKey, String>,
    own_trouble: OwnTrouble,
    panics: Panics,
    /// What this host has for probes, if that is known.
    capacity: Option<Capacity>,
    /// What the probes that are configured lack.
    shortages: Vec<String>,
    /// The epoch of steering's clock.
    began: Instant,
    pulse: Arc<Pulse>,
}

/// Flows that the data plane counted, per real.
pub(super) type AllFlowCounts = HashMap<(VipKey, RealId), FlowCounts>;

impl Supervisor {
    /// Supervises nothing yet.
    fn new(control: control::Handle) -> (Self, Inbox) {
        let (probe_sender, probes) = mpsc::channel(QUEUE);
        let (load_sender, loads) = mpsc::channel(QUEUE);
        let supervisor = Supervisor {
            control,
            supervisors: BTreeMap::new(),
            tasks: Tasks::new(probe_sender, load_sender),
            troubles: HashMap::new(),
            own_trouble: OwnTrouble::default(),
            panics: Panics::new("probes, load readers and shedders", "the agent"),
            capacity: Capacity::of_this_host()
                .inspect_err(|error| {
                    tracing::warn!("how many probes this host can make is not known: {error}");
                })
                .ok(),
            shortages: Vec::new(),
            began: Instant::now(),
            pulse: Arc::default(),
        };
        (supervisor, Inbox { probes, loads })
    }

    async fn run(
        mut self,
        changed: Arc<Changed>,
        inbox: Inbox,
        mut questions: mpsc::Receiver<Question>,
    ) {
        let Inbox {
            mut probes,
            mut loads,
        } = inbox;
        let pulse = Arc::clone(&self.pulse);
        let mut look = Instant::now() + LOOK;
        loop {
            let due = self.supervisors.values().map(VipSupervisor::due).min();
            let due = due.map_or(look, |due| due.min(look));
            tokio::select! {
                vips = changed.take() => {
                    let _work = pulse.work();
                    self.reconcile(vips).await;
                }
                Some(report) = probes.recv() => {
                    let _work = pulse.work();
                    let mut steps = Vec::new();
                    let mut updates = Vec::new();
                    self.probed(report, &mut steps, &mut updates);
                    while steps.len() < BATCH && let Ok(report) = probes.try_recv() {
                        self.probed(report, &mut steps, &mut updates);
                    }
                    self.apply(updates).await;
                    self.step(steps).await;
                }
                Some(report) = loads.recv() => {
                    let _work = pulse.work();
                    let mut steps = Vec::new();
                    self.read(report, &mut steps);
                    while steps.len() < BATCH && let Ok(report) = loads.try_recv() {
                        self.read(report, &mut steps);
                    }
                    self.step(steps).await;
                }
                () = tokio::time::sleep_until(due.into()) => {
                    let _work = pulse.work();
                    let now = Instant::now();
                    if now >= look {
                        look = now + LOOK;
                        self.restart_ended(now).await;
                    }
                    let steps = self.timed(now).await;
                    self.step(steps).await;
                }
                Some(question) = questions.recv() => {
                    let _work = pulse.work();
                    self.answer(question);
                }
                else => return,
            }
        }
    }
}

impl Supervisor {
    /// Supervises these VIPs by their settings as they are now.
    async fn reconcile(&mut self, vips: BTreeMap<VipKey, Option<Arc<Vip>>>) {
        let mut steps = Vec::new();
        let mut left = Vec::new();
        for (name, vip) in vips {
            match vip.filter(|vip| vip.spec.supervised()) {
                Some(vip) => {
                    let marks = self.marks(&vip).await;
                    match self.supervisors.get_mut(&name) {
                        Some(vip_supervisor) => vip_supervisor.update(vip, &marks, &self.tasks),
                        None => {
                            let resumed = self.control.steered(name).await.ok().flatten();
                            let vip_supervisor = VipSupervisor::new(
                                vip,
                                resumed,
                                self.time(Instant::now()),
                                &marks,
                                &self.tasks,
                            );
                            self.supervisors.insert(name, vip_supervisor);
                        }
                    }
                    steps.push(name);
                }
                None => {
                    self.troubles.remove(&name);
                    if let Some(vip_supervisor) = self.supervisors.remove(&name) {
                        for real in vip_supervisor.paced() {
                            self.control.shed(name, real, 0).await;
                        }
                        left.push(WeightUpdate {
                            vip: name,
                            steered: None,
                            causes: Vec::new(),
                            notice: None,
                        });
                    }
                }
            }
        }
        if !left.is_empty() {
            self.apply(left).await;
        }
        self.check_capacity();
        self.step(steps).await;
    }

    /// The time on steering's clock at this moment.
    fn time(&self, now: Instant) -> Duration {
        CLOCK_START + now.saturating_duration_since(self.began)
    }

    /// Marks of the sockets that reach each real through the tunnel, where the VIP's check asks for that.
    async fn marks(&mut self, vip: &Vip) -> Marks {
        let mut marks = Marks::new();
        let tunnelled = VipSupervisor::tunnelled(vip);
        let trouble = match tunnelled.as_slice() {
            [] => None,
            _ => self.control.probe_problem(vip.address).await.ok().flatten(),
        };
        self.warn(vip.address, trouble);
        for real in tunnelled {
            if let Ok(Some(mark)) = self.control.probe_mark(vip.address, real).await {
                marks.insert(real, mark);
            }
        }
        marks
    }

    /// Tells once why a VIP's reals cannot be probed through the tunnel.
    fn warn(&mut self, vip: VipKey, trouble: Option<String>) {
        if self.troubles.get(&vip) == trouble.as_ref() {
            return;
        }
        match trouble {
            Some(trouble) => {
                tracing::warn!(
                    "VIP {vip}: its reals cannot be probed through the tunnel: {trouble}"
                );
                self.troubles.insert(vip, trouble);
            }
            None => {
                self.troubles.remove(&vip);
            }
        }
    }

    /// Notes the report of a probe.
    fn probed(
        &mut self,
        report: health::runner::Report,
        steps: &mut Vec<VipKey>,
        updates: &mut Vec<WeightUpdate>,
    ) {
        let vip = report.vip;
        let Some(vip_supervisor) = self.supervisors.get_mut(&vip) else {
            return;
        };
        if let Some(reason) = self.own_trouble.observe(&report.outcome, Instant::now()) {
            tracing::warn!(
                "VIP {vip}, real {}: a probe says nothing, and the state is kept: {reason}; more such probes are counted \
                 and not logged, until there were none for a minute",
                report.real
            );
            let cause = format!("a probe says nothing, and the state is kept: {reason}");
            updates.extend(vip_supervisor.tell(report.real, cause));
        }
        if vip_supervisor.probed(report) {
            steps.push(vip);
        }
    }

    /// Compares the probes that are configured with what this host can make.
    fn check_capacity(&mut self) {
        let Some(capacity) = &self.capacity else {
            return;
        };
        let mut demand = Demand::default();
        for vip_supervisor in self.supervisors.values() {
            demand.add(vip_supervisor.vip());
        }
        let shortages = capacity.shortages(&demand);
        if self.shortages.is_empty() {
            for shortage in &shortages {
                tracing::warn!("{shortage}");
            }
        }
        self.shortages = shortages;
    }

    fn warnings(&self) -> Vec<String> {
        let undecided = self
            .supervisors
            .values()
            .map(VipSupervisor::undecided)
            .sum();
        let own = self.own_trouble.warning(undecided, Instant::now());
        let now = self.time(Instant::now());
        let supervisors = self.supervisors.values();
        let fallbacks = supervisors.filter_map(|supervisor| supervisor.fallback_warning(now));
        own.into_iter()
            .chain(self.panics.warning(Instant::now()))
            .chain(self.shortages.clone())
            .chain(fallbacks)
            .collect()
    }

    /// Notes the report of a reader.
    fn read(&mut self, report: load::reading::Report, steps: &mut Vec<VipKey>) {
        let vip = report.subject.vip;
        if let Some(vip_supervisor) = self.supervisors.get_mut(&vip)
            && vip_supervisor.read(report)
        {
            steps.push(vip);
        }
    }

    /// Starts the tasks again that have ended by themselves, and reports them.
    async fn restart_ended(&mut self, now: Instant) {
        let mut vips = BTreeMap::new();
        let mut updates = Vec::new();
        for (vip, vip_supervisor) in &mut self.supervisors {
            for (real, task) in vip_supervisor.drop_ended() {
                let cause = format!(
                    "{task} panicked, which is a fault of this program; it is started again"
                );
                tracing::error!("VIP {vip}, real {real}: {cause}, please report this");
                self.panics
                    .note(format!("VIP {vip}, real {real}: {task}"), now);
                updates.extend(vip_supervisor.tell(real, cause));
                vips.insert(*vip, Some(Arc::clone(vip_supervisor.vip())));
            }
        }
        if !vips.is_empty() {
            self.apply(updates).await;
            self.reconcile(vips).await;
        }
    }

    /// VIPs whose period is over. The parts that the others are to shed are passed on here: they need no flow counts,
    /// which take a scan of the flow table.
    async fn timed(&mut self, now: Instant) -> Vec<VipKey> {
        let mut steps = Vec::new();
        for (vip, vip_supervisor) in &mut self.supervisors {
            if vip_supervisor.step_due() <= now {
                steps.push(*vip);
                continue;
            }
            for (real, flows) in vip_supervisor.shed_part(now) {
                self.control.shed(*vip, real, flows).await;
            }
        }
        steps
    }

    /// Steps the steering of these VIPs, and passes the weights to the owner.
    async fn step(&mut self, mut vips: Vec<VipKey>) {
        vips.sort_unstable();
        vips.dedup();
        if vips.is_empty() {
            return;
        }
        let exact = vips.iter().any(|vip| {
            self.supervisors
                .get(vip)
                .is_some_and(|vip_supervisor| vip_supervisor.vip().spec.track == Track::All)
        });
        let counts: AllFlowCounts = match self.control.flow_counts(exact).await {
            Ok(all) => all
                .into_iter()
                .map(|real| ((real.vip, real.real), real))
                .collect(),
            Err(error) => {
                tracing::warn!("what reals carry could not be read: {error}");
                AllFlowCounts::new()
            }
        };
        let now = Instant::now();
        // The same moment for all: a reading must not seem to be from another time in each step.
        let time = self.time(now);
        let mut updates = Vec::new();
        for vip in vips {
            let Some(vip_supervisor) = self.supervisors.get_mut(&vip) else {
                continue;
            };
            let (update, sheds) = vip_supervisor.step(now, time, &counts);
            updates.extend(update);
            for (real, flows) in sheds {
                self.control.shed(vip, real, flows).await;
            }
        }
        self.apply(updates).await;
    }

    async fn apply(&self, updates: Vec<WeightUpdate>) {
        // An owner that is stopping does not need them.
        if !updates.is_empty() {
            let _ = self.control.apply_weights(updates).await;
        }
    }

    fn answer(&self, question: Question) {
        // In each case the receiver may be gone.
        match question {
            Question::Ping => {}
            Question::Snapshots(reply) => {
                let _ = reply.send(self.snapshots());
            }
            Question::Warnings(reply) => {
                let _ = reply.send(self.warnings());
            }
            Question::Figures(reply) => {
                let figures = self.supervisors.iter();
                let figures = figures.map(|(vip, supervisor)| (*vip, supervisor.figures()));
                let _ = reply.send(figures.collect());
            }
        }
    }

    fn snapshots(&self) -> RealSnapshots {
        self.supervisors
            .values()
            .flat_map(VipSupervisor::snapshots)
            .collect()
    }
}

#[cfg(test)]
mod tests;
