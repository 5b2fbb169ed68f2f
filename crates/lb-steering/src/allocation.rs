//! Allocates new flows: from the controller's shares to the weights that apply now.

use std::time::Duration;

use super::{
    Steering,
    controllers::Basis,
    decision::LimitedBy,
    learning::MOST_UNKEPT,
    movement::{self, Move},
    pool::{Member, operator_shares, scarcest_resource},
    rebalancing::{Holding, MAX_INFERRED_MULTIPLE, rebalancing_multiple},
    shares,
    shedding::{self, ShedCandidate},
    storm,
    verdict::Safety,
    vip_steering::VipSteering,
};

/// A pool is uneven if a real's strain is this multiple of the mean; then more of the ring may move.
const UNEVEN: f64 = 1.10;
/// A share that falls below this fraction of itself in a period counts as lowered.
const LOWERED: f64 = 0.97;
/// Slow-start factors count as equal down to this ratio.
const EQUAL_RAMP: f64 = 0.98;
/// A share counts as at its ceiling from this fraction of it on.
const AT_CEILING: f64 = 0.995;
/// A share may exceed the operator's by this fraction of it: rounding.
const TOLERANCE: f64 = 1e-9;
/// The factor of its share that a real keeps when a resource is used up.
const MIN_RESOURCE_FACTOR: f64 = 0.05;

/// What is allocated to an eligible real.
struct Allocated {
    /// Its index in the pool.
    index: usize,
    /// The share of new flows in steady state.
    steady_share: f64,
    /// The share of new flows now, ramp factors aside.
    wanted_share: f64,
    /// Whether a bound on the steady share applies.
    at_bound: bool,
    /// Whether its loan bounds the steady share.
    at_ceiling: bool,
}

