//! The owner's thread: it takes commands in order, changes in batches.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{Arc, OnceLock},
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime},
};

use lb_model::vip::{Protocol, VipKey};
use tokio::sync::{broadcast, mpsc};

use super::{
    Command, Figures, FlowCounts, Handle, PendingChange, QUEUE, ReadError, StatsView, StatusView,
    Watching, Work,
    changed::Changed,
    database_file::FileMark,
    event::{Event, WATCH_QUEUE, What},
    service::Service,
    view::{Observation, RealState, RealView, VipView},
};
use crate::store::{Store, StoreError};
use crate::weights::Steered;
use lb_dataplane::{Counters, Dataplane, DataplaneError};
use lb_model::intent::{Change, Intent, Refusal};
use lb_model::options::Track;

/// Changes that are stored in one transaction at most.
const BATCH: usize = 1_024;
/// Replies to changes and events carry flows and reachability that are at most this old: looking means to scan the
/// flow table.
const REPLY_AGE: Duration = Duration::from_secs(1);
/// The same for lists and counters, whose callers want to see the present.
const READ_AGE: Duration = Duration::from_millis(20);
/// How often the weights of steering are saved: a killed agent's successor starts from weights of at most this age.
const SAVE_INTERVAL: Duration = Duration::from_secs(30);

/// How the owner works.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Seed of the rings, the same on every balancer of a fleet.
    pub ring_seed: u64,
    /// Whether checks may run programs (`exec`): every caller of the API can then run programs as this user.
    pub exec_checks: bool,
    /// The changes that add the VIPs of the configuration file. Those that are stored already are left as they are:
    /// they belong to the API.
    pub static_vips: Vec<Change>,
    /// Announces which VIPs change, including those that exist at start.
    pub changed: Arc<Changed>,
}

pub(super) struct Owner {
    pub(super) dataplane: Box<dyn Dataplane>,
    pub(super) store: Store,
    pub(super) intent: Intent,
    /// What follows from the intent, per VIP.
    pub(super) services: BTreeMap<VipKey, Service>,
    pub(super) seed: u64,
    pub(super) exec_checks: bool,
    pub(super) events: broadcast::Sender<Event>,
    /// Stored VIPs that the data plane had no room for at start; tried again each tick.
    pub(super) unplaced: BTreeMap<VipKey, String>,
    /// VIPs whose record may differ from the intent, since a commit failed; written again with the next.
    pub(super) unsure: BTreeSet<VipKey>,
    observed: Observation,
    observed_at: Option<Instant>,
    /// Services were set or removed since the last observation: there may be reals that were not observed yet.
    pub(super) unobserved: bool,
    tick_error: Option<String>,
    /// The weights that steering decided for each VIP.
    pub(super) steered: BTreeMap<VipKey, Steered>,
    /// It changed since it was saved.
    pub(super) unsaved: bool,
    saved_at: Instant,
    /// Announces which VIPs changed.
    pub(super) changed: Arc<Changed>,
    pub(super) work: Work,
    /// Reals that are addresses of this host: they take no flows.
    pub(super) own: BTreeSet<IpAddr>,
    /// What somebody else changed in the tables, as was last announced.
    pub(super) foreign_changes: Option<String>,
    /// The database's id.
    pub(super) identity: u64,
    /// The database's file as the last transaction left it.
    pub(super) file_mark: Option<FileMark>,
    /// Why the owner ends by itself.
    pub(super) failure: Arc<OnceLock<String>>,
}

/// Restores the intent, brings the tables in line with it and starts the owner's thread. When this returns,
/// the tables say what was stored.
///
/// # Errors
/// [`StoreError`] if the store cannot be read.
pub fn start(
    mut store: Store,
    dataplane: Box<dyn Dataplane>,
    options: Options,
) -> Result<(Handle, JoinHandle<()>), StoreError> {
    let (events, _) = broadcast::channel(WATCH_QUEUE);
    let failure = Arc::new(OnceLock::new());
    let identity = store.identity()?;
    let mut owner = Owner {
        dataplane,
        intent: store.load()?,
        steered: store.load_steered()?,
        unsaved: false,
        saved_at: Instant::now(),
        changed: options.changed,
        store,
        services: BTreeMap::new(),
        seed: options.ring_seed,
        exec_checks: options.exec_checks,
        events,
        unplaced: BTreeMap::new(),
        unsure: BTreeSet::new(),
        observed: Observation::default(),
        observed_at: None,
        unobserved: false,
        tick_error: None,
        work: Work::default(),
        own: BTreeSet::new(),
        foreign_changes: None,
        identity,
        file_mark: None,
        failure: Arc::clone(&failure),
    };
    owner.restore();
    owner.add_static(options.static_vips);
    owner.mark_database_file();
    let (commands, receiver) = mpsc::channel(QUEUE);
    let thread = std::thread::Builder::new()
        .name("owner".into())
        .spawn(move || owner.run(receiver))
        .map_err(|source| StoreError::Thread { source })?;
    Ok((
        Handle {
            commands,
            seed: options.ring_seed,
            failure,
        },
        thread,
    ))
}

