//! The owner's thread: it takes commands in order, changes in batches.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime},
};

use lb_model::vip::VipKey;
use lb_serve::watchdog::Pulse;
use tokio::sync::{Notify, broadcast, mpsc};

use super::{
    Command, Handle, PendingChange, QUESTIONS, QUEUE, ReadError, Snapshot, Work,
    changed::Changed,
    event::{Event, WATCH_QUEUE, What},
    follow::FileState,
    questions::REPLY_AGE,
    service::Service,
    view::{Observation, RealState, VipView},
};
use crate::store::{IntentStore, LearnedStore, State, StoreError};
use crate::weights::Steered;
use lb_dataplane::Dataplane;
use lb_model::intent::{Intent, Refusal};

/// Changes that are stored in one transaction at most.
const BATCH: usize = 1_024;
/// How long a question waits at most for an owner that has one command after the other.
const QUESTION_PATIENCE: Duration = Duration::from_millis(500);
/// How often the weights of steering are saved: a killed agent's successor starts from weights of at most this age.
/// Unit tests do not wait for it.
const SAVE_INTERVAL: Duration = Duration::from_secs(if cfg!(test) { 0 } else { 30 });

/// How the owner works.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Seed of the rings, the same on every balancer of a fleet.
    pub ring_seed: u64,
    /// Whether checks may run programs (`exec`): every caller of the API can then run programs as this user.
    pub exec_checks: bool,
    /// The VIPs of the configuration file; `None` without a file. Objects that belong to the file follow it.
    pub file: Option<Intent>,
    /// Announces which VIPs change, including those that exist at start.
    pub changed: Arc<Changed>,
}

pub(super) struct Owner {
    pub(super) dataplane: Box<dyn Dataplane>,
    pub(super) store: IntentStore,
    pub(super) learned: LearnedStore,
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
    /// What is wrong with the database; `None` if nothing is.
    pub(super) store_error: Option<String>,
    pub(super) observed: Observation,
    pub(super) observed_at: Option<Instant>,
    /// Services were set or removed since the last observation: there may be reals that were not observed yet.
    pub(super) unobserved: bool,
    pub(super) tick_error: Option<String>,
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
    /// The configuration file, and what of it is not followed.
    pub(super) file: FileState,
    /// Why the weights that steering found cannot be saved; `None` if they can.
    pub(super) learned_error: Option<String>,
    pub(super) pulse: Arc<Pulse>,
    /// Notified when the tables are to be looked after sooner than by the next tick.
    pub(super) settles_soon: Arc<Notify>,
}

/// Restores the intent, brings the tables in line with it and starts the owner's thread. When this returns,
/// the tables say what was stored.
///
/// # Errors
/// [`StoreError`] if the store cannot be read.
pub fn start(
    state: State,
    dataplane: Box<dyn Dataplane>,
    options: Options,
) -> Result<(Handle, JoinHandle<()>), StoreError> {
    let (events, _) = broadcast::channel(WATCH_QUEUE);
    let State {
        intent: store,
        learned,
    } = state;
    let mut owner = Owner {
        dataplane,
        intent: store.load()?,
        steered: learned.load()?,
        unsaved: false,
        saved_at: Instant::now(),
        changed: options.changed,
        store,
        learned,
        services: BTreeMap::new(),
        seed: options.ring_seed,
        exec_checks: options.exec_checks,
        events,
        unplaced: BTreeMap::new(),
        unsure: BTreeSet::new(),
        store_error: None,
        observed: Observation::default(),
        observed_at: None,
        unobserved: false,
        tick_error: None,
        work: Work::default(),
        own: BTreeSet::new(),
        foreign_changes: None,
        file: FileState::default(),
        learned_error: None,
        pulse: Arc::default(),
        settles_soon: Arc::default(),
    };
    owner.restore();
    owner.follow_file(options.file);
    let (commands, received_commands) = mpsc::channel(QUEUE);
    let (questions, received_questions) = mpsc::channel(QUESTIONS);
    let inbox = Inbox {
        commands: received_commands,
        questions: received_questions,
        answered_at: Instant::now(),
    };
    let pulse = Arc::clone(&owner.pulse);
    let settles_soon = Arc::clone(&owner.settles_soon);
    let thread = std::thread::Builder::new()
        .name("owner".into())
        .spawn(move || owner.run(inbox))
        .map_err(|source| StoreError::Thread { source })?;
    Ok((
        Handle {
            commands,
            questions,
            pulse,
            settles_soon,
            seed: options.ring_seed,
        },
        thread,
    ))
}

/// What the owner is to do and to answer.
struct Inbox {
    commands: mpsc::Receiver<Command>,
    questions: mpsc::Receiver<Command>,
    /// When a question was last taken.
    answered_at: Instant,
}

