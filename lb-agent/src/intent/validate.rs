//! The rules. Each refusal names the field, the value and what would be right.

use std::net::IpAddr;

use lb_common::{
    limits::{
        MAX_REALS, MAX_RING_SLOTS, MAX_SERVICES, MAX_TOTAL_RING_SLOTS, MAX_WEIGHT, MIN_RING_SLOTS,
    },
    vip::{AddressError, VipAddress, check_unicast},
};

use super::{
    model::{Intent, MAX_WINDOW, MIN_WINDOW, Vip},
    refusal::Refusal,
};
use crate::dataplane::Forward;

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
    if vip.spec.forward == Forward::L2 && real.is_ipv4() != vip.address.address.is_ipv4() {
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
/// [`Refusal::Invalid`] for `spec.window`, `spec.slots` or `spec.forward`.
pub fn vip(vip: &Vip) -> Result<(), Refusal> {
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
    if vip.spec.forward == Forward::L2
        && let Some(real) = vip
            .reals
            .keys()
            .find(|real| real.is_ipv4() != vip.address.address.is_ipv4())
    {
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
