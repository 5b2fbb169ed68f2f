//! What can be asked of the intent. A change is pure: it makes a new record of one VIP from the old one.

use std::{net::IpAddr, sync::Arc, time::Duration};

use lb_model::vip::VipAddress;

use super::{
    model::{Intent, RealSpec, Vip, VipSpec, default_window},
    refusal::Refusal,
    validate,
    when_empty::WhenEmpty,
};
use lb_clients::health::spec::{Check, CheckOverride};
use lb_clients::shedding::ShedBy;
use lb_model::load::{LoadSource, SourceOverride};
use lb_model::options::{Forward, OnDown, Track};
use lb_model::ring::Algorithm;
use lb_steering::spec::Steering;

/// A field to change: to a value, or back to its default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Set<T> {
    /// To this value.
    To(T),
    /// To the default.
    Default,
}

impl<T: Clone> Set<T> {
    fn or(&self, default: T) -> T {
        match self {
            Set::To(value) => value.clone(),
            Set::Default => default,
        }
    }

    fn optional(&self) -> Option<T> {
        match self {
            Set::To(value) => Some(value.clone()),
            Set::Default => None,
        }
    }
}

/// Fields of a VIP to change; the others stay.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VipPatch {
    /// See [`VipSpec::forward`].
    pub forward: Option<Set<Forward>>,
    /// See [`VipSpec::ring`].
    pub ring: Option<Set<Algorithm>>,
    /// See [`VipSpec::track`].
    pub track: Option<Set<Track>>,
    /// See [`VipSpec::window`].
    pub window: Option<Set<Duration>>,
    /// See [`VipSpec::slots`].
    pub slots: Option<Set<u32>>,
    /// See [`VipSpec::check`].
    pub check: Option<Set<Check>>,
    /// See [`VipSpec::on_down`].
    pub on_down: Option<Set<OnDown>>,
    /// See [`VipSpec::when_empty`].
    pub when_empty: Option<Set<WhenEmpty>>,
    /// See [`VipSpec::load`].
    pub load: Option<Set<Vec<LoadSource>>>,
    /// See [`VipSpec::steering`].
    pub steering: Option<Set<Steering>>,
    /// See [`VipSpec::shed`].
    pub shed: Option<Set<ShedBy>>,
}

impl VipPatch {
    fn apply(&self, spec: &mut VipSpec, vip: &VipAddress) {
        let default = VipSpec::default_for(vip.protocol);
        if let Some(set) = &self.forward {
            spec.forward = set.or(default.forward);
        }
        if let Some(set) = &self.ring {
            spec.ring = set.or(default.ring);
        }
        if let Some(set) = &self.track {
            spec.track = set.or(default.track);
        }
        if let Some(set) = &self.window {
            spec.window = set.or(default_window(vip.protocol));
        }
        if let Some(set) = &self.slots {
            spec.slots = set.optional();
        }
        if let Some(set) = &self.check {
            spec.check = set.optional();
        }
        if let Some(set) = &self.on_down {
            spec.on_down = set.or(default.on_down);
        }
        if let Some(set) = &self.when_empty {
            spec.when_empty = set.or(default.when_empty);
        }
        if let Some(set) = &self.load {
            spec.load = set.or(default.load);
        }
        if let Some(set) = &self.steering {
            spec.steering = set.optional();
        }
        if let Some(set) = &self.shed {
            spec.shed = set.or(default.shed);
        }
    }
}

/// Fields of a real to change; the others stay.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RealPatch {
    /// See [`RealSpec::weight`].
    pub weight: Option<Set<u32>>,
    /// See [`RealSpec::drained`].
    pub drained: Option<Set<bool>>,
    /// See [`RealSpec::check`].
    pub check: Option<Set<CheckOverride>>,
    /// See [`RealSpec::load`].
    pub load: Option<Set<Vec<SourceOverride>>>,
}

impl RealPatch {
    fn apply(&self, spec: &mut RealSpec) {
        let default = RealSpec::default();
        if let Some(set) = &self.weight {
            spec.weight = set.or(default.weight);
        }
        if let Some(set) = &self.drained {
            spec.drained = set.or(default.drained);
        }
        if let Some(set) = &self.check {
            spec.check = set.or(default.check);
        }
        if let Some(set) = &self.load {
            spec.load = set.or(default.load);
        }
    }
}

