//! A VIP's ring as it is, and what other weights would move.

use std::collections::BTreeMap;

use lb_common::limits::MAX_WEIGHT;
use lb_model::vip::{RealId, check_unicast};
use lb_proto::v1;
use tonic::Status;

use super::{
    Api, convert,
    error::{refused, unread},
};
use crate::control::Service;
use lb_model::intent::Refusal;
use lb_steering::ring;

impl Api {
    pub(super) async fn ring(&self, request: v1::GetRingRequest) -> Result<v1::Ring, Status> {
        let vip = convert::vip_key(request.id, convert::ID).map_err(refused)?;
        let what_if = weights(request.what_if).map_err(refused)?;
        let service = self.control.service(vip).await.map_err(unread)?;
        if what_if.is_empty() {
            return Ok(describe(
                &service,
                &service.reals,
                &service.weights(),
                &service.ring,
                0.0,
            ));
        }
        let seed = self.control.seed;
        // Building takes milliseconds: not on a thread that others wait for.
        tokio::task::spawn_blocking(move || preview(&service, what_if, seed))
            .await
            .map_err(|error| Status::internal(format!("computing the ring failed: {error}")))
    }
}

fn weights(what_if: Vec<v1::WhatIf>) -> Result<BTreeMap<RealId, u32>, Refusal> {
    let mut weights = BTreeMap::new();
    for (position, entry) in what_if.into_iter().enumerate() {
        let field = |name| format!("what_if[{position}].{name}");
        let address = convert::real_id(&entry.address, field("address"))?;
        check_unicast(address.address)
            .map_err(|error| Refusal::invalid(field("address"), address, error.to_string()))?;
        let weight = convert::weight(entry.weight, field("weight"))?;
        if weights.insert(address, weight).is_some() {
            return Err(Refusal::invalid(
                field("address"),
                address,
                "given twice, give each address once",
            ));
        }
    }
    Ok(weights)
}

/// The ring with other weights, and the share of slots that would change.
fn preview(service: &Service, what_if: BTreeMap<RealId, u32>, seed: u64) -> v1::Ring {
    let wanted = effective(service, &what_if);
    let spec = &service.vip.spec;
    let slots = spec.ring.fixed_slots().or(spec.slots);
    let slots = slots.unwrap_or_else(|| ring::default_slots(wanted.len()));
    let pairs: Vec<(RealId, u32)> = wanted.into_iter().collect();
    let (reals, weights): (Vec<RealId>, Vec<u32>) = pairs.iter().copied().unzip();
    let ring = ring::build(spec.ring, seed, slots, &pairs);
    let moved = ring::moved((&service.ring, &service.reals), (&ring, &reals));
    describe(service, &reals, &weights, &ring, moved)
}

/// The ring's weights if the operator's were these. Steering works in a unit of its own and keeps what it has found out:
/// twice the operator's weight is twice the ring's.
pub(super) fn effective(
    service: &Service,
    what_if: &BTreeMap<RealId, u32>,
) -> BTreeMap<RealId, u32> {
    let operators = |real: &RealId| service.vip.reals.get(real).map(|real| real.spec.weight);
    let mut weights: BTreeMap<RealId, f64> = service
        .reals
        .iter()
        .copied()
        .zip(service.weights().into_iter().map(f64::from))
        .collect();
    let (mut has, mut own) = (0.0, 0.0);
    for (real, weight) in &weights {
        if let Some(operators) = operators(real).filter(|_| *weight > 0.0) {
            has += weight;
            own += f64::from(operators);
        }
    }
    // The multiple of those that have nothing now, and of new ones.
    let usual = if own > 0.0 { has / own } else { 1.0 };
    for (real, weight) in what_if {
        let multiple = match (weights.get(real), operators(real)) {
            (Some(has), Some(own)) if *has > 0.0 && own > 0 => has / f64::from(own),
            _ => usual,
        };
        weights.insert(*real, f64::from(*weight) * multiple);
    }
    let most = weights.values().copied().fold(0.0, f64::max);
    let unit = (f64::from(MAX_WEIGHT) / most).min(1.0);
    let rounded = |weight: f64| {
        // At most MAX_WEIGHT; and what is not 0 stays so.
        let least = if weight > 0.0 { 1.0 } else { 0.0 };
        (weight * unit).round().max(least) as u32
    };
    weights
        .into_iter()
        .map(|(real, weight)| (real, rounded(weight)))
        .collect()
}

fn describe(
    service: &Service,
    reals: &[RealId],
    weights: &[u32],
    ring: &[u16],
    moved: f64,
) -> v1::Ring {
    let shares = ring::shares(ring, reals.len());
    v1::Ring {
        vip: Some(convert::vip_id(&service.vip.address)),
        algorithm: convert::ring_algorithm(service.vip.spec.ring).into(),
        // A ring has at most 65,537 slots.
        slots: u32::try_from(ring.len()).unwrap_or(u32::MAX),
        checksum: ring::checksum(ring, reals),
        moved,
        reals: reals
            .iter()
            .zip(weights)
            .zip(shares)
            .map(|((address, weight), share)| v1::RingReal {
                address: address.to_string(),
                weight: *weight,
                share,
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::SystemTime};

    use super::*;
    use crate::weights::{Steered, SteeredReal};
    use lb_model::intent::{Owner, Real, Vip, VipSpec};

    /// Steering has weights of its own; the request means the operator's.
    #[test]
    fn a_preview_is_in_the_operators_unit() {
        let real_id = |last: u8| RealId::from(std::net::IpAddr::from([10, 1, 0, last]));
        let name = "10.0.0.1:80/tcp".parse().unwrap();
        let real = |weight| SteeredReal { weight, up: true };
        let vip = Vip {
            reals: [2, 3].map(|last| (real_id(last), Real::default())).into(),
            ..Vip::new(name, Owner::Api, VipSpec::default())
        };
        let steered = Steered {
            reals: [(real_id(2), real(30_000)), (real_id(3), real(60_000))].into(),
        };
        let service = Service::new(
            Arc::new(vip),
            7,
            Some(&steered),
            Vec::new(),
            None,
            SystemTime::now(),
        );
        for (last, weight, expected) in [
            (2, 100, vec![30_000, 60_000]),
            (2, 200, vec![60_000, 60_000]),
            (2, 0, vec![0, 60_000]),
            // A new one is worth what the others are for their weight.
            (4, 100, vec![30_000, 60_000, 45_000]),
            // The greatest is as much as there may be, and what is not 0 stays so.
            (3, 1_000, vec![3_277, 65_535]),
            (3, 65_535, vec![50, 65_535]),
        ] {
            let weights = effective(&service, &[(real_id(last), weight)].into());
            let found: Vec<u32> = weights.into_values().collect();
            assert_eq!(found, expected, "{last}={weight}");
        }
    }
}
