//! The task that looks after the VIPs.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use lb_model::vip::VipAddress;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

use super::{
    figures::AllFigures,
    found::FoundReals,
    tasks::{Marks, Tasks},
    watch::Watch,
};
use crate::control::{self, Changed, SteerOrder};
use crate::intent::Vip;
use lb_clients::health;
use lb_clients::load;
use lb_model::options::Track;

/// Reports that wait for the supervisor; who sends more waits.
const QUEUE: usize = 1_024;
/// Reports taken before the controllers are asked: a burst is one decision.
const BATCH: usize = 256;
/// What the controllers' clock shows when the agent starts: what was before is long ago.
const CLOCK_START: Duration = Duration::from_secs(7 * 86_400);
/// How long to sleep when nothing is due.
const IDLE: Duration = Duration::from_secs(3_600);

/// Asks the supervisor.
#[derive(Clone, Debug)]
pub struct Handle {
    questions: mpsc::Sender<Question>,
}

/// What the supervisor can be asked.
#[derive(Debug)]
enum Question {
    Found(oneshot::Sender<FoundReals>),
    Figures(oneshot::Sender<AllFigures>),
}

impl Handle {
    /// What is known of every real that is looked after.
    pub async fn found(&self) -> FoundReals {
        self.ask(Question::Found).await
    }

