//! Changes of the intent. A change is pure: it makes a new record of one VIP from the old one.

use std::sync::Arc;

use super::{
    Kinds, Refusal,
    model::{Intent, Real, Vip},
    owner::{Owner, Writer},
    spec::{RealSpec, VipSpec},
    validate,
};
use crate::{
    settings::{self, Map, Settings, Value},
    vip::{RealId, VipKey},
};

/// Settings to change, by name: `null` resets one to its default, those that are not named stay.
pub type Patch = Map<String, Value>;

/// A change of one VIP.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Adds a VIP without reals.
    AddVip {
        /// Its name.
        vip: VipKey,
        /// Settings that are not the default.
        patch: Patch,
    },
    /// Changes a VIP.
    UpdateVip {
        /// Its name.
        vip: VipKey,
        /// Settings to change.
        patch: Patch,
    },
    /// Deletes a VIP and its reals.
    DeleteVip {
        /// Its name.
        vip: VipKey,
    },
    /// Adds a real to a VIP.
    AddReal {
        /// The VIP.
        vip: VipKey,
        /// The real.
        real: RealId,
        /// Settings that are not the default.
        patch: Patch,
    },
    /// Changes a real.
    UpdateReal {
        /// The VIP.
        vip: VipKey,
        /// The real.
        real: RealId,
        /// Settings to change.
        patch: Patch,
    },
    /// Deletes a real.
    DeleteReal {
        /// The VIP.
        vip: VipKey,
        /// The real.
        real: RealId,
    },
}

impl Change {
    /// The VIP that it changes, or whose real it changes.
    #[must_use]
    pub const fn vip(&self) -> &VipKey {
        match self {
            Change::AddVip { vip, .. }
            | Change::UpdateVip { vip, .. }
            | Change::DeleteVip { vip }
            | Change::AddReal { vip, .. }
            | Change::UpdateReal { vip, .. }
            | Change::DeleteReal { vip, .. } => vip,
        }
    }

    /// The real that it changes.
    #[must_use]
    pub const fn real(&self) -> Option<RealId> {
        match self {
            Change::AddReal { real, .. }
            | Change::UpdateReal { real, .. }
            | Change::DeleteReal { real, .. } => Some(*real),
            Change::AddVip { .. } | Change::UpdateVip { .. } | Change::DeleteVip { .. } => None,
        }
    }

