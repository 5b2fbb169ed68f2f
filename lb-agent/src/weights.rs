//! Effective weights: what each real gets, from the intent and from what steering decided. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use lb_model::intent::{RealSpec, Vip};
use lb_model::vip::RealId;

/// What steering decided for a VIP's reals. It is stored, so that an agent that starts continues where the last one
/// ended and moves no part of a ring.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Steered {
    /// Per real.
    pub reals: BTreeMap<RealId, SteeredReal>,
}

/// What steering decided for a real.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SteeredReal {
    /// Share of new flows relative to the VIP's other reals, 0 to `MAX_WEIGHT`.
    pub weight: u32,
    /// Whether it is up. The VIP's [`OnDown`] says what happens to the flows of one that is down.
    ///
    /// [`OnDown`]: lb_model::options::OnDown
    pub up: bool,
}

/// What a real gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effective {
    /// Weight in the ring: 0 takes no new flows and keeps the old ones.
    pub weight: u32,
    /// Whether it is up, as far as is known.
    pub up: bool,
}

/// What a real gets: the operator's weight where the VIP is not steered. Weight 0 and a drain by hand always win. A real
/// of a steered VIP that steering has not seen yet gets no flows until it has.
#[must_use]
pub fn effective(address: RealId, real: &RealSpec, steered: Option<&Steered>) -> Effective {
    let found = steered.map(|steered| steered.reals.get(&address));
    let (weight, up) = match found {
        None => (real.weight, true),
        Some(None) => (0, true),
        Some(Some(found)) => (if found.up { found.weight } else { 0 }, found.up),
    };
    let weight = if real.drained || real.weight == 0 {
        0
    } else {
        weight
    };
    Effective { weight, up }
}

/// Whether a VIP has reals and all of them are down.
#[must_use]
pub fn all_down(vip: &Vip, steered: Option<&Steered>) -> bool {
    !vip.reals.is_empty()
        && vip
            .reals
            .iter()
            .all(|(id, real)| !effective(*id, &real.spec, steered).up)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn real(weight: u32, drained: bool) -> RealSpec {
        RealSpec {
            weight,
            drained,
            ..RealSpec::default()
        }
    }

    fn steered(weight: u32, up: bool) -> Steered {
        Steered {
            reals: [(address(), SteeredReal { weight, up })].into(),
        }
    }

    fn address() -> RealId {
        "10.1.0.2".parse().unwrap()
    }

    #[test]
    fn what_a_real_gets() {
        let get = |real: RealSpec, steered: Option<Steered>| {
            let Effective { weight, up } = effective(address(), &real, steered.as_ref());
            (weight, up)
        };
        for (name, real, steered, wanted) in [
            ("not steered", real(7, false), None, (7, true)),
            ("drained", real(7, true), None, (0, true)),
            (
                "not seen yet",
                real(7, false),
                Some(Steered::default()),
                (0, true),
            ),
            ("steered", real(7, false), Some(steered(9, true)), (9, true)),
            ("dead", real(7, false), Some(steered(9, false)), (0, false)),
            (
                "drained wins",
                real(7, true),
                Some(steered(9, true)),
                (0, true),
            ),
            (
                "weight 0 wins",
                real(0, false),
                Some(steered(9, true)),
                (0, true),
            ),
        ] {
            assert_eq!(get(real, steered), wanted, "{name}");
        }
    }
}
