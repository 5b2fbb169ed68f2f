//! VIPs and reals as they are: the intent together with the observations.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Instant, SystemTime},
};

use lb_model::vip::{RealId, VipKey};

use super::service::Service;
use crate::weights::Effective;
use lb_dataplane::RealFlows;
use lb_model::intent::{Owner, Real, RealSpec, Vip};
use lb_model::options::Track;

/// Whether a real takes flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RealState {
    /// Takes new flows.
    Active,
    /// Takes no new flows, keeps the old ones: drained or of weight 0.
    Draining,
    /// Takes no new flows although the operator gives it weight: steering has a reason, or has not seen it yet.
    Held,
    /// Its next hop is not known: packets for it are dropped.
    Unreachable,
    /// Its checks fail: it takes no new flows, and the VIP says what becomes of the old ones.
    Down,
}

impl RealState {
    /// The state of a real that can be reached. `wanted` is `None` if it belongs to another VIP, and stands in.
    #[must_use]
    pub fn of(effective: Effective, wanted: Option<&RealSpec>) -> Self {
        let takes = |wanted: &RealSpec| wanted.weight > 0 && !wanted.drained;
        match effective {
            Effective { up: false, .. } => RealState::Down,
            Effective { weight: 0, .. } if wanted.is_some_and(takes) => RealState::Held,
            Effective { weight: 0, .. } => RealState::Draining,
            Effective { .. } => RealState::Active,
        }
    }
}

/// A real as it is.
#[derive(Clone, Debug, PartialEq)]
pub struct RealView {
    /// Its address.
    pub address: RealId,
    /// To whom it belongs.
    pub owner: Owner,
    /// Its settings.
    pub spec: RealSpec,
    /// What steering makes of its weight.
    pub effective_weight: u32,
    /// Whether it takes flows.
    pub state: RealState,
    /// Since when, as far as this agent knows: not before it started.
    pub since: SystemTime,
    /// Share of the ring, 0 to 1.
    pub share: f64,
    /// Live flows.
    pub flows: u64,
    /// Whether they were counted.
    pub flows_exact: bool,
    /// Entries of the flow table that name it.
    pub entries: u64,
    /// Since when it takes no new flows; `None` if it takes some.
    pub quiet_since: Option<Instant>,
}

/// A VIP as it is.
#[derive(Clone, Debug, PartialEq)]
pub struct VipView {
    /// Its settings and reals.
    pub vip: Arc<Vip>,
    /// Its reals, by address.
    pub reals: Vec<RealView>,
}

/// The last report of the data plane on every real.
#[derive(Clone, Debug, Default)]
pub struct Observation(HashMap<(VipKey, RealId), Observed>);

/// The report on one real.
#[derive(Clone, Debug)]
struct Observed {
    flows: RealFlows,
    /// When its reachability last changed; `None` if it is as it was first observed.
    changed: Option<SystemTime>,
}

impl Observation {
    /// The observation that follows this one at `now`.
    #[must_use]
    pub fn next(&self, reals: Vec<RealFlows>, now: SystemTime) -> Self {
        let observed = |flows: RealFlows| {
            let key = (flows.vip, flows.real);
            let changed = match self.0.get(&key) {
                Some(before) if before.flows.reachable == flows.reachable => before.changed,
                Some(_) => Some(now),
                None => None,
            };
            (key, Observed { flows, changed })
        };
        Observation(reals.into_iter().map(observed).collect())
    }

    /// The flows of a real; a new one may not have been observed yet.
    #[must_use]
    pub fn get(&self, vip: VipKey, real: RealId) -> Option<&RealFlows> {
        self.0.get(&(vip, real)).map(|seen| &seen.flows)
    }

