//! When a whole VIP falls back to the operator's weights.

use std::time::Duration;

use super::{
    caution::RAISED,
    pool::Member,
    verdict::{Fallback, Safety, Sign},
    vip_steering::VipSteering,
};

/// This many raised reals in trouble, ...
const LEAST_IN_TROUBLE: usize = 2;
/// ... and at least this fraction of those that are raised or were.
const IN_TROUBLE: f64 = 0.5;
/// The utilisation of more than this fraction of the reals must be trusted.
const TRUSTED: f64 = 0.5;

impl VipSteering {
    /// Decides at the end of a period whether the VIP is steered.
    pub(super) fn judge_safety(&mut self, now: Duration, pool: &[Member<'_>]) -> Safety {
        let reason = trouble(pool).or_else(|| untrusted(pool));
        if reason.is_some() {
            self.fallback.extend(now, Duration::ZERO);
        }
        if self.fallback.left(now).is_none() {
            if pool.iter().any(|member| member.state.multiple > RAISED) {
                self.fallback.quiet(now);
            }
            return Safety::Normal;
        }
        match (self.safety, reason) {
            (Safety::Normal, Some(reason)) => Safety::OperatorWeights { reason, since: now },
            (before, _) => before,
        }
    }
}

/// Whether steering itself does harm: so many of the raised reals are in trouble that the pool has no use for them.
fn trouble(pool: &[Member<'_>]) -> Option<Fallback> {
    let in_trouble = |member: &Member<'_>| -> Option<Sign> {
        let (sign, _) = member.state.loan.held_for()?;
        let lent = member.state.loan.was_lent();
        // One that reads full is what steering itself will relieve.
        let misled = lent && !member.state.evidence.is_busy();
        (misled && !matches!(sign, Sign::EndsSooner { .. } | Sign::Errors { .. })).then_some(sign)
    };
    let eligible = || pool.iter().filter(|member| member.is_eligible());
    let signs: Vec<Sign> = eligible().filter_map(in_trouble).collect();
    let raised = eligible()
        .filter(|member| member.state.multiple > RAISED && in_trouble(member).is_none())
        .count();
    let many = signs.len() >= LEAST_IN_TROUBLE
        && signs.len() as f64 >= IN_TROUBLE * (raised + signs.len()) as f64;
    many.then(|| Fallback::Trouble {
        reals: signs.len(),
        sign: signs[0],
    })
}

/// Whether the utilisation of too few reals is trusted.
fn untrusted(pool: &[Member<'_>]) -> Option<Fallback> {
    let read = || {
        pool.iter()
            .filter(|member| member.is_eligible() && member.utilisation.is_some())
    };
    let doubted = read()
        .filter(|member| member.state.following.doubt().is_some())
        .count();
    (doubted > 0 && doubted as f64 >= (1.0 - TRUSTED) * read().count() as f64)
        .then_some(Fallback::Untrusted { reals: doubted })
}
