//! Between the messages of `lb.v1` and the agent's own types. A field of a request that is no value of its
//! type is refused by name.

use std::{
    borrow::Cow,
    net::IpAddr,
    time::{Duration, SystemTime},
};

use lb_common::{
    limits::MAX_WEIGHT,
    vip::{Protocol, VipAddress},
};
use lb_proto::v1;

use crate::{
    control::{RealState, RealView, VipView},
    dataplane::{Forward, OnDown, Track},
    intent::{RealPatch, Refusal, VipPatch, change::Set},
    ring::Algorithm,
};

/// Names of the fields of a `VipId`, for the errors: `id` or `vip` in front.
#[derive(Clone, Copy, Debug)]
pub struct IdFields {
    this: &'static str,
    address: &'static str,
    port: &'static str,
    protocol: &'static str,
}

/// Of requests about a VIP.
pub const ID: IdFields = IdFields {
    this: "id",
    address: "id.address",
    port: "id.port",
    protocol: "id.protocol",
};
/// Of requests about a real.
pub const VIP: IdFields = IdFields {
    this: "vip",
    address: "vip.address",
    port: "vip.port",
    protocol: "vip.protocol",
};

/// A VIP's name.
pub fn vip_address(id: Option<v1::VipId>, fields: IdFields) -> Result<VipAddress, Refusal> {
    let id = id.ok_or_else(|| {
        Refusal::invalid(
            fields.this,
            "not set",
            "name the VIP by address, port and protocol",
        )
    })?;
    let address = address(&id.address, fields.address)?;
    lb_common::vip::check_unicast(address)
        .map_err(|error| Refusal::invalid(fields.address, address, error.to_string()))?;
    let port = u16::try_from(id.port).map_err(|_| {
        Refusal::invalid(
            fields.port,
            id.port,
            "out of range, give 1 to 65535, or 0 for any port",
        )
    })?;
    let protocol = match v1::Protocol::try_from(id.protocol) {
        Ok(v1::Protocol::Tcp) => Protocol::Tcp,
        Ok(v1::Protocol::Udp) => Protocol::Udp,
        Ok(v1::Protocol::Unspecified) => {
            return Err(Refusal::invalid(
                fields.protocol,
                "not set",
                "give PROTOCOL_TCP or PROTOCOL_UDP",
            ));
        }
        Err(_) => {
            return Err(Refusal::invalid(
                fields.protocol,
                id.protocol,
                "unknown, give PROTOCOL_TCP or PROTOCOL_UDP",
            ));
        }
    };
    Ok(VipAddress {
        address,
        port,
        protocol,
    })
}

/// A VIP's name where it may be left out.
pub fn optional_vip(id: Option<v1::VipId>) -> Result<Option<VipAddress>, Refusal> {
    id.map(|id| vip_address(Some(id), ID)).transpose()
}

/// The same where the request's field is `vip`.
pub fn optional_vip_named(id: Option<v1::VipId>) -> Result<Option<VipAddress>, Refusal> {
    id.map(|id| vip_address(Some(id), VIP)).transpose()
}

/// An address in text form.
pub fn address(text: &str, field: impl Into<Cow<'static, str>>) -> Result<IpAddr, Refusal> {
    text.parse().map_err(|_| {
        let value = if text.is_empty() { "not set" } else { text };
        Refusal::invalid(
            field,
            value,
            "not an IPv4 or IPv6 address, write 10.0.0.1 or 2001:db8::1",
        )
    })
}

fn forward(number: i32) -> Result<Option<Forward>, Refusal> {
    match v1::Forward::try_from(number) {
        Ok(v1::Forward::Unspecified) => Ok(None),
        Ok(v1::Forward::Ipip) => Ok(Some(Forward::Ipip)),
        Ok(v1::Forward::L2) => Ok(Some(Forward::L2)),
        Err(_) => Err(Refusal::invalid(
            "spec.forward",
            number,
            "unknown, give FORWARD_IPIP or FORWARD_L2",
        )),
    }
}

fn algorithm(number: i32) -> Result<Option<Algorithm>, Refusal> {
    match v1::RingAlgorithm::try_from(number) {
        Ok(v1::RingAlgorithm::Unspecified) => Ok(None),
        Ok(v1::RingAlgorithm::Rendezvous) => Ok(Some(Algorithm::Rendezvous)),
        Ok(v1::RingAlgorithm::Maglev) => Ok(Some(Algorithm::Maglev)),
        Err(_) => Err(Refusal::invalid(
            "spec.ring",
            number,
            "unknown, give RING_ALGORITHM_RENDEZVOUS or RING_ALGORITHM_MAGLEV",
        )),
    }
}

fn track(number: i32) -> Result<Option<Track>, Refusal> {
    match v1::Track::try_from(number) {
        Ok(v1::Track::Unspecified) => Ok(None),
        Ok(v1::Track::Exceptions) => Ok(Some(Track::Exceptions)),
        Ok(v1::Track::All) => Ok(Some(Track::All)),
        Err(_) => Err(Refusal::invalid(
            "spec.track",
            number,
            "unknown, give TRACK_EXCEPTIONS or TRACK_ALL",
        )),
    }
}

