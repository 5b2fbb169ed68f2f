//! The VIPs and reals that are wanted.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use super::{
    WhenEmpty,
    owner::Owner,
    spec::{RealSpec, VipSpec, default_window},
};
use crate::{
    options::{Forward, NatSource},
    ring,
    vip::{RealId, VipKey},
};

/// A VIP with its reals.
#[derive(Clone, Debug, PartialEq)]
pub struct Vip {
    /// Its name.
    pub address: VipKey,
    /// To whom it belongs.
    pub owner: Owner,
    /// Number of the commit that last changed it or one of its reals; 0 before the first.
    pub revision: u64,
    /// Its settings.
    pub spec: VipSpec,
    /// Its reals. Sorted, so that the ring does not depend on the order in which they were added.
    pub reals: BTreeMap<RealId, Real>,
}

/// A real of a VIP.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Real {
    /// To whom it belongs, perhaps another than the VIP's owner.
    pub owner: Owner,
    /// Its settings.
    pub spec: RealSpec,
}

impl From<RealSpec> for Real {
    /// A real of the API's callers.
    fn from(spec: RealSpec) -> Self {
        Real {
            owner: Owner::default(),
            spec,
        }
    }
}

impl Vip {
    /// A VIP without reals, not committed yet.
    #[must_use]
    pub const fn new(address: VipKey, owner: Owner, spec: VipSpec) -> Self {
        Vip {
            address,
            owner,
            revision: 0,
            spec,
            reals: BTreeMap::new(),
        }
    }

    /// How long an idle flow keeps its real, the default filled in.
    #[must_use]
    pub fn window(&self) -> Duration {
        self.spec
            .window
            .unwrap_or_else(|| default_window(self.address.protocol))
    }

    /// Slots of its ring, the default filled in.
    #[must_use]
    pub fn slots(&self) -> u32 {
        let fixed = self.spec.ring.fixed_slots();
        fixed
            .or(self.spec.slots)
            .unwrap_or_else(|| ring::default_slots(self.reals.len()))
    }

    /// The forwarding mode of a real with these settings: its own, or the VIP's.
    #[must_use]
    pub fn mode_of(&self, real: &RealSpec) -> Forward {
        real.mode.unwrap_or(self.spec.forward)
    }

    /// Whether packets can reach a real with this address in this forwarding mode.
    #[must_use]
    pub fn can_reach(&self, real: IpAddr, mode: Forward) -> bool {
        let keeps_source = mode == Forward::Nat && self.spec.source == NatSource::Client;
        mode.facts().families_may_differ && !keeps_source
            || real.is_ipv4() == self.address.address.is_ipv4()
    }
}

/// All VIPs that are wanted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Intent {
    vips: BTreeMap<VipKey, Arc<Vip>>,
    /// For each VIP that stands in for others, those others.
    dependents: BTreeMap<VipKey, BTreeSet<VipKey>>,
    reals: usize,
    slots: u64,
}

impl Intent {
    /// The VIP with this name.
    #[must_use]
    pub fn get(&self, vip: &VipKey) -> Option<&Arc<Vip>> {
        self.vips.get(vip)
    }

    /// All VIPs, by name.
    pub fn vips(&self) -> impl Iterator<Item = &Arc<Vip>> {
        self.vips.values()
    }

    /// VIPs whose packets go to the reals of this one while their own are down, by name.
    pub fn dependents(&self, vip: &VipKey) -> impl Iterator<Item = &Arc<Vip>> {
        let names = self.dependents.get(vip).into_iter().flatten();
        names.filter_map(|name| self.vips.get(name))
    }

    /// Number of VIPs.
    #[must_use]
    pub fn len(&self) -> usize {
        self.vips.len()
    }

    /// Whether there is no VIP.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.vips.is_empty()
    }

    /// Number of reals, counted per VIP.
    #[must_use]
    pub const fn reals(&self) -> usize {
        self.reals
    }

    /// Slots of all rings together.
    #[must_use]
    pub const fn slots(&self) -> u64 {
        self.slots
    }

    /// Replaces the VIP with this name, or removes it; returns the one that was there.
    pub fn replace(&mut self, name: VipKey, vip: Option<Arc<Vip>>) -> Option<Arc<Vip>> {
        let stand_in = |vip: &Option<Arc<Vip>>| match vip.as_ref()?.spec.when_empty {
            WhenEmpty::Fallback(other) => Some(other),
            WhenEmpty::Drop | WhenEmpty::Reset => None,
        };
        let new_stand_in = stand_in(&vip);
        if let Some(new) = &vip {
            self.reals += new.reals.len();
            self.slots += u64::from(new.slots());
        }
        let old = match vip {
            Some(new) => self.vips.insert(name, new),
            None => self.vips.remove(&name),
        };
        if let Some(old) = &old {
            self.reals -= old.reals.len();
            self.slots -= u64::from(old.slots());
        }
        let old_stand_in = stand_in(&old);
        if old_stand_in != new_stand_in {
            if let Some(other) = old_stand_in
                && let Some(dependents) = self.dependents.get_mut(&other)
            {
                dependents.remove(&name);
                if dependents.is_empty() {
                    self.dependents.remove(&other);
                }
            }
            if let Some(other) = new_stand_in {
                self.dependents.entry(other).or_default().insert(name);
            }
        }
        old
    }
}

impl FromIterator<Vip> for Intent {
    fn from_iter<I: IntoIterator<Item = Vip>>(vips: I) -> Self {
        let mut intent = Intent::default();
        for vip in vips {
            intent.replace(vip.address, Some(Arc::new(vip)));
        }
        intent
    }
}
