//! Converts between the messages of `lb.v1` and the agent's own types. A field of a request that cannot have its value is
//! refused by name.

use std::{
    net::IpAddr,
    time::{Duration, SystemTime},
};

use lb_common::limits::MAX_WEIGHT;
use lb_model::{
    check::CheckOverride,
    intent::{RealSpec, Refusal, VipSpec},
    ring::Algorithm,
    settings::{Map, Settings as _, Value},
    vip::{AddressError, RealId, VipKey},
};
use lb_proto::v1;
use prost::{Message, Name};

use crate::{
    KINDS,
    control::{RealState, RealView, VipView},
};

/// Names of the fields of a `VipId`, for the errors: `id` or `vip` in front.
#[derive(Clone, Copy, Debug)]
pub struct IdFields {
    this: &'static str,
    address: &'static str,
    port: &'static str,
    protocol: &'static str,
    prefix_length: &'static str,
    last_port: &'static str,
}

/// The names in requests about a VIP.
pub const ID: IdFields = IdFields {
    this: "id",
    address: "id.address",
    port: "id.port",
    protocol: "id.protocol",
    prefix_length: "id.prefix_length",
    last_port: "id.last_port",
};
/// The names in requests about a real.
pub const VIP: IdFields = IdFields {
    this: "vip",
    address: "vip.address",
    port: "vip.port",
    protocol: "vip.protocol",
    prefix_length: "vip.prefix_length",
    last_port: "vip.last_port",
};

/// A VIP's name.
pub fn vip_key(id: Option<v1::VipId>, fields: IdFields) -> Result<VipKey, Refusal> {
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
    let unknown = |value: String| {
        Refusal::invalid(
            fields.protocol,
            value,
            "give PROTOCOL_TCP, PROTOCOL_UDP, PROTOCOL_SCTP or PROTOCOL_TCP_UDP",
        )
    };
    let protocol = match v1::Protocol::try_from(id.protocol) {
        Ok(protocol) => {
            lb_proto::vip::protocol_of(protocol).ok_or_else(|| unknown("not set".to_owned()))?
        }
        Err(_) => return Err(unknown(id.protocol.to_string())),
    };
    if id.port > u32::from(u16::MAX) {
        return Err(Refusal::invalid(
            fields.port,
            id.port,
            "out of range, give 1 to 65535, or 0 for any port",
        ));
    }
    lb_proto::vip::vip_key(address, &id, protocol).map_err(|error| {
        let (field, value) = match error {
            AddressError::Ports => (fields.last_port, id.last_port),
            _ => (fields.prefix_length, id.prefix_length),
        };
        Refusal::invalid(field, value, error.to_string())
    })
}

/// A VIP's name where it may be left out.
pub fn optional_vip(id: Option<v1::VipId>, fields: IdFields) -> Result<Option<VipKey>, Refusal> {
    id.map(|id| vip_key(Some(id), fields)).transpose()
}

/// An address in text form.
pub fn address(text: &str, field: impl Into<String>) -> Result<IpAddr, Refusal> {
    text.parse().map_err(|_| {
        let value = if text.is_empty() { "not set" } else { text };
        Refusal::invalid(
            field,
            value,
            "not an IPv4 or IPv6 address, write 10.0.0.1 or 2001:db8::1",
        )
    })
}

/// A real's name in text form.
pub fn real_id(text: &str, field: impl Into<String>) -> Result<RealId, Refusal> {
    match text.parse() {
        Ok(id) => Ok(id),
        Err(_) => address(text, field).map(RealId::from),
    }
}

/// A time that is not negative.
pub fn duration(
    value: prost_types::Duration,
    field: impl Into<String>,
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
pub fn weight(weight: u32, field: impl Into<String>) -> Result<u32, Refusal> {
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
    lb_proto::vip::vip_id(vip)
}

/// A ring's algorithm.
pub const fn ring_algorithm(algorithm: Algorithm) -> v1::RingAlgorithm {
    match algorithm {
        Algorithm::Rendezvous => v1::RingAlgorithm::Rendezvous,
        Algorithm::Maglev => v1::RingAlgorithm::Maglev,
        Algorithm::MaglevKatran => v1::RingAlgorithm::MaglevKatran,
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
    let vip = &view.vip;
    let mut spec = vip.spec.to_map();
    // Defaults that depend on the VIP.
    let window = lb_model::duration::format(vip.window());
    spec.insert("window".to_owned(), window.into());
    spec.insert("slots".to_owned(), vip.slots().into());
    if let Some(Value::Object(steering)) = spec.get_mut("steering") {
        KINDS
            .controllers
            .remove_expert_defaults::<lb_model::steering::Steering>(steering);
    }
    v1::Vip {
        id: Some(vip_id(&vip.address)),
        spec: Some(spec_message::<_, VipSpec>(&spec)),
        reals: view.reals.iter().map(real).collect(),
        owner: vip.owner.to_string(),
        revision: vip.revision,
    }
}

/// A real as it is.
pub fn real(view: &RealView) -> v1::Real {
    let mut spec = view.spec.to_map();
    if view.spec.check == CheckOverride::default() {
        spec.remove("check");
    }
    v1::Real {
        address: view.address.to_string(),
        spec: Some(spec_message::<_, RealSpec>(&spec)),
        effective_weight: view.effective_weight,
        state: real_state(view.state).into(),
        share: view.share,
        flows: view.flows,
        flows_exact: view.flows_exact,
        owner: view.owner.to_string(),
    }
}

/// Settings as their message.
fn spec_message<M: Message + Name + Default, T: lb_model::settings::Settings>(
    spec: &Map<String, Value>,
) -> M {
    // The tests of lb-proto see to it that there is a field for every setting and a value for every choice.
    lb_proto::settings::from_map(spec, &T::fields()).unwrap_or_else(|error| {
        tracing::error!("settings that the API cannot express: {error}");
        M::default()
    })
}

/// A moment.
pub fn timestamp(time: SystemTime) -> prost_types::Timestamp {
    time.into()
}