impl Owner {
    fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        while let Some(first) = commands.blocking_recv() {
            let mut next = Some(first);
            // Changes that wait are taken together; anything else sees all changes before it.
            while let Some(command) = next.take() {
                match command {
                    Command::Change(order) => {
                        let mut orders = vec![*order];
                        while orders.len() < BATCH {
                            match commands.try_recv() {
                                Ok(Command::Change(order)) => orders.push(*order),
                                Ok(other) => {
                                    next = Some(other);
                                    break;
                                }
                                Err(_) => break,
                            }
                        }
                        // Nothing is acknowledged that would be lost.
                        if !self.database_file_is_intact() {
                            return;
                        }
                        self.execute(orders);
                    }
                    Command::Tick => {
                        if !self.database_file_is_intact() {
                            return;
                        }
                        self.tick();
                        self.mark_database_file();
                    }
                    Command::Stop => {
                        self.save_steered();
                        return;
                    }
                    other => self.answer(other),
                }
            }
        }
    }

    fn execute(&mut self, orders: Vec<PendingChange>) {
        if orders.iter().any(|order| order.view) || self.events.receiver_count() > 0 {
            self.observe_or_log(REPLY_AGE);
        }
        let outcomes = self.apply(orders);
        self.mark_database_file();
        for (order, outcome) in outcomes {
            self.work.count_change(&outcome, order.requested);
            // The caller may have gone; the change is made all the same.
            let _ = order.reply.send(outcome);
        }
    }

    fn answer(&mut self, command: Command) {
        // In each case, the caller may have gone.
        match command {
            Command::Change(order) => self.execute(vec![*order]),
            Command::List { vip, reply } => {
                let _ = reply.send(self.list(vip));
            }
            Command::Stats { vip, reply } => {
                let _ = reply.send(self.stats(vip));
            }
            Command::Status { reply } => {
                let _ = reply.send(self.status());
            }
            Command::Figures { reply } => {
                let _ = reply.send(self.figures());
            }
            Command::Simulate {
                interface,
                frame,
                reply,
            } => {
                let _ = reply.send(
                    self.dataplane
                        .simulate(interface.as_deref(), &frame)
                        .map_err(ReadError::from),
                );
            }
            Command::Service { vip, reply } => {
                let service = self.services.get(&vip).cloned();
                let _ = reply.send(service.ok_or(ReadError::Vip(Refusal::VipUnknown(vip))));
            }
            Command::Watch { vip, reply } => {
                let events = self.events.subscribe();
                let _ = reply.send(self.list(vip).map(|snapshot| Watching { snapshot, events }));
            }
            Command::ApplyWeights { updates, reply } => {
                self.apply_weights(updates);
                let _ = reply.send(());
            }
            Command::FlowCounts { exact, reply } => {
                let _ = reply.send(self.flow_counts(exact));
            }
            Command::Steered { vip, reply } => {
                let _ = reply.send(self.steered.get(&vip).cloned());
            }
            Command::Shed { vip, real, flows } => {
                // One that is gone has nothing left to take back.
                if let Err(error) = self.dataplane.shed(&vip, real, flows)
                    && flows > 0
                {
                    tracing::warn!("VIP {vip}, real {real}: shedding {flows} flows: {error}");
                }
            }
            Command::ProbeMark { vip, real, reply } => {
                let _ = reply.send(self.dataplane.probe_mark(&vip, real));
            }
            Command::ProbeTrouble { vip, reply } => {
                let _ = reply.send(self.dataplane.probe_problem(&vip));
            }
            Command::RefreshNextHops => self.refresh_next_hops(),
            Command::CheckLinks => self.check_links(),
            // They are taken before.
            Command::Tick | Command::Stop => {}
        }
    }

    /// Brings the observation up to date if it is older than this.
    fn observe(&mut self, age: Duration) -> Result<(), DataplaneError> {
        if self.observed_at.is_some_and(|at| at.elapsed() <= age) {
            return Ok(());
        }
        self.observed = self
            .observed
            .next(self.dataplane.flows()?, SystemTime::now());
        self.observed_at = Some(Instant::now());
        self.unobserved = false;
        Ok(())
    }

    fn observe_or_log(&mut self, age: Duration) {
        if let Err(error) = self.observe(age) {
            tracing::warn!("live flows and the state of reals could not be read: {error}");
        }
    }

    pub(super) fn view_of(&self, service: &Service) -> VipView {
        VipView::new(service, &self.observed)
    }

    pub(super) fn view_of_real(&self, service: &Service, real: IpAddr) -> Option<RealView> {
        RealView::new(service, service.position(real)?, &self.observed)
    }

    pub(super) fn view(&self, vip: &VipKey) -> Option<VipView> {
        self.services
            .get(vip)
            .map(|service| VipView::new(service, &self.observed))
    }

    fn list(&mut self, vip: Option<VipKey>) -> Result<Vec<VipView>, ReadError> {
        self.observe(if self.unobserved {
            Duration::ZERO
        } else {
            READ_AGE
        })?;
        match vip {
            Some(vip) => self
                .view(&vip)
                .map(|view| vec![view])
                .ok_or(ReadError::Vip(Refusal::VipUnknown(vip))),
            None => Ok(self
                .services
                .values()
                .map(|service| VipView::new(service, &self.observed))
                .collect()),
        }
    }

    fn stats(&mut self, vip: Option<VipKey>) -> Result<StatsView, ReadError> {
        let vips = self.list(vip)?;
        let stats = self.dataplane.stats()?;
        Ok(StatsView { vips, stats })
    }

    fn status(&self) -> StatusView {
        let mut warnings: Vec<String> = self
            .unplaced
            .iter()
            .map(|(vip, cause)| format!("VIP {vip} is wanted but not served: {cause}"))
            .collect();
        warnings.extend(self.without_alive());
        warnings.extend(self.own_real_warnings());
        if !self.unsure.is_empty() {
            warnings.push(format!(
                "{} could not be written; it is tried again with the next change",
                self.store.path().display()
            ));
        }
        if let Some(error) = &self.tick_error {
            warnings.push(format!("looking after the tables failed: {error}"));
        }
        StatusView {
            vips: self.intent.len(),
            reals: self.intent.reals(),
            dataplane: self.dataplane.status(),
            warnings,
        }
    }

    fn figures(&mut self) -> Result<Figures, ReadError> {
        let start = Instant::now();
        // A scrape that scanned the flow table each time would hold up changes for nothing.
        self.observe(if self.unobserved {
            Duration::ZERO
        } else {
            REPLY_AGE
        })?;
        Ok(Figures {
            vips: self
                .services
                .values()
                .map(|service| VipView::new(service, &self.observed))
                .collect(),
            stats: self.dataplane.stats()?,
            status: self.status(),
            unplaced: self.unplaced.len(),
            work: self.work.clone(),
            took: start.elapsed(),
        })
    }

    /// VIPs of which no real is alive, and what becomes of their packets.
    fn without_alive(&self) -> impl Iterator<Item = String> {
        self.intent
            .vips()
            .filter(|vip| self.is_empty(&vip.address))
            .map(|vip| self.emptiness(vip))
    }

    fn tick(&mut self) {
        self.tick_error = match self.dataplane.tick() {
            Ok(()) => None,
            Err(error) => {
                let text = error.to_string();
                // Once, not each second.
                if self.tick_error.as_ref() != Some(&text) {
                    tracing::error!("looking after the tables failed: {text}");
                }
                Some(text)
            }
        };
        self.check_links();
        self.check_foreign_changes();
        self.check_own_reals();
        self.place_again();
        if self.saved_at.elapsed() >= SAVE_INTERVAL {
            self.saved_at = Instant::now();
            self.save_steered();
        }
    }

    /// What each real carried so far.
    fn flow_counts(&mut self, exact: bool) -> Result<Vec<FlowCounts>, ReadError> {
        let stats = self.dataplane.stats()?;
        if exact {
            self.observe(READ_AGE)?;
        }
        let observed = &self.observed;
        let services = &self.services;
        let reals = stats.services.iter().flat_map(|service| {
            let placed = services.get(&service.vip);
            // UDP has no flows to count where not all are tracked: entries are made for those that a changed ring
            // moves, and none of them ends. What a real carries is then its packets.
            let packets = service.vip.protocol == Protocol::Udp
                && placed.is_some_and(|placed| placed.vip.spec.track != Track::All);
            let counted = move |counters: &Counters| {
                if packets {
                    (counters.packets, counters.packets)
                } else {
                    (counters.opened, counters.closed + counters.lost)
                }
            };
            service.reals.iter().map(move |(real, counters)| {
                let (opened, closed) = counted(counters);
                FlowCounts {
                    vip: service.vip,
                    real: *real,
                    opened,
                    closed,
                    flows: observed
                        .get(service.vip, *real)
                        .filter(|seen| exact && seen.exact)
                        .map(|seen| seen.flows),
                    share: placed
                        .and_then(|placed| placed.shares.get(placed.position(*real)?).copied())
                        .unwrap_or_default(),
                }
            })
        });
        Ok(reals.collect())
    }

    fn refresh_next_hops(&mut self) {
        self.check_own_reals();
        match self.dataplane.refresh_next_hops() {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                tracing::error!(
                    "looking up next hops failed: {error}; they stay as they are until something changes"
                );
                return;
            }
        }
        let before = self.observed.clone();
        self.observed_at = None;
        self.observe_or_log(Duration::ZERO);
        let cause: Arc<str> = Arc::from("next hop changed");
        for service in self.services.values() {
            let old = VipView::new(service, &before);
            let new = VipView::new(service, &self.observed);
            for (old, new) in old.reals.iter().zip(new.reals) {
                if (old.state == RealState::Unreachable) != (new.state == RealState::Unreachable) {
                    let _ = self.events.send(Event {
                        time: SystemTime::now(),
                        cause: Arc::clone(&cause),
                        vip: Some(service.vip.address),
                        what: What::RealChanged(new),
                    });
                }
            }
        }
    }
}
