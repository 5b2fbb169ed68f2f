//! Which connections to end, where they live too long to wait: so many of a real that has more than its
//! share, never more than the others lack.

use super::spec::Steering;

/// A real may have this much more than its share before connections of it are ended.
const TOLERANCE: f64 = 1.10;

/// Flows to reset until the next period, for reals with pairs of the connections they have and the part of
/// all connections they are to have.
pub fn plan(spec: &Steering, holdings: &[(f64, f64)]) -> Vec<u32> {
    let total: f64 = holdings.iter().map(|(has, _)| has).sum();
    let excess: Vec<f64> = holdings
        .iter()
        .map(|(has, share)| {
            let due = share * total;
            if *has > due * TOLERANCE {
                has - due
            } else {
                0.0
            }
        })
        .collect();
    let over: f64 = excess.iter().sum();
    let room: f64 = holdings
        .iter()
        .map(|(has, share)| (share * total - has).max(0.0))
        .sum();
    let most = (spec.shed_rate * spec.period.as_secs_f64())
        .min(room)
        .min(over);
    if over <= 0.0 || most <= 0.0 {
        return vec![0; holdings.len()];
    }
    excess
        .into_iter()
        .map(|excess| (most * excess / over).floor() as u32)
        .collect()
}