/// Shares of new flows with the ramp factors applied.
fn ramped_shares(allocated: &[Allocated], pool: &[Member<'_>]) -> Vec<f64> {
    let ramped = allocated
        .iter()
        .map(|one| one.wanted_share * pool[one.index].state.ramp_factor);
    shares::normalised(ramped.collect())
}

/// The factor of its share that a real keeps when this fraction of its scarcest resource is used.
fn resource_factor(settings: &Steering, used: f64) -> f64 {
    let span = (settings.guard_full - settings.guard_from).max(f64::EPSILON);
    (1.0 - (used - settings.guard_from) / span).clamp(MIN_RESOURCE_FACTOR, 1.0)
}

impl VipSteering {
    /// Allocates shares to the eligible reals and moves their weights towards them.
    pub(super) fn allocate(&mut self, now: Duration, pool: &mut [Member<'_>]) {
        let eligible: Vec<usize> = (0..pool.len())
            .filter(|index| pool[*index].is_eligible())
            .collect();
        if eligible.is_empty() {
            return;
        }
        let worth = self.controller().worth(pool);
        let basis = self.controller().basis(&self.context(now), pool);
        let worth_shares = shares::normalised(eligible.iter().map(|index| worth[*index]).collect());
        let (steady_shares, bounds, wanted_shares, uneven) = if basis == Basis::Measured {
            let (steady, bounds) = self.steady_shares(now, pool, &eligible, worth_shares);
            let (wanted, uneven) = self.wanted_shares(now, pool, &eligible, &steady);
            (steady, bounds, wanted, uneven)
        } else {
            let unbounded = vec![(false, false); eligible.len()];
            (worth_shares.clone(), unbounded, worth_shares, false)
        };
        self.plan_shedding(pool, &worth);
        let allocated: Vec<Allocated> = eligible
            .iter()
            .zip(steady_shares.iter().zip(&wanted_shares).zip(bounds))
            .map(
                |(index, ((steady_share, wanted_share), (at_bound, at_ceiling)))| Allocated {
                    index: *index,
                    steady_share: *steady_share,
                    wanted_share: *wanted_share,
                    at_bound,
                    at_ceiling,
                },
            )
            .collect();
        self.apply_ramps(now, pool, &allocated);
        match basis {
            Basis::Prescribed => apply_worth(pool, &allocated, &worth),
            Basis::Unmeasured => {
                // The weights of the previous agent hold until there are readings.
                if pool.iter().all(|member| member.state.resumed.is_none()) {
                    apply_worth(pool, &allocated, &worth);
                }
            }
            Basis::Measured => self.approach(now, pool, &allocated, uneven),
        }
    }

    /// The shares in steady state, by the controller's law and within the bounds on shares and the loans; and which
    /// are at a bound, and which at the ceiling of their loan.
    fn steady_shares(
        &self,
        now: Duration,
        pool: &[Member<'_>],
        eligible: &[usize],
        worth_shares: Vec<f64>,
    ) -> (Vec<f64>, Vec<(bool, bool)>) {
        let members: Vec<&Member<'_>> = eligible.iter().map(|index| &pool[*index]).collect();
        let operator_weights = members.iter().map(|member| member.operator_weight());
        let operator_shares = shares::normalised(operator_weights.collect());
        let context = self.context(now);
        let allocated =
            self.controller()
                .allocate(&context, &members, worth_shares, &operator_shares);
        let (bounded, at_bound) = shares::bounded(&self.settings, allocated, &operator_shares);
        let least: Vec<f64> = operator_shares
            .iter()
            .map(|share| share * self.settings.least_share)
            .collect();
        let ceilings: Vec<f64> = operator_shares
            .iter()
            .zip(&members)
            .map(|(share, member)| share * self.ceiling(member))
            .collect();
        let lent = shares::within(&bounded, &least, &ceilings);
        let bounds = at_bound
            .into_iter()
            .zip(lent.iter().zip(&bounded).zip(&ceilings))
            .map(|(at_bound, ((lent, asked), ceiling))| {
                let at_ceiling = *lent >= ceiling * AT_CEILING && *asked > *lent;
                (at_bound, at_ceiling)
            })
            .collect();
        (lent, bounds)
    }

    /// The highest multiple of the operator's share that a real may have.
    fn ceiling(&self, member: &Member<'_>) -> f64 {
        match self.safety {
            Safety::OperatorWeights { .. } => 1.0,
            Safety::Normal => member.state.loan.ceiling(),
        }
    }

    /// The highest multiple of the operator's share of new flows that a real may have while connections are evened out.
    /// Where nothing shows how it serves them, it may still make up for what it lacks, slowly.
    fn flow_ceiling(&self, member: &Member<'_>) -> f64 {
        let ceiling = self.ceiling(member);
        let is_held = member.state.loan.held_for().is_some() || self.safety != Safety::Normal;
        if is_held {
            ceiling
        } else if member.state.traffic.is_inferred() {
            ceiling.max(MAX_INFERRED_MULTIPLE)
        } else {
            ceiling.max(MOST_UNKEPT)
        }
    }

    /// Takes what reals in trouble have beyond the operator's share at once, and gives it to those below theirs. That
    /// needs no bound on movement: it is what the operator would give. Whatever the controller is, its weights pass
    /// through here.
    pub(super) fn call_in_loans(&self, pool: &mut [Member<'_>]) {
        let due = operator_shares(pool);
        let all: f64 = pool.iter().map(|member| member.state.weight).sum();
        let is_held = |member: &Member<'_>| {
            self.safety != Safety::Normal || member.state.loan.held_for().is_some()
        };
        let shares: Vec<f64> = pool
            .iter()
            .map(|member| member.state.weight / all)
            .collect();
        let exceeds = |((member, share), due): ((&Member<'_>, &f64), &f64)| {
            is_held(member) && *share > due * (1.0 + TOLERANCE)
        };
        if all <= 0.0 || !pool.iter().zip(&shares).zip(&due).any(exceeds) {
            return;
        }
        let most: Vec<f64> = pool
            .iter()
            .zip(shares.iter().zip(&due))
            .map(|(member, (share, due))| {
                if is_held(member) {
                    *due
                } else {
                    share.max(*due)
                }
            })
            .collect();
        let none = vec![0.0; pool.len()];
        let after = shares::within(&shares, &none, &most);
        for (member, share) in pool.iter_mut().zip(after) {
            member.state.weight = share * all;
        }
    }

    /// The shares of new flows that lead to the steady shares, which differ from them while connections are
    /// rebalanced. Also returns whether any real is being rebalanced.
    fn wanted_shares(
        &self,
        now: Duration,
        pool: &mut [Member<'_>],
        eligible: &[usize],
        steady_shares: &[f64],
    ) -> (Vec<f64>, bool) {
        let controller = self.controller();
        let connections: Vec<Option<f64>> = eligible
            .iter()
            .map(|index| pool[*index].state.traffic.connections())
            .collect();
        if !self.counts_connections
            || !controller.rebalances(&self.context(now))
            || connections.iter().all(Option::is_none)
        {
            return (steady_shares.to_vec(), false);
        }
        // A real that never had a flow has no connections.
        let connections: Vec<f64> = connections
            .iter()
            .map(|count| count.unwrap_or(0.0))
            .collect();
        let total: f64 = connections.iter().sum();
        let life = self.life.seconds(&self.settings);
        let operator_weights = eligible.iter().map(|index| pool[*index].operator_weight());
        let operator_shares = shares::normalised(operator_weights.collect());
        let mut uneven = false;
        let mut ceilings = Vec::new();
        let mut wanted = Vec::new();
        for (((index, share), connections), due) in eligible
            .iter()
            .zip(steady_shares)
            .zip(connections)
            .zip(operator_shares)
        {
            let ceiling = self.flow_ceiling(&pool[*index]);
            let state = &mut pool[*index].state;
            let holding = Holding {
                share: *share,
                connections,
                uncertainty: controller.uncertainty(&self.settings, state),
                rebalancing: state.rebalancing,
                inferred: state.traffic.is_inferred(),
            };
            let multiple_of = |holding| rebalancing_multiple(&self.settings, holding, total, life);
            let (multiple, rebalancing) = multiple_of(holding);
            // What a real lacks of the operator's share is not lent.
            let (restoring, _) = multiple_of(Holding {
                share: due,
                ..holding
            });
            state.rebalancing = rebalancing;
            uneven |= rebalancing;
            let is_held = state.loan.held_for().is_some() || self.safety != Safety::Normal;
            let ceiling = if is_held {
                ceiling
            } else {
                ceiling.max(restoring)
            };
            ceilings.push(due * ceiling);
            wanted.push(share * multiple);
        }
        let none = vec![0.0; eligible.len()];
        let wanted = shares::within(&shares::normalised(wanted), &none, &ceilings);
        (wanted, uneven)
    }

    /// Sets each real's ramp factor, from slow start, scarce resources and overload, and what limits its weight.
    fn apply_ramps(&self, now: Duration, pool: &mut [Member<'_>], allocated: &[Allocated]) {
        let settings = &self.settings;
        let controller = self.controller();
        let context = self.context(now);
        // A scarce resource counts as scarce until a reading says otherwise, or readings are missing for long.
        let max_age = settings.stale_after().max(settings.fade_after);
        // If all are equally far in slow start, it limits none of them.
        let furthest = allocated
            .iter()
            .map(|one| pool[one.index].state.eligibility.slow_start(settings, now))
            .fold(0.0, f64::max);
        let least_ramp = storm::least_ramp(settings, now, pool);
        for one in allocated {
            let member = &mut pool[one.index];
            let slow_start = member.state.eligibility.slow_start(settings, now);
            let slow_start = slow_start.max(least_ramp);
            let (resource, overload) = if controller.reacts_to_load() {
                let used = scarcest_resource(&member.observation.load, max_age);
                (
                    resource_factor(settings, used),
                    member.state.overload.factor,
                )
            } else {
                (1.0, 1.0)
            };
            let held = member.state.loan.held_for();
            member.state.limited_by = if let Safety::OperatorWeights { reason, .. } = self.safety {
                Some(LimitedBy::OperatorWeights(reason))
            } else if let Some((sign, left)) = held {
                Some(LimitedBy::Sign(sign, left))
            } else if overload < 1.0 {
                Some(LimitedBy::Overload(overload))
            } else if resource < 1.0 {
                Some(LimitedBy::ScarceResource(resource))
            } else if slow_start < furthest * EQUAL_RAMP {
                Some(LimitedBy::SlowStart(slow_start))
            } else if !controller.suits(&context) {
                Some(LimitedBy::UnsuitableController)
            } else if member.state.shed > 0 {
                Some(LimitedBy::Shedding(member.state.shed))
            } else if one.at_bound {
                Some(LimitedBy::ShareBound)
            } else if let Some(doubt) = member.state.following.doubt() {
                Some(LimitedBy::Doubt(doubt))
            } else if one.at_ceiling {
                Some(LimitedBy::Loan(member.state.loan.ceiling()))
            } else if one.wanted_share < one.steady_share * 0.99 && member.state.rebalancing {
                Some(LimitedBy::ConnectionSurplus)
            } else {
                controller
                    .stale_for(&context, &member.state)
                    .map(LimitedBy::StaleReading)
            };
            member.state.slow_start = slow_start;
            member.state.ramp_factor = slow_start * resource * overload;
        }
    }

    /// Moves weights towards the allocated shares, as fast as the ring may move.
    fn approach(
        &self,
        now: Duration,
        pool: &mut [Member<'_>],
        allocated: &[Allocated],
        uneven: bool,
    ) {
        let settings = &self.settings;
        let controller = self.controller();
        let shares = ramped_shares(allocated, pool);
        let strain = |index: usize| {
            let capacity = pool[index].state.estimate.value()?;
            Some(self.carried(&pool[index], now)? / capacity)
        };
        let strains: Vec<f64> = allocated
            .iter()
            .filter_map(|one| strain(one.index))
            .collect();
        let highest = strains.iter().copied().fold(0.0, f64::max);
        let mean = strains.iter().sum::<f64>() / strains.len().max(1) as f64;
        let uneven = uneven || highest > mean * UNEVEN;
        let long_lived = self.life.is_long(settings);
        let moves: Vec<Move> = allocated
            .iter()
            .zip(&shares)
            .map(|(one, share)| {
                let state = &pool[one.index].state;
                Move {
                    weight: state.weight,
                    wanted_share: *share,
                    steady_share: if long_lived {
                        one.steady_share * state.ramp_factor
                    } else {
                        0.0
                    },
                    strain: strain(one.index).map_or(1.0, |strain| strain / mean),
                    dead_band: controller.dead_band(settings, state),
                }
            })
            .collect();
        let up = controller.max_step(settings);
        let down = if long_lived { f64::INFINITY } else { up };
        let most = movement::allowance(settings, highest, uneven);
        let moved = movement::move_shares(&moves, (up, down), most);
        for ((one, share), moved) in allocated.iter().zip(shares).zip(moved) {
            let state = &mut pool[one.index].state;
            state.wanted_share = share;
            if moved.share < moved.before * LOWERED {
                state.lowered_at = Some(now);
            }
            state.weight = moved.weight;
            if moved.behind && state.limited_by.is_none() {
                state.limited_by = Some(LimitedBy::MovementBound);
            }
        }
    }

    /// Plans the flows to reset until the next period. Reals that are drained by load are included: they have the
    /// most to give. Those that are evacuated have a share of nothing.
    fn plan_shedding(&mut self, pool: &mut [Member<'_>], worth: &[f64]) {
        if self.settings.shed_rate <= 0.0 {
            return;
        }
        let included: Vec<usize> = (0..pool.len())
            .filter(|index| pool[*index].may_shed())
            .collect();
        let counts: Vec<Option<f64>> = included
            .iter()
            .map(|index| pool[*index].state.traffic.connections())
            .collect();
        if counts.iter().all(Option::is_none) {
            return;
        }
        let of = |value: &dyn Fn(usize) -> f64| {
            shares::normalised(included.iter().map(|index| value(*index)).collect())
        };
        let remains = |index: usize| !pool[index].is_evacuated();
        let operator_shares = of(&|index| {
            if remains(index) {
                pool[index].operator_weight()
            } else {
                0.0
            }
        });
        let worth_shares = of(&|index| if remains(index) { worth[index] } else { 0.0 });
        let (wanted_shares, _) = shares::bounded(&self.settings, worth_shares, &operator_shares);
        let weight_now = |member: &Member<'_>| {
            if member.is_eligible() {
                member.state.weight
            } else {
                0.0
            }
        };
        let total_weight: f64 = included.iter().map(|index| weight_now(&pool[*index])).sum();
        let candidates: Vec<ShedCandidate> = included
            .iter()
            .zip(wanted_shares)
            .zip(counts)
            .map(|((index, wanted_share), count)| {
                let weight = weight_now(&pool[*index]);
                let state = &mut pool[*index].state;
                // A real that joined after the others' connections were opened may never have had a flow.
                let connections = count.unwrap_or(0.0);
                ShedCandidate {
                    connections,
                    gained: state
                        .last_connections
                        .replace(connections)
                        .map(|last| connections - last),
                    wanted_share,
                    new_flow_share: weight / total_weight.max(f64::MIN_POSITIVE),
                    shedding: state.shedding,
                }
            })
            .collect();
        let flows = shedding::plan(&self.settings, &candidates, &mut self.shed_remainder);
        for (index, flows) in included.iter().zip(flows) {
            let state = &mut pool[*index].state;
            state.shedding = flows.is_some();
            state.shed = flows.unwrap_or_default();
        }
    }
}

/// Applies the controller's worth at once and exactly: where the ramp factor is 1, it is the weight itself.
fn apply_worth(pool: &mut [Member<'_>], allocated: &[Allocated], worth: &[f64]) {
    for (one, share) in allocated.iter().zip(ramped_shares(allocated, pool)) {
        let state = &mut pool[one.index].state;
        state.weight = worth[one.index] * state.ramp_factor;
        state.quantum_correction = 0.0;
        state.wanted_share = share;
    }
}
