//! The rules. Each refusal names the field, the value and what would be right.

use std::net::IpAddr;

use lb_common::limits::{
    MAX_REALS, MAX_RING_SLOTS, MAX_SERVICES, MAX_TOTAL_RING_SLOTS, MAX_WEIGHT, MIN_RING_SLOTS,
};
use lb_model::vip::{AddressError, Protocol, VipAddress, check_unicast};

use lb_clients::load::reader;
use lb_clients::shedding::{ShedBy, Written};
use lb_model::load::MAX_SOURCES;

use super::{
    model::{Intent, MAX_WINDOW, MIN_WINDOW, RealSpec, Vip},
    refusal::Refusal,
    when_empty::WhenEmpty,
};

/// VIPs there is room for: index 0 is reserved.
pub const MAX_VIPS: u32 = MAX_SERVICES - 1;
/// Reals there is room for, of all VIPs: index 0 means none.
pub const MAX_ALL_REALS: u32 = MAX_REALS - 1;

fn unicast(field: &'static str, address: IpAddr) -> Result<(), Refusal> {
    check_unicast(address).map_err(|error| {
        let advice = match error {
            AddressError::NotUnicast => {
                "not a unicast address; give one that a host can have, and no loopback or link-local one".to_owned()
            }
            other => other.to_string(),
        };
        Refusal::invalid(field, address, advice)
    })
}

/// Whether a VIP can have this name. Port 0 is any port.
///
/// # Errors
/// [`Refusal::Invalid`] for `id.address`.
pub fn vip_address(vip: &VipAddress) -> Result<(), Refusal> {
    unicast("id.address", vip.address)
}

/// Whether a real behind this VIP can have this address.
///
/// # Errors
/// [`Refusal::Invalid`] for `address`.
pub fn real_address(vip: &VipAddress, real: IpAddr) -> Result<(), Refusal> {
    unicast("address", real)?;
    if real == vip.address {
        return Err(Refusal::invalid(
            "address",
            real,
            "is the VIP's own address, packets would come back to the balancer; give the real's own address",
        ));
    }
    Ok(())
}

/// Whether a real can have this weight.
///
/// # Errors
/// [`Refusal::Invalid`] for `spec.weight`.
pub fn weight(weight: u32) -> Result<(), Refusal> {
    if weight > MAX_WEIGHT {
        return Err(Refusal::invalid(
            "spec.weight",
            weight,
            format!("out of range, give 0 to {MAX_WEIGHT}"),
        ));
    }
    Ok(())
}

/// Whether a VIP's forwarding mode and ring suit this new real of it.
///
/// # Errors
/// [`Refusal::Invalid`] for `address`.
pub fn real_fits(vip: &Vip, real: IpAddr) -> Result<(), Refusal> {
    if !vip.suits(real) {
        return Err(Refusal::invalid(
            "address",
            real,
            format!(
                "mode l2 needs a real of the family of {}; give one, or set the VIP's mode to ipip",
                vip.address
            ),
        ));
    }
    if vip.reals.len() > vip.slots() as usize {
        return Err(Refusal::invalid(
            "address",
            real,
            format!(
                "the ring of {} has {} slots, one real each at most; give it more slots",
                vip.address,
                vip.slots()
            ),
        ));
    }
    Ok(())
}

/// Whether a VIP agrees with itself.
///
/// # Errors
/// [`Refusal::Invalid`] for a field of `spec`.
pub fn vip(vip: &Vip) -> Result<(), Refusal> {
    observation(vip)?;
    let window = vip.spec.window;
    if !(MIN_WINDOW..=MAX_WINDOW).contains(&window) {
        return Err(Refusal::invalid(
            "spec.window",
            format!("{window:?}"),
            "out of range, give 1 s to 30 days",
        ));
    }
    if let Some(slots) = vip.spec.slots {
        if !(MIN_RING_SLOTS..=MAX_RING_SLOTS).contains(&slots) || !slots.is_power_of_two() {
            return Err(Refusal::invalid(
                "spec.slots",
                slots,
                format!(
                    "not a size of a ring, give a power of two from {MIN_RING_SLOTS} to {MAX_RING_SLOTS}"
                ),
            ));
        }
        if vip.reals.len() > slots as usize {
            return Err(Refusal::invalid(
                "spec.slots",
                slots,
                format!(
                    "the VIP has {} reals, give at least one slot each",
                    vip.reals.len()
                ),
            ));
        }
    }
    if let Some(real) = vip.reals.keys().find(|real| !vip.suits(**real)) {
        return Err(Refusal::invalid(
            "spec.forward",
            "l2",
            format!(
                "the real {real} is not of the VIP's family; use ipip, or delete that real first"
            ),
        ));
    }
    Ok(())
}