    /// Figures of every VIP that is supervised.
    pub async fn figures(&self) -> AllFigures {
        self.ask(Question::Figures).await
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

/// Looks after the VIPs that `changed` tells of, until the task is aborted. All probes and readers end with it.
#[must_use]
pub fn start(control: control::Handle, changed: Arc<Changed>) -> (Handle, JoinHandle<()>) {
    let (questions, received_questions) = mpsc::channel(16);
    let (probe_sender, probes) = mpsc::channel(QUEUE);
    let (load_sender, loads) = mpsc::channel(QUEUE);
    let supervisor = Supervisor {
        control,
        watches: BTreeMap::new(),
        tasks: Tasks::new(probe_sender, load_sender),
        troubles: HashMap::new(),
        began: Instant::now(),
    };
    let task = tokio::spawn(supervisor.run(changed, probes, loads, received_questions));
    (Handle { questions }, task)
}

struct Supervisor {
    control: control::Handle,
    watches: BTreeMap<VipAddress, Watch>,
    tasks: Tasks,
    /// VIPs whose reals cannot be probed through the tunnel, and why.
    troubles: HashMap<VipAddress, String>,
    /// The epoch of the controllers' clock.
    began: Instant,
}

/// What a data plane counted, per real.
pub(super) type Carried = HashMap<(VipAddress, IpAddr), control::Carried>;

impl Supervisor {
    async fn run(
        mut self,
        changed: Arc<Changed>,
        mut probes: mpsc::Receiver<health::runner::Report>,
        mut loads: mpsc::Receiver<load::reading::Report>,
        mut questions: mpsc::Receiver<Question>,
    ) {
        loop {
            let due = self
                .watches
                .values()
                .map(Watch::due)
                .min()
                .unwrap_or_else(|| Instant::now() + IDLE);
            tokio::select! {
                vips = changed.take() => self.reconcile(vips).await,
                Some(report) = probes.recv() => {
                    let mut steps = Vec::new();
                    self.probed(report, &mut steps);
                    while steps.len() < BATCH && let Ok(report) = probes.try_recv() {
                        self.probed(report, &mut steps);
                    }
                    self.step(steps).await;
                }
                Some(report) = loads.recv() => {
                    let mut steps = Vec::new();
                    self.read(report, &mut steps);
                    while steps.len() < BATCH && let Ok(report) = loads.try_recv() {
                        self.read(report, &mut steps);
                    }
                    self.step(steps).await;
                }
                () = tokio::time::sleep_until(due.into()) => {
                    let steps = self.timed(Instant::now()).await;
                    self.step(steps).await;
                }
                Some(question) = questions.recv() => self.answer(question),
                else => return,
            }
        }
    }
}

impl Supervisor {
    /// Looks after these VIPs as they are now.
    async fn reconcile(&mut self, vips: BTreeMap<VipAddress, Option<Arc<Vip>>>) {
        let mut steps = Vec::new();
        let mut left = Vec::new();
        for (name, vip) in vips {
            match vip.filter(|vip| vip.spec.supervised()) {
                Some(vip) => {
                    let marks = self.marks(&vip).await;
                    match self.watches.get_mut(&name) {
                        Some(watch) => watch.update(vip, &marks, &self.tasks),
                        None => {
                            let resumed = self.control.steered(name).await.ok().flatten();
                            let watch = Watch::new(
                                vip,
                                resumed,
                                self.time(Instant::now()),
                                &marks,
                                &self.tasks,
                            );
                            self.watches.insert(name, watch);
                        }
                    }
                    steps.push(name);
                }
                None => {
                    self.troubles.remove(&name);
                    if let Some(watch) = self.watches.remove(&name) {
                        for real in watch.paced() {
                            self.control.shed(name, real, 0).await;
                        }
                        left.push(SteerOrder {
                            vip: name,
                            steered: None,
                            causes: Vec::new(),
                        });
                    }
                }
            }
        }
        if !left.is_empty() {
            self.give(left).await;
        }
        self.step(steps).await;
    }

    /// What the controllers' clock shows then.
    fn time(&self, now: Instant) -> Duration {
        CLOCK_START + now.saturating_duration_since(self.began)
    }

    /// Marks of the sockets that reach each real through the tunnel, where the VIP's check asks for that.
    async fn marks(&mut self, vip: &Vip) -> Marks {
        let mut marks = Marks::new();
        let tunnelled = Watch::tunnelled(vip);
        let trouble = match tunnelled.as_slice() {
            [] => None,
            _ => self.control.probe_trouble(vip.address).await.ok().flatten(),
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
    fn warn(&mut self, vip: VipAddress, trouble: Option<String>) {
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

    /// Notes what a probe found.
    fn probed(&mut self, report: health::runner::Report, steps: &mut Vec<VipAddress>) {
        let vip = report.vip;
        if let Some(watch) = self.watches.get_mut(&vip)
            && watch.probed(report)
        {
            steps.push(vip);
        }
    }

    /// Notes what a reader read.
    fn read(&mut self, report: load::reading::Report, steps: &mut Vec<VipAddress>) {
        let vip = report.subject.vip;
        if let Some(watch) = self.watches.get_mut(&vip)
            && watch.read(report)
        {
            steps.push(vip);
        }
    }

    /// VIPs whose period is over. The others' parts of what is to be shed are told: that needs nothing of what
    /// reals carry, which takes a look at all flows where they are counted.
    async fn timed(&mut self, now: Instant) -> Vec<VipAddress> {
        let mut steps = Vec::new();
        for (vip, watch) in &mut self.watches {
            if watch.step_due() <= now {
                steps.push(*vip);
                continue;
            }
            for (real, flows) in watch.shed_part(now) {
                self.control.shed(*vip, real, flows).await;
            }
        }
        steps
    }

    /// Asks the controllers of these VIPs, and gives what they decide to the owner.
    async fn step(&mut self, mut vips: Vec<VipAddress>) {
        vips.sort_unstable();
        vips.dedup();
        if vips.is_empty() {
            return;
        }
        let exact = vips.iter().any(|vip| {
            self.watches
                .get(vip)
                .is_some_and(|watch| watch.vip().spec.track == Track::All)
        });
        let carried: Carried = match self.control.carried(exact).await {
            Ok(all) => all
                .into_iter()
                .map(|carried| ((carried.vip, carried.real), carried))
                .collect(),
            Err(error) => {
                tracing::warn!("what reals carry could not be read: {error}");
                Carried::new()
            }
        };
        let now = Instant::now();
        // Of the same moment: else a reading seems to be of another time whenever it is looked at.
        let time = self.time(now);
        let mut orders = Vec::new();
        for vip in vips {
            let Some(watch) = self.watches.get_mut(&vip) else {
                continue;
            };
            let (order, sheds) = watch.step(now, time, &carried);
            orders.extend(order);
            for (real, flows) in sheds {
                self.control.shed(vip, real, flows).await;
            }
        }
        self.give(orders).await;
    }

    async fn give(&self, orders: Vec<SteerOrder>) {
        // A stopping owner has no use for it.
        if !orders.is_empty() {
            let _ = self.control.steer(orders).await;
        }
    }

    fn answer(&self, question: Question) {
        // In both cases the receiver may be gone.
        match question {
            Question::Found(reply) => {
                let _ = reply.send(self.found());
            }
            Question::Figures(reply) => {
                let figures = self.watches.iter();
                let figures = figures.map(|(vip, watch)| (*vip, watch.figures()));
                let _ = reply.send(figures.collect());
            }
        }
    }

    fn found(&self) -> FoundReals {
        self.watches.values().flat_map(Watch::found).collect()
    }
}
