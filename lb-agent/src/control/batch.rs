//! Several changes at once: one transaction, each touched service computed once.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::SystemTime,
};

use lb_model::{
    intent::{Change, Intent, Refusal, Vip},
    vip::{RealId, VipKey},
};
use lb_store::Revision;

use super::{
    ChangeRequest, PendingChange, event::What, own_reals, owner::Owner, service::Service,
    view::VipView,
};
use crate::{
    KINDS,
    store::{Stored, Write},
};
use lb_dataplane::DataplaneError;

/// The result of a change, for its sender.
pub(super) type Outcome = Result<Option<VipView>, Refusal>;

/// The VIPs that a batch touches as they were before it; `None` for one that did not exist.
type Before = BTreeMap<VipKey, Option<Arc<Vip>>>;

/// More changes at once than this are logged as one line at level info, and each change at level debug.
pub(super) const LOGGED_EACH: usize = 16;

/// A change that was valid: the VIP before and after it.
struct Step {
    before: Option<Arc<Vip>>,
    after: Option<Arc<Vip>>,
}

/// The VIPs whose check runs a program.
#[must_use]
pub fn running_programs(intent: &Intent) -> Vec<VipKey> {
    let vips = intent.vips().filter(|vip| KINDS.runs_program(&vip.spec));
    vips.map(|vip| vip.address).collect()
}

/// Refuses a VIP whose check runs a program where that is not allowed.
///
/// # Errors
/// [`Refusal::Invalid`] for `check`.
pub fn refuse_programs(vip: &Vip, allowed: bool) -> Result<(), Refusal> {
    if allowed || !KINDS.runs_program(&vip.spec) {
        return Ok(());
    }
    Err(Refusal::invalid(
        "check",
        "exec",
        "checks that run programs are off; start the agent with --exec-checks, or with `exec_checks = true` in its \
         configuration file",
    ))
}

impl Owner {
    /// Makes these changes, in order; each is refused on its own. Where the data plane refuses a service that several
    /// changes touch, they are made again one by one, so that only those without room are refused. When several services
    /// compete for the last room, any of them may get it.
    pub(super) fn apply(&mut self, pending: Vec<PendingChange>) -> Vec<(PendingChange, Outcome)> {
        let requests: Vec<&ChangeRequest> = pending.iter().map(|one| &one.request).collect();
        let results = self.apply_changes(&requests);
        log(&requests, &results);
        let outcomes: Vec<Outcome> = pending
            .iter()
            .zip(results)
            .map(|(one, result)| {
                let ChangeRequest { change, cause, .. } = &one.request;
                let step = result.inspect_err(|refusal| {
                    tracing::debug!(cause = &**cause, "{} refused: {refusal}", change.name());
                })?;
                self.announce(&one.request, &step);
                Ok(if one.view {
                    self.view(change.vip())
                } else {
                    None
                })
            })
            .collect();
        pending.into_iter().zip(outcomes).collect()
    }

    fn apply_changes(&mut self, changes: &[&ChangeRequest]) -> Vec<Result<Step, Refusal>> {
        self.keep_database();
        let mut before = Before::new();
        let mut results: Vec<Result<Step, Refusal>> = changes
            .iter()
            .map(|change| self.take_in(change, &mut before))
            .collect();
        // A change to what there is already needs no disk and no tables.
        before.retain(|vip, old| self.intent.get(vip) != old.as_ref());

        if let Err(refusal) = self.store_vips(&before) {
            self.put_back(&before);
            for result in &mut results {
                if result.as_ref().is_ok_and(Step::changes) {
                    *result = Err(refusal.clone());
                }
            }
            return results;
        }

        let refused = self.place_all(&before);
        if refused.is_empty() {
            return results;
        }
        let taken_back: Before = refused
            .keys()
            .filter_map(|vip| before.get(vip).map(|old| (*vip, old.clone())))
            .collect();
        let stored = self.take_back(&taken_back);
        if let Err(error) = self.store_vips(&stored) {
            tracing::error!("refused changes could not be taken back: {error}");
        }
        for (vip, refusal) in refused {
            let touched: Vec<usize> = (0..changes.len())
                .filter(|&at| {
                    changes[at].change.vip() == &vip
                        && results[at].as_ref().is_ok_and(Step::changes)
                })
                .collect();
            if let [only] = touched[..] {
                results[only] = Err(refusal);
                continue;
            }
            for at in touched {
                results[at] = self.apply_changes(&changes[at..=at]).remove(0);
            }
        }
        results
    }

