//! The rules that hold between settings and objects. Each refusal names the field, the value and what would be right.

use std::net::IpAddr;

use lb_common::limits::{MAX_REALS, MAX_SERVICES, MAX_TOTAL_RING_SLOTS};

use super::{
    Kinds, Refusal, WhenEmpty,
    model::{Intent, Vip},
    spec::RealSpec,
};
use crate::{
    load::MAX_SOURCES,
    settings::FieldError,
    shedding::RESET,
    vip::{AddressError, Protocol, RealId, VipKey, check_unicast},
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
pub fn vip_address(vip: &VipKey) -> Result<(), Refusal> {
    unicast("id.address", vip.address)
}

/// Whether this VIP can have a real of this name.
///
/// # Errors
/// [`Refusal::Invalid`] for `address`.
pub fn real_id(vip: &Vip, real: RealId) -> Result<(), Refusal> {
    unicast("address", real.address)?;
    if real.address == vip.address.address {
        return Err(Refusal::invalid(
            "address",
            real,
            "is the VIP's own address, packets would come back to the balancer; give the real's own address",
        ));
    }
    if real.port.is_some() {
        return Err(Refusal::invalid(
            "address",
            real,
            format!(
                "write a real as an address alone, for example 10.1.0.2 or 2001:db8::2; forwarding mode {} keeps the \
                 VIP's port",
                vip.spec.forward
            ),
        ));
    }
    Ok(())
}

/// Whether a VIP's forwarding mode and ring suit this new real of it.
///
/// # Errors
/// [`Refusal::Invalid`] for `address`.
pub fn real_fits(vip: &Vip, real: RealId) -> Result<(), Refusal> {
    if !vip.can_reach(real.address) {
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

/// Whether a VIP's settings and reals agree.
///
/// # Errors
/// [`Refusal::Invalid`] for a field of `spec`.
pub fn vip(vip: &Vip, kinds: &Kinds) -> Result<(), Refusal> {
    observation(vip, kinds)?;
    if let Some(slots) = vip.spec.slots
        && vip.reals.len() > slots as usize
    {
        return Err(Refusal::invalid(
            "spec.slots",
            slots,
            format!(
                "the VIP has {} reals, give at least one slot each",
                vip.reals.len()
            ),
        ));
    }
    if let Some(real) = vip.reals.keys().find(|real| !vip.can_reach(real.address)) {
        return Err(Refusal::invalid(
            "spec.forward",
            vip.spec.forward,
            format!(
                "the real {real} is not of the VIP's family; use ipip, or delete that real first"
            ),
        ));
    }
    Ok(())
}

/// Whether check, sources of load, steering and shedding agree with the VIP and with each other.
fn observation(vip: &Vip, kinds: &Kinds) -> Result<(), Refusal> {
    let spec = &vip.spec;
    if let Some(check) = &spec.check {
        let needs_port = kinds
            .probes
            .find(&check.probe.kind)
            .is_ok_and(|kind| kind.needs_port);
        check
            .validate_for(&vip.address, needs_port)
            .map_err(|error| error.within("spec.check"))?;
    }
    if spec.load.len() > MAX_SOURCES {
        return Err(Refusal::invalid(
            "spec.load",
            spec.load.len(),
            format!("too many sources, give {MAX_SOURCES} at most"),
        ));
    }
    for (position, source) in spec.load.iter().enumerate() {
        if spec.load[..position]
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
    let rate = spec
        .steering
        .as_ref()
        .map_or(0.0, |steering| steering.shed_rate);
    if rate > 0.0 && vip.address.protocol == Protocol::Udp {
        return Err(Refusal::invalid(
            "spec.steering.shed_rate",
            rate,
            "only flows of TCP can be reset; leave it at 0",
        ));
    }
    if spec.shed.way.kind != RESET && rate == 0.0 {
        return Err(Refusal::invalid(
            "spec.shed",
            &spec.shed.way.kind,
            "nothing is shed without a rate; give one with steering, as in --steering 'capacity shed_rate=100'",
        ));
    }
    Ok(())
}

/// Whether the settings that differ for a real of this VIP suit the VIP's.
///
/// # Errors
/// [`Refusal::Invalid`] for `spec.load`.
pub fn real_observation(vip: &Vip, real: &RealSpec, kinds: &Kinds) -> Result<(), Refusal> {
    for (position, change) in real.load.iter().enumerate() {
        let at = |error: FieldError| error.within(format!("spec.load[{position}]"));
        let source = vip
            .spec
            .load
            .iter()
            .find(|source| source.name() == change.name)
            .ok_or_else(|| {
                at(FieldError::new(
                    "name",
                    &change.name,
                    "the VIP has no source of load with this name; lbctl list -o json shows those it has",
                ))
            })?;
        if let Some(changed) = change.apply(source).map_err(at)? {
            kinds.normalize_source(&changed).map_err(at)?;
        }
    }
    Ok(())
}

/// Whether the VIP exists whose reals stand in for this one's.
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
    // One that was deleted since does not prevent other changes.
    if intent.get(&other).is_none()
        && old.is_none_or(|old| old.spec.when_empty != vip.spec.when_empty)
    {
        return refuse("there is no such VIP; add it first");
    }
    Ok(())
}

/// Whether the tables have room for this VIP instead of the one with its name.
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
    // Only growth is refused, so that an intent that is too large can be reduced.
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