/// A change of one VIP.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Adds a VIP without reals.
    AddVip {
        /// Its name.
        vip: VipAddress,
        /// What is not the default.
        patch: VipPatch,
    },
    /// Changes a VIP.
    UpdateVip {
        /// Its name.
        vip: VipAddress,
        /// What to change.
        patch: VipPatch,
    },
    /// Deletes a VIP and its reals.
    DeleteVip {
        /// Its name.
        vip: VipAddress,
    },
    /// Adds a real to a VIP.
    AddReal {
        /// The VIP.
        vip: VipAddress,
        /// Its address.
        real: IpAddr,
        /// What is not the default.
        patch: RealPatch,
    },
    /// Changes a real.
    UpdateReal {
        /// The VIP.
        vip: VipAddress,
        /// Its address.
        real: IpAddr,
        /// What to change.
        patch: RealPatch,
    },
    /// Takes a real away.
    DeleteReal {
        /// The VIP.
        vip: VipAddress,
        /// Its address.
        real: IpAddr,
    },
}

impl Change {
    /// The VIP it is about.
    #[must_use]
    pub const fn vip(&self) -> &VipAddress {
        match self {
            Change::AddVip { vip, .. }
            | Change::UpdateVip { vip, .. }
            | Change::DeleteVip { vip }
            | Change::AddReal { vip, .. }
            | Change::UpdateReal { vip, .. }
            | Change::DeleteReal { vip, .. } => vip,
        }
    }

    /// The real it is about.
    #[must_use]
    pub const fn real(&self) -> Option<IpAddr> {
        match self {
            Change::AddReal { real, .. }
            | Change::UpdateReal { real, .. }
            | Change::DeleteReal { real, .. } => Some(*real),
            Change::AddVip { .. } | Change::UpdateVip { .. } | Change::DeleteVip { .. } => None,
        }
    }

    /// Its name in events and logs.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Change::AddVip { .. } => "add_vip",
            Change::UpdateVip { .. } => "update_vip",
            Change::DeleteVip { .. } => "delete_vip",
            Change::AddReal { .. } => "add_real",
            Change::UpdateReal { .. } => "update_real",
            Change::DeleteReal { .. } => "delete_real",
        }
    }

    /// What it changes: the VIP, or one of its reals.
    #[must_use]
    pub fn place(&self) -> String {
        let vip = self.vip();
        self.real().map_or_else(
            || format!("VIP {vip}"),
            |real| format!("VIP {vip}, real {real}"),
        )
    }

    /// What the VIP is after this change (none: deleted). The intent itself stays as it is.
    ///
    /// # Errors
    /// A [`Refusal`] that names the field or the object.
    pub fn apply(&self, intent: &Intent) -> Result<Option<Arc<Vip>>, Refusal> {
        let name = self.vip();
        let existing = || intent.get(name).ok_or(Refusal::VipUnknown(*name));
        let vip = match self {
            Change::AddVip { patch, .. } => {
                validate::vip_address(name)?;
                if intent.get(name).is_some() {
                    return Err(Refusal::VipExists(*name));
                }
                let mut spec = VipSpec::default_for(name.protocol);
                patch.apply(&mut spec, name);
                Vip {
                    address: *name,
                    spec,
                    reals: Default::default(),
                }
            }
            Change::UpdateVip { patch, .. } => {
                let mut vip = Vip::clone(existing()?);
                patch.apply(&mut vip.spec, name);
                vip
            }
            Change::DeleteVip { .. } => {
                existing()?;
                let stands_in = WhenEmpty::Fallback(*name);
                let other = |other: &&Arc<Vip>| {
                    other.address != *name && other.spec.when_empty == stands_in
                };
                return match intent.vips().find(other) {
                    Some(other) => Err(Refusal::StandsIn {
                        vip: *name,
                        other: other.address,
                    }),
                    None => Ok(None),
                };
            }
            Change::AddReal { real, patch, .. } => {
                let existing = existing()?;
                validate::real_address(name, *real)?;
                if existing.reals.contains_key(real) {
                    return Err(Refusal::RealExists {
                        vip: *name,
                        real: *real,
                    });
                }
                let mut spec = RealSpec::default();
                patch.apply(&mut spec);
                validate::weight(spec.weight)?;
                validate::real_observation(existing, &spec)?;
                let mut vip = Vip::clone(existing);
                vip.reals.insert(*real, spec);
                validate::real_fits(&vip, *real)?;
                vip
            }
            Change::UpdateReal { real, patch, .. } => {
                let mut vip = Vip::clone(existing()?);
                let spec = vip.reals.get_mut(real).ok_or(Refusal::RealUnknown {
                    vip: *name,
                    real: *real,
                })?;
                patch.apply(spec);
                validate::weight(spec.weight)?;
                if patch.check.is_some() || patch.load.is_some() {
                    validate::real_observation(existing()?, spec)?;
                }
                vip
            }
            Change::DeleteReal { real, .. } => {
                let mut vip = Vip::clone(existing()?);
                vip.reals.remove(real).ok_or(Refusal::RealUnknown {
                    vip: *name,
                    real: *real,
                })?;
                vip
            }
        };
        validate::vip(&vip)?;
        validate::fallback(intent, &vip)?;
        validate::room(intent, &vip)?;
        Ok(Some(Arc::new(vip)))
    }
}