    /// Applies a change to the intent in memory.
    fn take_in(&mut self, request: &ChangeRequest, before: &mut Before) -> Result<Step, Refusal> {
        let ChangeRequest { change, writer, .. } = request;
        let vip = *change.vip();
        if let Change::AddReal { real, .. } = change
            && self.own.contains(&real.address)
        {
            return Err(own_reals::refusal(real.address));
        }
        let mut after = change.apply(&self.intent, writer, &KINDS)?;
        // An equal VIP keeps its record, so that a comparison of pointers finds it unchanged.
        if let (Some(new), Some(old)) = (&after, self.intent.get(&vip))
            && new == old
        {
            after = Some(Arc::clone(old));
        }
        if let Some(new) = &after {
            refuse_programs(new, self.exec_checks)?;
        }
        if let Some(new) = &mut after
            && self
                .intent
                .get(&vip)
                .is_none_or(|old| !Arc::ptr_eq(old, new))
        {
            Arc::make_mut(new).revision = self.store.revision().next().0;
        }
        let old = self.intent.replace(vip, after.clone());
        before.entry(vip).or_insert_with(|| old.clone());
        Ok(Step { before: old, after })
    }

    fn put_back(&mut self, before: &Before) {
        for (vip, old) in before {
            self.intent.replace(*vip, old.clone());
        }
    }

    /// Puts back VIPs whose new records are stored already, and returns them as they are stored. What is put back is
    /// written again, and has a new revision.
    fn take_back(&mut self, before: &Before) -> Before {
        let revision = self.store.revision().next().0;
        let mut stored = Before::new();
        for (vip, old) in before {
            let old = old.clone().map(|mut old| {
                Arc::make_mut(&mut old).revision = revision;
                old
            });
            if let (Some(service), Some(old)) = (self.services.get_mut(vip), &old) {
                service.vip = Arc::clone(old);
            }
            stored.insert(*vip, self.intent.replace(*vip, old));
        }
        stored
    }

    /// Stores the VIPs of `before`, which are stored as they are there, as the intent has them.
    fn store_vips(&mut self, before: &Before) -> Result<(), Refusal> {
        if before.is_empty() {
            return Ok(());
        }
        let unsure = std::mem::take(&mut self.unsure);
        let names: BTreeSet<VipKey> = before.keys().chain(&unsure).copied().collect();
        let writes = names.iter().map(|name| Write {
            name: *name,
            vip: self.intent.get(name).map(AsRef::as_ref),
            stored: match before.get(name) {
                Some(old) if !unsure.contains(name) => old
                    .as_ref()
                    .map_or(Stored::Absent, |old| Stored::At(Revision(old.revision))),
                _ => Stored::Unsure,
            },
        });
        let committed = self.store.commit(writes);
        self.work.count_commit(&committed);
        match committed {
            Ok(_) => {
                self.store_error = None;
                Ok(())
            }
            Err(error) => {
                tracing::error!("{error}");
                self.unsure = names;
                self.store_error = Some(error.to_string());
                Err(Refusal::Store(error.to_string()))
            }
        }
    }

    /// Passes each touched VIP to the data plane, and returns those that it refuses. Removals come first: they make
    /// room.
    fn place_all(&mut self, touched: &Before) -> BTreeMap<VipKey, Refusal> {
        let mut refused = BTreeMap::new();
        let (kept, removed): (Vec<VipKey>, Vec<VipKey>) = touched
            .keys()
            .partition(|vip| self.intent.get(vip).is_some());
        for vip in removed.into_iter().chain(kept) {
            if let Err(error) = self.place(&vip) {
                tracing::warn!("VIP {vip}: the data plane refuses the change: {error}");
                refused.insert(vip, refusal(&error));
                continue;
            }
            self.changed.announce(vip, self.intent.get(&vip).cloned());
            for dependent in self.dependents(&vip) {
                if let Err(error) = self.place(&dependent) {
                    tracing::warn!(
                        "VIP {dependent}: the data plane refuses its fallback's reals: {error}"
                    );
                }
            }
        }
        refused
    }

