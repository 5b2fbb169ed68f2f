//! At start: the tables that were found are brought in line with what is stored.

use std::{collections::BTreeSet, sync::Arc, time::SystemTime};

use lb_model::vip::VipKey;

use super::{owner::Owner, service::Service};
use lb_dataplane::DataplaneError;
use lb_model::intent::Vip;

/// Services of the tables that the intent does not have.
pub(super) fn unwanted(found: &[VipKey], wanted: &BTreeSet<VipKey>) -> Vec<VipKey> {
    found
        .iter()
        .filter(|vip| !wanted.contains(vip))
        .copied()
        .collect()
}

impl Owner {
    /// Sets each service of the intent and removes all others. The data plane does not touch services that are as they
    /// should be, so forwarding does not pause.
    pub(super) fn restore(&mut self) {
        let found = self.dataplane.services();
        let intent = &self.intent;
        self.steered
            .retain(|vip, _| intent.get(vip).is_some_and(|vip| vip.spec.supervised()));
        let vips: Vec<Arc<Vip>> = self.intent.vips().cloned().collect();
        for vip in &vips {
            let service = self.fresh_service(vip);
            self.services.insert(vip.address, service);
            self.changed.announce(vip.address, Some(Arc::clone(vip)));
        }
        for vip in &vips {
            let mut placed = self.place_service(&vip.address);
            // A real that is an address of this host now counts as down; it is stored, so it is not refused.
            while let Err(DataplaneError::OwnAddress { real, .. }) = placed
                && self.own.insert(real.address)
            {
                tracing::warn!(
                    "VIP {}, real {real}: it is an address of this host: it takes no flows",
                    vip.address
                );
                let service = self.fresh_service(vip);
                self.services.insert(vip.address, service);
                placed = self.place_service(&vip.address);
            }
            if let Err(error) = placed {
                self.unplaced.insert(vip.address, error.to_string());
            }
        }
        let wanted: BTreeSet<VipKey> = self.services.keys().copied().collect();
        let unwanted = unwanted(&found, &wanted);
        for vip in &unwanted {
            match self.dataplane.remove_service(vip) {
                Ok(()) => tracing::info!("VIP {vip} was in the tables but is not wanted; removed"),
                Err(error) => {
                    tracing::error!("VIP {vip} is not wanted but could not be removed: {error}");
                }
            }
        }
        self.place_again();
        for (vip, cause) in &self.unplaced {
            tracing::error!("VIP {vip} is wanted but not served: {cause}");
        }
        tracing::info!(
            "restored {} VIPs with {} reals; the tables held {} services, {} of them not wanted",
            self.intent.len(),
            self.intent.reals(),
            found.len(),
            unwanted.len(),
        );
    }

    /// A VIP with what follows from the intent, without a past.
    fn fresh_service(&self, vip: &Arc<Vip>) -> Service {
        Service::new(
            Arc::clone(vip),
            self.seed,
            self.steered_of(vip).as_deref(),
            self.fallback_of(&vip.address),
            None,
            SystemTime::now(),
        )
    }

    /// Passes a service to the data plane as it is.
    fn place_service(&mut self, vip: &VipKey) -> Result<(), DataplaneError> {
        self.pulse.progress();
        match self.services.get(vip) {
            Some(service) => self.dataplane.set_service(&service.wanted()),
            None => Ok(()),
        }
    }

    /// Tries the services again that there was no room for.
    pub(super) fn place_again(&mut self) {
        for vip in self.unplaced.keys().copied().collect::<Vec<_>>() {
            let Some(wanted) = self.intent.get(&vip).cloned() else {
                self.unplaced.remove(&vip);
                continue;
            };
            match self.place(&vip) {
                Ok(()) => {
                    tracing::info!("VIP {vip} is served now as it is wanted");
                    self.unplaced.remove(&vip);
                    // Its reals could not be probed through the tunnel before.
                    self.changed.announce(vip, Some(wanted));
                }
                Err(error) => {
                    self.unplaced.insert(vip, error.to_string());
                }
            }
        }
    }
}
