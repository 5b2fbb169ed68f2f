//! From one VIP and its steered weights to effective weights, the ring and the service for the data plane. Pure.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Instant, SystemTime},
};

use super::view::RealState;
use crate::weights::{Effective, Steered, all_down, effective};
use lb_dataplane::{ServerIds, ServiceSpec, Terms};
use lb_model::intent::{Real, Vip, WhenEmpty};
use lb_model::{options::Forward, source_rule::SourceRule, vip::RealId};
use lb_steering::ring;

/// A VIP with everything that is derived from it.
#[derive(Clone, Debug)]
pub struct Service {
    /// The VIP.
    pub vip: Arc<Vip>,
    /// Its reals, sorted, then those of its fallback if it needs one: the order of the ring's positions.
    pub reals: Vec<RealId>,
    /// How many of `reals` are its own.
    pub own: usize,
    /// The forwarding modes of those that have one of their own.
    pub modes: BTreeMap<RealId, Forward>,
    /// What each gets.
    pub effective: Vec<Effective>,
    /// Share of the ring of each, 0 to 1.
    pub shares: Vec<f64>,
    /// Since when each takes no new flows; `None` if it takes some.
    pub quiet_since: Vec<Option<Instant>>,
    /// Since when each is in its state, its reachability aside.
    pub since: Vec<SystemTime>,
    /// For each slot a position in `reals`; empty if there is no real.
    pub ring: Arc<[u16]>,
    /// The VIP's rules about sources, shared with the data plane.
    source_rules: Arc<[SourceRule]>,
}

/// Reals that stand in when all of a VIP's own are dead.
pub type Fallback = Vec<StandIn>;

/// A real of another VIP that stands in.
#[derive(Clone, Copy, Debug)]
pub struct StandIn {
    /// Its name.
    pub id: RealId,
    /// Its weight.
    pub weight: u32,
    /// The forwarding mode that it has by itself; without one, packets reach it in the mode of the VIP that it stands in for.
    pub mode: Option<Forward>,
}

impl Service {
    /// Computes the ring. `before` is the service as it was: its ring is kept if nothing that it depends on has changed, a
    /// real that took no new flows has taken none since, and a real in the same state has been in it since. `now` dates
    /// the others.
    #[must_use]
    pub fn new(
        vip: Arc<Vip>,
        seed: u64,
        steered: Option<&Steered>,
        fallback: Fallback,
        before: Option<&Service>,
        now: SystemTime,
    ) -> Self {
        let Members {
            reals,
            own,
            modes,
            effective,
        } = members(&vip, steered, fallback);
        let source_rules = before
            .filter(|before| {
                Arc::ptr_eq(&before.vip, &vip)
                    || before.source_rules[..] == vip.spec.source_rules[..]
            })
            .map_or_else(
                || vip.spec.source_rules[..].into(),
                |before| Arc::clone(&before.source_rules),
            );
        let since = reals
            .iter()
            .zip(&effective)
            .map(|(real, effective)| {
                let wanted = vip.reals.get(real).map(|real| &real.spec);
                let state = RealState::of(*effective, wanted);
                before
                    .and_then(|before| before.since(*real, state))
                    .unwrap_or(now)
            })
            .collect();
        let same_weights = |before: &Service| {
            before.reals == reals
                && before
                    .effective
                    .iter()
                    .map(|real| real.weight)
                    .eq(effective.iter().map(|real| real.weight))
        };
        if let Some(before) = before
            && same_weights(before)
            && before.vip.spec.ring == vip.spec.ring
            && before.vip.slots() == vip.slots()
        {
            let Service {
                shares,
                quiet_since,
                ring,
                ..
            } = before.clone();
            return Service {
                vip,
                reals,
                own,
                modes,
                effective,
                shares,
                quiet_since,
                since,
                ring,
                source_rules,
            };
        }
        let pairs: Vec<(RealId, u32)> = reals
            .iter()
            .zip(&effective)
            .map(|(real, effective)| (*real, effective.weight))
            .collect();
        let ring: Arc<[u16]> = if reals.is_empty() {
            Arc::new([])
        } else {
            ring::build_shared(vip.spec.ring, seed, vip.slots(), &pairs)
        };
        let shares = ring::shares(&ring, reals.len());
        let quiet_since = reals
            .iter()
            .zip(&shares)
            .map(|(real, share)| {
                let since = || before.and_then(|before| before.quiet_since(*real));
                (*share <= 0.0).then(|| since().unwrap_or_else(Instant::now))
            })
            .collect();
        Service {
            vip,
            reals,
            own,
            modes,
            effective,
            shares,
            quiet_since,
            since,
            ring,
            source_rules,
        }
    }

