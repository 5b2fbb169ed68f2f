//! Which connections to end, where they live too long to wait: so many of a real that has more than its
//! share, never more than the others lack, and never faster than they take new ones.

use super::spec::Steering;

/// A real may have this much more than its share before connections of it are ended, ...
const TOLERANCE: f64 = 1.10;
/// ... which goes on until it has no more than this: at the edge of the tolerance it would stay there.
const ENOUGH: f64 = 1.05;
/// Connections ended in a period though nobody is known to take them: how it begins.
const FIRST: f64 = 1.0;
/// Beyond that, so many times what the others gained in the period before. Of what is ended a part comes back to
/// where it was: where that is more than two thirds of it, as while the others are eased in, it goes slowly.
const FASTER: f64 = 3.0;

/// A real, as far as it matters here.
#[derive(Clone, Copy, Debug)]
pub struct Holder {
    /// Connections it has.
    pub has: f64,
    /// How many fewer it had a period ago; none: that is not known.
    pub gained: Option<f64>,
    /// The part of all connections, 0 to 1, that it is to have.
    pub due: f64,
    /// The part of the new flows, 0 to 1, that it gets now.
    pub takes: f64,
    /// It had too many in the last period.
    pub shedding: bool,
}

/// Flows to reset until the next period, per real; `None`: it has no more than it may. `rest` is what is left of the
/// rate where it allows less than a flow a period.
pub fn plan(spec: &Steering, reals: &[Holder], rest: &mut f64) -> Vec<Option<u32>> {
    let total: f64 = reals.iter().map(|real| real.has).sum();
    let excess: Vec<Option<f64>> = reals
        .iter()
        .map(|real| {
            let due = real.due * total;
            let most = due * if real.shedding { ENOUGH } else { TOLERANCE };
            (real.has > most).then_some(real.has - due)
        })
        .collect();
    let over: f64 = excess.iter().flatten().sum();
    let room: f64 = reals
        .iter()
        .map(|real| (real.due * total - real.has).max(0.0))
        .sum();
    let rate = spec.shed_rate * spec.period.as_secs_f64() + *rest;
    let need = room.min(over).min(taken(reals, &excess));
    let most = rate.min(need).floor();
    // A part of a flow is saved up, what was not needed is not.
    *rest = if need < rate { 0.0 } else { rate.fract() };
    let (mut before, mut so_far) = (0.0, 0.0);
    excess
        .into_iter()
        .map(|excess| {
            let excess = excess?;
            if most <= 0.0 {
                return Some(0);
            }
            so_far += most * excess / over;
            // Sums of fractions are not exact.
            let flows = (so_far + 1e-6).floor() - before;
            before += flows;
            Some(flows as u32)
        })
        .collect()
}

/// Connections that may be ended, as far as the others' taking them is concerned.
fn taken(reals: &[Holder], excess: &[Option<f64>]) -> f64 {
    let (mut gained, mut takes) = (0.0, 0.0);
    for (real, excess) in reals.iter().zip(excess) {
        if excess.is_none() {
            gained += real.gained.unwrap_or(0.0).max(0.0);
            takes += real.takes;
        }
    }
    if takes <= 0.0 {
        return 0.0;
    }
    FIRST + FASTER * gained
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn spec(shed_rate: f64, period: u64) -> Steering {
        Steering {
            shed_rate,
            period: Duration::from_secs(period),
            ..Steering::default()
        }
    }

    /// Equal reals that get equally many new flows, with what they have and what they gained.
    fn equal(reals: &[(f64, f64)]) -> Vec<Holder> {
        let part = 1.0 / reals.len() as f64;
        reals
            .iter()
            .map(|(has, gained)| Holder {
                has: *has,
                gained: Some(*gained),
                due: part,
                takes: part,
                shedding: false,
            })
            .collect()
    }

    /// Flows per real, nothing where it has no more than it may.
    fn planned(spec: &Steering, reals: &[Holder], rest: &mut f64) -> Vec<u32> {
        let plan = plan(spec, reals, rest);
        plan.into_iter().map(Option::unwrap_or_default).collect()
    }

    #[test]
    fn it_goes_on_below_where_it_began() {
        let reals = |shedding| {
            let mut reals = equal(&[(1_080.0, 0.0), (920.0, 50.0)]);
            reals[0].shedding = shedding;
            plan(&spec(10.0, 1), &reals, &mut 0.0)[0]
        };
        assert_eq!(reals(false), None);
        assert_eq!(reals(true), Some(10));
    }

    #[test]
    fn it_begins_with_one_and_follows_what_the_others_take() {
        let spec = spec(100.0, 1);
        let flows = |gained| planned(&spec, &equal(&[(900.0, 0.0), (50.0, gained)]), &mut 0.0);
        assert_eq!(flows(0.0), [1, 0]);
        assert_eq!(flows(3.0), [10, 0]);
        assert_eq!(flows(1_000.0), [100, 0], "the rate");
        assert_eq!(flows(-5.0), [1, 0]);
    }

    #[test]
    fn nobody_takes_them_so_they_stay() {
        let mut reals = equal(&[(900.0, 0.0), (0.0, 50.0)]);
        reals[1].takes = 0.0;
        assert_eq!(planned(&spec(100.0, 1), &reals, &mut 0.0), [0, 0]);
    }

    #[test]
    fn who_is_not_over_loses_none() {
        let reals = equal(&[(900.0, 0.0), (330.0, 40.0), (0.0, 40.0), (430.0, 40.0)]);
        let flows = planned(&spec(10.0, 5), &reals, &mut 0.0);
        assert_eq!(flows[1..3], [0, 0]);
        assert_eq!(flows.iter().sum::<u32>(), 50, "{flows:?}");
        assert!(flows[0] > 10 * flows[3], "{flows:?}");
    }

    #[test]
    fn less_than_one_a_period_is_one_in_several() {
        let spec = spec(0.1, 5);
        let mut rest = 0.0;
        let reals = equal(&[(900.0, 0.0), (0.0, 40.0)]);
        let flows: u32 = (0..20).map(|_| planned(&spec, &reals, &mut rest)[0]).sum();
        assert_eq!(flows, 10);
        let even = equal(&[(500.0, 0.0), (500.0, 0.0)]);
        for _ in 0..20 {
            assert_eq!(planned(&spec, &even, &mut rest), [0, 0]);
        }
        let flows = [0, 1].map(|_| planned(&spec, &reals, &mut rest)[0]);
        assert_eq!(flows, [0, 1], "nothing was saved up");
    }

    #[test]
    fn no_flows_and_no_reals_are_no_trouble() {
        assert_eq!(planned(&spec(1.0, 1), &[], &mut 0.0), [0; 0]);
        assert_eq!(
            planned(&spec(1.0, 1), &equal(&[(0.0, 0.0), (0.0, 0.0)]), &mut 0.0),
            [0, 0]
        );
    }
}
