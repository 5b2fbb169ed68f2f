//! What a period teaches: traffic, capacities, overload.

use std::time::Duration;

use super::{
    caution::{self, Figures},
    controllers::Context,
    estimate::{MAYBE_SATURATED, Reading},
    loan,
    observation::Sample,
    overload::Overload,
    pool::{
        Member, estimated_capacities, mean_utilisation, operator_multiples, operator_shares,
        typical_capacity,
    },
    room::Room,
    shares,
    vip_steering::VipSteering,
};

/// A real that carries less than this fraction of the mean reveals nothing of its capacity.
const MIN_CARRIED: f64 = 0.01;

/// New flows a second that a whole ring brings, from the reals that answer all they get; `None` if there is none,
/// or if their shares of the ring are unknown.
fn offered_rate(pool: &[Member<'_>], max_age: Duration) -> Option<f64> {
    let (mut flows, mut ring) = (0.0, 0.0);
    for member in pool.iter().filter(|member| member.is_eligible()) {
        let utilisation = Sample::fresh(member.utilisation, max_age);
        if utilisation.is_some_and(|utilisation| utilisation < MAYBE_SATURATED)
            && let Some((rate, share)) = member.state.traffic.rate_and_share()
        {
            flows += rate;
            ring += share;
        }
    }
    (ring > 0.0).then(|| flows / ring)
}

/// Flows that end per flow that begins, over the reals that answer all they get; `None` if that shows that many ends are
/// not seen.
fn served_fraction(pool: &[Member<'_>], max_age: Duration) -> Option<f64> {
    let (mut opened, mut closed) = (0.0, 0.0);
    for member in pool.iter().filter(|member| member.is_eligible()) {
        let utilisation = Sample::fresh(member.utilisation, max_age);
        if utilisation.is_some_and(|utilisation| utilisation < MAYBE_SATURATED)
            && let Some((begun, ended)) = member.state.traffic.last_flows()
        {
            opened += begun;
            closed += ended;
        }
    }
    (closed > opened * LEAST_SEEN_ENDS).then(|| (closed / opened).min(1.0))
}

/// Of the flows that begin, at least this fraction is seen to end.
const LEAST_SEEN_ENDS: f64 = 0.9;
/// What a jump of a sensor claims is believed by this much (natural logarithm) a second: a tenth a minute.
const BELIEF_PER_SECOND: f64 = 0.0016;
/// The highest multiple of the operator's share that a real with long connections gets whose flows do not show how it
/// serves them, though its source counts them.
const MOST_COUNTED: f64 = 3.0;
/// The same until it has kept the connections that it was given.
pub const MOST_UNKEPT: f64 = 1.25;
/// Growth of flows' lives (logarithm, base 2) that confirms a higher utilisation.
const CONFIRMING: f64 = 0.5;
/// A capacity that jumps up by less than this is believed at once.
const MOST_RISE: f64 = 1.25;
/// The lower capacity of a real with more than this multiple of the operator's share is believed at once.
const MOST_DISBELIEVED: f64 = 1.5;

/// Figures of the pool with which a real's reading is compared.
struct PoolFigures {
    /// Mean utilisation.
    utilisation: f64,
    /// Mean of what the reals carry.
    carried: f64,
    /// See [`offered_rate`].
    offered_rate: Option<f64>,
    /// Median relative deviation of readings.
    noise: f64,
    /// Flows that end per flow that begins, where they are short and hardly any real is full.
    served: Option<f64>,
}

impl VipSteering {
    /// Records what the reals carry and estimates their capacities. `elapsed` is the time since the last period.
    pub(super) fn learn(
        &mut self,
        now: Duration,
        elapsed: Option<Duration>,
        pool: &mut [Member<'_>],
    ) {
        let max_age = self.settings.stale_after();
        self.record_traffic(now, elapsed, pool);
        self.combine_sources(now, pool);
        self.detect_lag(now, pool);
        self.look_for_signs(now, pool);
        let mean = mean_utilisation(&*pool, max_age);
        if self.storm.observe(&self.settings, now, pool) {
            // What was learned while it rose is as doubtful.
            for member in pool.iter_mut() {
                member.state.estimate.take_back();
            }
        }
        if self.storm.is_raging() {
            for member in pool.iter_mut() {
                if let Some(sample) = Sample::plausible(member.utilisation) {
                    let at = now.saturating_sub(sample.age);
                    member.state.estimate.pass_over(at);
                }
            }
        } else if let Some(mean) = mean {
            self.estimate_capacities(now, mean, pool);
        }
        self.fade_estimates(now, elapsed, pool);
        let context = Context {
            settings: &self.settings,
            now,
            life: &self.life,
            counts_connections: self.counts_connections,
        };
        // Every controller learns, so that a change of the controller starts with what is known.
        for controller in &mut self.controllers {
            controller.observe(&context, elapsed, pool);
        }
        self.detect_overload(now, mean.unwrap_or(0.0), pool);
    }

    /// Records traffic and the life of connections, and decides whether capacity is counted in connections.
    fn record_traffic(
        &mut self,
        now: Duration,
        elapsed: Option<Duration>,
        pool: &mut [Member<'_>],
    ) {
        let settings = &self.settings;
        for member in pool.iter_mut() {
            let traffic = &mut member.state.traffic;
            traffic.observe(now, settings.stale_after(), member.observation);
        }
        // A real that never had a flow has no connections; if none ever had, nothing counts connections.
        let known: Vec<f64> = pool
            .iter()
            .filter_map(|member| member.state.traffic.connections())
            .collect();
        let connections = (!known.is_empty()).then(|| known.iter().sum::<f64>());
        let rate: f64 = pool
            .iter()
            .filter_map(|member| member.state.traffic.rate())
            .sum();
        if let Some(elapsed) = elapsed {
            let time = elapsed.as_secs_f64();
            let connections = connections.unwrap_or(0.0);
            let inferred = pool.iter().all(|member| member.state.traffic.is_inferred());
            // SYNs that nobody answered stay among them for good.
            let most = caution::sampled_life(pool.iter().map(|member| &member.state.evidence))
                .filter(|_| inferred)
                .map_or(f64::INFINITY, |life| life * rate);
            self.life
                .observe(settings, time, connections.min(most), rate);
        }
        let counts_connections = connections.is_some()
            && self
                .life
                .counts_connections(settings, self.counts_connections);
        if counts_connections != self.counts_connections {
            self.counts_connections = counts_connections;
            let life = self.life.seconds(settings).max(1e-3);
            for member in pool.iter_mut() {
                member
                    .state
                    .estimate
                    .convert(if counts_connections { life } else { 1.0 / life });
            }
        }
    }

    /// Learns capacities from readings. `mean` is the pool's mean utilisation.
    fn estimate_capacities(&self, now: Duration, mean: f64, pool: &mut [Member<'_>]) {
        let carried: Vec<f64> = pool
            .iter()
            .filter_map(|member| self.carried(member, now))
            .collect();
        let deviations = pool
            .iter()
            .filter_map(|member| member.state.estimate.deviation())
            .collect();
        let figures = PoolFigures {
            utilisation: mean,
            carried: carried.iter().sum::<f64>() / carried.len().max(1) as f64,
            offered_rate: if self.counts_connections {
                None
            } else {
                offered_rate(pool, self.settings.stale_after())
            },
            noise: shares::median(deviations).unwrap_or(0.0),
            served: if self.counts_connections {
                None
            } else {
                served_fraction(pool, self.settings.stale_after())
            },
        };
        let time = self.settings.period.as_secs_f64();
        let mut room = Room::new(pool, |member| self.carried(member, now));
        for member in pool.iter_mut() {
            let state = &mut member.state;
            state.estimate.remember();
            if state.loan.held_for().is_none() {
                state.estimate.believe_slowly(now, time * BELIEF_PER_SECOND);
            }
            let before = member.capacity();
            if let Some(reading) = self.reading(now, member, &figures) {
                let state = &mut member.state;
                match state.estimate.learn(&self.settings, reading) {
                    Some(change) if change < 1.0 => state.estimate.disbelieve(now, change),
                    Some(change) if change >= MOST_RISE && !state.estimate.is_back(now) => {
                        state.estimate.disbelieve(now, change);
                    }
                    _ => {}
                }
            }
            let state = &mut member.state;
            if state
                .estimate
                .disbelieved()
                .is_some_and(|times| times > 1.0)
            {
                // Flows that queue since its utilisation rose confirm that.
                let confirmed = state.life_growth.is_none_or(|growth| growth >= CONFIRMING)
                    || state.loan.held_for().is_some()
                    || state.multiple > MOST_DISBELIEVED;
                if confirmed {
                    state.estimate.believe();
                } else if room.is_left_by(before, state.estimate.believed()) {
                    state.estimate.believe_unproven(now);
                }
            }
            room.change(before, member.capacity());
        }
    }

    /// Returns the real's last reading if it reveals something of its capacity.
    fn reading(
        &self,
        now: Duration,
        member: &Member<'_>,
        figures: &PoolFigures,
    ) -> Option<Reading> {
        let settings = &self.settings;
        let max_age = settings.stale_after();
        let load = &member.observation.load;
        let sample = Sample::plausible(member.utilisation)?;
        let usable = member.is_eligible()
            && sample.age <= max_age
            && member.observation.since_up >= settings.healthy_for
            && figures.utilisation >= settings.no_signal
            && sample.value >= settings.least_utilisation;
        if !usable {
            return None;
        }
        let at = now.saturating_sub(sample.age);
        let lag = self.lag.time(settings.period);
        let carried = self.carried(member, at.saturating_sub(lag))?;
        if carried <= 0.0 || carried < figures.carried * MIN_CARRIED {
            return None;
        }
        // Clients retransmit SYNs that get no answer, and each SYN counts: a saturated real seems to carry two or
        // three times what it is offered.
        let offered = figures.offered_rate.zip(member.state.traffic.share_at(at));
        let carried = match offered {
            Some((rate, share)) if sample.value >= MAYBE_SATURATED => carried.min(rate * share),
            _ => carried,
        };
        let errors = Sample::fresh(load.error_rate, max_age).map_or(0.0, |errors| errors.min(1.0));
        Some(Reading {
            at,
            carried,
            utilisation: sample.value * (1.0 + errors * settings.error_penalty),
            mean: figures.utilisation,
            noise: figures.noise,
            may_rise: member.state.loan.held_for().is_none() || member.state.multiple < 1.0,
            served: figures
                .served
                .zip(member.state.traffic.closed_at(at, settings.period))
                .map(|(usual, closed)| closed / usual),
        })
    }

    /// Updates the overload state of each real. `mean` is the pool's mean utilisation.
    fn detect_overload(&self, now: Duration, mean: f64, pool: &mut [Member<'_>]) {
        let settings = &self.settings;
        let capacities = estimated_capacities(pool);
        let eligible_capacity = |counts: &dyn Fn(&Member<'_>) -> bool| -> f64 {
            pool.iter()
                .zip(&capacities)
                .filter(|(member, _)| member.is_eligible() && counts(member))
                .map(|(_, capacity)| capacity)
                .sum()
        };
        let all = eligible_capacity(&|_| true);
        let mut drained = eligible_capacity(&|member| member.state.overload.drained);
        for (member, capacity) in pool.iter_mut().zip(capacities) {
            let utilisation = self.credible_utilisation(member, now);
            let left = all - drained - capacity;
            // The remaining reals must be able to carry the load.
            let may_drain = drained + capacity <= settings.max_drained * all
                && mean * all <= settings.overload_back * left;
            let silent = Sample::plausible(member.utilisation)
                .is_none_or(|sample| sample.age > settings.fade_after);
            let overload = &mut member.state.overload;
            if silent || !member.observation.up {
                // No reading will report that it has recovered, so it goes through slow start.
                *overload = Overload::default();
                continue;
            }
            let before = overload.drained;
            // Its flows would queue if it were full.
            let utilisation = utilisation.map(|utilisation| {
                if member.state.contradicted {
                    utilisation.min(mean)
                } else {
                    utilisation
                }
            });
            // In a storm all are overloaded, but one that was relieved before may have room.
            let utilisation = utilisation
                .filter(|used| !self.storm.is_raging() || *used < settings.overload_back);
            let overload = &mut member.state.overload;
            overload.observe(settings, utilisation, mean, may_drain);
            if overload.drained && !before {
                drained += capacity;
            }
        }
    }

    /// Each real's share of the connections over the operator's share, where connections are long.
    fn connection_multiples(&self, pool: &[Member<'_>]) -> Vec<Option<f64>> {
        let connections: Vec<f64> = pool
            .iter()
            .map(|member| member.state.traffic.connections().unwrap_or(0.0))
            .collect();
        let all: f64 = connections.iter().sum();
        connections
            .into_iter()
            .zip(operator_shares(pool))
            .map(|(connections, share)| {
                (self.life.is_long(&self.settings) && all > 0.0 && share > 0.0)
                    .then(|| connections / all / share)
            })
            .collect()
    }

    /// Looks for signs of trouble, and updates the loans by them.
    fn look_for_signs(&mut self, now: Duration, pool: &mut [Member<'_>]) {
        let settings = &self.settings;
        let max_age = settings.stale_after();
        let multiples = operator_multiples(pool);
        let carried = self.connection_multiples(pool);
        let mut included = Vec::new();
        let mut figures = Vec::new();
        for (number, (member, multiple)) in pool.iter_mut().zip(multiples).enumerate() {
            let connections = member
                .state
                .traffic
                .connections()
                .filter(|_| self.counts_connections);
            let evidence = &mut member.state.evidence;
            evidence.observe(member.observation, member.utilisation, connections, max_age);
            let Some(multiple) = multiple else { continue };
            member.state.multiple = multiple;
            let trusted = member.state.following.doubt().is_none();
            let utilisation = Sample::fresh(member.utilisation, max_age);
            let serving_since = member.state.eligibility.serving_since.unwrap_or(now);
            included.push(number);
            figures.push(Figures {
                evidence: &mut member.state.evidence,
                multiple,
                utilisation: utilisation.filter(|_| trusted),
                serving_for: now.saturating_sub(serving_since),
            });
        }
        let signs = caution::signs(&mut figures);
        let growths = caution::life_growths(&figures);
        let kept: Vec<bool> = (0..figures.len())
            .map(|real| caution::keeps(&figures, real))
            .collect();
        drop(figures);
        let found = signs.into_iter().zip(growths).zip(kept);
        for (number, ((sign, growth), keeps)) in included.into_iter().zip(found) {
            let member = &mut pool[number];
            member.state.keeps |= keeps;
            member.state.keeps &= sign.is_none();
            member.state.life_growth = growth;
            let utilisation = Sample::fresh(member.utilisation, max_age);
            let state = &mut member.state;
            state.contradicted = utilisation
                .is_some_and(|utilisation| utilisation >= settings.overload)
                && growth.is_some_and(|growth| growth < CONFIRMING)
                && sign.is_none();
            let counted = self.counts_connections && member.observation.load.connections.is_some();
            state.loan.update(loan::Period {
                now,
                period: settings.period,
                sign,
                multiple: state.multiple,
                connections: carried[number],
                may_grow: !self.storm.is_raging(),
                unproven: match growth {
                    Some(_) => None,
                    None if !counted => Some(settings.unproven_share),
                    None if !state.keeps => Some(settings.unproven_share.max(MOST_UNKEPT)),
                    None => None,
                },
                most: match state.following.doubt() {
                    Some(_) => 1.0,
                    None if growth.is_none() && counted => settings.most_share.min(MOST_COUNTED),
                    None => settings.most_share,
                },
            });
        }
        self.safety = self.judge_safety(now, pool);
    }

    /// A real's utilisation as far as it shows overload: the lower of the reading and of carried load over
    /// capacity, because a single reading may be wrong. `None` if it is unknown, or if the share was lowered since
    /// the reading.
    fn credible_utilisation(&self, member: &Member<'_>, now: Duration) -> Option<f64> {
        let sample = Sample::plausible(member.utilisation)?;
        let at = now.saturating_sub(sample.age + self.lag.time(self.settings.period));
        if sample.age > self.settings.stale_after()
            || member
                .state
                .lowered_at
                .is_some_and(|lowered_at| at <= lowered_at)
        {
            return None;
        }
        let expected = member
            .state
            .estimate
            .value()
            .zip(self.carried(member, now))
            .map(|(capacity, carried)| carried / capacity);
        Some(expected.map_or(sample.value, |expected| expected.min(sample.value)))
    }

    /// What a real carried at a time, in the unit in use.
    pub(super) fn carried(&self, member: &Member<'_>, at: Duration) -> Option<f64> {
        if self.counts_connections {
            member.state.traffic.connections_at(at)
        } else {
            member.state.traffic.rate_at(at, self.settings.period)
        }
    }

    /// Fades estimates of reals that have had no reading for long, and ends what was resumed.
    fn fade_estimates(&self, now: Duration, elapsed: Option<Duration>, pool: &mut [Member<'_>]) {
        for member in pool.iter_mut() {
            member.state.resumed = member.state.resumed.filter(|(_, until)| now < *until);
        }
        let Some(typical) = typical_capacity(pool) else {
            return;
        };
        let time = elapsed.unwrap_or_default().as_secs_f64();
        for member in pool {
            let silence = member
                .state
                .estimate
                .last_reading()
                .map(|last| now.saturating_sub(last));
            if silence.is_some_and(|silence| silence > self.settings.fade_after) {
                let target = member.prior_worth() * typical;
                if target > 0.0 {
                    member.state.estimate.fade(&self.settings, time, target);
                }
            }
        }
    }
}
