//! The owner's answers to questions: views of VIPs, counters, status, figures. They change nothing.

use std::time::{Duration, Instant, SystemTime};

use lb_model::{
    intent::Refusal,
    options::Track,
    vip::{RealId, VipKey},
};
use lb_store::Revision;

use super::{
    Figures, FlowCounts, ReadError, StatsView, StatusView, Watching,
    owner::Owner,
    service::Service,
    view::{RealView, VipView},
};
use lb_dataplane::{CaptureFilter, CaptureReader, Counters, DataplaneError};

/// Replies to changes and events carry flows and reachability that are at most this old: looking means to scan the
/// flow table.
pub(super) const REPLY_AGE: Duration = Duration::from_secs(1);
/// The same for lists and counters, whose callers want to see the present.
const READ_AGE: Duration = Duration::from_millis(20);
impl Owner {
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

    /// The same, and at once if there are reals that were not observed yet.
    fn observe_all(&mut self, age: Duration) -> Result<(), DataplaneError> {
        self.observe(if self.unobserved { Duration::ZERO } else { age })
    }

    pub(super) fn observe_or_log(&mut self, age: Duration) {
        if let Err(error) = self.observe(age) {
            tracing::warn!("live flows and the state of reals could not be read: {error}");
        }
    }

    pub(super) fn view_of(&self, service: &Service) -> VipView {
        VipView::new(service, &self.observed)
    }

    pub(super) fn view_of_real(&self, service: &Service, real: RealId) -> Option<RealView> {
        RealView::new(service, service.position(real)?, &self.observed)
    }

    fn views(&self) -> Vec<VipView> {
        let services = self.services.values();
        services.map(|service| self.view_of(service)).collect()
    }

    pub(super) fn view(&self, vip: &VipKey) -> Option<VipView> {
        self.services.get(vip).map(|service| self.view_of(service))
    }

    pub(super) fn list(&mut self, vip: Option<VipKey>) -> Result<Vec<VipView>, ReadError> {
        self.observe_all(READ_AGE)?;
        match vip {
            Some(vip) => self
                .view(&vip)
                .map(|view| vec![view])
                .ok_or(ReadError::Vip(Refusal::VipUnknown(vip))),
            None => Ok(self.views()),
        }
    }

    pub(super) fn watch(
        &mut self,
        vip: Option<VipKey>,
        since: Option<u64>,
    ) -> Result<Watching, ReadError> {
        let events = self.events.subscribe();
        let mut watching = Watching {
            revision: self.store.revision().0,
            resumed: false,
            snapshot: self.list(vip)?,
            deleted: Vec::new(),
            events,
        };
        // Who asks for more than is remembered gets everything.
        if let Some(since) = since
            && let Ok(changed) = self.store.changed_since(Revision(since))
        {
            watching.resumed = true;
            watching
                .snapshot
                .retain(|view| changed.contains(&view.vip.address));
            let deleted = changed.into_iter();
            watching.deleted = deleted
                .filter(|name| {
                    self.intent.get(name).is_none() && vip.is_none_or(|vip| vip == *name)
                })
                .collect();
        }
        Ok(watching)
    }

    /// Begins a capture, of objects that there are.
    pub(super) fn start_capture(
        &mut self,
        filter: &CaptureFilter,
    ) -> Result<Box<dyn CaptureReader>, ReadError> {
        let views = self.list(filter.vip)?;
        let known = |real| views.iter().any(|view| view.real(real).is_some());
        if let Some(unknown) = filter.reals.iter().find(|real| !known(**real)) {
            return Err(ReadError::Vip(Refusal::NoSuchReal(*unknown)));
        }
        Ok(self.dataplane.start_capture(filter)?)
    }

    pub(super) fn stop_capture(&mut self) {
        if let Err(error) = self.dataplane.stop_capture() {
            tracing::error!(
                "ending a capture: {error}; programs that capture stay, which costs each packet some time; the next agent \
                 ends that"
            );
        }
    }

    pub(super) fn stats(&mut self, vip: Option<VipKey>) -> Result<StatsView, ReadError> {
        let vips = self.list(vip)?;
        let stats = self.dataplane.stats()?;
        Ok(StatsView { vips, stats })
    }

    pub(super) fn status(&self) -> StatusView {
        let mut warnings: Vec<String> = self
            .unplaced
            .iter()
            .map(|(vip, cause)| format!("VIP {vip} is wanted but not served: {cause}"))
            .collect();
        warnings.extend(self.without_alive());
        warnings.extend(self.own_real_warnings());
        if let Some(error) = &self.store_error {
            warnings.push(format!(
                "changes are refused, since the database cannot be written: {error}; `lbctl backup FILE` writes what the \
                 agent knows to another place"
            ));
        }
        warnings.extend(self.file.notes());
        if let Some(error) = &self.learned_error {
            warnings.push(format!(
                "the weights that steering found cannot be saved, so the next agent starts from older ones: {error}"
            ));
        }
        if let Some(error) = &self.tick_error {
            warnings.push(format!("looking after the tables failed: {error}"));
        }
        StatusView {
            vips: self.intent.len(),
            reals: self.intent.reals(),
            revision: self.store.revision().0,
            dataplane: self.dataplane.status(),
            warnings,
        }
    }

    pub(super) fn figures(&mut self) -> Result<Figures, ReadError> {
        let start = Instant::now();
        // A scrape that scanned the flow table each time would hold up changes for nothing.
        self.observe_all(REPLY_AGE)?;
        Ok(Figures {
            vips: self.views(),
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

    /// What each real carried so far.
    pub(super) fn flow_counts(&mut self, exact: bool) -> Result<Vec<FlowCounts>, ReadError> {
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
            let packets = service.vip.protocol.has_udp()
                && placed.is_some_and(|placed| placed.vip.spec.track != Track::All);
            let counted = move |counters: &Counters| {
                if packets {
                    (counters.packets, counters.packets)
                } else {
                    (counters.opened, counters.closed + counters.lost)
                }
            };
            service.reals.iter().map(move |of| {
                let real = of.real;
                let (opened, closed) = counted(&of.counters);
                FlowCounts {
                    vip: service.vip,
                    real,
                    opened,
                    closed,
                    flows: observed
                        .get(service.vip, real)
                        .filter(|seen| exact && seen.exact)
                        .map(|seen| seen.flows),
                    signs: of.signs,
                    share: placed
                        .and_then(|placed| placed.shares.get(placed.position(real)?).copied())
                        .unwrap_or_default(),
                }
            })
        });
        Ok(reals.collect())
    }
}