    /// Passes a VIP to the data plane, by the intent and the weights of steering.
    pub(super) fn place(&mut self, vip: &VipKey) -> Result<(), DataplaneError> {
        self.pulse.progress();
        match self.intent.get(vip) {
            Some(wanted) => {
                if !wanted.spec.supervised() {
                    self.unsaved |= self.steered.remove(vip).is_some();
                }
                let service = Service::new(
                    Arc::clone(wanted),
                    self.seed,
                    self.steered_of(wanted).as_deref(),
                    self.fallback_of(vip),
                    self.services.get(vip),
                    SystemTime::now(),
                );
                self.dataplane.set_service(&service.wanted())?;
                self.services.insert(*vip, service);
            }
            None => {
                self.dataplane.remove_service(vip)?;
                self.services.remove(vip);
                self.unsaved |= self.steered.remove(vip).is_some();
            }
        }
        self.unplaced.remove(vip);
        self.unobserved = true;
        self.settle_soon();
        Ok(())
    }

    /// Announces a change to watchers.
    fn announce(&self, request: &ChangeRequest, step: &Step) {
        if !step.changes() || self.events.receiver_count() == 0 {
            return;
        }
        let vip = *request.change.vip();
        if let Some(what) = self.what(&request.change, step) {
            self.send(vip, Arc::clone(&request.cause), what);
        }
    }

    fn what(&self, change: &Change, step: &Step) -> Option<What> {
        // What follows from a record that is not, or no longer, in the tables: it has no share of a ring.
        let apart = |vip: &Option<Arc<Vip>>| {
            let vip = Arc::clone(vip.as_ref()?);
            let steered = self.steered.get(&vip.address);
            Some(Service::without_ring(vip, steered, SystemTime::now()))
        };
        let now = || {
            self.services
                .get(change.vip())
                .cloned()
                .or_else(|| apart(&step.after))
        };
        let real = |service: Service, id: RealId| self.view_of_real(&service, id);
        Some(match change {
            Change::AddVip { .. } => What::VipAdded(self.view_of(&apart(&step.after)?)),
            Change::UpdateVip { .. } => What::VipChanged(self.view_of(&now()?)),
            Change::DeleteVip { .. } => What::VipDeleted,
            // A later change of the same batch may have taken the real away again.
            Change::AddReal { real: id, .. } => {
                What::RealAdded(real(now()?, *id).or_else(|| real(apart(&step.after)?, *id))?)
            }
            Change::UpdateReal { real: id, .. } => {
                What::RealChanged(real(now()?, *id).or_else(|| real(apart(&step.after)?, *id))?)
            }
            Change::DeleteReal { real: id, .. } => {
                What::RealDeleted(real(apart(&step.before)?, *id)?)
            }
        })
    }
}

/// Why the data plane refuses a change.
fn refusal(error: &DataplaneError) -> Refusal {
    match error {
        DataplaneError::Full {
            table,
            capacity,
            advice,
        } => Refusal::Full {
            table,
            capacity: *capacity,
            advice: (*advice).to_owned(),
        },
        DataplaneError::OwnAddress { real, .. } => own_reals::refusal(real.address),
        other => Refusal::Dataplane(other.to_string()),
    }
}

/// Logs the changes: each one if they are few, otherwise how many of each kind.
fn log(requests: &[&ChangeRequest], results: &[Result<Step, Refusal>]) {
    let changed = || {
        requests
            .iter()
            .zip(results)
            .filter(|(_, result)| result.as_ref().is_ok_and(Step::changes))
            .map(|(request, _)| request)
    };
    if changed().count() <= LOGGED_EACH {
        for request in changed() {
            tracing::info!(cause = &*request.cause, "{}", named(&request.change));
        }
        return;
    }
    let mut kinds: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for request in changed() {
        tracing::debug!(cause = &*request.cause, "{}", named(&request.change));
        *kinds
            .entry((&*request.cause, request.change.name()))
            .or_default() += 1;
    }
    for ((cause, kind), count) in kinds {
        tracing::info!(cause, "{count} × {kind}; LB_LOG=debug names each");
    }
}

/// A change as one line of the log.
fn named(change: &Change) -> String {
    let (kind, vip) = (change.name(), change.vip());
    match change.real() {
        Some(real) => format!("{kind} {vip} {real}"),
        None => format!("{kind} {vip}"),
    }
}

impl Step {
    fn changes(&self) -> bool {
        match (&self.before, &self.after) {
            (None, None) => false,
            (Some(before), Some(after)) => !Arc::ptr_eq(before, after),
            _ => true,
        }
    }
}
