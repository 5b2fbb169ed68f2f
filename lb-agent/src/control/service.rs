//! One VIP as wanted → effective weights → ring → what the data plane is asked for. Pure.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use crate::{
    dataplane::{WantedService, WhenEmpty},
    intent::Vip,
    ring,
    steer::effective_weight,
};

/// A VIP with everything that follows from it.
#[derive(Clone, Debug)]
pub struct Service {
    /// What is wanted.
    pub vip: Arc<Vip>,
    /// Its reals, in the order of the ring's positions.
    pub reals: Vec<IpAddr>,
    /// Effective weight of each.
    pub weights: Vec<u32>,
    /// Share of the ring of each, 0 to 1.
    pub shares: Vec<f64>,
    /// For each slot a position in `reals`; empty if there is no real.
    pub ring: Arc<[u16]>,
}

impl Service {
    /// Computes the ring. `before` is the service as it was: its ring is taken if nothing it depends on
    /// has changed.
    #[must_use]
    pub fn new(vip: Arc<Vip>, seed: u64, before: Option<&Service>) -> Self {
        let pairs: Vec<(IpAddr, u32)> = vip
            .reals
            .iter()
            .map(|(address, real)| (*address, effective_weight(real)))
            .collect();
        let (reals, weights): (Vec<IpAddr>, Vec<u32>) = pairs.iter().copied().unzip();
        if let Some(before) = before
            && before.reals == reals
            && before.weights == weights
            && before.vip.spec.ring == vip.spec.ring
            && before.vip.slots() == vip.slots()
        {
            let Service { shares, ring, .. } = before.clone();
            return Service {
                vip,
                reals,
                weights,
                shares,
                ring,
            };
        }
        let ring: Arc<[u16]> = if reals.is_empty() {
            Arc::new([])
        } else {
            ring::build_shared(vip.spec.ring, seed, vip.slots(), &pairs)
        };
        let shares = ring::shares(&ring, reals.len());
        Service {
            vip,
            reals,
            weights,
            shares,
            ring,
        }
    }

    /// A VIP that is in no table: its reals have no share.
    #[must_use]
    pub fn without_ring(vip: Arc<Vip>) -> Self {
        let (reals, weights): (Vec<IpAddr>, Vec<u32>) = vip
            .reals
            .iter()
            .map(|(address, real)| (*address, effective_weight(real)))
            .unzip();
        let shares = vec![0.0; reals.len()];
        Service {
            vip,
            reals,
            weights,
            shares,
            ring: Arc::new([]),
        }
    }

    /// What the data plane is asked for.
    #[must_use]
    pub fn wanted(&self) -> WantedService {
        WantedService {
            vip: self.vip.address,
            forward: self.vip.spec.forward,
            track: self.vip.spec.track,
            window: self.vip.spec.window,
            reals: self.reals.clone(),
            down: BTreeMap::new(),
            ring: Arc::clone(&self.ring),
            when_empty: WhenEmpty::default(),
        }
    }
}
