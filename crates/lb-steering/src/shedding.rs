//! How many connections to reset where they live too long to wait: those that a real has beyond its share, never
//! more than the other reals lack, and never faster than they take new ones.

use super::Steering;

/// Shedding starts when a real has this multiple of its share of the connections, ...
const START: f64 = 1.10;
/// ... and goes on until it has this multiple; ending where it starts would leave the real at that edge.
const END: f64 = 1.05;
/// Connections that are reset per period before the others are known to take any.
const FIRST: f64 = 1.0;
/// Beyond that, this multiple of what the others gained in the period before. A part of the clients reconnects to
/// the same real: where that is more than two thirds, as while the others are in slow start, shedding is slow.
const GAIN_FACTOR: f64 = 3.0;

/// A real's connections.
#[derive(Clone, Copy, Debug)]
pub struct ShedCandidate {
    /// Connections that it has.
    pub connections: f64,
    /// How many more these are than a period ago, if known.
    pub gained: Option<f64>,
    /// The share of all connections, 0 to 1, that it is to have.
    pub wanted_share: f64,
    /// The share of new flows, 0 to 1, that it gets now.
    pub new_flow_share: f64,
    /// Whether it was over its share in the last period.
    pub shedding: bool,
}

/// Plans the flows to reset until the next period, per real; `None` for a real that is not over its share.
/// `remainder` carries over what is left of the rate where that is less than one flow a period.
pub fn plan(settings: &Steering, reals: &[ShedCandidate], remainder: &mut f64) -> Vec<Option<u32>> {
    let total: f64 = reals.iter().map(|real| real.connections).sum();
    let excess: Vec<Option<f64>> = reals
        .iter()
        .map(|real| {
            let due = real.wanted_share * total;
            let most = due * if real.shedding { END } else { START };
            (real.connections > most).then_some(real.connections - due)
        })
        .collect();
    let total_excess: f64 = excess.iter().flatten().sum();
    let room: f64 = reals
        .iter()
        .map(|real| (real.wanted_share * total - real.connections).max(0.0))
        .sum();
    let rate = settings.shed_rate * settings.period.as_secs_f64() + *remainder;
    let need = room.min(total_excess).min(absorbed(reals, &excess));
    let most = rate.min(need).floor();
    // A fraction of a flow is carried over; an unused rate is not.
    *remainder = if need < rate { 0.0 } else { rate.fract() };
    let (mut before, mut so_far) = (0.0, 0.0);
    excess
        .into_iter()
        .map(|excess| {
            let excess = excess?;
            if most <= 0.0 {
                return Some(0);
            }
            so_far += most * excess / total_excess;
            // Sums of fractions are not exact.
            let flows = (so_far + 1e-6).floor() - before;
            before += flows;
            Some(flows as u32)
        })
        .collect()
}

/// Connections that the reals that are not over their share can be expected to take.
fn absorbed(reals: &[ShedCandidate], excess: &[Option<f64>]) -> f64 {
    let (mut gained, mut new_flow_share) = (0.0, 0.0);
    for (real, excess) in reals.iter().zip(excess) {
        if excess.is_none() {
            gained += real.gained.unwrap_or(0.0).max(0.0);
            new_flow_share += real.new_flow_share;
        }
    }
    if new_flow_share <= 0.0 {
        return 0.0;
    }
    FIRST + GAIN_FACTOR * gained
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn settings(shed_rate: f64, period: u64) -> Steering {
        Steering {
            shed_rate,
            period: Duration::from_secs(period),
            ..Steering::default()
        }
    }

    /// Reals with equal shares, from their connections and what they gained.
    fn equal(reals: &[(f64, f64)]) -> Vec<ShedCandidate> {
        let share = 1.0 / reals.len() as f64;
        reals
            .iter()
            .map(|(connections, gained)| ShedCandidate {
                connections: *connections,
                gained: Some(*gained),
                wanted_share: share,
                new_flow_share: share,
                shedding: false,
            })
            .collect()
    }

    /// Flows per real; 0 for a real that is not over its share.
    fn planned(settings: &Steering, reals: &[ShedCandidate], remainder: &mut f64) -> Vec<u32> {
        let plan = plan(settings, reals, remainder);
        plan.into_iter().map(Option::unwrap_or_default).collect()
    }

    #[test]
    fn shedding_ends_below_where_it_starts() {
        let reals = |shedding| {
            let mut reals = equal(&[(1_080.0, 0.0), (920.0, 50.0)]);
            reals[0].shedding = shedding;
            plan(&settings(10.0, 1), &reals, &mut 0.0)[0]
        };
        assert_eq!(reals(false), None);
        assert_eq!(reals(true), Some(10));
    }

    #[test]
    fn it_starts_with_one_and_follows_what_the_others_gain() {
        let settings = settings(100.0, 1);
        let flows = |gained| planned(&settings, &equal(&[(900.0, 0.0), (50.0, gained)]), &mut 0.0);
        assert_eq!(flows(0.0), [1, 0]);
        assert_eq!(flows(3.0), [10, 0]);
        assert_eq!(flows(1_000.0), [100, 0], "the rate");
        assert_eq!(flows(-5.0), [1, 0]);
    }

    #[test]
    fn nothing_is_shed_if_no_other_real_takes_new_flows() {
        let mut reals = equal(&[(900.0, 0.0), (0.0, 50.0)]);
        reals[1].new_flow_share = 0.0;
        assert_eq!(planned(&settings(100.0, 1), &reals, &mut 0.0), [0, 0]);
    }

    #[test]
    fn a_real_within_its_share_loses_none() {
        let reals = equal(&[(900.0, 0.0), (330.0, 40.0), (0.0, 40.0), (430.0, 40.0)]);
        let flows = planned(&settings(10.0, 5), &reals, &mut 0.0);
        assert_eq!(flows[1..3], [0, 0]);
        assert_eq!(flows.iter().sum::<u32>(), 50, "{flows:?}");
        assert!(flows[0] > 10 * flows[3], "{flows:?}");
    }

    #[test]
    fn a_rate_below_one_per_period_sheds_one_in_several() {
        let settings = settings(0.1, 5);
        let mut remainder = 0.0;
        let reals = equal(&[(900.0, 0.0), (0.0, 40.0)]);
        let flows: u32 = (0..20)
            .map(|_| planned(&settings, &reals, &mut remainder)[0])
            .sum();
        assert_eq!(flows, 10);
        let even = equal(&[(500.0, 0.0), (500.0, 0.0)]);
        for _ in 0..20 {
            assert_eq!(planned(&settings, &even, &mut remainder), [0, 0]);
        }
        let flows = [0, 1].map(|_| planned(&settings, &reals, &mut remainder)[0]);
        assert_eq!(flows, [0, 1], "an unused rate is not carried over");
    }

    #[test]
    fn no_flows_and_no_reals_are_valid() {
        assert_eq!(planned(&settings(1.0, 1), &[], &mut 0.0), [0; 0]);
        assert_eq!(
            planned(
                &settings(1.0, 1),
                &equal(&[(0.0, 0.0), (0.0, 0.0)]),
                &mut 0.0
            ),
            [0, 0]
        );
    }
}