/// Whether what is asked of a VIP's reals, and what is made of it, holds together.
fn observation(vip: &Vip) -> Result<(), Refusal> {
    let named = |name: String| {
        move |(field, value, advice): (String, String, String)| {
            Refusal::invalid(format!("{name}.{field}"), value, advice)
        }
    };
    if let Some(check) = &vip.spec.check {
        check
            .validate_for(&vip.address)
            .map_err(named("spec.check".to_owned()))?;
    }
    if vip.spec.load.len() > MAX_SOURCES {
        return Err(Refusal::invalid(
            "spec.load",
            vip.spec.load.len(),
            format!("too many sources, give {MAX_SOURCES} at most"),
        ));
    }
    for (position, source) in vip.spec.load.iter().enumerate() {
        reader::normalize(source).map_err(|error| {
            Refusal::invalid(
                format!("spec.load[{position}].{}", error.field),
                error.value,
                error.advice,
            )
        })?;
        if vip.spec.load[..position]
            .iter()
            .any(|other| other.name() == source.name())
        {
            return Err(Refusal::invalid(
                format!("spec.load[{position}].name"),
                source.name(),
                "another source of this VIP has this name; give each its own with name=",
            ));
        }
    }
    if let Some(steering) = &vip.spec.steering {
        steering
            .validate()
            .map_err(named("spec.steering".to_owned()))?;
        if steering.shed_rate > 0.0 && vip.address.protocol == Protocol::Udp {
            return Err(Refusal::invalid(
                "spec.steering.shed_rate",
                steering.shed_rate,
                "only flows of TCP can be reset; leave it at 0",
            ));
        }
    }
    let rate = vip
        .spec
        .steering
        .as_ref()
        .map_or(0.0, |spec| spec.shed_rate);
    if vip.spec.shed != ShedBy::Reset && rate == 0.0 {
        return Err(Refusal::invalid(
            "spec.shed",
            Written::from(vip.spec.shed.clone()).by,
            "nothing is shed without a rate; give one with steering, as in --steering 'capacity shed_rate=100'",
        ));
    }
    Ok(())
}

/// Whether what is different for this real of a VIP holds together.
///
/// # Errors
/// [`Refusal::Invalid`] for `spec.check` or `spec.load`.
pub fn real_observation(vip: &Vip, real: &RealSpec) -> Result<(), Refusal> {
    real.check.validate().map_err(|(field, value, advice)| {
        Refusal::invalid(format!("spec.check.{field}"), value, advice)
    })?;
    for (position, change) in real.load.iter().enumerate() {
        let field = |name: &str| format!("spec.load[{position}].{name}");
        let Some(source) = vip
            .spec
            .load
            .iter()
            .find(|source| source.name() == change.name)
        else {
            return Err(Refusal::invalid(
                field("name"),
                &change.name,
                "the VIP has no source of load with this name; lbctl list -o json shows those it has",
            ));
        };
        reader::apply_override(source, change)
            .map_err(|error| Refusal::invalid(field(&error.field), error.value, error.advice))?;
    }
    Ok(())
}

/// Whether the VIP whose reals stand in for this one's exists.
///
/// # Errors
/// [`Refusal::Invalid`] for `spec.when_empty`.
pub fn fallback(intent: &Intent, vip: &Vip) -> Result<(), Refusal> {
    let WhenEmpty::Fallback(other) = vip.spec.when_empty else {
        return Ok(());
    };
    let old = intent.get(&vip.address);
    let refuse = |advice| Err(Refusal::invalid("spec.when_empty", other, advice));
    if other == vip.address {
        return refuse("is the VIP itself; name another VIP");
    }
    // One that was deleted since does not stand in the way of other changes.
    if intent.get(&other).is_none()
        && old.is_none_or(|old| old.spec.when_empty != vip.spec.when_empty)
    {
        return refuse("there is no such VIP; add it first");
    }
    Ok(())
}

/// Whether the tables have room when this VIP takes the place of the one with its name.
///
/// # Errors
/// [`Refusal::Full`].
pub fn room(intent: &Intent, vip: &Vip) -> Result<(), Refusal> {
    let old = intent.get(&vip.address);
    let full = |table, capacity: u32, advice: &str| {
        Err(Refusal::Full {
            table,
            capacity: u64::from(capacity),
            advice: advice.to_owned(),
        })
    };
    if old.is_none() && intent.len() >= MAX_VIPS as usize {
        return full("services", MAX_VIPS, "delete a VIP that is not needed");
    }
    let old_reals = old.map_or(0, |old| old.reals.len());
    // Only what grows is refused, so that there is a way back from an intent that is too large.
    if vip.reals.len() > old_reals
        && intent.reals() - old_reals + vip.reals.len() > MAX_ALL_REALS as usize
    {
        return full("reals", MAX_ALL_REALS, "delete reals that are not needed");
    }
    let old_slots = old.map_or(0, |old| u64::from(old.slots()));
    let slots = u64::from(vip.slots());
    if slots > old_slots && intent.slots() - old_slots + slots > u64::from(MAX_TOTAL_RING_SLOTS) {
        return full("rings", MAX_TOTAL_RING_SLOTS, "give VIPs fewer slots");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
