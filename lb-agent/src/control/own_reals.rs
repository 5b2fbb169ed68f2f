//! Reals that are addresses of this host. No packet for them leaves the host, so they take no part in a ring: a new one is
//! refused, and one whose address has become the host's counts as down until it is not any more.

use std::{borrow::Cow, net::IpAddr};

use lb_model::{
    intent::{Refusal, Vip},
    vip::VipKey,
};

use super::{event::What, owner::Owner};
use crate::weights::{Steered, SteeredReal};

/// Why a real is not added.
pub(super) fn refusal(real: IpAddr) -> Refusal {
    Refusal::invalid(
        "address",
        real,
        "it is an address of this host, and packets for it would not leave the host; give another real, or let the server \
         run with an address of its own: on another host, in a container or in a network namespace",
    )
}

impl Owner {
    /// What steering decided for a VIP's reals, with those down that are addresses of this host.
    pub(super) fn steered_of(&self, vip: &Vip) -> Option<Cow<'_, Steered>> {
        let steered = self.steered.get(&vip.address);
        let mut own = vip
            .reals
            .keys()
            .copied()
            .filter(|id| self.own.contains(&id.address))
            .peekable();
        if own.peek().is_none() {
            return steered.map(Cow::Borrowed);
        }
        let mut changed = steered.cloned().unwrap_or_else(|| Steered {
            // The operator's weights, as a VIP without steering has them.
            reals: vip
                .reals
                .iter()
                .map(|(id, real)| {
                    let steered = SteeredReal {
                        weight: real.spec.weight,
                        up: true,
                    };
                    (*id, steered)
                })
                .collect(),
        });
        let down = SteeredReal {
            weight: 0,
            up: false,
        };
        changed.reals.extend(own.map(|id| (id, down)));
        Some(Cow::Owned(changed))
    }

    /// Takes note of reals that have become addresses of this host, or are none any more.
    pub(super) fn check_own_reals(&mut self) {
        let now = self.dataplane.own_reals();
        if now == self.own {
            return;
        }
        let changed: Vec<IpAddr> = now.symmetric_difference(&self.own).copied().collect();
        self.own = now;
        let concerned: Vec<VipKey> = self
            .intent
            .vips()
            .filter(|vip| vip.reals.keys().any(|id| changed.contains(&id.address)))
            .map(|vip| vip.address)
            .collect();
        for vip in concerned {
            for name in std::iter::once(vip).chain(self.dependents(&vip)) {
                if let Err(error) = self.place(&name) {
                    tracing::warn!("VIP {name}: the data plane refuses the change: {error}");
                    self.unplaced.insert(name, error.to_string());
                }
            }
            self.announce_own_reals(vip, &changed);
        }
    }

    fn announce_own_reals(&self, vip: VipKey, changed: &[IpAddr]) {
        let Some(service) = self.services.get(&vip) else {
            return;
        };
        let reals = service.vip.reals.keys();
        for id in reals.filter(|id| changed.contains(&id.address)) {
            let Some(real) = self.view_of_real(service, *id) else {
                continue;
            };
            let cause = if self.own.contains(&id.address) {
                "it is an address of this host now: it takes no flows"
            } else {
                "it is no address of this host any more"
            };
            tracing::warn!("VIP {vip}, real {id}: {cause}");
            self.send(vip, cause.into(), What::RealChanged(real));
        }
    }

    /// What an operator should know of such reals.
    pub(super) fn own_real_warnings(&self) -> impl Iterator<Item = String> {
        self.intent.vips().flat_map(|vip| {
            let name = vip.address;
            vip.reals
                .keys()
                .filter(|id| self.own.contains(&id.address))
                .map(move |id| {
                    format!(
                        "the real {id} of {name} is an address of this host: it takes no flows; delete it, or take the \
                         address off this host"
                    )
                })
        })
    }
}
