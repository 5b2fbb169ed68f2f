//! Puts the weights that steering decides into the tables.

use std::sync::Arc;

use lb_model::vip::{RealId, VipKey};

use super::{
    batch::LOGGED_EACH,
    event::What,
    owner::Owner,
    service::{Fallback, StandIn},
};
use crate::weights::{Steered, all_down, effective};
use lb_model::intent::{Vip, WhenEmpty};

/// Weights of a VIP's reals that steering decided.
#[derive(Debug)]
pub struct WeightUpdate {
    /// The VIP.
    pub vip: VipKey,
    /// Weights and states of its reals; `None` if it is no longer steered.
    pub steered: Option<Steered>,
    /// Reals whose state or weight changed notably, and why, for the log and for watchers.
    pub causes: Vec<(RealId, Arc<str>)>,
    /// What is to be said of the VIP as a whole, likewise.
    pub notice: Option<Arc<str>>,
}

impl Owner {
    /// Puts these weights into the tables. What the data plane refuses stays as it was, and is tried again each tick.
    pub(super) fn apply_weights(&mut self, updates: Vec<WeightUpdate>) {
        for update in updates {
            let WeightUpdate {
                vip,
                steered,
                causes,
                notice,
            } = update;
            if self.intent.get(&vip).is_none() {
                continue;
            }
            let was_empty = self.is_empty(&vip);
            let before = match steered {
                Some(steered) => self.steered.insert(vip, steered),
                None => self.steered.remove(&vip),
            };
            if self.steered.get(&vip) == before.as_ref() {
                self.announce_causes(vip, causes);
                self.announce_notice(vip, notice);
                continue;
            }
            self.unsaved = true;
            for name in std::iter::once(vip).chain(self.dependents(&vip)) {
                if let Err(error) = self.place(&name) {
                    tracing::warn!("VIP {name}: the data plane refuses the new weights: {error}");
                    self.unplaced.insert(name, error.to_string());
                }
            }
            self.announce_causes(vip, causes);
            self.announce_notice(vip, notice);
            self.announce_emptiness(vip, was_empty);
        }
    }

    /// Whether all reals of a VIP are dead.
    pub(super) fn is_empty(&self, vip: &VipKey) -> bool {
        self.intent
            .get(vip)
            .is_some_and(|wanted| all_down(wanted, self.steered_of(wanted).as_deref()))
    }

    /// That no real of a VIP is alive, and what becomes of its packets.
    pub(super) fn emptiness(&self, vip: &Vip) -> String {
        let name = vip.address;
        match vip.spec.when_empty {
            WhenEmpty::Drop => format!("no real of VIP {name} is alive: its packets are dropped"),
            WhenEmpty::Reset => format!("no real of VIP {name} is alive: clients are reset"),
            WhenEmpty::Fallback(other) => {
                let stand_in = self
                    .services
                    .get(&name)
                    .is_some_and(|service| service.weights()[service.own..].iter().any(|w| *w > 0));
                if stand_in {
                    format!("no real of VIP {name} is alive: those of {other} stand in")
                } else {
                    format!(
                        "no real of VIP {name} is alive, and {other} has none that could stand in: its packets are \
                         dropped"
                    )
                }
            }
        }
    }

    /// Tells that the last real of a VIP died, or that the first one lives again.
    fn announce_emptiness(&self, vip: VipKey, before: bool) {
        let (Some(service), now) = (self.services.get(&vip), self.is_empty(&vip)) else {
            return;
        };
        if now == before {
            return;
        }
        let cause = if now {
            self.emptiness(&service.vip)
        } else {
            format!("VIP {vip} has a real that is alive again")
        };
        tracing::warn!("{cause}");
        let what = What::VipChanged(self.view_of(service));
        self.send(vip, cause.into(), what);
    }

    fn announce_notice(&self, vip: VipKey, notice: Option<Arc<str>>) {
        let (Some(notice), Some(service)) = (notice, self.services.get(&vip)) else {
            return;
        };
        tracing::warn!("{notice}");
        let what = What::VipChanged(self.view_of(service));
        self.send(vip, notice, what);
    }

    fn announce_causes(&self, vip: VipKey, causes: Vec<(RealId, Arc<str>)>) {
        let Some(service) = self.services.get(&vip) else {
            return;
        };
        // Where many reals change at once, a line for each would hide what else happens.
        let each = causes.len() <= LOGGED_EACH;
        if !each {
            tracing::info!(
                "VIP {vip}: {} of its reals have another state or weight; LB_LOG=debug names each",
                causes.len()
            );
        }
        for (address, cause) in causes {
            if each {
                tracing::info!("VIP {vip}, real {address}: {cause}");
            } else {
                tracing::debug!("VIP {vip}, real {address}: {cause}");
            }
            if self.events.receiver_count() == 0 {
                continue;
            }
            if let Some(real) = self.view_of_real(service, address) {
                self.send(vip, cause, What::RealChanged(real));
            }
        }
    }

    /// The reals that stand in for a VIP's own when those are dead, with their weights.
    pub(super) fn fallback_of(&self, vip: &VipKey) -> Fallback {
        let Some(WhenEmpty::Fallback(other)) = self.intent.get(vip).map(|vip| vip.spec.when_empty)
        else {
            return Fallback::new();
        };
        let Some(standing_in) = self.intent.get(&other) else {
            return Fallback::new();
        };
        let steered = self.steered_of(standing_in);
        let steered = steered.as_deref();
        standing_in
            .reals
            .iter()
            .map(|(id, real)| StandIn {
                id: *id,
                weight: effective(*id, &real.spec, steered).weight,
                mode: real.spec.mode,
            })
            .collect()
    }

    /// VIPs for which this one's reals stand in now.
    pub(super) fn dependents(&self, vip: &VipKey) -> Vec<VipKey> {
        let dependents = self.intent.dependents(vip).map(|other| other.address);
        dependents.filter(|other| self.is_empty(other)).collect()
    }

    /// Saves what steering made of the VIPs, if it changed since.
    pub(super) fn save_steered(&mut self) {
        if !self.unsaved {
            return;
        }
        let saved = self.learned.save(&self.steered);
        self.work.count_commit(&saved);
        self.learned_error = match saved {
            Ok(()) => {
                self.unsaved = false;
                None
            }
            Err(error) => {
                let error = error.to_string();
                // Once, not each time.
                if self.learned_error.as_ref() != Some(&error) {
                    tracing::warn!("the weights that steering found were not saved: {error}");
                }
                Some(error)
            }
        };
    }
}
