//! Finds the changes after which one owner's objects are as it wants them: a configuration file that is read again.

use std::{collections::BTreeSet, fmt, sync::Arc};

use super::{
    Change, Intent, Patch, Real, RealSpec, Vip, VipSpec, WhenEmpty,
    owner::{Owner, Writer},
};
use crate::{
    settings::{Map, SettingType as _, Settings, Value},
    vip::{RealId, VipKey},
};

/// What an owner has to change.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// The changes, in an order in which each is valid after those before it.
    pub changes: Vec<Change>,
    /// Objects that the owner would have to change but that belong to somebody else. Some may be as it wants them.
    pub left: Vec<LeftObject>,
}

/// An object that stays as it is, since it belongs to another owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftObject {
    /// The VIP.
    pub vip: VipKey,
    /// Its real, if the object is one.
    pub real: Option<RealId>,
    /// To whom it belongs.
    pub owner: Owner,
}

impl LeftObject {
    /// Whether the object is now otherwise than in `wanted`.
    #[must_use]
    pub fn differs(&self, current: &Intent, wanted: &Intent) -> bool {
        let (found, wanted) = (current.get(&self.vip), wanted.get(&self.vip));
        match self.real {
            None => found.map(|vip| &vip.spec) != wanted.map(|vip| &vip.spec),
            Some(real) => spec(found, real) != spec(wanted, real),
        }
    }
}

/// The settings of a VIP's real, if both exist.
fn spec(vip: Option<&Arc<Vip>>, real: RealId) -> Option<&RealSpec> {
    Some(&vip?.reals.get(&real)?.spec)
}

impl fmt::Display for LeftObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(real) = self.real {
            write!(f, "real {real} of ")?;
        }
        write!(f, "VIP {} (owner {})", self.vip, self.owner)
    }
}

const WHEN_EMPTY: &str = "when_empty";
const MODE: &str = "mode";

/// Compares what is with what `writer`'s owner wants, and returns the changes that it has to make. Objects of the owner
/// that are not wanted are deleted; objects of others are left alone unless the writer uses force.
#[must_use]
pub fn follow(current: &Intent, wanted: &Intent, writer: &Writer) -> Plan {
    let mut plan = Plan::default();
    let doomed = doomed(current, wanted, writer, &mut plan.left);
    // A VIP that stands in for another cannot be deleted, and VIPs may stand in for each other: first nobody does whose
    // setting changes.
    let mut reset = BTreeSet::new();
    for vip in current.vips().filter(|vip| writer.may_change(&vip.owner)) {
        let name = &vip.address;
        let changes = doomed.contains(name)
            || wanted
                .get(name)
                .is_some_and(|wanted| wanted.spec.when_empty != vip.spec.when_empty);
        if changes && matches!(vip.spec.when_empty, WhenEmpty::Fallback(_)) {
            reset.insert(*name);
            plan.changes.push(Change::UpdateVip {
                vip: *name,
                patch: null([WHEN_EMPTY]),
            });
        }
    }
    for vip in current.vips() {
        delete(vip, &doomed, wanted, writer, &mut plan.changes);
    }
    let mut fallbacks = Vec::new();
    for vip in wanted.vips() {
        match current.get(&vip.address) {
            None => add(vip, &mut plan.changes),
            Some(found) => update(found, vip, writer, &mut plan),
        }
        let same = current.get(&vip.address).is_some_and(|found| {
            !writer.may_change(&found.owner)
                || found.spec.when_empty == vip.spec.when_empty && !reset.contains(&vip.address)
        });
        if let WhenEmpty::Fallback(_) = vip.spec.when_empty
            && !same
        {
            let patch = vip.spec.to_map();
            fallbacks.push(Change::UpdateVip {
                vip: vip.address,
                patch: patch
                    .into_iter()
                    .filter(|(name, _)| name == WHEN_EMPTY)
                    .collect(),
            });
        }
    }
    plan.changes.extend(fallbacks);
    plan
}

/// The owner's VIPs that are not wanted. Those that hold reals of others stay, and are noted.
fn doomed(
    current: &Intent,
    wanted: &Intent,
    writer: &Writer,
    left: &mut Vec<LeftObject>,
) -> BTreeSet<VipKey> {
    let mut doomed = BTreeSet::new();
    // Force takes over what is wanted; it does not delete what the owner never had.
    let unwanted =
        |vip: &&Arc<Vip>| vip.owner == writer.owner && wanted.get(&vip.address).is_none();
    for vip in current.vips().filter(unwanted) {
        let foreign = vip
            .reals
            .iter()
            .find(|(_, real)| real.owner != writer.owner);
        match foreign {
            Some((id, real)) if !writer.force => left.push(LeftObject {
                vip: vip.address,
                real: Some(*id),
                owner: real.owner.clone(),
            }),
            _ => {
                doomed.insert(vip.address);
            }
        }
    }
    doomed
}

/// The changes that delete a VIP, or those of its reals that are not wanted.
fn delete(
    vip: &Vip,
    doomed: &BTreeSet<VipKey>,
    wanted: &Intent,
    writer: &Writer,
    changes: &mut Vec<Change>,
) {
    let name = vip.address;
    if doomed.contains(&name) {
        changes.push(Change::DeleteVip { vip: name });
        return;
    }
    let wanted = wanted.get(&name);
    for (id, real) in &vip.reals {
        let is_wanted = wanted.is_some_and(|wanted| wanted.reals.contains_key(id));
        if real.owner == writer.owner && !is_wanted {
            changes.push(Change::DeleteReal {
                vip: name,
                real: *id,
            });
        }
    }
}

