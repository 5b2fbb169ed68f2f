//! What a period teaches: traffic, capacities, overload.

use std::time::Duration;

use super::{
    capacity::{self, MAYBE_FULL, Reading},
    controller::Controller,
    law,
    observed::Sample,
    overload::Overload,
    pool::{Entry, capacities, mean_utilisation, peak, typical},
};

/// A real that carries less than this part of the mean says nothing of its capacity.
const LEAST_CARRIED: f64 = 0.01;

/// What a whole ring brings, new flows a second, by the reals that answer all that comes to them. None: there is
/// none, or what they have of the ring is not known.
fn coming(pool: &[Entry<'_>], oldest: Duration) -> Option<f64> {
    let (mut flows, mut ring) = (0.0, 0.0);
    for entry in pool.iter().filter(|entry| entry.candidate()) {
        let used = Sample::fresh(entry.observed.load.utilisation, oldest);
        if used.is_some_and(|used| used < MAYBE_FULL)
            && let Some((rate, share)) = entry.real.traffic.rate_of_share()
        {
            flows += rate;
            ring += share;
        }
    }
    (ring > 0.0).then(|| flows / ring)
}

/// What is said of all reals, against which one's reading is held.
struct Pool {
    /// Mean utilisation.
    mean: f64,
    /// Mean of what they carry.
    carried: f64,
    /// See [`coming`].
    coming: Option<f64>,
    /// Deviation of readings from what was expected, in the middle.
    noise: f64,
}

impl Controller {
    /// Notes what reals carry and estimates what they can.
    pub(super) fn learn(&mut self, now: Duration, since: Option<Duration>, pool: &mut [Entry<'_>]) {
        let oldest = self.spec.stale_after();
        self.count(now, since, pool);
        self.find_lag(now, pool);
        let mean = mean_utilisation(pool, oldest);
        if let Some(mean) = mean {
            self.estimate(now, mean, pool);
        }
        self.fade(now, since, pool);
        for entry in pool.iter_mut() {
            let (before, load) = (entry.real.latency, &entry.observed.load);
            entry.real.latency = peak(&self.spec, before, load, oldest, since);
        }
        self.find_overload(now, mean.unwrap_or(0.0), pool);
    }

    /// Notes traffic, the life of connections, and whether capacity is counted in them.
    fn count(&mut self, now: Duration, since: Option<Duration>, pool: &mut [Entry<'_>]) {
        let spec = &self.spec;
        for entry in pool.iter_mut() {
            let traffic = &mut entry.real.traffic;
            traffic.observe(now, spec.stale_after(), entry.observed);
        }
        // One that never had a flow has none; where nobody has, nobody counts.
        let known: Vec<f64> = pool
            .iter()
            .filter_map(|entry| entry.real.traffic.connections())
            .collect();
        let connections = (!known.is_empty()).then(|| known.iter().sum::<f64>());
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
    }

    /// Learns capacities from readings. `mean`: of utilisation.
    fn estimate(&self, now: Duration, mean: f64, pool: &mut [Entry<'_>]) {
        let carried: Vec<f64> = pool
            .iter()
            .filter_map(|entry| self.carried(entry, now))
            .collect();
        let deviations = pool
            .iter()
            .filter_map(|entry| entry.real.capacity.deviation())
            .collect();
        let all = Pool {
            mean,
            carried: carried.iter().sum::<f64>() / carried.len().max(1) as f64,
            coming: if self.counts {
                None
            } else {
                coming(pool, self.spec.stale_after())
            },
            noise: law::median(deviations).unwrap_or(0.0),
        };
        for entry in pool.iter_mut() {
            if let Some(reading) = self.reading(now, entry, &all) {
                entry.real.capacity.learn(&self.spec, reading);
            }
        }
    }

    /// What a real's last reading tells of its capacity; none: nothing.
    fn reading(&self, now: Duration, entry: &Entry<'_>, all: &Pool) -> Option<Reading> {
        let spec = &self.spec;
        let oldest = spec.stale_after();
        let load = &entry.observed.load;
        let sample = Sample::sane(load.utilisation)?;
        let tells = entry.candidate()
            && sample.age <= oldest
            && entry.observed.since_up >= spec.healthy_for
            && all.mean >= spec.no_signal
            && sample.value >= spec.least_utilisation;
        if !tells {
            return None;
        }
        let at = now.saturating_sub(sample.age);
        let lag = self.lag.time(spec.period);
        let carried = self.carried(entry, at.saturating_sub(lag))?;
        if carried <= 0.0 || carried < all.carried * LEAST_CARRIED {
            return None;
        }
        // Who gets no answer asks again, and each SYN counts: a full real seems to carry two or three times what
        // comes to it.
        let due = all.coming.zip(entry.real.traffic.share_then(at));
        let carried = match due {
            Some((coming, share)) if sample.value >= MAYBE_FULL => carried.min(coming * share),
            _ => carried,
        };
        let errors = Sample::fresh(load.error_rate, oldest).map_or(0.0, |errors| errors.min(1.0));
        Some(Reading {
            at,
            carried,
            utilisation: sample.value * (1.0 + errors * spec.error_penalty),
            mean: all.mean,
            noise: all.noise,
        })
    }

    /// Finds who is overloaded, and who is no more. `mean`: of utilisation.
    fn find_overload(&self, now: Duration, mean: f64, pool: &mut [Entry<'_>]) {
        let spec = &self.spec;
        let capacities = capacities(pool);
        let of_those = |counts: &dyn Fn(&Entry<'_>) -> bool| -> f64 {
            pool.iter()
                .zip(&capacities)
                .filter(|(entry, _)| entry.candidate() && counts(entry))
                .map(|(_, capacity)| capacity)
                .sum()
        };
        let all = of_those(&|_| true);
        let mut drained = of_those(&|entry| entry.real.overload.drained);
        for (entry, capacity) in pool.iter_mut().zip(capacities) {
            let utilisation = self.strained(entry, now);
            let left = all - drained - capacity;
            // Those that are left can carry it.
            let may_drain = drained + capacity <= spec.max_drained * all
                && mean * all <= spec.overload_back * left;
            let silent = Sample::sane(entry.observed.load.utilisation)
                .is_none_or(|sample| sample.age > spec.fade_after);
            let overload = &mut entry.real.overload;
            if silent || !entry.observed.up {
                // Nobody will say that it has recovered; it is eased in.
                *overload = Overload::default();
                continue;
            }
            let before = overload.drained;
            overload.observe(spec, utilisation, mean, may_drain);
            if overload.drained && !before {
                drained += capacity;
            }
        }
    }

    /// Finds by how much readings are late without saying so.
    fn find_lag(&mut self, now: Duration, pool: &mut [Entry<'_>]) {
        let oldest = self.spec.stale_after();
        let tells = self.spec.least_utilisation..capacity::FULL;
        let mut lag = std::mem::take(&mut self.lag);
        for entry in pool.iter_mut() {
            let sample = Sample::sane(entry.observed.load.utilisation)
                .filter(|sample| sample.age <= oldest && tells.contains(&sample.value))
                .map(|sample| (now.saturating_sub(sample.age), sample.value));
            let before = entry.real.used;
            if let (Some((then, first)), Some((at, second))) = (before, sample)
                && at > then
            {
                lag.observe(self.spec.period, second / first, |delay| {
                    let carried = |at: Duration| self.carried(entry, at.saturating_sub(delay));
                    let (first, second) = carried(then).zip(carried(at))?;
                    (first > 0.0 && second > 0.0).then_some(second / first)
                });
            }
            entry.real.used = sample;
        }
        if lag.conclude() {
            for entry in pool {
                // What was learned with the wrong delay counts little.
                entry.real.capacity.doubt();
            }
        }
        self.lag = lag;
    }

    /// A real's utilisation as far as it tells of overload: the lesser of what was read and of what it carries
    /// over its capacity, for a single reading may be wrong. None: it is not known, or its share was lowered
    /// since it was read.
    fn strained(&self, entry: &Entry<'_>, now: Duration) -> Option<f64> {
        let sample = Sample::sane(entry.observed.load.utilisation)?;
        let at = now.saturating_sub(sample.age + self.lag.time(self.spec.period));
        if sample.age > self.spec.stale_after()
            || entry.real.lowered.is_some_and(|lowered| at <= lowered)
        {
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
            entry.real.traffic.rate_then(at, self.spec.period)
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