    /// When a real's reachability changed.
    fn changed(&self, vip: VipKey, real: RealId) -> Option<SystemTime> {
        self.0.get(&(vip, real))?.changed
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
    pub fn real(&self, address: RealId) -> Option<&RealView> {
        self.reals.iter().find(|real| real.address == address)
    }
}

impl RealView {
    /// The real at this position of a service.
    pub(super) fn new(service: &Service, position: usize, observed: &Observation) -> Option<Self> {
        let address = *service.reals.get(position)?;
        let Real { owner, spec } = service.vip.reals.get(&address)?.clone();
        let effective = *service.effective.get(position)?;
        let share = *service.shares.get(position)?;
        let seen = observed.get(service.vip.address, address);
        // A real that has not been observed yet is not called unreachable.
        let reachable = seen.is_none_or(|seen| seen.reachable);
        let since = *service.since.get(position)?;
        let (state, since) = match RealState::of(effective, Some(&spec)) {
            RealState::Down => (RealState::Down, since),
            state => (
                if reachable {
                    state
                } else {
                    RealState::Unreachable
                },
                observed
                    .changed(service.vip.address, address)
                    .map_or(since, |changed| changed.max(since)),
            ),
        };
        Some(RealView {
            address,
            owner,
            spec,
            effective_weight: effective.weight,
            state,
            since,
            share,
            flows: seen.map_or(0, |seen| seen.flows),
            flows_exact: seen.map_or(service.vip.spec.track == Track::All, |seen| seen.exact),
            entries: seen.map_or(0, |seen| seen.entries),
            quiet_since: *service.quiet_since.get(position)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use super::*;
    use crate::weights::{Steered, SteeredReal};
    use lb_model::intent::VipSpec;

    fn vip(drained: bool) -> Arc<Vip> {
        let real = RealSpec {
            drained,
            ..RealSpec::default()
        };
        let name = "10.0.0.1:80/tcp".parse().unwrap();
        Arc::new(Vip {
            reals: BTreeMap::from([(real_address(), real.into())]),
            ..Vip::new(name, Owner::Api, VipSpec::default())
        })
    }

    fn real_address() -> RealId {
        "10.1.0.2".parse().unwrap()
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    /// What is observed, as the owner keeps it.
    #[derive(Default)]
    struct Seen {
        service: Option<Service>,
        observed: Observation,
    }

    impl Seen {
        fn ordered(&mut self, vip: Arc<Vip>, up: bool, now: u64) {
            let steered = Steered {
                reals: BTreeMap::from([(real_address(), SteeredReal { weight: 100, up })]),
            };
            let before = self.service.take();
            let service =
                Service::new(vip, 7, Some(&steered), Vec::new(), before.as_ref(), at(now));
            self.service = Some(service);
        }

        fn reached(&mut self, reachable: bool, now: u64) {
            let flows = RealFlows {
                vip: vip(false).address,
                real: real_address(),
                flows: 0,
                exact: false,
                entries: 0,
                reachable,
            };
            self.observed = self.observed.next(vec![flows], at(now));
        }

        fn state(&self) -> (RealState, u64) {
            let service = self.service.as_ref().unwrap();
            let real = RealView::new(service, 0, &self.observed).unwrap();
            let since = real.since.duration_since(SystemTime::UNIX_EPOCH).unwrap();
            (real.state, since.as_secs())
        }
    }

    #[test]
    fn a_state_is_dated_from_when_it_began() {
        let mut seen = Seen::default();
        seen.ordered(vip(false), true, 1);
        seen.reached(true, 2);
        assert_eq!(seen.state(), (RealState::Active, 1));
        seen.ordered(vip(false), true, 3);
        assert_eq!(seen.state(), (RealState::Active, 1));
        seen.ordered(vip(true), true, 4);
        assert_eq!(seen.state(), (RealState::Draining, 4));
        // The weight stays 0, the state does not.
        seen.ordered(vip(true), false, 5);
        assert_eq!(seen.state(), (RealState::Down, 5));
        seen.reached(false, 6);
        assert_eq!(seen.state(), (RealState::Down, 5));
        seen.ordered(vip(true), true, 7);
        assert_eq!(seen.state(), (RealState::Unreachable, 7));
        seen.reached(true, 8);
        assert_eq!(seen.state(), (RealState::Draining, 8));
        seen.ordered(vip(false), true, 9);
        seen.reached(true, 10);
        assert_eq!(seen.state(), (RealState::Active, 9));
    }

    #[test]
    fn who_could_never_be_reached_is_so_from_the_start() {
        let mut seen = Seen::default();
        seen.ordered(vip(false), true, 1);
        seen.reached(false, 2);
        assert_eq!(seen.state(), (RealState::Unreachable, 1));
    }
}