    /// A VIP that is in no table: its reals have no share.
    #[must_use]
    pub fn without_ring(vip: Arc<Vip>, steered: Option<&Steered>, now: SystemTime) -> Self {
        let Members {
            reals,
            own,
            modes,
            effective,
        } = members(&vip, steered, Fallback::new());
        let shares = vec![0.0; reals.len()];
        Service {
            vip,
            reals,
            own,
            modes,
            effective,
            quiet_since: vec![None; shares.len()],
            since: vec![now; shares.len()],
            shares,
            ring: Arc::new([]),
            source_rules: Arc::default(),
        }
    }

    fn quiet_since(&self, real: RealId) -> Option<Instant> {
        *self.quiet_since.get(self.member(real)?)?
    }

    /// Since when a real is in this state; `None` if it is in another.
    fn since(&self, real: RealId, state: RealState) -> Option<SystemTime> {
        let position = self.member(real)?;
        let wanted = self.vip.reals.get(&real).map(|real| &real.spec);
        let same = RealState::of(*self.effective.get(position)?, wanted) == state;
        self.since.get(position).copied().filter(|_| same)
    }

    /// Position of a real that it has, its own or not.
    fn member(&self, real: RealId) -> Option<usize> {
        self.reals.iter().position(|other| *other == real)
    }

    /// Weight of each in the ring.
    #[must_use]
    pub fn weights(&self) -> Vec<u32> {
        self.effective.iter().map(|real| real.weight).collect()
    }

    /// Position of one of its own reals.
    #[must_use]
    pub fn position(&self, real: RealId) -> Option<usize> {
        self.reals.get(..self.own)?.binary_search(&real).ok()
    }

    /// By what packets name the reals. Those of a fallback have the ids of another VIP.
    fn server_ids(&self) -> ServerIds {
        let named = |real: &Real| real.spec.server_id;
        ServerIds {
            methods: self.vip.spec.server_ids.clone(),
            quic_lb: self.vip.spec.quic_lb.clone(),
            reals: self
                .vip
                .reals
                .iter()
                .filter_map(|(id, real)| Some((*id, named(real)?)))
                .collect(),
        }
    }

    /// The service for the data plane.
    #[must_use]
    pub fn wanted(&self) -> ServiceSpec {
        ServiceSpec {
            vip: self.vip.address,
            forward: self.vip.spec.forward,
            terms: Terms {
                ring: self.vip.spec.ring,
                hash: self.vip.spec.hash,
                modes: self.modes.clone(),
                source: self.vip.spec.source,
                when_empty: in_tables(self.vip.spec.when_empty),
                flow_limits: self.vip.spec.flow_limits.clone(),
                server_ids: self.server_ids(),
                source_rules: Arc::clone(&self.source_rules),
            },
            track: self.vip.spec.track,
            window: self.vip.window(),
            reals: self.reals.clone(),
            down: self
                .reals
                .iter()
                .zip(&self.effective)
                .filter(|(_, real)| !real.up)
                .map(|(address, _)| (*address, self.vip.spec.on_down))
                .collect(),
            ring: Arc::clone(&self.ring),
        }
    }
}

/// The reals of a service, as [`Service`] has them.
struct Members {
    reals: Vec<RealId>,
    own: usize,
    modes: BTreeMap<RealId, Forward>,
    effective: Vec<Effective>,
}

fn members(vip: &Vip, steered: Option<&Steered>, fallback: Fallback) -> Members {
    let (reals, found): (Vec<RealId>, Vec<Effective>) = vip
        .reals
        .iter()
        .map(|(id, real)| (*id, effective(*id, &real.spec, steered)))
        .unzip();
    let modes = vip.reals.iter();
    let modes = modes.filter_map(|(id, real)| Some((*id, real.spec.mode?)));
    let mut members = Members {
        own: reals.len(),
        modes: modes.collect(),
        reals,
        effective: found,
    };
    if all_down(vip, steered) {
        for StandIn { id, weight, mode } in fallback {
            let reached_by = mode.unwrap_or(vip.spec.forward);
            if !vip.reals.contains_key(&id) && vip.can_reach(id.address, reached_by) {
                members.reals.push(id);
                members.modes.extend(mode.map(|mode| (id, mode)));
                members.effective.push(Effective { weight, up: true });
            }
        }
    }
    members
}

/// What the data plane does without a real: a fallback's reals are in the ring.
const fn in_tables(when_empty: WhenEmpty) -> lb_dataplane::WhenEmpty {
    match when_empty {
        WhenEmpty::Drop | WhenEmpty::Fallback(_) => lb_dataplane::WhenEmpty::Drop,
        WhenEmpty::Reset => lb_dataplane::WhenEmpty::Reset,
    }
}
