//! How everything else sends commands and questions to the owner.

use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use lb_dataplane::{CaptureFilter, CaptureReader, Simulation};
use lb_model::{
    intent::{Intent, Refusal, Writer},
    vip::{RealId, VipKey},
};
use lb_serve::watchdog::Pulse;
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::MissedTickBehavior,
};

use super::{
    ChangeRequest, Command, Figures, FileTopic, FlowCounts, Followed, PendingChange, ReadError,
    Service, Snapshot, StatsView, StatusView, VipView, Watching, WeightUpdate,
};
use crate::weights::Steered;

/// How often the owner looks after the tables.
const TICK: Duration = Duration::from_secs(1);
/// How often it looks after VIPs that were changed and carry nothing yet: half the grace period of packets under way.
const SETTLE: Duration = Duration::from_millis(50);

/// Sends commands to the owner.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(super) commands: mpsc::Sender<Command>,
    /// Questions: the owner answers them when no command waits.
    pub(super) questions: mpsc::Sender<Command>,
    pub(super) pulse: Arc<Pulse>,
    pub(super) settles_soon: Arc<Notify>,
    /// Seed of the rings.
    pub seed: u64,
}

impl Handle {
    /// Makes a change, and waits until it is stored and in the tables.
    ///
    /// # Errors
    /// A [`Refusal`]; nothing has changed then.
    pub async fn change(&self, request: ChangeRequest) -> Result<Option<VipView>, Refusal> {
        let receiver = self.submit(request, true).await?;
        receiver.await.map_err(|_| Refusal::Stopping)?
    }

    /// Puts a change into the queue; the receiver tells when it is done.
    ///
    /// # Errors
    /// [`Refusal::Stopping`].
    pub async fn submit(
        &self,
        request: ChangeRequest,
        view: bool,
    ) -> Result<oneshot::Receiver<Result<Option<VipView>, Refusal>>, Refusal> {
        let (reply, receiver) = oneshot::channel();
        self.commands
            .send(Command::Change(Box::new(PendingChange {
                request,
                reply,
                view,
                requested: Instant::now(),
            })))
            .await
            .map_err(|_| Refusal::Stopping)?;
        Ok(receiver)
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, ReadError> {
        let (reply, receiver) = oneshot::channel();
        self.commands
            .send(command(reply))
            .await
            .map_err(|_| ReadError::Stopping)?;
        receiver.await.map_err(|_| ReadError::Stopping)
    }

    /// Asks something that can wait: changes, weights and ticks come first.
    async fn ask_when_idle<T>(
        &self,
        question: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, ReadError> {
        let (reply, receiver) = oneshot::channel();
        self.questions
            .send(question(reply))
            .await
            .map_err(|_| ReadError::Stopping)?;
        receiver.await.map_err(|_| ReadError::Stopping)
    }

    /// Makes the objects of `writer`'s owner what is wanted, and returns once that is stored and in the tables.
    ///
    /// # Errors
    /// [`ReadError::Stopping`].
    pub async fn follow(
        &self,
        wanted: Intent,
        writer: Writer,
        cause: Arc<str>,
    ) -> Result<Followed, ReadError> {
        let wanted = Box::new(wanted);
        self.ask(|reply| Command::Follow {
            wanted,
            writer,
            cause,
            reply,
        })
        .await
    }

    /// Says what of the configuration file is not followed; `None` if nothing is wrong any more in this respect.
    pub async fn note_file(&self, topic: FileTopic, note: Option<String>) {
        // Only a stopping owner does not take it.
        let _ = self.commands.send(Command::NoteFile { topic, note }).await;
    }

    /// Has the owner show that it lives.
    pub fn ping(&self) {
        // A full queue shows that it does not, or it is at work.
        let _ = self.commands.try_send(Command::Ping);
    }

    /// Shows whether the owner makes progress.
    #[must_use]
    pub fn pulse(&self) -> Arc<Pulse> {
        Arc::clone(&self.pulse)
    }

    /// The intent as it is.
    ///
    /// # Errors
    /// [`ReadError::Stopping`].
    pub async fn snapshot(&self) -> Result<Snapshot, ReadError> {
        self.ask_when_idle(|reply| Command::Snapshot { reply })
            .await
    }

    /// All VIPs, or one.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn list(&self, vip: Option<VipKey>) -> Result<Vec<VipView>, ReadError> {
        self.ask_when_idle(|reply| Command::List { vip, reply })
            .await?
    }

    /// Counters of all VIPs, or of one.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn stats(&self, vip: Option<VipKey>) -> Result<StatsView, ReadError> {
        self.ask_when_idle(|reply| Command::Stats { vip, reply })
            .await?
    }

    /// The agent's state.
    ///
    /// # Errors
    /// [`ReadError::Stopping`].
    pub async fn status(&self) -> Result<StatusView, ReadError> {
        self.ask_when_idle(|reply| Command::Status { reply }).await
    }