/// The changes that add a VIP with its reals, but not its fallback.
fn add(vip: &Vip, changes: &mut Vec<Change>) {
    changes.push(Change::AddVip {
        vip: vip.address,
        patch: differences(&default_settings(), &own_settings(vip)),
    });
    let reals = vip.reals.iter();
    changes.extend(reals.map(|(id, real)| add_real(vip.address, *id, real)));
}

/// The change that adds a real; it names only what differs from the defaults.
fn add_real(vip: VipKey, id: RealId, real: &Real) -> Change {
    Change::AddReal {
        vip,
        real: id,
        patch: differences(&RealSpec::default().to_map(), &real.spec.to_map()),
    }
}

/// The changes of a VIP and of its reals.
fn update(found: &Vip, wanted: &Vip, writer: &Writer, plan: &mut Plan) {
    let vip = wanted.address;
    let mut patch = Patch::new();
    if writer.may_change(&found.owner) {
        patch = differences(&own_settings(found), &own_settings(wanted));
        let overrides_depend = patch.contains_key("check") || patch.contains_key("load");
        if overrides_depend {
            reset_overrides(found, wanted, writer, &mut plan.changes);
        }
        if patch.contains_key("forward") || patch.contains_key("source") {
            set_modes(found, wanted, writer, &mut plan.changes);
        }
        if !patch.is_empty() || found.owner != writer.owner {
            plan.changes.push(Change::UpdateVip {
                vip,
                patch: patch.clone(),
            });
        }
    } else {
        plan.left.push(LeftObject {
            vip,
            real: None,
            owner: found.owner.clone(),
        });
    }
    let was_reset = patch.contains_key("check") || patch.contains_key("load");
    let has_modes = patch.contains_key("forward") || patch.contains_key("source");
    for (id, real) in &wanted.reals {
        match found.reals.get(id) {
            None => plan.changes.push(add_real(vip, *id, real)),
            Some(has) if writer.may_change(&has.owner) => {
                let mut has_now = has.spec.to_map();
                if was_reset && overrides_differ(&has.spec.to_map(), &real.spec.to_map()) {
                    has_now.retain(|name, _| name != "check" && name != "load");
                }
                if let Some(mode) = real.spec.mode
                    && has_modes
                    && found.can_reach(id.address, mode)
                {
                    has_now.insert(MODE.to_owned(), mode.to_json());
                }
                let patch = differences(&has_now, &real.spec.to_map());
                if !patch.is_empty() || has.owner != writer.owner {
                    plan.changes.push(Change::UpdateReal {
                        vip,
                        real: *id,
                        patch,
                    });
                }
            }
            Some(has) => plan.left.push(LeftObject {
                vip,
                real: Some(*id),
                owner: has.owner.clone(),
            }),
        }
    }
}

/// The VIP's mode may suit a real only because the real has one of its own: those that get one have it first. Those that
/// lose theirs have the VIP's when that is as it is wanted. One that only the VIP's new `source` allows comes later.
fn set_modes(found: &Vip, wanted: &Vip, writer: &Writer, changes: &mut Vec<Change>) {
    for (id, has) in &found.reals {
        let Some(mode) = wanted.reals.get(id).and_then(|real| real.spec.mode) else {
            continue;
        };
        if has.spec.mode != Some(mode)
            && writer.may_change(&has.owner)
            && found.can_reach(id.address, mode)
        {
            changes.push(Change::UpdateReal {
                vip: wanted.address,
                real: *id,
                patch: Patch::from_iter([(MODE.to_owned(), mode.to_json())]),
            });
        }
    }
}

/// A real's check and load differ from its VIP's, and are valid only together with them: where both change, the real's
/// are reset first.
fn reset_overrides(found: &Vip, wanted: &Vip, writer: &Writer, changes: &mut Vec<Change>) {
    for (id, has) in &found.reals {
        let differ = wanted
            .reals
            .get(id)
            .is_some_and(|real| overrides_differ(&has.spec.to_map(), &real.spec.to_map()));
        if differ && writer.may_change(&has.owner) {
            changes.push(Change::UpdateReal {
                vip: wanted.address,
                real: *id,
                patch: null(["check", "load"]),
            });
        }
    }
}

fn overrides_differ(one: &Patch, other: &Patch) -> bool {
    ["check", "load"]
        .iter()
        .any(|name| one.get(*name) != other.get(*name))
}

/// The defaults, as [`own_settings`] has them.
fn default_settings() -> Patch {
    let mut settings = VipSpec::default().to_map();
    settings.remove(WHEN_EMPTY);
    settings
}

/// A VIP's settings without its fallback.
fn own_settings(vip: &Vip) -> Patch {
    let mut settings = vip.spec.to_map();
    if let WhenEmpty::Fallback(_) = vip.spec.when_empty {
        settings.remove(WHEN_EMPTY);
    }
    // The default, `drop`, does not differ from no value.
    if vip.spec.when_empty == WhenEmpty::Drop {
        settings.remove(WHEN_EMPTY);
    }
    settings
}

/// The patch that turns these settings into the others.
fn differences(from: &Patch, to: &Patch) -> Patch {
    let mut patch: Patch = from
        .keys()
        .filter(|name| !to.contains_key(*name))
        .map(|name| (name.clone(), Value::Null))
        .collect();
    for (name, value) in to {
        if from.get(name) != Some(value) {
            patch.insert(name.clone(), value.clone());
        }
    }
    patch
}

fn null<const N: usize>(names: [&str; N]) -> Patch {
    names
        .into_iter()
        .map(|name| (name.to_owned(), Value::Null))
        .collect::<Map<_, _>>()
}