fn on_down(number: i32) -> Result<Option<OnDown>, Refusal> {
    match v1::OnDown::try_from(number) {
        Ok(v1::OnDown::Unspecified) => Ok(None),
        Ok(v1::OnDown::Rehash) => Ok(Some(OnDown::Rehash)),
        Ok(v1::OnDown::Reset) => Ok(Some(OnDown::Reset)),
        Ok(v1::OnDown::Keep) => Ok(Some(OnDown::Keep)),
        Err(_) => Err(Refusal::invalid(
            "spec.on_down",
            number,
            "unknown, give ON_DOWN_REHASH, ON_DOWN_RESET or ON_DOWN_KEEP",
        )),
    }
}

/// A time that is not negative.
pub fn duration(
    value: prost_types::Duration,
    field: impl Into<Cow<'static, str>>,
) -> Result<Duration, Refusal> {
    Duration::try_from(value).map_err(|_| {
        Refusal::invalid(
            field,
            format!("{} s {} ns", value.seconds, value.nanos),
            "not a positive time",
        )
    })
}

/// What of the set fields and the mask is to be changed; a field that the mask names and that is not set
/// gets its default.
struct Mask {
    paths: Option<Vec<String>>,
}

impl Mask {
    fn new(mask: Option<prost_types::FieldMask>, known: &[&str]) -> Result<Self, Refusal> {
        let paths = mask.map(|mask| mask.paths).unwrap_or_default();
        if let Some(unknown) = paths
            .iter()
            .find(|path| *path != "*" && !known.contains(&path.as_str()))
        {
            return Err(Refusal::invalid(
                "update_mask",
                unknown,
                format!(
                    "no field that can be changed, give some of: {}",
                    known.join(", ")
                ),
            ));
        }
        Ok(Mask {
            paths: (!paths.is_empty()).then_some(paths),
        })
    }

    fn set<T>(&self, path: &str, value: Option<T>) -> Option<Set<T>> {
        match &self.paths {
            None => value.map(Set::To),
            Some(paths) if paths.iter().any(|named| named == path || named == "*") => {
                Some(value.map_or(Set::Default, Set::To))
            }
            Some(_) => None,
        }
    }
}

fn optional<T, U>(
    value: Option<T>,
    convert: impl Fn(T) -> Result<Option<U>, Refusal>,
) -> Result<Option<U>, Refusal> {
    value.map_or(Ok(None), convert)
}

/// Fields of a VIP to change.
pub fn vip_patch(
    spec: Option<v1::VipSpec>,
    mask: Option<prost_types::FieldMask>,
) -> Result<VipPatch, Refusal> {
    let mask = Mask::new(
        mask,
        &[
            "forward",
            "ring",
            "track",
            "window",
            "slots",
            "check",
            "on_down",
            "when_empty",
            "load",
            "steering",
        ],
    )?;
    let spec = spec.unwrap_or_default();
    let sources = spec
        .load
        .into_iter()
        .enumerate()
        .map(|(position, source)| {
            super::load::from_proto(source, &format!("spec.load[{position}]"))
        })
        .collect::<Result<Vec<_>, _>>()?;
    Ok(VipPatch {
        forward: mask.set("forward", optional(spec.forward, forward)?),
        ring: mask.set("ring", optional(spec.ring, algorithm)?),
        track: mask.set("track", optional(spec.track, track)?),
        window: mask.set(
            "window",
            spec.window
                .map(|window| duration(window, "spec.window"))
                .transpose()?,
        ),
        slots: mask.set("slots", spec.slots),
        check: mask.set(
            "check",
            spec.check
                .map(|check| super::health::from_proto(check, "spec.check"))
                .transpose()?,
        ),
        on_down: mask.set("on_down", optional(spec.on_down, on_down)?),
        when_empty: mask.set(
            "when_empty",
            spec.when_empty
                .map(|text| {
                    text.parse().map_err(|advice: String| {
                        Refusal::invalid("spec.when_empty", &text, advice)
                    })
                })
                .transpose()?,
        ),
        load: mask.set("load", (!sources.is_empty()).then_some(sources)),
        steering: mask.set(
            "steering",
            spec.steering
                .map(|steering| super::steering::from_proto(steering, "spec.steering"))
                .transpose()?,
        ),
    })
}

