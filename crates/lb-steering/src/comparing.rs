//! Compares readings with what reals carry: whether they follow it, whether they are late, and which of several sources to
//! believe.

use std::time::Duration;

use super::{
    estimate::{self, MAYBE_SATURATED},
    observation::Sample,
    pool::Member,
    shares, trust,
    vip_steering::VipSteering,
};

/// The lowest relative deviation of readings that is assumed where they are compared with what is carried.
const LEAST_NOISE: f64 = 0.02;

impl VipSteering {
    /// The factor by which what a real carried changed between two times, a delay earlier.
    fn carried_change(
        &self,
        member: &Member<'_>,
        then: Duration,
        at: Duration,
        delay: Duration,
    ) -> Option<f64> {
        let carried = |at: Duration| self.carried(member, at.saturating_sub(delay));
        let (first, second) = carried(then).zip(carried(at))?;
        (first > 0.0 && second > 0.0).then_some(second / first)
    }

    /// How utilisation changed between two readings, and what was carried for each delay (natural logarithms). `None` if
    /// that tells nothing: a full real reads full, however much more it is given, and each SYN that its clients repeat
    /// counts.
    fn changes(
        &self,
        member: &Member<'_>,
        (then, first): (Duration, f64),
        (at, second): (Duration, f64),
    ) -> Option<(f64, [f64; trust::DELAYS])> {
        let is_full = |at: Duration, utilisation: f64| {
            let used = self
                .carried(member, at)
                .zip(member.state.estimate.believed())
                .map_or(0.0, |(carried, capacity)| carried / capacity);
            used.max(utilisation) >= MAYBE_SATURATED
        };
        if at <= then || is_full(then, first) || is_full(at, second) {
            return None;
        }
        let mut delays = 0..trust::DELAYS as u32;
        let carried = [(); trust::DELAYS].map(|()| {
            let delay = self.settings.period * delays.next().unwrap_or_default();
            self.carried_change(member, then, at, delay)
                .map_or(0.0, f64::ln)
        });
        Some(((second / first).ln(), carried))
    }

    /// Combines the readings of several sources, now that it is known what each real carries.
    pub(super) fn combine_sources(&self, now: Duration, pool: &mut [Member<'_>]) {
        for member in pool {
            let expected = self
                .carried(member, now)
                .zip(member.state.estimate.value())
                .map(|(carried, capacity)| carried / capacity)
                .filter(|expected| expected.is_normal() && *expected < MAYBE_SATURATED);
            let load = &member.observation.load;
            let max_age = self.settings.stale_after();
            member.utilisation = member.state.sources.combined(load, max_age, expected);
        }
    }

    /// Detects readings that are late without saying so.
    pub(super) fn detect_lag(&mut self, now: Duration, pool: &mut [Member<'_>]) {
        let max_age = self.settings.stale_after();
        let usable = self.settings.least_utilisation..estimate::SATURATED;
        let usable = |sample: Sample| {
            let is_usable = sample.age <= max_age && usable.contains(&sample.value);
            is_usable.then(|| (now.saturating_sub(sample.age), sample.value))
        };
        let tells = |member: &Member<'_>| member.is_eligible() && !self.storm.is_raging();
        let mut lag = std::mem::take(&mut self.lag);
        for member in pool.iter_mut() {
            let sample = Sample::plausible(member.utilisation).and_then(usable);
            let before = member.state.last_utilisation;
            if let Some((last, sample)) = before.zip(sample)
                && let Some((utilisation, carried)) = self.changes(member, last, sample)
            {
                lag.observe(self.settings.period, sample.1 / last.1, |delay| {
                    self.carried_change(member, last.0, sample.0, delay)
                });
                if tells(member) {
                    member.state.following.observe(utilisation, carried);
                }
            }
            let mut sources = std::mem::take(&mut member.state.sources);
            sources.observe(
                &member.observation.load,
                |sample| Sample::plausible(Some(sample)).and_then(usable),
                |last, sample| {
                    let changes = self.changes(member, last, sample);
                    changes.filter(|_| tells(member))
                },
            );
            member.state.sources = sources;
            member.state.last_utilisation = sample;
            let traffic = &member.state.traffic;
            if let Some((from, to, change)) = traffic
                .reported_change()
                .filter(|(_, to, _)| *to > member.state.last_count)
                && member.is_eligible()
            {
                lag.observe_connections(self.settings.period, change, |delay| {
                    traffic.open_change(from.saturating_sub(delay), to.saturating_sub(delay))
                });
                member.state.last_count = to;
            }
        }
        if lag.end_period() {
            for member in pool.iter_mut() {
                // What was learned with the wrong delay counts little.
                member.state.estimate.doubt();
            }
        }
        self.lag = lag;
        let count_lag = self.lag.of_connections(self.settings.period);
        let deviations = pool
            .iter()
            .filter_map(|member| member.state.estimate.deviation())
            .collect();
        let noise = shares::median(deviations).unwrap_or(0.0);
        for member in pool {
            member.state.traffic.set_lag(count_lag);
            let own = member.state.estimate.deviation().unwrap_or(0.0);
            let following = &mut member.state.following;
            let own = own.min(following.most_noise());
            let noise = noise.max(own).max(LEAST_NOISE);
            following.judge(now, noise);
            member.state.sources.judge(now, noise);
        }
    }
}
