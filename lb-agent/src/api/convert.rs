//! Between the messages of `lb.v1` and the agent's own types. A field of a request that is no value of its
//! type is refused by name.

use std::{
    borrow::Cow,
    net::IpAddr,
    time::{Duration, SystemTime},
};

use lb_common::limits::MAX_WEIGHT;
use lb_model::vip::{Protocol, VipKey};
use lb_proto::v1;

use crate::control::{RealState, RealView, VipView};
use crate::intent::Refusal;
use lb_model::options::{Forward, OnDown, Track};
use lb_model::ring::Algorithm;

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
pub fn vip_address(id: Option<v1::VipId>, fields: IdFields) -> Result<VipKey, Refusal> {
    let id = id.ok_or_else(|| {
        Refusal::invalid(
            fields.this,
            "not set",
            "name the VIP by address, port and protocol",
        )
    })?;
    let address = address(&id.address, fields.address)?;
    lb_model::vip::check_unicast(address)
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
    Ok(VipKey {
        address,
        port,
        protocol,
    })
}

/// A VIP's name where it may be left out.
pub fn optional_vip(
    id: Option<v1::VipId>,
    fields: IdFields,
) -> Result<Option<VipKey>, Refusal> {
    id.map(|id| vip_address(Some(id), fields)).transpose()
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
pub fn vip_id(vip: &VipKey) -> v1::VipId {
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
        RealState::Held => v1::RealState::Held,
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
            shed: Some(super::shedding::to_proto(&spec.shed)),
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