/// Fields of a real to change.
pub fn real_patch(
    spec: Option<v1::RealSpec>,
    mask: Option<prost_types::FieldMask>,
) -> Result<RealPatch, Refusal> {
    let mask = Mask::new(mask, &["weight", "drained", "check", "load"])?;
    let spec = spec.unwrap_or_default();
    let changes = spec
        .load
        .into_iter()
        .enumerate()
        .map(|(position, change)| {
            super::load::override_from_proto(change, &format!("spec.load[{position}]"))
        })
        .collect::<Result<Vec<_>, _>>()?;
    Ok(RealPatch {
        weight: mask.set("weight", spec.weight),
        drained: mask.set("drained", spec.drained),
        check: mask.set(
            "check",
            spec.check
                .map(|check| super::health::override_from_proto(check, "spec.check"))
                .transpose()?,
        ),
        load: mask.set("load", (!changes.is_empty()).then_some(changes)),
    })
}

/// A change that names no field does nothing: the caller forgot one.
pub fn not_empty<P: Default + PartialEq>(patch: P) -> Result<P, Refusal> {
    if patch == P::default() {
        return Err(Refusal::invalid(
            "spec",
            "no field is set",
            "set those to change, or name them in update_mask",
        ));
    }
    Ok(patch)
}

/// A weight.
pub fn weight(weight: u32, field: impl Into<Cow<'static, str>>) -> Result<u32, Refusal> {
    if weight > MAX_WEIGHT {
        return Err(Refusal::invalid(
            field,
            weight,
            format!("out of range, give 0 to {MAX_WEIGHT}"),
        ));
    }
    Ok(weight)
}

/// How often to send something.
pub fn interval(interval: Option<prost_types::Duration>) -> Result<Duration, Refusal> {
    let range = Duration::from_millis(100)..=Duration::from_secs(3_600);
    let interval = match interval {
        Some(interval) => duration(interval, "interval")?,
        None => Duration::from_secs(1),
    };
    if !range.contains(&interval) {
        return Err(Refusal::invalid(
            "interval",
            format!("{interval:?}"),
            "out of range, give 100 ms to 1 h",
        ));
    }
    Ok(interval)
}

/// A VIP's name.
pub fn vip_id(vip: &VipAddress) -> v1::VipId {
    v1::VipId {
        address: vip.address.to_string(),
        port: u32::from(vip.port),
        protocol: match vip.protocol {
            Protocol::Tcp => v1::Protocol::Tcp,
            Protocol::Udp => v1::Protocol::Udp,
        }
        .into(),
    }
}

/// A ring's algorithm.
pub const fn ring_algorithm(algorithm: Algorithm) -> v1::RingAlgorithm {
    match algorithm {
        Algorithm::Rendezvous => v1::RingAlgorithm::Rendezvous,
        Algorithm::Maglev => v1::RingAlgorithm::Maglev,
    }
}

/// A real's state.
pub const fn real_state(state: RealState) -> v1::RealState {
    match state {
        RealState::Active => v1::RealState::Active,
        RealState::Draining => v1::RealState::Draining,
        RealState::Unreachable => v1::RealState::Unreachable,
        RealState::Down => v1::RealState::Down,
    }
}

/// A VIP as it is.
pub fn vip(view: &VipView) -> v1::Vip {
    let spec = &view.vip.spec;
    let forward = match spec.forward {
        Forward::Ipip => v1::Forward::Ipip,
        Forward::L2 => v1::Forward::L2,
    };
    let track = match spec.track {
        Track::Exceptions => v1::Track::Exceptions,
        Track::All => v1::Track::All,
    };
    let on_down = match spec.on_down {
        OnDown::Rehash => v1::OnDown::Rehash,
        OnDown::Reset => v1::OnDown::Reset,
        OnDown::Keep => v1::OnDown::Keep,
    };
    v1::Vip {
        id: Some(vip_id(&view.vip.address)),
        spec: Some(v1::VipSpec {
            forward: Some(forward.into()),
            ring: Some(ring_algorithm(spec.ring).into()),
            track: Some(track.into()),
            // Windows are 30 days at most, so they fit.
            window: prost_types::Duration::try_from(spec.window).ok(),
            slots: Some(view.vip.slots()),
            check: spec.check.as_ref().map(super::health::to_proto),
            on_down: Some(on_down.into()),
            when_empty: Some(spec.when_empty.to_string()),
            load: spec.load.iter().map(super::load::to_proto).collect(),
            steering: spec.steering.as_ref().map(super::steering::to_proto),
        }),
        reals: view.reals.iter().map(real).collect(),
    }
}

/// A real as it is.
pub fn real(view: &RealView) -> v1::Real {
    v1::Real {
        address: view.address.to_string(),
        spec: Some(v1::RealSpec {
            weight: Some(view.spec.weight),
            drained: Some(view.spec.drained),
            check: (view.spec.check != Default::default())
                .then(|| super::health::override_to_proto(&view.spec.check)),
            load: view
                .spec
                .load
                .iter()
                .map(super::load::override_to_proto)
                .collect(),
        }),
        effective_weight: view.effective_weight,
        state: real_state(view.state).into(),
        share: view.share,
        flows: view.flows,
        flows_exact: view.flows_exact,
    }
}

/// A moment.
pub fn timestamp(time: SystemTime) -> prost_types::Timestamp {
    time.into()
}