    /// Everything the owner can say of one moment; live flows and reachability are at most a second old.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn figures(&self) -> Result<Figures, ReadError> {
        self.ask_when_idle(|reply| Command::Figures { reply })
            .await?
    }

    /// Commands that wait for the owner.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.commands.max_capacity() - self.commands.capacity()
    }

    /// What would happen to a frame.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn simulate(
        &self,
        interface: Option<String>,
        frame: Vec<u8>,
    ) -> Result<Simulation, ReadError> {
        self.ask_when_idle(|reply| Command::Simulate {
            interface,
            frame,
            reply,
        })
        .await?
    }

    /// Begins to copy the packets of a filter; [`Self::stop_capture`] ends it.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn start_capture(
        &self,
        filter: CaptureFilter,
    ) -> Result<Box<dyn CaptureReader>, ReadError> {
        self.ask_when_idle(|reply| Command::StartCapture { filter, reply })
            .await?
    }

    /// Ends the capture that runs; returns when it costs nothing any more.
    pub async fn stop_capture(&self) {
        // A stopping owner ends it anyway.
        let _ = self.ask(|reply| Command::StopCapture { reply }).await;
    }

    /// The names of captured packets' services and reals.
    ///
    /// # Errors
    /// [`ReadError::Stopping`].
    pub async fn capture_names(
        &self,
        indices: Vec<(u32, u32)>,
    ) -> Result<Vec<(Option<VipKey>, Option<RealId>)>, ReadError> {
        self.ask(|reply| Command::CaptureNames { indices, reply })
            .await
    }

    /// A VIP with its ring.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn service(&self, vip: VipKey) -> Result<Service, ReadError> {
        self.ask_when_idle(|reply| Command::Service { vip, reply })
            .await?
    }

    /// A snapshot of all VIPs (or of one) and the changes after it. With a revision, the snapshot holds only what has
    /// changed since, if that is still known.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn watch(
        &self,
        vip: Option<VipKey>,
        since: Option<u64>,
    ) -> Result<Watching, ReadError> {
        self.ask_when_idle(|reply| Command::Watch { vip, since, reply })
            .await?
    }

    /// Puts the weights that steering decided into the tables; returns when they are there.
    ///
    /// # Errors
    /// [`ReadError::Stopping`].
    pub async fn apply_weights(&self, updates: Vec<WeightUpdate>) -> Result<(), ReadError> {
        self.ask(|reply| Command::ApplyWeights { updates, reply })
            .await
    }

    /// The weights that steering last decided for a VIP, if it is steered.
    ///
    /// # Errors
    /// [`ReadError::Stopping`].
    pub async fn steered(&self, vip: VipKey) -> Result<Option<Steered>, ReadError> {
        self.ask(|reply| Command::Steered { vip, reply }).await
    }

    /// The flows of every real so far; with `exact`, also the live flows of VIPs that track all, for which the flow table
    /// is scanned.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn flow_counts(&self, exact: bool) -> Result<Vec<FlowCounts>, ReadError> {
        self.ask(|reply| Command::FlowCounts { exact, reply })
            .await?
    }

    /// Has at most this many of a real's running flows reset soon.
    pub async fn shed(&self, vip: VipKey, real: RealId, flows: u32) {
        // Only a stopping owner does not take it.
        let _ = self.commands.send(Command::Shed { vip, real, flows }).await;
    }

    /// The mark (SO_MARK) of sockets whose packets are to reach this real as clients' packets do; `None` if it is in no
    /// table.
    ///
    /// # Errors
    /// [`ReadError::Stopping`].
    pub async fn probe_mark(&self, vip: VipKey, real: RealId) -> Result<Option<u32>, ReadError> {
        self.ask(|reply| Command::ProbeMark { vip, real, reply })
            .await
    }

    /// Why probes to a VIP do not leave this host as clients' packets do, and what to do; `None` if they do.
    ///
    /// # Errors
    /// [`ReadError::Stopping`].
    pub async fn probe_problem(&self, vip: VipKey) -> Result<Option<String>, ReadError> {
        self.ask(|reply| Command::ProbeTrouble { vip, reply }).await
    }

    /// The way to some address changed.
    pub async fn refresh_next_hops(&self) {
        // Only a stopping owner does not take it.
        let _ = self.commands.send(Command::RefreshNextHops).await;
    }

    /// A network interface was added, changed or removed.
    pub async fn check_links(&self) {
        // Only a stopping owner does not take it.
        let _ = self.commands.send(Command::CheckLinks).await;
    }

    /// Tells the owner that time passes: once a second, and soon after it has changed a VIP that carries nothing yet.
    /// Never ends.
    pub async fn keep_time(&self) -> Infallible {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                _ = ticks.tick() => self.tick(),
                () = self.settles_soon.notified() => {
                    tokio::time::sleep(SETTLE).await;
                    // As for a tick.
                    let _ = self.commands.try_send(Command::SettleUnused);
                }
            }
        }
    }

    /// Time passes. A second one is not queued behind a busy owner for long.
    pub fn tick(&self) {
        // A full queue means that the owner is at work; the next tick does the same.
        let _ = self.commands.try_send(Command::Tick);
    }

    /// Ends the owner after the commands that wait; the tables stay as they are.
    pub async fn stop(&self) {
        let _ = self.commands.send(Command::Stop).await;
    }
}
