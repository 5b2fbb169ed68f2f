//! What a period teaches: traffic, capacities, overload.

use std::time::Duration;

use super::{
    controller::Controller,
    observed::Sample,
    pool::{Entry, capacities, mean_utilisation, peak, typical},
};

/// A real that carries less than this part of the mean says nothing of its capacity.
const LEAST_CARRIED: f64 = 0.01;

impl Controller {
    /// Notes what reals carry and estimates what they can.
    pub(super) fn learn(&mut self, now: Duration, since: Option<Duration>, pool: &mut [Entry<'_>]) {
        let spec = &self.spec;
        let oldest = spec.period * spec.stale_periods;
        for entry in pool.iter_mut() {
            entry.real.traffic.observe(now, oldest, entry.observed);
        }
        let connections: Option<f64> = pool
            .iter()
            .map(|entry| entry.real.traffic.connections())
            .sum();
        let rate: f64 = pool
            .iter()
            .filter_map(|entry| entry.real.traffic.rate())
            .sum();
        if let Some(since) = since {
            let time = since.as_secs_f64();
            self.life
                .observe(spec, time, connections.unwrap_or(0.0), rate);
        }
        let counts = connections.is_some() && self.life.counts_connections(spec, self.counts);
        if counts != self.counts {
            self.counts = counts;
            let life = self.life.seconds(spec).max(1e-3);
            for entry in pool.iter_mut() {
                entry
                    .real
                    .capacity
                    .convert(if counts { life } else { 1.0 / life });
            }
        }
        let mean = mean_utilisation(pool, oldest);
        let mean_carried = {
            let carried: Vec<f64> = pool
                .iter()
                .filter_map(|entry| self.carried(entry, now))
                .collect();
            carried.iter().sum::<f64>() / carried.len().max(1) as f64
        };
        let long = self.life.long(spec);
        for entry in pool.iter_mut() {
            let load = &entry.observed.load;
            if let (true, Some(sample), Some(mean)) =
                (entry.candidate(), Sample::sane(load.utilisation), mean)
                && sample.age <= oldest
                && entry.observed.since_up >= spec.healthy_for
                && mean >= spec.no_signal
                && sample.value >= spec.least_utilisation
            {
                let at = now.saturating_sub(sample.age);
                let errors = Sample::fresh(load.error_rate, oldest)
                    .unwrap_or(0.0)
                    .min(1.0);
                if let Some(carried) = self.carried(entry, at)
                    && carried > 0.0
                    && carried >= mean_carried * LEAST_CARRIED
                {
                    let utilisation = sample.value * (1.0 + errors * spec.error_penalty);
                    // Long connections leave a full real slowly whatever is guessed.
                    let compared = if long { f64::INFINITY } else { mean };
                    entry
                        .real
                        .capacity
                        .learn(spec, at, carried, utilisation, compared);
                }
            }
        }
        self.fade(now, since, pool);
        let capacities = capacities(pool);
        let all: f64 = pool
            .iter()
            .zip(&capacities)
            .filter(|(entry, _)| entry.candidate())
            .map(|(_, capacity)| capacity)
            .sum();
        for entry in pool.iter_mut() {
            entry.real.latency = peak(
                spec,
                entry.real.latency,
                &entry.observed.load,
                oldest,
                since,
            );
        }
        let mut drained: f64 = pool
            .iter()
            .zip(&capacities)
            .filter(|(entry, _)| entry.candidate() && entry.real.overload.drained)
            .map(|(_, capacity)| capacity)
            .sum();
        let mean = mean.unwrap_or(0.0);
        for index in 0..pool.len() {
            let utilisation = self.strained(&pool[index], now, oldest);
            let (entry, capacity) = (&mut pool[index], capacities[index]);
            let left = all - drained - capacity;
            // Those that are left can carry it.
            let may_drain = drained + capacity <= spec.max_drained * all
                && mean * all <= spec.overload_back * left;
            let before = entry.real.overload.drained;
            entry
                .real
                .overload
                .observe(spec, utilisation, mean, may_drain);
            if entry.real.overload.drained && !before {
                drained += capacity;
            }
        }
    }

    /// A real's utilisation as far as it tells of overload: the lesser of what was read and of what it carries
    /// over its capacity, for a single reading may be wrong. None: it is not known, or its share was lowered
    /// since it was read.
    fn strained(&self, entry: &Entry<'_>, now: Duration, oldest: Duration) -> Option<f64> {
        let sample = Sample::sane(entry.observed.load.utilisation)?;
        let at = now.saturating_sub(sample.age);
        if sample.age > oldest || entry.real.lowered.is_some_and(|lowered| at <= lowered) {
            return None;
        }
        let carried = self.carried(entry, now);
        let expected = entry
            .real
            .capacity
            .value()
            .zip(carried)
            .map(|(all, part)| part / all);
        Some(expected.map_or(sample.value, |expected| expected.min(sample.value)))
    }

    /// What a real carried then.
    pub(super) fn carried(&self, entry: &Entry<'_>, at: Duration) -> Option<f64> {
        if self.counts {
            entry.real.traffic.connections_then(at)
        } else {
            entry.real.traffic.rate_then(at)
        }
    }

    fn fade(&self, now: Duration, since: Option<Duration>, pool: &mut [Entry<'_>]) {
        for entry in pool.iter_mut() {
            entry.real.resumed = entry.real.resumed.filter(|(_, until)| now < *until);
        }
        let Some(typical) = typical(pool) else { return };
        let time = since.unwrap_or_default().as_secs_f64();
        for entry in pool {
            let silent = entry
                .real
                .capacity
                .heard()
                .map(|heard| now.saturating_sub(heard));
            if silent.is_some_and(|silent| silent > self.spec.fade_after) {
                let towards = entry.prior() * typical;
                if towards > 0.0 {
                    entry.real.capacity.fade(&self.spec, time, towards);
                }
            }
        }
    }
}
