//! Requests that change a VIP or a real → the fields to change.

use lb_proto::v1;

use super::{convert::duration, health, load, shedding, steering};
use crate::intent::{RealPatch, Refusal, VipPatch, change::Set};
use lb_model::options::{Forward, OnDown, Track};
use lb_model::ring::Algorithm;

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
            "shed",
        ],
    )?;
    let spec = spec.unwrap_or_default();
    let sources = spec
        .load
        .into_iter()
        .enumerate()
        .map(|(position, source)| load::from_proto(source, &format!("spec.load[{position}]")))
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
                .map(|check| health::from_proto(check, "spec.check"))
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
                .map(|steering| steering::from_proto(steering, "spec.steering"))
                .transpose()?,
        ),
        shed: mask.set(
            "shed",
            spec.shed
                .map(|by| shedding::from_proto(by, "spec.shed"))
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
            load::override_from_proto(change, &format!("spec.load[{position}]"))
        })
        .collect::<Result<Vec<_>, _>>()?;
    Ok(RealPatch {
        weight: mask.set("weight", spec.weight),
        drained: mask.set("drained", spec.drained),
        check: mask.set(
            "check",
            spec.check
                .map(|check| health::override_from_proto(check, "spec.check"))
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
