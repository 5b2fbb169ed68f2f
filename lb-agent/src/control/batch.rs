//! Several changes at once: one transaction, each touched service computed once.

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use lb_model::{
    intent::{Change, Intent, Refusal, Vip},
    vip::{RealId, VipKey},
};

use super::{
    PendingChange,
    event::{Event, What},
    own_reals,
    owner::Owner,
    service::Service,
    view::VipView,
};
use crate::KINDS;
use lb_dataplane::DataplaneError;

/// The result of a change, for its sender.
pub(super) type Outcome = Result<Option<VipView>, Refusal>;

/// The VIPs that a batch touches as they were before it; `None` for one that did not exist.
type Before = BTreeMap<VipKey, Option<Arc<Vip>>>;

/// Batches of more changes than this are logged as one line at level info, and each change at level debug.
const LOGGED_EACH: usize = 16;

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

impl Owner {
    /// Makes these changes, in order; each is refused on its own. Where the data plane refuses a service that several
    /// changes touch, they are made again one by one, so that only those without room are refused. When several services
    /// compete for the last room, any of them may get it.
    pub(super) fn apply(&mut self, orders: Vec<PendingChange>) -> Vec<(PendingChange, Outcome)> {
        let changes: Vec<&Change> = orders.iter().map(|order| &order.change).collect();
        let results = self.apply_changes(&changes);
        log(&orders, &results);
        let outcomes: Vec<Outcome> = orders
            .iter()
            .zip(results)
            .map(|(order, result)| {
                let step = result.inspect_err(|refusal| {
                    tracing::debug!(
                        cause = &*order.cause,
                        "{} refused: {refusal}",
                        order.change.name()
                    );
                })?;
                self.announce(order, &step);
                Ok(if order.view {
                    self.view(order.change.vip())
                } else {
                    None
                })
            })
            .collect();
        orders.into_iter().zip(outcomes).collect()
    }

    fn apply_changes(&mut self, changes: &[&Change]) -> Vec<Result<Step, Refusal>> {
        let mut before = Before::new();
        let mut results: Vec<Result<Step, Refusal>> = changes
            .iter()
            .map(|change| self.take_in(change, &mut before))
            .collect();
        // A change to what there is already needs no disk and no tables.
        before.retain(|vip, old| self.intent.get(vip) != old.as_ref());

        if let Err(refusal) = self.store_vips(before.keys()) {
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
        self.put_back(&taken_back);
        if let Err(error) = self.store_vips(taken_back.keys()) {
            tracing::error!("refused changes could not be taken back: {error}");
        }
        for (vip, refusal) in refused {
            let touched: Vec<usize> = (0..changes.len())
                .filter(|&at| {
                    changes[at].vip() == &vip && results[at].as_ref().is_ok_and(Step::changes)
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
    fn take_in(&mut self, change: &Change, before: &mut Before) -> Result<Step, Refusal> {
        let vip = *change.vip();
        if let Change::AddReal { real, .. } = change
            && self.own.contains(&real.address)
        {
            return Err(own_reals::refusal(real.address));
        }
        let mut after = change.apply(&self.intent, &KINDS)?;
        // An equal VIP keeps its record, so that a comparison of pointers finds it unchanged.
        if let (Some(new), Some(old)) = (&after, self.intent.get(&vip))
            && new == old
        {
            after = Some(Arc::clone(old));
        }
        if let Some(new) = &after
            && !self.exec_checks
            && KINDS.runs_program(&new.spec)
        {
            return Err(Refusal::invalid(
                "check",
                "exec",
                "checks that run programs are off; start the agent with --exec-checks, or with `exec_checks = true` \
                 in its configuration file",
            ));
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

    /// Stores these VIPs as the intent has them.
    fn store_vips<'a>(&mut self, vips: impl Iterator<Item = &'a VipKey>) -> Result<(), Refusal> {
        let mut names: std::collections::BTreeSet<VipKey> = vips.copied().collect();
        if names.is_empty() {
            return Ok(());
        }
        names.append(&mut self.unsure);
        let writes = names
            .iter()
            .map(|vip| (*vip, self.intent.get(vip).map(AsRef::as_ref)));
        let committed = self.store.commit(writes);
        self.work.count_commit(&committed);
        match committed {
            Ok(()) => Ok(()),
            Err(error) => {
                tracing::error!("{error}");
                self.unsure = names;
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
        Ok(())
    }

    /// Announces a change to watchers.
    fn announce(&self, order: &PendingChange, step: &Step) {
        if !step.changes() || self.events.receiver_count() == 0 {
            return;
        }
        let vip = *order.change.vip();
        if let Some(what) = self.what(&order.change, step) {
            let event = Event {
                time: SystemTime::now(),
                cause: Arc::clone(&order.cause),
                vip: Some(vip),
                what,
            };
            // No receiver is no error.
            let _ = self.events.send(event);
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
        let real = |service: Service, id: RealId| self.view_of_real(&service, id.address);
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
        DataplaneError::OwnAddress { real, .. } => own_reals::refusal(*real),
        other => Refusal::Dataplane(other.to_string()),
    }
}

/// Logs the changes: each one if they are few, otherwise how many of each kind.
fn log(orders: &[PendingChange], results: &[Result<Step, Refusal>]) {
    let changed = || {
        orders
            .iter()
            .zip(results)
            .filter(|(_, result)| result.as_ref().is_ok_and(Step::changes))
            .map(|(order, _)| order)
    };
    if changed().count() <= LOGGED_EACH {
        for order in changed() {
            tracing::info!(cause = &*order.cause, "{}", named(&order.change));
        }
        return;
    }
    let mut kinds: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for order in changed() {
        tracing::debug!(cause = &*order.cause, "{}", named(&order.change));
        *kinds
            .entry((&*order.cause, order.change.name()))
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