impl Inbox {
    /// Waits for a command, or for a question if there is none; returns `None` when nobody can send any more.
    fn next(&mut self) -> Option<Command> {
        // An owner that is never idle still answers, but seldom.
        if self.answered_at.elapsed() >= QUESTION_PATIENCE
            && let Ok(question) = self.questions.try_recv()
        {
            self.answered_at = Instant::now();
            return Some(question);
        }
        let Inbox {
            commands,
            questions,
            answered_at,
        } = self;
        futures::executor::block_on(async {
            tokio::select! {
                biased;
                Some(command) = commands.recv() => Some(command),
                Some(question) = questions.recv() => {
                    *answered_at = Instant::now();
                    Some(question)
                }
                else => None,
            }
        })
    }
}

impl Owner {
    fn run(mut self, mut inbox: Inbox) {
        let pulse = Arc::clone(&self.pulse);
        while let Some(first) = inbox.next() {
            let _work = pulse.work();
            let mut next = Some(first);
            // Changes that wait are taken together; anything else sees all changes before it.
            while let Some(command) = next.take() {
                match command {
                    Command::Change(first) => {
                        let mut changes = vec![*first];
                        while changes.len() < BATCH {
                            match inbox.commands.try_recv() {
                                Ok(Command::Change(change)) => changes.push(*change),
                                Ok(other) => {
                                    next = Some(other);
                                    break;
                                }
                                Err(_) => break,
                            }
                        }
                        self.execute(changes);
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

    fn execute(&mut self, changes: Vec<PendingChange>) {
        if changes.iter().any(|change| change.view) || self.events.receiver_count() > 0 {
            self.observe_or_log(REPLY_AGE);
        }
        for (change, outcome) in self.apply(changes) {
            self.work.count_change(&outcome, change.requested);
            // The caller may have gone; the change is made all the same.
            let _ = change.reply.send(outcome);
        }
    }

    fn answer(&mut self, command: Command) {
        // In each case, the caller may have gone.
        match command {
            Command::Change(change) => self.execute(vec![*change]),
            Command::Follow {
                wanted,
                writer,
                cause,
                reply,
            } => {
                let _ = reply.send(self.follow(&wanted, &writer, &cause));
            }
            Command::NoteFile { topic, note } => {
                self.set_file_note(topic, note);
            }
            Command::Snapshot { reply } => {
                let _ = reply.send(Snapshot {
                    intent: self.intent.clone(),
                    identity: self.store.identity(),
                    revision: self.store.revision().0,
                    exec_checks: self.exec_checks,
                });
            }
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
            Command::StartCapture { filter, reply } => {
                let started = self.start_capture(&filter);
                if let Err(Ok(_)) = reply.send(started) {
                    self.stop_capture();
                }
            }
            Command::StopCapture { reply } => {
                self.stop_capture();
                let _ = reply.send(());
            }
            Command::CaptureNames { indices, reply } => {
                let names = indices.into_iter();
                let names = names.map(|indices| self.dataplane.capture_names(indices));
                let _ = reply.send(names.collect());
            }
            Command::Service { vip, reply } => {
                let service = self.services.get(&vip).cloned();
                let _ = reply.send(service.ok_or(ReadError::Vip(Refusal::VipUnknown(vip))));
            }
            Command::Watch { vip, since, reply } => {
                let _ = reply.send(self.watch(vip, since));
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
            Command::Tick => self.tick(),
            Command::SettleUnused => self.settle_unused(),
            Command::RefreshNextHops => self.refresh_next_hops(),
            Command::CheckLinks => self.check_links(),
            Command::Stop | Command::Ping => {}
        }
    }

    /// Sends an event to those that watch.
    pub(super) fn send(&self, vip: impl Into<Option<VipKey>>, cause: Arc<str>, what: What) {
        // No receiver is no error.
        let _ = self.events.send(Event {
            time: SystemTime::now(),
            cause,
            revision: self.store.revision().0,
            vip: vip.into(),
            what,
        });
    }

    fn tick(&mut self) {
        self.keep_database();
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
        self.check_file();
        self.place_again();
        if self.saved_at.elapsed() >= SAVE_INTERVAL {
            self.saved_at = Instant::now();
            self.save_steered();
        }
    }

    fn settle_unused(&mut self) {
        if let Err(error) = self.dataplane.settle_unused() {
            // The next tick does the same, and reports it.
            tracing::debug!("settling slots of unused VIPs failed: {error}");
        }
        self.settle_soon();
    }

    /// Has slots settled before the next tick if a VIP has changed that has carried nothing yet.
    pub(super) fn settle_soon(&self) {
        if self.dataplane.awaits_settling() {
            self.settles_soon.notify_one();
        }
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
                    let vip = service.vip.address;
                    self.send(vip, Arc::clone(&cause), What::RealChanged(new));
                }
            }
        }
    }
}
