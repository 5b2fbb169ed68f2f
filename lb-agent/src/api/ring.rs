//! A VIP's ring as it is, and what other weights would move.

use std::{collections::BTreeMap, net::IpAddr};

use lb_common::vip::check_unicast;
use lb_proto::v1;
use tonic::Status;

use super::{
    Api, convert,
    error::{refused, unread},
};
use crate::{control::Service, intent::Refusal, ring};

impl Api {
    pub(super) async fn ring(&self, request: v1::GetRingRequest) -> Result<v1::Ring, Status> {
        let vip = convert::vip_address(request.id, convert::ID).map_err(refused)?;
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

fn weights(what_if: Vec<v1::WhatIf>) -> Result<BTreeMap<IpAddr, u32>, Refusal> {
    let mut weights = BTreeMap::new();
    for (position, entry) in what_if.into_iter().enumerate() {
        let field = |name| format!("what_if[{position}].{name}");
        let address = convert::address(&entry.address, field("address"))?;
        check_unicast(address)
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
fn preview(service: &Service, what_if: BTreeMap<IpAddr, u32>, seed: u64) -> v1::Ring {
    let mut wanted: BTreeMap<IpAddr, u32> = service
        .reals
        .iter()
        .copied()
        .zip(service.weights())
        .collect();
    wanted.extend(what_if);
    let slots = service
        .vip
        .spec
        .slots
        .unwrap_or_else(|| ring::default_slots(wanted.len()));
    let pairs: Vec<(IpAddr, u32)> = wanted.into_iter().collect();
    let (reals, weights): (Vec<IpAddr>, Vec<u32>) = pairs.iter().copied().unzip();
    let ring = ring::build(service.vip.spec.ring, seed, slots, &pairs);
    let moved = ring::moved((&service.ring, &service.reals), (&ring, &reals));
    describe(service, &reals, &weights, &ring, moved)
}

fn describe(
    service: &Service,
    reals: &[IpAddr],
    weights: &[u32],
    ring: &[u16],
    moved: f64,
) -> v1::Ring {
    let shares = ring::shares(ring, reals.len());
    v1::Ring {
        vip: Some(convert::vip_id(&service.vip.address)),
        algorithm: convert::ring_algorithm(service.vip.spec.ring).into(),
        // A ring has at most 65,536 slots.
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
