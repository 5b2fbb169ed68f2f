//! The rules that hold between settings and objects. Each refusal names the field, the value and what would be right.

use std::{
    collections::{BTreeMap, HashSet},
    net::IpAddr,
};

use lb_common::limits::{MAX_REALS, MAX_SERVICES, MAX_TOTAL_RING_SLOTS};

use super::{
    Kinds, Refusal, WhenEmpty,
    model::{Intent, Vip},
    spec::RealSpec,
};
use crate::{
    load::MAX_SOURCES,
    options::{Forward, Hash},
    ring::Algorithm,
    server_id::{ServerId, ServerIdMethod},
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

/// Whether this VIP can have a real of this name with these settings.
///
/// # Errors
/// [`Refusal::Invalid`] for `address`.
pub fn real_id(vip: &Vip, real: RealId, spec: &RealSpec) -> Result<(), Refusal> {
    unicast("address", real.address)?;
    if real.address == vip.address.address {
        return Err(Refusal::invalid(
            "address",
            real,
            "is the VIP's own address, packets would come back to the balancer; give the real's own address",
        ));
    }
    let mode = vip.mode_of(spec);
    if real.port.is_some() && !mode.facts().translates_ports {
        return Err(Refusal::invalid(
            "address",
            real,
            format!(
                "write a real as an address alone, for example 10.1.0.2 or 2001:db8::2, or give it the mode nat; forwarding \
                 mode {mode} keeps the VIP's port, and only nat does not"
            ),
        ));
    }
    if real.port.is_some_and(|port| port.get() == vip.address.port) {
        return Err(Refusal::invalid(
            "address",
            real,
            "the port is the VIP's own; write the address alone",
        ));
    }
    if real.port.is_some() && vip.spec.ring == Algorithm::MaglevKatran {
        return Err(Refusal::invalid(
            "address",
            real,
            "write a real as an address alone, for example 10.1.0.2 or 2001:db8::2; the VIP's ring is Katran's, to which \
             a real is an address",
        ));
    }
    Ok(())
}

/// Whether its forwarding mode and the VIP's ring suit a new real, which the VIP has already.
///
/// # Errors
/// [`Refusal::Invalid`] for `address`.
pub fn real_fits(vip: &Vip, real: RealId, spec: &RealSpec) -> Result<(), Refusal> {
    let mode = vip.mode_of(spec);
    if !vip.can_reach(real.address, mode) {
        let keeps_source = if mode == Forward::Nat {
            " with source client"
        } else {
            ""
        };
        return Err(Refusal::invalid(
            "address",
            real,
            format!(
                "mode {mode}{keeps_source} needs a real of the family of {}; give one, or set the real's mode to ipip",
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
    server_ids(vip)?;
    source_rules(vip)?;
    katran_ring(vip)?;
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
    if vip.spec.flow_limits.is_some() && !vip.address.protocol.has_tcp() {
        return Err(Refusal::invalid(
            "spec.flow_limits",
            vip.address.protocol,
            "only TCP shows where a connection begins; leave flow_limits away",
        ));
    }
    modes(vip)
}

/// Whether each real's forwarding mode, its own or the VIP's, suits its name and the VIP.
fn modes(vip: &Vip) -> Result<(), Refusal> {
    let is_sctp = vip.address.protocol == Protocol::Sctp;
    // The VIP's mode even if no real has it now.
    if is_sctp && vip.spec.forward == Forward::Nat {
        return Err(Refusal::invalid(
            "spec.forward",
            vip.spec.forward,
            "mode nat translates TCP and UDP only; set the VIP's mode to ipip",
        ));
    }
    for (id, real) in &vip.reals {
        let mode = vip.mode_of(&real.spec);
        let is_own = real.spec.mode.is_some();
        let refuse = |advice: String| {
            let field = if is_own { "spec.mode" } else { "spec.forward" };
            Err(Refusal::invalid(field, mode, advice))
        };
        if id.port.is_some() && !mode.facts().translates_ports {
            return refuse(if is_own {
                format!(
                    "the real {id} has a port of its own, which only nat can reach; leave its mode at nat, or add a real of the \
                     address alone instead"
                )
            } else {
                format!(
                    "the real {id} has a port of its own, which only nat can reach; set that real's mode to nat, or delete \
                     it first"
                )
            });
        }
        if is_sctp && mode == Forward::Nat {
            return refuse(
                "mode nat translates TCP and UDP only; set the real's mode to ipip".to_owned(),
            );
        }
        if vip.can_reach(id.address, mode) {
            continue;
        }
        return if mode == Forward::Nat {
            Err(Refusal::invalid(
                "spec.source",
                vip.spec.source,
                format!(
                    "the real {id} is not of the VIP's family, and so not of its clients'; use balancer, or set that real's \
                     mode to ipip"
                ),
            ))
        } else if is_own {
            refuse(format!(
                "the real {id} is not of the VIP's family; use ipip"
            ))
        } else {
            refuse(format!(
                "the real {id} is not of the VIP's family; use ipip, set that real's mode to ipip, or delete it first"
            ))
        };
    }
    Ok(())
}

/// Whether Katran could have the VIP's flows and reals, if its ring is Katran's.
fn katran_ring(vip: &Vip) -> Result<(), Refusal> {
    let spec = &vip.spec;
    if spec.ring != Algorithm::MaglevKatran {
        return Ok(());
    }
    if spec.hash != Hash::Flow {
        return Err(Refusal::invalid(
            "spec.hash",
            spec.hash,
            format!(
                "a ring {} has Katran's hash of flows; leave hash at flow, or give another ring",
                spec.ring
            ),
        ));
    }
    let refuse = |advice| Err(Refusal::invalid("spec.ring", spec.ring, advice));
    if vip.address.protocol == Protocol::Sctp {
        return refuse("Katran knows TCP and UDP only; give a VIP of SCTP another ring".to_owned());
    }
    match vip.reals.keys().find(|real| real.port.is_some()) {
        Some(real) => refuse(format!(
            "the real {real} has a port of its own, and to Katran a real is an address; delete that real first"
        )),
        None => Ok(()),
    }
}

/// Whether the rules are of the VIP's family, and each prefix has one.
fn source_rules(vip: &Vip) -> Result<(), Refusal> {
    let mut seen = HashSet::new();
    for (position, rule) in vip.spec.source_rules.iter().enumerate() {
        let refuse = |advice: &str| {
            let field = format!("spec.source_rules[{position}]");
            Err(Refusal::invalid(field, rule, advice))
        };
        if rule.prefix.addr().is_ipv4() != vip.address.address.is_ipv4() {
            return refuse("the VIP is of the other address family, and so are its clients");
        }
        if !seen.insert(rule.prefix) {
            return refuse("another rule is about the same prefix; give one of them");
        }
    }
    Ok(())
}

/// Whether the methods suit the VIP's protocol and each other, and the ids of its reals the methods.
fn server_ids(vip: &Vip) -> Result<(), Refusal> {
    let spec = &vip.spec;
    let protocol = vip.address.protocol;
    for (position, method) in spec.server_ids.iter().enumerate() {
        let refuse = |advice: String| {
            let field = format!("spec.server_ids[{position}]");
            Err(Refusal::invalid(field, method, advice))
        };
        let suits = if method.is_tcp() {
            protocol.has_tcp()
        } else {
            matches!(protocol, Protocol::Udp | Protocol::TcpUdp)
        };
        if !suits {
            let other = if method.is_tcp() { "TCP" } else { "UDP" };
            return refuse(format!("is a method of {other}; the VIP has none"));
        }
        let before = &spec.server_ids[..position];
        if let Some(other) = before
            .iter()
            .find(|other| other.is_tcp() == method.is_tcp())
        {
            return refuse(format!(
                "{other} is another method of the same protocol; give one of them"
            ));
        }
    }
    let has_quic_lb = spec.server_ids.contains(&ServerIdMethod::QuicLb);
    if has_quic_lb && spec.quic_lb.is_empty() {
        return Err(Refusal::invalid(
            "spec.quic_lb",
            "nothing",
            "method quic-lb needs to know how connection ids are made; give the servers' configuration, such as 0:4:8",
        ));
    }
    for (position, config) in spec.quic_lb.iter().enumerate() {
        let field = format!("spec.quic_lb[{position}]");
        if !has_quic_lb {
            return Err(Refusal::invalid(
                field,
                config.config,
                "only method quic-lb reads it; give server_ids quic-lb, too",
            ));
        }
        if spec.quic_lb[..position]
            .iter()
            .any(|other| other.config == config.config)
        {
            return Err(Refusal::invalid(
                field,
                config.config,
                "another configuration has this number; give each its own",
            ));
        }
    }
    // What fits the method with the shortest ids fits all.
    let shortest = spec
        .quic_lb
        .iter()
        .map(|config| (config.id_bytes * 8, ServerIdMethod::QuicLb));
    let of_methods = spec
        .server_ids
        .iter()
        .filter_map(|method| method.bits().map(|bits| (bits, *method)));
    let shortest = shortest.chain(of_methods).min_by_key(|(bits, _)| *bits);
    let mut seen = BTreeMap::<ServerId, RealId>::new();
    for (real, id) in vip
        .reals
        .iter()
        .filter_map(|(real, of)| Some((real, of.spec.server_id?)))
    {
        let refuse = |advice: String| Err(Refusal::invalid("spec.server_id", id, advice));
        match shortest {
            None => {
                return refuse(format!(
                    "the VIP does not say where packets have the id that real {real} has; give it server_ids"
                ));
            }
            Some((bits, method)) if id.bits() > bits => {
                return refuse(format!(
                    "the id of real {real} is too large, method {method} has ids of {bits} bits here"
                ));
            }
            Some(_) => {}
        }
        if let Some(other) = seen.insert(id, *real) {
            return refuse(format!(
                "the reals {other} and {real} both have it; give each its own"
            ));
        }
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
    if rate > 0.0 && !vip.address.protocol.has_tcp() {
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