    /// Settings that it sets or changes; `None` where it deletes.
    #[must_use]
    pub const fn patch(&self) -> Option<&Patch> {
        match self {
            Change::AddVip { patch, .. }
            | Change::UpdateVip { patch, .. }
            | Change::AddReal { patch, .. }
            | Change::UpdateReal { patch, .. } => Some(patch),
            Change::DeleteVip { .. } | Change::DeleteReal { .. } => None,
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

    /// The object that it changes, in words: the VIP, or one of its reals.
    #[must_use]
    pub fn object(&self) -> String {
        let vip = self.vip();
        self.real().map_or_else(
            || format!("VIP {vip}"),
            |real| format!("VIP {vip}, real {real}"),
        )
    }

    /// Returns the VIP as it is after this change by `writer`, `None` if it is deleted. The intent itself stays as it is,
    /// and so does the VIP's revision.
    ///
    /// # Errors
    /// A [`Refusal`] that names the field or the object.
    pub fn apply(
        &self,
        intent: &Intent,
        writer: &Writer,
        kinds: &Kinds,
    ) -> Result<Option<Arc<Vip>>, Refusal> {
        let name = self.vip();
        let existing = || {
            let vip = intent.get(name).ok_or(Refusal::VipUnknown(*name))?;
            match writer.expected_revision {
                0 => Ok(vip),
                expected if expected == vip.revision => Ok(vip),
                expected => Err(Refusal::OtherRevision {
                    vip: *name,
                    expected,
                    found: vip.revision,
                }),
            }
        };
        let vip = match self {
            Change::AddVip { patch, .. } => {
                validate::vip_address(name)?;
                if intent.get(name).is_some() {
                    return Err(Refusal::VipExists(*name));
                }
                let spec = patched_vip(&VipSpec::default(), patch, kinds)?;
                Vip::new(*name, writer.owner.clone(), spec)
            }
            Change::UpdateVip { patch, .. } => {
                let existing = existing()?;
                self.permit(writer, &existing.owner)?;
                Vip {
                    owner: writer.owner.clone(),
                    spec: patched_vip(&existing.spec, patch, kinds)?,
                    ..Vip::clone(existing)
                }
            }
            Change::DeleteVip { .. } => {
                let existing = existing()?;
                self.permit(writer, &existing.owner)?;
                let foreign = |(_, real): &(&RealId, &Real)| !writer.may_change(&real.owner);
                if let Some((id, real)) = existing.reals.iter().find(foreign) {
                    return Err(Refusal::OtherOwner {
                        object: format!("real {id} of VIP {name}"),
                        owner: real.owner.clone(),
                    });
                }
                let mut dependents = intent.dependents(name);
                return match dependents.find(|other| other.address != *name) {
                    Some(other) => Err(Refusal::StandsIn {
                        vip: *name,
                        other: other.address,
                    }),
                    None => Ok(None),
                };
            }
            Change::AddReal { real, patch, .. } => {
                let existing = existing()?;
                let spec = patched(&RealSpec::default(), patch)?;
                validate::real_id(existing, *real, &spec)?;
                if existing.reals.contains_key(real) {
                    return Err(Refusal::RealExists {
                        vip: *name,
                        real: *real,
                    });
                }
                validate::real_observation(existing, &spec, kinds)?;
                let mut vip = Vip::clone(existing);
                let owner = writer.owner.clone();
                let new = Real { owner, spec };
                vip.reals.insert(*real, new.clone());
                validate::real_fits(&vip, *real, &new.spec)?;
                vip
            }
            Change::UpdateReal { real, patch, .. } => {
                let existing = existing()?;
                let mut vip = Vip::clone(existing);
                let changed = vip.reals.get_mut(real).ok_or(Refusal::RealUnknown {
                    vip: *name,
                    real: *real,
                })?;
                self.permit(writer, &changed.owner)?;
                changed.owner = writer.owner.clone();
                changed.spec = patched(&changed.spec, patch)?;
                if patch.contains_key("check") || patch.contains_key("load") {
                    validate::real_observation(existing, &changed.spec, kinds)?;
                }
                vip
            }
            Change::DeleteReal { real, .. } => {
                let mut vip = Vip::clone(existing()?);
                let removed = vip.reals.remove(real).ok_or(Refusal::RealUnknown {
                    vip: *name,
                    real: *real,
                })?;
                self.permit(writer, &removed.owner)?;
                vip
            }
        };
        validate::vip(&vip, kinds)?;
        validate::fallback(intent, &vip)?;
        validate::room(intent, &vip)?;
        Ok(Some(Arc::new(vip)))
    }

    /// Refuses this change to a writer that may not change objects of `owner`.
    fn permit(&self, writer: &Writer, owner: &Owner) -> Result<(), Refusal> {
        if writer.may_change(owner) {
            return Ok(());
        }
        let vip = self.vip();
        Err(Refusal::OtherOwner {
            object: self.real().map_or_else(
                || format!("VIP {vip}"),
                |real| format!("real {real} of VIP {vip}"),
            ),
            owner: owner.clone(),
        })
    }
}

/// The settings with these changes.
fn patched<T: Settings>(spec: &T, patch: &Patch) -> Result<T, Refusal> {
    settings::patch(spec, patch).map_err(|error| error.within("spec").into())
}

/// A VIP's settings with these changes; its components are complete.
fn patched_vip(spec: &VipSpec, patch: &Patch, kinds: &Kinds) -> Result<VipSpec, Refusal> {
    let mut spec = patched(spec, patch)?;
    kinds.normalize_vip(&mut spec)?;
    Ok(spec)
}
