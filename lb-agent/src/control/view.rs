//! VIPs and reals as they are: what is wanted with what is observed.

use std::{collections::HashMap, net::IpAddr, sync::Arc, time::SystemTime};

use lb_common::vip::VipAddress;

use super::service::Service;
use crate::{
    dataplane::{RealFlows, Track},
    intent::{RealSpec, Vip},
    steer::Effective,
};

/// Whether a real takes flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RealState {
    /// Takes new flows.
    Active,
    /// Takes no new flows, keeps the old ones: drained or of weight 0.
    Draining,
    /// Its next hop is not known: packets for it are dropped.
    Unreachable,
    /// Its checks fail: it takes no new flows, and the VIP says what becomes of the old ones.
    Down,
}

/// A real as it is.
#[derive(Clone, Debug, PartialEq)]
pub struct RealView {
    /// Its address.
    pub address: IpAddr,
    /// What is wanted of it.
    pub spec: RealSpec,
    /// What steering makes of its weight.
    pub effective_weight: u32,
    /// Whether it takes flows.
    pub state: RealState,
    /// Share of the ring, 0 to 1.
    pub share: f64,
    /// Live flows.
    pub flows: u64,
    /// Whether they were counted.
    pub flows_exact: bool,
    /// Entries of the flow table that name it.
    pub entries: u64,
    /// Since when it takes no new flows; none: it takes some.
    pub quiet_since: Option<SystemTime>,
}

/// A VIP as it is.
#[derive(Clone, Debug, PartialEq)]
pub struct VipView {
    /// What is wanted of it.
    pub vip: Arc<Vip>,
    /// Its reals, by address.
    pub reals: Vec<RealView>,
}

/// What the data plane last said of every real.
#[derive(Clone, Debug, Default)]
pub struct Observation(HashMap<(VipAddress, IpAddr), RealFlows>);

impl Observation {
    /// Of a real; a new one may not have been observed yet.
    #[must_use]
    pub fn get(&self, vip: VipAddress, real: IpAddr) -> Option<&RealFlows> {
        self.0.get(&(vip, real))
    }
}

impl FromIterator<RealFlows> for Observation {
    fn from_iter<I: IntoIterator<Item = RealFlows>>(reals: I) -> Self {
        Observation(
            reals
                .into_iter()
                .map(|real| ((real.vip, real.address), real))
                .collect(),
        )
    }
}

impl VipView {
    /// Puts both together.
    #[must_use]
    pub fn new(service: &Service, observed: &Observation) -> Self {
        let reals = (0..service.own)
            .filter_map(|position| RealView::new(service, position, observed))
            .collect();
        VipView {
            vip: Arc::clone(&service.vip),
            reals,
        }
    }

    /// One of its reals.
    #[must_use]
    pub fn real(&self, address: IpAddr) -> Option<&RealView> {
        self.reals.iter().find(|real| real.address == address)
    }
}

impl RealView {
    /// The real at this position of a service.
    pub(super) fn new(service: &Service, position: usize, observed: &Observation) -> Option<Self> {
        let address = *service.reals.get(position)?;
        let spec = service.vip.reals.get(&address)?.clone();
        let Effective { weight, up } = *service.effective.get(position)?;
        let share = *service.shares.get(position)?;
        let seen = observed.get(service.vip.address, address);
        // A real that has not been observed yet is not called unreachable.
        let state = match (weight, seen) {
            _ if !up => RealState::Down,
            (
                _,
                Some(RealFlows {
                    reachable: false, ..
                }),
            ) => RealState::Unreachable,
            (0, _) => RealState::Draining,
            _ => RealState::Active,
        };
        Some(RealView {
            address,
            spec,
            effective_weight: weight,
            state,
            share,
            flows: seen.map_or(0, |seen| seen.flows),
            flows_exact: seen.map_or(service.vip.spec.track == Track::All, |seen| seen.exact),
            entries: seen.map_or(0, |seen| seen.entries),
            quiet_since: *service.quiet_since.get(position)?,
        })
    }
}
